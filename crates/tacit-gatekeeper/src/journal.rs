//! The register on disk: sealed frames in one file that only grows, and a new file when it has grown too far.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use rand::Rng as _;

use crate::{
    error::GatekeeperError,
    seal::{OVERHEAD, Sealer, sync_folder},
};

const MAGIC: &[u8; 8] = b"TACREG\0\x01";
const HEADER: usize = 8 + 16;
/// Most bytes of one frame.
const MAX_FRAME: usize = 16 << 20;

/// An append-only file of sealed frames.
pub(crate) struct Journal {
    folder: PathBuf,
    sealer: Sealer,
    generation: u64,
    file: File,
    id: [u8; 16],
    frames: u64,
    length: u64,
}

impl Journal {
    /// Opens the newest journal in a folder, or begins one, and hands every frame to `replay`. A torn end, which no answer
    /// rests on, is cut off; anything else that does not open is refused.
    pub(crate) fn open(
        folder: &Path,
        sealer: Sealer,
        mut replay: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<Self, GatekeeperError> {
        let Some(generation) = newest(folder)? else {
            return Self::create(folder, sealer, 1, []);
        };
        let path = file_name(folder, generation);
        let failed = |source| GatekeeperError::File { path: path.clone(), source };
        let broken = |reason: &str| GatekeeperError::Stored { path: path.clone(), reason: reason.to_owned() };
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(failed)?;
        let total = file.metadata().map_err(failed)?.len();
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let mut header = [0; HEADER];
        reader.read_exact(&mut header).map_err(|_| broken("it has no header"))?;
        if &header[..8] != MAGIC {
            return Err(broken("not a register"));
        }
        let mut id = [0; 16];
        id.copy_from_slice(&header[8..]);
        let (mut frames, mut length) = (0u64, HEADER as u64);
        while length < total {
            let left = total - length;
            let mut size = [0; 4];
            if left < 4 {
                break;
            }
            reader.read_exact(&mut size).map_err(failed)?;
            let size = u32::from_be_bytes(size) as usize;
            if left - 4 < size as u64 || size == 0 {
                break;
            }
            if size > MAX_FRAME {
                return Err(broken("a frame is too large"));
            }
            let mut sealed = vec![0; size];
            reader.read_exact(&mut sealed).map_err(failed)?;
            let end = length + 4 + size as u64;
            let Some(plain) = sealer.open(&context(&id, frames), &sealed) else {
                if end == total {
                    break;
                }
                return Err(broken("a frame does not open"));
            };
            replay(&plain).map_err(|reason| broken(&reason))?;
            (frames, length) = (frames + 1, end);
        }
        let mut file = reader.into_inner();
        if length < total {
            tracing::warn!(bytes = total - length, "cutting off the torn end of the register");
            file.set_len(length).map_err(failed)?;
            file.sync_all().map_err(failed)?;
        }
        file.seek(SeekFrom::Start(length)).map_err(failed)?;
        Ok(Self { folder: folder.to_owned(), sealer, generation, file, id, frames, length })
    }

    fn create<'a>(
        folder: &Path,
        sealer: Sealer,
        generation: u64,
        content: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Self, GatekeeperError> {
        let path = file_name(folder, generation);
        let temporary = path.with_extension("new");
        let failed = |source| GatekeeperError::File { path: path.clone(), source };
        let mut id = [0; 16];
        rand::rng().fill_bytes(&mut id);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).open(&temporary).map_err(failed)?;
        let mut journal =
            Self { folder: folder.to_owned(), sealer, generation, file, id, frames: 0, length: HEADER as u64 };
        journal.file.write_all(&[MAGIC.as_slice(), &id].concat()).map_err(failed)?;
        for plain in content {
            let frame = journal.frame(plain);
            journal.file.write_all(&frame).map_err(failed)?;
            (journal.frames, journal.length) = (journal.frames + 1, journal.length + frame.len() as u64);
        }
        journal.file.sync_all().map_err(failed)?;
        fs::rename(&temporary, &path).map_err(failed)?;
        sync_folder(&path)?;
        Ok(journal)
    }

    /// Bytes of the file.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Appends one frame; durable on return. On failure the file is cut back to what was durable before.
    pub(crate) fn append(&mut self, plain: &[u8]) -> Result<(), AppendError> {
        let frame = self.frame(plain);
        if let Err(source) = self.file.write_all(&frame) {
            return match self.cut_back() {
                Ok(()) => Err(AppendError::Full(source)),
                Err(source) => Err(AppendError::Broken(source)),
            };
        }
        // After a failed flush nobody knows what the disk holds, so there is no going on.
        self.file.sync_data().map_err(AppendError::Broken)?;
        (self.frames, self.length) = (self.frames + 1, self.length + frame.len() as u64);
        Ok(())
    }

    /// Replaces the journal by a new one with this content.
    pub(crate) fn replace<'a>(&mut self, content: impl IntoIterator<Item = &'a [u8]>) -> Result<(), GatekeeperError> {
        let old = file_name(&self.folder, self.generation);
        *self = Self::create(&self.folder, self.sealer.clone(), self.generation + 1, content)?;
        // Opening takes the newest, so one left behind does no harm.
        if let Err(error) = fs::remove_file(&old) {
            tracing::warn!(%error, "an old register stays behind");
        }
        Ok(())
    }

    fn frame(&self, plain: &[u8]) -> Vec<u8> {
        let sealed = self.sealer.seal(&context(&self.id, self.frames), plain);
        let size = u32::try_from(plain.len() + OVERHEAD).expect("frames are bounded by the batches that make them");
        [&size.to_be_bytes(), sealed.as_slice()].concat()
    }

    fn cut_back(&mut self) -> std::io::Result<()> {
        self.file.set_len(self.length)?;
        self.file.seek(SeekFrom::Start(self.length))?;
        self.file.sync_all()
    }
}

/// Why a frame was not appended.
#[derive(Debug)]
pub(crate) enum AppendError {
    /// Nothing was written; the file is as before.
    Full(std::io::Error),
    /// It is not known what the disk holds.
    Broken(std::io::Error),
}

fn context(id: &[u8; 16], frame: u64) -> Vec<u8> {
    [b"register".as_slice(), id, &frame.to_be_bytes()].concat()
}

fn file_name(folder: &Path, generation: u64) -> PathBuf {
    folder.join(format!("register-{generation:08}.log"))
}

fn newest(folder: &Path) -> Result<Option<u64>, GatekeeperError> {
    let failed = |source| GatekeeperError::File { path: folder.to_owned(), source };
    let mut found = None;
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("register-")?.strip_suffix(".log")?.parse().ok());
        found = found.max(number);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer() -> Sealer {
        Sealer::new(&[1; 32], "register")
    }

    fn read(folder: &Path) -> Result<Vec<Vec<u8>>, GatekeeperError> {
        let mut frames = Vec::new();
        Journal::open(folder, sealer(), |frame| {
            frames.push(frame.to_vec());
            Ok(())
        })?;
        Ok(frames)
    }

    fn written(frames: &[&[u8]]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path(), sealer(), |_| Ok(())).unwrap();
        frames.iter().for_each(|frame| journal.append(frame).unwrap());
        let path = file_name(folder.path(), 1);
        (folder, path)
    }

    #[test]
    fn frames_read_back_and_every_torn_end_is_cut_off() {
        let (folder, path) = written(&[b"one", b"two", b"three"]);
        assert_eq!(read(folder.path()).unwrap(), [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]);
        let whole = fs::read(&path).unwrap();
        let last = 4 + OVERHEAD + 5;
        for cut in 1..last {
            fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            assert_eq!(read(folder.path()).unwrap(), [b"one".to_vec(), b"two".to_vec()], "{cut}");
            assert_eq!(fs::metadata(&path).unwrap().len(), (whole.len() - last) as u64);
        }
        let mut zeros = whole.clone();
        let start = zeros.len() - last + 8;
        zeros[start..].fill(0);
        fs::write(&path, &zeros).unwrap();
        assert_eq!(read(folder.path()).unwrap().len(), 2);
    }

    #[test]
    fn altered_and_reordered_frames_are_refused() {
        let (folder, path) = written(&[b"aaa", b"bbb", b"ccc"]);
        let whole = fs::read(&path).unwrap();
        let frame = 4 + OVERHEAD + 3;
        for at in [HEADER + 4, HEADER + frame - 1, HEADER + frame + 20] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
            assert!(matches!(read(folder.path()), Err(GatekeeperError::Stored { .. })), "{at}");
        }
        let mut swapped = whole[..HEADER].to_vec();
        swapped.extend_from_slice(&whole[HEADER + frame..HEADER + 2 * frame]);
        swapped.extend_from_slice(&whole[HEADER..HEADER + frame]);
        swapped.extend_from_slice(&whole[HEADER + 2 * frame..]);
        fs::write(&path, swapped).unwrap();
        assert!(matches!(read(folder.path()), Err(GatekeeperError::Stored { .. })));
    }

    #[test]
    fn a_replaced_journal_holds_the_new_content_and_goes_on() {
        let (folder, path) = written(&[b"old"]);
        let mut journal = Journal::open(folder.path(), sealer(), |_| Ok(())).unwrap();
        journal.replace([b"snapshot".as_slice()]).unwrap();
        journal.append(b"after").unwrap();
        assert!(!path.exists());
        assert_eq!(read(folder.path()).unwrap(), [b"snapshot".to_vec(), b"after".to_vec()]);
    }
}
