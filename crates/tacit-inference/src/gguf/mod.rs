//! GGUF files, read in Rust before C++ sees them: every count, length, offset and size is bounded and fits the file.
//!
//! Format: ggml's `docs/gguf.md`, versions 2 and 3, little-endian. What is read is the header alone; tensors' bytes are not touched.

mod adapters;
mod read;
mod write;

use std::collections::BTreeMap;

pub use adapters::combine;
pub use read::{read, texts};
pub use write::{Metadata, write};

/// Most metadata entries and most tensors.
const MAX_ENTRIES: u64 = 65_536;
/// Longest key.
const MAX_KEY: u64 = 256;
/// Longest text.
const MAX_TEXT: u64 = 1 << 20;
/// Longest array.
const MAX_ARRAY: u64 = 1 << 22;
/// Longest header.
const MAX_HEADER: u64 = 256 << 20;
/// Longest name of a tensor.
const MAX_NAME: u64 = 63;
/// Most dimensions of a tensor.
const MAX_DIMENSIONS: u32 = 4;
/// Most values in a tensor.
const MAX_VALUES: u64 = 1 << 40;
/// Greatest alignment.
const MAX_ALIGNMENT: u32 = 4096;

/// Why a file is not taken for a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The file could not be read.
    #[error("the file could not be read: {0}")]
    Read(std::io::ErrorKind),
    /// It does not begin as GGUF does.
    #[error("this is no GGUF file")]
    Magic,
    /// Its version is not 2 or 3, or its bytes are in big-endian order.
    #[error("GGUF version {0} is not read here")]
    Version(u32),
    /// It ends too early.
    #[error("the file ends within {0}")]
    Truncated(&'static str),
    /// A count or length is greater than any model needs.
    #[error("{what}: {found}, at most {limit} allowed")]
    TooMany {
        /// What is counted.
        what: &'static str,
        /// How many.
        found: u64,
        /// How many are allowed.
        limit: u64,
    },
    /// A text is not UTF-8 or has a zero byte.
    #[error("{0} is no text")]
    Text(&'static str),
    /// A kind of value does not exist or is not allowed at its place.
    #[error("{0} has a kind of value that is not allowed")]
    Kind(String),
    /// A key or a tensor's name comes twice.
    #[error("{0} comes twice")]
    Repeated(String),
    /// A metadata entry that the model's architecture needs is missing or out of bounds.
    #[error("{key} is missing or out of bounds")]
    Key {
        /// Its key.
        key: String,
    },
    /// A tensor's shape, kind or place is not possible.
    #[error("tensor {tensor}: {reason}")]
    Tensor {
        /// Its name.
        tensor: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The file is not a whole model, but a part, an adapter where a model is needed, or the other way round.
    #[error("this is {0}")]
    Role(&'static str),
}

/// A value of the metadata.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A whole number of any width.
    Unsigned(u64),
    /// A whole number with a sign.
    Signed(i64),
    /// A floating-point number.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// A text.
    Text(String),
    /// An array, of which kind and length are kept alone.
    Array {
        /// Kind of its values, as the format numbers them.
        kind: u32,
        /// Its length.
        length: u64,
    },
}

/// A tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Its dimensions, the fastest first.
    pub shape: Vec<u64>,
    /// Kind of its values, as the format numbers them.
    pub kind: u32,
    /// Where its bytes begin, from the begin of all tensors' bytes.
    pub offset: u64,
    /// How many bytes it has.
    pub size: u64,
}

/// The header of a file that was found to be sound.
#[derive(Debug, Clone, PartialEq)]
pub struct Gguf {
    /// The metadata.
    pub metadata: BTreeMap<String, Value>,
    /// The tensors, in the file's order.
    pub tensors: Vec<Tensor>,
    /// Where the list of tensors begins in the file, behind the metadata.
    pub list: u64,
    /// Where tensors' bytes begin in the file.
    pub data: u64,
}

impl Gguf {
    /// A text of the metadata.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.metadata.get(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A whole number of the metadata.
    pub fn number(&self, key: &str) -> Option<u64> {
        match self.metadata.get(key)? {
            Value::Unsigned(number) => Some(*number),
            Value::Signed(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// To a multiple of how many bytes each tensor is filled up.
    pub fn alignment(&self) -> u64 {
        self.number("general.alignment").unwrap_or(32)
    }

    /// The architecture, such as `llama` or `bert`.
    pub fn architecture(&self) -> &str {
        self.text("general.architecture").unwrap_or_default()
    }

    /// Whether this makes embeddings rather than text.
    pub fn is_embedding(&self) -> bool {
        self.architecture().ends_with("bert") || self.number(&self.of_architecture("pooling_type")).is_some()
    }

    /// A key below the architecture's name.
    pub fn of_architecture(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture())
    }

    /// Checks that this is a whole model: what llama.cpp asserts rather than checks, and what it would divide by.
    ///
    /// # Errors
    /// [`GgufError::Role`] for adapters and parts, [`GgufError::Key`] for what is missing or out of bounds, [`GgufError::Tensor`]
    /// where vocabulary and embeddings disagree.
    pub fn check_model(&self) -> Result<(), GgufError> {
        if self.text("general.type").is_some_and(|kind| kind != "model") {
            return Err(GgufError::Role("an adapter or another part, no model"));
        }
        if self.number("split.count").is_some_and(|count| count > 1) {
            return Err(GgufError::Role("one part of a model that is split over files"));
        }
        self.check_architecture()?;
        let bounded = |key: &str, limit: u64| -> Result<u64, GgufError> {
            let key = self.of_architecture(key);
            self.number(&key).filter(|number| (1..=limit).contains(number)).ok_or(GgufError::Key { key })
        };
        bounded("block_count", 1024)?;
        bounded("context_length", 1 << 24)?;
        let width = bounded("embedding_length", 1 << 20)?;
        let heads = self.of_architecture("attention.head_count");
        let has_heads = match self.metadata.get(&heads) {
            Some(Value::Array { length, .. }) => (1..=1024).contains(length),
            _ => self.number(&heads).is_some_and(|count| (1..=4096).contains(&count)),
        };
        if !has_heads {
            return Err(GgufError::Key { key: heads });
        }
        let tokens = self.array("tokenizer.ggml.tokens", &[8])?;
        for (key, kinds) in [("tokenizer.ggml.token_type", &[4, 5][..]), ("tokenizer.ggml.scores", &[6])] {
            if self.metadata.contains_key(key) && self.array(key, kinds)? != tokens {
                return Err(GgufError::Key { key: key.to_owned() });
            }
        }
        for name in ["bos", "eos", "unknown", "separator", "padding", "mask", "eot", "seperator", "cls"] {
            let key = format!("tokenizer.ggml.{name}_token_id");
            if self.metadata.contains_key(&key)
                && self.number(&key).is_none_or(|id| id >= tokens && id != u64::from(u32::MAX))
            {
                return Err(GgufError::Key { key });
            }
        }
        let embeddings = self.tensors.iter().find(|tensor| tensor.name == "token_embd.weight");
        let embeddings = embeddings.ok_or(GgufError::Key { key: "token_embd.weight".to_owned() })?;
        if embeddings.shape != [width, tokens] {
            return Err(GgufError::Tensor {
                tensor: embeddings.name.clone(),
                reason: "its shape is not embedding length by vocabulary",
            });
        }
        Ok(())
    }

    /// Checks that this is a LoRA adapter.
    ///
    /// # Errors
    /// [`GgufError::Role`] if not; [`GgufError::Key`] or [`GgufError::Tensor`] for what is missing or has no counterpart.
    pub fn check_adapter(&self) -> Result<(), GgufError> {
        if self.text("general.type") != Some("adapter") || self.text("adapter.type") != Some("lora") {
            return Err(GgufError::Role("no LoRA adapter"));
        }
        self.check_architecture()?;
        if !matches!(self.metadata.get("adapter.lora.alpha"), Some(Value::Float(alpha)) if alpha.is_finite()) {
            return Err(GgufError::Key { key: "adapter.lora.alpha".to_owned() });
        }
        let shapes: BTreeMap<&str, &[u64]> =
            self.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice())).collect();
        for tensor in &self.tensors {
            let failed = |reason| Err(GgufError::Tensor { tensor: tensor.name.clone(), reason });
            let (other, is_first) = match tensor.name.rsplit_once(".lora_") {
                Some((base, "a")) => (format!("{base}.lora_b"), true),
                Some((base, "b")) => (format!("{base}.lora_a"), false),
                _ => return failed("it is neither half of an adapter's pair"),
            };
            let (Some(other), [first, second]) = (shapes.get(other.as_str()), tensor.shape.as_slice()) else {
                return failed("its other half is missing, or it is no matrix");
            };
            let rank = if is_first { other.first() == Some(second) } else { other.get(1) == Some(first) };
            if !rank {
                return failed("its rank is not that of its other half");
            }
        }
        if self.tensors.is_empty() {
            return Err(GgufError::Key { key: "an adapter's tensors".to_owned() });
        }
        Ok(())
    }

    fn check_architecture(&self) -> Result<(), GgufError> {
        let name = self.architecture();
        let is_name = (1..=32).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte));
        if is_name { Ok(()) } else { Err(GgufError::Key { key: "general.architecture".to_owned() }) }
    }

    /// Length of an array of one of these kinds.
    fn array(&self, key: &str, kinds: &[u32]) -> Result<u64, GgufError> {
        match self.metadata.get(key) {
            Some(Value::Array { kind, length }) if kinds.contains(kind) && *length > 0 => Ok(*length),
            _ => Err(GgufError::Key { key: key.to_owned() }),
        }
    }
}

/// Values and bytes of a block of a kind of tensor; `None` for kinds that do not exist or are used within computations alone.
fn block(kind: u32) -> Option<(u64, u64)> {
    Some(match kind {
        0 | 26 => (1, 4),
        1 | 25 | 30 => (1, 2),
        24 => (1, 1),
        27 | 28 => (1, 8),
        2 | 20 => (32, 18),
        3 => (32, 20),
        6 => (32, 22),
        7 => (32, 24),
        8 => (32, 34),
        10 => (256, 84),
        11 | 21 => (256, 110),
        12 => (256, 144),
        13 => (256, 176),
        14 => (256, 210),
        16 | 35 => (256, 66),
        17 => (256, 74),
        18 => (256, 98),
        19 => (256, 50),
        22 => (256, 82),
        23 => (256, 136),
        29 => (256, 56),
        34 => (256, 54),
        39 => (32, 17),
        _ => return None,
    })
}
