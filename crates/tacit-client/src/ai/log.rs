//! The node's transparency log, as one client sees it: never shorter than before, and with the same beginning.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};
use tacit_receipt::{Checkpoint, Log, ReceiptError, TileId, verify_consistency};
use tacit_types::Address;
use tokio::sync::Mutex;

use super::{AiError, store::write_private, transport::Transport};

/// Most bytes of a tile or checkpoint.
const MAX_TILE: usize = 16 << 10;
/// Most tiles that one question needs: two at the edge of each of eight levels, and one inside each for every proof.
const MOST_TILES: usize = 4_096;
/// Most logs that are remembered in memory.
const MOST_LOGS: usize = 1_024;

/// The newest checkpoint of each log that was seen.
#[derive(Default)]
pub(super) struct LogView {
    seen: Mutex<HashMap<String, Checkpoint>>,
    folder: Option<PathBuf>,
}

/// The name of a log, taken from a checkpoint that is not verified yet: its first line, which must end in the account that the
/// keyset's receipt key has.
pub(super) fn origin_of(note: &str, account: Address) -> Result<&str, AiError> {
    let first = note.lines().next().filter(|line| line.len() <= 256 && line.starts_with("tacit/"));
    let own = first.filter(|line| line.rsplit('/').next() == Some(account.to_string().as_str()));
    own.ok_or(AiError::BadAnswer("the checkpoint is that of another log"))
}

impl LogView {
    /// A view that outlives the process, in this folder.
    pub(super) fn kept_in(folder: PathBuf) -> Self {
        Self { seen: Mutex::default(), folder: Some(folder) }
    }

    /// Takes a verified checkpoint, whose note is `note`: the log of the longer one, this or the newest seen before, must begin
    /// with the shorter one's.
    pub(super) async fn advance(
        &self,
        transport: &Transport,
        account: Address,
        key: &[u8; 32],
        checkpoint: &Checkpoint,
        note: &str,
    ) -> Result<(), AiError> {
        let mut seen = self.seen.lock().await;
        let before = match seen.get(&checkpoint.origin) {
            Some(before) => Some(before.clone()),
            None => self.kept(&checkpoint.origin, key),
        };
        if let Some(before) = &before {
            let (earlier, later) =
                if before.size <= checkpoint.size { (before, checkpoint) } else { (checkpoint, before) };
            if earlier.size == later.size {
                verify_consistency(earlier, later, &[]).map_err(AiError::Log)?;
            } else {
                Tiles::new(transport, account).extends(earlier, later).await?;
            }
        }
        if before.is_none_or(|before| before.size < checkpoint.size) {
            if let Some(folder) = &self.folder {
                write_private(folder, &file_name(&checkpoint.origin), note.as_bytes())?;
            }
            if seen.len() >= MOST_LOGS {
                seen.clear();
            }
            seen.insert(checkpoint.origin.clone(), checkpoint.clone());
        }
        Ok(())
    }

    fn kept(&self, origin: &str, key: &[u8; 32]) -> Option<Checkpoint> {
        let note = kept_note(self.folder.as_deref()?, origin)?;
        Checkpoint::verify(&note, origin, key).ok()
    }
}

/// The note of the newest checkpoint of a log that is kept in a folder.
pub(super) fn kept_note(folder: &Path, origin: &str) -> Option<String> {
    std::fs::read_to_string(folder.join(file_name(origin))).ok()
}

fn file_name(origin: &str) -> String {
    format!("{}.checkpoint", hex::encode(&Sha256::digest(origin)[..16]))
}

/// Tiles of one log, fetched when a proof needs them.
pub(super) struct Tiles<'a> {
    transport: &'a Transport,
    account: Address,
    read: HashMap<TileId, Vec<u8>>,
}

impl<'a> Tiles<'a> {
    pub(super) fn new(transport: &'a Transport, account: Address) -> Self {
        Self { transport, account, read: HashMap::new() }
    }

    /// The newest checkpoint's note; nothing of it is verified.
    pub(super) async fn newest(&self) -> Result<String, AiError> {
        let note = self.transport.get(&format!("/log/{}/checkpoint", self.account), MAX_TILE).await?;
        String::from_utf8(note).map_err(|_| AiError::BadAnswer("a checkpoint is not text"))
    }

    /// Checks that the log at `later` begins with the log at `earlier`.
    pub(super) async fn extends(&mut self, earlier: &Checkpoint, later: &Checkpoint) -> Result<(), AiError> {
        let path = self
            .with(|read| Log::resume(later, read).and_then(|log| log.consistency_proof(earlier.size, read)))
            .await?;
        verify_consistency(earlier, later, &path).map_err(AiError::Log)
    }

    /// The log at a checkpoint.
    pub(super) async fn log(&mut self, checkpoint: &Checkpoint) -> Result<Log, AiError> {
        self.with(|read| Log::resume(checkpoint, read)).await
    }

    /// The proof that `log` begins with its first `earlier` entries.
    pub(super) async fn consistency(&mut self, log: &Log, earlier: u64) -> Result<Vec<tacit_types::Digest>, AiError> {
        self.with(|read| log.consistency_proof(earlier, read)).await
    }

    /// The path from an entry to the root of `log`.
    pub(super) async fn inclusion(&mut self, log: &Log, index: u64) -> Result<Vec<tacit_types::Digest>, AiError> {
        self.with(|read| log.inclusion_proof(index, read)).await
    }

    /// Runs `proof` until it has all the tiles that it asks for. What is fetched is checked by the proof itself.
    async fn with<T>(
        &mut self,
        mut proof: impl FnMut(&mut dyn FnMut(&TileId) -> Option<Vec<u8>>) -> Result<T, ReceiptError>,
    ) -> Result<T, AiError> {
        loop {
            let mut missing = None;
            let result = proof(&mut |id| {
                let found = self.read.get(id).cloned();
                if found.is_none() {
                    missing = missing.or(Some(*id));
                }
                found
            });
            match (result, missing) {
                (Err(ReceiptError::Tile(_)), Some(id)) if self.read.len() < MOST_TILES => {
                    let path = format!("/log/{}/{}", self.account, id.path());
                    match self.transport.get(&path, MAX_TILE).await {
                        Ok(tile) => drop(self.read.insert(id, tile)),
                        // A log that does not show what it has signed for.
                        Err(AiError::Status { .. }) => return Err(AiError::Log(ReceiptError::Tile(id.path()))),
                        Err(error) => return Err(error),
                    }
                }
                (result, _) => return result.map_err(AiError::Log),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_names_the_log_of_its_account() {
        let account = Address::from([7; 20]);
        let note = format!("tacit/0x00/{account}\n1\nAAAA\n\n— x y\n");
        assert_eq!(origin_of(&note, account).unwrap(), format!("tacit/0x00/{account}"));
        for other in [String::new(), format!("other/{account}\n"), format!("tacit/0x00/{}\n", Address::from([8; 20]))] {
            assert!(origin_of(&other, account).is_err(), "{other}");
        }
    }
}
