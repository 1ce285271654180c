#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod backend;
mod request;

pub use backend::{
    Backend, Embedding, Event, FinishReason, Generation, InferenceError, ModelIdentity, TokenLogprob, ToolCallDelta,
    Usage,
};
pub use request::{
    ChatRequest, CompletionRequest, EmbeddingRequest, Message, OutputFormat, Prompt, Role, Sampling, Tool, ToolCall,
    ToolChoice,
};
