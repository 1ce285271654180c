//! Where a node takes collateral for its own evidence from.

use std::{fmt::Display, future::Future, sync::Arc, time::Duration};

use tacit_attest::{Collateral, Evidence};
use tacit_types::UnixTime;

use super::{CollateralCache, Endpoints};
use crate::PeerError;

/// How often a node looks for collateral that is due.
const LOOK: Duration = Duration::from_secs(600);

/// The vendors' services where a node's configuration names them, else what the machine itself hands out.
#[derive(Clone, Default)]
pub struct CollateralSource(Option<CollateralCache>);

impl CollateralSource {
    /// From the section `[collateral]` of a configuration; without one only the machine is asked.
    ///
    /// # Errors
    /// [`PeerError::Client`].
    pub fn new(endpoints: Option<Endpoints>) -> Result<Self, PeerError> {
        let cache = endpoints.map(|endpoints| CollateralCache::new(endpoints, CollateralCache::PATIENCE));
        Ok(Self(cache.transpose()?))
    }

    /// Collateral for evidence that this node made: kept or fetched, and where that fails what `machine` gives.
    ///
    /// # Errors
    /// Those of `machine`.
    pub async fn obtain<E: Display>(
        &self,
        evidence: &Evidence,
        now: UnixTime,
        machine: impl Future<Output = Result<Collateral, E>>,
    ) -> Result<Arc<Collateral>, E> {
        if let Some(cache) = &self.0 {
            match cache.obtain(evidence, now).await {
                Ok(collateral) => return Ok(collateral),
                Err(error) => tracing::warn!(%error, "no collateral from the vendor; the machine is asked for it"),
            }
        }
        machine.await.map(Arc::new)
    }

    /// Renews what is due, for ever; without services it waits for ever.
    pub async fn keep_renewing(self, now: impl Fn() -> UnixTime) {
        match self.0 {
            Some(cache) => cache.keep_renewing(LOOK, now).await,
            None => std::future::pending().await,
        }
    }
}
