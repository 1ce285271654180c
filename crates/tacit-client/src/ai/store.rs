//! What is kept of each exchange: a file each, in a folder for each day, readable by its owner alone.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};
use tacit_types::UnixTime;
use tacit_verify::aci::{MAX_TRANSCRIPT, Transcript};

use super::AiError;

/// Most files of one day that are looked at.
const MOST_FILES: usize = 1 << 20;
const DAY: u64 = 86_400;

/// What is kept of requests and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The bytes, so that anybody can check them against the receipt.
    Full,
    /// Nothing but the hashes in the receipt.
    Hashes,
}

/// A folder of transcripts.
#[derive(Debug, Clone)]
pub struct TranscriptStore {
    folder: PathBuf,
    keep: Keep,
}

/// A file of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// Where it is.
    pub path: PathBuf,
    /// When the exchange ended, by this machine's clock.
    pub at: UnixTime,
    /// What it is.
    pub kind: StoredKind,
}

/// What a file of the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredKind {
    /// A transcript of an exchange that was complete.
    Transcript,
    /// A transcript of an exchange that broke off.
    Cut,
    /// A note that there is no transcript where there should be one.
    Failure,
}

impl StoredKind {
    const ALL: [Self; 3] = [Self::Transcript, Self::Cut, Self::Failure];

    const fn suffix(self) -> &'static str {
        match self {
            Self::Transcript => "transcript.json",
            Self::Cut => "cut.json",
            Self::Failure => "failure.txt",
        }
    }
}

impl TranscriptStore {
    /// A store in `folder`, which is made when it is first written to.
    pub fn new(folder: PathBuf, keep: Keep) -> Self {
        Self { folder, keep }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the newest checkpoints of logs are kept.
    pub(super) fn logs(&self) -> PathBuf {
        self.folder.join("logs")
    }

    /// Keeps a transcript; on the disk when this returns.
    pub(super) fn write(
        &self,
        at: UnixTime,
        receipt: &str,
        kind: StoredKind,
        mut transcript: Transcript,
    ) -> Result<PathBuf, AiError> {
        if self.keep == Keep::Hashes {
            (transcript.request, transcript.response) = (None, None);
        }
        self.put(at, receipt, kind, &transcript.encode()?)
    }

    /// Keeps a note of why there is no transcript.
    pub(super) fn write_failure(&self, at: UnixTime, receipt: &str, why: &str) -> Result<PathBuf, AiError> {
        self.put(at, receipt, StoredKind::Failure, format!("{why}\n").as_bytes())
    }

    fn put(&self, at: UnixTime, receipt: &str, kind: StoredKind, bytes: &[u8]) -> Result<PathBuf, AiError> {
        let day = at.to_string().chars().take(10).collect::<String>();
        // A receipt that is shown for two exchanges must not hide the first one's file.
        let number = hex::encode(rand::random::<[u8; 4]>());
        let name = format!("{}-{number}-{}.{}", at.0, name_of(receipt), kind.suffix());
        write_private(&self.folder.join(day), &name, bytes)
    }

    /// The files of exchanges that ended from `from` to `to`, both included, in the order of time.
    ///
    /// # Errors
    /// [`AiError::Store`].
    pub fn list(&self, from: UnixTime, to: UnixTime) -> Result<Vec<StoredFile>, AiError> {
        let mut found = Vec::new();
        for folder in entries(&self.folder)? {
            let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            if name.len() != 10 || !folder.is_dir() {
                continue;
            }
            let files = entries(&folder)?;
            found.extend(files.into_iter().filter_map(parse_name).filter(|file| from <= file.at && file.at <= to));
        }
        found.sort_by(|one, other| (one.at, &one.path).cmp(&(other.at, &other.path)));
        Ok(found)
    }
}

/// Reads a file of the store, as many bytes as a transcript may have.
///
/// # Errors
/// [`AiError::Store`].
pub(super) fn read(path: &Path) -> Result<Vec<u8>, AiError> {
    let failed = |source| AiError::Store { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_TRANSCRIPT as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Writes a file that only its owner can read, in a folder that is made if it is not there. A file of that name is replaced
/// whole or not at all.
pub(super) fn write_private(folder: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf, AiError> {
    let path = folder.join(name);
    let staged = folder.join(format!(".{name}.{}", hex::encode(rand::random::<[u8; 8]>())));
    let write = || -> std::io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&staged, &path)
    };
    write().map_err(|source| AiError::Store { path: path.clone(), source })?;
    Ok(path)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, AiError> {
    let failed = |source| AiError::Store { path: folder.to_owned(), source };
    let read = match std::fs::read_dir(folder) {
        Ok(read) => read,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in read {
        if found.len() == MOST_FILES {
            return Err(failed(std::io::Error::other("more files than are looked at; move old ones away")));
        }
        found.push(entry.map_err(failed)?.path());
    }
    found.sort();
    Ok(found)
}

/// A receipt's id, if it can stand in a file's name; else its hash.
fn name_of(receipt: &str) -> String {
    if is_plain(receipt) { receipt.to_owned() } else { hex::encode(&Sha256::digest(receipt)[..16]) }
}

/// Whether an id can stand in a path.
pub(super) fn is_plain(id: &str) -> bool {
    (1..=96).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

fn parse_name(path: PathBuf) -> Option<StoredFile> {
    let name = path.file_name()?.to_str()?;
    let (seconds, rest) = name.split_once('-')?;
    let (_, suffix) = rest.split_once('.')?;
    let kind = StoredKind::ALL.into_iter().find(|kind| kind.suffix() == suffix)?;
    let at = seconds.parse().ok().filter(|at: &u64| at / DAY < 1 << 32)?;
    Some(StoredFile { at: UnixTime(at), kind, path })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn files_are_found_by_time_and_are_private() {
        let folder = tempfile::tempdir().unwrap();
        let store = TranscriptStore::new(folder.path().join("store"), Keep::Full);
        assert_eq!(store.list(UnixTime(0), UnixTime(u64::MAX)).unwrap(), []);
        let day = 20_000 * DAY;
        for (at, id) in [(day + 5, "rcpt_a"), (day + 9, "../../etc/passwd"), (day + DAY, "rcpt_b")] {
            let path = store.write_failure(UnixTime(at), id, "why").unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
            assert_eq!(std::fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
            assert_eq!(path.parent().unwrap().parent().unwrap(), store.folder());
        }
        std::fs::write(store.folder().join("2024-10-04/notes"), "other").unwrap();
        let times = |from, to| {
            let files = store.list(UnixTime(from), UnixTime(to)).unwrap();
            files.iter().map(|file| (file.at.0 - day, file.kind)).collect::<Vec<_>>()
        };
        assert_eq!(times(day, day + 9), [(5, StoredKind::Failure), (9, StoredKind::Failure)]);
        assert_eq!(times(day + 6, u64::MAX), [(9, StoredKind::Failure), (DAY, StoredKind::Failure)]);
        assert_eq!(read(&store.list(UnixTime(day), UnixTime(day + 5)).unwrap()[0].path).unwrap(), b"why\n");
    }
}
