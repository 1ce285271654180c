//! `/v1/chat/completions`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::UsageField;

/// A request for an answer in a conversation.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChatRequest {
    /// The model's name.
    pub model: String,
    /// The conversation.
    pub messages: Vec<RequestMessage>,
    /// Whether the answer comes in pieces.
    #[serde(default)]
    pub stream: Option<bool>,
    /// What a stream tells besides.
    #[serde(default)]
    pub stream_options: Option<StreamOptions>,
    /// Most tokens of the answer; the older name.
    #[serde(default)]
    pub max_tokens: Option<u32>,
    /// Most tokens of the answer.
    #[serde(default)]
    pub max_completion_tokens: Option<u32>,
    /// 0 to 2.
    #[serde(default)]
    pub temperature: Option<f32>,
    /// 0 to 1.
    #[serde(default)]
    pub top_p: Option<f32>,
    /// 0 to 1; not in OpenAI's interface, but in that of open servers.
    #[serde(default)]
    pub min_p: Option<f32>,
    /// Likeliest tokens only; not in OpenAI's interface, but in that of open servers.
    #[serde(default)]
    pub top_k: Option<u32>,
    /// How many answers.
    #[serde(default)]
    pub n: Option<u32>,
    /// Texts that end the answer.
    #[serde(default)]
    pub stop: Option<StopTexts>,
    /// −2 to 2.
    #[serde(default)]
    pub presence_penalty: Option<f32>,
    /// −2 to 2.
    #[serde(default)]
    pub frequency_penalty: Option<f32>,
    /// Token number to −100 to 100.
    #[serde(default)]
    pub logit_bias: Option<BTreeMap<String, f32>>,
    /// Whether tokens' probabilities are told.
    #[serde(default)]
    pub logprobs: Option<bool>,
    /// How many alternatives are told for each token.
    #[serde(default)]
    pub top_logprobs: Option<u8>,
    /// Seed of the choice of tokens.
    #[serde(default)]
    pub seed: Option<u64>,
    /// Form of the answer.
    #[serde(default)]
    pub response_format: Option<ResponseFormat>,
    /// Tools on offer.
    #[serde(default)]
    pub tools: Option<Vec<ToolDefinition>>,
    /// Whether to call one.
    #[serde(default)]
    pub tool_choice: Option<ToolChoiceField>,
    /// Whether several may be called at once.
    #[serde(default)]
    pub parallel_tool_calls: Option<bool>,
    /// Opaque to this service, which keeps none of it.
    #[serde(default)]
    pub user: Option<String>,
    /// Opaque to this service, which keeps none of it.
    #[serde(default)]
    pub metadata: Option<BTreeMap<String, String>>,
    /// Nothing is stored here; `true` is refused.
    #[serde(default)]
    pub store: Option<bool>,
    /// ACI's constraint on who serves.
    #[serde(default)]
    pub provider: Option<ProviderConstraint>,
}

/// ACI: which verified upstreams may serve a request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderConstraint {
    /// Whether the upstream must have been verified.
    #[serde(default)]
    pub aci_verified: Option<bool>,
    /// Sessions of which one must be used.
    #[serde(default)]
    pub aci_session_ids: Option<Vec<String>>,
}

/// What a stream tells besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamOptions {
    /// A last piece with the usage.
    #[serde(default)]
    pub include_usage: Option<bool>,
    /// Padding against who measures the pieces; on unless switched off.
    #[serde(default)]
    pub include_obfuscation: Option<bool>,
}

/// One text or several.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "a string or an array of strings")]
pub enum StopTexts {
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

/// A message of a request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestMessage {
    /// `system`, `developer`, `user`, `assistant` or `tool`.
    pub role: String,
    /// What was said.
    #[serde(default)]
    pub content: Option<Content>,
    /// Name of who speaks.
    #[serde(default)]
    pub name: Option<String>,
    /// Tools that an assistant's message called.
    #[serde(default)]
    pub tool_calls: Option<Vec<AssistantToolCall>>,
    /// The call that a tool's message answers.
    #[serde(default)]
    pub tool_call_id: Option<String>,
    /// An assistant's refusal.
    #[serde(default)]
    pub refusal: Option<String>,
}

/// Text, or parts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "a string or an array of content parts")]
pub enum Content {
    /// Text.
    Text(String),
    /// Parts.
    Parts(Vec<ContentPart>),
}

/// A part of a message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ContentPart {
    /// `text`; others are not served.
    #[serde(rename = "type")]
    pub kind: String,
    /// The text.
    #[serde(default)]
    pub text: Option<String>,
}

/// A tool call as it stands in a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssistantToolCall {
    /// The call's name.
    pub id: String,
    /// `function`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What is called.
    pub function: CalledFunction,
}

/// A function with its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalledFunction {
    /// Its name.
    pub name: String,
    /// Arguments as JSON text.
    pub arguments: String,
}

/// A tool on offer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolDefinition {
    /// `function`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is.
    pub function: FunctionTool,
}

/// A function on offer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionTool {
    /// Its name.
    pub name: String,
    /// What it does.
    #[serde(default)]
    pub description: Option<String>,
    /// JSON Schema of its arguments.
    #[serde(default)]
    pub parameters: Option<Value>,
    /// Whether the arguments must follow the schema; they always do where a tool must be called.
    #[serde(default)]
    pub strict: Option<bool>,
}

/// Whether a tool is called.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "none, auto, required or an object that names a function")]
pub enum ToolChoiceField {
    /// `none`, `auto` or `required`.
    Mode(String),
    /// One function.
    Named {
        /// `function`.
        #[serde(rename = "type")]
        kind: String,
        /// Which.
        function: NamedFunction,
    },
}

/// A function's name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedFunction {
    /// The name.
    pub name: String,
}

/// Form of an answer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ResponseFormat {
    /// Any text.
    Text,
    /// A JSON object.
    JsonObject,
    /// JSON that a schema allows.
    JsonSchema {
        /// The schema.
        json_schema: JsonSchemaFormat,
    },
}

/// A schema with its name.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JsonSchemaFormat {
    /// Its name.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: Option<String>,
    /// JSON Schema.
    #[serde(default)]
    pub schema: Option<Value>,
    /// The schema always holds; without effect.
    #[serde(default)]
    pub strict: Option<bool>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChatCompletion {
    /// Name of the answer, by which its receipt is found too.
    pub id: String,
    /// `chat.completion`.
    pub object: &'static str,
    /// Unix second.
    pub created: u64,
    /// The model's name.
    pub model: String,
    /// The answers.
    pub choices: Vec<ChatChoice>,
    /// What it used.
    pub usage: UsageField,
    /// Which model, engine and settings: the model digest's first half.
    pub system_fingerprint: String,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChatChoice {
    /// Which.
    pub index: u32,
    /// The message.
    pub message: ChatMessage,
    /// Probabilities of its tokens.
    pub logprobs: Option<ChatLogprobs>,
    /// Why it ended.
    pub finish_reason: &'static str,
}

/// An assistant's message.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChatMessage {
    /// `assistant`.
    pub role: &'static str,
    /// What is said; `null` where only tools are called.
    pub content: Option<String>,
    /// Always `null`.
    pub refusal: Option<String>,
    /// Tools to call.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<AssistantToolCall>,
}

/// Probabilities of an answer's tokens.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct ChatLogprobs {
    /// One for each token.
    pub content: Vec<ChatTokenLogprob>,
    /// Always `null`.
    pub refusal: Option<Vec<ChatTokenLogprob>>,
}

/// A token's probability.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChatTokenLogprob {
    /// The token's text.
    pub token: String,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// The token's bytes.
    pub bytes: Vec<u8>,
    /// The likeliest alternatives.
    pub top_logprobs: Vec<ChatTopLogprob>,
}

/// An alternative.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChatTopLogprob {
    /// The token's text.
    pub token: String,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// The token's bytes.
    pub bytes: Vec<u8>,
}

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChatChunk {
    /// Name of the answer, the same in all pieces.
    pub id: String,
    /// `chat.completion.chunk`.
    pub object: &'static str,
    /// Unix second, the same in all pieces.
    pub created: u64,
    /// The model's name.
    pub model: String,
    /// What is new.
    pub choices: Vec<ChatChunkChoice>,
    /// As in [`ChatCompletion`].
    pub system_fingerprint: String,
    /// If asked for, what was used in the last piece, and `null` in those before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Option<UsageField>>,
}

/// What is new in one answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChatChunkChoice {
    /// Which.
    pub index: u32,
    /// What is new.
    pub delta: ChatDelta,
    /// Probabilities of the new tokens.
    pub logprobs: Option<ChatLogprobs>,
    /// Why it ended, in its last piece.
    pub finish_reason: Option<&'static str>,
}

/// More of a message.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct ChatDelta {
    /// `assistant`, in the first piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    /// More text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// More of the tools to call.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCallChunk>,
}

/// More of a tool call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ToolCallChunk {
    /// Which call.
    pub index: u32,
    /// The call's name, in its first piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `function`, in its first piece.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    /// More of what is called.
    pub function: FunctionChunk,
}

/// More of what is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FunctionChunk {
    /// The function's name, in the first piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// More of the arguments' JSON text.
    pub arguments: String,
}
