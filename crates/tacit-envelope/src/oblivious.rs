//! Oblivious HTTP encapsulation of requests and responses (RFC 9458, section 4).

use aes_gcm::aead::Aead;
use aes_gcm::{Aes128Gcm, KeyInit};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::key_config::header;
use crate::suite::{AEAD_ID, KDF_ID, KEY, Kem, PrivateKey, PublicKey, Recipient, ResponseKey, TAG};
use crate::varint::Reader;
use crate::{EnvelopeError, KeyConfig};

pub(crate) const REQUEST_LABEL: &[u8] = b"message/bhttp request";
pub(crate) const RESPONSE_LABEL: &[u8] = b"message/bhttp response";

/// A recipient's key pair; the private half erases itself when dropped and has no way out.
pub struct KeyPair {
    id: u8,
    private: PrivateKey,
    public: PublicKey,
}

impl KeyPair {
    /// Makes a fresh key pair with that identifier.
    pub fn generate(rng: &mut impl CryptoRng, id: u8, kem: Kem) -> Self {
        let (private, public) = PrivateKey::generate(rng, kem);
        Self { id, private, public }
    }

    #[cfg(test)]
    pub(crate) fn from_x25519(id: u8, private: &[u8]) -> Self {
        let (private, public) = PrivateKey::parse_x25519(private).unwrap();
        Self { id, private, public }
    }

    /// The public half, to be put into a keyset.
    pub fn config(&self) -> KeyConfig {
        KeyConfig { id: self.id, public: self.public.clone() }
    }

    /// Opens a sealed request, and gives what seals the response to it.
    ///
    /// # Errors
    /// [`EnvelopeError::WrongKeyId`], [`EnvelopeError::UnknownSuite`], [`EnvelopeError::Truncated`] or
    /// [`EnvelopeError::Tampered`].
    pub fn open_request(&self, sealed: &[u8]) -> Result<(Vec<u8>, ResponseSealer), EnvelopeError> {
        let mut reader = Reader::new(sealed);
        let (enc, mut context) = self.accept(&mut reader, REQUEST_LABEL)?;
        if reader.rest().len() < TAG {
            return Err(EnvelopeError::Truncated("sealed request"));
        }
        let plain = context.open(b"", reader.rest())?;
        Ok((plain, ResponseSealer { secret: context.export(RESPONSE_LABEL), enc }))
    }

    /// Reads the header and the encapsulated key, and sets up the context.
    pub(crate) fn accept(&self, reader: &mut Reader<'_>, label: &[u8]) -> Result<(Vec<u8>, Recipient), EnvelopeError> {
        let found = reader.u8("key identifier")?;
        let (kem, kdf, aead) = (reader.u16("KEM")?, reader.u16("KDF")?, reader.u16("AEAD")?);
        let suite = Kem::from_id(kem).filter(|_| (kdf, aead) == (KDF_ID, AEAD_ID));
        let Some(kem_found) = suite else {
            return Err(EnvelopeError::UnknownSuite { kem, kdf, aead });
        };
        if found != self.id {
            return Err(EnvelopeError::WrongKeyId { expected: self.id, found });
        }
        if kem_found != self.public.kem() {
            return Err(EnvelopeError::UnknownSuite { kem, kdf, aead });
        }
        let enc = reader.take(kem_found.encapsulated_length(), "encapsulated key")?;
        let context = self.private.decapsulate(enc, &info(label, &header(found, kem_found)))?;
        Ok((enc.to_vec(), context))
    }
}

/// Seals a request to `config`, and gives what opens the response to it.
///
/// # Errors
/// [`EnvelopeError::InvalidKey`] if the key exchange fails.
pub fn seal_request(
    rng: &mut impl CryptoRng,
    config: &KeyConfig,
    plaintext: &[u8],
) -> Result<(Vec<u8>, ResponseOpener), EnvelopeError> {
    let header = config.header();
    let (enc, mut context) = config.public.encapsulate(rng, &info(REQUEST_LABEL, &header))?;
    let ciphertext = context.seal(b"", plaintext)?;
    let sealed = [header.as_slice(), &enc, &ciphertext].concat();
    Ok((sealed, ResponseOpener { secret: context.export(RESPONSE_LABEL), enc }))
}

/// Seals the one response to a request.
pub struct ResponseSealer {
    secret: Zeroizing<[u8; KEY]>,
    enc: Vec<u8>,
}

impl ResponseSealer {
    /// Seals the response.
    ///
    /// # Errors
    /// [`EnvelopeError::TooLarge`] above the AEAD's limit of 64 GiB.
    pub fn seal(self, rng: &mut impl CryptoRng, plaintext: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        let mut response_nonce = [0; KEY];
        rng.fill_bytes(&mut response_nonce);
        let derived = ResponseKey::derive(&self.secret, &self.enc, &response_nonce);
        let ciphertext = Aes128Gcm::new((&*derived.key).into())
            .encrypt((&derived.nonce).into(), plaintext)
            .map_err(|_| EnvelopeError::TooLarge { what: "response", limit: usize::MAX })?;
        Ok([response_nonce.as_slice(), &ciphertext].concat())
    }
}

/// Opens the one response to a request.
pub struct ResponseOpener {
    secret: Zeroizing<[u8; KEY]>,
    enc: Vec<u8>,
}

impl ResponseOpener {
    /// Opens the response.
    ///
    /// # Errors
    /// [`EnvelopeError::Truncated`] or [`EnvelopeError::Tampered`].
    pub fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        let (response_nonce, ciphertext) =
            sealed.split_first_chunk::<KEY>().ok_or(EnvelopeError::Truncated("response nonce"))?;
        if ciphertext.len() < TAG {
            return Err(EnvelopeError::Truncated("sealed response"));
        }
        let derived = ResponseKey::derive(&self.secret, &self.enc, response_nonce);
        Aes128Gcm::new((&*derived.key).into())
            .decrypt((&derived.nonce).into(), ciphertext)
            .map_err(|_| EnvelopeError::Tampered)
    }
}

pub(crate) fn info(label: &[u8], header: &[u8; 7]) -> Vec<u8> {
    [label, &[0], header].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::ResponseKey;

    /// The complete example of RFC 9458, appendix A.
    const PRIVATE: &str = "3c168975674b2fa8e465970b79c8dcf09f1c741626480bd4c6162fc5b6a98e1a";
    const CONFIG: &str = "01002031e1f05a740102115220e9af918f738674aec95f54db6e04eb705aae8e79815500080001000100010003";
    const REQUEST: &str = "00034745540568747470730b6578616d706c652e636f6d012f";
    const SEALED: &str = "010020000100014b28f881333e7c164ffc499ad9796f877f4e1051ee6d31bad19dec96c208b4726374e469135906992e1268c594d2a10c695d858c40a026e7965e7d86b83dd440b2c0185204b4d63525";
    const RESPONSE: &str = "0140c8";
    const SEALED_RESPONSE: &str = "c789e7151fcba46158ca84b04464910d86f9013e404feea014e7be4a441f234f857fbd";

    #[test]
    fn example_of_rfc_9458() {
        let bytes = |text| hex::decode(text).unwrap();
        let config = KeyConfig::parse(&bytes(CONFIG)).unwrap();
        let pair = KeyPair::from_x25519(1, &bytes(PRIVATE));
        assert_eq!(pair.config(), config);
        let (plain, sealer) = pair.open_request(&bytes(SEALED)).unwrap();
        assert_eq!(plain, bytes(REQUEST));
        let opener = ResponseOpener { secret: sealer.secret.clone(), enc: sealer.enc.clone() };
        assert_eq!(opener.open(&bytes(SEALED_RESPONSE)).unwrap(), bytes(RESPONSE));
    }

    #[test]
    fn response_key_depends_on_every_input() {
        let base = ResponseKey::derive(&[1; 16], b"enc", &[2; 16]);
        for other in [
            ResponseKey::derive(&[3; 16], b"enc", &[2; 16]),
            ResponseKey::derive(&[1; 16], b"end", &[2; 16]),
            ResponseKey::derive(&[1; 16], b"enc", &[3; 16]),
        ] {
            assert_ne!(*base.key, *other.key);
            assert_ne!(base.nonce, other.nonce);
        }
    }
}
