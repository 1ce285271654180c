//! The side of the model's process.

use std::{collections::HashMap, sync::Arc};

use tokio::{
    io::{self, AsyncRead, AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
    task::AbortHandle,
};

use super::{
    engine,
    frame::{self, Answer, Ask},
};
use crate::{
    Backend, EngineSettings, Generation, InferenceError, LlamaCpp, ModelStore, OnnxModel, manifest::FileRole, onnx,
};

/// Answers on their way to the parent.
const OUTGOING: usize = 256;

/// Loads a model of a store, whichever engine runs it. Only for a process that does nothing else: the memory of one that runs an ONNX
/// model is bounded from here on.
///
/// # Errors
/// [`InferenceError::Engine`], as [`LlamaCpp::open`] and [`OnnxModel::open`].
pub fn load(
    models: &ModelStore,
    name: &str,
    created: u64,
    settings: &EngineSettings,
) -> Result<Arc<dyn Backend>, InferenceError> {
    let manifest = models.manifest(name).map_err(|error| engine(error.to_string()))?;
    let file = manifest.files_of(FileRole::Onnx).next().map(|file| file.size);
    Ok(match file {
        Some(_) if settings.constant_shape => {
            return Err(engine("constant_shape is not possible: it runs tensors".to_owned()));
        }
        Some(size) => {
            limit_memory(size.saturating_mul(4).saturating_add(onnx::MEMORY))?;
            Arc::new(OnnxModel::open(models, name, created)?)
        }
        None => Arc::new(LlamaCpp::open(models, name, created, settings)?),
    })
}

/// Bounds what this process may allocate. An allocation beyond that ends it.
fn limit_memory(bytes: u64) -> Result<(), InferenceError> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let bytes = getrlimit(Resource::Data).maximum.map_or(bytes, |most| most.min(bytes));
    let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
    setrlimit(Resource::Data, limit).map_err(|error| engine(format!("its memory could not be bounded: {error}")))
}

/// Loads a model, says so, and answers until the parent closes `input`.
///
/// # Errors
/// When `input` or `output` fails. A model that cannot be loaded is told to the parent and is no error here.
pub async fn serve(
    load: impl FnOnce() -> Result<Arc<dyn Backend>, InferenceError> + Send + 'static,
    mut input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin + Send + 'static,
) -> io::Result<()> {
    let loaded = tokio::task::spawn_blocking(load).await;
    let backend = match loaded.unwrap_or_else(|_| Err(InferenceError::Engine("loading it failed".to_owned()))) {
        Ok(backend) => backend,
        Err(error) => {
            frame::write(&mut output, &Answer::Failed(error)).await?;
            return output.flush().await;
        }
    };
    frame::write(&mut output, &Answer::Ready(backend.identity().clone())).await?;
    output.flush().await?;
    let (answers, mut outgoing) = mpsc::channel::<Answer>(OUTGOING);
    let writer = tokio::spawn(async move {
        while let Some(answer) = outgoing.recv().await {
            frame::write(&mut output, &answer).await?;
            // Whatever is there already goes out together.
            while let Ok(answer) = outgoing.try_recv() {
                frame::write(&mut output, &answer).await?;
            }
            output.flush().await?;
        }
        io::Result::Ok(())
    });
    let mut tasks: HashMap<u64, AbortHandle> = HashMap::new();
    while let Some(ask) = frame::read(&mut input).await? {
        let (backend, answers) = (Arc::clone(&backend), answers.clone());
        let (id, task) = match ask {
            Ask::Cancel(id) => {
                // The generation goes with its task.
                tasks.remove(&id).inspect(AbortHandle::abort);
                continue;
            }
            Ask::Chat(id, request) => {
                (id, tokio::spawn(async move { generation(id, backend.chat(request).await, &answers).await }))
            }
            Ask::Completion(id, request) => {
                (id, tokio::spawn(async move { generation(id, backend.complete(request).await, &answers).await }))
            }
            Ask::Embedding(id, request) => (
                id,
                tokio::spawn(async move {
                    let answer = match backend.embed(request).await {
                        Ok(embedding) => Answer::Embedded(id, embedding),
                        Err(error) => Answer::Refused(id, error),
                    };
                    let _ = answers.send(answer).await;
                }),
            ),
            Ask::Tensors(id, request) => (
                id,
                tokio::spawn(async move {
                    let answer = match backend.run(request).await {
                        Ok(answer) => Answer::Ran(id, answer),
                        Err(error) => Answer::Refused(id, error),
                    };
                    let _ = answers.send(answer).await;
                }),
            ),
        };
        tasks.retain(|_, task| !task.is_finished());
        tasks.insert(id, task.abort_handle());
    }
    tasks.values().for_each(AbortHandle::abort);
    drop(answers);
    writer.await.unwrap_or(Ok(()))
}

async fn generation(id: u64, begun: Result<Generation, InferenceError>, answers: &mpsc::Sender<Answer>) {
    let mut generation = match begun {
        Ok(generation) => generation,
        Err(error) => return drop(answers.send(Answer::Refused(id, error)).await),
    };
    let mut answer = Answer::Accepted(id);
    while answers.send(answer).await.is_ok() {
        match generation.next().await {
            Some(event) => answer = Answer::Event(id, event),
            None => return,
        }
    }
}
