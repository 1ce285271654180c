#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod backend;
pub mod fuzz;
pub mod gguf;
mod limits;
mod llama;
pub mod manifest;
mod oblivious;
pub mod onnx;
pub mod process;
mod request;
pub mod store;
mod template;
pub mod tensors;
mod text;
pub mod upstream;

pub use backend::{
    Backend, Embedding, Event, FinishReason, Generation, InferenceError, ModelIdentity, TokenLogprob, ToolCallDelta,
    Usage,
};
pub use llama::{EngineSettings, LlamaCpp};
pub use manifest::ModelManifest;
pub use onnx::OnnxModel;
pub use process::ModelProcess;
pub use request::{
    ChatRequest, CompletionRequest, EmbeddingRequest, Message, OutputFormat, Prompt, Role, Sampling, Tool, ToolCall,
    ToolChoice,
};
pub use store::ModelStore;
pub use tensors::{Dimension, Element, NamedTensor, TensorAnswer, TensorInterface, TensorKind, TensorRequest};
pub use upstream::Upstream;
