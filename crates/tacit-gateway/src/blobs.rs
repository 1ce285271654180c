//! Public bytes under their SHA-256, on disk, within a quota.

use std::{
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tacit_api::{Problem, ProblemKind, limits::MAX_BLOB};
use tacit_types::Digest;
use tokio::io::AsyncWriteExt as _;

/// Blobs in a folder: `<first two digits>/<digest>`; a file appears whole or not at all.
pub(crate) struct Blobs {
    folder: PathBuf,
    quota: u64,
    used: AtomicU64,
    next: AtomicU64,
}

impl Blobs {
    /// Opens the folder, counts what is there and removes what a crash left half written.
    pub(crate) fn open(folder: &Path, quota: u64) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let mut used = 0;
        for part in std::fs::read_dir(folder)? {
            let part = part?;
            if !part.file_type()?.is_dir() {
                continue;
            }
            for file in std::fs::read_dir(part.path())? {
                let file = file?;
                if file.file_name().to_string_lossy().ends_with(".writing") {
                    std::fs::remove_file(file.path())?;
                } else {
                    used += file.metadata()?.len();
                }
            }
        }
        Ok(Self { folder: folder.to_owned(), quota, used: AtomicU64::new(used), next: AtomicU64::new(0) })
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Stores bytes whose digest must be `digest`; storing the same again changes nothing.
    pub(crate) async fn write(&self, digest: Digest, bytes: Bytes) -> Result<(), Problem> {
        if bytes.len() > MAX_BLOB {
            return Err(Problem::new(
                ProblemKind::TooLarge,
                format!("{} bytes, at most {MAX_BLOB} are allowed", bytes.len()),
            ));
        }
        if sha256(&bytes) != digest {
            return Err(Problem::new(ProblemKind::DigestMismatch, "the body's SHA-256 is not the one in the address"));
        }
        let path = self.path(digest);
        if tokio::fs::try_exists(&path).await.unwrap_or(false) {
            return Ok(());
        }
        let length = bytes.len() as u64;
        let reserved = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(length).filter(|total| *total <= self.quota)
        });
        if reserved.is_err() {
            return Err(Problem::new(
                ProblemKind::QuotaExceeded,
                format!("all blobs together may have {} bytes", self.quota),
            ));
        }
        match self.persist(&path, &bytes).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.used.fetch_sub(length, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                self.used.fetch_sub(length, Ordering::Relaxed);
                Err(storage(&error))
            }
        }
    }

    /// Writes and syncs beside the final place, then links it there; `false` when another request was first.
    async fn persist(&self, path: &Path, bytes: &[u8]) -> io::Result<bool> {
        let folder = path.parent().expect("every blob lies in a folder");
        tokio::fs::create_dir_all(folder).await?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let temporary = path.with_extension(format!("{number}.writing"));
        let written = async {
            let mut file = tokio::fs::File::create(&temporary).await?;
            file.write_all(bytes).await?;
            file.sync_all().await?;
            match tokio::fs::hard_link(&temporary, path).await {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                Err(error) => Err(error),
            }
        }
        .await;
        let removed = tokio::fs::remove_file(&temporary).await;
        let first = written?;
        removed?;
        tokio::fs::File::open(folder).await?.sync_all().await?;
        Ok(first)
    }

    /// The bytes, if they are here and still have their digest; damaged ones are removed.
    pub(crate) async fn read(&self, digest: Digest) -> Result<Option<Bytes>, Problem> {
        let path = self.path(digest);
        let bytes = match tokio::fs::read(&path).await {
            Ok(bytes) => Bytes::from(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(storage(&error)),
        };
        if sha256(&bytes) == digest {
            return Ok(Some(bytes));
        }
        tracing::warn!(%digest, "a blob on disk is damaged; removing it");
        tokio::fs::remove_file(&path).await.map_err(|error| storage(&error))?;
        self.used.fetch_sub(bytes.len() as u64, Ordering::Relaxed);
        Ok(None)
    }

    fn path(&self, digest: Digest) -> PathBuf {
        let name = digest.to_string();
        self.folder.join(&name[2..4]).join(name)
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    <[u8; 32]>::from(Sha256::digest(bytes)).into()
}

fn storage(error: &io::Error) -> Problem {
    tracing::error!(%error, "the blob folder does not work");
    Problem::new(ProblemKind::StorageUnavailable, format!("the gateway's disk does not work: {}", error.kind()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(result: Result<(), Problem>) -> ProblemKind {
        result.unwrap_err().kind
    }

    #[tokio::test]
    async fn a_blob_reads_back_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path(), 100).unwrap();
        let digest = sha256(b"hello");
        assert_eq!(blobs.read(digest).await.unwrap(), None);
        blobs.write(digest, Bytes::from_static(b"hello")).await.unwrap();
        blobs.write(digest, Bytes::from_static(b"hello")).await.unwrap();
        assert_eq!(blobs.used(), 5);
        let again = Blobs::open(folder.path(), 100).unwrap();
        assert_eq!(again.used(), 5);
        assert_eq!(again.read(digest).await.unwrap().unwrap(), "hello");
    }

    #[tokio::test]
    async fn refusals() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path(), 10).unwrap();
        assert_eq!(kind(blobs.write(Digest::ZERO, Bytes::from_static(b"x")).await), ProblemKind::DigestMismatch);
        let large = Bytes::from(vec![0; MAX_BLOB + 1]);
        assert_eq!(kind(blobs.write(sha256(&large), large).await), ProblemKind::TooLarge);
        blobs.write(sha256(b"1234567"), Bytes::from_static(b"1234567")).await.unwrap();
        assert_eq!(kind(blobs.write(sha256(b"abcd"), Bytes::from_static(b"abcd")).await), ProblemKind::QuotaExceeded);
        blobs.write(sha256(b"abc"), Bytes::from_static(b"abc")).await.unwrap();
        assert_eq!(blobs.used(), 10);
    }

    #[tokio::test]
    async fn damage_and_half_written_files_are_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path(), 100).unwrap();
        let digest = sha256(b"hello");
        blobs.write(digest, Bytes::from_static(b"hello")).await.unwrap();
        std::fs::write(blobs.path(digest), b"jello").unwrap();
        assert_eq!(blobs.read(digest).await.unwrap(), None);
        assert_eq!(blobs.used(), 0);
        let half = blobs.path(digest).with_extension("0.writing");
        std::fs::write(&half, b"he").unwrap();
        let again = Blobs::open(folder.path(), 100).unwrap();
        assert!(!half.exists());
        assert_eq!(again.used(), 0);
    }
}
