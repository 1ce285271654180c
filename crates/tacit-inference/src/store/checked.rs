//! Files whose every byte was hashed, and which nobody can change afterwards.

use std::{
    fs::File,
    io::{self, Read, Seek as _, SeekFrom, Write as _},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use sha2::{Digest as _, Sha256};
use tacit_types::Digest;

use super::StoreError;

/// Bytes that are read at a time.
const PIECE: usize = 1 << 20;

/// A file in memory with the digest that was asked for. It is sealed: neither this process nor any other can write to it, and what
/// happens to the file that it was read from changes nothing. So there is no time between check and use.
#[derive(Debug)]
pub struct CheckedFile {
    file: File,
    digest: Digest,
    size: u64,
}

impl CheckedFile {
    /// Reads and hashes a file of that size.
    ///
    /// # Errors
    /// [`StoreError::Digest`] or [`StoreError::Size`] if it is another file; [`StoreError::File`] if it cannot be read.
    pub fn read(path: &Path, digest: Digest, size: u64) -> Result<Self, StoreError> {
        let failed = |error| StoreError::file("read", path, error);
        let source = File::open(path).map_err(failed)?;
        Self::copy(source, digest, size).map_err(|error| error.unwrap_or_else(failed))
    }

    /// Reads and hashes bytes from anywhere.
    ///
    /// # Errors
    /// As [`CheckedFile::read`].
    pub fn from_reader(source: impl Read, digest: Digest, size: u64) -> Result<Self, StoreError> {
        Self::copy(source, digest, size)
            .map_err(|error| error.unwrap_or_else(|error| StoreError::file("read", Path::new("memory"), error)))
    }

    fn copy(source: impl Read, digest: Digest, size: u64) -> Result<Self, Failed> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memory = memfd_create("tacit-model", flags).map_err(io::Error::from)?;
        let mut file = File::from(memory);
        // One byte more than allowed, so that a longer file is seen to be longer.
        let (found, length) = hash_into(source.take(size.saturating_add(1)), &mut file)?;
        if length != size {
            return Err(Failed::Store(StoreError::Size { expected: size, at_least: length }));
        }
        if found != digest {
            return Err(Failed::Store(StoreError::Digest { expected: digest, found }));
        }
        file.seek(SeekFrom::Start(0))?;
        let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        fcntl_add_seals(&file, seals).map_err(io::Error::from)?;
        Ok(Self { file, digest, size })
    }

    /// A path under which this process can open the file again, as long as this value lives.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    /// The digest of its bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// How many bytes it has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Its bytes, from the beginning.
    ///
    /// # Errors
    /// [`StoreError::File`] if it cannot be opened again.
    pub fn open(&self) -> Result<File, StoreError> {
        let path = self.path();
        File::open(&path).map_err(|error| StoreError::file("open", &path, error))
    }
}

/// A failure of reading, or of what was read.
enum Failed {
    Io(io::Error),
    Store(StoreError),
}

impl Failed {
    fn unwrap_or_else(self, from: impl FnOnce(io::Error) -> StoreError) -> StoreError {
        match self {
            Self::Io(error) => from(error),
            Self::Store(error) => error,
        }
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Copies and hashes to the end.
pub(super) fn hash_into(mut source: impl Read, to: &mut File) -> io::Result<(Digest, u64)> {
    let (mut hash, mut piece, mut length) = (Sha256::new(), vec![0; PIECE], 0_u64);
    loop {
        match source.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => {
                hash.update(&piece[..count]);
                to.write_all(&piece[..count])?;
                length += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok((Digest::from(<[u8; 32]>::from(hash.finalize())), length))
}

#[cfg(test)]
mod tests {
    use tacit_types::formats::sha256;

    use super::*;

    #[test]
    fn what_was_checked_stays_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, b"weights").unwrap();
        let checked = CheckedFile::read(&path, sha256(b"weights"), 7).unwrap();
        std::fs::write(&path, b"changed").unwrap();
        let mut text = String::new();
        checked.open().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), checked.size(), checked.digest()), ("weights", 7, sha256(b"weights")));
        // Nobody can write to it, whichever way they open it.
        let written = File::options().write(true).open(checked.path()).and_then(|mut file| file.write_all(b"x"));
        assert!(written.is_err());
        assert!(File::options().write(true).open(checked.path()).and_then(|file| file.set_len(1)).is_err());
    }

    #[test]
    fn another_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, b"weights").unwrap();
        let digest = sha256(b"weights");
        assert!(matches!(CheckedFile::read(&path, digest, 6), Err(StoreError::Size { expected: 6, at_least: 7 })));
        assert!(matches!(CheckedFile::read(&path, digest, 8), Err(StoreError::Size { .. })));
        assert!(matches!(CheckedFile::read(&path, sha256(b"other"), 7), Err(StoreError::Digest { .. })));
        assert!(matches!(CheckedFile::read(&folder.path().join("b"), digest, 7), Err(StoreError::File { .. })));
    }
}
