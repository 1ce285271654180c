//! The ACI workload keyset: the identity of every gatekeeper and worker (trust.md §3).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    ids::{Address, Digest, KeysetDigest},
    jcs::{self, JcsError},
    signature::address_of_sec1,
    time::UnixTime,
};

/// Algorithm name of Ed25519 keys: the one that signs log checkpoints, and the one that signs ACI receipts.
pub const ED25519: &str = "ed25519";
/// Identifier of the Ed25519 key that signs ACI receipts and nothing else. Any other Ed25519 key of a keyset signs checkpoints.
pub const ACI_KEY_ID: &str = "aci";
/// Algorithm name of the secp256k1 key that signs EIP-712 receipts.
pub const SECP256K1_EIP712: &str = "secp256k1-eip712";
/// Algorithm name of an Oblivious HTTP key; its public key is an RFC 9458 KeyConfig.
pub const OHTTP: &str = "ohttp";

/// A public key with its role's algorithm. Public keys are lower-case hex without a prefix, as ACI writes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublicKey {
    /// Name of the key within the keyset.
    pub key_id: String,
    /// Algorithm; readers skip algorithms that they do not know.
    pub algo: String,
    /// Lower-case hex.
    pub public_key: String,
}

/// A TLS key that ends in the TEE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsKey {
    /// SHA-256 of the subject public key info, lower-case hex.
    pub spki_sha256: String,
    /// Host that this key serves; every host without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
}

/// The public keys that were born in one TEE and die with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keyset {
    /// Name of the workload, if it has one.
    pub subject: Option<String>,
    /// Last second at which the keys may be used.
    pub not_after: UnixTime,
    /// Keys that sign receipts and checkpoints.
    pub receipt_signing_keys: Vec<PublicKey>,
    /// Keys to seal requests to.
    pub e2ee_public_keys: Vec<PublicKey>,
    /// Keys of TLS endpoints.
    pub tls_public_keys: Vec<TlsKey>,
}

/// Why a keyset is not usable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysetError {
    /// It has no canonical form.
    #[error("the keyset has no canonical form")]
    Canonical(#[from] JcsError),
    /// It has no key of this algorithm.
    #[error("the keyset has no {0} key")]
    Missing(&'static str),
    /// It has two keys of this algorithm.
    #[error("the keyset has more than one {0} key")]
    Ambiguous(&'static str),
    /// A key's bytes are not a key.
    #[error("the keyset's {0} key is not valid")]
    Key(&'static str),
    /// No receipt key, or more than one, has the identifier asked for.
    #[error("the keyset has not exactly one receipt key of that name")]
    KeyId,
    /// The receipt key of that name is of another algorithm than the one needed.
    #[error("the receipt key of that name is no {0} key")]
    Algorithm(&'static str),
    /// One key stands in two places of the keyset: roles never share a key.
    #[error("one key has two roles in the keyset")]
    SharedKey,
}

impl Keyset {
    /// Most bytes that a canonical keyset may have.
    pub const MAX_BYTES: usize = 64 * 1024;

    /// SHA-256 of the canonical form.
    ///
    /// # Errors
    /// [`KeysetError::Canonical`] when there is no canonical form within [`Self::MAX_BYTES`].
    pub fn digest(&self) -> Result<KeysetDigest, KeysetError> {
        let bytes = jcs::to_bytes(self)?;
        if bytes.len() > Self::MAX_BYTES {
            return Err(JcsError::TooLarge { limit: Self::MAX_BYTES, found: bytes.len() }.into());
        }
        Ok(KeysetDigest::from(<[u8; 32]>::from(Sha256::digest(bytes))))
    }

    /// Whether it names a TLS key with this SHA-256 of its subject public key info for that host: an entry with a domain counts
    /// for that domain alone.
    pub fn names_tls_key_for(&self, spki_sha256: [u8; 32], host: &str) -> bool {
        let wanted = hex::encode(spki_sha256);
        let serves = |domain: &Option<String>| domain.as_ref().is_none_or(|own| own.eq_ignore_ascii_case(host));
        self.tls_public_keys.iter().any(|key| key.spki_sha256 == wanted && serves(&key.domain))
    }

    /// Whether it names a TLS key with this SHA-256 of its subject public key info, for whatever host.
    pub fn names_tls_key(&self, spki_sha256: [u8; 32]) -> bool {
        let wanted = hex::encode(spki_sha256);
        self.tls_public_keys.iter().any(|key| key.spki_sha256 == wanted)
    }

    /// The account of the receipt key.
    ///
    /// # Errors
    /// When there is not exactly one valid `secp256k1-eip712` key.
    pub fn receipt_address(&self) -> Result<Address, KeysetError> {
        let bytes = only_key(self.receipt_signing_keys.iter(), SECP256K1_EIP712)?;
        address_of_sec1(&bytes).map_err(|_| KeysetError::Key(SECP256K1_EIP712))
    }

    /// The Ed25519 key that signs checkpoints.
    ///
    /// # Errors
    /// When there is not exactly one valid `ed25519` key besides the one named [`ACI_KEY_ID`].
    pub fn note_key(&self) -> Result<[u8; 32], KeysetError> {
        let others = self.receipt_signing_keys.iter().filter(|key| key.key_id != ACI_KEY_ID);
        only_key(others, ED25519)?.try_into().map_err(|_| KeysetError::Key(ED25519))
    }

    /// The Ed25519 receipt key of that name, which an ACI receipt cites. Readers of ACI resolve keys by name and let the entry
    /// decide the algorithm.
    ///
    /// # Errors
    /// [`KeysetError::KeyId`] unless exactly one receipt key has the name, [`KeysetError::Algorithm`] for one of another
    /// algorithm, [`KeysetError::Key`] for bytes that are no key.
    pub fn ed25519_key(&self, key_id: &str) -> Result<[u8; 32], KeysetError> {
        let mut named = self.receipt_signing_keys.iter().filter(|key| key.key_id == key_id);
        let (Some(key), None) = (named.next(), named.next()) else { return Err(KeysetError::KeyId) };
        if key.algo != ED25519 {
            return Err(KeysetError::Algorithm(ED25519));
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(&key.public_key, &mut bytes).map_err(|_| KeysetError::Key(ED25519))?;
        Ok(bytes)
    }

    /// Checks that no key stands in the keyset twice, under whatever names: a key has one role.
    ///
    /// # Errors
    /// [`KeysetError::SharedKey`].
    pub fn check_roles(&self) -> Result<(), KeysetError> {
        let mut seen = BTreeSet::new();
        let keys = self.receipt_signing_keys.iter().chain(&self.e2ee_public_keys);
        let distinct = keys.map(|key| key.public_key.to_ascii_lowercase()).all(|key| seen.insert(key));
        if distinct { Ok(()) } else { Err(KeysetError::SharedKey) }
    }

    /// The RFC 9458 KeyConfig to seal requests to.
    ///
    /// # Errors
    /// When there is not exactly one `ohttp` key.
    pub fn ohttp_config(&self) -> Result<Vec<u8>, KeysetError> {
        only_key(self.e2ee_public_keys.iter(), OHTTP)
    }
}

fn only_key<'a>(keys: impl Iterator<Item = &'a PublicKey>, algorithm: &'static str) -> Result<Vec<u8>, KeysetError> {
    let mut matching = keys.filter(|key| key.algo == algorithm);
    let key = matching.next().ok_or(KeysetError::Missing(algorithm))?;
    if matching.next().is_some() {
        return Err(KeysetError::Ambiguous(algorithm));
    }
    hex::decode(&key.public_key).map_err(|_| KeysetError::Key(algorithm))
}

/// The exact bytes that a quote's report data commits to (ACI, `aci.report_data.v1`).
pub fn report_data_statement(keyset: KeysetDigest, nonce: Option<Digest>) -> String {
    let nonce = nonce.map_or("null".to_owned(), |nonce| format!("\"{}\"", hex::encode(nonce)));
    format!(r#"{{"keyset_digest":"sha256:{}","nonce":{nonce},"purpose":"aci.report_data.v1"}}"#, hex::encode(keyset))
}

/// SHA-256 of [`report_data_statement`], zero-padded to the 64 bytes of a TEE's report data.
pub fn report_data(keyset: KeysetDigest, nonce: Option<Digest>) -> [u8; 64] {
    padded_report_data(report_data_statement(keyset, nonce).as_bytes())
}

/// SHA-256 of any statement, zero-padded to 64 bytes.
pub fn padded_report_data(statement: &[u8]) -> [u8; 64] {
    let mut out = [0; 64];
    out[..32].copy_from_slice(&Sha256::digest(statement));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyset() -> Keyset {
        Keyset {
            subject: Some("worker".into()),
            not_after: UnixTime(2_000_000_000),
            receipt_signing_keys: vec![PublicKey {
                key_id: "log".into(),
                algo: ED25519.into(),
                public_key: "01".repeat(32),
            }],
            e2ee_public_keys: vec![],
            tls_public_keys: vec![],
        }
    }

    #[test]
    fn the_statement_has_exactly_these_bytes() {
        let digest = KeysetDigest::from([0xaa; 32]);
        assert_eq!(
            report_data_statement(digest, None),
            format!(r#"{{"keyset_digest":"sha256:{}","nonce":null,"purpose":"aci.report_data.v1"}}"#, "aa".repeat(32))
        );
        assert!(
            report_data_statement(digest, Some(Digest::from([1; 32]))).contains(&format!("\"{}\"", "01".repeat(32)))
        );
        assert_eq!(report_data(digest, None)[32..], [0; 32]);
    }

    #[test]
    fn keys_are_found_once_or_refused() {
        let mut keyset = keyset();
        assert_eq!(keyset.note_key().unwrap(), [1; 32]);
        assert!(matches!(keyset.receipt_address(), Err(KeysetError::Missing(SECP256K1_EIP712))));
        let again = keyset.receipt_signing_keys[0].clone();
        keyset.receipt_signing_keys.push(again);
        assert!(matches!(keyset.note_key(), Err(KeysetError::Ambiguous(ED25519))));
        keyset.receipt_signing_keys.truncate(1);
        keyset.receipt_signing_keys[0].public_key = "zz".into();
        assert!(matches!(keyset.note_key(), Err(KeysetError::Key(ED25519))));
    }

    #[test]
    fn tls_keys_are_named_by_their_digest() {
        let mut keyset = keyset();
        keyset.tls_public_keys.push(TlsKey { spki_sha256: "ab".repeat(32), domain: None });
        assert!(keyset.names_tls_key([0xab; 32]));
        assert!(!keyset.names_tls_key([0xac; 32]));
        assert!(keyset.names_tls_key_for([0xab; 32], "any.example.com"));
        keyset.tls_public_keys[0].domain = Some("api.example.com".into());
        assert!(keyset.names_tls_key_for([0xab; 32], "API.example.com"));
        assert!(!keyset.names_tls_key_for([0xab; 32], "other.example.com"));
        assert!(!keyset.names_tls_key_for([0xac; 32], "api.example.com"));
    }

    #[test]
    fn the_key_of_aci_receipts_stands_beside_the_log_key() {
        let mut keyset = keyset();
        let key = |key_id: &str, algo: &str, byte: &str| PublicKey {
            key_id: key_id.into(),
            algo: algo.into(),
            public_key: byte.repeat(32),
        };
        assert!(matches!(keyset.ed25519_key(ACI_KEY_ID), Err(KeysetError::KeyId)));
        keyset.receipt_signing_keys.push(key(ACI_KEY_ID, ED25519, "02"));
        assert_eq!(keyset.note_key().unwrap(), [1; 32]);
        assert_eq!(keyset.ed25519_key(ACI_KEY_ID).unwrap(), [2; 32]);
        assert_eq!(keyset.ed25519_key("log").unwrap(), [1; 32]);
        keyset.receipt_signing_keys.push(key("receipt", SECP256K1_EIP712, "03"));
        assert!(matches!(keyset.ed25519_key("receipt"), Err(KeysetError::Algorithm(ED25519))));
        assert!(keyset.check_roles().is_ok());
        keyset.receipt_signing_keys.push(key(ACI_KEY_ID, ED25519, "04"));
        assert!(matches!(keyset.ed25519_key(ACI_KEY_ID), Err(KeysetError::KeyId)));
        keyset.receipt_signing_keys[3].key_id = "third".into();
        assert!(matches!(keyset.note_key(), Err(KeysetError::Ambiguous(ED25519))));
    }

    #[test]
    fn a_key_in_two_roles_is_noticed() {
        let mut keyset = keyset();
        keyset.e2ee_public_keys.push(PublicKey {
            key_id: "seal".into(),
            algo: OHTTP.into(),
            public_key: "01".repeat(32),
        });
        assert!(matches!(keyset.check_roles(), Err(KeysetError::SharedKey)));
        keyset.e2ee_public_keys[0].public_key = "02".repeat(32);
        assert!(keyset.check_roles().is_ok());
    }

    #[test]
    fn unknown_members_are_refused() {
        let mut json = serde_json::to_value(keyset()).unwrap();
        json["extra"] = 1.into();
        assert!(serde_json::from_value::<Keyset>(json).is_err());
    }
}
