//! A graph that tract runs, on the thread that owns it.

use std::{
    collections::VecDeque,
    io::BufReader,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;
use tract_onnx::{
    prelude::*,
    tract_core::{self, internal::SimpleState},
};

use super::{check, engine, failure, kernels};
use crate::{
    Element, InferenceError, NamedTensor, TensorAnswer, TensorInterface, TensorRequest,
    limits::parameter,
    store::CheckedFile,
    tensors::{self, MAX_BYTES},
};

/// Longest that one request may run. It is looked at between the nodes of a graph.
const RUNNING: Duration = Duration::from_secs(60);
/// Graphs that are kept, each prepared for the shapes of one request.
const KEPT: usize = 4;
/// Longest reason that is told.
const MAX_REASON: usize = 400;

/// Shapes of a request's tensors, in the order of the model's inputs.
type Shapes = Vec<Vec<usize>>;
type Plan = Arc<TypedRunnableModel>;

/// A graph, and what was prepared of it.
pub(super) struct Graph {
    parsed: InferenceModel,
    pub(super) interface: TensorInterface,
    plans: VecDeque<(Shapes, Plan)>,
}

impl Graph {
    /// Builds a checked file's graph. Where all its shapes are fixed, it is prepared as well.
    ///
    /// # Errors
    /// [`InferenceError::Engine`], with the reason.
    pub(super) fn load(file: &CheckedFile) -> Result<Self, InferenceError> {
        let kernels = kernels::force()?;
        let onnx = tract_onnx::onnx().with_ignore_value_info(true);
        let mut reader = BufReader::new(file.open().map_err(|error| failure(&error))?);
        let model = onnx.proto_model_for_read(&mut reader).map_err(|error| engine(&reason(&error)))?;
        let declared = check::model(&model, &onnx).map_err(|error| failure(&error))?;
        let parsed = onnx.parse(&model, None).map_err(|error| engine(&reason(&error)))?;
        if !parsed.unresolved_inputs.is_empty() {
            return Err(engine("a part of it uses what nothing makes"));
        }
        let parsed = parsed.model;
        let names = parsed.input_outlets().map_err(|error| engine(&reason(&error)))?;
        let names: Vec<&str> = names.iter().map(|outlet| parsed.node(outlet.node).name.as_str()).collect();
        if names != declared.inputs.iter().map(|kind| kind.name.as_str()).collect::<Vec<_>>() {
            return Err(engine("tract finds other inputs in it than it declares"));
        }
        let kernels = if declared.has_gru { kernels::with_gru(&kernels) } else { kernels };
        let interface = TensorInterface { inputs: declared.inputs, outputs: declared.outputs, kernels };
        let mut graph = Self { parsed, interface, plans: VecDeque::new() };
        if let Some(shapes) = graph.fixed() {
            graph.prepare(&shapes).map_err(|error| engine(&reason(&error)))?;
        }
        Ok(graph)
    }

    /// The shapes of all inputs, if none is free.
    fn fixed(&self) -> Option<Shapes> {
        let size = |dimension: &tensors::Dimension| match dimension {
            tensors::Dimension::Fixed(size) => Some(*size),
            tensors::Dimension::Free(_) => None,
        };
        self.interface.inputs.iter().map(|kind| kind.shape.iter().map(size).collect()).collect()
    }

    /// The graph for these shapes, optimised; what was used least recently makes room for it.
    fn prepare(&mut self, shapes: &Shapes) -> TractResult<Plan> {
        let kept = self.plans.iter().position(|(of, _)| of == shapes);
        let plan = if let Some((_, plan)) = kept.and_then(|index| self.plans.remove(index)) {
            plan
        } else {
            self.plans.truncate(KEPT - 1);
            let mut model = self.parsed.clone();
            for (index, (kind, shape)) in self.interface.inputs.iter().zip(shapes).enumerate() {
                let shape = shape.iter().map(|size| size.to_dim()).collect::<TVec<TDim>>();
                model.set_input_fact(index, InferenceFact::dt_shape(datum(kind.element), shape))?;
            }
            model.into_optimized()?.into_runnable()?
        };
        self.plans.push_front((shapes.clone(), Arc::clone(&plan)));
        Ok(plan)
    }

    /// Runs one request, which was checked before; gives up when nobody waits for it any more.
    ///
    /// # Errors
    /// [`InferenceError`]; texts name nodes of the graph and shapes, never values.
    pub(super) fn run(
        &mut self,
        request: TensorRequest,
        reply: &oneshot::Sender<Result<TensorAnswer, InferenceError>>,
    ) -> Result<TensorAnswer, InferenceError> {
        let mut given = request.inputs;
        let in_order = self.interface.inputs.iter().map(|kind| {
            let index = given.iter().position(|tensor| tensor.name == kind.name);
            index.map(|index| given.swap_remove(index)).ok_or_else(|| parameter(&kind.name, "is missing"))
        });
        let inputs: Vec<NamedTensor> = in_order.collect::<Result<_, _>>()?;
        let shapes: Shapes = inputs.iter().map(|tensor| tensor.shape.clone()).collect();
        // Nothing of a request but its shapes is known here, so the reason quotes no value.
        let plan = self.prepare(&shapes);
        let plan = plan.map_err(|error| parameter("inputs", format!("do not fit together: {}", reason(&error))))?;
        let inputs = inputs.iter().map(|input| value(input).map(Tensor::into_tvalue));
        let inputs = inputs.collect::<TractResult<TVec<TValue>>>().map_err(|error| engine(&reason(&error)))?;
        let (begun, mut at) = (Instant::now(), String::new());
        let mut state = SimpleState::new(&plan).map_err(|error| engine(&reason(&error)))?;
        let outputs = state.run_plan_with_eval(inputs, |context, state, node, inputs| {
            node.name.clone_into(&mut at);
            if reply.is_closed() || begun.elapsed() > RUNNING {
                return Err(TractError::msg("it was given up"));
            }
            tract_core::plan::eval(context, state, node, inputs)
        });
        let outputs = match outputs {
            Ok(outputs) => outputs,
            Err(_) if begun.elapsed() > RUNNING => {
                return Err(engine(&format!("a request ran longer than {} seconds", RUNNING.as_secs())));
            }
            // What tract says may quote values.
            Err(_) => return Err(engine(&format!("it does not run with these tensors, at {at:?}"))),
        };
        self.answer(&outputs)
    }

    fn answer(&self, outputs: &[TValue]) -> Result<TensorAnswer, InferenceError> {
        if outputs.len() != self.interface.outputs.len() {
            return Err(engine("it made another number of outputs than it declares"));
        }
        let (mut answer, mut total) = (TensorAnswer::default(), 0_usize);
        for (kind, output) in self.interface.outputs.iter().zip(outputs) {
            let bytes = tensors::length(output.shape(), kind.element).unwrap_or(usize::MAX);
            total = total.saturating_add(bytes);
            if total > MAX_BYTES {
                return Err(engine(&format!("its answer has more than {MAX_BYTES} bytes")));
            }
            let data = bytes_of(output, kind.element);
            let data =
                data.map_err(|_| engine(&format!("it made {:?} of another type than it declares", kind.name)))?;
            let (name, shape) = (kind.name.clone(), output.shape().to_vec());
            answer.outputs.push(NamedTensor { name, element: kind.element, shape, data });
        }
        Ok(answer)
    }
}

/// Why tract refused, with all its causes, cut to a bearable length.
fn reason(error: &TractError) -> String {
    let mut text = format!("{error:#}").replace('\n', " ");
    text.truncate(text.floor_char_boundary(MAX_REASON));
    text
}

fn datum(element: Element) -> DatumType {
    match element {
        Element::F32 => DatumType::F32,
        Element::F64 => DatumType::F64,
        Element::I8 => DatumType::I8,
        Element::I16 => DatumType::I16,
        Element::I32 => DatumType::I32,
        Element::I64 => DatumType::I64,
        Element::U8 => DatumType::U8,
        Element::U16 => DatumType::U16,
        Element::U32 => DatumType::U32,
        Element::U64 => DatumType::U64,
        Element::Bool => DatumType::Bool,
    }
}

/// Calls a macro with the Rust type of an element's numbers.
macro_rules! of_numbers {
    ($element:expr, $call:ident, $truth:expr) => {
        match $element {
            Element::F32 => $call!(f32),
            Element::F64 => $call!(f64),
            Element::I8 => $call!(i8),
            Element::I16 => $call!(i16),
            Element::I32 => $call!(i32),
            Element::I64 => $call!(i64),
            Element::U8 => $call!(u8),
            Element::U16 => $call!(u16),
            Element::U32 => $call!(u32),
            Element::U64 => $call!(u64),
            Element::Bool => $truth,
        }
    };
}

/// A tensor of tract with these elements.
fn value(tensor: &NamedTensor) -> TractResult<Tensor> {
    macro_rules! numbers {
        ($number:ty) => {{
            let (values, _) = tensor.data.as_chunks();
            let values = values.iter().map(|value| <$number>::from_le_bytes(*value)).collect();
            tract_ndarray::ArrayD::<$number>::from_shape_vec(tensor.shape.as_slice(), values)?.into_tensor()
        }};
    }
    Ok(of_numbers!(tensor.element, numbers, {
        let values = tensor.data.iter().map(|byte| *byte != 0).collect();
        tract_ndarray::ArrayD::<bool>::from_shape_vec(tensor.shape.as_slice(), values)?.into_tensor()
    }))
}

/// The elements of a tensor of tract.
fn bytes_of(tensor: &Tensor, element: Element) -> TractResult<Vec<u8>> {
    // Sizes of dimensions are numbers of a type of tract's own.
    let is_size = tensor.datum_type() == TDim::datum_type();
    let made = tensor.cast_to_dt(if is_size { DatumType::I64 } else { tensor.datum_type() })?;
    macro_rules! numbers {
        ($number:ty) => {
            made.to_plain_array_view::<$number>()?.iter().flat_map(|value| value.to_le_bytes()).collect()
        };
    }
    Ok(of_numbers!(
        element,
        numbers,
        made.to_plain_array_view::<bool>()?.iter().map(|truth| u8::from(*truth)).collect()
    ))
}
