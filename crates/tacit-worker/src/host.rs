//! What a running function reaches: a view of its state, its secrets, and the way out that its manifest allows.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tacit_runtime::{
    Destination, FetchRequest, FetchResponse, Host, HostError, ModelAnswer, ModelRun, ModelTask, Tensor,
    egress::{AllowList, Egress, EgressLimits},
};
use tacit_store::{Key, Overlay, Snapshot, Space};
use tacit_types::{FunctionId, manifest::Manifest};
use zeroize::Zeroizing;

use crate::{
    ai,
    code::Version,
    context::Context,
    models,
    publications::{self, HomeChain},
    time::now_micros,
};

/// State as one call sees it before its own writes.
#[derive(Clone)]
pub(crate) enum View {
    /// Of a query.
    Snapshot(Arc<Snapshot>),
    /// Of a command: with what earlier commands of its batch wrote.
    Overlay(Arc<Overlay>),
}

impl View {
    pub fn value(&self, key: &Key) -> Option<Bytes> {
        match self {
            Self::Snapshot(snapshot) => snapshot.value(key),
            Self::Overlay(overlay) => overlay.value(key),
        }
    }

    pub fn list(&self, space: Space, prefix: &str, after: Option<&str>, limit: usize) -> Vec<(String, Bytes)> {
        match self {
            Self::Snapshot(snapshot) => snapshot.list(space, prefix, after, limit),
            Self::Overlay(overlay) => overlay.list(space, prefix, after, limit),
        }
    }
}

/// The powers of one call.
pub(crate) struct FunctionHost {
    function: FunctionId,
    models: Option<Arc<ai::Service>>,
    view: View,
    version: Arc<Version>,
    egress: Egress,
    home: HomeChain,
}

impl FunctionHost {
    pub fn new(function: FunctionId, view: View, version: Arc<Version>, context: &Context) -> Self {
        let allowed = AllowList::new(&version.code.manifest.egress.allow);
        let egress = Egress::new(allowed, EgressLimits::default(), Arc::clone(&context.network));
        let genesis = &context.deployment.genesis;
        let home = HomeChain { network: genesis.network.clone(), chain_id: genesis.chain_id };
        Self { function, models: context.models.clone(), view, version, egress, home }
    }

    fn manifest(&self) -> &Manifest {
        &self.version.code.manifest
    }
}

#[async_trait]
impl Host for FunctionHost {
    async fn state_get(&self, key: &str) -> Result<Option<Bytes>, HostError> {
        Ok(self.view.value(&Key::state(key)))
    }

    async fn state_list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>, HostError> {
        Ok(self.view.list(Space::State, prefix, after, limit))
    }

    async fn secret(&self, name: &str) -> Result<Option<Zeroizing<String>>, HostError> {
        if !self.manifest().secrets.names.contains(name) {
            let line = format!("the manifest does not name the secret \"{name}\"; add it to names under [secrets]");
            return Err(HostError::Denied(line));
        }
        let Some(value) = self.view.value(&Key::secret(name)) else { return Ok(None) };
        let text =
            String::from_utf8(value.to_vec()).map_err(|_| HostError::Invalid("the secret is not text".into()))?;
        Ok(Some(Zeroizing::new(text)))
    }

    async fn fetch(&self, request: FetchRequest) -> Result<FetchResponse, HostError> {
        self.egress.fetch(request).await.map_err(HostError::from)
    }

    async fn model(&self, task: ModelTask, request: Bytes) -> Result<ModelAnswer, HostError> {
        models::answer(self.models.as_ref(), self.manifest(), self.function, task, request).await
    }

    async fn run_model(&self, model: &str, inputs: Vec<Tensor>) -> Result<ModelRun, HostError> {
        models::run(self.models.as_ref(), self.manifest(), model, inputs).await
    }

    async fn destination(&self, chain: &str, contract: &str, topic: &str) -> Result<Destination, HostError> {
        publications::destination(&self.view, self.manifest(), &self.home, [chain, contract, topic])
    }

    fn now(&self) -> u64 {
        now_micros()
    }
}
