//! Requests answered: read, checked, given to a model, rendered, and proven.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use tacit_api::openai::{self, ApiError, ErrorKind, Model, ModelList, parse_request};
use tacit_envelope::e2ee::ResponseSealer;
use tacit_inference::{Backend, Event, Generation, InferenceError, Usage};
use tacit_receipt::aci::{AciError, InferenceOutcome, RECEIPT_ID_HEADER, ServingConstraints};
use tacit_types::FunctionId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    accounts::{Accounts, Asker, Credential},
    config::Price,
    convert,
    endpoint::Endpoint,
    exchange::Exchange,
    fields::{self, UsedNonces},
    ids::ExchangeId,
    merged::Merged,
    receipts::Receipts,
    render::{
        ChatRenderer, CompletionRenderer, DONE, Piece, Renderer, ResponseRenderer, Settings, Stamp, embedding_answer,
        frame,
    },
};
use crate::{keys::Keys, metrics::Metrics, time::now, transparency::TransparencyLog};

/// A model on offer.
pub(crate) struct Offer {
    pub backend: Arc<dyn Backend>,
    pub price: Option<Price>,
}

/// What all requests share.
pub(crate) struct Service {
    pub keys: Arc<Keys>,
    pub models: BTreeMap<String, Offer>,
    pub accounts: Accounts,
    pub receipts: Receipts,
    pub log: TransparencyLog,
    pub metrics: Arc<Metrics>,
    /// Requests that may be under way at the same time.
    pub places: Arc<Semaphore>,
    pub nonces: UsedNonces,
}

/// A request, whichever way it came.
pub(crate) struct Ask {
    pub endpoint: Endpoint,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// An answer, whichever way it goes.
pub(crate) struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: ReplyBody,
    /// The receipt, where the body is whole.
    pub receipt: Option<Value>,
}

/// An answer's body.
pub(crate) enum ReplyBody {
    Whole(Bytes),
    Stream(BoxStream<'static, Bytes>),
}

impl Reply {
    fn new(status: u16, content_type: &'static str, body: ReplyBody) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, headers, body, receipt: None }
    }

    /// An error.
    pub fn error(error: &ApiError) -> Self {
        let mut reply = Self::new(error.kind.status(), "application/json", ReplyBody::Whole(error.to_json().into()));
        if let Some(seconds) = error.retry_after {
            reply.headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        reply
    }

    fn with(mut self, headers: &[(&'static str, &'static str)]) -> Self {
        for (name, value) in headers {
            self.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        self
    }

    fn proven(mut self, id: ExchangeId, receipt: Value) -> Self {
        self.receipt = Some(receipt);
        self.with_receipt(id)
    }

    fn with_receipt(mut self, id: ExchangeId) -> Self {
        if let Ok(value) = HeaderValue::try_from(id.receipt()) {
            self.headers.insert(HeaderName::from_static(RECEIPT_ID_HEADER), value);
        }
        self
    }
}

/// A request as it is read.
struct Request<'a> {
    id: ExchangeId,
    asker: Asker,
    endpoint: Endpoint,
    /// What the model works on.
    body: &'a Value,
    /// The same in the bytes that the receipt names.
    bytes: &'a [u8],
}

/// What a model does for a request.
enum Work {
    Generate { renderer: Box<dyn Renderer>, events: Merged, stream: bool, padded: bool },
    Whole { body: Value, usage: Usage },
}

/// Work, and who seals its answer.
struct Answering {
    work: Work,
    sealer: Option<ResponseSealer>,
}

impl Service {
    /// The models on offer.
    pub fn models(&self) -> ModelList {
        let model = |(name, offer): (&String, &Offer)| {
            let identity = offer.backend.identity();
            Model {
                id: name.clone(),
                object: "model".into(),
                created: identity.created,
                owned_by: "tacit".into(),
                digest: format!("sha256:{}", hex::encode(identity.digest.as_bytes())),
                licence: identity.licence.clone(),
                generates: identity.generates,
                context_length: identity.context,
            }
        };
        ModelList { object: "list".into(), data: self.models.iter().map(model).collect() }
    }

    /// Who asks.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`].
    pub fn authenticate(&self, headers: &HeaderMap) -> Result<Credential, ApiError> {
        self.accounts.authenticate(headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()))
    }

    /// Answers a request.
    pub async fn answer(self: &Arc<Self>, ask: Ask) -> Reply {
        match self.authenticate(&ask.headers) {
            Ok(credential) => self.answer_to(Asker::Key(credential), ask).await,
            Err(error) => Reply::error(&error),
        }
    }

    /// Answers a function that runs here.
    pub async fn answer_function(self: &Arc<Self>, function: FunctionId, endpoint: Endpoint, body: Bytes) -> Reply {
        self.answer_to(Asker::Function(function), Ask { endpoint, headers: HeaderMap::new(), body }).await
    }

    async fn answer_to(self: &Arc<Self>, asker: Asker, ask: Ask) -> Reply {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return Reply::error(&ApiError::new(ErrorKind::Busy, "too many requests").retry_after(1));
        };
        let id = ExchangeId::generate(now());
        let mut exchange = Exchange::begin(self, id, asker, ask.endpoint, &ask.body);
        match self.read(&mut exchange, id, asker, &ask).await {
            Ok(Answering { work: Work::Generate { renderer, events, stream: true, padded }, sealer }) => {
                let headers = sealer.as_ref().map(ResponseSealer::headers).unwrap_or_default();
                let streaming = Streaming::new(exchange, renderer, events, padded, sealer, place);
                let body = ReplyBody::Stream(streaming.into_stream());
                Reply::new(200, "text/event-stream; charset=utf-8", body).with(&headers).with_receipt(id)
            }
            Ok(Answering { work: Work::Generate { renderer, events, .. }, sealer }) => {
                match collect(&mut exchange, renderer, events).await {
                    Ok(body) => whole(exchange, id, body, sealer).await,
                    Err(error) => refused(exchange, id, &error, InferenceOutcome::Failed).await,
                }
            }
            Ok(Answering { work: Work::Whole { body, usage }, sealer }) => {
                exchange.uses(usage);
                whole(exchange, id, body, sealer).await
            }
            Err(error) => refused(exchange, id, &error, InferenceOutcome::Refused).await,
        }
    }

    async fn read(
        &self,
        exchange: &mut Exchange,
        id: ExchangeId,
        asker: Asker,
        ask: &Ask,
    ) -> Result<Answering, ApiError> {
        let time = now();
        let opened = fields::open(&self.keys.ai.e2ee, &self.nonces, ask.endpoint, &ask.headers, &ask.body, time)?;
        let (body, bytes, sealer) = match opened {
            Some(opened) => (opened.body, Bytes::from(opened.bytes), Some(opened.sealer)),
            None => (read(&ask.body)?, ask.body.clone(), None),
        };
        exchange.opened(&bytes);
        if let Some(Value::String(model)) = body.get("model") {
            exchange.asks_for(model);
        }
        self.accounts.admit(asker, time)?;
        if matches!(asker, Asker::Function(_)) && body.get("stream").is_some_and(|stream| stream != &Value::Bool(false))
        {
            return Err(ApiError::new(ErrorKind::Invalid, "a function is given whole answers").at("stream"));
        }
        constraints(&body)?;
        let request = Request { id, asker, endpoint: ask.endpoint, body: &body, bytes: &bytes };
        let work = match ask.endpoint {
            Endpoint::Chat => self.chat(exchange, &request).await,
            Endpoint::Completions => self.complete(exchange, &request).await,
            Endpoint::Responses => self.respond(exchange, &request).await,
            Endpoint::Embeddings => self.embed(exchange, &request).await,
        }?;
        Ok(Answering { work, sealer })
    }

    fn offer(&self, model: &str) -> Result<&Offer, ApiError> {
        self.models.get(model).ok_or_else(|| {
            ApiError::new(ErrorKind::UnknownModel, "the model is not offered here; see /v1/models").at("model")
        })
    }

    async fn chat(&self, exchange: &mut Exchange, asked: &Request<'_>) -> Result<Work, ApiError> {
        let request: openai::ChatRequest = parse_request(asked.body)?;
        let offer = self.offer(&request.model)?;
        let options = request.stream_options.unwrap_or_default();
        let stream = request.stream.unwrap_or(false);
        let mut chat = convert::chat(request)?;
        chat.reuse_group = Some(asked.asker.credential().reuse_group());
        let stamp = self.stamp(exchange, asked, offer, &chat.sampling, &chat.format);
        let renderer = ChatRenderer::new(
            stamp,
            chat.sampling.choices,
            chat.sampling.logprobs.is_some(),
            stream && options.include_usage.unwrap_or(false),
        );
        let generation = offer.backend.chat(chat).await.map_err(|error| convert::backend_error(&error))?;
        let padded = options.include_obfuscation.unwrap_or(true);
        Ok(Work::Generate { renderer: Box::new(renderer), events: Merged::one(generation), stream, padded })
    }

    async fn complete(&self, exchange: &mut Exchange, asked: &Request<'_>) -> Result<Work, ApiError> {
        let request: openai::CompletionRequest = parse_request(asked.body)?;
        let offer = self.offer(&request.model)?;
        let options = request.stream_options.unwrap_or_default();
        let stream = request.stream.unwrap_or(false);
        let requests = convert::completions(request)?;
        let Some(first) = requests.first() else { return Err(ApiError::new(ErrorKind::Invalid, "no prompt")) };
        let (each, with_logprobs) = (first.sampling.choices, first.sampling.logprobs.is_some());
        let stamp = self.stamp(exchange, asked, offer, &first.sampling, &first.format);
        let mut generations: Vec<Generation> = Vec::with_capacity(requests.len());
        let count = u32::try_from(requests.len()).unwrap_or(u32::MAX);
        for mut request in requests {
            request.reuse_group = Some(asked.asker.credential().reuse_group());
            generations.push(offer.backend.complete(request).await.map_err(|error| convert::backend_error(&error))?);
        }
        let with_usage = stream && options.include_usage.unwrap_or(false);
        let renderer = CompletionRenderer::new(stamp, each.saturating_mul(count), with_logprobs, with_usage);
        let padded = options.include_obfuscation.unwrap_or(true);
        let events = Merged::several(generations, each);
        Ok(Work::Generate { renderer: Box::new(renderer), events, stream, padded })
    }

    async fn respond(&self, exchange: &mut Exchange, asked: &Request<'_>) -> Result<Work, ApiError> {
        let request: openai::ResponseRequest = parse_request(asked.body)?;
        let offer = self.offer(&request.model)?;
        let stream = request.stream.unwrap_or(false);
        let settings = Settings {
            instructions: request.instructions.clone(),
            max_output_tokens: request.max_output_tokens,
            parallel_tool_calls: request.parallel_tool_calls.unwrap_or(true),
            temperature: request.temperature.unwrap_or(1.0),
            top_p: request.top_p.unwrap_or(1.0),
            tool_choice: request.tool_choice.clone().unwrap_or_else(|| json!("auto")),
            tools: request.tools.clone().unwrap_or_default(),
            metadata: request.metadata.clone().unwrap_or_default(),
        };
        let mut chat = convert::response(request)?;
        chat.reuse_group = Some(asked.asker.credential().reuse_group());
        let stamp = self.stamp(exchange, asked, offer, &chat.sampling, &chat.format);
        let generation = offer.backend.chat(chat).await.map_err(|error| convert::backend_error(&error))?;
        let renderer = Box::new(ResponseRenderer::new(stamp, settings));
        Ok(Work::Generate { renderer, events: Merged::one(generation), stream, padded: true })
    }

    async fn embed(&self, exchange: &mut Exchange, asked: &Request<'_>) -> Result<Work, ApiError> {
        let request: openai::EmbeddingRequest = parse_request(asked.body)?;
        let offer = self.offer(&request.model)?;
        let (model, format) = (request.model.clone(), request.encoding_format.unwrap_or_default());
        let dimensions = request.dimensions.map_or_else(|| "null".to_owned(), |length| length.to_string());
        let parameters = tacit_receipt::aci::sampling_hash([("dimensions", dimensions.as_str())]);
        let identity = offer.backend.identity();
        exchange.runs(identity, parameters, offer.price.clone(), asked.bytes, None);
        let embedding = offer.backend.embed(convert::embeddings(request)?).await;
        let embedding = embedding.map_err(|error| convert::backend_error(&error))?;
        let usage = Usage { prompt_tokens: embedding.prompt_tokens, ..Usage::default() };
        let body = embedding_answer(embedding, model, format)
            .map_err(|_| ApiError::new(ErrorKind::Internal, "the answer cannot be written"))?;
        Ok(Work::Whole { body, usage })
    }

    /// Notes that a model runs, and gives what its answer's pieces say alike.
    fn stamp(
        &self,
        exchange: &mut Exchange,
        asked: &Request<'_>,
        offer: &Offer,
        sampling: &tacit_inference::Sampling,
        format: &tacit_inference::OutputFormat,
    ) -> Stamp {
        let name = asked.id.named(asked.endpoint.prefix().unwrap_or_default());
        let identity = offer.backend.identity();
        let sampling = convert::sampling_hash(sampling, format);
        exchange.runs(identity, sampling, offer.price.clone(), asked.bytes, Some(name.clone()));
        Stamp::new(name, now().0, identity)
    }
}

/// Reads a body as JSON.
fn read(body: &[u8]) -> Result<Value, ApiError> {
    let text = std::str::from_utf8(body).map_err(|_| ApiError::new(ErrorKind::Invalid, "the body is not UTF-8"))?;
    // Serde's text would quote the body.
    serde_json::from_str(text).map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        ApiError::new(ErrorKind::Invalid, format!("the body is not JSON, or nested too deeply ({place})"))
    })
}

/// A service that runs its models itself satisfies every demand for a verified upstream, and has no session to name.
fn constraints(body: &Value) -> Result<(), ApiError> {
    let Value::Object(members) = body else { return Ok(()) };
    if !members.contains_key("provider") {
        return Ok(());
    }
    let taken = ServingConstraints::take(&mut members.clone()).map_err(|error| {
        let message = match error {
            AciError::Constraint(what) => what,
            _ => "the constraint cannot be read",
        };
        ApiError::new(ErrorKind::Invalid, message).at("provider")
    })?;
    match taken {
        Some(constraints) if !constraints.sessions.is_empty() => {
            let message = "this service runs its models itself and has no sessions with others";
            Err(ApiError::new(ErrorKind::SessionNotAccepted, message).at("provider.aci_session_ids"))
        }
        _ => Ok(()),
    }
}

async fn collect(
    exchange: &mut Exchange,
    mut renderer: Box<dyn Renderer>,
    mut events: Merged,
) -> Result<Value, ApiError> {
    loop {
        match events.next().await {
            Some(Event::Used(usage)) => exchange.uses(usage),
            Some(Event::Done(usage)) => {
                exchange.uses(usage);
                let whole = renderer.whole(usage);
                return whole.map_err(|_| ApiError::new(ErrorKind::Internal, "the answer cannot be written"));
            }
            Some(Event::Failed(error)) => return Err(convert::backend_error(&error)),
            Some(event) => drop(renderer.pieces(event)),
            None => return Err(convert::backend_error(&InferenceError::Engine(String::new()))),
        }
    }
}

async fn whole(mut exchange: Exchange, id: ExchangeId, mut body: Value, sealer: Option<ResponseSealer>) -> Reply {
    let mut headers = Vec::new();
    if let Some(sealer) = sealer {
        if let Err(error) = fields::seal(&sealer, &mut body) {
            return refused(exchange, id, &error, InferenceOutcome::Failed).await;
        }
        headers = sealer.headers();
    }
    let bytes = Bytes::from(body.to_string());
    exchange.sends(&bytes);
    match exchange.end(InferenceOutcome::Ok).await {
        Ok(receipt) => Reply::new(200, "application/json", ReplyBody::Whole(bytes)).with(&headers).proven(id, receipt),
        Err(error) => Reply::error(&error),
    }
}

async fn refused(mut exchange: Exchange, id: ExchangeId, error: &ApiError, outcome: InferenceOutcome) -> Reply {
    exchange.sends(&error.to_json());
    match exchange.end(outcome).await {
        Ok(receipt) => Reply::error(error).proven(id, receipt),
        Err(error) => Reply::error(&error),
    }
}

/// A stream under way.
struct Streaming {
    /// Until its end.
    exchange: Option<Exchange>,
    renderer: Box<dyn Renderer>,
    events: Merged,
    padded: bool,
    sealer: Option<ResponseSealer>,
    ready: VecDeque<Bytes>,
    _place: OwnedSemaphorePermit,
}

impl Streaming {
    fn new(
        exchange: Exchange,
        mut renderer: Box<dyn Renderer>,
        events: Merged,
        padded: bool,
        sealer: Option<ResponseSealer>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let opening = renderer.opening();
        let mut streaming =
            Self { exchange: Some(exchange), renderer, events, padded, sealer, ready: VecDeque::new(), _place: place };
        // A piece that cannot be sealed is none: what follows meets the same failure and says it.
        let _ = streaming.queue(opening);
        streaming
    }

    fn queue(&mut self, pieces: Vec<Piece>) -> Result<(), ApiError> {
        for mut piece in pieces {
            if let Some(sealer) = &self.sealer {
                fields::seal(sealer, &mut piece.data)?;
            }
            self.ready.push_back(frame(&piece, self.padded).into());
        }
        Ok(())
    }

    fn into_stream(self) -> BoxStream<'static, Bytes> {
        futures::stream::unfold(self, |mut streaming| async move {
            let bytes = streaming.next().await?;
            Some((bytes, streaming))
        })
        .boxed()
    }

    /// The next bytes. The last ones are given only when the receipt over all of them is kept.
    async fn next(&mut self) -> Option<Bytes> {
        while self.ready.is_empty() {
            self.exchange.as_ref()?;
            let queued = match self.events.next().await {
                Some(Event::Used(usage)) => {
                    self.uses(usage);
                    Ok(())
                }
                Some(Event::Done(usage)) => {
                    self.uses(usage);
                    let last = self.renderer.closing(usage);
                    return match self.queue(last) {
                        Ok(()) => self.finish(InferenceOutcome::Ok, None).await,
                        Err(error) => self.finish(InferenceOutcome::Failed, Some(error)).await,
                    };
                }
                Some(Event::Failed(error)) => Err(convert::backend_error(&error)),
                Some(event) => {
                    let pieces = self.renderer.pieces(event);
                    self.queue(pieces)
                }
                None => Err(convert::backend_error(&InferenceError::Engine(String::new()))),
            };
            if let Err(error) = queued {
                return self.finish(InferenceOutcome::Failed, Some(error)).await;
            }
        }
        let bytes = self.ready.pop_front()?;
        if let Some(exchange) = &mut self.exchange {
            exchange.sends(&bytes);
        }
        Some(bytes)
    }

    fn uses(&mut self, usage: Usage) {
        if let Some(exchange) = &mut self.exchange {
            exchange.uses(usage);
        }
    }

    /// Everything that is left, in one piece, after the receipt over it is kept.
    async fn finish(&mut self, outcome: InferenceOutcome, error: Option<ApiError>) -> Option<Bytes> {
        let mut exchange = self.exchange.take()?;
        let mut rest: Vec<u8> = self.ready.drain(..).flatten().collect();
        if let Some(error) = error {
            rest.extend(error_frame(&error));
        } else if self.renderer.ends_with_done() {
            rest.extend(DONE);
        }
        exchange.sends(&rest);
        match exchange.end(outcome).await {
            Ok(_) => Some(rest.into()),
            // Without the proof the stream ends as a failed one does.
            Err(error) => Some(error_frame(&error).into()),
        }
    }
}

fn error_frame(error: &ApiError) -> Vec<u8> {
    let mut frame = b"data: ".to_vec();
    frame.extend(error.to_json());
    frame.extend_from_slice(b"\n\n");
    frame
}
