//! Key configurations (RFC 9458, section 3).

use crate::EnvelopeError;
use crate::suite::{AEAD_ID, KDF_ID, Kem, PublicKey};
use crate::varint::Reader;

/// A recipient's public key with its identifier, as it stands in a certified keyset.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyConfig {
    pub(crate) id: u8,
    pub(crate) public: PublicKey,
}

impl std::fmt::Debug for KeyConfig {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("KeyConfig").field("id", &self.id).field("kem", &self.kem()).finish_non_exhaustive()
    }
}

impl KeyConfig {
    /// The key identifier.
    pub fn id(&self) -> u8 {
        self.id
    }

    /// The key's KEM.
    pub fn kem(&self) -> Kem {
        self.public.kem()
    }

    /// The bytes of one key configuration with one symmetric suite.
    pub fn encode(&self) -> Vec<u8> {
        let public = self.public.encode();
        let mut out = Vec::with_capacity(public.len() + 9);
        out.push(self.id);
        out.extend_from_slice(&self.kem().id().to_be_bytes());
        out.extend_from_slice(&public);
        out.extend_from_slice(&4u16.to_be_bytes());
        out.extend_from_slice(&KDF_ID.to_be_bytes());
        out.extend_from_slice(&AEAD_ID.to_be_bytes());
        out
    }

    /// Parses one key configuration; it must offer HKDF-SHA256 with AES-128-GCM, among others if it likes.
    ///
    /// # Errors
    /// [`EnvelopeError::UnknownSuite`], [`EnvelopeError::Truncated`], [`EnvelopeError::InvalidKey`],
    /// [`EnvelopeError::KeyConfig`] or [`EnvelopeError::Trailing`].
    pub fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let mut reader = Reader::new(bytes);
        let id = reader.u8("key identifier")?;
        let kem_id = reader.u16("KEM identifier")?;
        let kem =
            Kem::from_id(kem_id).ok_or(EnvelopeError::UnknownSuite { kem: kem_id, kdf: KDF_ID, aead: AEAD_ID })?;
        let public = PublicKey::parse(kem, reader.take(kem.public_key_length(), "public key")?)?;
        let length = usize::from(reader.u16("symmetric algorithms")?);
        if length == 0 || length % 4 != 0 {
            return Err(EnvelopeError::KeyConfig("length of the symmetric algorithms"));
        }
        let suites = reader.take(length, "symmetric algorithms")?;
        if !reader.is_empty() {
            return Err(EnvelopeError::Trailing("key configuration"));
        }
        let pair = |suite: &[u8]| (u16::from_be_bytes([suite[0], suite[1]]), u16::from_be_bytes([suite[2], suite[3]]));
        if !suites.chunks_exact(4).any(|suite| pair(suite) == (KDF_ID, AEAD_ID)) {
            let (kdf, aead) = pair(&suites[..4]);
            return Err(EnvelopeError::UnknownSuite { kem: kem_id, kdf, aead });
        }
        Ok(Self { id, public })
    }

    /// The seven bytes in front of a sealed request.
    pub(crate) fn header(&self) -> [u8; 7] {
        header(self.id, self.kem())
    }
}

/// Key identifier and suite in front of a sealed request.
pub(crate) fn header(id: u8, kem: Kem) -> [u8; 7] {
    let ([k0, k1], [d0, d1], [a0, a1]) = (kem.id().to_be_bytes(), KDF_ID.to_be_bytes(), AEAD_ID.to_be_bytes());
    [id, k0, k1, d0, d1, a0, a1]
}

/// Encodes key configurations as `application/ohttp-keys`.
pub fn encode_key_configs(configs: &[KeyConfig]) -> Vec<u8> {
    let mut out = Vec::new();
    for config in configs {
        let bytes = config.encode();
        out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
        out.extend_from_slice(&bytes);
    }
    out
}

/// Parses `application/ohttp-keys`; entries of unknown suites are passed over, as RFC 9458 asks.
///
/// # Errors
/// As [`KeyConfig::parse`], and [`EnvelopeError::KeyConfig`] if no entry is usable.
pub fn parse_key_configs(bytes: &[u8]) -> Result<Vec<KeyConfig>, EnvelopeError> {
    let mut reader = Reader::new(bytes);
    let mut configs = Vec::new();
    while !reader.is_empty() {
        let length = usize::from(reader.u16("key configuration")?);
        match KeyConfig::parse(reader.take(length, "key configuration")?) {
            Ok(config) => configs.push(config),
            Err(EnvelopeError::UnknownSuite { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    if configs.is_empty() {
        return Err(EnvelopeError::KeyConfig("no usable key"));
    }
    Ok(configs)
}
