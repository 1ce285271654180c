//! Receipts, kept sealed: they hold hashes of prompts, and a short prompt is found by trying. One file each, in a folder for
//! each day.

use std::{
    collections::HashMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tacit_platform::SealKey;
use tacit_receipt::LogProof;
use tacit_types::{Digest, UnixTime};

use super::{
    accounts::Credential,
    ids::{ExchangeId, day_of},
};

/// Receipts kept in memory where the machine has no key to seal them with.
const KEPT: usize = 16_384;
const NONCE: usize = 24;

/// A receipt, and who may read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    credential: Digest,
    pub receipt: Value,
    pub proof: Option<LogProof>,
}

impl Kept {
    pub fn new(credential: Credential, receipt: Value, proof: Option<LogProof>) -> Self {
        Self { credential: credential.0, receipt, proof }
    }
}

/// All receipts of this node. Shared.
#[derive(Clone)]
pub(crate) enum Receipts {
    /// On the disk; they survive restarts.
    Sealed(Arc<Sealed>),
    /// In memory only: this machine has no sealing key.
    Memory(Arc<Mutex<HashMap<ExchangeId, Kept>>>),
}

pub(crate) struct Sealed {
    folder: PathBuf,
    cipher: XChaCha20Poly1305,
    keep_days: u32,
}

impl Receipts {
    /// Receipts in `folder`, sealed with `key`; those older than `keep_days` are removed.
    pub fn open(folder: PathBuf, key: &SealKey, keep_days: u32, now: UnixTime) -> std::io::Result<Self> {
        fs::create_dir_all(&folder)?;
        let sealed = Sealed { folder, cipher: XChaCha20Poly1305::new(key.expose().into()), keep_days };
        sealed.prune(now)?;
        Ok(Self::Sealed(Arc::new(sealed)))
    }

    /// Receipts that end with the process.
    pub fn in_memory() -> Self {
        Self::Memory(Arc::default())
    }

    /// Whether receipts survive a restart.
    pub const fn survive(&self) -> bool {
        matches!(self, Self::Sealed(_))
    }

    /// Keeps a receipt; on the disk when this returns.
    pub async fn keep(&self, id: ExchangeId, kept: Kept) -> std::io::Result<()> {
        match self {
            Self::Memory(map) => {
                let mut map = map.lock().unwrap_or_else(PoisonError::into_inner);
                if map.len() >= KEPT
                    && let Some(some) = map.keys().next().copied()
                {
                    map.remove(&some);
                }
                map.insert(id, kept);
                Ok(())
            }
            Self::Sealed(sealed) => {
                let sealed = Arc::clone(sealed);
                tokio::task::spawn_blocking(move || sealed.write(id, &kept)).await.map_err(std::io::Error::other)?
            }
        }
    }

    /// A receipt, if this credential asked for the exchange.
    pub async fn fetch(&self, id: ExchangeId, credential: Credential) -> Option<Kept> {
        let kept = match self {
            Self::Memory(map) => map.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()?,
            Self::Sealed(sealed) => {
                let sealed = Arc::clone(sealed);
                tokio::task::spawn_blocking(move || sealed.read(id)).await.ok()??
            }
        };
        (kept.credential == credential.0).then_some(kept)
    }
}

impl Sealed {
    fn file(&self, id: ExchangeId) -> PathBuf {
        self.folder.join(format!("{:08x}", id.day)).join(id.to_string())
    }

    fn write(&self, id: ExchangeId, kept: &Kept) -> std::io::Result<()> {
        let plain = serde_json::to_vec(kept)?;
        let nonce: [u8; NONCE] = rand::rng().random();
        let name = id.to_string();
        let bytes = self
            .cipher
            .encrypt(&XNonce::from(nonce), Payload { msg: &plain, aad: name.as_bytes() })
            .map_err(|_| std::io::Error::other("a receipt is too long to be sealed"))?;
        let path = self.file(id);
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let staged = path.with_extension("new");
        let mut file = fs::File::create(&staged)?;
        file.write_all(&nonce)?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        fs::rename(staged, path)
    }

    fn read(&self, id: ExchangeId) -> Option<Kept> {
        let bytes = fs::read(self.file(id)).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE>()?;
        let name = id.to_string();
        let payload = Payload { msg: sealed, aad: name.as_bytes() };
        let plain = self.cipher.decrypt(&XNonce::from(*nonce), payload).ok()?;
        serde_json::from_slice(&plain).ok()
    }

    fn prune(&self, now: UnixTime) -> std::io::Result<()> {
        let oldest = day_of(now).saturating_sub(self.keep_days);
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let day = name.to_str().and_then(|name| u32::from_str_radix(name, 16).ok());
            if day.is_some_and(|day| day < oldest) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DAY: u64 = 86_400;

    fn sealed(folder: &Path, now: UnixTime) -> Receipts {
        let cipher = XChaCha20Poly1305::new(&[7; 32].into());
        let sealed = Sealed { folder: folder.to_owned(), cipher, keep_days: 2 };
        sealed.prune(now).unwrap();
        Receipts::Sealed(Arc::new(sealed))
    }

    #[tokio::test]
    async fn receipts_survive_are_bound_and_do_not_lie_open() {
        let folder = tempfile::tempdir().unwrap();
        let now = UnixTime(100 * DAY);
        let (mine, other) = (Credential([1; 32].into()), Credential([2; 32].into()));
        let id = ExchangeId::generate(now);
        let kept = Kept::new(mine, json!({"receipt_id": "plain words"}), None);
        sealed(folder.path(), now).keep(id, kept.clone()).await.unwrap();
        let later = sealed(folder.path(), now);
        assert_eq!(later.fetch(id, mine).await, Some(kept.clone()));
        assert_eq!(later.fetch(id, other).await, None);
        assert_eq!(later.fetch(ExchangeId::generate(now), mine).await, None);
        let file = folder.path().join(format!("{:08x}", id.day)).join(id.to_string());
        let mut bytes = fs::read(&file).unwrap();
        assert!(!bytes.windows(5).any(|window| window == b"plain"));
        // Under another name, or altered, it does not open.
        let copy = ExchangeId::generate(now);
        fs::copy(&file, file.with_file_name(copy.to_string())).unwrap();
        assert_eq!(later.fetch(copy, mine).await, None);
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&file, bytes).unwrap();
        assert_eq!(later.fetch(id, mine).await, None);
    }

    #[tokio::test]
    async fn old_days_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (old, mine) = (UnixTime(100 * DAY), Credential([1; 32].into()));
        let id = ExchangeId::generate(old);
        sealed(folder.path(), old).keep(id, Kept::new(mine, json!({}), None)).await.unwrap();
        assert!(sealed(folder.path(), UnixTime(102 * DAY)).fetch(id, mine).await.is_some());
        assert!(sealed(folder.path(), UnixTime(103 * DAY)).fetch(id, mine).await.is_none());
    }

    #[tokio::test]
    async fn without_a_key_they_are_kept_in_memory_and_bounded() {
        let receipts = Receipts::in_memory();
        let mine = Credential([1; 32].into());
        assert!(!receipts.survive());
        for _ in 0..=KEPT {
            receipts.keep(ExchangeId::generate(UnixTime(5)), Kept::new(mine, json!({}), None)).await.unwrap();
        }
        let Receipts::Memory(map) = &receipts else { panic!("not in memory") };
        assert_eq!(map.lock().unwrap().len(), KEPT);
    }
}
