//! Snapshots of the local chain: one file, replaced atomically.

use std::{
    io,
    path::{Path, PathBuf},
};

use alloy::primitives::Bytes;

use super::rpc::LocalRpc;
use crate::error::LedgerError;

/// The file and the one it is replaced from.
pub(super) struct Snapshots {
    file: PathBuf,
    next: PathBuf,
}

impl Snapshots {
    pub(super) fn new(directory: &Path) -> Self {
        Self { file: directory.join("chain.snapshot"), next: directory.join("chain.snapshot.next") }
    }

    /// Writes the chain's present state so that either the old or the new file is whole at any moment.
    pub(super) async fn save(&self, rpc: &LocalRpc) -> Result<(), LedgerError> {
        let state = rpc.dump_state().await?;
        let (file, next) = (self.file.clone(), self.next.clone());
        tokio::task::spawn_blocking(move || replace(&file, &next, &state))
            .await
            .map_err(io::Error::other)
            .and_then(|written| written)
            .map_err(|source| LedgerError::LocalChain { action: "could not be saved", source })
    }

    /// The last snapshot, if there is one.
    pub(super) async fn load(&self) -> Result<Option<Bytes>, LedgerError> {
        match tokio::fs::read(&self.file).await {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(LedgerError::LocalChain { action: "cannot read its snapshot", source }),
        }
    }
}

fn replace(file: &Path, next: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;
    let mut writer = std::fs::File::create(next)?;
    writer.write_all(bytes)?;
    writer.sync_all()?;
    std::fs::rename(next, file)?;
    let folder = file.parent().ok_or(io::ErrorKind::NotFound)?;
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (file, next) = (folder.path().join("s"), folder.path().join("s.next"));
        replace(&file, &next, b"one").unwrap();
        // A torn write of the next one leaves the last one as it was.
        std::fs::write(&next, b"tw").unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"one");
        replace(&file, &next, b"two").unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"two");
        assert!(!next.exists());
    }
}
