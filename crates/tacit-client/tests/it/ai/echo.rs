//! A backend that says what it was told, a word at a time.

use std::time::Duration;

use async_trait::async_trait;
use tacit_inference::{
    Backend, ChatRequest, CompletionRequest, Embedding, EmbeddingRequest, Event, FinishReason, Generation,
    InferenceError, ModelIdentity, Usage,
};

/// Says what the last message says; the word `slow` waits before every further word.
pub struct Echo(pub ModelIdentity);

#[async_trait]
impl Backend for Echo {
    fn identity(&self) -> &ModelIdentity {
        &self.0
    }

    async fn chat(&self, request: ChatRequest) -> Result<Generation, InferenceError> {
        let text = request.messages.last().map(|message| message.content.clone()).unwrap_or_default();
        let words: Vec<String> = text.split_inclusive(' ').map(str::to_owned).collect();
        let (sender, generation) = Generation::new(4);
        tokio::spawn(async move {
            let count = u32::try_from(words.len()).unwrap();
            let slow = words.iter().any(|word| word.trim() == "slow");
            for text in words {
                if slow {
                    tokio::time::sleep(Duration::from_millis(30)).await;
                }
                if sender.send(Event::Text { choice: 0, text, logprobs: Vec::new() }).await.is_err() {
                    return;
                }
            }
            let _ = sender.send(Event::Finished { choice: 0, reason: FinishReason::Stop }).await;
            let usage = Usage { prompt_tokens: count, cached_tokens: 0, completion_tokens: count, seed: 7 };
            let _ = sender.send(Event::Done(usage)).await;
        });
        Ok(generation)
    }

    async fn complete(&self, _: CompletionRequest) -> Result<Generation, InferenceError> {
        Err(InferenceError::Unsupported { model: self.0.name.clone(), what: "complete texts" })
    }

    async fn embed(&self, request: EmbeddingRequest) -> Result<Embedding, InferenceError> {
        let count = request.inputs.len();
        Ok(Embedding { vectors: vec![vec![0.6, 0.8]; count], prompt_tokens: u32::try_from(count).unwrap() })
    }
}
