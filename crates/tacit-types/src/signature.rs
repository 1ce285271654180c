//! Keys and signatures: secp256k1 for what contracts check, Ed25519 for logs.

use k256::{
    AffinePoint, FieldBytes, ProjectivePoint, Scalar, U256,
    ecdsa::{RecoveryId, VerifyingKey, signature::hazmat::PrehashSigner},
    elliptic_curve::{
        ops::{Invert as _, LinearCombination as _, Reduce},
        point::DecompressPoint as _,
    },
};
use rand_core::CryptoRng;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

use crate::ids::{Address, Digest, parse_hex};

/// Why a signature or key was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// The bytes are not a signature of this kind (65 bytes, v 27 or 28, r and s in range).
    #[error("not a well-formed signature")]
    Malformed,
    /// The signature's s is in the upper half, so a second signature for the same digest would exist.
    #[error("the signature's s value is in the upper half")]
    HighS,
    /// No public key fits signature and digest.
    #[error("no key fits this signature and digest")]
    Unrecoverable,
    /// The bytes are not a key.
    #[error("not a valid key")]
    Key,
}

/// A secp256k1 signature with recovery: r ‖ s ‖ v, 65 bytes, v 27 or 28, s in the lower half.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature([u8; 65]);

impl Signature {
    /// Takes 65 bytes and checks form and low s.
    ///
    /// # Errors
    /// [`SignatureError::Malformed`] or [`SignatureError::HighS`].
    pub fn from_bytes(bytes: [u8; 65]) -> Result<Self, SignatureError> {
        if !matches!(bytes[64], 27 | 28) {
            return Err(SignatureError::Malformed);
        }
        let inner = k256::ecdsa::Signature::from_slice(&bytes[..64]).map_err(|_| SignatureError::Malformed)?;
        if inner.normalize_s().is_some() {
            return Err(SignatureError::HighS);
        }
        Ok(Self(bytes))
    }

    /// The 65 bytes.
    pub const fn as_bytes(&self) -> &[u8; 65] {
        &self.0
    }

    /// The account whose key signed `digest`.
    ///
    /// SEC 1, section 4.1.6: the key is r⁻¹(sR − zG). Once R is the point with x-coordinate r, that key fits the signature by
    /// construction, so it is not checked against it again: that would cost as much as the recovery.
    ///
    /// # Errors
    /// [`SignatureError::Unrecoverable`] when no key fits.
    pub fn recover(&self, digest: Digest) -> Result<Address, SignatureError> {
        let inner = k256::ecdsa::Signature::from_slice(&self.0[..64]).map_err(|_| SignatureError::Malformed)?;
        let (r, s) = inner.split_scalars();
        let is_odd = self.0[64] == 28;
        let point: Option<AffinePoint> = AffinePoint::decompress(&r.to_bytes(), u8::from(is_odd).into()).into();
        let point = ProjectivePoint::from(point.ok_or(SignatureError::Unrecoverable)?);
        let z = <Scalar as Reduce<U256>>::reduce_bytes(FieldBytes::from_slice(digest.as_bytes()));
        let inverse: Scalar = *r.invert_vartime();
        let key = ProjectivePoint::lincomb(&ProjectivePoint::GENERATOR, &-(inverse * z), &point, &(inverse * *s));
        // Refuses the point at infinity, which is nobody's key.
        let key = VerifyingKey::from_affine(key.to_affine()).map_err(|_| SignatureError::Unrecoverable)?;
        Ok(address_of(&key))
    }
}

impl std::fmt::Display for Signature {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "0x{}", hex::encode(self.0))
    }
}

impl std::fmt::Debug for Signature {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Signature({self})")
    }
}

impl std::str::FromStr for Signature {
    type Err = SignatureError;

    fn from_str(text: &str) -> Result<Self, SignatureError> {
        Self::from_bytes(parse_hex(text).map_err(|_| SignatureError::Malformed)?)
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

fn address_of(key: &VerifyingKey) -> Address {
    let point = key.to_encoded_point(false);
    let hash = alloy_primitives::keccak256(&point.as_bytes()[1..]);
    let mut address = [0; 20];
    address.copy_from_slice(&hash[12..]);
    address.into()
}

/// The account of a compressed or uncompressed SEC1 public key.
///
/// # Errors
/// [`SignatureError::Key`] when the bytes are not a point of the curve.
pub fn address_of_sec1(bytes: &[u8]) -> Result<Address, SignatureError> {
    VerifyingKey::from_sec1_bytes(bytes).map(|key| address_of(&key)).map_err(|_| SignatureError::Key)
}

/// A secp256k1 signing key: the receipt key of a worker, the chain key of a gatekeeper, the account of a caller.
/// Wiped when dropped; has no `Debug`.
#[derive(Clone)]
pub struct SigningKey(k256::ecdsa::SigningKey);

impl SigningKey {
    /// A new random key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        loop {
            rng.fill_bytes(bytes.as_mut_slice());
            if let Ok(key) = k256::ecdsa::SigningKey::from_slice(bytes.as_slice()) {
                return Self(key);
            }
        }
    }

    /// The key with these 32 secret bytes.
    ///
    /// # Errors
    /// [`SignatureError::Key`] for zero or a number not below the group order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, SignatureError> {
        k256::ecdsa::SigningKey::from_slice(bytes).map(Self).map_err(|_| SignatureError::Key)
    }

    /// The 32 secret bytes, to be sealed.
    pub fn to_secret_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes().into())
    }

    /// The account of this key.
    pub fn address(&self) -> Address {
        address_of(self.0.verifying_key())
    }

    /// The compressed SEC1 public key, 33 bytes.
    pub fn public_key(&self) -> [u8; 33] {
        let mut out = [0; 33];
        out.copy_from_slice(self.0.verifying_key().to_encoded_point(true).as_bytes());
        out
    }

    /// Signs a 32-byte digest (RFC 6979 nonce, low s).
    pub fn sign(&self, digest: Digest) -> Signature {
        let (signature, recovery): (k256::ecdsa::Signature, RecoveryId) =
            self.0.sign_prehash(digest.as_bytes()).expect("a 32-byte prehash is always signable");
        let (signature, flipped) = match signature.normalize_s() {
            Some(low) => (low, true),
            None => (signature, false),
        };
        let mut bytes = [0; 65];
        bytes[..64].copy_from_slice(&signature.to_bytes());
        bytes[64] = 27 + u8::from(recovery.is_y_odd() != flipped);
        Signature(bytes)
    }
}

/// An Ed25519 key. One key signs log checkpoints, another ACI receipts; none does both. Wiped when dropped; has no `Debug`.
#[derive(Clone)]
pub struct NoteKey(ed25519_dalek::SigningKey);

impl NoteKey {
    /// A new random key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        rng.fill_bytes(bytes.as_mut_slice());
        Self::from_bytes(&bytes)
    }

    /// The key with this 32-byte seed.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(bytes))
    }

    /// The public key, 32 bytes.
    pub fn public_key(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// Signs a message, 64 bytes.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        use ed25519_dalek::Signer;
        self.0.sign(message).to_bytes()
    }
}

/// Checks an Ed25519 signature strictly (no small-order keys, canonical encodings).
///
/// # Errors
/// [`SignatureError::Key`] for a bad key, [`SignatureError::Unrecoverable`] for a signature that does not fit.
pub fn verify_ed25519(public_key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> Result<(), SignatureError> {
    let key = ed25519_dalek::VerifyingKey::from_bytes(public_key).map_err(|_| SignatureError::Key)?;
    key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature))
        .map_err(|_| SignatureError::Unrecoverable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_account_of_a_known_key() {
        let mut secret = [0; 32];
        hex::decode_to_slice("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80", &mut secret).unwrap();
        let key = SigningKey::from_bytes(&secret).unwrap();
        assert_eq!(key.address().to_string(), "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266");
        assert_eq!(address_of_sec1(&key.public_key()), Ok(key.address()));
    }

    #[test]
    fn high_s_is_refused() {
        let key = SigningKey::from_bytes(&[7; 32]).unwrap();
        let digest = Digest::from([9; 32]);
        let bytes = *key.sign(digest).as_bytes();
        let low = k256::ecdsa::Signature::from_slice(&bytes[..64]).unwrap();
        let (r, s) = low.split_scalars();
        let high = k256::ecdsa::Signature::from_scalars(r.to_bytes(), (-*s).to_bytes()).unwrap();
        let mut forged = bytes;
        forged[..64].copy_from_slice(&high.to_bytes());
        forged[64] = if bytes[64] == 27 { 28 } else { 27 };
        assert_eq!(Signature::from_bytes(forged), Err(SignatureError::HighS));
    }

    /// With R = G and s = z the formula gives the point at infinity.
    #[test]
    fn a_signature_that_fits_no_key_is_refused() {
        let mut bytes = [0; 65];
        let generator = "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
        hex::decode_to_slice(generator, &mut bytes[..32]).unwrap();
        (bytes[63], bytes[64]) = (5, 27);
        let signature = Signature::from_bytes(bytes).unwrap();
        let mut digest = [0; 32];
        digest[31] = 5;
        assert_eq!(signature.recover(digest.into()), Err(SignatureError::Unrecoverable));
        digest[31] = 6;
        assert!(signature.recover(digest.into()).is_ok());
        // No point of the curve has this x-coordinate.
        bytes[..32].fill(0);
        bytes[31] = 5;
        assert_eq!(Signature::from_bytes(bytes).unwrap().recover(digest.into()), Err(SignatureError::Unrecoverable));
    }

    #[test]
    fn an_altered_log_signature_is_refused() {
        let key = NoteKey::from_bytes(&[3; 32]);
        let mut signature = key.sign(b"note");
        assert_eq!(verify_ed25519(&key.public_key(), b"note", &signature), Ok(()));
        assert!(verify_ed25519(&key.public_key(), b"nota", &signature).is_err());
        signature[0] ^= 1;
        assert!(verify_ed25519(&key.public_key(), b"note", &signature).is_err());
    }

    proptest! {
        #[test]
        fn a_signature_recovers_its_signer(secret in 1u8..=255, digest: [u8; 32]) {
            let key = SigningKey::from_bytes(&[secret; 32]).unwrap_or_else(|_| SigningKey::from_bytes(&[1; 32]).unwrap());
            let signature = key.sign(digest.into());
            prop_assert_eq!(Signature::from_bytes(*signature.as_bytes()), Ok(signature));
            prop_assert_eq!(signature.recover(digest.into()), Ok(key.address()));
        }

        /// The library recovers and then verifies; what it accepts is what is accepted here, and nothing else.
        #[test]
        fn recovery_equals_that_of_the_library(
            r in proptest::array::uniform32(any::<u8>()),
            s in proptest::array::uniform32(any::<u8>()),
            odd: bool,
            zero_digest: bool,
            digest: [u8; 32],
        ) {
            let digest = if zero_digest { [0; 32] } else { digest };
            let mut bytes = [0; 65];
            bytes[..32].copy_from_slice(&r);
            bytes[32..64].copy_from_slice(&s);
            // Half of all s are high and refused before; this one is low.
            bytes[32] &= 0x7f;
            bytes[64] = 27 + u8::from(odd);
            if let Ok(signature) = Signature::from_bytes(bytes) {
                let inner = k256::ecdsa::Signature::from_slice(&bytes[..64]).unwrap();
                let by_library = VerifyingKey::recover_from_prehash(&digest, &inner, RecoveryId::new(odd, false));
                prop_assert_eq!(signature.recover(digest.into()).ok(), by_library.ok().map(|key| address_of(&key)));
            }
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 65), digest: [u8; 32]) {
            let bytes: [u8; 65] = bytes.try_into().unwrap();
            if let Ok(signature) = Signature::from_bytes(bytes) {
                let _ = signature.recover(digest.into());
            }
        }
    }
}
