//! Sentence transformers of the BERT family, from safetensors to GGUF, so that one engine runs all models.
//!
//! Beside the weights lie `config.json`, `vocab.txt` and `1_Pooling/config.json`, as published. Names of tensors and keys are those
//! that llama.cpp reads for the architecture `bert`. Values stay what they are: 32-bit floating-point numbers.

use std::{fs::File, io::Read as _, path::Path};

use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use super::StoreError;
use crate::gguf::{Metadata, write};

/// Largest file of weights that is converted, which is done in memory.
const MAX_WEIGHTS: u64 = 4 << 30;
/// Largest of the small files.
const MAX_SMALL: u64 = 16 << 20;

#[derive(Deserialize)]
struct Config {
    model_type: String,
    hidden_act: String,
    hidden_size: u32,
    intermediate_size: u32,
    layer_norm_eps: f32,
    max_position_embeddings: u32,
    num_attention_heads: u32,
    num_hidden_layers: u32,
    vocab_size: usize,
    #[serde(default = "absolute")]
    position_embedding_type: String,
}

fn absolute() -> String {
    "absolute".to_owned()
}

#[derive(Deserialize)]
struct Pooling {
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_max_tokens: bool,
    #[serde(default)]
    pooling_mode_mean_sqrt_len_tokens: bool,
}

fn failed(reason: impl Into<String>) -> StoreError {
    StoreError::Convert(reason.into())
}

/// Writes the model whose weights are in `weights` and whose other files lie beside `published`.
///
/// # Errors
/// [`StoreError::Convert`] if it is no such model, [`StoreError::File`] if a file cannot be read.
pub(super) fn sentence_transformer(weights: &Path, published: &Path, to: &mut File) -> Result<(), StoreError> {
    let beside = |name: &str| published.parent().unwrap_or(Path::new(".")).join(name);
    let config: Config = json(&beside("config.json"))?;
    let pooling: Pooling = json(&beside("1_Pooling/config.json"))?;
    let vocabulary = String::from_utf8(bytes(&beside("vocab.txt"), MAX_SMALL)?);
    let vocabulary = vocabulary.map_err(|_| failed("vocab.txt is not UTF-8"))?;
    let tokens: Vec<&str> = vocabulary.lines().collect();
    if config.model_type != "bert" || config.hidden_act != "gelu" || config.position_embedding_type != "absolute" {
        return Err(failed("its config.json names no BERT with GELU and absolute positions"));
    }
    if tokens.len() != config.vocab_size {
        return Err(failed(format!("vocab.txt has {} words, config.json {}", tokens.len(), config.vocab_size)));
    }
    let pooling = match (pooling.pooling_mode_mean_tokens, pooling.pooling_mode_cls_token) {
        _ if pooling.pooling_mode_max_tokens || pooling.pooling_mode_mean_sqrt_len_tokens => None,
        (true, false) => Some(1),
        (false, true) => Some(2),
        _ => None,
    };
    let pooling = pooling.ok_or_else(|| failed("its pooling is neither the mean nor the first token"))?;
    let id = |token: &str| {
        let id = tokens.iter().position(|other| *other == token).and_then(|id| u32::try_from(id).ok());
        id.map(Metadata::U32).ok_or_else(|| failed(format!("vocab.txt has no {token}")))
    };
    let (class, separator) = (id("[CLS]")?, id("[SEP]")?);
    let metadata = vec![
        ("general.architecture", Metadata::Text("bert".to_owned())),
        ("general.type", Metadata::Text("model".to_owned())),
        ("bert.context_length", Metadata::U32(config.max_position_embeddings)),
        ("bert.embedding_length", Metadata::U32(config.hidden_size)),
        ("bert.feed_forward_length", Metadata::U32(config.intermediate_size)),
        ("bert.block_count", Metadata::U32(config.num_hidden_layers)),
        ("bert.attention.head_count", Metadata::U32(config.num_attention_heads)),
        ("bert.attention.layer_norm_epsilon", Metadata::F32(config.layer_norm_eps)),
        ("bert.attention.causal", Metadata::Bool(false)),
        ("bert.pooling_type", Metadata::U32(pooling)),
        ("tokenizer.ggml.model", Metadata::Text("bert".to_owned())),
        ("tokenizer.ggml.token_type_count", Metadata::U32(2)),
        ("tokenizer.ggml.tokens", Metadata::Texts(tokens.iter().map(|token| word(token)).collect())),
        ("tokenizer.ggml.token_type", Metadata::I32s(tokens.iter().map(|token| kind(token)).collect())),
        ("tokenizer.ggml.cls_token_id", class.clone()),
        ("tokenizer.ggml.bos_token_id", class),
        ("tokenizer.ggml.eos_token_id", separator.clone()),
        ("tokenizer.ggml.seperator_token_id", separator),
        ("tokenizer.ggml.unknown_token_id", id("[UNK]")?),
        ("tokenizer.ggml.padding_token_id", id("[PAD]")?),
        ("tokenizer.ggml.mask_token_id", id("[MASK]")?),
    ];
    let content = bytes(weights, MAX_WEIGHTS)?;
    let content = SafeTensors::deserialize(&content).map_err(|error| failed(error.to_string()))?;
    let mut tensors = Vec::new();
    for (published, name) in names(config.num_hidden_layers) {
        let tensor = content.tensor(&published).map_err(|_| failed(format!("it has no tensor {published}")))?;
        if tensor.dtype() != Dtype::F32 {
            return Err(failed(format!("{published} is not of 32-bit floating-point numbers")));
        }
        let values = tensor.data().chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four bytes")));
        let values: Vec<f32> = values.collect();
        if values.iter().any(|value| !value.is_finite()) {
            return Err(failed(format!("{published} has a value that is no number")));
        }
        let shape = tensor.shape().iter().rev().map(|dimension| *dimension as u64).collect();
        tensors.push((name, shape, values));
    }
    write(to, &metadata, &tensors).map_err(|error| failed(format!("it could not be written: {}", error.kind())))
}

/// Names of tensors, as published and in GGUF.
fn names(layers: u32) -> Vec<(String, String)> {
    const EMBEDDINGS: [(&str, &str); 4] = [
        ("word_embeddings", "token_embd"),
        ("position_embeddings", "position_embd"),
        ("token_type_embeddings", "token_types"),
        ("LayerNorm", "token_embd_norm"),
    ];
    const LAYER: [(&str, &str); 8] = [
        ("attention.self.query", "attn_q"),
        ("attention.self.key", "attn_k"),
        ("attention.self.value", "attn_v"),
        ("attention.output.dense", "attn_output"),
        ("attention.output.LayerNorm", "attn_output_norm"),
        ("intermediate.dense", "ffn_up"),
        ("output.dense", "ffn_down"),
        ("output.LayerNorm", "layer_output_norm"),
    ];
    let mut names = Vec::new();
    for (published, name) in EMBEDDINGS {
        names.push((format!("embeddings.{published}.weight"), format!("{name}.weight")));
    }
    names.push(("embeddings.LayerNorm.bias".to_owned(), "token_embd_norm.bias".to_owned()));
    for layer in 0..layers.min(1024) {
        for (published, name) in LAYER {
            for part in ["weight", "bias"] {
                names.push((format!("encoder.layer.{layer}.{published}.{part}"), format!("blk.{layer}.{name}.{part}")));
            }
        }
    }
    names
}

/// A word as llama.cpp's tokenizer wants it: the begin of a word is marked, and not its continuation.
fn word(token: &str) -> String {
    match token.strip_prefix("##") {
        Some(rest) => rest.to_owned(),
        None if is_bracketed(token) => token.to_owned(),
        None => format!("\u{2581}{token}"),
    }
}

/// Kind of a token: 1 a word, 2 the unknown word, 3 control.
fn kind(token: &str) -> i32 {
    match token {
        "[UNK]" => 2,
        "[CLS]" | "[SEP]" | "[PAD]" | "[MASK]" => 3,
        _ => 1,
    }
}

fn is_bracketed(token: &str) -> bool {
    token.len() > 2 && token.starts_with('[') && token.ends_with(']')
}

fn json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, StoreError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    serde_json::from_slice(&bytes(path, MAX_SMALL)?)
        .map_err(|_| failed(format!("{name} is not as published models have it")))
}

fn bytes(path: &Path, limit: u64) -> Result<Vec<u8>, StoreError> {
    let failed = |error| StoreError::file("read", path, error);
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit { Err(StoreError::TooLarge) } else { Ok(bytes) }
}
