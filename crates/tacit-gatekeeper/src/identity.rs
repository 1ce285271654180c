//! A gatekeeper's keys: born in the TEE, sealed to it, the same after a restart.

use std::path::Path;

use rand::Rng as _;
use tacit_envelope::{TransportKey, TransportPublicKey};
use tacit_types::{
    KeysetDigest, UnixTime,
    keyset::{ED25519, Keyset, PublicKey, SECP256K1_EIP712},
    signature::{NoteKey, SigningKey},
};
use zeroize::Zeroizing;

use crate::{
    error::GatekeeperError,
    seal::{Sealer, SeedRng, read_sealed, write_sealed},
};

/// Algorithm name of the key that sub-keys are sealed to.
pub const X_WING: &str = "x-wing";
/// Seconds that a gatekeeper's keys may be used: five years.
const LIFE: u64 = 5 * 366 * 86_400;

/// A gatekeeper's keys.
pub(crate) struct Identity {
    seed: Zeroizing<[u8; 32]>,
    pub(crate) chain_key: SigningKey,
    pub(crate) keyset: Keyset,
    pub(crate) digest: KeysetDigest,
}

impl Identity {
    /// The keys in the data folder, or new ones.
    pub(crate) fn open(data: &Path, key: &[u8; 32], now: UnixTime) -> Result<Self, GatekeeperError> {
        let path = data.join("identity.sealed");
        let sealer = Sealer::new(key, "identity");
        let wrong = || GatekeeperError::Stored { path: path.clone(), reason: "not an identity".into() };
        let mut seed = Zeroizing::new([0; 32]);
        let created = match read_sealed(&path, &sealer)? {
            Some(stored) => {
                let (stored_seed, created) = stored.split_first_chunk::<32>().ok_or_else(wrong)?;
                seed.copy_from_slice(stored_seed);
                UnixTime(u64::from_be_bytes(created.try_into().map_err(|_| wrong())?))
            }
            None => {
                rand::rng().fill_bytes(seed.as_mut_slice());
                let mut stored = Zeroizing::new(seed.to_vec());
                stored.extend_from_slice(&now.0.to_be_bytes());
                write_sealed(&path, &sealer, &stored)?;
                now
            }
        };
        Self::from_seed(seed, created).ok_or_else(wrong)
    }

    fn from_seed(seed: Zeroizing<[u8; 32]>, created: UnixTime) -> Option<Self> {
        let chain_key = SigningKey::generate(&mut SeedRng::new(&seed, "chain"));
        let note_key = NoteKey::generate(&mut SeedRng::new(&seed, "note"));
        let transport = TransportKey::generate(&mut SeedRng::new(&seed, "transport"));
        let key = |key_id: &str, algo: &str, bytes: &[u8]| PublicKey {
            key_id: key_id.into(),
            algo: algo.into(),
            public_key: hex::encode(bytes),
        };
        let keyset = Keyset {
            subject: Some("tacit-gatekeeper".into()),
            not_after: created.plus(LIFE),
            receipt_signing_keys: vec![
                key("note", ED25519, &note_key.public_key()),
                key("chain", SECP256K1_EIP712, &chain_key.public_key()),
            ],
            e2ee_public_keys: vec![key("sub-keys", X_WING, &transport.public().encode())],
            tls_public_keys: Vec::new(),
        };
        let digest = keyset.digest().ok()?;
        Some(Self { seed, chain_key, keyset, digest })
    }

    /// The key that sub-keys are sealed to.
    pub(crate) fn transport_key(&self) -> TransportKey {
        TransportKey::generate(&mut SeedRng::new(&self.seed, "transport"))
    }
}

/// The key in a gatekeeper's keyset that sub-keys are sealed to.
pub(crate) fn transport_key_of(keyset: &Keyset) -> Option<TransportPublicKey> {
    let mut matching = keyset.e2ee_public_keys.iter().filter(|key| key.algo == X_WING);
    let key = matching.next().filter(|_| matching.next().is_none())?;
    TransportPublicKey::parse(&hex::decode(&key.public_key).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_finds_the_same_keys_and_another_machine_none() {
        let folder = tempfile::tempdir().unwrap();
        let first = Identity::open(folder.path(), &[1; 32], UnixTime(1_800_000_000)).unwrap();
        let again = Identity::open(folder.path(), &[1; 32], UnixTime(1_800_099_999)).unwrap();
        assert_eq!(first.keyset, again.keyset);
        assert_eq!(first.chain_key.address(), first.keyset.receipt_address().unwrap());
        assert_eq!(transport_key_of(&first.keyset).unwrap(), again.transport_key().public());
        let other = Identity::open(folder.path(), &[2; 32], UnixTime(1_800_000_000));
        assert!(matches!(other, Err(GatekeeperError::Sealed { .. })));
    }
}
