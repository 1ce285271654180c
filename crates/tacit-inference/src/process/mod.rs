//! A model in a process of its own, so that whatever a file or a grammar makes C++ do ends that process and no other.

mod child;
mod frame;

use std::{
    collections::HashMap,
    ffi::OsString,
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use serde::{Deserialize, Deserializer};
use tokio::{
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::{Notify, mpsc, oneshot},
};

pub use self::child::{load, serve};
use self::frame::{Answer, Ask};
use crate::{
    Backend, ChatRequest, CompletionRequest, Embedding, EmbeddingRequest, Event, Generation, InferenceError,
    ModelIdentity, TensorAnswer, TensorRequest, tensors,
};

/// Longest that a process may take to load its model.
const LOADING: Duration = Duration::from_secs(600);
/// Least time between two starts of a process that ended by itself.
const PAUSE: Duration = Duration::from_secs(2);
/// Messages on their way to the process.
const OUTGOING: usize = 256;
/// Events for each token of a generation, at most, and beside them.
const EVENTS: (usize, usize) = (5, 64);

/// The program that runs a model: it calls [`serve`] with its standard input and output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// A model in a process of its own. If the process ends, requests under way fail, and the next one starts it again.
#[derive(Debug)]
pub struct ModelProcess {
    identity: ModelIdentity,
    launch: Launch,
    live: tokio::sync::Mutex<Live>,
}

/// A running process, as seen from here.
#[derive(Debug)]
struct Live {
    outgoing: mpsc::Sender<Ask>,
    routes: Arc<Routes>,
    started: Instant,
    kill: Arc<Notify>,
}

/// Where answers go.
#[derive(Debug, Default)]
struct Routes {
    open: Mutex<HashMap<u64, Route>>,
    next: AtomicU64,
    /// Why there is no process any more.
    ended: Mutex<Option<String>>,
}

#[derive(Debug)]
enum Route {
    /// Asked, and not yet accepted.
    Asked {
        accepted: oneshot::Sender<Result<(), InferenceError>>,
        events: mpsc::Sender<Event>,
        over: oneshot::Sender<()>,
    },
    Running {
        events: mpsc::Sender<Event>,
        _over: oneshot::Sender<()>,
    },
    Embedding(oneshot::Sender<Result<Embedding, InferenceError>>),
    Tensors(oneshot::Sender<Result<TensorAnswer, InferenceError>>),
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn engine(reason: impl Into<String>) -> InferenceError {
    InferenceError::Engine(reason.into())
}

impl ModelProcess {
    /// Starts the process and waits until its model is loaded.
    ///
    /// # Errors
    /// [`InferenceError::Engine`] if the process cannot be started, dies, or says why it cannot load the model.
    pub async fn start(launch: Launch) -> Result<Self, InferenceError> {
        let (live, identity) = Live::start(&launch).await?;
        Ok(Self { identity, launch, live: tokio::sync::Mutex::new(live) })
    }

    /// Ends the process. Requests under way fail; the next one starts it again.
    pub async fn kill(&self) {
        let live = self.live.lock().await;
        live.kill.notify_one();
    }

    /// The running process, which is started again if it has ended.
    async fn live(&self) -> Result<(mpsc::Sender<Ask>, Arc<Routes>), InferenceError> {
        let mut live = self.live.lock().await;
        let ended = lock(&live.routes.ended).clone();
        if let Some(reason) = ended {
            if live.started.elapsed() < PAUSE {
                return Err(engine(reason));
            }
            let (again, identity) = Live::start(&self.launch).await?;
            if identity.digest != self.identity.digest {
                return Err(engine("the model is another one now"));
            }
            *live = again;
        }
        Ok((live.outgoing.clone(), Arc::clone(&live.routes)))
    }

    async fn generate(&self, choices: u32, ask: impl FnOnce(u64) -> Ask) -> Result<Generation, InferenceError> {
        let (outgoing, routes) = self.live().await?;
        let (per_token, beside) = EVENTS;
        let room = choices.clamp(1, 64) as usize * (self.identity.context as usize * per_token + beside);
        let (events, generation) = Generation::new(room);
        let (accepted, is_accepted) = oneshot::channel();
        let (over, is_over) = oneshot::channel();
        let id = routes.open(Route::Asked { accepted, events: events.clone(), over })?;
        // Whoever goes away frees the slot over there, also while nothing comes from it.
        let (cancelling, cancelled) = (outgoing.clone(), Arc::clone(&routes));
        tokio::spawn(async move {
            tokio::select! {
                () = events.closed() => {
                    lock(&cancelled.open).remove(&id);
                    let _ = cancelling.send(Ask::Cancel(id)).await;
                }
                _ = is_over => {}
            }
        });
        if outgoing.send(ask(id)).await.is_err() {
            return Err(routes.reason());
        }
        is_accepted.await.map_err(|_| routes.reason())??;
        Ok(generation)
    }
}

#[async_trait]
impl Backend for ModelProcess {
    fn identity(&self) -> &ModelIdentity {
        &self.identity
    }

    async fn chat(&self, request: ChatRequest) -> Result<Generation, InferenceError> {
        self.generate(request.sampling.choices, |id| Ask::Chat(id, request)).await
    }

    async fn complete(&self, request: CompletionRequest) -> Result<Generation, InferenceError> {
        self.generate(request.sampling.choices, |id| Ask::Completion(id, request)).await
    }

    async fn embed(&self, request: EmbeddingRequest) -> Result<Embedding, InferenceError> {
        let (outgoing, routes) = self.live().await?;
        let (reply, answer) = oneshot::channel();
        let id = routes.open(Route::Embedding(reply))?;
        if outgoing.send(Ask::Embedding(id, request)).await.is_err() {
            return Err(routes.reason());
        }
        answer.await.map_err(|_| routes.reason())?
    }

    async fn run(&self, request: TensorRequest) -> Result<TensorAnswer, InferenceError> {
        let Some(interface) = &self.identity.tensors else {
            return Err(InferenceError::Unsupported { model: self.identity.name.clone(), what: "run tensors" });
        };
        // Here already, since a message that is too long would end the conversation with the process.
        tensors::check(&request, &interface.inputs)?;
        let (outgoing, routes) = self.live().await?;
        let (reply, answer) = oneshot::channel();
        let id = routes.open(Route::Tensors(reply))?;
        let mut abandoned = Abandoned { routes: &routes, outgoing: &outgoing, id: Some(id) };
        if outgoing.send(Ask::Tensors(id, request)).await.is_err() {
            return Err(routes.reason());
        }
        let answer = answer.await.map_err(|_| routes.reason())?;
        abandoned.id = None;
        answer
    }
}

/// Tells the process that nobody waits any more, when a request for tensors is dropped before its answer.
struct Abandoned<'live> {
    routes: &'live Routes,
    outgoing: &'live mpsc::Sender<Ask>,
    id: Option<u64>,
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            lock(&self.routes.open).remove(&id);
            let _ = self.outgoing.try_send(Ask::Cancel(id));
        }
    }
}

impl Live {
    async fn start(launch: &Launch) -> Result<(Self, ModelIdentity), InferenceError> {
        // What C++ prints may quote a request, so nobody hears it.
        let mut child = Command::new(&launch.program)
            .args(&launch.arguments)
            .env("GGML_NO_BACKTRACE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| engine(format!("its process could not start: {}", error.kind())))?;
        let (Some(input), Some(mut output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(engine("its process has no pipes"));
        };
        let first = tokio::time::timeout(LOADING, frame::read(&mut output)).await;
        let identity = match first {
            Ok(Ok(Some(Answer::Ready(identity)))) => identity,
            Ok(Ok(Some(Answer::Failed(error)))) => return Err(error),
            Ok(_) => {
                return Err(engine(format!("its process ended while it loaded the model: {}", end(&mut child).await)));
            }
            Err(_) => return Err(engine("its process took too long to load the model")),
        };
        let routes = Arc::new(Routes::default());
        let (outgoing, asks) = mpsc::channel(OUTGOING);
        tokio::spawn(send(input, asks));
        let kill = Arc::new(Notify::new());
        tokio::spawn(receive(child, output, Arc::clone(&routes), Arc::clone(&kill)));
        Ok((Self { outgoing, routes, started: Instant::now(), kill }, identity))
    }
}

/// Passes questions on until nobody can ask any more; then the process sees the end of its input, and ends.
async fn send(mut input: ChildStdin, mut asks: mpsc::Receiver<Ask>) {
    while let Some(ask) = asks.recv().await {
        if frame::write(&mut input, &ask).await.is_err() {
            return;
        }
    }
}

/// Passes answers on until the process ends, or is to end.
async fn receive(mut child: Child, mut output: ChildStdout, routes: Arc<Routes>, kill: Arc<Notify>) {
    let answers = async {
        while let Ok(Some(answer)) = frame::read(&mut output).await {
            routes.take(answer);
        }
    };
    tokio::select! {
        () = answers => {}
        () = kill.notified() => {}
    }
    let _ = child.start_kill();
    routes.end(format!("its process ended: {}", end(&mut child).await));
}

async fn end(child: &mut Child) -> String {
    match tokio::time::timeout(Duration::from_secs(10), child.wait()).await {
        Ok(Ok(status)) => status.to_string(),
        _ => "it does not say why".to_owned(),
    }
}

impl Routes {
    fn open(&self, route: Route) -> Result<u64, InferenceError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.open).insert(id, route);
        // The process may have ended between the look at it and now.
        if lock(&self.ended).is_some() {
            lock(&self.open).remove(&id);
            return Err(self.reason());
        }
        Ok(id)
    }

    fn reason(&self) -> InferenceError {
        engine(lock(&self.ended).clone().unwrap_or_else(|| "its process has ended".to_owned()))
    }

    fn take(&self, answer: Answer) {
        let mut open = lock(&self.open);
        match answer {
            Answer::Accepted(id) => {
                if let Some(Route::Asked { accepted, events, over }) = open.remove(&id) {
                    let _ = accepted.send(Ok(()));
                    open.insert(id, Route::Running { events, _over: over });
                }
            }
            Answer::Refused(id, error) => match open.remove(&id) {
                Some(Route::Asked { accepted, .. }) => drop(accepted.send(Err(error))),
                Some(Route::Embedding(reply)) => drop(reply.send(Err(error))),
                Some(Route::Tensors(reply)) => drop(reply.send(Err(error))),
                Some(Route::Running { .. }) | None => {}
            },
            Answer::Event(id, event) => {
                let is_last = matches!(event, Event::Done(_) | Event::Failed(_));
                if let Some(Route::Running { events, .. }) = open.get(&id) {
                    // There is room for all; whoever has gone away is seen by the task that waits for that.
                    let _ = events.try_send(event);
                }
                if is_last {
                    open.remove(&id);
                }
            }
            Answer::Embedded(id, embedding) => {
                if let Some(Route::Embedding(reply)) = open.remove(&id) {
                    let _ = reply.send(Ok(embedding));
                }
            }
            Answer::Ran(id, answer) => {
                if let Some(Route::Tensors(reply)) = open.remove(&id) {
                    let _ = reply.send(Ok(answer));
                }
            }
            Answer::Ready(_) | Answer::Failed(_) => {}
        }
    }

    /// The process has ended: everything under way fails.
    fn end(&self, reason: String) {
        *lock(&self.ended) = Some(reason.clone());
        for (_, route) in lock(&self.open).drain() {
            match route {
                Route::Asked { accepted, .. } => drop(accepted.send(Err(engine(reason.clone())))),
                Route::Running { events, .. } => drop(events.try_send(Event::Failed(engine(reason.clone())))),
                Route::Embedding(reply) => drop(reply.send(Err(engine(reason.clone())))),
                Route::Tensors(reply) => drop(reply.send(Err(engine(reason.clone())))),
            }
        }
    }
}

/// [`InferenceError`] as it is read from another process.
#[derive(Debug, Deserialize)]
enum ErrorMirror {
    ContextLength { limit: u32, prompt: u32, needed: u32 },
    Parameter { parameter: String, reason: String },
    Unsupported { model: String, what: String },
    Busy { waiting: usize },
    Engine(String),
    Upstream { status: u16 },
}

impl<'de> Deserialize<'de> for InferenceError {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ErrorMirror::deserialize(deserializer).map(Self::from)
    }
}

impl From<ErrorMirror> for InferenceError {
    fn from(mirror: ErrorMirror) -> Self {
        match mirror {
            ErrorMirror::ContextLength { limit, prompt, needed } => Self::ContextLength { limit, prompt, needed },
            ErrorMirror::Parameter { parameter, reason } => Self::Parameter { parameter, reason },
            ErrorMirror::Unsupported { model, what } => {
                const PHRASES: [&str; 4] = ["make embeddings", "answer chats", "continue texts", "run tensors"];
                let what = PHRASES.into_iter().find(|phrase| *phrase == what).unwrap_or("do this");
                Self::Unsupported { model, what }
            }
            ErrorMirror::Busy { waiting } => Self::Busy { waiting },
            ErrorMirror::Engine(reason) => Self::Engine(reason),
            ErrorMirror::Upstream { status } => Self::Upstream { status },
        }
    }
}
