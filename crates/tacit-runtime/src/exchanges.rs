//! What a call asks of others while it goes on: web servers and models. Each exchange runs beside the sandbox and has a number.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::task::JoinHandle;

use crate::bindings::engine::tacit::function::{http, model, types};
use crate::call::{Clock, Effect, run_digest};
use crate::host::{Element, FetchRequest, FetchResponse, HostError, ModelAnswer, ModelTask, Redirect, Tensor};
use crate::limits::Limit;
use crate::sandbox::Sandbox;

/// Header of a model's answer in which its ACI receipt stands.
const RECEIPT: &str = "tacit-receipt";
/// Bytes of a request to a model.
const REQUEST: usize = 4 << 20;
/// Tensors of one run, axes of one tensor, and bytes of all together.
const TENSORS: usize = 64;
const AXES: usize = 8;
const TENSOR_BYTES: usize = 16 << 20;
/// Bytes of a name of a tensor.
const NAME: usize = 256;

/// The exchanges of one call, and what they leave.
#[derive(Default)]
pub(crate) struct Exchanges {
    running: BTreeMap<u32, Exchange>,
    next: u32,
    effects: BTreeMap<u32, Effect>,
}

/// An exchange that runs; it ends with its handle.
struct Exchange(JoinHandle<Result<Answer, HostError>>);

impl Drop for Exchange {
    fn drop(&mut self) {
        self.0.abort();
    }
}

enum Answer {
    Fetch(FetchResponse),
    Model(ModelAnswer),
}

impl Exchanges {
    /// What the exchanges left, in the order in which they were started.
    pub fn into_effects(self) -> Vec<Effect> {
        self.effects.into_values().collect()
    }

    fn number(&mut self) -> u32 {
        let id = self.next;
        self.next += 1;
        id
    }

    fn start(&mut self, id: u32, work: impl Future<Output = Result<Answer, HostError>> + Send + 'static) {
        self.running.insert(id, Exchange(tokio::spawn(work)));
    }

    /// Waits until one of these is done.
    async fn next_of(&mut self, ids: &[u32]) -> (u32, Result<Answer, HostError>) {
        let running = &mut self.running;
        let (id, result) = poll_fn(|context| {
            for id in ids {
                if let Some(exchange) = running.get_mut(id)
                    && let Poll::Ready(result) = Pin::new(&mut exchange.0).poll(context)
                {
                    running.remove(id);
                    return Poll::Ready((*id, result));
                }
            }
            Poll::Pending
        })
        .await;
        (id, result.unwrap_or_else(|_| Err(HostError::Unavailable("the exchange was cut off".into()))))
    }

    /// Notes what an exchange brought, and puts it into the guest's words.
    fn received(&mut self, id: u32, answer: Answer) -> http::Response {
        match answer {
            Answer::Fetch(answer) => {
                if let Some(Effect::Fetch { status, response, server_key, .. }) = self.effects.get_mut(&id) {
                    (*status, *server_key) = (answer.status, answer.server_key);
                    *response = Sha256::digest(&answer.body).into();
                }
                http::Response {
                    status: answer.status,
                    headers: answer.headers,
                    body: answer.body.into(),
                    url: answer.url,
                    redirected: answer.redirected,
                }
            }
            Answer::Model(answer) => {
                if let (Some(receipt), Some(model)) = (&answer.receipt, answer.model) {
                    self.effects.insert(id, Effect::Inference { receipt: Sha256::digest(receipt).into(), model });
                }
                let receipt = answer.receipt.as_deref().map(String::from_utf8_lossy);
                http::Response {
                    status: answer.status,
                    headers: receipt.map(|receipt| (RECEIPT.to_owned(), receipt.into_owned())).into_iter().collect(),
                    body: answer.body.into(),
                    url: String::new(),
                    redirected: false,
                }
            }
        }
    }
}

impl Sandbox {
    /// Whether one more exchange may begin.
    fn may_begin(&self, what: &str, power: &str) -> wasmtime::Result<Result<(), types::HostError>> {
        if let Err(error) = self.entered(what) {
            return Ok(Err(error));
        }
        if matches!(self.clock, Clock::Fixed(_)) {
            return Ok(Err(types::HostError::Denied(format!("a deterministic method has no {power}"))));
        }
        if self.exchanges.running.len() >= self.limits.open_fetches as usize {
            return Err(Limit::OpenFetches.into());
        }
        Ok(Ok(()))
    }
}

impl http::Host for Sandbox {
    async fn start_fetch(&mut self, request: http::Request) -> wasmtime::Result<Result<u32, types::HostError>> {
        self.counted()?;
        if let Err(error) = self.may_begin("fetch", "network")? {
            return Ok(Err(error));
        }
        let id = self.exchanges.number();
        let nothing: [u8; 32] = Sha256::digest(b"").into();
        let effect = Effect::Fetch {
            method: request.method.clone(),
            url: Sha256::digest(&request.url).into(),
            status: 0,
            response: nothing,
            server_key: [0; 32],
        };
        self.exchanges.effects.insert(id, effect);
        let request = FetchRequest {
            method: request.method,
            url: request.url,
            headers: request.headers,
            body: request.body.map(Bytes::from),
            redirect: match request.redirect {
                http::Redirect::Follow => Redirect::Follow,
                http::Redirect::Error => Redirect::Error,
                http::Redirect::Manual => Redirect::Manual,
            },
        };
        let host = Arc::clone(&self.host);
        self.exchanges.start(id, async move { host.fetch(request).await.map(Answer::Fetch) });
        Ok(Ok(id))
    }

    async fn wait_any(
        &mut self,
        ids: Vec<u32>,
        deadline: Option<u64>,
    ) -> wasmtime::Result<Option<(u32, Result<http::Response, types::HostError>)>> {
        self.counted()?;
        if let Clock::Fixed(now) = &mut self.clock {
            // Nobody is outside: the deadline is the only thing that can come.
            if let Some(deadline) = deadline {
                *now = deadline.max(*now);
            }
            return Ok(None);
        }
        let until = deadline.map(|deadline| Duration::from_micros(deadline.saturating_sub(self.time())));
        if until.is_none() && !ids.iter().any(|id| self.exchanges.running.contains_key(id)) {
            return Ok(None);
        }
        let done = self.exchanges.next_of(&ids);
        let done = match until {
            Some(until) => tokio::time::timeout(until, done).await.ok(),
            None => Some(done.await),
        };
        let Some((id, answer)) = done else { return Ok(None) };
        Ok(Some((id, answer.map(|answer| self.exchanges.received(id, answer)).map_err(Into::into))))
    }

    fn cancel(&mut self, id: u32) -> wasmtime::Result<()> {
        self.counted()?;
        self.exchanges.running.remove(&id);
        Ok(())
    }
}

impl model::Host for Sandbox {
    async fn start(&mut self, task: model::Task, request: Vec<u8>) -> wasmtime::Result<Result<u32, types::HostError>> {
        self.counted()?;
        if let Err(error) = self.may_begin("model", "language model")? {
            return Ok(Err(error));
        }
        if request.len() > REQUEST {
            return Ok(Err(too_large("a request to a model", REQUEST)));
        }
        let task = match task {
            model::Task::Chat => ModelTask::Chat,
            model::Task::Complete => ModelTask::Complete,
            model::Task::Embed => ModelTask::Embed,
        };
        let id = self.exchanges.number();
        let host = Arc::clone(&self.host);
        self.exchanges.start(id, async move { host.model(task, request.into()).await.map(Answer::Model) });
        Ok(Ok(id))
    }

    async fn run(
        &mut self,
        model: String,
        inputs: Vec<model::Tensor>,
    ) -> wasmtime::Result<Result<Vec<model::Tensor>, types::HostError>> {
        self.counted()?;
        if let Err(error) = self.entered("model").and_then(|()| inputs_fit(&inputs)) {
            return Ok(Err(error));
        }
        let inputs: Vec<Tensor> = inputs.into_iter().map(Tensor::from).collect();
        let run = match self.host.run_model(&model, inputs.clone()).await {
            Ok(run) => run,
            Err(error) => return Ok(Err(error.into())),
        };
        let id = self.exchanges.number();
        let receipt = run_digest(&inputs, &run.outputs);
        self.exchanges.effects.insert(id, Effect::Inference { receipt, model: run.model });
        Ok(Ok(run.outputs.into_iter().map(model::Tensor::from).collect()))
    }
}

fn too_large(what: &str, most: usize) -> types::HostError {
    types::HostError::Invalid(format!("{what} has at most {most} bytes"))
}

fn inputs_fit(inputs: &[model::Tensor]) -> Result<(), types::HostError> {
    if inputs.len() > TENSORS || inputs.iter().any(|tensor| tensor.shape.len() > AXES || tensor.name.len() > NAME) {
        let message = format!("at most {TENSORS} tensors of at most {AXES} axes, with names of at most {NAME} bytes");
        return Err(types::HostError::Invalid(message));
    }
    let bytes: usize = inputs.iter().map(|tensor| tensor.data.len()).sum();
    if bytes > TENSOR_BYTES { Err(too_large("all tensors of a run together", TENSOR_BYTES)) } else { Ok(()) }
}

impl From<model::Tensor> for Tensor {
    fn from(tensor: model::Tensor) -> Self {
        let element = match tensor.element {
            model::Element::Float32 => Element::Float32,
            model::Element::Float64 => Element::Float64,
            model::Element::Int8 => Element::Int8,
            model::Element::Int16 => Element::Int16,
            model::Element::Int32 => Element::Int32,
            model::Element::Int64 => Element::Int64,
            model::Element::Uint8 => Element::Uint8,
            model::Element::Uint16 => Element::Uint16,
            model::Element::Uint32 => Element::Uint32,
            model::Element::Uint64 => Element::Uint64,
            model::Element::Boolean => Element::Boolean,
        };
        Self { name: tensor.name, element, shape: tensor.shape, data: tensor.data.into() }
    }
}

impl From<Tensor> for model::Tensor {
    fn from(tensor: Tensor) -> Self {
        let element = match tensor.element {
            Element::Float32 => model::Element::Float32,
            Element::Float64 => model::Element::Float64,
            Element::Int8 => model::Element::Int8,
            Element::Int16 => model::Element::Int16,
            Element::Int32 => model::Element::Int32,
            Element::Int64 => model::Element::Int64,
            Element::Uint8 => model::Element::Uint8,
            Element::Uint16 => model::Element::Uint16,
            Element::Uint32 => model::Element::Uint32,
            Element::Uint64 => model::Element::Uint64,
            Element::Boolean => model::Element::Boolean,
        };
        Self { name: tensor.name, element, shape: tensor.shape, data: tensor.data.into() }
    }
}
