//! `/v1/models`.

use serde::{Deserialize, Serialize};

/// A model on offer. Nothing may be trusted because it stands here: trust is in receipts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// Name to ask for.
    pub id: String,
    /// `model`.
    pub object: String,
    /// Unix second from which it was offered.
    pub created: u64,
    /// SPDX identifier of its licence stands in `licence`; the interface wants an owner here.
    pub owned_by: String,
    /// Digest of the model's manifest, as in receipts.
    pub digest: String,
    /// SPDX identifier.
    pub licence: String,
    /// Whether it answers chats and completions; others make embeddings alone.
    pub generates: bool,
    /// Tokens that prompt and answer may have together.
    pub context_length: u32,
}

/// All models on offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelList {
    /// `list`.
    pub object: String,
    /// The models.
    pub data: Vec<Model>,
}
