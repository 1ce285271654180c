//! The two suites (section 4): an ephemeral key agreement per field, HKDF-SHA256, AES-256-GCM.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use hkdf::Hkdf;
use k256::ProjectivePoint;
use k256::elliptic_curve::point::AffineCoordinates as _;
use k256::elliptic_curve::sec1::ToEncodedPoint as _;
use rand_core::CryptoRng;
use sha2::Sha256;
use tacit_types::keyset::PublicKey as KeysetKey;
use zeroize::Zeroizing;

use super::E2eeError;

/// Bytes of an AES-GCM nonce.
const NONCE: usize = 12;
/// Bytes of an AES-GCM tag.
const TAG: usize = 16;

/// A cipher suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Suite {
    /// X25519; recommended.
    X25519,
    /// secp256k1, for clients that have nothing else.
    Secp256k1,
}

impl Suite {
    /// Every suite.
    pub const ALL: [Self; 2] = [Self::X25519, Self::Secp256k1];

    /// The `algo` of the keyset entry.
    pub const fn algorithm(self) -> &'static str {
        match self {
            Self::X25519 => "x25519-aes-256-gcm-hkdf-sha256",
            Self::Secp256k1 => "secp256k1-aes-256-gcm-hkdf-sha256",
        }
    }

    /// The suite of a keyset entry's `algo`.
    pub fn named(algorithm: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.algorithm() == algorithm)
    }

    const fn info(self) -> &'static [u8] {
        match self {
            Self::X25519 => b"aci.e2ee.v2.x25519",
            Self::Secp256k1 => b"aci.e2ee.v2.secp256k1",
        }
    }

    /// Bytes of an ephemeral public key.
    const fn ephemeral(self) -> usize {
        match self {
            Self::X25519 => 32,
            Self::Secp256k1 => 65,
        }
    }
}

/// A public key to seal fields to.
#[derive(Clone, PartialEq, Eq)]
pub enum E2eePublicKey {
    /// 32 bytes.
    X25519([u8; 32]),
    /// A point of the curve.
    Secp256k1(k256::PublicKey),
}

impl std::fmt::Debug for E2eePublicKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "E2eePublicKey({}, {})", self.suite().algorithm(), self.to_hex())
    }
}

impl E2eePublicKey {
    /// Reads a key in hex, `0x` before it or not, upper or lower case. Of secp256k1 the 65 bytes of SEC 1, or 64 without the
    /// first.
    ///
    /// # Errors
    /// [`E2eeError::InvalidPublicKey`].
    pub fn parse(suite: Suite, text: &str) -> Result<Self, E2eeError> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        if digits.len() > 130 {
            return Err(E2eeError::InvalidPublicKey);
        }
        let bytes = hex::decode(digits).map_err(|_| E2eeError::InvalidPublicKey)?;
        Self::from_bytes(suite, &bytes)
    }

    fn from_bytes(suite: Suite, bytes: &[u8]) -> Result<Self, E2eeError> {
        let invalid = E2eeError::InvalidPublicKey;
        match suite {
            Suite::X25519 => {
                let bytes: [u8; 32] = bytes.try_into().map_err(|_| invalid)?;
                // The agreement ignores the highest bit (RFC 7748, section 5), so a key with it set is a second spelling.
                if bytes[31] & 0x80 == 0 { Ok(Self::X25519(bytes)) } else { Err(invalid) }
            }
            Suite::Secp256k1 => {
                let point = match bytes.len() {
                    64 => [&[4], bytes].concat(),
                    65 if bytes[0] == 4 => bytes.to_vec(),
                    _ => return Err(invalid),
                };
                k256::PublicKey::from_sec1_bytes(&point).map(Self::Secp256k1).map_err(|_| invalid)
            }
        }
    }

    /// The key of a keyset entry.
    ///
    /// # Errors
    /// [`E2eeError::InvalidPublicKey`] for an entry of another algorithm or a malformed key.
    pub fn of_entry(entry: &KeysetKey) -> Result<Self, E2eeError> {
        Self::parse(Suite::named(&entry.algo).ok_or(E2eeError::InvalidPublicKey)?, &entry.public_key)
    }

    /// Its suite.
    pub fn suite(&self) -> Suite {
        match self {
            Self::X25519(_) => Suite::X25519,
            Self::Secp256k1(_) => Suite::Secp256k1,
        }
    }

    /// The bytes: 32 of X25519, 65 of secp256k1.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::X25519(bytes) => bytes.to_vec(),
            Self::Secp256k1(key) => key.to_encoded_point(false).as_bytes().to_vec(),
        }
    }

    /// Lower-case hex of the bytes, as keysets and headers hold it.
    pub fn to_hex(&self) -> String {
        hex::encode(self.to_bytes())
    }
}

/// A secret key that opens fields. Wiped when dropped; has no `Debug`.
#[derive(Clone)]
pub enum E2eeSecretKey {
    /// X25519.
    X25519(x25519_dalek::StaticSecret),
    /// secp256k1.
    Secp256k1(k256::SecretKey),
}

impl E2eeSecretKey {
    /// A new key.
    pub fn generate(rng: &mut impl CryptoRng, suite: Suite) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        loop {
            rng.fill_bytes(bytes.as_mut_slice());
            // Of secp256k1 fewer than one in 2^127 strings is no key.
            if let Ok(key) = Self::from_bytes(suite, &bytes) {
                return key;
            }
        }
    }

    /// The key with these 32 secret bytes.
    ///
    /// # Errors
    /// [`E2eeError::InvalidPublicKey`] for zero or a number not below the order of secp256k1.
    pub fn from_bytes(suite: Suite, bytes: &[u8; 32]) -> Result<Self, E2eeError> {
        match suite {
            Suite::X25519 => Ok(Self::X25519(x25519_dalek::StaticSecret::from(*bytes))),
            Suite::Secp256k1 => {
                k256::SecretKey::from_slice(bytes).map(Self::Secp256k1).map_err(|_| E2eeError::InvalidPublicKey)
            }
        }
    }

    /// Its suite.
    pub fn suite(&self) -> Suite {
        match self {
            Self::X25519(_) => Suite::X25519,
            Self::Secp256k1(_) => Suite::Secp256k1,
        }
    }

    /// The public half.
    pub fn public(&self) -> E2eePublicKey {
        match self {
            Self::X25519(secret) => E2eePublicKey::X25519(x25519_dalek::PublicKey::from(secret).to_bytes()),
            Self::Secp256k1(secret) => E2eePublicKey::Secp256k1(secret.public_key()),
        }
    }

    /// The keyset entry of the public half.
    pub fn entry(&self, key_id: &str) -> KeysetKey {
        KeysetKey {
            key_id: key_id.to_owned(),
            algo: self.suite().algorithm().to_owned(),
            public_key: self.public().to_hex(),
        }
    }

    /// The AEAD key that this key and `peer` agree on.
    fn agree(&self, peer: &E2eePublicKey) -> Result<Aes256Gcm, E2eeError> {
        let mut shared = Zeroizing::new([0; 32]);
        match (self, peer) {
            (Self::X25519(secret), E2eePublicKey::X25519(peer)) => {
                let agreed = secret.diffie_hellman(&x25519_dalek::PublicKey::from(*peer));
                // A point of small order would make the key known to everybody (RFC 7748, section 6.1).
                if !agreed.was_contributory() {
                    return Err(E2eeError::InvalidPublicKey);
                }
                shared.copy_from_slice(agreed.as_bytes());
            }
            (Self::Secp256k1(secret), E2eePublicKey::Secp256k1(peer)) => {
                let scalar = Zeroizing::new(secret.to_nonzero_scalar());
                let point = Zeroizing::new((ProjectivePoint::from(*peer.as_affine()) * **scalar).to_affine());
                let x = Zeroizing::new(<[u8; 32]>::from(point.x()));
                shared.copy_from_slice(x.as_slice());
            }
            _ => return Err(E2eeError::InvalidPublicKey),
        }
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(None, shared.as_slice())
            .expand(self.suite().info(), key.as_mut_slice())
            .expect("32 bytes are fewer than 255 blocks");
        Ok(Aes256Gcm::new_from_slice(key.as_slice()).expect("the key has 32 bytes"))
    }
}

/// Seals one field under a fresh key and nonce: lower-case hex of `ephemeral key ‖ nonce ‖ ciphertext ‖ tag`.
///
/// # Errors
/// [`E2eeError::InvalidPublicKey`] for a key that agrees on nothing secret, [`E2eeError::Seal`] for a text longer than AES-GCM
/// takes.
pub fn seal_field(
    rng: &mut impl CryptoRng,
    to: &E2eePublicKey,
    associated: &[u8],
    plaintext: &[u8],
) -> Result<String, E2eeError> {
    let ephemeral = E2eeSecretKey::generate(rng, to.suite());
    let mut nonce = [0; NONCE];
    rng.fill_bytes(&mut nonce);
    seal_field_with(&ephemeral, nonce, to, associated, plaintext)
}

/// As [`seal_field`] with key and nonce given, for test vectors. A pair must never be used twice.
///
/// # Errors
/// As [`seal_field`].
pub fn seal_field_with(
    ephemeral: &E2eeSecretKey,
    nonce: [u8; NONCE],
    to: &E2eePublicKey,
    associated: &[u8],
    plaintext: &[u8],
) -> Result<String, E2eeError> {
    let cipher = ephemeral.agree(to)?;
    let sealed = cipher
        .encrypt(Nonce::from_slice(&nonce), Payload { msg: plaintext, aad: associated })
        .map_err(|_| E2eeError::Seal)?;
    Ok(hex::encode([ephemeral.public().to_bytes().as_slice(), &nonce, &sealed].concat()))
}

/// Opens one field.
///
/// # Errors
/// [`E2eeError::DecryptionFailed`] whatever is wrong with it.
pub fn open_field(key: &E2eeSecretKey, associated: &[u8], sealed: &str) -> Result<Vec<u8>, E2eeError> {
    const FAILED: E2eeError = E2eeError::DecryptionFailed;
    let digits = sealed.strip_prefix("0x").unwrap_or(sealed);
    let bytes = hex::decode(digits).map_err(|_| FAILED)?;
    let ephemeral = key.suite().ephemeral();
    if bytes.len() < ephemeral + NONCE + TAG {
        return Err(FAILED);
    }
    let (public, rest) = bytes.split_at(ephemeral);
    let (nonce, ciphertext) = rest.split_at(NONCE);
    let public = E2eePublicKey::from_bytes(key.suite(), public).map_err(|_| FAILED)?;
    let cipher = key.agree(&public).map_err(|_| FAILED)?;
    cipher.decrypt(Nonce::from_slice(nonce), Payload { msg: ciphertext, aad: associated }).map_err(|_| FAILED)
}
