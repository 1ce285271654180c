//! llama.cpp in this process.
//!
//! Three parties: callers, a thread that prepares requests (template, tokens, grammars), and the thread that owns the context.

mod choice;
mod embed;
mod engine;
mod grammar;
mod hidden;
mod prepare;
mod sampler;
mod slots;
mod vocabulary;

use std::{
    io::Read as _,
    num::NonZeroU32,
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use async_trait::async_trait;
use llama_cpp_2::{
    context::params::LlamaContextParams,
    llama_backend::LlamaBackend,
    model::{LlamaLoraAdapter, LlamaModel, params::LlamaModelParams},
};
use serde::{Deserialize, Serialize};
use tacit_types::formats::sha256;
use tokio::sync::oneshot;

use self::{
    embed::Embedder,
    engine::{BATCH, Engine, Job},
    prepare::Preparer,
    vocabulary::Vocabulary,
};
use crate::{
    Backend, ChatRequest, CompletionRequest, Embedding, EmbeddingRequest, Generation, InferenceError, ModelIdentity,
    gguf, limits,
    oblivious::Rows,
    store::{CheckedFile, ModelStore, OpenModel, StoreError, header_of},
};

/// Most choices that are written at the same time.
const MAX_SLOTS: u32 = 64;
/// Stack of the threads that run C++: its parsers of grammars recurse.
const STACK: usize = 64 << 20;

/// How a model is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineSettings {
    /// Threads of computation. They wait for each other in busy loops, so there must never be more than cores of one's own.
    pub threads: u32,
    /// Tokens of one request's prompt and answer together; at most what the model was trained on.
    pub context: u32,
    /// Choices that are written at the same time.
    pub slots: u32,
    /// Tokens that all slots hold together. Each costs memory; a request waits until its share is free.
    pub cells: u32,
    /// Requests that may wait for a slot.
    pub queue: usize,
    /// Look-ups of tokens touch the same memory whatever they are, for whoever can watch which memory is touched; slower
    /// (docs/ai-side-channels.md). Not every model can be run so.
    pub constant_shape: bool,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self { threads: 1, context: 4096, slots: 8, cells: 8192, queue: 64, constant_shape: false }
    }
}

/// A model that is ready to run.
struct Loaded {
    model: Arc<LlamaModel>,
    adapter: Option<LlamaLoraAdapter>,
    vocabulary: Vocabulary,
    /// Where it is given the rows of its tokens, if it must not read them itself.
    rows: Option<Rows>,
}

/// A request on its way to the thread that prepares it.
enum Request {
    Chat(ChatRequest, oneshot::Sender<Result<Generation, InferenceError>>),
    Completion(CompletionRequest, oneshot::Sender<Result<Generation, InferenceError>>),
    Embedding(EmbeddingRequest, oneshot::Sender<Result<Embedding, InferenceError>>),
}

/// A model that llama.cpp runs in this process.
#[derive(Debug)]
pub struct LlamaCpp {
    identity: ModelIdentity,
    requests: mpsc::Sender<Request>,
    queued: Arc<AtomicUsize>,
    queue: usize,
}

impl LlamaCpp {
    /// Loads a model whose files were checked. Takes as long as reading its weights does; `created` is the unix second from which it
    /// is offered.
    ///
    /// # Errors
    /// [`InferenceError::Engine`] if this machine lacks instructions, a file is no model, or memory does not suffice.
    pub fn load(model: &OpenModel, created: u64, settings: &EngineSettings) -> Result<Self, InferenceError> {
        instructions()?;
        let manifest = &model.manifest;
        let weights = model.weights().ok_or_else(|| engine("the model has no weights here"))?;
        let header = header_of(weights).map_err(|error| store(&error))?;
        let is_embedding = header.is_embedding();
        let adapters: Vec<&CheckedFile> = model.adapters().collect();
        let mut plain = load(&weights.path())?;
        let adapter = load_adapters(&mut plain, &adapters)?;
        let loaded = if !settings.constant_shape {
            let plain = Arc::new(plain);
            Loaded { vocabulary: Vocabulary::plain(Arc::clone(&plain)), model: plain, adapter, rows: None }
        } else if is_embedding {
            return Err(engine("constant_shape is not possible: it makes embeddings"));
        } else {
            hidden::load_hidden(weights, &header, &adapters, (plain, adapter), settings)?
        };
        let context = settings.context.min(loaded.model.n_ctx_train()).max(1);
        let dimensions = u32::try_from(loaded.model.n_embd_out()).unwrap_or(0);
        let identity = ModelIdentity {
            name: manifest.name.clone(),
            digest: model.digest,
            adapters: model.adapters().map(CheckedFile::digest).collect(),
            context,
            generates: !is_embedding,
            embedding: is_embedding.then_some(dimensions),
            tensors: None,
            created,
            licence: manifest.licence.clone(),
            counted_by_upstream: false,
        };
        let queued = Arc::new(AtomicUsize::new(0));
        let requests = if is_embedding {
            start_embedder(loaded.model, context, dimensions, settings, &queued)?
        } else {
            start_engine(loaded, context, settings, &queued)?
        };
        Ok(Self { identity, requests, queued, queue: settings.queue })
    }

    /// Opens a model of a store, which checks every file, and loads it.
    ///
    /// # Errors
    /// [`InferenceError::Engine`], as [`LlamaCpp::load`], or if a file is not the one that the manifest names.
    pub fn open(
        models: &ModelStore,
        name: &str,
        created: u64,
        settings: &EngineSettings,
    ) -> Result<Self, InferenceError> {
        let model = models.open(name).map_err(|error| store(&error))?;
        Self::load(&model, created, settings)
    }

    /// Sends a request and waits until it is accepted or refused.
    async fn submit<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, InferenceError>>) -> Request,
    ) -> Result<T, InferenceError> {
        let waiting = self.queued.fetch_add(1, Ordering::Relaxed);
        if waiting >= self.queue {
            self.queued.fetch_sub(1, Ordering::Relaxed);
            return Err(InferenceError::Busy { waiting });
        }
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).map_err(|_| engine("it has ended"))?;
        answer.await.map_err(|_| engine("it has ended"))?
    }

    fn needs(&self, can: bool, what: &'static str) -> Result<(), InferenceError> {
        if can { Ok(()) } else { Err(InferenceError::Unsupported { model: self.identity.name.clone(), what }) }
    }
}

#[async_trait]
impl Backend for LlamaCpp {
    fn identity(&self) -> &ModelIdentity {
        &self.identity
    }

    async fn chat(&self, request: ChatRequest) -> Result<Generation, InferenceError> {
        self.needs(self.identity.generates, "answer chats")?;
        limits::tools(&request.tools, &request.tool_choice)?;
        limits::format(&request.format)?;
        self.submit(|reply| Request::Chat(request, reply)).await
    }

    async fn complete(&self, request: CompletionRequest) -> Result<Generation, InferenceError> {
        self.needs(self.identity.generates, "continue texts")?;
        limits::format(&request.format)?;
        self.submit(|reply| Request::Completion(request, reply)).await
    }

    async fn embed(&self, request: EmbeddingRequest) -> Result<Embedding, InferenceError> {
        self.needs(self.identity.embedding.is_some(), "make embeddings")?;
        self.submit(|reply| Request::Embedding(request, reply)).await
    }
}

fn engine(reason: &str) -> InferenceError {
    InferenceError::Engine(reason.to_owned())
}

/// What failed, and why.
fn store(error: &StoreError) -> InferenceError {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    InferenceError::Engine(text)
}

/// Starts the two threads of a model that writes text.
fn start_engine(
    loaded: Loaded,
    context: u32,
    settings: &EngineSettings,
    queued: &Arc<AtomicUsize>,
) -> Result<mpsc::Sender<Request>, InferenceError> {
    let Loaded { model, adapter, vocabulary, rows } = loaded;
    let cells = settings.cells.max(context);
    let slots = settings.slots.clamp(1, MAX_SLOTS);
    let (requests, to_prepare) = mpsc::channel();
    let (jobs, to_run) = mpsc::channel::<Job>();
    let preparer = Preparer::new(Arc::clone(&model), vocabulary.clone(), context, slots, cells)?;
    let waiting = Arc::clone(queued);
    spawn("model-prepare", move || preparer.run(&to_prepare, &jobs, &waiting))?;
    let parameters = parameters(settings)
        .with_n_ctx(NonZeroU32::new(cells))
        .with_n_batch(BATCH as u32)
        .with_n_ubatch(BATCH as u32)
        .with_n_seq_max(slots)
        .with_kv_unified(true);
    let waiting = Arc::clone(queued);
    start("model-engine", move |ready| {
        let mut adapter = adapter;
        let context = backend().and_then(|backend| {
            let mut context = model.new_context(backend, parameters).map_err(|error| engine(&error.to_string()))?;
            if let Some(adapter) = &mut adapter {
                context.lora_adapter_set(adapter, 1.0).map_err(|error| engine(&error.to_string()))?;
            }
            Ok(context)
        });
        if let Some(context) = announce(context, &ready) {
            Engine::new(vocabulary, rows, context, slots as usize, cells, waiting).run(&to_run);
        }
    })?;
    Ok(requests)
}

/// Starts the thread of a model that makes embeddings.
fn start_embedder(
    model: Arc<LlamaModel>,
    limit: u32,
    dimensions: u32,
    settings: &EngineSettings,
    queued: &Arc<AtomicUsize>,
) -> Result<mpsc::Sender<Request>, InferenceError> {
    let slots = settings.slots.clamp(1, MAX_SLOTS);
    let (requests, to_embed) = mpsc::channel();
    // A text is worked through whole, so a step holds the longest.
    let parameters = parameters(settings)
        .with_n_ctx(NonZeroU32::new(limit))
        .with_n_batch(limit)
        .with_n_ubatch(limit)
        .with_n_seq_max(slots)
        .with_kv_unified(true)
        .with_embeddings(true);
    let waiting = Arc::clone(queued);
    start("model-embed", move |ready| {
        let context = backend()
            .and_then(|backend| model.new_context(backend, parameters).map_err(|error| engine(&error.to_string())));
        if let Some(context) = announce(context, &ready) {
            Embedder { model: &model, context, limit, slots, dimensions }.run(&to_embed, &waiting);
        }
    })?;
    Ok(requests)
}

fn parameters(settings: &EngineSettings) -> LlamaContextParams {
    let threads = settings.threads.clamp(1, 1024).cast_signed();
    LlamaContextParams::default().with_n_threads(threads).with_n_threads_batch(threads).with_no_perf(true)
}

/// Starts a thread and waits until it has said whether it could begin.
fn start(
    name: &str,
    work: impl FnOnce(mpsc::Sender<Result<(), InferenceError>>) + Send + 'static,
) -> Result<(), InferenceError> {
    let (ready, is_ready) = mpsc::channel();
    spawn(name, move || work(ready))?;
    is_ready.recv().map_err(|_| engine("it ended while it started"))?
}

/// Says whether a thread could begin, and gives what it needs for that.
fn announce<T>(made: Result<T, InferenceError>, ready: &mpsc::Sender<Result<(), InferenceError>>) -> Option<T> {
    match made {
        Ok(made) => ready.send(Ok(())).ok().map(|()| made),
        Err(error) => {
            let _ = ready.send(Err(error));
            None
        }
    }
}

/// All adapters as one, since one context takes one.
fn load_adapters(
    model: &mut LlamaModel,
    adapters: &[&CheckedFile],
) -> Result<Option<LlamaLoraAdapter>, InferenceError> {
    let combined;
    let file = match adapters {
        [] => return Ok(None),
        [one] => *one,
        several => {
            combined = combine(several).map_err(|error| store(&error))?;
            &combined
        }
    };
    header_of(file).and_then(|header| Ok(header.check_adapter()?)).map_err(|error| store(&error))?;
    let adapter = model.lora_adapter_init(file.path()).map_err(|_| engine("llama.cpp does not load an adapter"))?;
    Ok(Some(adapter))
}

fn combine(adapters: &[&CheckedFile]) -> Result<CheckedFile, StoreError> {
    let mut files = Vec::new();
    for adapter in adapters {
        let mut bytes = Vec::new();
        let read = adapter.open()?.read_to_end(&mut bytes);
        read.map_err(|error| StoreError::file("read", &adapter.path(), error))?;
        files.push((header_of(adapter)?, bytes));
    }
    let bytes = gguf::combine(&files)?;
    CheckedFile::from_reader(bytes.as_slice(), sha256(&bytes), bytes.len() as u64)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), InferenceError> {
    let thread = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(work);
    thread.map(drop).map_err(|error| InferenceError::Engine(format!("a thread could not start: {error}")))
}

/// llama.cpp itself, once in a process, silent: what it would log may quote a grammar or a prompt.
fn backend() -> Result<&'static LlamaBackend, InferenceError> {
    static BACKEND: OnceLock<Result<LlamaBackend, String>> = OnceLock::new();
    let backend = BACKEND.get_or_init(|| {
        let mut backend = LlamaBackend::init().map_err(|error| error.to_string())?;
        backend.void_logs();
        Ok(backend)
    });
    backend.as_ref().map_err(|error| InferenceError::Engine(error.clone()))
}

fn load(weights: &Path) -> Result<LlamaModel, InferenceError> {
    let parameters = LlamaModelParams::default().with_n_gpu_layers(0);
    LlamaModel::load_from_file(backend()?, weights, &parameters)
        .map_err(|_| engine("llama.cpp does not load this file"))
}

/// The kernels are built for x86-64-v3 (docs/decisions/0011-inference-engine.md): elsewhere they would die of an unknown
/// instruction.
pub(crate) fn instructions() -> Result<(), InferenceError> {
    #[cfg(target_arch = "x86_64")]
    {
        let has = [
            is_x86_feature_detected!("sse4.2"),
            is_x86_feature_detected!("avx2"),
            is_x86_feature_detected!("bmi2"),
            is_x86_feature_detected!("fma"),
            is_x86_feature_detected!("f16c"),
        ];
        if has.contains(&false) {
            return Err(engine("this processor is older than x86-64-v3"));
        }
    }
    Ok(())
}
