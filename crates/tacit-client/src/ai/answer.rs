//! An answer as it arrives, and its proof at the end.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use tacit_envelope::{Fields, ResponsePart};
use tacit_receipt::{
    LogProof,
    aci::{AciReceipt, PrefixedDigest, RECEIPT_ID_HEADER},
};
use tacit_types::UnixTime;
use tacit_verify::{
    Report, Verdict,
    aci::{Exchange, TRANSCRIPT_FORMAT, Transcript, TranscriptLog},
};

use super::{
    AiClient, AiError, AiRequest, VerifiedNode,
    client::MAX_DOCUMENT,
    log::origin_of,
    sealing::{MAX_ANSWER, Opening},
    store::{StoredKind, is_plain},
    transport::Transport,
};
use crate::now;

/// How often the receipt of an answer that broke off is asked for: the node notices a moment later than this side.
const TRIES: u32 = 40;
const BETWEEN_TRIES: Duration = Duration::from_millis(100);

/// The sealed answer on its way.
pub(super) struct Incoming {
    response: reqwest::Response,
    opening: Opening,
    patience: Duration,
}

impl Incoming {
    pub(super) fn new(response: reqwest::Response, opening: Opening, patience: Duration) -> Self {
        Self { response, opening, patience }
    }

    /// The next part; none after the proper end.
    pub(super) async fn part(&mut self, transport: &Transport) -> Result<Option<ResponsePart>, AiError> {
        loop {
            if let Some(part) = self.opening.part() {
                return Ok(Some(part));
            }
            if self.opening.is_over() {
                return Ok(None);
            }
            let chunk = tokio::time::timeout(self.patience, self.response.chunk()).await;
            match chunk.map_err(|_| AiError::Silent)?.map_err(|error| transport.unreachable(error))? {
                Some(sealed) => self.opening.push(&sealed).map_err(AiError::Tampered)?,
                None => self.opening.finish().map_err(AiError::Tampered)?,
            }
        }
    }
}

/// What is known about an exchange whose receipt holds.
#[derive(Debug, Clone)]
pub struct Proof {
    /// The receipt.
    pub receipt: AciReceipt,
    /// Its index in the node's log.
    pub log_index: u64,
    /// What was checked.
    pub report: Report,
    /// Whether the hardware is a simulated one, which the policy names.
    pub simulated: bool,
    /// The hardware in words.
    pub hardware: String,
    /// Measurement of the node's code.
    pub measurement: String,
    /// Where the transcript is kept.
    pub stored: Option<PathBuf>,
    /// When it was proven.
    pub at: UnixTime,
}

impl Proof {
    /// The verdict in one word: `verified`, or `simulated` under a simulated root that the policy names.
    pub const fn verdict(&self) -> &'static str {
        if self.simulated { "simulated" } else { "verified" }
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let model = self.receipt.model().unwrap_or("none");
        let inference = self.receipt.inference().map(|inference| {
            let usage = &inference.usage;
            format!(" {} · {}+{} tokens", inference.model_digest, usage.prompt_tokens, usage.completion_tokens)
        });
        format!(
            "{} · model {model}{} · receipt {} in log at {} · worker {} ({})",
            self.verdict().to_ascii_uppercase(),
            inference.unwrap_or_default(),
            self.receipt.id(),
            self.log_index,
            self.measurement,
            self.hardware
        )
    }
}

/// An answer that has begun. Read it with [`AiAnswer::next`] until nothing more comes; [`AiAnswer::finish`] then says whether it
/// counts. Dropped before that, the exchange is given up and its receipt fetched and kept all the same.
pub struct AiAnswer {
    status: u16,
    headers: Fields,
    incoming: Option<Incoming>,
    /// Until it is settled.
    exchange: Option<Ended>,
}

/// An exchange, as much of it as there is.
struct Ended {
    client: AiClient,
    node: Arc<VerifiedNode>,
    request: AiRequest,
    status: u16,
    receipt_id: Option<String>,
    body: Vec<u8>,
    complete: bool,
}

impl AiAnswer {
    pub(super) fn new(
        client: AiClient,
        node: Arc<VerifiedNode>,
        request: AiRequest,
        status: u16,
        headers: Fields,
        incoming: Incoming,
    ) -> Self {
        let receipt_id = headers.value(RECEIPT_ID_HEADER).map(str::to_owned);
        let exchange = Ended { client, node, request, status, receipt_id, body: Vec::new(), complete: false };
        Self { status, headers, incoming: Some(incoming), exchange: Some(exchange) }
    }

    /// The HTTP status.
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// The header fields.
    pub const fn headers(&self) -> &Fields {
        &self.headers
    }

    /// Whether the body is a stream of events.
    pub fn is_stream(&self) -> bool {
        self.headers.value("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"))
    }

    /// The id of the receipt that will be checked, if the node gave one.
    pub fn receipt_id(&self) -> Option<&str> {
        self.headers.value(RECEIPT_ID_HEADER)
    }

    /// The next piece of the body; none at its proper end. Nothing of it is proven yet.
    ///
    /// # Errors
    /// [`AiError::Cut`] when the answer breaks off: its receipt is then kept, if the node gives it.
    pub async fn next(&mut self) -> Result<Option<Bytes>, AiError> {
        let (Some(incoming), Some(exchange)) = (&mut self.incoming, &mut self.exchange) else { return Ok(None) };
        loop {
            match incoming.part(&exchange.node.transport).await {
                Ok(Some(ResponsePart::Body(bytes))) if exchange.body.len() + bytes.len() <= MAX_ANSWER => {
                    exchange.body.extend_from_slice(&bytes);
                    return Ok(Some(bytes.into()));
                }
                Ok(Some(ResponsePart::End(_))) => {}
                Ok(None) => {
                    exchange.complete = true;
                    self.incoming = None;
                    return Ok(None);
                }
                Ok(Some(_)) => return Err(self.cut(AiError::BadAnswer("an answer of another form")).await),
                Err(error) => return Err(self.cut(error).await),
            }
        }
    }

    /// Reads the rest.
    ///
    /// # Errors
    /// As [`AiAnswer::next`].
    pub async fn rest(&mut self) -> Result<Vec<u8>, AiError> {
        let mut body = Vec::new();
        while let Some(piece) = self.next().await? {
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    /// Reads what is left, fetches the receipt and its place in the log, checks both, and keeps the transcript. Nothing for an
    /// answer that needs no receipt: lists, documents, and refusals before any work.
    ///
    /// # Errors
    /// [`AiError::Receipt`], [`AiError::NoReceipt`], [`AiError::OtherExchange`], [`AiError::Model`], [`AiError::Log`]: the answer
    /// does not count. [`AiError::Cut`]. [`AiError::Store`] when it cannot be kept.
    pub async fn finish(mut self) -> Result<Option<Arc<Proof>>, AiError> {
        while self.next().await?.is_some() {}
        match self.exchange.take() {
            Some(exchange) => exchange.settle().await,
            None => Ok(None),
        }
    }

    async fn cut(&mut self, source: AiError) -> AiError {
        self.incoming = None;
        let stored = match self.exchange.take() {
            Some(exchange) => exchange.settle().await.ok().flatten().and_then(|proof| proof.stored.clone()),
            None => None,
        };
        AiError::Cut { source: Box::new(source), stored }
    }
}

impl Drop for AiAnswer {
    fn drop(&mut self) {
        self.incoming = None;
        let (Some(exchange), Ok(runtime)) = (self.exchange.take(), tokio::runtime::Handle::try_current()) else {
            return;
        };
        runtime.spawn(async move {
            if let Err(error) = exchange.settle().await {
                tracing::warn!(%error, "an exchange that was given up has no receipt that holds");
            }
        });
    }
}

impl Ended {
    /// Checks and keeps the receipt. Whatever goes wrong is noted in the store.
    async fn settle(self) -> Result<Option<Arc<Proof>>, AiError> {
        let Some(id) = &self.receipt_id else {
            let must = self.request.is_inference() && (self.status < 400 || !self.complete);
            if must {
                self.note("-", &AiError::NoReceipt)?;
                return Err(AiError::NoReceipt);
            }
            return Ok(None);
        };
        match self.prove(id).await {
            Ok(proof) => {
                let proof = Arc::new(proof);
                self.client.remember(&proof);
                Ok(Some(proof))
            }
            Err(error) => {
                self.note(id, &error)?;
                Err(error)
            }
        }
    }

    fn note(&self, id: &str, error: &AiError) -> Result<(), AiError> {
        match self.client.store() {
            Some(store) => store.write_failure(now(), id, &error.to_string()).map(drop),
            None => Ok(()),
        }
    }

    async fn prove(&self, id: &str) -> Result<Proof, AiError> {
        if !is_plain(id) {
            return Err(AiError::BadAnswer("the receipt's id is not one that can be asked for"));
        }
        let node = &*self.node;
        let receipt = AciReceipt::parse(&self.document(&format!("/v1/aci/receipts/{id}")).await?)?;
        let proof = self.document(&format!("/v1/aci/receipts/{id}/log")).await?;
        let unreadable = AiError::BadAnswer("the receipt's place in the log cannot be read");
        let proof: LogProof = serde_json::from_slice(&proof).map_err(|_| unreadable)?;
        let log = TranscriptLog { origin: origin_of(&proof.checkpoint, node.account)?.to_owned(), proof };
        let at = now();
        // Of an answer that broke off the node may have sent more than has arrived.
        let known = self.complete || PrefixedDigest::of(&self.body) == receipt.returned();
        let response = known.then_some(self.body.as_slice());
        let exchange = Exchange {
            receipt: &receipt,
            request: Some(&self.request.body),
            response,
            session: None,
            pinned: &[],
            log: Some(&log),
        };
        let report = node.service.report_exchange(&exchange, at);
        // Whatever is found: the transcript is evidence of it.
        let stored = self.keep(&receipt, &log, response, at)?;
        if report.verdict != Verdict::Verified {
            return Err(AiError::Receipt(Box::new(report)));
        }
        self.check_subject(id, &receipt)?;
        let checkpoint = log.proof.verify(receipt.digest(), &log.origin, &node.note_key).map_err(AiError::Log)?;
        let note = &log.proof.checkpoint;
        let logs = self.client.logs();
        logs.advance(&node.transport, node.account, &node.note_key, &checkpoint, note).await?;
        Ok(Proof {
            log_index: log.proof.index,
            report,
            simulated: node.is_simulated(),
            hardware: node.hardware(),
            measurement: node.service.evidence().measurement().to_string(),
            stored,
            at,
            receipt,
        })
    }

    /// Whether the receipt is about this exchange in what its hashes do not say.
    fn check_subject(&self, id: &str, receipt: &AciReceipt) -> Result<(), AiError> {
        if receipt.id() != id {
            return Err(AiError::OtherExchange("it has another id than the answer named"));
        }
        if receipt.endpoint() != self.request.path || receipt.method() != self.request.method.name() {
            return Err(AiError::OtherExchange("it names another endpoint"));
        }
        if let Some(asked) = self.request.model()
            && receipt.model() != Some(asked.as_str())
        {
            return Err(AiError::OtherExchange("it names another model than was asked for"));
        }
        let Some(inference) = receipt.inference() else { return Ok(()) };
        self.client.check_models(inference.adapters.iter().copied().chain([inference.model_digest]))
    }

    fn keep(
        &self,
        receipt: &AciReceipt,
        log: &TranscriptLog,
        response: Option<&[u8]>,
        at: UnixTime,
    ) -> Result<Option<PathBuf>, AiError> {
        let Some(store) = self.client.store() else { return Ok(None) };
        let transcript = Transcript {
            format: TRANSCRIPT_FORMAT.to_owned(),
            report: self.node.attestation.clone(),
            nonce: self.node.nonce,
            request: Some(self.request.body.to_vec()),
            response: response.map(<[u8]>::to_vec),
            receipt: receipt.document().clone(),
            log: Some(log.clone()),
            session: None,
            channel: self.node.channel.clone(),
        };
        let kind = if self.complete { StoredKind::Transcript } else { StoredKind::Cut };
        store.write(at, receipt.id(), kind, transcript).map(Some)
    }

    /// A document about this exchange. That of one that broke off is waited for.
    async fn document(&self, path: &str) -> Result<Vec<u8>, AiError> {
        for _ in 0..TRIES {
            match self.client.fetch(&self.node, AiRequest::get(path), MAX_DOCUMENT).await? {
                (200, body) => return Ok(body),
                (404, _) if !self.complete => tokio::time::sleep(BETWEEN_TRIES).await,
                (status, _) => return Err(AiError::Status { status }),
            }
        }
        Err(AiError::NoReceipt)
    }
}
