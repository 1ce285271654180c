//! The thread that owns the context of a model that makes embeddings.

use std::sync::{
    atomic::{AtomicUsize, Ordering},
    mpsc::Receiver,
};

use llama_cpp_2::{context::LlamaContext, llama_batch::LlamaBatch, model::LlamaModel, token::LlamaToken};
use tokio::sync::oneshot;

use super::{Request, prepare::known};
use crate::{Embedding, EmbeddingRequest, InferenceError, Prompt, limits::parameter};

/// Most inputs of one request.
const MAX_INPUTS: usize = 2048;
/// Most tokens of one request.
const MAX_TOKENS: usize = 300_000;
/// Most bytes of an input for each token of the context.
const BYTES_PER_TOKEN: usize = 64;

/// Makes embeddings, one request after another, many inputs in one step.
pub(super) struct Embedder<'model> {
    pub(super) model: &'model LlamaModel,
    pub(super) context: LlamaContext<'model>,
    /// Most tokens of one input, and of one step.
    pub(super) limit: u32,
    /// Most inputs of one step.
    pub(super) slots: u32,
    /// Length of a vector.
    pub(super) dimensions: u32,
}

impl Embedder<'_> {
    /// Works until nobody can ask any more.
    pub(super) fn run(mut self, requests: &Receiver<Request>, queued: &AtomicUsize) {
        for request in requests {
            queued.fetch_sub(1, Ordering::Relaxed);
            match request {
                Request::Embedding(request, reply) => {
                    let embedding = self.embed(&request, &reply);
                    // Whoever asked may have gone away.
                    let _ = reply.send(embedding);
                }
                Request::Chat(_, reply) | Request::Completion(_, reply) => {
                    let _ = reply.send(Err(InferenceError::Engine("a request went to the wrong engine".to_owned())));
                }
            }
        }
    }

    fn embed(
        &mut self,
        request: &EmbeddingRequest,
        reply: &oneshot::Sender<Result<Embedding, InferenceError>>,
    ) -> Result<Embedding, InferenceError> {
        if request.dimensions.is_some_and(|dimensions| dimensions != self.dimensions) {
            return Err(parameter("dimensions", format!("this model was trained for {} alone", self.dimensions)));
        }
        if !(1..=MAX_INPUTS).contains(&request.inputs.len()) {
            return Err(parameter("input", format!("is 1 to {MAX_INPUTS} texts")));
        }
        let inputs: Vec<Vec<LlamaToken>> =
            request.inputs.iter().map(|input| self.tokens(input)).collect::<Result<_, _>>()?;
        let tokens: usize = inputs.iter().map(Vec::len).sum();
        if tokens > MAX_TOKENS {
            return Err(parameter("input", format!("has at most {MAX_TOKENS} tokens in all")));
        }
        let mut vectors = Vec::with_capacity(inputs.len());
        let mut batch = LlamaBatch::new(self.limit as usize, 1);
        let mut rest = inputs.as_slice();
        while !rest.is_empty() {
            if reply.is_closed() {
                return Err(InferenceError::Engine("nobody waits for it".to_owned()));
            }
            let taken = self.fill(&mut batch, rest);
            self.context.encode(&mut batch).map_err(|error| InferenceError::Engine(error.to_string()))?;
            for slot in 0..taken {
                let vector = self.context.embeddings_seq_ith(slot as i32);
                vectors.push(unit(vector.map_err(|error| InferenceError::Engine(error.to_string()))?)?);
            }
            rest = &rest[taken..];
        }
        Ok(Embedding { vectors, prompt_tokens: u32::try_from(tokens).unwrap_or(u32::MAX) })
    }

    /// Writes as many inputs as fit into one step; at least the first.
    fn fill(&self, batch: &mut LlamaBatch<'_>, inputs: &[Vec<LlamaToken>]) -> usize {
        batch.clear();
        let mut taken = 0;
        for (slot, input) in inputs.iter().take(self.slots as usize).enumerate() {
            if batch.n_tokens() as usize + input.len() > self.limit as usize {
                break;
            }
            for (position, token) in input.iter().enumerate() {
                batch.add(*token, position as i32, &[slot as i32], true).expect("it was looked at whether it fits");
            }
            taken += 1;
        }
        taken
    }

    fn tokens(&self, input: &Prompt) -> Result<Vec<LlamaToken>, InferenceError> {
        let tokens = match input {
            Prompt::Text(text) => {
                let most = self.limit as usize * BYTES_PER_TOKEN;
                if text.len() > most {
                    return Err(parameter("input", format!("is longer than {most} bytes")));
                }
                self.model.vocab().tokenize(text.as_bytes(), true, false)
            }
            Prompt::Tokens(tokens) => known(self.model, "input", tokens)?,
        };
        if tokens.is_empty() {
            return Err(parameter("input", "is empty"));
        }
        let length = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
        if length > self.limit {
            return Err(InferenceError::ContextLength { limit: self.limit, prompt: length, needed: length });
        }
        Ok(tokens)
    }
}

/// A vector of length one.
fn unit(vector: &[f32]) -> Result<Vec<f32>, InferenceError> {
    let length = vector.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>().sqrt();
    if !length.is_finite() || length == 0.0 {
        return Err(InferenceError::Engine("the model gave no vector".to_owned()));
    }
    #[allow(clippy::cast_possible_truncation)]
    Ok(vector.iter().map(|value| (f64::from(*value) / length) as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_have_unit_length_or_are_refused() {
        assert_eq!(unit(&[3.0, 4.0]).unwrap(), [0.6, 0.8]);
        assert!(unit(&[0.0, 0.0]).is_err());
        assert!(unit(&[f32::NAN, 1.0]).is_err());
    }
}
