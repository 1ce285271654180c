//! Nonces that were used, for as long as their requests could be sent again.

use std::collections::{BTreeMap, HashSet};

use sha2::{Digest as _, Sha256};
use tacit_types::UnixTime;

use super::{E2eeError, E2eePublicKey, MAX_SKEW};

/// What makes a request one that must not come twice: client key, service key and nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReplayKey {
    digest: [u8; 32],
    timestamp: UnixTime,
}

impl ReplayKey {
    pub(super) fn new(client: &E2eePublicKey, service: &E2eePublicKey, nonce: [u8; 32], timestamp: UnixTime) -> Self {
        let mut hash = Sha256::new();
        // Both keys have the length that their suite gives them, and the suite comes first.
        hash.update(service.suite().algorithm());
        hash.update(client.to_bytes());
        hash.update(service.to_bytes());
        hash.update(nonce);
        Self { digest: hash.finalize().into(), timestamp }
    }

    /// Last second at which the request would be accepted.
    fn expires(&self) -> UnixTime {
        self.timestamp.plus(MAX_SKEW)
    }
}

/// The nonces of requests that could still be sent again. Bounded: when it is full, further requests are refused rather than
/// older nonces forgotten.
#[derive(Debug, Clone)]
pub struct ReplayWindow {
    used: HashSet<[u8; 32]>,
    /// By the last second at which they count.
    expiring: BTreeMap<UnixTime, Vec<[u8; 32]>>,
    capacity: usize,
    /// The latest time that was given: a clock that is set back does not let old requests in again.
    latest: UnixTime,
}

impl ReplayWindow {
    /// A window for that many requests within ten minutes; each takes less than 200 bytes.
    pub fn new(capacity: usize) -> Self {
        Self { used: HashSet::new(), expiring: BTreeMap::new(), capacity, latest: UnixTime(0) }
    }

    /// Notes that a request is being served.
    ///
    /// # Errors
    /// [`E2eeError::ReplayDetected`] for one that was noted before, [`E2eeError::InvalidTimestamp`] for one that is too old by
    /// now, [`E2eeError::WindowFull`].
    pub fn claim(&mut self, key: ReplayKey, now: UnixTime) -> Result<(), E2eeError> {
        self.latest = self.latest.max(now);
        self.forget();
        if key.expires() < self.latest {
            return Err(E2eeError::InvalidTimestamp);
        }
        if self.used.contains(&key.digest) {
            return Err(E2eeError::ReplayDetected);
        }
        if self.used.len() >= self.capacity {
            return Err(E2eeError::WindowFull);
        }
        self.used.insert(key.digest);
        self.expiring.entry(key.expires()).or_default().push(key.digest);
        Ok(())
    }

    /// How many nonces are remembered.
    pub fn len(&self) -> usize {
        self.used.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.used.is_empty()
    }

    fn forget(&mut self) {
        // What expires at `latest` still counts.
        let counting = self.expiring.split_off(&self.latest);
        for digest in std::mem::replace(&mut self.expiring, counting).into_values().flatten() {
            self.used.remove(&digest);
        }
    }
}
