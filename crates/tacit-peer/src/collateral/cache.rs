//! What was fetched, until shortly before it expires.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tacit_attest::{Collateral, Evidence, IntelCollateral, PckAuthority, Platform, Wanted};
use tacit_types::UnixTime;
use tokio::sync::Mutex;

use super::{
    Endpoints,
    fetch::{Fetcher, Update},
};
use crate::PeerError;

/// Most kinds of collateral that are kept: each platform family is one, and each AMD chip.
const MOST: usize = 4_096;
/// Collateral is renewed once this part of its life is over …
const RENEW_AFTER: (u64, u64) = (2, 3);
/// … and at least this many seconds before it expires.
const RENEW_BEFORE: u64 = 86_400;
/// Life of collateral whose own end is far away: a platform's new TCB shows within this many seconds.
const LONGEST: u64 = 7 * 86_400;
/// First and longest wait after a service refused, in seconds.
const FIRST_WAIT: u64 = 5;
const LONGEST_WAIT: u64 = 3_600;

/// Collateral of the vendors, by what it is for.
///
/// [`Self::obtain`] may use the network; [`Self::kept`] never does, so it can be asked in the middle of a handshake.
#[derive(Clone)]
pub struct CollateralCache {
    fetcher: Arc<Fetcher>,
    entries: Arc<RwLock<HashMap<Wanted, Entry>>>,
    /// One fetch of a kind at a time: the next finds what the first brought.
    fetching: Arc<Mutex<HashMap<Wanted, Arc<Mutex<()>>>>>,
}

#[derive(Clone, Default)]
struct Entry {
    kept: Option<Kept>,
    failures: u32,
    /// Not asked again before this time.
    asked_again: UnixTime,
}

#[derive(Clone)]
struct Kept {
    collateral: Arc<Collateral>,
    renew: UnixTime,
    expires: UnixTime,
}

impl CollateralCache {
    /// Longest that one answer of a service may take, unless told otherwise.
    pub const PATIENCE: Duration = Duration::from_secs(20);

    /// An empty cache over these services; each answer may take `patience`.
    ///
    /// # Errors
    /// [`PeerError::Client`].
    pub fn new(endpoints: Endpoints, patience: Duration) -> Result<Self, PeerError> {
        Ok(Self {
            fetcher: Arc::new(Fetcher::new(endpoints, patience)?),
            entries: Arc::default(),
            fetching: Arc::default(),
        })
    }

    /// What is kept for evidence and not expired; never waits.
    pub fn kept(&self, evidence: &Evidence, now: UnixTime) -> Option<Arc<Collateral>> {
        let wanted = Wanted::by(evidence).ok()?;
        self.entry(&wanted).kept.filter(|kept| now < kept.expires).map(|kept| kept.collateral)
    }

    /// Collateral for evidence: what is kept, else what the vendor hands out now.
    ///
    /// When collateral is due for renewal and the service fails, what is kept still serves until it expires.
    ///
    /// # Errors
    /// [`PeerError`]: evidence that cannot be read, or a service that does not answer as it should.
    pub async fn obtain(&self, evidence: &Evidence, now: UnixTime) -> Result<Arc<Collateral>, PeerError> {
        let wanted = Wanted::by(evidence)?;
        self.renewed(&wanted, now).await
    }

    /// Renews everything that is due; what fails is logged and tried again later. Drops what has expired.
    pub async fn renew_due(&self, now: UnixTime) {
        let due: Vec<Wanted> = {
            let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
            entries.retain(|_, entry| entry.kept.as_ref().is_none_or(|kept| now < kept.expires));
            let due = |entry: &Entry| entry.kept.as_ref().is_some_and(|kept| kept.renew <= now);
            entries.iter().filter(|(_, entry)| due(entry)).map(|(wanted, _)| wanted.clone()).collect()
        };
        for wanted in due {
            if let Err(error) = self.renewed(&wanted, now).await {
                tracing::warn!(%error, "collateral could not be renewed");
            }
        }
    }

    /// Renews what is due, for ever.
    pub async fn keep_renewing(self, every: Duration, now: impl Fn() -> UnixTime) {
        loop {
            tokio::time::sleep(every).await;
            self.renew_due(now()).await;
        }
    }

    /// Intel's TCB documents for a platform family in one edition, always fetched.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn edition(&self, evidence: &Evidence, update: Update) -> Result<Collateral, PeerError> {
        match Wanted::by(evidence)? {
            Wanted::Intel { platform, fmspc, authority } => {
                self.fetcher.intel(platform, fmspc, authority, update).await
            }
            _ => Err(PeerError::NotPublished("an early edition of this vendor's collateral")),
        }
    }

    /// Intel's documents of a platform family in one edition, for planning: always fetched, and without what a single platform needs.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn documents(
        &self,
        platform: Platform,
        fmspc: [u8; 6],
        update: Update,
    ) -> Result<Box<IntelCollateral>, PeerError> {
        match self.fetcher.intel(platform, fmspc, PckAuthority::Platform, update).await? {
            Collateral::Intel(collateral) => Ok(collateral),
            _ => Err(PeerError::NotPublished("an edition of this vendor's collateral")),
        }
    }

    /// A reference manifest of NVIDIA by its name, always fetched.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn manifest(&self, id: &str) -> Result<Vec<u8>, PeerError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if id.is_empty() || id.len() > 128 || !id.bytes().all(plain) {
            return Err(PeerError::NotPublished("a manifest of this name"));
        }
        self.fetcher.rim(id).await
    }

    /// NVIDIA's answer to a certificate status request, both DER (RFC 6960), always fetched.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn certificate_status(&self, request: Vec<u8>) -> Result<Vec<u8>, PeerError> {
        self.fetcher.certificate_status(request).await
    }

    fn entry(&self, wanted: &Wanted) -> Entry {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).get(wanted).cloned().unwrap_or_default()
    }

    async fn renewed(&self, wanted: &Wanted, now: UnixTime) -> Result<Arc<Collateral>, PeerError> {
        let fresh = |entry: &Entry| {
            entry.kept.as_ref().filter(|kept| now < kept.renew).map(|kept| Arc::clone(&kept.collateral))
        };
        if let Some(collateral) = fresh(&self.entry(wanted)) {
            return Ok(collateral);
        }
        let turn = Arc::clone(self.fetching.lock().await.entry(wanted.clone()).or_default());
        let result = {
            let _turn = turn.lock().await;
            match fresh(&self.entry(wanted)) {
                Some(collateral) => Ok(collateral),
                None => self.fetch(wanted, now).await,
            }
        };
        self.fetching.lock().await.retain(|_, turn| Arc::strong_count(turn) > 1);
        result
    }

    async fn fetch(&self, wanted: &Wanted, now: UnixTime) -> Result<Arc<Collateral>, PeerError> {
        let before = self.entry(wanted);
        let fetched = if now < before.asked_again {
            Err(PeerError::Waiting { service: "the vendor's service", at: before.asked_again })
        } else {
            self.ask(wanted).await
        };
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        if !entries.contains_key(wanted) && entries.len() >= MOST {
            // What nobody could bring takes no place from what is in use: whoever invents platforms drives out inventions only.
            entries.retain(|_, entry| entry.kept.is_some());
            if entries.len() >= MOST {
                return Err(PeerError::Full(MOST));
            }
        }
        match fetched {
            Ok(collateral) => {
                let expires = collateral.replaced().unwrap_or(now.plus(LONGEST));
                let life = expires.0.saturating_sub(now.0);
                let renew = (life * RENEW_AFTER.0 / RENEW_AFTER.1).min(life.saturating_sub(RENEW_BEFORE)).min(LONGEST);
                let collateral = Arc::new(collateral);
                let kept = Kept { collateral: Arc::clone(&collateral), renew: now.plus(renew), expires };
                entries.insert(wanted.clone(), Entry { kept: Some(kept), ..Entry::default() });
                Ok(collateral)
            }
            Err(error) => {
                let entry = entries.entry(wanted.clone()).or_default();
                if !matches!(error, PeerError::Waiting { .. }) {
                    entry.failures = entry.failures.saturating_add(1);
                    let wait = FIRST_WAIT.saturating_mul(1 << entry.failures.min(12).saturating_sub(1));
                    entry.asked_again = now.plus(wait.min(LONGEST_WAIT));
                }
                let still = entry.kept.as_ref().filter(|kept| now < kept.expires);
                still.map(|kept| Arc::clone(&kept.collateral)).ok_or(error)
            }
        }
    }

    async fn ask(&self, wanted: &Wanted) -> Result<Collateral, PeerError> {
        match wanted {
            Wanted::Intel { platform, fmspc, authority } => {
                self.fetcher.intel(*platform, *fmspc, *authority, Update::Standard).await
            }
            Wanted::Amd { vlek: true, .. } => Err(PeerError::NotPublished("a cloud's certificate (VLEK)")),
            Wanted::Amd { class, hardware_id, tcb, vlek: false } => self.fetcher.amd(*class, hardware_id, *tcb).await,
            Wanted::Nothing => Err(PeerError::NotPublished("collateral of this kind of hardware")),
        }
    }
}
