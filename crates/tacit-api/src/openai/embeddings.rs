//! `/v1/embeddings`.

use serde::{Deserialize, Serialize};

use super::{PromptField, ProviderConstraint};

/// A request to embed texts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingRequest {
    /// The model's name.
    pub model: String,
    /// What to embed.
    pub input: PromptField,
    /// How vectors are written; `float` without it.
    #[serde(default)]
    pub encoding_format: Option<EncodingFormat>,
    /// Length of the vectors, where the model can shorten them.
    #[serde(default)]
    pub dimensions: Option<u32>,
    /// Opaque to this service, which keeps none of it.
    #[serde(default)]
    pub user: Option<String>,
    /// ACI's constraint on who serves.
    #[serde(default)]
    pub provider: Option<ProviderConstraint>,
}

/// How vectors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EncodingFormat {
    /// JSON numbers.
    #[default]
    Float,
    /// Little-endian 32-bit floats in Base64.
    Base64,
}

/// Vectors.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EmbeddingAnswer {
    /// `list`.
    pub object: &'static str,
    /// One for each input.
    pub data: Vec<EmbeddingItem>,
    /// The model's name.
    pub model: String,
    /// What it used.
    pub usage: EmbeddingUsage,
}

/// One vector.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EmbeddingItem {
    /// `embedding`.
    pub object: &'static str,
    /// Which input.
    pub index: u32,
    /// The vector.
    pub embedding: EmbeddingVector,
}

/// A vector as it is written.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum EmbeddingVector {
    /// JSON numbers.
    Float(Vec<f32>),
    /// Base64.
    Base64(String),
}

/// What embedding used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct EmbeddingUsage {
    /// Tokens of all inputs.
    pub prompt_tokens: u32,
    /// The same.
    pub total_tokens: u32,
}
