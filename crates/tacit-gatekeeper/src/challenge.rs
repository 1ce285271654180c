//! Challenges: nonces that this gatekeeper recognises again without keeping them, each good for one admission.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use hmac::{Hmac, Mac};
use rand::Rng as _;
use sha2::Sha256;
use tacit_types::{Digest, KeysetDigest, UnixTime};
use zeroize::Zeroizing;

/// Seconds that a nonce is good for.
pub(crate) const CHALLENGE_SECONDS: u64 = 120;
/// Nonces that are remembered as used.
const MAX_USED: usize = 65_536;

/// Makes nonces (time ‖ random ‖ MAC, of 8, 8 and 16 bytes) and takes each once.
pub(crate) struct Challenges {
    key: Zeroizing<[u8; 32]>,
    used: Mutex<HashMap<Digest, UnixTime>>,
}

impl Challenges {
    /// With a fresh key: nonces given before are forgotten.
    pub(crate) fn new() -> Self {
        let mut key = Zeroizing::new([0; 32]);
        rand::rng().fill_bytes(key.as_mut_slice());
        Self { key, used: Mutex::default() }
    }

    /// A nonce for this keyset, and its last second.
    pub(crate) fn give(&self, keyset: KeysetDigest, now: UnixTime) -> (Digest, UnixTime) {
        let mut nonce = [0; 32];
        nonce[..8].copy_from_slice(&now.0.to_be_bytes());
        rand::rng().fill_bytes(&mut nonce[8..16]);
        let mac = self.mac(&nonce[..16], keyset).finalize().into_bytes();
        nonce[16..].copy_from_slice(&mac[..16]);
        (Digest::from(nonce), now.plus(CHALLENGE_SECONDS))
    }

    /// Takes a nonce for an admission of this keyset; false if it was not given for it, is taken, or has expired.
    pub(crate) fn take(&self, nonce: Digest, keyset: KeysetDigest, now: UnixTime) -> bool {
        let bytes = nonce.as_bytes();
        let mut given = [0; 8];
        given.copy_from_slice(&bytes[..8]);
        let expires = UnixTime(u64::from_be_bytes(given)).plus(CHALLENGE_SECONDS);
        if self.mac(&bytes[..16], keyset).verify_truncated_left(&bytes[16..]).is_err() || expires < now {
            return false;
        }
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() >= MAX_USED {
            used.retain(|_, expires| *expires >= now);
        }
        used.len() < MAX_USED && used.insert(nonce, expires).is_none()
    }

    /// Gives a nonce back whose admission was refused: it proved nothing.
    pub(crate) fn give_back(&self, nonce: Digest) {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).remove(&nonce);
    }

    fn mac(&self, front: &[u8], keyset: KeysetDigest) -> Hmac<Sha256> {
        let mut mac =
            <Hmac<Sha256> as Mac>::new_from_slice(self.key.as_slice()).expect("HMAC takes keys of every length");
        mac.update(front);
        mac.update(keyset.as_ref());
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_taken_once_in_time_for_its_keyset() {
        let (now, keyset) = (UnixTime(1_800_000_000), KeysetDigest::from([1; 32]));
        let challenges = Challenges::new();
        let (nonce, expires) = challenges.give(keyset, now);
        assert!(!challenges.take(nonce, KeysetDigest::ZERO, now));
        assert!(!challenges.take(nonce, keyset, expires.plus(1)));
        assert!(!Challenges::new().take(nonce, keyset, now));
        for byte in 0..32 {
            let mut altered = nonce.into_bytes();
            altered[byte] ^= 1;
            assert!(!challenges.take(Digest::from(altered), keyset, now), "{byte}");
        }
        assert!(challenges.take(nonce, keyset, now));
        assert!(!challenges.take(nonce, keyset, now));
        challenges.give_back(nonce);
        assert!(challenges.take(nonce, keyset, expires));
    }
}
