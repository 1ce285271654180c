//! Receipt bundles that anybody may fetch: without anything that only a caller may know, so without openings but that of a
//! publication's response.

use std::{
    collections::{HashMap, VecDeque},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use tacit_receipt::Bundle;
use tacit_types::CallId;
use tokio::sync::mpsc;

/// Bundles kept in memory.
const KEPT: usize = 2_048;
/// Bundles that wait to be written to the disk; past it they are kept in memory only.
const QUEUE: usize = 4_096;

/// Public bundles by call. Shared.
#[derive(Clone)]
pub(crate) struct Receipts {
    folder: Arc<PathBuf>,
    recent: Arc<Mutex<Recent>>,
    writer: mpsc::Sender<(CallId, Arc<Bundle>)>,
}

#[derive(Default)]
struct Recent {
    bundles: HashMap<CallId, Arc<Bundle>>,
    order: VecDeque<CallId>,
}

impl Receipts {
    /// Starts to keep bundles in `folder`.
    pub fn start(folder: PathBuf) -> Self {
        let (writer, mut receiver) = mpsc::channel::<(CallId, Arc<Bundle>)>(QUEUE);
        let target = folder.clone();
        tokio::spawn(async move {
            let mut batch = Vec::new();
            while receiver.recv_many(&mut batch, 256).await > 0 {
                let (target, bundles) = (target.clone(), std::mem::take(&mut batch));
                let written = tokio::task::spawn_blocking(move || {
                    bundles.iter().try_for_each(|(call, bundle)| write(&file(&target, *call), &encode(bundle)?))
                });
                if let Ok(Err(error)) = written.await {
                    tracing::warn!(%error, "receipts cannot be kept on the disk");
                }
            }
        });
        Self { folder: Arc::new(folder), recent: Arc::default(), writer }
    }

    /// Keeps a bundle; a later one of the same call replaces it.
    pub fn keep(&self, call: CallId, bundle: Arc<Bundle>) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.bundles.insert(call, Arc::clone(&bundle)).is_none() {
            recent.order.push_back(call);
        }
        if recent.order.len() > KEPT
            && let Some(oldest) = recent.order.pop_front()
        {
            recent.bundles.remove(&oldest);
        }
        drop(recent);
        let _ = self.writer.try_send((call, bundle));
    }

    /// The bundle of a call, if it is among the newest.
    pub fn recent(&self, call: CallId) -> Option<Arc<Bundle>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).bundles.get(&call).cloned()
    }

    /// The bundle of a call that this worker answered.
    pub async fn fetch(&self, call: CallId) -> Option<Bytes> {
        match self.recent(call) {
            Some(bundle) => encode(&bundle).ok().map(Bytes::from),
            None => tokio::fs::read(file(&self.folder, call)).await.ok().map(Bytes::from),
        }
    }
}

fn file(folder: &Path, call: CallId) -> PathBuf {
    let name = call.to_string();
    folder.join(&name[2..4]).join(format!("{name}.receipt.json"))
}

fn encode(bundle: &Bundle) -> std::io::Result<Vec<u8>> {
    bundle.encode().map_err(std::io::Error::other)
}

fn write(path: &Path, bundle: &[u8]) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let staged = path.with_extension("new");
    std::fs::write(&staged, bundle)?;
    std::fs::rename(staged, path)
}
