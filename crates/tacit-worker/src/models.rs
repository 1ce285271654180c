//! What functions get of the models that their worker runs.

use std::sync::Arc;

use bytes::Bytes;
use tacit_inference::{InferenceError, NamedTensor, TensorRequest, tensors};
use tacit_receipt::aci::AciReceipt;
use tacit_runtime::{Element, HostError, ModelAnswer, ModelRun, ModelTask, Tensor};
use tacit_types::{FunctionId, manifest::Manifest};

use crate::ai::{Endpoint, ReplyBody, Service};

type Models<'a> = Option<&'a Arc<Service>>;

/// A model's answer to a function, through the same service and with the same receipt as anybody's.
///
/// # Errors
/// [`HostError::Denied`] for a model that the manifest does not allow, or where no models run.
pub(crate) async fn answer(
    models: Models<'_>,
    manifest: &Manifest,
    function: FunctionId,
    task: ModelTask,
    request: Bytes,
) -> Result<ModelAnswer, HostError> {
    #[derive(serde::Deserialize)]
    struct Named {
        model: String,
    }
    let named: Named = serde_json::from_slice(&request)
        .map_err(|_| HostError::Invalid("a request to a model is a JSON object that names its model".into()))?;
    let service = allowed(models, manifest, &named.model)?;
    let endpoint = match task {
        ModelTask::Chat => Endpoint::Chat,
        ModelTask::Complete => Endpoint::Completions,
        ModelTask::Embed => Endpoint::Embeddings,
    };
    let reply = service.answer_function(function, endpoint, request).await;
    let ReplyBody::Whole(body) = reply.body else {
        return Err(HostError::Unavailable("the model answers in pieces, which no function takes".into()));
    };
    let receipt = reply.receipt.as_ref().and_then(|receipt| tacit_types::jcs::to_bytes(receipt).ok());
    let read = reply.receipt.and_then(|receipt| AciReceipt::from_value(receipt).ok());
    let model = read.and_then(|receipt| Some(receipt.inference()?.model_digest.digest().into_bytes()));
    Ok(ModelAnswer { status: reply.status.as_u16(), body, receipt: receipt.map(Bytes::from), model })
}

/// Runs an ONNX model for a function.
///
/// # Errors
/// As [`answer`], and [`HostError::Invalid`] for inputs that the model does not take.
pub(crate) async fn run(
    models: Models<'_>,
    manifest: &Manifest,
    model: &str,
    inputs: Vec<Tensor>,
) -> Result<ModelRun, HostError> {
    let service = allowed(models, manifest, model)?;
    let offer = service.models.get(model).ok_or_else(|| unknown(model))?;
    let inputs = inputs.into_iter().map(into_named).collect();
    let answer = offer.backend.run(TensorRequest { inputs }).await.map_err(refused)?;
    let outputs = answer.outputs.into_iter().map(from_named).collect::<Option<_>>();
    let outputs = outputs.ok_or_else(|| HostError::Unavailable("the model's output is too large".into()))?;
    Ok(ModelRun { outputs, model: offer.backend.identity().digest.into_bytes() })
}

fn allowed<'a>(models: Models<'a>, manifest: &Manifest, model: &str) -> Result<&'a Arc<Service>, HostError> {
    if !manifest.models.allow.contains(model) {
        let line = format!("the manifest does not allow the model \"{model}\"; add it to allow under [models]");
        return Err(HostError::Denied(line));
    }
    models.ok_or_else(|| HostError::Denied("this worker runs no models".into()))
}

fn unknown(model: &str) -> HostError {
    HostError::Unavailable(format!("this worker does not run the model \"{model}\""))
}

fn refused(error: InferenceError) -> HostError {
    match error {
        InferenceError::Parameter { .. }
        | InferenceError::Unsupported { .. }
        | InferenceError::ContextLength { .. } => HostError::Invalid(error.to_string()),
        error => HostError::Unavailable(error.to_string()),
    }
}

fn into_named(tensor: Tensor) -> NamedTensor {
    let element = match tensor.element {
        Element::Float32 => tensors::Element::F32,
        Element::Float64 => tensors::Element::F64,
        Element::Int8 => tensors::Element::I8,
        Element::Int16 => tensors::Element::I16,
        Element::Int32 => tensors::Element::I32,
        Element::Int64 => tensors::Element::I64,
        Element::Uint8 => tensors::Element::U8,
        Element::Uint16 => tensors::Element::U16,
        Element::Uint32 => tensors::Element::U32,
        Element::Uint64 => tensors::Element::U64,
        Element::Boolean => tensors::Element::Bool,
    };
    let shape = tensor.shape.into_iter().map(|axis| axis as usize).collect();
    NamedTensor { name: tensor.name, element, shape, data: tensor.data.into() }
}

fn from_named(tensor: NamedTensor) -> Option<Tensor> {
    let element = match tensor.element {
        tensors::Element::F32 => Element::Float32,
        tensors::Element::F64 => Element::Float64,
        tensors::Element::I8 => Element::Int8,
        tensors::Element::I16 => Element::Int16,
        tensors::Element::I32 => Element::Int32,
        tensors::Element::I64 => Element::Int64,
        tensors::Element::U8 => Element::Uint8,
        tensors::Element::U16 => Element::Uint16,
        tensors::Element::U32 => Element::Uint32,
        tensors::Element::U64 => Element::Uint64,
        tensors::Element::Bool => Element::Boolean,
    };
    let shape = tensor.shape.into_iter().map(|axis| u32::try_from(axis).ok()).collect::<Option<_>>()?;
    Some(Tensor { name: tensor.name, element, shape, data: tensor.data.into() })
}
