//! The HPKE suites that are used: two KEMs, one KDF, one AEAD.

use hkdf::Hkdf;
use hpke::aead::{AeadCtxR, AeadCtxS, AesGcm128};
use hpke::kdf::HkdfSha256;
use hpke::kem::{X25519HkdfSha256, XWing};
use hpke::{Deserializable, Kem as HpkeKem, OpModeR, OpModeS, Serializable};
use rand_core::CryptoRng;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::EnvelopeError;

/// HPKE identifier of HKDF-SHA256.
pub(crate) const KDF_ID: u16 = 0x0001;
/// HPKE identifier of AES-128-GCM.
pub(crate) const AEAD_ID: u16 = 0x0001;
/// Key length of the AEAD, and of the response nonce: the longer of key and nonce.
pub(crate) const KEY: usize = 16;
/// Nonce length of the AEAD.
pub(crate) const NONCE: usize = 12;
/// Tag length of the AEAD.
pub(crate) const TAG: usize = 16;

/// A key encapsulation mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kem {
    /// X-Wing (0x647a): ML-KEM-768 with X25519, safe against a quantum computer as long as ML-KEM is. The default.
    XWing,
    /// DHKEM(X25519, HKDF-SHA256) (0x0020).
    X25519,
}

impl Kem {
    /// The identifier in the HPKE registry.
    pub const fn id(self) -> u16 {
        match self {
            Self::XWing => 0x647a,
            Self::X25519 => 0x0020,
        }
    }

    /// Length of a public key in bytes.
    pub const fn public_key_length(self) -> usize {
        match self {
            Self::XWing => 1216,
            Self::X25519 => 32,
        }
    }

    /// Length of an encapsulated key in bytes.
    pub const fn encapsulated_length(self) -> usize {
        match self {
            Self::XWing => 1120,
            Self::X25519 => 32,
        }
    }

    pub(crate) fn from_id(id: u16) -> Option<Self> {
        [Self::XWing, Self::X25519].into_iter().find(|kem| kem.id() == id)
    }
}

/// A public key of one of the KEMs.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum PublicKey {
    XWing(Box<<XWing as HpkeKem>::PublicKey>),
    X25519(<X25519HkdfSha256 as HpkeKem>::PublicKey),
}

/// A private key; both kinds erase themselves when dropped.
pub(crate) enum PrivateKey {
    XWing(Box<<XWing as HpkeKem>::PrivateKey>),
    X25519(<X25519HkdfSha256 as HpkeKem>::PrivateKey),
}

/// The sender's HPKE context.
pub(crate) enum Sender {
    XWing(Box<AeadCtxS<AesGcm128, HkdfSha256, XWing>>),
    X25519(Box<AeadCtxS<AesGcm128, HkdfSha256, X25519HkdfSha256>>),
}

/// The recipient's HPKE context.
pub(crate) enum Recipient {
    XWing(Box<AeadCtxR<AesGcm128, HkdfSha256, XWing>>),
    X25519(Box<AeadCtxR<AesGcm128, HkdfSha256, X25519HkdfSha256>>),
}

impl PublicKey {
    pub(crate) fn parse(kem: Kem, bytes: &[u8]) -> Result<Self, EnvelopeError> {
        Ok(match kem {
            Kem::XWing => {
                Self::XWing(Box::new(Deserializable::from_bytes(bytes).map_err(|_| EnvelopeError::InvalidKey)?))
            }
            Kem::X25519 => Self::X25519(Deserializable::from_bytes(bytes).map_err(|_| EnvelopeError::InvalidKey)?),
        })
    }

    pub(crate) fn kem(&self) -> Kem {
        match self {
            Self::XWing(_) => Kem::XWing,
            Self::X25519(_) => Kem::X25519,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::XWing(key) => key.to_bytes().to_vec(),
            Self::X25519(key) => key.to_bytes().to_vec(),
        }
    }

    /// Encapsulates a fresh secret to this key under `info`; `info` is shorter than 64 KiB.
    pub(crate) fn encapsulate(
        &self,
        rng: &mut impl CryptoRng,
        info: &[u8],
    ) -> Result<(Vec<u8>, Sender), EnvelopeError> {
        Ok(match self {
            Self::XWing(key) => {
                let (enc, context) =
                    hpke::setup_sender_with_rng::<AesGcm128, HkdfSha256, XWing>(&OpModeS::Base, key, info, rng)
                        .map_err(|_| EnvelopeError::InvalidKey)?;
                (enc.to_bytes().to_vec(), Sender::XWing(Box::new(context)))
            }
            Self::X25519(key) => {
                let (enc, context) = hpke::setup_sender_with_rng::<AesGcm128, HkdfSha256, X25519HkdfSha256>(
                    &OpModeS::Base,
                    key,
                    info,
                    rng,
                )
                .map_err(|_| EnvelopeError::InvalidKey)?;
                (enc.to_bytes().to_vec(), Sender::X25519(Box::new(context)))
            }
        })
    }
}

impl PrivateKey {
    pub(crate) fn generate(rng: &mut impl CryptoRng, kem: Kem) -> (Self, PublicKey) {
        match kem {
            Kem::XWing => {
                let (private, public) = XWing::gen_keypair_with_rng(rng);
                (Self::XWing(Box::new(private)), PublicKey::XWing(Box::new(public)))
            }
            Kem::X25519 => {
                let (private, public) = X25519HkdfSha256::gen_keypair_with_rng(rng);
                (Self::X25519(private), PublicKey::X25519(public))
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn parse_x25519(bytes: &[u8]) -> Option<(Self, PublicKey)> {
        let private = <X25519HkdfSha256 as HpkeKem>::PrivateKey::from_bytes(bytes).ok()?;
        let public = X25519HkdfSha256::sk_to_pk(&private);
        Some((Self::X25519(private), PublicKey::X25519(public)))
    }

    pub(crate) fn decapsulate(&self, enc: &[u8], info: &[u8]) -> Result<Recipient, EnvelopeError> {
        let invalid = |_| EnvelopeError::Tampered;
        Ok(match self {
            Self::XWing(key) => {
                let enc = Deserializable::from_bytes(enc).map_err(invalid)?;
                let context = hpke::setup_receiver::<AesGcm128, HkdfSha256, XWing>(&OpModeR::Base, key, &enc, info)
                    .map_err(invalid)?;
                Recipient::XWing(Box::new(context))
            }
            Self::X25519(key) => {
                let enc = Deserializable::from_bytes(enc).map_err(invalid)?;
                let context =
                    hpke::setup_receiver::<AesGcm128, HkdfSha256, X25519HkdfSha256>(&OpModeR::Base, key, &enc, info)
                        .map_err(invalid)?;
                Recipient::X25519(Box::new(context))
            }
        })
    }
}

impl Sender {
    pub(crate) fn seal(&mut self, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        match self {
            Self::XWing(context) => context.seal(plaintext, aad),
            Self::X25519(context) => context.seal(plaintext, aad),
        }
        .map_err(|_| EnvelopeError::StreamOver)
    }

    pub(crate) fn export(&self, label: &[u8]) -> Zeroizing<[u8; KEY]> {
        let mut secret = Zeroizing::new([0; KEY]);
        match self {
            Self::XWing(context) => context.export(label, secret.as_mut_slice()),
            Self::X25519(context) => context.export(label, secret.as_mut_slice()),
        }
        .expect("16 bytes are fewer than the limit of 64 KiB");
        secret
    }
}

impl Recipient {
    pub(crate) fn open(&mut self, aad: &[u8], ciphertext: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        match self {
            Self::XWing(context) => context.open(ciphertext, aad),
            Self::X25519(context) => context.open(ciphertext, aad),
        }
        .map_err(|_| EnvelopeError::Tampered)
    }

    pub(crate) fn export(&self, label: &[u8]) -> Zeroizing<[u8; KEY]> {
        let mut secret = Zeroizing::new([0; KEY]);
        match self {
            Self::XWing(context) => context.export(label, secret.as_mut_slice()),
            Self::X25519(context) => context.export(label, secret.as_mut_slice()),
        }
        .expect("16 bytes are fewer than the limit of 64 KiB");
        secret
    }
}

/// Key and nonce of a response (RFC 9458, section 4.4).
pub(crate) struct ResponseKey {
    pub(crate) key: Zeroizing<[u8; KEY]>,
    pub(crate) nonce: [u8; NONCE],
}

impl ResponseKey {
    pub(crate) fn derive(secret: &[u8; KEY], enc: &[u8], response_nonce: &[u8; KEY]) -> Self {
        let salt = [enc, response_nonce].concat();
        let prk = Hkdf::<Sha256>::new(Some(&salt), secret);
        let (mut key, mut nonce) = (Zeroizing::new([0; KEY]), [0; NONCE]);
        prk.expand(b"key", key.as_mut_slice()).expect("16 bytes are fewer than 255 blocks");
        prk.expand(b"nonce", &mut nonce).expect("12 bytes are fewer than 255 blocks");
        Self { key, nonce }
    }
}
