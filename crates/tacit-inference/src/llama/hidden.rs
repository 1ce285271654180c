//! Loads a model a second time so that its look-ups tell nothing, and sees that it still is the same model.

use std::{num::NonZeroU32, sync::Arc};

use llama_cpp_2::{
    llama_batch::LlamaBatch,
    model::{LlamaLoraAdapter, LlamaModel},
    token::LlamaToken,
};

use super::{EngineSettings, Loaded, engine::BATCH, load, load_adapters, parameters, vocabulary::Vocabulary};
use crate::{
    InferenceError, gguf,
    oblivious::{ObliviousError, Rows},
    store::CheckedFile,
};

/// Tokens that both models are given.
const PROBE: usize = 16;

/// The model of these weights with oblivious look-ups; `plain` is the same as llama.cpp runs it.
///
/// # Errors
/// [`InferenceError::Engine`] if it cannot be run so, or would not compute the same.
pub(super) fn load_hidden(
    weights: &CheckedFile,
    header: &gguf::Gguf,
    adapters: &[&CheckedFile],
    (plain, mut plain_adapter): (LlamaModel, Option<LlamaLoraAdapter>),
    settings: &EngineSettings,
) -> Result<Loaded, InferenceError> {
    let refused = |error: ObliviousError| super::engine(&format!("constant_shape is not possible: {error}"));
    let mut rows = Rows::new(weights, header).map_err(refused)?;
    if rows.count() < BATCH {
        return Err(super::engine("constant_shape is not possible: its vocabulary is smaller than a step"));
    }
    let mut model = load(&rows.path())?;
    let mut adapter = load_adapters(&mut model, adapters)?;
    let tokens: Vec<u32> = (0..PROBE).map(|place| (rows.count() / PROBE * place) as u32).collect();
    rows.write(&tokens).map_err(|error| super::engine(&error.to_string()))?;
    let places: Vec<u32> = (0..PROBE as u32).collect();
    let expected = probe(&plain, plain_adapter.as_mut(), &tokens, settings)?;
    let found = probe(&model, adapter.as_mut(), &places, settings)?;
    if expected.iter().map(|logit| logit.to_bits()).ne(found.iter().map(|logit| logit.to_bits())) {
        return Err(super::engine("constant_shape is not possible: it would compute something else"));
    }
    let model = Arc::new(model);
    let read = weights.open().map_err(|error| super::store(&error))?;
    let merges = gguf::texts(std::io::BufReader::new(read), "tokenizer.ggml.merges");
    let merges = merges.map_err(|error| super::engine(&error.to_string()))?;
    let vocabulary = Vocabulary::oblivious(Arc::clone(&model), header, &merges).map_err(refused)?;
    Ok(Loaded { model, adapter, vocabulary, rows: Some(rows) })
}

/// What a model makes of these tokens: the logits after the last.
fn probe(
    model: &LlamaModel,
    adapter: Option<&mut LlamaLoraAdapter>,
    tokens: &[u32],
    settings: &EngineSettings,
) -> Result<Vec<f32>, InferenceError> {
    let failed = |error: &dyn std::fmt::Display| super::engine(&error.to_string());
    let parameters = parameters(settings).with_n_ctx(NonZeroU32::new(256)).with_n_batch(256).with_n_ubatch(256);
    let mut context = model.new_context(super::backend()?, parameters).map_err(|error| failed(&error))?;
    if let Some(adapter) = adapter {
        context.lora_adapter_set(adapter, 1.0).map_err(|error| failed(&error))?;
    }
    let mut batch = LlamaBatch::new(tokens.len(), 1);
    for (position, token) in (0..).zip(tokens) {
        let is_last = position as usize + 1 == tokens.len();
        batch.add(LlamaToken(token.cast_signed()), position, &[0], is_last).map_err(|error| failed(&error))?;
    }
    context.decode(&mut batch).map_err(|error| failed(&error))?;
    Ok(context.get_logits_ith(tokens.len() as i32 - 1).to_vec())
}
