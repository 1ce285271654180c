//! One message to one transport key: sealed partials and sub-keys between nodes.

use rand_core::CryptoRng;

use crate::EnvelopeError;
use crate::suite::{Kem, PrivateKey, PublicKey, TAG};
use crate::varint::Reader;

/// The public half of a [`TransportKey`]: X-Wing, 1,216 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct TransportPublicKey(PublicKey);

impl std::fmt::Debug for TransportPublicKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("TransportPublicKey(X-Wing)")
    }
}

impl TransportPublicKey {
    /// Parses 1,216 bytes.
    ///
    /// # Errors
    /// [`EnvelopeError::InvalidKey`].
    pub fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        PublicKey::parse(Kem::XWing, bytes).map(Self)
    }

    /// The 1,216 bytes.
    pub fn encode(&self) -> Vec<u8> {
        self.0.encode()
    }
}

/// A fresh key that a node makes for the answers to one question; it erases itself when dropped.
pub struct TransportKey {
    private: PrivateKey,
    public: PublicKey,
}

impl TransportKey {
    /// Makes a fresh key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let (private, public) = PrivateKey::generate(rng, Kem::XWing);
        Self { private, public }
    }

    /// The public half.
    pub fn public(&self) -> TransportPublicKey {
        TransportPublicKey(self.public.clone())
    }
}

/// Seals `plaintext` to `public`; `info` names the use and `aad` the context, and both must be given again to open it.
///
/// # Errors
/// [`EnvelopeError::TooLarge`] if `info` has 32 KiB or more.
pub fn seal_to(
    rng: &mut impl CryptoRng,
    public: &TransportPublicKey,
    info: &[u8],
    aad: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>, EnvelopeError> {
    let (mut sealed, mut context) = public.0.encapsulate(rng, bounded(info)?)?;
    sealed.extend_from_slice(&context.seal(aad, plaintext)?);
    Ok(sealed)
}

/// Opens what [`seal_to`] sealed to `key` under the same `info` and `aad`.
///
/// # Errors
/// [`EnvelopeError::Truncated`], [`EnvelopeError::Tampered`] or [`EnvelopeError::TooLarge`].
pub fn open_with(key: &TransportKey, info: &[u8], aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
    let mut reader = Reader::new(sealed);
    let enc = reader.take(Kem::XWing.encapsulated_length(), "encapsulated key")?;
    if reader.rest().len() < TAG {
        return Err(EnvelopeError::Truncated("sealed message"));
    }
    key.private.decapsulate(enc, bounded(info)?)?.open(aad, reader.rest())
}

fn bounded(info: &[u8]) -> Result<&[u8], EnvelopeError> {
    const LIMIT: usize = 32 * 1024;
    if info.len() >= LIMIT { Err(EnvelopeError::TooLarge { what: "info", limit: LIMIT }) } else { Ok(info) }
}
