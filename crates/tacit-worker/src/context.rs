//! What all parts of a worker share.

use std::sync::Arc;

use object_store::ObjectStore;
use tacit_ledger::{Ledger, Writer};
use tacit_runtime::{Engine, egress::Network};
use tacit_store::Reminders;
use tacit_types::{ClusterId, deployment::Deployment};

use crate::{
    acknowledger::Acknowledger, ai, certificates::Certificates, code::Loader, config::WorkerLimits,
    confirmer::Confirmer, gatekeepers::Gatekeepers, keys::Keys, metrics::Metrics, receipts::Receipts,
    transparency::TransparencyLog,
};

/// What all parts of a worker share.
pub(crate) struct Context {
    pub cluster: ClusterId,
    pub deployment: Deployment,
    pub keys: Arc<Keys>,
    pub certificates: Certificates,
    pub gatekeepers: Gatekeepers,
    pub acknowledger: Acknowledger,
    pub confirmer: Confirmer,
    pub log: TransparencyLog,
    pub receipts: Receipts,
    pub engine: Engine,
    pub network: Arc<Network>,
    pub loader: Loader,
    /// Answers for functions, where this worker runs models.
    pub models: Option<Arc<ai::Service>>,
    /// Which functions have publications that wait.
    pub reminders: Reminders,
    /// Where state logs are.
    pub state: Arc<dyn ObjectStore>,
    pub ledger: Ledger,
    pub writer: Writer,
    pub metrics: Arc<Metrics>,
    pub limits: WorkerLimits,
}
