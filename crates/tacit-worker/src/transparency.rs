//! The worker's transparency log: one task appends, its tiles and checkpoint lie in the worker's folder.

use std::{
    collections::HashMap,
    fs::File,
    io::Write as _,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use tacit_receipt::{Log, LogProof, TILE_WIDTH, Tile, TileId, TileKind, TileStore, log_origin};
use tacit_types::{Address, ClusterId, Digest, signature::NoteKey};
use tokio::sync::{mpsc, oneshot};

use crate::metrics::Metrics;

/// Receipts that wait to be appended.
const QUEUE: usize = 4_096;
/// Receipts that are appended before a checkpoint is signed.
const MOST_AT_ONCE: usize = 512;

/// Name of the checkpoint's file and route.
const CHECKPOINT: &str = "checkpoint";
/// Bytes of one hash of a tile.
const HASH_BYTES: usize = 32;
/// Bytes of one entry of a tile: its length and the digest.
const ENTRY_BYTES: usize = 34;

struct Append {
    receipt: Digest,
    reply: oneshot::Sender<LogProof>,
}

/// Appends receipts to the log, and shows it.
#[derive(Clone)]
pub(crate) struct TransparencyLog {
    sender: mpsc::Sender<Append>,
    /// Folder of all logs of this machine.
    folder: Arc<PathBuf>,
    worker: Address,
    /// The newest checkpoint of this process's log.
    checkpoint: Arc<RwLock<String>>,
}

impl TransparencyLog {
    /// Starts the log of a new keyset in `folder`; a log lives as long as its keyset.
    pub fn start(folder: PathBuf, cluster: ClusterId, worker: Address, key: NoteKey, metrics: Arc<Metrics>) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let checkpoint = Arc::new(RwLock::new(String::new()));
        let writer = Writer {
            files: Some(Files::new(folder.join(worker.to_string()))),
            folder: folder.join(worker.to_string()),
            origin: log_origin(cluster, worker),
            key,
            log: Log::new(),
            tiles: TileStore::default(),
            checkpoint: Arc::clone(&checkpoint),
            metrics,
        };
        tokio::spawn(writer.run(receiver));
        Self { sender, folder: Arc::new(folder), worker, checkpoint }
    }

    /// Appends a receipt and gives its proof; `None` when the log cannot be written.
    pub async fn append(&self, receipt: Digest) -> Option<LogProof> {
        let (reply, proof) = oneshot::channel();
        self.sender.send(Append { receipt, reply }).await.ok()?;
        proof.await.ok()
    }

    /// A checkpoint or tile of this machine's logs, present or past; `object` is `checkpoint` or a tile's path.
    pub async fn read(&self, worker: Address, object: &str) -> Option<Vec<u8>> {
        let folder = self.folder.join(worker.to_string());
        if object == CHECKPOINT {
            if worker == self.worker {
                let checkpoint = self.checkpoint.read().unwrap_or_else(PoisonError::into_inner).clone();
                return Some(checkpoint.into_bytes()).filter(|checkpoint| !checkpoint.is_empty());
            }
            return tokio::fs::read(folder.join(CHECKPOINT)).await.ok();
        }
        let id = TileId::parse(object)?;
        tokio::task::spawn_blocking(move || read_tile(&folder, &id)).await.ok()?
    }
}

struct Writer {
    /// Taken while they are written to.
    files: Option<Files>,
    folder: PathBuf,
    origin: String,
    key: NoteKey,
    log: Log,
    tiles: TileStore,
    checkpoint: Arc<RwLock<String>>,
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
            let mut read = |id: &TileId| self.tiles.read(id).or_else(|| read_tile(&self.folder, id));
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
        let mut files = self.files.take().unwrap_or_else(|| Files::new(self.folder.clone()));
        let (tiles, text) = (publication.tiles, note.clone());
        let written = tokio::task::spawn_blocking(move || {
            let result = files.write(&tiles, &text);
            (files, result)
        });
        let (files, result) = written.await.map_err(std::io::Error::other)?;
        // After a failure it is not known what the open files hold: they are opened anew.
        result?;
        self.files = Some(files);
        self.log.written(publication.size);
        self.metrics.log_size.set(publication.size);
        self.checkpoint.write().unwrap_or_else(PoisonError::into_inner).clone_from(&note);
        Ok(note)
    }
}

/// The files of one log. What is in the page cache survives the process; the disk is not waited for, since after a power cut
/// the keyset is gone too, and with it the log.
struct Files {
    folder: PathBuf,
    /// Tiles at the right edge, and how many bytes of each are written: they only grow.
    partial: HashMap<(TileKind, u64), (File, usize)>,
    checkpoint: Option<File>,
}

impl Files {
    fn new(folder: PathBuf) -> Self {
        Self { folder, partial: HashMap::new(), checkpoint: None }
    }

    fn write(&mut self, tiles: &[Tile], checkpoint: &str) -> std::io::Result<()> {
        for tile in tiles {
            self.write_tile(tile)?;
        }
        let file = match &mut self.checkpoint {
            Some(file) => file,
            none => {
                std::fs::create_dir_all(&self.folder)?;
                none.insert(File::create(self.folder.join(CHECKPOINT))?)
            }
        };
        // A later checkpoint of the same log is never shorter.
        file.write_all_at(checkpoint.as_bytes(), 0)
    }

    fn write_tile(&mut self, tile: &Tile) -> std::io::Result<()> {
        let place = (tile.id.kind, tile.id.index);
        let partial = self.folder.join(partial_file(&tile.id));
        let (mut file, written) = match self.partial.remove(&place) {
            Some(open) => open,
            None => {
                if let Some(parent) = partial.parent() {
                    std::fs::create_dir_all(parent)?;
                }
                (File::create(&partial)?, 0)
            }
        };
        file.write_all(tile.bytes.get(written..).unwrap_or_default())?;
        if tile.id.width == TILE_WIDTH {
            return std::fs::rename(&partial, self.folder.join(tile.id.path()));
        }
        self.partial.insert(place, (file, tile.bytes.len().max(written)));
        Ok(())
    }
}

/// Where the partial tiles of one place lie: in one file, which holds the widest.
fn partial_file(id: &TileId) -> String {
    format!("{}.partial", TileId { width: TILE_WIDTH, ..*id }.path())
}

/// A tile from its file, or from that of a wider one at the same place.
fn read_tile(folder: &Path, id: &TileId) -> Option<Vec<u8>> {
    let whole = folder.join(TileId { width: TILE_WIDTH, ..*id }.path());
    let read = |path: &Path| std::fs::read(path).ok();
    // The whole one once more: the partial one may have become it between the two looks.
    let bytes = read(&whole).or_else(|| read(&folder.join(partial_file(id)))).or_else(|| read(&whole))?;
    let unit = if id.kind == TileKind::Entries { ENTRY_BYTES } else { HASH_BYTES };
    bytes.get(..usize::try_from(id.width).ok()? * unit).map(<[u8]>::to_vec)
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
        let note = log.read(worker, "checkpoint").await.unwrap();
        let checkpoint = Checkpoint::verify(std::str::from_utf8(&note).unwrap(), &origin, &public).unwrap();
        assert_eq!(checkpoint.size, 300);
        assert_eq!(log.read(worker, "tile/0/000").await.unwrap().len(), 256 * 32);
        assert_eq!(log.read(worker, "tile/0/001.p/44").await.unwrap().len(), 44 * 32);
        assert_eq!(log.read(worker, "tile/0/000.p/7").await.unwrap().len(), 7 * 32);
        assert_eq!(log.read(worker, "tile/entries/001.p/44").await.unwrap().len(), 44 * 34);
        assert_eq!(log.read(worker, "tile/0/001.p/45").await, None);
        assert_eq!(log.read(worker, "../../etc/passwd").await, None);
        assert_eq!(log.read(worker, "tile/0/009").await, None);
        // A later process shows the same log from its files alone.
        let later = TransparencyLog::start(
            folder.path().into(),
            ClusterId::ZERO,
            Address::from([8; 20]),
            NoteKey::from_bytes(&[2; 32]),
            Arc::default(),
        );
        assert_eq!(later.read(worker, "checkpoint").await.unwrap(), note);
        assert_eq!(later.read(worker, "tile/0/001.p/44").await, log.read(worker, "tile/0/001.p/44").await);
        assert_eq!(later.read(Address::from([9; 20]), "checkpoint").await, None);
    }
}
