//! ONNX files for tests: as much of the protobuf form as they need.

/// Numbers of element types in ONNX.
pub const F32: u64 = 1;
pub const U8: u64 = 2;
pub const I8: u64 = 3;
pub const U16: u64 = 4;
pub const I16: u64 = 5;
pub const I32: u64 = 6;
pub const I64: u64 = 7;
pub const BOOL: u64 = 9;
pub const F64: u64 = 11;
pub const U32: u64 = 12;
pub const U64: u64 = 13;

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

pub fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

pub fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
}

pub fn text(field: u64, value: &str) -> Vec<u8> {
    bytes(field, value.as_bytes())
}

/// A dimension: a size, or a name.
#[derive(Clone, Copy)]
pub enum Dim {
    Size(u64),
    Name(&'static str),
}

pub use Dim::{Name, Size};

/// An input or output.
pub fn value(name: &str, element: u64, shape: &[Dim]) -> Vec<u8> {
    let dims: Vec<u8> = shape
        .iter()
        .flat_map(|dim| match dim {
            Size(size) => bytes(1, &number(1, *size)),
            Name(name) => bytes(1, &text(2, name)),
        })
        .collect();
    let tensor = [number(1, element), bytes(2, &dims)].concat();
    [text(1, name), bytes(2, &bytes(1, &tensor))].concat()
}

/// A tensor with the bytes of its elements.
pub fn tensor(name: &str, element: u64, shape: &[u64], data: &[u8]) -> Vec<u8> {
    let dims: Vec<u8> = shape.iter().flat_map(|size| number(1, *size)).collect();
    [dims, number(2, element), text(8, name), bytes(9, data)].concat()
}

pub fn floats(name: &str, shape: &[u64], values: &[f32]) -> Vec<u8> {
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(name, F32, shape, &data)
}

/// An attribute that holds an integer.
pub fn integer(name: &str, value: i64) -> Vec<u8> {
    [text(1, name), number(3, value.cast_unsigned()), number(20, 2)].concat()
}

/// An attribute that holds a graph.
pub fn subgraph(name: &str, graph: &Graph) -> Vec<u8> {
    [text(1, name), bytes(6, &graph.to_bytes()), number(20, 5)].concat()
}

/// A graph under construction.
#[derive(Clone, Default)]
pub struct Graph {
    fields: Vec<u8>,
}

impl Graph {
    pub fn new() -> Self {
        Self { fields: text(2, "tests") }
    }

    fn with(mut self, field: u64, value: &[u8]) -> Self {
        self.fields.extend(bytes(field, value));
        self
    }

    pub fn input(self, name: &str, element: u64, shape: &[Dim]) -> Self {
        self.with(11, &value(name, element, shape))
    }

    pub fn output(self, name: &str, element: u64, shape: &[Dim]) -> Self {
        self.with(12, &value(name, element, shape))
    }

    pub fn holds(self, tensor: &[u8]) -> Self {
        self.with(5, tensor)
    }

    pub fn node(self, operator: &str, inputs: &[&str], outputs: &[&str]) -> Self {
        self.node_with(operator, inputs, outputs, &[])
    }

    pub fn node_with(self, operator: &str, inputs: &[&str], outputs: &[&str], attributes: &[Vec<u8>]) -> Self {
        let parts = inputs.iter().map(|input| text(1, input));
        let parts = parts.chain(outputs.iter().map(|output| text(2, output)));
        let parts = parts.chain([text(4, operator)]).chain(attributes.iter().map(|attribute| bytes(5, attribute)));
        self.with(1, &parts.collect::<Vec<_>>().concat())
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        self.fields.clone()
    }

    /// The file, under the MIT licence.
    pub fn file(&self) -> Vec<u8> {
        let licence = [text(1, "license"), text(2, "mit")].concat();
        [number(1, 8), bytes(7, &self.fields), bytes(8, &number(2, 15)), bytes(14, &licence)].concat()
    }
}

/// Numbers between -1 and 1 that look random and are always the same.
pub fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / 8_388_608.0 - 1.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// Layers of a perceptron for tests: inputs, hidden, outputs.
pub const LAYERS: [usize; 3] = [37, 29, 10];

/// A perceptron of two layers; `batch` is its first dimension.
pub fn perceptron(batch: Dim) -> Graph {
    let [inputs, hidden, outputs] = LAYERS;
    let [wide, middle, narrow] = LAYERS.map(|size| size as u64);
    Graph::new()
        .input("x", F32, &[batch, Size(wide)])
        .holds(&floats("w1", &[wide, middle], &numbers(1, inputs * hidden)))
        .holds(&floats("b1", &[middle], &numbers(2, hidden)))
        .holds(&floats("w2", &[middle, narrow], &numbers(3, hidden * outputs)))
        .holds(&floats("b2", &[narrow], &numbers(4, outputs)))
        .node("MatMul", &["x", "w1"], &["h1"])
        .node("Add", &["h1", "b1"], &["h2"])
        .node("Relu", &["h2"], &["h3"])
        .node("MatMul", &["h3", "w2"], &["h4"])
        .node("Add", &["h4", "b2"], &["logits"])
        .node_with("Softmax", &["logits"], &["probabilities"], &[integer("axis", -1)])
        .output("logits", F32, &[batch, Size(narrow)])
        .output("probabilities", F32, &[batch, Size(narrow)])
}

/// What the perceptron computes, in plain Rust: sums from the first product to the last, each product rounded.
pub fn expected(x: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let layer = |x: &[f32], weights: &[f32], bias: &[f32]| {
        let width = bias.len();
        let rows = x.chunks(weights.len() / width);
        let cell = |row: &[f32], column: usize| {
            let products = row.iter().enumerate().map(|(k, value)| value * weights[k * width + column]);
            products.fold(0.0, |sum, product| sum + product) + bias[column]
        };
        rows.flat_map(|row| (0..width).map(move |column| cell(row, column))).collect::<Vec<f32>>()
    };
    let [inputs, hidden, outputs] = LAYERS;
    let mut middle = layer(x, &numbers(1, inputs * hidden), &numbers(2, hidden));
    middle.iter_mut().for_each(|value| *value = value.max(0.0));
    let logits = layer(&middle, &numbers(3, hidden * outputs), &numbers(4, outputs));
    let softmax = |row: &[f32]| {
        let most = row.iter().copied().fold(f32::MIN, f32::max);
        let powers: Vec<f32> = row.iter().map(|value| (value - most).exp()).collect();
        let sum: f32 = powers.iter().sum();
        powers.into_iter().map(move |power| power / sum).collect::<Vec<_>>()
    };
    let probabilities = logits.chunks(outputs).flat_map(softmax).collect();
    (logits, probabilities)
}
