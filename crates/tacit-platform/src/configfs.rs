//! Driver for the kernel's report interface, `configfs` `tsm/report` (Linux 6.7 and later).

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tacit_attest::{Evidence, MAX_DOCUMENT};

use crate::PlatformError;

/// Where the interface is below the root of the file system.
const REPORT_DIRECTORY: &str = "sys/kernel/config/tsm/report";

/// The kernel's report interface for TDX and SEV-SNP guests.
///
/// Not yet run on hardware; tested against a tree that behaves like the kernel's.
#[derive(Debug, Clone)]
pub struct ConfigfsTsm {
    directory: PathBuf,
}

impl ConfigfsTsm {
    /// The interface below `root` (`/` outside tests), if the kernel offers it.
    pub fn open(root: &Path) -> Option<Self> {
        let directory = root.join(REPORT_DIRECTORY);
        directory.is_dir().then_some(Self { directory })
    }

    /// Evidence over `report_data`.
    ///
    /// # Errors
    /// [`PlatformError::File`] for what the kernel refuses, [`PlatformError::Raced`] if another process wrote to the same
    /// entry, [`PlatformError::Unsupported`] for a provider other than TDX and SEV-SNP.
    pub async fn quote(&self, report_data: &[u8; 64]) -> Result<Evidence, PlatformError> {
        let (directory, report_data) = (self.directory.clone(), *report_data);
        let read = tokio::task::spawn_blocking(move || Entry::create(&directory)?.report(&report_data));
        read.await.map_err(|_| PlatformError::Raced)?
    }
}

/// One report entry: a directory that the kernel fills with files. Removed when dropped.
struct Entry {
    path: PathBuf,
}

impl Entry {
    fn create(directory: &Path) -> Result<Self, PlatformError> {
        let path = directory.join(format!("tacit-{}-{:016x}", std::process::id(), rand::random::<u64>()));
        fs::create_dir(&path).map_err(|source| PlatformError::File { path: path.clone(), source })?;
        let entry = Self { path };
        entry.wait_until_filled();
        Ok(entry)
    }

    /// The kernel makes the entry's files together with it; a second is more than it needs.
    fn wait_until_filled(&self) {
        let inblob = self.path.join("inblob");
        for _ in 0..100 {
            if inblob.exists() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn report(&self, report_data: &[u8; 64]) -> Result<Evidence, PlatformError> {
        let inblob = self.path.join("inblob");
        // Never create it: without the kernel's own file there is no report to be had.
        let write = || fs::OpenOptions::new().write(true).open(&inblob)?.write_all(report_data);
        write().map_err(|source| PlatformError::File { path: inblob.clone(), source })?;
        let written = self.generation()?;
        let outblob = self.path.join("outblob");
        let document = fs::read(&outblob).map_err(|source| PlatformError::File { path: outblob, source })?;
        if document.len() > MAX_DOCUMENT {
            return Err(PlatformError::Answer { method: "outblob", what: format!("{} bytes", document.len()) });
        }
        let provider = self.text("provider")?;
        if self.generation()? != written {
            return Err(PlatformError::Raced);
        }
        let (evidence, data) = match provider.as_str() {
            "tdx_guest" => {
                let data = document.get(48 + 520..48 + 584).map(<[u8]>::to_vec);
                (Evidence::tdx(document, None)?, data)
            }
            "sev_guest" => {
                let data = document.get(0x50..0x90).map(<[u8]>::to_vec);
                (Evidence::sev_snp(document)?, data)
            }
            _ => {
                return Err(PlatformError::Unsupported {
                    platform: format!("provider {provider:.32}"),
                    what: "driver",
                });
            }
        };
        if data.as_deref() != Some(report_data) {
            return Err(PlatformError::OtherReportData);
        }
        Ok(evidence)
    }

    fn generation(&self) -> Result<String, PlatformError> {
        self.text("generation")
    }

    fn text(&self, name: &str) -> Result<String, PlatformError> {
        let path = self.path.join(name);
        let text = fs::read_to_string(&path).map_err(|source| PlatformError::File { path, source })?;
        Ok(text.trim().to_owned())
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // configfs removes the kernel's files with the directory; nothing else may be in it.
        let _ = fs::remove_dir(&self.path);
    }
}
