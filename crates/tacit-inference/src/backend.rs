//! The one interface of model backends.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tacit_types::Digest;
use tokio::sync::mpsc;

use crate::{
    request::{ChatRequest, CompletionRequest, EmbeddingRequest},
    tensors::{TensorAnswer, TensorInterface, TensorRequest},
};

/// What a backend runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelIdentity {
    /// Name under which clients ask for it.
    pub name: String,
    /// Digest of the model's manifest, which stands in every receipt.
    pub digest: Digest,
    /// Digests of the adapters in use, in the order in which they are applied.
    pub adapters: Vec<Digest>,
    /// Tokens that prompt and answer may have together.
    pub context: u32,
    /// Whether it answers chats and completions.
    pub generates: bool,
    /// Whether it makes embeddings, and of what length.
    pub embedding: Option<u32>,
    /// What tensors it takes and gives, if it runs tensors.
    #[serde(default)]
    pub tensors: Option<TensorInterface>,
    /// Unix second from which it was offered.
    pub created: u64,
    /// SPDX identifier of the model's licence.
    pub licence: String,
    /// Whether counts of tokens are those that an upstream server reports, since its tokenizer is not known here.
    pub counted_by_upstream: bool,
}

/// Answers for one model. Shared by all requests.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// What it runs.
    fn identity(&self) -> &ModelIdentity;

    /// Continues a conversation.
    ///
    /// # Errors
    /// [`InferenceError`], before the first token; later failures arrive as [`Event::Failed`].
    async fn chat(&self, request: ChatRequest) -> Result<Generation, InferenceError>;

    /// Continues a text.
    ///
    /// # Errors
    /// As [`Backend::chat`].
    async fn complete(&self, request: CompletionRequest) -> Result<Generation, InferenceError>;

    /// Embeds texts.
    ///
    /// # Errors
    /// [`InferenceError`].
    async fn embed(&self, request: EmbeddingRequest) -> Result<Embedding, InferenceError>;

    /// Runs tensors through the model. A backend that says nothing of it runs none.
    ///
    /// # Errors
    /// [`InferenceError::Unsupported`] where [`ModelIdentity::tensors`] is empty; [`InferenceError::Parameter`] with an input's name.
    async fn run(&self, request: TensorRequest) -> Result<TensorAnswer, InferenceError> {
        drop(request);
        Err(InferenceError::Unsupported { model: self.identity().name.clone(), what: "run tensors" })
    }
}

/// A running generation. Dropping it cancels it: its slot is free within a token.
#[derive(Debug)]
pub struct Generation {
    events: mpsc::Receiver<Event>,
}

impl Generation {
    /// A generation, and where its backend sends what happens. The backend ends when sending fails.
    pub fn new(capacity: usize) -> (mpsc::Sender<Event>, Self) {
        let (sender, events) = mpsc::channel(capacity);
        (sender, Self { events })
    }

    /// The next event; `None` after [`Event::Done`] or [`Event::Failed`].
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}

/// Something that happens in a generation. For each choice: texts and tool calls, then one finish; at last one end of all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// More text of a choice, of whole characters.
    Text {
        /// Which choice.
        choice: u32,
        /// The text; may be empty where only probabilities are told.
        text: String,
        /// Probabilities of its tokens, if asked for.
        logprobs: Vec<TokenLogprob>,
    },
    /// More of a tool call.
    ToolCall {
        /// Which choice.
        choice: u32,
        /// What is new.
        delta: ToolCallDelta,
    },
    /// A choice is complete.
    Finished {
        /// Which choice.
        choice: u32,
        /// Why.
        reason: FinishReason,
    },
    /// What was used so far, before what that work brought: also a generation that is given up is counted. An upstream server
    /// that counts only at its end tells none.
    Used(Usage),
    /// All choices are complete.
    Done(Usage),
    /// The backend failed; nothing follows.
    Failed(InferenceError),
}

/// A piece of a tool call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCallDelta {
    /// Which call of the choice.
    pub index: u32,
    /// Name of the call, in its first piece.
    pub id: Option<String>,
    /// The tool's name, in its first piece.
    pub name: Option<String>,
    /// More of the arguments' JSON text.
    pub arguments: String,
}

/// Why a choice ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FinishReason {
    /// The model ended, or a stop text came.
    Stop,
    /// The most tokens were generated, or the context is full.
    Length,
    /// Tools are to be called.
    ToolCalls,
}

/// A token with its natural-logarithmic probability, and the likeliest alternatives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprob {
    /// The token's bytes; not always whole characters.
    pub bytes: Vec<u8>,
    /// Its probability's logarithm.
    pub logprob: f32,
    /// The likeliest tokens at this place, likeliest first.
    pub top: Vec<(Vec<u8>, f32)>,
}

/// What a generation used. Counted by this code, unless [`ModelIdentity::counted_by_upstream`] says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Of those, tokens whose work an earlier request had done.
    pub cached_tokens: u32,
    /// Tokens that were generated, in all choices.
    pub completion_tokens: u32,
    /// The seed that was used.
    pub seed: u64,
}

/// Vectors, and what they cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Embedding {
    /// One for each input, of unit length.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of all inputs.
    pub prompt_tokens: u32,
}

/// Why a backend did not answer. Texts never quote a prompt or an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
#[non_exhaustive]
pub enum InferenceError {
    /// Prompt and asked-for answer do not fit.
    #[error("this model's context is {limit} tokens; the request needs {needed} ({prompt} of the prompt)")]
    ContextLength {
        /// Tokens of the context.
        limit: u32,
        /// Tokens of the prompt.
        prompt: u32,
        /// Tokens that prompt and answer need.
        needed: u32,
    },
    /// A parameter is not usable.
    #[error("{parameter}: {reason}")]
    Parameter {
        /// Which, as the request's field path.
        parameter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The model cannot do this.
    #[error("{model} does not {what}")]
    Unsupported {
        /// The model.
        model: String,
        /// For example "make embeddings".
        what: &'static str,
    },
    /// Too many requests wait.
    #[error("the model is busy: {waiting} requests wait")]
    Busy {
        /// How many.
        waiting: usize,
    },
    /// The engine failed or ended.
    #[error("the model's engine failed: {0}")]
    Engine(String),
    /// An upstream server refused or could not be reached.
    #[error("the model's server answered {status}")]
    Upstream {
        /// Its HTTP status; 0 if it could not be reached.
        status: u16,
    },
}
