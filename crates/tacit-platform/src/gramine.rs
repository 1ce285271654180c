//! Driver for Gramine's pseudo-files, by which a process inside an SGX enclave obtains quotes and a sealing key.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use hkdf::Hkdf;
use sha2::Sha256;
use tacit_attest::{Evidence, MAX_DOCUMENT};
use zeroize::Zeroizing;

use crate::{PlatformError, SealKey};

const DIRECTORY: &str = "dev/attestation";
/// The key that the processor derives for this enclave's measurement on this chip.
const SEALING_KEY: &str = "keys/_sgx_mrenclave";
const SALT: &[u8] = b"tacit.gramine.seal.v1";
/// Gramine keeps one report data for the whole process: calls take turns.
static TURN: Mutex<()> = Mutex::new(());

/// A process under Gramine.
///
/// Not yet run on hardware; tested against a tree of files.
#[derive(Debug, Clone)]
pub struct Gramine {
    directory: PathBuf,
}

impl Gramine {
    /// Gramine's files below `root` (`/` outside tests), if they are there.
    pub fn open(root: &Path) -> Option<Self> {
        let directory = root.join(DIRECTORY);
        directory.join("attestation_type").exists().then_some(Self { directory })
    }

    /// Evidence over `report_data`.
    ///
    /// # Errors
    /// [`PlatformError::Unsupported`] if the manifest asks for no DCAP attestation, [`PlatformError::File`] for files that
    /// cannot be used, [`PlatformError::OtherReportData`] if the quote is over other data.
    pub async fn quote(&self, report_data: &[u8; 64]) -> Result<Evidence, PlatformError> {
        let (gramine, report_data) = (self.clone(), *report_data);
        let quote = tokio::task::spawn_blocking(move || gramine.quote_now(&report_data));
        quote.await.map_err(|_| PlatformError::Raced)?
    }

    /// The sealing key for `label`: derived from the 128-bit key that this enclave obtains again on this chip.
    ///
    /// # Errors
    /// [`PlatformError::File`], and [`PlatformError::Answer`] for a key of another size.
    pub async fn seal_key(&self, label: &str) -> Result<SealKey, PlatformError> {
        let key = Zeroizing::new(self.read(SEALING_KEY, 64)?);
        if key.len() != 16 {
            return Err(PlatformError::Answer { method: SEALING_KEY, what: "a key that is not 16 bytes long".into() });
        }
        let mut derived = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(Some(SALT), &key)
            .expand(label.as_bytes(), derived.as_mut_slice())
            .expect("32 bytes are fewer than HKDF gives");
        Ok(SealKey::new(derived))
    }

    fn quote_now(&self, report_data: &[u8; 64]) -> Result<Evidence, PlatformError> {
        let kind = self.read("attestation_type", 64)?;
        if kind.trim_ascii() != b"dcap" {
            return Err(PlatformError::Unsupported {
                platform: "Gramine without sgx.remote_attestation = \"dcap\"".into(),
                what: "quote",
            });
        }
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.directory.join("user_report_data");
        // Never create it: without Gramine's own file there is no quote to be had.
        let write = || fs::OpenOptions::new().write(true).open(&path)?.write_all(report_data);
        write().map_err(|source| PlatformError::File { path: path.clone(), source })?;
        let quote = self.read("quote", MAX_DOCUMENT)?;
        let header = tacit_attest::quote_header(&quote)?;
        if header != (3, 0) {
            let what = format!("a quote of version {} for TEE type {:#x}", header.0, header.1);
            return Err(PlatformError::Answer { method: "quote", what });
        }
        if quote.get(48 + 320..48 + 384) != Some(report_data.as_slice()) {
            return Err(PlatformError::OtherReportData);
        }
        Ok(Evidence::sgx(quote)?)
    }

    /// Reads a file of at most `limit` bytes.
    fn read(&self, name: &'static str, limit: usize) -> Result<Vec<u8>, PlatformError> {
        let path = self.directory.join(name);
        let mut bytes = Vec::new();
        fs::File::open(&path)
            .and_then(|file| file.take(limit as u64 + 1).read_to_end(&mut bytes))
            .map_err(|source| PlatformError::File { path, source })?;
        if bytes.len() > limit {
            return Err(PlatformError::Answer { method: name, what: format!("more than {limit} bytes") });
        }
        Ok(bytes)
    }
}
