//! Keys that are born when the process starts and die with it.

use sha2::{Digest as _, Sha256};
use tacit_envelope::{
    Kem, KeyPair,
    e2ee::{E2eeSecretKey, ServiceKeys, Suite},
};
use tacit_receipt::aci::legacy::LegacyKey;
use tacit_types::{
    Address, KeysetDigest, UnixTime,
    keyset::{ACI_KEY_ID, ED25519, Keyset, KeysetError, OHTTP, PublicKey, SECP256K1_EIP712, TlsKey},
    signature::{NoteKey, SigningKey},
};
use zeroize::Zeroizing;

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
    /// Keys of the AI service.
    pub ai: AiKeys,
    pub keyset: Keyset,
    pub digest: KeysetDigest,
    pub address: Address,
}

/// Keys of the AI service.
pub(crate) struct AiKeys {
    /// Signs ACI receipts.
    pub receipt: NoteKey,
    /// Open single fields of requests.
    pub e2ee: ServiceKeys,
    /// Sign for clients of the interface before ACI; named in quotes of their own and in no keyset.
    pub legacy: [LegacyKey; 2],
    /// Ends TLS, where this node serves it.
    pub tls: Option<TlsIdentity>,
}

/// A key that ends TLS, with the certificate that it signed itself: clients pin the key, which stands in the keyset.
pub(crate) struct TlsIdentity {
    /// DER.
    pub certificate: Vec<u8>,
    /// PKCS #8.
    pub key: Zeroizing<Vec<u8>>,
    /// SHA-256 of the subject public key info.
    pub spki_sha256: [u8; 32],
}

impl TlsIdentity {
    /// A new key for these host names or addresses.
    ///
    /// # Errors
    /// When a name is neither.
    pub fn generate(hosts: &[String]) -> Result<Self, rcgen::Error> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let certificate = rcgen::CertificateParams::new(hosts)?.self_signed(&key)?;
        Ok(Self {
            certificate: certificate.der().to_vec(),
            key: Zeroizing::new(key.serialize_der()),
            spki_sha256: Sha256::digest(rcgen::PublicKeyData::subject_public_key_info(&key)).into(),
        })
    }
}

impl Keys {
    /// New keys; `tls` is the key of the endpoint that ends TLS, if there is one.
    pub fn generate(now: UnixTime, tls: Option<TlsIdentity>) -> Result<Self, KeysetError> {
        let mut rng = rand::rng();
        let receipt = SigningKey::generate(&mut rng);
        let note = NoteKey::generate(&mut rng);
        let ohttp = KeyPair::generate(&mut rng, OHTTP_KEY_ID, Kem::XWing);
        let key = |key_id: &str, algo: &str, public_key: &[u8]| PublicKey {
            key_id: key_id.to_owned(),
            algo: algo.to_owned(),
            public_key: hex::encode(public_key),
        };
        let ai = AiKeys {
            receipt: NoteKey::generate(&mut rng),
            e2ee: ServiceKeys::new(Suite::ALL.map(|suite| E2eeSecretKey::generate(&mut rng, suite)).into()),
            legacy: [LegacyKey::Ecdsa(SigningKey::generate(&mut rng)), LegacyKey::Ed25519(NoteKey::generate(&mut rng))],
            tls,
        };
        let mut e2ee_public_keys = vec![key("ohttp", OHTTP, &ohttp.config().encode())];
        e2ee_public_keys.extend(ai.e2ee.iter().map(|secret| secret.entry(secret.suite().algorithm())));
        let keyset = Keyset {
            subject: Some("tacit-worker".to_owned()),
            not_after: now.plus(KEYSET_LIFE),
            receipt_signing_keys: vec![
                key("log", ED25519, &note.public_key()),
                key(ACI_KEY_ID, ED25519, &ai.receipt.public_key()),
                key("receipt", SECP256K1_EIP712, &receipt.public_key()),
            ],
            e2ee_public_keys,
            tls_public_keys: ai
                .tls
                .iter()
                .map(|tls| TlsKey { spki_sha256: hex::encode(tls.spki_sha256), domain: None })
                .collect(),
        };
        let (digest, address) = (keyset.digest()?, receipt.address());
        Ok(Self { receipt, note, ohttp, ai, keyset, digest, address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keyset_names_the_keys() {
        let tls = TlsIdentity::generate(&["localhost".into()]).unwrap();
        let spki = tls.spki_sha256;
        let keys = Keys::generate(UnixTime(1_000), Some(tls)).unwrap();
        assert!(keys.keyset.names_tls_key(spki));
        assert_eq!(keys.keyset.ed25519_key(ACI_KEY_ID).unwrap(), keys.ai.receipt.public_key());
        assert!(keys.keyset.check_roles().is_ok());
        assert_eq!(keys.keyset.receipt_address().unwrap(), keys.address);
        assert_eq!(keys.keyset.note_key().unwrap(), keys.note.public_key());
        let config = tacit_envelope::KeyConfig::parse(&keys.keyset.ohttp_config().unwrap()).unwrap();
        assert_eq!(config.kem(), Kem::XWing);
        assert_ne!(Keys::generate(UnixTime(1_000), None).unwrap().digest, keys.digest);
    }
}
