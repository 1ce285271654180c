//! ONNX models, which tract runs: tensors in, tensors out.
//!
//! One thread owns the graph and works on one request after another. A file is checked in three steps: what stands around the graph
//! ([`read`]), the graph itself, and then tract's own analysis. Whatever tract does with a hostile file beyond that, a model of a
//! worker runs in a process of its own.

mod check;
mod engine;
mod kernels;
mod read;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use async_trait::async_trait;
use tokio::sync::oneshot;

use self::engine::Graph;
pub use self::read::{Header, OnnxError, may_begin, read};
use crate::{
    Backend, ChatRequest, CompletionRequest, Embedding, EmbeddingRequest, Generation, InferenceError, ModelIdentity,
    TensorAnswer, TensorInterface, TensorRequest,
    store::{ModelStore, OpenModel},
    tensors,
};

/// Bytes that the process of a model may take beside four times its file.
pub const MEMORY: u64 = 4 << 30;
/// Requests that may wait.
const QUEUE: usize = 64;
/// Stack of the thread: graphs within graphs are built by recursion.
const STACK: usize = 64 << 20;

type Reply = oneshot::Sender<Result<TensorAnswer, InferenceError>>;

/// An ONNX model in this process.
#[derive(Debug)]
pub struct OnnxModel {
    identity: ModelIdentity,
    requests: mpsc::Sender<(TensorRequest, Reply)>,
    queued: Arc<AtomicUsize>,
}

impl OnnxModel {
    /// Loads a model whose file was checked; `created` is the unix second from which it is offered.
    ///
    /// # Errors
    /// [`InferenceError::Engine`] if the file is no ONNX model, or uses what is not supported.
    pub fn load(model: &OpenModel, created: u64) -> Result<Self, InferenceError> {
        let file = model.onnx().ok_or_else(|| engine("the model has no ONNX file here"))?;
        let (requests, to_run) = mpsc::channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let waiting = Arc::clone(&queued);
        // A thread with a stack of its own builds the graph, while the file is borrowed; another one then runs it.
        let mut graph = std::thread::scope(|scope| {
            let builder = std::thread::Builder::new().name("model-build".to_owned()).stack_size(STACK);
            let building = builder.spawn_scoped(scope, || caught(|| Graph::load(file)));
            let built = building.map_err(|error| failure(&error))?.join();
            built.unwrap_or_else(|_| Err(engine("building its graph failed")))
        })?;
        let identity = identity(model, created, graph.interface.clone());
        let builder = std::thread::Builder::new().name("model-run".to_owned()).stack_size(STACK);
        let running = builder.spawn(move || work(&mut graph, &to_run, &waiting));
        running.map_err(|error| failure(&error))?;
        Ok(Self { identity, requests, queued })
    }

    /// Opens a model of a store, which checks its file, and loads it.
    ///
    /// # Errors
    /// [`InferenceError::Engine`], as [`OnnxModel::load`], or if the file is not the one that the manifest names.
    pub fn open(models: &ModelStore, name: &str, created: u64) -> Result<Self, InferenceError> {
        Self::load(&models.open(name).map_err(|error| failure(&error))?, created)
    }

    fn refused<T>(&self, what: &'static str) -> Result<T, InferenceError> {
        Err(InferenceError::Unsupported { model: self.identity.name.clone(), what })
    }
}

fn identity(model: &OpenModel, created: u64, interface: TensorInterface) -> ModelIdentity {
    ModelIdentity {
        name: model.manifest.name.clone(),
        digest: model.digest,
        adapters: Vec::new(),
        context: 0,
        generates: false,
        embedding: None,
        tensors: Some(interface),
        created,
        licence: model.manifest.licence.clone(),
        counted_by_upstream: false,
    }
}

/// Works until nobody can ask any more.
fn work(graph: &mut Graph, requests: &mpsc::Receiver<(TensorRequest, Reply)>, queued: &AtomicUsize) {
    for (request, reply) in requests {
        queued.fetch_sub(1, Ordering::Relaxed);
        if !reply.is_closed() {
            let answer = caught(|| graph.run(request, &reply));
            // Whoever asked may have gone away.
            let _ = reply.send(answer);
        }
    }
}

/// Runs what may panic, as tract does on some graphs.
fn caught<T>(work: impl FnOnce() -> Result<T, InferenceError>) -> Result<T, InferenceError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(engine("tract panicked")))
}

fn engine(reason: &str) -> InferenceError {
    InferenceError::Engine(reason.to_owned())
}

/// What failed, and why.
fn failure(error: &dyn std::error::Error) -> InferenceError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    InferenceError::Engine(text)
}

#[async_trait]
impl Backend for OnnxModel {
    fn identity(&self) -> &ModelIdentity {
        &self.identity
    }

    async fn chat(&self, _: ChatRequest) -> Result<Generation, InferenceError> {
        self.refused("answer chats")
    }

    async fn complete(&self, _: CompletionRequest) -> Result<Generation, InferenceError> {
        self.refused("continue texts")
    }

    async fn embed(&self, _: EmbeddingRequest) -> Result<Embedding, InferenceError> {
        self.refused("make embeddings")
    }

    async fn run(&self, request: TensorRequest) -> Result<TensorAnswer, InferenceError> {
        let takes = self.identity.tensors.as_ref().map_or(&[][..], |interface| &interface.inputs);
        tensors::check(&request, takes)?;
        let waiting = self.queued.fetch_add(1, Ordering::Relaxed);
        if waiting >= QUEUE {
            self.queued.fetch_sub(1, Ordering::Relaxed);
            return Err(InferenceError::Busy { waiting });
        }
        let (reply, answer) = oneshot::channel();
        self.requests.send((request, reply)).map_err(|_| engine("it has ended"))?;
        answer.await.map_err(|_| engine("it has ended"))?
    }
}
