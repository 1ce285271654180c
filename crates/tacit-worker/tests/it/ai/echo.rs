//! A backend that says what it was told, a word at a time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tacit_inference::{
    Backend, ChatRequest, CompletionRequest, Embedding, EmbeddingRequest, Event, FinishReason, Generation,
    InferenceError, ModelIdentity, Prompt, TensorAnswer, TensorRequest, Usage,
};
use tacit_types::Digest;

/// Tokens of its context.
const CONTEXT: u32 = 64;

/// Says what the last message says. Words: `slow` waits before every further word, `break` fails in the middle.
pub struct Echo {
    identity: ModelIdentity,
    /// Generations that run now.
    pub running: Arc<AtomicUsize>,
}

impl Echo {
    pub fn new() -> Self {
        let identity = ModelIdentity {
            name: "echo".into(),
            digest: Digest::from([0xec; 32]),
            adapters: vec![Digest::from([0xad; 32])],
            context: CONTEXT,
            generates: true,
            embedding: Some(2),
            tensors: None,
            created: 1_700_000_000,
            licence: "Apache-2.0".into(),
            counted_by_upstream: false,
        };
        Self { identity, running: Arc::default() }
    }

    fn say(&self, text: String, choices: u32, seed: Option<u64>) -> Result<Generation, InferenceError> {
        let words: Vec<String> = text.split_inclusive(' ').map(str::to_owned).collect();
        let prompt = u32::try_from(words.len()).unwrap();
        if prompt > CONTEXT {
            return Err(InferenceError::ContextLength { limit: CONTEXT, prompt, needed: prompt + 1 });
        }
        let (sender, generation) = Generation::new(4);
        let mut usage =
            Usage { prompt_tokens: prompt, cached_tokens: 0, completion_tokens: 0, seed: seed.unwrap_or(42) };
        let running = Arc::clone(&self.running);
        running.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            let slow = words.iter().any(|word| word.trim() == "slow");
            'all: for choice in 0..choices {
                for word in &words {
                    if slow {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    let event = match word.trim() {
                        "break" => Event::Failed(InferenceError::Engine("broken".into())),
                        _ => Event::Text { choice, text: word.clone(), logprobs: Vec::new() },
                    };
                    usage.completion_tokens += 1;
                    let _ = sender.send(Event::Used(usage)).await;
                    let failed = matches!(event, Event::Failed(_));
                    if sender.send(event).await.is_err() || failed {
                        break 'all;
                    }
                }
                let _ = sender.send(Event::Finished { choice, reason: FinishReason::Stop }).await;
            }
            let _ = sender.send(Event::Done(usage)).await;
            running.fetch_sub(1, Ordering::SeqCst);
        });
        Ok(generation)
    }
}

#[async_trait]
impl Backend for Echo {
    fn identity(&self) -> &ModelIdentity {
        &self.identity
    }

    async fn chat(&self, request: ChatRequest) -> Result<Generation, InferenceError> {
        let text = request.messages.last().map(|message| message.content.clone()).unwrap_or_default();
        self.say(text, request.sampling.choices, request.sampling.seed)
    }

    async fn complete(&self, request: CompletionRequest) -> Result<Generation, InferenceError> {
        match request.prompt {
            Prompt::Text(text) => self.say(text, request.sampling.choices, request.sampling.seed),
            Prompt::Tokens(_) => Err(InferenceError::Unsupported { model: "echo".into(), what: "read tokens" }),
        }
    }

    /// Gives the inputs back; one without elements is refused.
    async fn run(&self, request: TensorRequest) -> Result<TensorAnswer, InferenceError> {
        match request.inputs.iter().find(|input| input.data.is_empty()) {
            Some(input) => Err(InferenceError::Parameter { parameter: input.name.clone(), reason: "is empty".into() }),
            None => Ok(TensorAnswer { outputs: request.inputs }),
        }
    }

    async fn embed(&self, request: EmbeddingRequest) -> Result<Embedding, InferenceError> {
        let count = request.inputs.len();
        Ok(Embedding { vectors: vec![vec![0.6, 0.8]; count], prompt_tokens: u32::try_from(count).unwrap() })
    }
}
