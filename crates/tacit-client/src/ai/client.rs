//! A client of one node: verifies it, seals to it, and believes an answer when its receipt holds.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::Duration,
};

use reqwest::Url;
use tacit_attest::ExtraRoot;
use tacit_envelope::{Fields, ResponsePart};
use tacit_peer::{CollateralCache, Endpoints};
use tacit_receipt::aci::{KEYSET_DIGEST_HEADER, PrefixedDigest};
use tacit_verify::Judge;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::{
    AiAnswer, AiError, AiRequest, Proof, TranscriptStore,
    answer::Incoming,
    log::LogView,
    node::{Models, NodePolicy, VerifiedNode},
    sealing::seal,
    transport::Transport,
};
use crate::now;

/// How often a node is verified again, unless told otherwise.
const VERIFY_EVERY: Duration = Duration::from_secs(15 * 60);
/// Longest silence of a model, unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(600);
/// Proofs that are remembered.
const RECENT: usize = 32;
/// Most bytes of a document of the node's.
pub(super) const MAX_DOCUMENT: usize = 1 << 20;

/// Everything that a client is told.
pub struct AiSettings {
    node: Url,
    policy: NodePolicy,
    api_key: Zeroizing<String>,
    models: BTreeSet<PrefixedDigest>,
    store: Option<TranscriptStore>,
    verify_every: Duration,
    patience: Duration,
}

impl AiSettings {
    /// The node at `node`, an https URL or that of a gateway's models (`http(s)://gateway/ai`), which must hold under `judge`, asked with this API key.
    pub fn new(node: Url, judge: Judge, api_key: Zeroizing<String>) -> Self {
        Self {
            node,
            policy: NodePolicy { judge, known_roots: Vec::new() },
            api_key,
            models: BTreeSet::new(),
            store: None,
            verify_every: VERIFY_EVERY,
            patience: PATIENCE,
        }
    }

    /// Simulated roots that are known, whether the policy names them or not: they change what a refusal is called.
    #[must_use]
    pub fn knowing(mut self, roots: Vec<ExtraRoot>) -> Self {
        self.policy.known_roots = roots;
        self
    }

    /// Only models and adapters with these digests may answer; all may without any.
    #[must_use]
    pub fn only_models(mut self, models: impl IntoIterator<Item = PrefixedDigest>) -> Self {
        self.models.extend(models);
        self
    }

    /// Where transcripts are kept.
    #[must_use]
    pub fn storing(mut self, store: TranscriptStore) -> Self {
        self.store = Some(store);
        self
    }

    /// How often the node is verified again.
    #[must_use]
    pub const fn verifying_every(mut self, every: Duration) -> Self {
        self.verify_every = every;
        self
    }

    /// Longest that the node may be silent.
    #[must_use]
    pub const fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
}

/// A client of one node. Cheap to clone; clones share the verification, the connections and the view of the log.
#[derive(Clone)]
pub struct AiClient {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    settings: AiSettings,
    authorization: Zeroizing<String>,
    collateral: CollateralCache,
    current: Mutex<Option<Arc<VerifiedNode>>>,
    pub(super) logs: LogView,
    recent: StdMutex<VecDeque<Arc<Proof>>>,
}

impl AiClient {
    /// A client; nothing is connected yet.
    ///
    /// # Errors
    /// [`AiError::Url`], [`AiError::Request`] for an API key that cannot stand in a header, [`AiError::Collateral`].
    pub fn new(settings: AiSettings) -> Result<Self, AiError> {
        Transport::new(&settings.node)?;
        let key = settings.api_key.trim();
        if key.is_empty() || key.len() > 512 || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(AiError::Request("the API key is empty or has characters that a header cannot hold"));
        }
        let authorization = Zeroizing::new(format!("Bearer {key}"));
        let collateral = CollateralCache::new(Endpoints::default(), CollateralCache::PATIENCE)?;
        let logs = settings.store.as_ref().map(|store| LogView::kept_in(store.logs())).unwrap_or_default();
        let shared = Shared {
            settings,
            authorization,
            collateral,
            current: Mutex::default(),
            logs,
            recent: StdMutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The node's address.
    pub fn node_url(&self) -> &Url {
        &self.shared.settings.node
    }

    /// The name of the policy that the node must hold under.
    pub fn policy_name(&self) -> String {
        self.shared.settings.policy.judge.policy_for(None).name
    }

    /// Where transcripts are kept.
    pub fn store(&self) -> Option<&TranscriptStore> {
        self.shared.settings.store.as_ref()
    }

    /// The node as it was verified last, if it was and need not be verified again.
    pub async fn verified(&self) -> Option<Arc<VerifiedNode>> {
        self.shared.current.lock().await.clone().filter(|node| node.is_fresh(now()))
    }

    /// Proofs of the last exchanges, newest last.
    pub fn recent(&self) -> Vec<Arc<Proof>> {
        self.shared.recent.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Verifies the node unless that was done lately. Requests that come meanwhile wait for it.
    ///
    /// # Errors
    /// [`AiError::Node`] with the report for a node that does not hold, and whatever kept it from being asked.
    pub async fn verify(&self) -> Result<Arc<VerifiedNode>, AiError> {
        let mut current = self.shared.current.lock().await;
        if let Some(node) = current.as_ref().filter(|node| node.is_fresh(now())) {
            return Ok(Arc::clone(node));
        }
        *current = None;
        let settings = &self.shared.settings;
        let transport = Transport::connect(&settings.node).await?;
        let mut node =
            VerifiedNode::verify(transport, &settings.policy, &self.shared.collateral, settings.verify_every).await?;
        if !settings.models.is_empty() {
            let (status, body) = self.fetch(&node, AiRequest::get("/v1/models"), MAX_DOCUMENT).await?;
            let models = serde_json::from_slice::<Models>(&body).ok().filter(|_| status == 200);
            node.models = models.ok_or(AiError::BadAnswer("the list of models cannot be read"))?.into_map();
        }
        let node = Arc::new(node);
        *current = Some(Arc::clone(&node));
        Ok(node)
    }

    /// Sends a request to the verified node, sealed, and gives the answer as it begins. A node whose keys are others by now is
    /// verified anew first.
    ///
    /// # Errors
    /// [`AiError`]. Before the node is verified nothing is sent.
    pub async fn send(&self, request: AiRequest) -> Result<AiAnswer, AiError> {
        request.check()?;
        let node = self.verify().await?;
        match self.begin(&node, &request).await {
            Err(error) if error.was_not_sent() => {
                self.forget(&node).await;
                let node = self.verify().await?;
                self.begin(&node, &request).await
            }
            // The seal may be for keys that are gone. Under the same keys it would be asked twice.
            Err(AiError::Unsealed { status }) => {
                self.forget(&node).await;
                let renewed = self.verify().await?;
                if renewed.service.digest() == node.service.digest() {
                    return Err(AiError::Unsealed { status });
                }
                self.begin(&renewed, &request).await
            }
            other => other,
        }
    }

    /// The next question verifies the node anew.
    async fn forget(&self, node: &Arc<VerifiedNode>) {
        let mut current = self.shared.current.lock().await;
        if current.as_ref().is_some_and(|own| Arc::ptr_eq(own, node)) {
            *current = None;
        }
    }

    async fn begin(&self, node: &Arc<VerifiedNode>, request: &AiRequest) -> Result<AiAnswer, AiError> {
        if request.is_inference() {
            self.check_offer(node, request)?;
        }
        let (status, headers, incoming) = self.ask(node, request).await?;
        let digest = PrefixedDigest::from(node.service.digest()).to_string();
        if headers.value(KEYSET_DIGEST_HEADER).is_some_and(|stated| stated != digest) {
            self.forget(node).await;
            return Err(AiError::OtherExchange("the answer names another keyset than it was sealed by"));
        }
        Ok(AiAnswer::new(self.clone(), Arc::clone(node), request.clone(), status, headers, incoming))
    }

    /// Where models are pinned, the one that is asked for must be offered with such a digest, before the prompt is sent.
    fn check_offer(&self, node: &VerifiedNode, request: &AiRequest) -> Result<(), AiError> {
        if self.shared.settings.models.is_empty() {
            return Ok(());
        }
        let digest = request.model().and_then(|model| node.models.get(&model).copied()).ok_or(AiError::UnknownModel)?;
        self.check_models([digest])
    }

    /// Whether all of these digests may answer.
    pub(super) fn check_models(&self, found: impl IntoIterator<Item = PrefixedDigest>) -> Result<(), AiError> {
        let pinned = &self.shared.settings.models;
        let other = found.into_iter().find(|digest| !pinned.is_empty() && !pinned.contains(digest));
        other.map_or(Ok(()), |found| Err(AiError::Model { found }))
    }

    /// Seals, sends, and reads up to the beginning of the answer.
    async fn ask(&self, node: &VerifiedNode, request: &AiRequest) -> Result<(u16, Fields, Incoming), AiError> {
        let patience = self.shared.settings.patience;
        let (sealed, opening) = seal(&node.seal_key, request, &self.shared.authorization).map_err(AiError::Seal)?;
        let response = node.transport.post(sealed, patience).await?;
        let mut incoming = Incoming::new(response, opening, patience);
        match incoming.part(&node.transport).await? {
            Some(ResponsePart::Start { status, headers }) => Ok((status, headers, incoming)),
            _ => Err(AiError::BadAnswer("an answer without a beginning")),
        }
    }

    /// A document, asked for inside a seal.
    pub(super) async fn fetch(
        &self,
        node: &VerifiedNode,
        request: AiRequest,
        limit: usize,
    ) -> Result<(u16, Vec<u8>), AiError> {
        let (status, _, mut incoming) = self.ask(node, &request).await?;
        let mut body = Vec::new();
        while let Some(part) = incoming.part(&node.transport).await? {
            if let ResponsePart::Body(bytes) = part {
                if body.len() + bytes.len() > limit {
                    return Err(AiError::BadAnswer("a document is larger than it may be"));
                }
                body.extend(bytes);
            }
        }
        Ok((status, body))
    }

    pub(super) fn logs(&self) -> &LogView {
        &self.shared.logs
    }

    pub(super) fn remember(&self, proof: &Arc<Proof>) {
        let mut recent = self.shared.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == RECENT {
            recent.pop_front();
        }
        recent.push_back(Arc::clone(proof));
    }
}
