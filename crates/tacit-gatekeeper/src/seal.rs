//! Sealing to disk under keys that only this code on this machine obtains again.

use std::{
    convert::Infallible,
    fs::{self, File},
    io::Write as _,
    path::Path,
};

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305,
    aead::{Aead, Payload},
};
use hkdf::Hkdf;
use rand::Rng as _;
use rand_core::{TryCryptoRng, TryRng};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::error::GatekeeperError;

/// Bytes of the random nonce in front of every ciphertext.
const NONCE: usize = 24;
/// Bytes that sealing adds.
pub(crate) const OVERHEAD: usize = NONCE + 16;

/// Seals for one use.
#[derive(Clone)]
pub(crate) struct Sealer(XChaCha20Poly1305);

impl Sealer {
    /// A sealer for `label` under the machine's sealing key.
    pub(crate) fn new(key: &[u8; 32], label: &str) -> Self {
        let mut derived = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(Some(b"tacit/gatekeeper/seal/1"), key)
            .expand(label.as_bytes(), derived.as_mut_slice())
            .expect("32 bytes are within HKDF's limit");
        Self(XChaCha20Poly1305::new(derived.as_slice().into()))
    }

    /// Nonce and ciphertext.
    pub(crate) fn seal(&self, context: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE];
        rand::rng().fill_bytes(&mut nonce);
        let payload = Payload { msg: plaintext, aad: context };
        let ciphertext =
            self.0.encrypt((&nonce).into(), payload).expect("the messages here are far below the cipher's limit");
        [nonce.as_slice(), &ciphertext].concat()
    }

    /// What [`Self::seal`] sealed, or nothing.
    pub(crate) fn open(&self, context: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE>()?;
        let payload = Payload { msg: ciphertext, aad: context };
        self.0.decrypt(nonce.into(), payload).ok().map(Zeroizing::new)
    }
}

/// Seals `plaintext` into a file that is replaced as a whole and is durable on return.
pub(crate) fn write_sealed(path: &Path, sealer: &Sealer, plaintext: &[u8]) -> Result<(), GatekeeperError> {
    write_atomic(path, &sealer.seal(b"file", plaintext))
}

/// Opens a sealed file; nothing if there is none.
pub(crate) fn read_sealed(path: &Path, sealer: &Sealer) -> Result<Option<Zeroizing<Vec<u8>>>, GatekeeperError> {
    match fs::read(path) {
        Ok(sealed) => match sealer.open(b"file", &sealed) {
            Some(plaintext) => Ok(Some(plaintext)),
            None => Err(GatekeeperError::Sealed { path: path.to_owned() }),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(GatekeeperError::File { path: path.to_owned(), source }),
    }
}

/// Replaces a file as a whole; durable on return.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), GatekeeperError> {
    let failed = |source| GatekeeperError::File { path: path.to_owned(), source };
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    fs::rename(&temporary, path).map_err(failed)?;
    sync_folder(path)
}

/// Makes the names in a file's folder durable.
pub(crate) fn sync_folder(path: &Path) -> Result<(), GatekeeperError> {
    let failed = |source| GatekeeperError::File { path: path.to_owned(), source };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

/// Randomness that follows from a seed: HKDF-SHA256 by blocks. Makes the same key again after a restart.
pub(crate) struct SeedRng {
    seed: Zeroizing<[u8; 32]>,
    label: &'static str,
    block: u64,
}

impl SeedRng {
    pub(crate) fn new(seed: &[u8; 32], label: &'static str) -> Self {
        Self { seed: Zeroizing::new(*seed), label, block: 0 }
    }

    /// 32 bytes.
    pub(crate) fn bytes(&mut self) -> Zeroizing<[u8; 32]> {
        let mut out = Zeroizing::new([0; 32]);
        let info = [self.label.as_bytes(), &[0], &self.block.to_be_bytes()].concat();
        self.block += 1;
        Hkdf::<Sha256>::new(Some(b"tacit/gatekeeper/seed/1"), self.seed.as_slice())
            .expand(&info, out.as_mut_slice())
            .expect("32 bytes are within HKDF's limit");
        out
    }
}

impl TryRng for SeedRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let bytes = self.bytes();
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from(self.try_next_u32()?) << 32 | u64::from(self.try_next_u32()?))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        out.chunks_mut(32).for_each(|chunk| chunk.copy_from_slice(&self.bytes()[..chunk.len()]));
        Ok(())
    }
}

impl TryCryptoRng for SeedRng {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_file_opens_under_its_own_key_and_label_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let sealer = Sealer::new(&[1; 32], "a");
        assert!(read_sealed(&path, &sealer).unwrap().is_none());
        write_sealed(&path, &sealer, b"secret").unwrap();
        assert_eq!(read_sealed(&path, &sealer).unwrap().unwrap().as_slice(), b"secret");
        for other in [Sealer::new(&[2; 32], "a"), Sealer::new(&[1; 32], "b")] {
            assert!(matches!(read_sealed(&path, &other), Err(GatekeeperError::Sealed { .. })));
        }
        let mut bytes = fs::read(&path).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"secret"));
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(matches!(read_sealed(&path, &sealer), Err(GatekeeperError::Sealed { .. })));
    }

    #[test]
    fn a_seed_gives_the_same_bytes_again_and_others_for_another_label() {
        let draw = |label| {
            let mut out = [0; 70];
            SeedRng::new(&[7; 32], label).fill_bytes(&mut out);
            out
        };
        assert_eq!(draw("a"), draw("a"));
        assert_ne!(draw("a"), draw("b"));
        assert_ne!(draw("a")[..32], draw("a")[32..64]);
    }
}
