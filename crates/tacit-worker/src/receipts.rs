//! Receipt bundles that anybody may fetch: without openings, so without anything that only a caller may know.

use std::{
    collections::{HashMap, VecDeque},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
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
    writer: mpsc::Sender<(CallId, Bytes)>,
}

#[derive(Default)]
struct Recent {
    bundles: HashMap<CallId, Bytes>,
    order: VecDeque<CallId>,
}

impl Receipts {
    /// Starts to keep bundles in `folder`.
    pub fn start(folder: PathBuf) -> Self {
        let (writer, mut receiver) = mpsc::channel::<(CallId, Bytes)>(QUEUE);
        let target = folder.clone();
        tokio::spawn(async move {
            let mut batch = Vec::new();
            while receiver.recv_many(&mut batch, 256).await > 0 {
                let (target, bundles) = (target.clone(), std::mem::take(&mut batch));
                let written = tokio::task::spawn_blocking(move || {
                    bundles.iter().try_for_each(|(call, bundle)| write(&file(&target, *call), bundle))
                });
                if let Ok(Err(error)) = written.await {
                    tracing::warn!(%error, "receipts cannot be kept on the disk");
                }
            }
        });
        Self { folder: Arc::new(folder), recent: Arc::default(), writer }
    }

    /// Keeps a bundle; a later one of the same call replaces it.
    pub fn keep(&self, call: CallId, bundle: Bytes) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.bundles.insert(call, bundle.clone()).is_none() {
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

    /// The bundle of a call that this worker answered.
    pub async fn fetch(&self, call: CallId) -> Option<Bytes> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner).bundles.get(&call).cloned();
        match recent {
            Some(bundle) => Some(bundle),
            None => tokio::fs::read(file(&self.folder, call)).await.ok().map(Bytes::from),
        }
    }
}

fn file(folder: &Path, call: CallId) -> PathBuf {
    let name = call.to_string();
    folder.join(&name[2..4]).join(format!("{name}.receipt.json"))
}

fn write(path: &Path, bundle: &[u8]) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let staged = path.with_extension("new");
    std::fs::write(&staged, bundle)?;
    std::fs::rename(staged, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bundles_are_found_in_memory_and_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        let receipts = Receipts::start(folder.path().into());
        let call = |number: u64| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&number.to_be_bytes());
            CallId::from(id)
        };
        for number in 0..KEPT as u64 + 10 {
            receipts.keep(call(number), Bytes::from(number.to_string()));
            tokio::task::yield_now().await;
        }
        assert_eq!(receipts.fetch(call(KEPT as u64)).await.unwrap(), KEPT.to_string());
        assert_eq!(receipts.fetch(call(1 << 40)).await, None);
        let first = async {
            loop {
                if let Some(found) = receipts.fetch(call(0)).await {
                    return found;
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        let found = tokio::time::timeout(std::time::Duration::from_secs(20), first).await.unwrap();
        assert_eq!(found, "0");
    }
}
