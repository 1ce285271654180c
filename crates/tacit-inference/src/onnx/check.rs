//! What a graph must be before tract builds it: every part known, every tensor as long as its shape says, every node after what it
//! uses.

use std::collections::HashSet;

use tract_onnx::{
    Onnx,
    pb::{
        GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, tensor_proto::DataLocation,
        tensor_proto::DataType, tensor_shape_proto::dimension, type_proto,
    },
};

use super::OnnxError;
use crate::tensors::{Dimension, Element, MAX_BYTES, MAX_NAME, MAX_RANK, MAX_TENSORS, TensorKind, length};

/// Most nodes, in all graphs of a file.
const MAX_NODES: u64 = 200_000;
/// Most graphs within each other.
const MAX_DEPTH: usize = 8;
/// Operators that draw random numbers: the same inputs would not give the same outputs.
const RANDOM: [&str; 6] =
    ["Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"];

/// What a sound model takes and gives, as its file declares it.
pub(super) struct Declared {
    pub(super) inputs: Vec<TensorKind>,
    pub(super) outputs: Vec<TensorKind>,
    /// Whether an operator is in it whose arithmetic is not tract's own.
    pub(super) has_gru: bool,
}

/// Checks a model.
///
/// # Errors
/// [`OnnxError`] for whatever is not sound, or not supported.
pub(super) fn model(model: &ModelProto, onnx: &Onnx) -> Result<Declared, OnnxError> {
    if let Some(function) = model.functions.first() {
        return Err(failed(
            "function",
            function.name.as_deref().unwrap_or_default(),
            "is of the model's own, which is not supported",
        ));
    }
    let graph = model.graph.as_ref().ok_or(OnnxError::NotOne("graph"))?;
    let mut checker = Checker { onnx, nodes: 0, has_gru: false };
    checker.graph(graph, &HashSet::new(), 1)?;
    let filled: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let inputs = graph.input.iter().filter(|input| !filled.contains(input.name.as_str()));
    let inputs: Vec<TensorKind> = inputs.map(|input| kind("input", input)).collect::<Result<_, _>>()?;
    let outputs: Vec<TensorKind> =
        graph.output.iter().map(|output| kind("output", output)).collect::<Result<_, _>>()?;
    if inputs.is_empty() || inputs.len() > MAX_TENSORS || outputs.is_empty() || outputs.len() > MAX_TENSORS {
        let reason = format!("has no inputs or no outputs, or more than {MAX_TENSORS}");
        return Err(failed("graph", &graph.name, reason));
    }
    Ok(Declared { inputs, outputs, has_gru: checker.has_gru })
}

fn failed(what: &'static str, name: &str, reason: impl Into<String>) -> OnnxError {
    let end = name.floor_char_boundary(MAX_NAME);
    OnnxError::Graph { what, name: name[..end].to_owned(), reason: reason.into() }
}

struct Checker<'onnx> {
    onnx: &'onnx Onnx,
    nodes: u64,
    has_gru: bool,
}

impl Checker<'_> {
    /// Checks a graph that may use what is named in `around`.
    fn graph(&mut self, graph: &GraphProto, around: &HashSet<&str>, depth: usize) -> Result<(), OnnxError> {
        if depth > MAX_DEPTH {
            return Err(failed("graph", &graph.name, format!("is deeper than {MAX_DEPTH} graphs within each other")));
        }
        if !graph.sparse_initializer.is_empty() {
            return Err(failed("graph", &graph.name, "has sparse tensors, which are not supported"));
        }
        self.nodes += graph.node.len() as u64;
        if self.nodes > MAX_NODES {
            return Err(OnnxError::TooMany { what: "nodes", limit: MAX_NODES });
        }
        let mut known = around.clone();
        let mut own = HashSet::new();
        for tensor in &graph.initializer {
            self::tensor(tensor)?;
            if !own.insert(tensor.name.as_str()) {
                return Err(failed("tensor", &tensor.name, "is there twice"));
            }
        }
        let mut inputs = HashSet::new();
        for input in &graph.input {
            if !inputs.insert(input.name.as_str()) {
                return Err(failed("input", &input.name, "is there twice"));
            }
        }
        own.extend(inputs);
        known.extend(own.iter());
        for node in &graph.node {
            self.node(node, &known, depth)?;
            for output in node.output.iter().filter(|output| !output.is_empty()) {
                if !own.insert(output) {
                    return Err(failed("tensor", output, "is made twice"));
                }
                known.insert(output);
            }
        }
        match graph.output.iter().find(|output| !known.contains(output.name.as_str())) {
            Some(output) => Err(failed("output", &output.name, "is made by no node")),
            None => Ok(()),
        }
    }

    fn node(&mut self, node: &NodeProto, known: &HashSet<&str>, depth: usize) -> Result<(), OnnxError> {
        let name = if node.name.is_empty() { node.output.first().map_or("", String::as_str) } else { &node.name };
        if RANDOM.contains(&node.op_type.as_str()) {
            return Err(failed("node", name, format!("draws random numbers ({})", node.op_type)));
        }
        if !self.onnx.op_register.0.contains_key(&node.op_type) {
            let operator = failed("operator", &node.op_type, "is not known");
            return Err(operator);
        }
        self.has_gru |= node.op_type == "GRU";
        if let Some(input) = node.input.iter().find(|input| !input.is_empty() && !known.contains(input.as_str())) {
            let end = input.floor_char_boundary(MAX_NAME);
            return Err(failed("node", name, format!("uses {:?}, which nothing before it makes", &input[..end])));
        }
        for attribute in &node.attribute {
            if attribute.sparse_tensor.is_some() || !attribute.sparse_tensors.is_empty() {
                return Err(failed("node", name, "has sparse tensors, which are not supported"));
            }
            for tensor in attribute.t.iter().chain(&attribute.tensors) {
                self::tensor(tensor)?;
            }
            for graph in attribute.g.iter().chain(&attribute.graphs) {
                self.graph(graph, known, depth + 1)?;
            }
        }
        Ok(())
    }
}

/// Checks that a tensor's data lies in the file and is as long as its shape says.
fn tensor(tensor: &TensorProto) -> Result<(), OnnxError> {
    let refused = |reason: &str| Err(failed("tensor", &tensor.name, reason));
    if tensor.data_location == Some(DataLocation::External as i32) || !tensor.external_data.is_empty() {
        return refused("has its data in another file");
    }
    if tensor.segment.is_some() {
        return refused("is one part of a tensor");
    }
    if tensor.dims.len() > MAX_RANK {
        return refused("has too many dimensions");
    }
    let mut dimensions = tensor.dims.iter().map(|dimension| usize::try_from(*dimension).ok());
    let values = dimensions.try_fold(1_usize, |values, dimension| values.checked_mul(dimension?));
    let Some(values) = values else { return refused("has a shape that no tensor has") };
    let kind = DataType::try_from(tensor.data_type).unwrap_or(DataType::Undefined);
    let (width, stored) = match kind {
        DataType::Float => (4, tensor.float_data.len()),
        DataType::Double => (8, tensor.double_data.len()),
        DataType::Int64 => (8, tensor.int64_data.len()),
        DataType::Int32 => (4, tensor.int32_data.len()),
        DataType::Int16 | DataType::Uint16 | DataType::Float16 => (2, tensor.int32_data.len()),
        DataType::Int8 | DataType::Uint8 | DataType::Bool => (1, tensor.int32_data.len()),
        // tract reads these two from their bytes alone.
        DataType::Uint32 => (4, 0),
        DataType::Uint64 => (8, 0),
        DataType::String => (0, tensor.string_data.len()),
        _ => return refused("is of a type that is not known"),
    };
    let fits = if tensor.raw_data.is_empty() {
        stored == values
    } else {
        width > 0 && values.checked_mul(width) == Some(tensor.raw_data.len())
    };
    if fits { Ok(()) } else { refused("has another length than its shape says") }
}

/// What the file declares of an input or output.
fn kind(what: &'static str, value: &ValueInfoProto) -> Result<TensorKind, OnnxError> {
    let refused = |reason: &str| failed(what, &value.name, reason);
    if value.name.is_empty() || value.name.len() > MAX_NAME {
        return Err(refused("has no name, or too long a one"));
    }
    let declared = value.r#type.as_ref().and_then(|kind| kind.value.as_ref());
    let Some(type_proto::Value::TensorType(declared)) = declared else { return Err(refused("is no tensor")) };
    let element = DataType::try_from(declared.elem_type).ok().and_then(element);
    let element = element.ok_or_else(|| refused("is of a type that is not supported"))?;
    let shape = declared.shape.as_ref().ok_or_else(|| refused("has no shape"))?;
    if shape.dim.len() > MAX_RANK {
        return Err(refused("has too many dimensions"));
    }
    let sizes: Vec<Dimension> = shape
        .dim
        .iter()
        .map(|size| match &size.value {
            Some(dimension::Value::DimValue(size)) if *size >= 0 => {
                let size = usize::try_from(*size).ok().filter(|size| *size > 0);
                size.map(Dimension::Fixed).ok_or_else(|| refused("has a dimension of 0"))
            }
            Some(dimension::Value::DimParam(name)) if is_word(name) => Ok(Dimension::Free(name.clone())),
            _ => Ok(Dimension::Free(String::new())),
        })
        .collect::<Result<_, _>>()?;
    let least: Vec<usize> =
        sizes.iter().map(|size| if let Dimension::Fixed(size) = size { *size } else { 1 }).collect();
    if length(&least, element).is_none_or(|bytes| bytes > MAX_BYTES) {
        return Err(refused("is larger than any request or answer"));
    }
    Ok(TensorKind { name: value.name.clone(), element, shape: sizes })
}

/// Whether the name of a dimension is one word: the same word is then the same size everywhere.
fn is_word(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && !name.starts_with("unk__")
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.starts_with(|first: char| first.is_ascii_digit())
}

fn element(kind: DataType) -> Option<Element> {
    Some(match kind {
        DataType::Float => Element::F32,
        DataType::Double => Element::F64,
        DataType::Int8 => Element::I8,
        DataType::Int16 => Element::I16,
        DataType::Int32 => Element::I32,
        DataType::Int64 => Element::I64,
        DataType::Uint8 => Element::U8,
        DataType::Uint16 => Element::U16,
        DataType::Uint32 => Element::U32,
        DataType::Uint64 => Element::U64,
        DataType::Bool => Element::Bool,
        _ => return None,
    })
}
