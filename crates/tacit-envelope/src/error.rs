use thiserror::Error;

/// Why an envelope could not be made or opened; no variant carries plaintext or key material.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// The bytes end inside an item.
    #[error("truncated: {0}")]
    Truncated(&'static str),
    /// Bytes are left over after a complete message.
    #[error("trailing bytes after {0}")]
    Trailing(&'static str),
    /// A length or count is above its limit.
    #[error("{what} is above the limit of {limit}")]
    TooLarge {
        /// Which item.
        what: &'static str,
        /// The limit, in bytes or items.
        limit: usize,
    },
    /// A binary HTTP message breaks a rule of RFC 9292.
    #[error("malformed binary HTTP: {0}")]
    Malformed(&'static str),
    /// A key configuration breaks a rule of RFC 9458.
    #[error("malformed key configuration: {0}")]
    KeyConfig(&'static str),
    /// The request was sealed to another key of this recipient.
    #[error("wrong key: sealed to key {found}, this is key {expected}")]
    WrongKeyId {
        /// The identifier of the key at hand.
        expected: u8,
        /// The identifier in the request.
        found: u8,
    },
    /// The suite is not one that this implementation uses.
    #[error("unknown suite: KEM {kem:#06x}, KDF {kdf:#06x}, AEAD {aead:#06x}")]
    UnknownSuite {
        /// HPKE KEM identifier.
        kem: u16,
        /// HPKE KDF identifier.
        kdf: u16,
        /// HPKE AEAD identifier.
        aead: u16,
    },
    /// The public key is not a valid one of its KEM.
    #[error("invalid public key")]
    InvalidKey,
    /// The bytes were altered, or sealed to another key or another context.
    #[error("tampered: the sealed bytes do not open with this key")]
    Tampered,
    /// The stream of chunks ended without its final chunk.
    #[error("truncated stream: no final chunk")]
    NoFinalChunk,
    /// A chunk came after the final one, or more chunks than the counter can number.
    #[error("the stream of chunks is over")]
    StreamOver,
}
