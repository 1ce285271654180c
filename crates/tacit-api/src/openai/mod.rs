//! The OpenAI-compatible surface: requests as they arrive, answers and errors as clients of that interface expect them.
//!
//! A member that this service does not know is refused, not ignored: it could change what the answer should be.

mod chat;
mod completions;
mod embeddings;
mod error;
mod models;
mod parse;
mod responses;

pub use chat::{
    AssistantToolCall, CalledFunction, ChatChoice, ChatChunk, ChatChunkChoice, ChatCompletion, ChatDelta, ChatLogprobs,
    ChatMessage, ChatRequest, ChatTokenLogprob, ChatTopLogprob, Content, ContentPart, FunctionChunk, FunctionTool,
    JsonSchemaFormat, NamedFunction, ProviderConstraint, RequestMessage, ResponseFormat, StopTexts, StreamOptions,
    ToolCallChunk, ToolChoiceField, ToolDefinition,
};
pub use completions::{CompletionAnswer, CompletionChoice, CompletionLogprobs, CompletionRequest, PromptField};
pub use embeddings::{
    EmbeddingAnswer, EmbeddingItem, EmbeddingRequest, EmbeddingUsage, EmbeddingVector, EncodingFormat,
};
pub use error::{ApiError, ErrorKind};
pub use models::{Model, ModelList};
pub use parse::parse_request;
pub use responses::{
    InputContent, InputItem, InputText, InputTokensDetails, OutputTokensDetails, ResponseAnswer, ResponseContent,
    ResponseEvent, ResponseInput, ResponseOutput, ResponseRequest, ResponseTextFormat, ResponseTextOptions,
    ResponseTool, ResponseUsage,
};

use serde::{Deserialize, Serialize};

/// Most bytes of a request's body.
pub const MAX_REQUEST: usize = 4 << 20;
/// Most messages, inputs or prompts of one request.
pub const MAX_ITEMS: usize = 2_048;
/// Most choices of one request.
pub const MAX_CHOICES: u32 = 8;
/// Most stop texts of one request.
pub const MAX_STOPS: usize = 4;
/// Most tools of one request.
pub const MAX_TOOLS: usize = 128;
/// Most alternatives told for each token.
pub const MAX_TOP_LOGPROBS: u8 = 20;

/// Tokens that a request used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageField {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens of the answer.
    pub completion_tokens: u32,
    /// Both.
    pub total_tokens: u32,
    /// What of the prompt needed no new work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_tokens_details: Option<PromptTokensDetails>,
}

/// What of a prompt needed no new work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptTokensDetails {
    /// Tokens whose work an earlier request of the same key had done.
    pub cached_tokens: u32,
}

impl UsageField {
    /// From counts.
    pub fn new(prompt: u32, cached: u32, completion: u32) -> Self {
        Self {
            prompt_tokens: prompt,
            completion_tokens: completion,
            total_tokens: prompt.saturating_add(completion),
            prompt_tokens_details: Some(PromptTokensDetails { cached_tokens: cached }),
        }
    }
}
