//! `/v1/responses`, without stored conversations: nothing is kept here, so every request brings its whole conversation.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ProviderConstraint;

/// A request for a response.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResponseRequest {
    /// The model's name.
    pub model: String,
    /// The conversation.
    pub input: ResponseInput,
    /// Instructions that stand before the conversation.
    #[serde(default)]
    pub instructions: Option<String>,
    /// Most tokens of the answer.
    #[serde(default)]
    pub max_output_tokens: Option<u32>,
    /// 0 to 2.
    #[serde(default)]
    pub temperature: Option<f32>,
    /// 0 to 1.
    #[serde(default)]
    pub top_p: Option<f32>,
    /// How many alternatives are told for each token.
    #[serde(default)]
    pub top_logprobs: Option<u8>,
    /// Whether the answer comes in pieces.
    #[serde(default)]
    pub stream: Option<bool>,
    /// Form of the text.
    #[serde(default)]
    pub text: Option<ResponseTextOptions>,
    /// Tools on offer.
    #[serde(default)]
    pub tools: Option<Vec<ResponseTool>>,
    /// `none`, `auto`, `required`, or an object that names a function.
    #[serde(default)]
    pub tool_choice: Option<Value>,
    /// Whether several may be called at once.
    #[serde(default)]
    pub parallel_tool_calls: Option<bool>,
    /// Nothing is stored here; `true` is refused.
    #[serde(default)]
    pub store: Option<bool>,
    /// Opaque to this service, which keeps none of it.
    #[serde(default)]
    pub metadata: Option<BTreeMap<String, String>>,
    /// Opaque to this service, which keeps none of it.
    #[serde(default)]
    pub user: Option<String>,
    /// ACI's constraint on who serves.
    #[serde(default)]
    pub provider: Option<ProviderConstraint>,
}

/// Text, or items.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged, expecting = "a string or an array of input items")]
pub enum ResponseInput {
    /// What the person says.
    Text(String),
    /// The conversation.
    Items(Vec<InputItem>),
}

/// A part of the conversation: a message without `type` or of type `message`, a `function_call`, a `function_call_output`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputItem {
    /// What it is; `message` without it.
    #[serde(rename = "type", default)]
    pub kind: Option<String>,
    /// Name of the item.
    #[serde(default)]
    pub id: Option<String>,
    /// Whether it was complete.
    #[serde(default)]
    pub status: Option<String>,
    /// Who speaks, in a message.
    #[serde(default)]
    pub role: Option<String>,
    /// What was said, in a message.
    #[serde(default)]
    pub content: Option<InputContent>,
    /// The call's name.
    #[serde(default)]
    pub call_id: Option<String>,
    /// The function's name.
    #[serde(default)]
    pub name: Option<String>,
    /// The function's arguments as JSON text.
    #[serde(default)]
    pub arguments: Option<String>,
    /// What the function gave.
    #[serde(default)]
    pub output: Option<String>,
}

/// Text, or parts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "a string or an array of content parts")]
pub enum InputContent {
    /// Text.
    Text(String),
    /// Parts.
    Parts(Vec<InputText>),
}

/// A part of a message: `input_text` or `output_text`; others are not served.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct InputText {
    /// Which.
    #[serde(rename = "type")]
    pub kind: String,
    /// The text.
    #[serde(default)]
    pub text: Option<String>,
}

/// Form of the text.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResponseTextOptions {
    /// The form.
    #[serde(default)]
    pub format: Option<ResponseTextFormat>,
}

/// A form.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ResponseTextFormat {
    /// Any text.
    Text,
    /// A JSON object.
    JsonObject,
    /// JSON that a schema allows.
    JsonSchema {
        /// Its name.
        name: String,
        /// JSON Schema.
        schema: Value,
        /// What it is for.
        #[serde(default)]
        description: Option<String>,
        /// The schema always holds; without effect.
        #[serde(default)]
        strict: Option<bool>,
    },
}

/// A tool on offer.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ResponseTool {
    /// `function`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What it does.
    #[serde(default)]
    pub description: Option<String>,
    /// JSON Schema of its arguments.
    #[serde(default)]
    pub parameters: Option<Value>,
    /// Whether the arguments must follow the schema.
    #[serde(default)]
    pub strict: Option<bool>,
}

/// A response.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ResponseAnswer {
    /// Name of the response, by which its receipt is found too.
    pub id: String,
    /// `response`.
    pub object: &'static str,
    /// Unix second.
    pub created_at: u64,
    /// `in_progress`, `completed`, `incomplete` or `failed`.
    pub status: &'static str,
    /// Always `null`: failures are HTTP errors or a stream's error event.
    pub error: Option<Value>,
    /// Why it is incomplete.
    pub incomplete_details: Option<Value>,
    /// The request's.
    pub instructions: Option<String>,
    /// The request's.
    pub max_output_tokens: Option<u32>,
    /// The model's name.
    pub model: String,
    /// What was said and called.
    pub output: Vec<ResponseOutput>,
    /// The request's.
    pub parallel_tool_calls: bool,
    /// Always `null`: nothing is stored.
    pub previous_response_id: Option<String>,
    /// Always false.
    pub store: bool,
    /// What was used.
    pub temperature: f32,
    /// The request's.
    pub tool_choice: Value,
    /// The request's.
    pub tools: Vec<ResponseTool>,
    /// What was used.
    pub top_p: f32,
    /// `disabled`: a conversation that is too long is refused.
    pub truncation: &'static str,
    /// Tokens that were used, once it is complete.
    pub usage: Option<ResponseUsage>,
    /// The request's.
    pub metadata: BTreeMap<String, String>,
}

/// Something said or called.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ResponseOutput {
    /// A message.
    Message {
        /// Its name.
        id: String,
        /// `in_progress`, `completed` or `incomplete`.
        status: &'static str,
        /// `assistant`.
        role: &'static str,
        /// What was said.
        content: Vec<ResponseContent>,
    },
    /// A function to call.
    FunctionCall {
        /// Name of the item.
        id: String,
        /// Name of the call, which its output cites.
        call_id: String,
        /// The function's name.
        name: String,
        /// Its arguments as JSON text.
        arguments: String,
        /// `in_progress` or `completed`.
        status: &'static str,
    },
}

/// A part of a message.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ResponseContent {
    /// Text.
    OutputText {
        /// The text.
        text: String,
        /// Always empty.
        annotations: Vec<Value>,
    },
}

/// Tokens that a response used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ResponseUsage {
    /// Of the conversation.
    pub input_tokens: u32,
    /// What of it needed no new work.
    pub input_tokens_details: InputTokensDetails,
    /// Of the answer.
    pub output_tokens: u32,
    /// What of it was thought and not said.
    pub output_tokens_details: OutputTokensDetails,
    /// All.
    pub total_tokens: u32,
}

/// What of a conversation needed no new work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct InputTokensDetails {
    /// Tokens whose work an earlier request of the same key had done.
    pub cached_tokens: u32,
}

/// What of an answer was thought and not said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct OutputTokensDetails {
    /// Always 0: nothing is hidden.
    pub reasoning_tokens: u32,
}

impl ResponseUsage {
    /// From counts.
    pub const fn new(input: u32, cached: u32, output: u32) -> Self {
        Self {
            input_tokens: input,
            input_tokens_details: InputTokensDetails { cached_tokens: cached },
            output_tokens: output,
            output_tokens_details: OutputTokensDetails { reasoning_tokens: 0 },
            total_tokens: input.saturating_add(output),
        }
    }
}

/// What a stream tells.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type")]
pub enum ResponseEvent {
    /// It has begun.
    #[serde(rename = "response.created")]
    Created {
        /// As it stands.
        response: ResponseAnswer,
    },
    /// It runs.
    #[serde(rename = "response.in_progress")]
    InProgress {
        /// As it stands.
        response: ResponseAnswer,
    },
    /// A new item begins.
    #[serde(rename = "response.output_item.added")]
    ItemAdded {
        /// Which.
        output_index: u32,
        /// The item, still empty.
        item: ResponseOutput,
    },
    /// A part of a message begins.
    #[serde(rename = "response.content_part.added")]
    PartAdded {
        /// Name of the message.
        item_id: String,
        /// Which item.
        output_index: u32,
        /// Which part.
        content_index: u32,
        /// The part, still empty.
        part: ResponseContent,
    },
    /// More text.
    #[serde(rename = "response.output_text.delta")]
    TextDelta {
        /// Name of the message.
        item_id: String,
        /// Which item.
        output_index: u32,
        /// Which part.
        content_index: u32,
        /// The text.
        delta: String,
        /// Probabilities of its tokens.
        logprobs: Vec<super::ChatTokenLogprob>,
    },
    /// A text is complete.
    #[serde(rename = "response.output_text.done")]
    TextDone {
        /// Name of the message.
        item_id: String,
        /// Which item.
        output_index: u32,
        /// Which part.
        content_index: u32,
        /// The whole text.
        text: String,
        /// Always empty: they were told with the pieces.
        logprobs: Vec<super::ChatTokenLogprob>,
    },
    /// A part is complete.
    #[serde(rename = "response.content_part.done")]
    PartDone {
        /// Name of the message.
        item_id: String,
        /// Which item.
        output_index: u32,
        /// Which part.
        content_index: u32,
        /// The part.
        part: ResponseContent,
    },
    /// More of a function's arguments.
    #[serde(rename = "response.function_call_arguments.delta")]
    ArgumentsDelta {
        /// Name of the item.
        item_id: String,
        /// Which item.
        output_index: u32,
        /// More of the JSON text.
        delta: String,
    },
    /// A function's arguments are complete.
    #[serde(rename = "response.function_call_arguments.done")]
    ArgumentsDone {
        /// Name of the item.
        item_id: String,
        /// Which item.
        output_index: u32,
        /// The function's name.
        name: String,
        /// The whole JSON text.
        arguments: String,
    },
    /// An item is complete.
    #[serde(rename = "response.output_item.done")]
    ItemDone {
        /// Which.
        output_index: u32,
        /// The item.
        item: ResponseOutput,
    },
    /// It is complete.
    #[serde(rename = "response.completed")]
    Completed {
        /// As it stands.
        response: ResponseAnswer,
    },
    /// It ended early: the most tokens were generated.
    #[serde(rename = "response.incomplete")]
    Incomplete {
        /// As it stands.
        response: ResponseAnswer,
    },
    /// The model failed.
    #[serde(rename = "error")]
    Error {
        /// The error's code.
        code: Option<&'static str>,
        /// For people.
        message: String,
        /// Always `null`.
        param: Option<String>,
    },
}
