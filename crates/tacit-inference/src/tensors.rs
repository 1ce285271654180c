//! Tensors: what a model that runs them takes, what it is asked, and what it gives.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{InferenceError, limits::parameter};

/// Most tensors of a request, and of an answer.
pub const MAX_TENSORS: usize = 64;
/// Most dimensions of a tensor.
pub const MAX_RANK: usize = 8;
/// Longest name of a tensor, in bytes.
pub const MAX_NAME: usize = 256;
/// Most bytes that all tensors of a request, or of an answer, have together.
pub const MAX_BYTES: usize = 16 << 20;

/// Type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Element {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
    /// 8 bits, signed.
    I8,
    /// 16 bits, signed.
    I16,
    /// 32 bits, signed.
    I32,
    /// 64 bits, signed.
    I64,
    /// 8 bits, unsigned.
    U8,
    /// 16 bits, unsigned.
    U16,
    /// 32 bits, unsigned.
    U32,
    /// 64 bits, unsigned.
    U64,
    /// A byte, 0 or 1.
    Bool,
}

impl Element {
    /// Bytes of one element.
    pub const fn width(self) -> usize {
        match self {
            Self::I8 | Self::U8 | Self::Bool => 1,
            Self::I16 | Self::U16 => 2,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F64 | Self::I64 | Self::U64 => 8,
        }
    }

    /// Its name, as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::U64 => "u64",
            Self::Bool => "bool",
        }
    }
}

/// One dimension of what a model takes or gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dimension {
    /// Always this.
    Fixed(usize),
    /// Any size from 1; the same wherever the same name stands. An empty name stands for no other dimension.
    Free(String),
}

/// A tensor that a model takes or gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorKind {
    /// Its name.
    pub name: String,
    /// Type of its elements.
    pub element: Element,
    /// Its shape.
    pub shape: Vec<Dimension>,
}

/// What a model takes and gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorInterface {
    /// Each is needed in every request.
    pub inputs: Vec<TensorKind>,
    /// All are in every answer, in this order.
    pub outputs: Vec<TensorKind>,
    /// The engine, its version, and the instructions that its kernels use: outputs are the same bytes where this text and the
    /// model's digest are the same.
    pub kernels: String,
}

/// A tensor with its elements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedTensor {
    /// Name of the input or output.
    pub name: String,
    /// Type of its elements.
    pub element: Element,
    /// Its shape; none for a scalar.
    pub shape: Vec<usize>,
    /// The elements, little-endian, the last dimension innermost. Base64 in JSON.
    #[serde(serialize_with = "to_text", deserialize_with = "from_text")]
    pub data: Vec<u8>,
}

/// Tensors to run through a model.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TensorRequest {
    /// One for each of the model's inputs, in any order.
    pub inputs: Vec<NamedTensor>,
}

/// What a model made of tensors.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TensorAnswer {
    /// One for each of the model's outputs, in its order.
    pub outputs: Vec<NamedTensor>,
}

fn to_text<S: Serializer>(data: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64_STANDARD.encode(data))
}

fn from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    BASE64_STANDARD.decode(text).map_err(|_| D::Error::custom("a tensor's data is not base64"))
}

impl NamedTensor {
    /// A tensor of 32-bit floating-point numbers.
    pub fn of_f32(name: &str, shape: &[usize], values: &[f32]) -> Self {
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { name: name.to_owned(), element: Element::F32, shape: shape.to_vec(), data }
    }

    /// A tensor of signed 64-bit integers.
    pub fn of_i64(name: &str, shape: &[usize], values: &[i64]) -> Self {
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { name: name.to_owned(), element: Element::I64, shape: shape.to_vec(), data }
    }

    /// Its elements, if they are 32-bit floating-point numbers.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        let (values, rest) = self.data.as_chunks::<4>();
        let is_f32 = self.element == Element::F32 && rest.is_empty();
        is_f32.then(|| values.iter().map(|value| f32::from_le_bytes(*value)).collect())
    }
}

/// Bytes of a shape's elements; `None` beyond what a machine can count.
pub(crate) fn length(shape: &[usize], element: Element) -> Option<usize> {
    shape.iter().try_fold(element.width(), |bytes, dimension| bytes.checked_mul(*dimension))
}

/// Checks a request against bounds and against what the model takes. Afterwards every tensor has one input, and as many bytes as its
/// shape says.
///
/// # Errors
/// [`InferenceError::Parameter`], with the input's name.
pub(crate) fn check(request: &TensorRequest, takes: &[TensorKind]) -> Result<(), InferenceError> {
    if request.inputs.len() > MAX_TENSORS {
        return Err(parameter("inputs", format!("are at most {MAX_TENSORS}")));
    }
    let mut total = 0_usize;
    for (index, tensor) in request.inputs.iter().enumerate() {
        if tensor.name.len() > MAX_NAME {
            return Err(parameter(&format!("inputs[{index}]"), format!("has a name of at most {MAX_NAME} bytes")));
        }
        form(tensor)?;
        total = total.saturating_add(tensor.data.len());
    }
    if total > MAX_BYTES {
        return Err(parameter("inputs", format!("have at most {MAX_BYTES} bytes together")));
    }
    let mut sizes = BTreeMap::new();
    for (index, tensor) in request.inputs.iter().enumerate() {
        let failed = |reason: String| Err(parameter(&tensor.name, reason));
        let Some(kind) = takes.iter().find(|kind| kind.name == tensor.name) else {
            return failed("is no input of this model".to_owned());
        };
        if request.inputs[..index].iter().any(|before| before.name == tensor.name) {
            return failed("is given twice".to_owned());
        }
        if tensor.element != kind.element {
            return failed(format!("is of {}, and the model takes {}", tensor.element.name(), kind.element.name()));
        }
        fits(tensor, kind, &mut sizes)?;
    }
    match takes.iter().find(|kind| !request.inputs.iter().any(|tensor| tensor.name == kind.name)) {
        Some(missing) => Err(parameter(&missing.name, "is missing")),
        None => Ok(()),
    }
}

/// Checks what needs no model: rank, size, length, and that truth values are such.
fn form(tensor: &NamedTensor) -> Result<(), InferenceError> {
    let failed = |reason: String| Err(parameter(&tensor.name, reason));
    if tensor.shape.len() > MAX_RANK {
        return failed(format!("has at most {MAX_RANK} dimensions"));
    }
    if tensor.shape.contains(&0) {
        return failed("has a dimension of 0".to_owned());
    }
    let bytes = length(&tensor.shape, tensor.element).filter(|bytes| *bytes <= MAX_BYTES);
    let Some(bytes) = bytes else { return failed(format!("has at most {MAX_BYTES} bytes")) };
    if tensor.data.len() != bytes {
        return failed(format!("has {} bytes, and its shape says {bytes}", tensor.data.len()));
    }
    if tensor.element == Element::Bool && tensor.data.iter().any(|byte| *byte > 1) {
        return failed("has a byte that is neither 0 nor 1".to_owned());
    }
    Ok(())
}

/// Checks a shape against what the model takes. `sizes` holds what the free dimensions have been so far.
fn fits<'kind>(
    tensor: &NamedTensor,
    kind: &'kind TensorKind,
    sizes: &mut BTreeMap<&'kind str, usize>,
) -> Result<(), InferenceError> {
    if tensor.shape.len() != kind.shape.len() {
        let reason = format!("has {} dimensions, and the model takes {}", tensor.shape.len(), kind.shape.len());
        return Err(parameter(&tensor.name, reason));
    }
    for (index, (size, dimension)) in tensor.shape.iter().zip(&kind.shape).enumerate() {
        let expected = match dimension {
            Dimension::Fixed(expected) => *expected,
            Dimension::Free(name) if name.is_empty() => *size,
            Dimension::Free(name) => *sizes.entry(name).or_insert(*size),
        };
        if *size != expected {
            return Err(parameter(&tensor.name, format!("has {size} in dimension {index}, and {expected} is needed")));
        }
    }
    Ok(())
}
