//! The worker's transparency log: one task appends, its tiles and checkpoint lie in the worker's folder.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tacit_receipt::{Log, LogProof, Tile, TileId, TileStore, log_origin};
use tacit_types::{Address, ClusterId, Digest, signature::NoteKey};
use tokio::sync::{mpsc, oneshot};

use crate::metrics::Metrics;

/// Receipts that wait to be appended.
const QUEUE: usize = 4_096;
/// Receipts that are appended before a checkpoint is signed.
const MOST_AT_ONCE: usize = 512;

struct Append {
    receipt: Digest,
    reply: oneshot::Sender<LogProof>,
}

/// Appends receipts to the log.
#[derive(Clone)]
pub(crate) struct TransparencyLog {
    sender: mpsc::Sender<Append>,
}

impl TransparencyLog {
    /// Starts the log of a new keyset in `folder`; a log lives as long as its keyset.
    pub fn start(folder: PathBuf, cluster: ClusterId, worker: Address, key: NoteKey, metrics: Arc<Metrics>) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let writer = Writer {
            folder: folder.join(worker.to_string()),
            origin: log_origin(cluster, worker),
            key,
            log: Log::new(),
            tiles: TileStore::default(),
            metrics,
        };
        tokio::spawn(writer.run(receiver));
        Self { sender }
    }

    /// Appends a receipt and gives its proof; `None` when the log cannot be written.
    pub async fn append(&self, receipt: Digest) -> Option<LogProof> {
        let (reply, proof) = oneshot::channel();
        self.sender.send(Append { receipt, reply }).await.ok()?;
        proof.await.ok()
    }
}

struct Writer {
    folder: PathBuf,
    origin: String,
    key: NoteKey,
    log: Log,
    tiles: TileStore,
    metrics: Arc<Metrics>,
}

impl Writer {
    async fn run(mut self, mut receiver: mpsc::Receiver<Append>) {
        if let Err(error) = self.publish().await {
            tracing::error!(%error, "the transparency log cannot be written");
        }
        let mut waiting = Vec::new();
        while receiver.recv_many(&mut waiting, MOST_AT_ONCE).await > 0 {
            let batch = std::mem::take(&mut waiting);
            let mut indices = Vec::with_capacity(batch.len());
            for append in &batch {
                indices.push(self.log.append(append.receipt));
            }
            match self.publish().await {
                Ok(checkpoint) => self.answer(batch, &indices, &checkpoint),
                // Dropping the replies tells the callers; the entries stay and are in the next checkpoint.
                Err(error) => tracing::error!(%error, "the transparency log cannot be written"),
            }
        }
    }

    fn answer(&self, batch: Vec<Append>, indices: &[u64], checkpoint: &str) {
        for (append, index) in batch.into_iter().zip(indices) {
            // Nearly every hash that a new entry's proof needs is in memory: the right edge and what was just written.
            let mut read =
                |id: &TileId| self.tiles.read(id).or_else(|| std::fs::read(self.folder.join(id.path())).ok());
            match self.log.inclusion_proof(*index, &mut read) {
                Ok(path) => {
                    let _ = append.reply.send(LogProof { index: *index, path, checkpoint: checkpoint.to_owned() });
                }
                Err(error) => tracing::error!(%error, "the transparency log contradicts itself"),
            }
        }
    }

    /// Writes tiles, then the checkpoint over them: no checkpoint is shown before what it covers.
    async fn publish(&mut self) -> std::io::Result<String> {
        let publication = self.log.publish();
        self.tiles = TileStore::default();
        self.tiles.write(&publication.tiles);
        let note = publication.checkpoint(self.origin.clone()).sign(&self.key);
        let (folder, tiles, text) = (self.folder.clone(), publication.tiles, note.clone());
        tokio::task::spawn_blocking(move || write(&folder, &tiles, &text)).await.map_err(std::io::Error::other)??;
        self.log.written(publication.size);
        self.metrics.log_size.set(publication.size);
        Ok(note)
    }
}

// Not flushed to the disk: after a power cut the keyset is gone too, and with it the log.
fn write(folder: &Path, tiles: &[Tile], checkpoint: &str) -> std::io::Result<()> {
    for tile in tiles {
        let path = folder.join(tile.id.path());
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        replace(&path, &tile.bytes)?;
    }
    std::fs::create_dir_all(folder)?;
    replace(&folder.join("checkpoint"), checkpoint.as_bytes())
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let staged = path.with_file_name(name);
    std::fs::write(&staged, bytes)?;
    std::fs::rename(&staged, path)
}

/// Reads a checkpoint or tile of this worker's logs, present or past; `object` is `checkpoint` or a tile's path.
pub(crate) async fn read(logs: &Path, worker: Address, object: &str) -> Option<Vec<u8>> {
    if object != "checkpoint" && TileId::parse(object).is_none() {
        return None;
    }
    tokio::fs::read(logs.join(worker.to_string()).join(object)).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tacit_receipt::Checkpoint;

    #[tokio::test]
    async fn receipts_are_proved_and_tiles_are_readable() {
        let folder = tempfile::tempdir().unwrap();
        let worker = Address::from([7; 20]);
        let key = NoteKey::from_bytes(&[1; 32]);
        let public = key.public_key();
        let log = TransparencyLog::start(folder.path().into(), ClusterId::ZERO, worker, key, Arc::default());
        let origin = log_origin(ClusterId::ZERO, worker);
        let mut proofs = Vec::new();
        for number in 0..300u64 {
            let mut receipt = [0; 32];
            receipt[..8].copy_from_slice(&number.to_be_bytes());
            let proof = log.append(receipt.into()).await.unwrap();
            assert_eq!(proof.index, number);
            assert_eq!(proof.verify(receipt.into(), &origin, &public).unwrap().size, number + 1);
            proofs.push(proof);
        }
        assert!(proofs[0].verify(Digest::from([9; 32]), &origin, &public).is_err());
        let note = read(folder.path(), worker, "checkpoint").await.unwrap();
        let checkpoint = Checkpoint::verify(std::str::from_utf8(&note).unwrap(), &origin, &public).unwrap();
        assert_eq!(checkpoint.size, 300);
        assert_eq!(read(folder.path(), worker, "tile/0/000").await.unwrap().len(), 256 * 32);
        assert_eq!(read(folder.path(), worker, "tile/0/001.p/44").await.unwrap().len(), 44 * 32);
        assert_eq!(read(folder.path(), worker, "../../etc/passwd").await, None);
        assert_eq!(read(folder.path(), worker, "tile/0/009").await, None);
    }
}
