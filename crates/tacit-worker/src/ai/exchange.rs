//! One request from its first byte to its receipt. However it ends, it ends with one: answered, refused, failed, or given up
//! by the client.

use std::sync::Arc;

use serde_json::Value;
use tacit_api::openai::{ApiError, ErrorKind};
use tacit_inference::{ModelIdentity, Usage};
use tacit_receipt::aci::{
    BodyHash, Event, InferenceEvent, InferenceOutcome, PrefixedDigest, Price as ReceiptPrice, ReceiptDraft, TokenUsage,
};
use tacit_types::{Digest, keyset::ACI_KEY_ID};

use super::{accounts::Asker, endpoint::Endpoint, ids::ExchangeId, receipts::Kept, service::Service};
use crate::time::now;

/// An exchange under way. Dropping it before its end is what a client that goes away does: its receipt then covers the bytes
/// that were handed to the connection.
pub(crate) struct Exchange {
    service: Arc<Service>,
    draft: Option<Draft>,
}

struct Draft {
    id: ExchangeId,
    asker: Asker,
    endpoint: Endpoint,
    received: PrefixedDigest,
    chat_id: Option<String>,
    model: Option<String>,
    run: Option<Run>,
    returned: BodyHash,
    usage: Usage,
}

struct Run {
    model: Digest,
    adapters: Vec<Digest>,
    sampling: PrefixedDigest,
    price: Option<super::config::Price>,
    forwarded: PrefixedDigest,
}

impl Exchange {
    /// An exchange whose request was this body.
    pub fn begin(service: &Arc<Service>, id: ExchangeId, asker: Asker, endpoint: Endpoint, body: &[u8]) -> Self {
        let draft = Draft {
            id,
            asker,
            endpoint,
            received: PrefixedDigest::of(body),
            chat_id: None,
            model: None,
            run: None,
            returned: BodyHash::new(),
            usage: Usage::default(),
        };
        Self { service: Arc::clone(service), draft: Some(draft) }
    }

    /// What was inside the seal of single fields: from here on this is the request.
    pub fn opened(&mut self, body: &[u8]) {
        self.with(|draft| draft.received = PrefixedDigest::of(body));
    }

    /// The model that is asked for.
    pub fn asks_for(&mut self, model: &str) {
        self.with(|draft| draft.model = Some(model.chars().take(256).collect()));
    }

    /// A model begins to work on these bytes.
    pub fn runs(
        &mut self,
        model: &ModelIdentity,
        sampling: PrefixedDigest,
        price: Option<super::config::Price>,
        body: &[u8],
        chat_id: Option<String>,
    ) {
        let run = Run {
            model: model.digest,
            adapters: model.adapters.clone(),
            sampling,
            price,
            forwarded: PrefixedDigest::of(body),
        };
        self.with(|draft| (draft.run, draft.chat_id) = (Some(run), chat_id));
    }

    /// What the model has used so far.
    pub fn uses(&mut self, usage: Usage) {
        self.with(|draft| draft.usage = usage);
    }

    /// Bytes that go to the client now.
    pub fn sends(&mut self, bytes: &[u8]) {
        self.with(|draft| draft.returned.update(bytes));
    }

    /// Ends it. When this returns the receipt, that is in the log and on the disk.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when it could not be kept: then nothing may be said to be proven.
    pub async fn end(mut self, outcome: InferenceOutcome) -> Result<Value, ApiError> {
        match self.draft.take() {
            Some(draft) => settle(&self.service, draft, outcome).await,
            None => Err(ApiError::new(ErrorKind::Internal, "the exchange has ended before")),
        }
    }

    fn with(&mut self, change: impl FnOnce(&mut Draft)) {
        if let Some(draft) = &mut self.draft {
            change(draft);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let Some(draft) = self.draft.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let service = Arc::clone(&self.service);
        runtime.spawn(async move { settle(&service, draft, InferenceOutcome::Cancelled).await.map(drop) });
    }
}

async fn settle(service: &Service, draft: Draft, outcome: InferenceOutcome) -> Result<Value, ApiError> {
    let failed = |what: &str| {
        tracing::error!("{what}: an exchange ends without a receipt");
        Err(ApiError::new(ErrorKind::Internal, "the receipt could not be kept"))
    };
    let (time, usage) = (now(), draft.usage);
    let mut events = vec![Event::RequestReceived(draft.received)];
    if let Some(run) = draft.run {
        events.push(Event::RequestForwarded(run.forwarded));
        let price = run.price.map(|price| ReceiptPrice {
            amount: price.of(usage.prompt_tokens, usage.completion_tokens).to_string(),
            currency: price.currency,
        });
        events.push(Event::Inference(InferenceEvent {
            model_digest: run.model.into(),
            adapters: run.adapters.into_iter().map(Into::into).collect(),
            sampling_hash: run.sampling,
            seed: Some(usage.seed),
            usage: TokenUsage {
                prompt_tokens: usage.prompt_tokens.into(),
                cached_tokens: usage.cached_tokens.into(),
                completion_tokens: usage.completion_tokens.into(),
            },
            price,
            outcome,
        }));
        service.metrics.inferences_total.add(1);
        service.metrics.prompt_tokens_total.add(usage.prompt_tokens.into());
        service.metrics.completion_tokens_total.add(usage.completion_tokens.into());
        if outcome == InferenceOutcome::Cancelled {
            service.metrics.inferences_cancelled_total.add(1);
        }
    }
    events.push(Event::ResponseReturned(draft.returned.finish()));
    service.accounts.charge(draft.asker, usage.prompt_tokens.saturating_add(usage.completion_tokens), time);
    let receipt = ReceiptDraft {
        receipt_id: draft.id.receipt(),
        chat_id: draft.chat_id,
        model: draft.model,
        keyset: service.keys.digest,
        endpoint: draft.endpoint.path().to_owned(),
        method: "POST".to_owned(),
        served_at: time,
        events,
    };
    let Ok(receipt) = receipt.sign(ACI_KEY_ID, &service.keys.ai.receipt) else {
        return failed("a receipt could not be signed");
    };
    let Some(proof) = service.log.append(receipt.digest()).await else {
        return failed("the transparency log took no receipt");
    };
    let kept = Kept::new(draft.asker.credential(), receipt.document().clone(), Some(proof));
    match service.receipts.keep(draft.id, kept).await {
        Ok(()) => Ok(receipt.document().clone()),
        Err(error) => failed(&format!("the receipts' folder: {error}")),
    }
}
