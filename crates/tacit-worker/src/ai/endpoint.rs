//! The endpoints that infer.

/// What can be asked of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Chat,
    Completions,
    Embeddings,
    Responses,
}

impl Endpoint {
    pub const ALL: [Self; 4] = [Self::Chat, Self::Completions, Self::Embeddings, Self::Responses];

    pub const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Embeddings => "/v1/embeddings",
            Self::Responses => "/v1/responses",
        }
    }

    /// How the names of answers begin; embeddings have none.
    pub const fn prefix(self) -> Option<&'static str> {
        match self {
            Self::Chat => Some("chatcmpl-"),
            Self::Completions => Some("cmpl-"),
            Self::Embeddings => None,
            Self::Responses => Some("resp_"),
        }
    }
}
