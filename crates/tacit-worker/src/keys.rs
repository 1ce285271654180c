//! Keys that are born when the process starts and die with it.

use tacit_envelope::{Kem, KeyPair};
use tacit_types::{
    Address, KeysetDigest, UnixTime,
    keyset::{ED25519, Keyset, KeysetError, OHTTP, PublicKey, SECP256K1_EIP712},
    signature::{NoteKey, SigningKey},
};

/// Longest life of a keyset in seconds: a worker that runs longer is restarted.
const KEYSET_LIFE: u64 = 365 * 86_400;
/// Identifier of the one Oblivious HTTP key.
const OHTTP_KEY_ID: u8 = 1;

/// A worker's secret keys and the keyset that names their public halves.
pub(crate) struct Keys {
    /// Signs receipts and requests to gatekeepers.
    pub receipt: SigningKey,
    /// Signs checkpoints.
    pub note: NoteKey,
    /// Opens sealed requests.
    pub ohttp: KeyPair,
    pub keyset: Keyset,
    pub digest: KeysetDigest,
    pub address: Address,
}

impl Keys {
    pub fn generate(now: UnixTime) -> Result<Self, KeysetError> {
        let mut rng = rand::rng();
        let receipt = SigningKey::generate(&mut rng);
        let note = NoteKey::generate(&mut rng);
        let ohttp = KeyPair::generate(&mut rng, OHTTP_KEY_ID, Kem::XWing);
        let key = |key_id: &str, algo: &str, public_key: &[u8]| PublicKey {
            key_id: key_id.to_owned(),
            algo: algo.to_owned(),
            public_key: hex::encode(public_key),
        };
        let keyset = Keyset {
            subject: Some("tacit-worker".to_owned()),
            not_after: now.plus(KEYSET_LIFE),
            receipt_signing_keys: vec![
                key("log", ED25519, &note.public_key()),
                key("receipt", SECP256K1_EIP712, &receipt.public_key()),
            ],
            e2ee_public_keys: vec![key("ohttp", OHTTP, &ohttp.config().encode())],
            tls_public_keys: Vec::new(),
        };
        let (digest, address) = (keyset.digest()?, receipt.address());
        Ok(Self { receipt, note, ohttp, keyset, digest, address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keyset_names_the_keys() {
        let keys = Keys::generate(UnixTime(1_000)).unwrap();
        assert_eq!(keys.keyset.receipt_address().unwrap(), keys.address);
        assert_eq!(keys.keyset.note_key().unwrap(), keys.note.public_key());
        let config = tacit_envelope::KeyConfig::parse(&keys.keyset.ohttp_config().unwrap()).unwrap();
        assert_eq!(config.kem(), Kem::XWing);
        assert_ne!(Keys::generate(UnixTime(1_000)).unwrap().digest, keys.digest);
    }
}
