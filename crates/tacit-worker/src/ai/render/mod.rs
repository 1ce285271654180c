//! From a backend's events to what the OpenAI interface answers: one body, or the pieces of a stream.

mod chat;
mod completions;
mod embeddings;
mod responses;
mod sse;

use serde_json::Value;
use tacit_inference::{Event, FinishReason, ModelIdentity, Usage};

pub(crate) use chat::ChatRenderer;
pub(crate) use completions::CompletionRenderer;
pub(crate) use embeddings::embedding_answer;
pub(crate) use responses::{ResponseRenderer, Settings};
pub(crate) use sse::{DONE, Piece, frame};

/// What all answers of one request say alike.
#[derive(Debug, Clone)]
pub(crate) struct Stamp {
    /// The answer's name.
    pub id: String,
    /// Unix second.
    pub created: u64,
    /// The model's name.
    pub model: String,
    /// First half of the model's digest.
    pub fingerprint: String,
}

impl Stamp {
    pub fn new(id: String, created: u64, model: &ModelIdentity) -> Self {
        let digest = hex::encode(model.digest.as_bytes());
        Self { id, created, model: model.name.clone(), fingerprint: format!("fp_{}", &digest[..32]) }
    }
}

/// Turns events into an answer. Whatever it was given, [`Renderer::whole`] gives the body that a request without `stream`
/// gets, and [`Renderer::pieces`] what a stream sends for one event.
pub(crate) trait Renderer: Send {
    /// Pieces before the first event.
    fn opening(&mut self) -> Vec<Piece>;
    /// Pieces for an event; also remembers it.
    fn pieces(&mut self, event: Event) -> Vec<Piece>;
    /// Pieces after the last event.
    fn closing(&mut self, usage: Usage) -> Vec<Piece>;
    /// The whole answer.
    fn whole(self: Box<Self>, usage: Usage) -> serde_json::Result<Value>;
    /// Whether `[DONE]` ends the stream.
    fn ends_with_done(&self) -> bool {
        true
    }
}

const fn reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
    }
}

/// A token's bytes as text; what is no whole character alone is shown as the replacement character.
fn token_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn logprobs(tokens: &[tacit_inference::TokenLogprob]) -> Vec<tacit_api::openai::ChatTokenLogprob> {
    use tacit_api::openai::{ChatTokenLogprob, ChatTopLogprob};
    let told = |bytes: &[u8], logprob: f32| (token_text(bytes), logprob.max(-9_999.0), bytes.to_vec());
    let each = |token: &tacit_inference::TokenLogprob| {
        let top = token.top.iter().map(|(bytes, logprob)| {
            let (token, logprob, bytes) = told(bytes, *logprob);
            ChatTopLogprob { token, logprob, bytes }
        });
        let (text, logprob, bytes) = told(&token.bytes, token.logprob);
        ChatTokenLogprob { token: text, logprob, bytes, top_logprobs: top.collect() }
    };
    tokens.iter().map(each).collect()
}
