//! An OpenAI-compatible server beside this process, such as vLLM, SGLang or llama-server, inside the same trust boundary.
//!
//! What it is asked stays on this machine: its place is a loopback address or a socket. What it runs is what its model manifest says;
//! that the server was started with those files must be covered by the evidence of the machine.

mod connection;
mod sse;
mod wire;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use rand::RngExt as _;
use serde_json::Value;
use tokio::{sync::mpsc, time::timeout};

use self::{connection::SILENCE, wire::Answer};
pub use self::{
    connection::{Endpoint, EndpointError},
    sse::{SseError, SseParser},
};
use crate::{
    Backend, ChatRequest, CompletionRequest, Embedding, EmbeddingRequest, Event, Generation, InferenceError,
    ModelIdentity, ModelManifest, Prompt, limits, limits::parameter,
};

/// Events on their way to the caller.
const EVENTS: usize = 256;
/// Most bytes of an answer.
const MAX_ANSWER: usize = 64 << 20;
/// Most choices that are asked for.
const MAX_CHOICES: u32 = 64;
/// Tokens of vocabularies that are not known here are at most this.
const VOCABULARY: u32 = 1 << 20;

/// A model that a server beside this process runs.
#[derive(Debug)]
pub struct Upstream {
    identity: ModelIdentity,
    endpoint: Endpoint,
    model: String,
}

impl Upstream {
    /// The model of a manifest that names a server; `created` is the unix second from which it is offered.
    ///
    /// # Errors
    /// [`InferenceError::Engine`] if the manifest names no server, or one that is not on this machine.
    pub fn new(manifest: &ModelManifest, created: u64) -> Result<Self, InferenceError> {
        let failed = |reason: String| InferenceError::Engine(reason);
        let upstream = manifest.upstream.as_ref().ok_or_else(|| failed("the manifest names no server".to_owned()))?;
        let endpoint = upstream.endpoint.parse().map_err(|error: EndpointError| failed(error.to_string()))?;
        let identity = ModelIdentity {
            name: manifest.name.clone(),
            digest: manifest.digest().map_err(|error| failed(error.to_string()))?,
            adapters: manifest.lineage.iter().map(|line| line.adapter).collect(),
            context: manifest.context,
            generates: manifest.embedding.is_none(),
            embedding: manifest.embedding,
            tensors: None,
            created,
            licence: manifest.licence.clone(),
            counted_by_upstream: true,
        };
        Ok(Self { identity, endpoint, model: upstream.model.clone() })
    }

    fn needs(&self, can: bool, what: &'static str) -> Result<(), InferenceError> {
        if can { Ok(()) } else { Err(InferenceError::Unsupported { model: self.identity.name.clone(), what }) }
    }

    async fn stream(&self, path: &str, body: Value, answer: Answer) -> Result<Generation, InferenceError> {
        let response = self.endpoint.post(path, &body).await?;
        let status = response.status().as_u16();
        if status != 200 {
            return Err(InferenceError::Upstream { status });
        }
        let (events, generation) = Generation::new(EVENTS);
        tokio::spawn(async move {
            tokio::select! {
                // Dropping the body closes the connection, by which the server learns of it.
                () = events.closed() => {}
                () = relay(response.into_body(), answer, &events) => {}
            }
        });
        Ok(generation)
    }
}

/// Reads a stream to its end and tells it as events.
async fn relay(mut body: Incoming, mut answer: Answer, events: &mpsc::Sender<Event>) {
    let mut parser = SseParser::default();
    let mut length = 0;
    let failure = loop {
        let piece = match next(&mut body).await {
            Ok(Some(piece)) => piece,
            Ok(None) => break "its stream ended early",
            Err(reason) => break reason,
        };
        length += piece.len();
        if length > MAX_ANSWER {
            break "its answer is too long";
        }
        let Ok(data) = parser.push(&piece) else { break "it sent an event that is too long or no text" };
        let mut told = Vec::new();
        let mut outcome = Ok(false);
        for data in data {
            outcome = answer.read(&data, &mut told);
            if !matches!(outcome, Ok(false)) {
                break;
            }
        }
        for event in told {
            if events.send(event).await.is_err() {
                return;
            }
        }
        match outcome {
            Ok(true) => return,
            Ok(false) => {}
            Err(reason) => break reason,
        }
    };
    let _ = events.send(Event::Failed(InferenceError::Engine(format!("the model's server: {failure}")))).await;
}

/// The next bytes of a body; `None` at its end.
async fn next(body: &mut Incoming) -> Result<Option<Bytes>, &'static str> {
    loop {
        match timeout(SILENCE, body.frame()).await {
            Err(_) => return Err("it is silent"),
            Ok(None) => return Ok(None),
            Ok(Some(Err(_))) => return Err("its connection broke"),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

#[async_trait]
impl Backend for Upstream {
    fn identity(&self) -> &ModelIdentity {
        &self.identity
    }

    async fn chat(&self, request: ChatRequest) -> Result<Generation, InferenceError> {
        self.needs(self.identity.generates, "answer chats")?;
        limits::tools(&request.tools, &request.tool_choice)?;
        limits::format(&request.format)?;
        limits::sampling(&request.sampling, MAX_CHOICES, VOCABULARY)?;
        let seed = request.sampling.seed.unwrap_or_else(|| u64::from(rand::rng().random::<u32>()));
        let body = wire::chat(&self.model, &request, seed)?;
        self.stream("/chat/completions", body, Answer::new(request.sampling.choices, seed, true)).await
    }

    async fn complete(&self, request: CompletionRequest) -> Result<Generation, InferenceError> {
        self.needs(self.identity.generates, "continue texts")?;
        limits::format(&request.format)?;
        limits::sampling(&request.sampling, MAX_CHOICES, VOCABULARY)?;
        let seed = request.sampling.seed.unwrap_or_else(|| u64::from(rand::rng().random::<u32>()));
        let body = wire::completion(&self.model, &request, seed)?;
        self.stream("/completions", body, Answer::new(request.sampling.choices, seed, false)).await
    }

    async fn embed(&self, request: EmbeddingRequest) -> Result<Embedding, InferenceError> {
        let length = self.identity.embedding;
        self.needs(length.is_some(), "make embeddings")?;
        if request.inputs.is_empty()
            || request.inputs.iter().any(|input| matches!(input, Prompt::Text(text) if text.is_empty()))
        {
            return Err(parameter("input", "is empty"));
        }
        let length = request.dimensions.or(length).unwrap_or(0);
        let response = self.endpoint.post("/embeddings", &wire::embedding(&self.model, &request)).await?;
        let status = response.status().as_u16();
        if status != 200 {
            return Err(InferenceError::Upstream { status });
        }
        let failed = |reason: &str| InferenceError::Engine(format!("the model's server: {reason}"));
        let (mut body, mut bytes) = (response.into_body(), Vec::new());
        while let Some(piece) = next(&mut body).await.map_err(failed)? {
            bytes.extend_from_slice(&piece);
            if bytes.len() > MAX_ANSWER {
                return Err(failed("its answer is too long"));
            }
        }
        wire::read_embedding(&bytes, request.inputs.len(), length).map_err(failed)
    }
}
