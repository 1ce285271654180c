//! `/v1/completions`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ProviderConstraint, StopTexts, StreamOptions, UsageField};

/// A request to continue texts.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompletionRequest {
    /// The model's name.
    pub model: String,
    /// What to continue.
    pub prompt: PromptField,
    /// Whether the answer comes in pieces.
    #[serde(default)]
    pub stream: Option<bool>,
    /// What a stream tells besides.
    #[serde(default)]
    pub stream_options: Option<StreamOptions>,
    /// Most tokens of the answer; 16 without it.
    #[serde(default)]
    pub max_tokens: Option<u32>,
    /// 0 to 2.
    #[serde(default)]
    pub temperature: Option<f32>,
    /// 0 to 1.
    #[serde(default)]
    pub top_p: Option<f32>,
    /// 0 to 1.
    #[serde(default)]
    pub min_p: Option<f32>,
    /// Likeliest tokens only.
    #[serde(default)]
    pub top_k: Option<u32>,
    /// How many answers for each prompt.
    #[serde(default)]
    pub n: Option<u32>,
    /// Not served above 1.
    #[serde(default)]
    pub best_of: Option<u32>,
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
    /// How many alternatives are told for each token, 0 to 5.
    #[serde(default)]
    pub logprobs: Option<u8>,
    /// Whether the prompt is part of the answer.
    #[serde(default)]
    pub echo: Option<bool>,
    /// Seed of the choice of tokens.
    #[serde(default)]
    pub seed: Option<u64>,
    /// Opaque to this service, which keeps none of it.
    #[serde(default)]
    pub user: Option<String>,
    /// ACI's constraint on who serves.
    #[serde(default)]
    pub provider: Option<ProviderConstraint>,
}

/// Texts or tokens.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "a string, an array of strings, an array of tokens or an array of arrays of tokens")]
pub enum PromptField {
    /// One text.
    Text(String),
    /// Several texts.
    Texts(Vec<String>),
    /// One text as tokens.
    Tokens(Vec<u32>),
    /// Several texts as tokens.
    TokenLists(Vec<Vec<u32>>),
}

/// An answer, or a piece of one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CompletionAnswer {
    /// Name of the answer, by which its receipt is found too.
    pub id: String,
    /// `text_completion`.
    pub object: &'static str,
    /// Unix second.
    pub created: u64,
    /// The model's name.
    pub model: String,
    /// The answers.
    pub choices: Vec<CompletionChoice>,
    /// What it used; in a stream in the last piece, if asked for, and `null` in those before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Option<UsageField>>,
    /// Which model, engine and settings.
    pub system_fingerprint: String,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CompletionChoice {
    /// The text.
    pub text: String,
    /// Which.
    pub index: u32,
    /// Probabilities of its tokens.
    pub logprobs: Option<CompletionLogprobs>,
    /// Why it ended.
    pub finish_reason: Option<&'static str>,
}

/// Probabilities of an answer's tokens, in parallel lists.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct CompletionLogprobs {
    /// The tokens' texts.
    pub tokens: Vec<String>,
    /// Natural logarithms of their probabilities.
    pub token_logprobs: Vec<f32>,
    /// The likeliest alternatives of each.
    pub top_logprobs: Vec<BTreeMap<String, f32>>,
    /// Where each begins in the text, in characters.
    pub text_offset: Vec<usize>,
}
