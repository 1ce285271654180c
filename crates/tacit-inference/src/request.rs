//! What a backend is asked, free of any wire format.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tacit_types::Digest;

/// Who speaks in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Instructions of the application (`system` and `developer`).
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
}

/// A tool call that a model made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Name of the call, which its result cites.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// Arguments as JSON text, as the model wrote them.
    pub arguments: String,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What was said; empty where only tools are called.
    pub content: String,
    /// Tool calls of an assistant's message.
    pub tool_calls: Vec<ToolCall>,
    /// The call that a tool's message answers.
    pub tool_call_id: Option<String>,
}

/// A tool that the model may call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: Option<String>,
    /// JSON Schema of its arguments.
    pub parameters: Value,
}

/// Whether the model may, must or must not call a tool.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ToolChoice {
    /// The model decides.
    #[default]
    Auto,
    /// No tool is called.
    None,
    /// Some tool is called.
    Required,
    /// This tool is called.
    Named(String),
}

/// What the output must look like.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub enum OutputFormat {
    /// Any text.
    #[default]
    Text,
    /// One JSON object.
    JsonObject,
    /// JSON that this JSON Schema allows.
    JsonSchema(Value),
    /// Text that this GBNF grammar derives.
    Grammar(String),
}

/// How tokens are chosen, and when to stop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// Most tokens to generate for one choice; as many as fit without it.
    pub max_tokens: Option<u32>,
    /// 0 takes the likeliest token.
    pub temperature: f32,
    /// Tokens of the likeliest whose probabilities add up to this.
    pub top_p: f32,
    /// Tokens at least this likely, relative to the likeliest; 0 switches it off.
    pub min_p: f32,
    /// The likeliest tokens only; 0 switches it off.
    pub top_k: u32,
    /// Subtracted once from the logit of what has occurred.
    pub presence_penalty: f32,
    /// Subtracted per occurrence.
    pub frequency_penalty: f32,
    /// Added to the logits of these tokens.
    pub logit_bias: BTreeMap<u32, f32>,
    /// Seed of the choice; drawn by the backend without it, and reported in [`crate::Usage`].
    pub seed: Option<u64>,
    /// Generation ends before any of these.
    pub stop: Vec<String>,
    /// How many alternatives to report for each token; no probabilities without it.
    pub logprobs: Option<u8>,
    /// How many answers to give.
    pub choices: u32,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            max_tokens: None,
            temperature: 1.0,
            top_p: 1.0,
            min_p: 0.0,
            top_k: 0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: BTreeMap::new(),
            seed: None,
            stop: Vec::new(),
            logprobs: None,
            choices: 1,
        }
    }
}

/// A conversation to continue.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ChatRequest {
    /// The conversation so far.
    pub messages: Vec<Message>,
    /// Tools on offer.
    pub tools: Vec<Tool>,
    /// Whether to call one.
    pub tool_choice: ToolChoice,
    /// Whether several tools may be called in one answer.
    pub parallel_tool_calls: bool,
    /// Form of the output.
    pub format: OutputFormat,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Whose work this request may reuse: what was computed for a prompt serves only later requests of the same group, so that
    /// nobody learns from an answer's speed what others asked. Nothing is kept without it.
    pub reuse_group: Option<Digest>,
}

/// Text or tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Prompt {
    /// Text, which the backend tokenizes.
    Text(String),
    /// Tokens of the model's vocabulary.
    Tokens(Vec<u32>),
}

/// A text to continue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompletionRequest {
    /// The text so far.
    pub prompt: Prompt,
    /// Form of the output.
    pub format: OutputFormat,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Whether the prompt is part of the answer.
    pub echo: bool,
    /// As [`ChatRequest::reuse_group`].
    pub reuse_group: Option<Digest>,
}

/// Texts to embed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmbeddingRequest {
    /// Each gets one vector.
    pub inputs: Vec<Prompt>,
    /// Length to cut the vectors to, where the model was trained for that.
    pub dimensions: Option<u32>,
}
