//! Driver for the kernel's report interface, `configfs` `tsm/report` (Linux 6.7 and later).

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tacit_attest::{Collateral, Evidence, MAX_DOCUMENT};

use crate::PlatformError;
use crate::certificate_table::{CertificateTable, MAX_TABLE};

/// Where the interface is below the root of the file system.
const REPORT_DIRECTORY: &str = "sys/kernel/config/tsm/report";
/// How often a report is asked for again after another process wrote to the same entry. Each try has an entry of its own, so
/// more than one means that somebody wants to disturb.
const TRIES: usize = 3;

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
    /// [`PlatformError::File`] for what the kernel refuses, [`PlatformError::Raced`] if another process wrote to the entry in
    /// each of three tries, [`PlatformError::Unsupported`] for a provider other than TDX and SEV-SNP.
    pub async fn quote(&self, report_data: &[u8; 64]) -> Result<Evidence, PlatformError> {
        self.ask(*report_data).await.map(|report| report.evidence)
    }

    /// The certificates that the host put beside its reports: SEV-SNP only.
    ///
    /// # Errors
    /// As [`ConfigfsTsm::quote`]; [`PlatformError::Unsupported`] where there are none: fetch them from the vendor.
    pub async fn collateral(&self) -> Result<Collateral, PlatformError> {
        let report = self.ask([0; 64]).await?;
        let table = CertificateTable::parse(&report.certificates)?;
        table.into_collateral().ok_or_else(|| PlatformError::Unsupported {
            platform: "the kernel's report interface".into(),
            what: "collateral",
        })
    }

    async fn ask(&self, report_data: [u8; 64]) -> Result<Report, PlatformError> {
        let directory = self.directory.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut tries = 1;
            loop {
                match Entry::create(&directory)?.report(&report_data) {
                    Err(PlatformError::Raced) if tries < TRIES => tries += 1,
                    other => return other,
                }
            }
        });
        read.await.map_err(|_| PlatformError::Raced)?
    }
}

/// What one entry gave.
struct Report {
    evidence: Evidence,
    /// The certificate table beside it; empty where there is none.
    certificates: Vec<u8>,
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

    fn report(&self, report_data: &[u8; 64]) -> Result<Report, PlatformError> {
        self.choose_level()?;
        let inblob = self.path.join("inblob");
        // Never create it: without the kernel's own file there is no report to be had.
        let write = || fs::OpenOptions::new().write(true).open(&inblob)?.write_all(report_data);
        write().map_err(|source| PlatformError::File { path: inblob.clone(), source })?;
        let written = self.generation()?;
        let outblob = self.path.join("outblob");
        let document = match read_bounded(&outblob, MAX_DOCUMENT) {
            Ok(document) => document.ok_or_else(|| PlatformError::Answer {
                method: "outblob",
                what: format!("more than {MAX_DOCUMENT} bytes"),
            })?,
            // The kernel's own word for: somebody wrote to the entry in between.
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Err(PlatformError::Raced),
            Err(source) => return Err(PlatformError::File { path: outblob, source }),
        };
        let provider = self.text("provider")?;
        // Only SEV-SNP has certificates beside the report, and not every host gives any: then the file is absent or says no.
        let certificates = match provider.as_str() {
            "sev_guest" => read_bounded(&self.path.join("auxblob"), MAX_TABLE).ok().flatten().unwrap_or_default(),
            _ => Vec::new(),
        };
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
        Ok(Report { evidence, certificates })
    }

    /// Asks for a report of the privilege level that this guest runs at, where the kernel says that there are several.
    fn choose_level(&self) -> Result<(), PlatformError> {
        let floor = self.path.join("privlevel_floor");
        if !floor.exists() {
            return Ok(());
        }
        let floor = self.text("privlevel_floor")?;
        if floor.parse::<u8>().is_err() {
            return Err(PlatformError::Answer { method: "privlevel_floor", what: format!("{floor:.32}") });
        }
        let path = self.path.join("privlevel");
        let write = || fs::OpenOptions::new().write(true).open(&path)?.write_all(floor.as_bytes());
        write().map_err(|source| PlatformError::File { path: path.clone(), source })
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

/// The content of a file, if it has at most `limit` bytes.
fn read_bounded(path: &Path, limit: usize) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= limit).then_some(bytes))
}

impl Drop for Entry {
    fn drop(&mut self) {
        // configfs removes the kernel's files with the directory; nothing else may be in it.
        let _ = fs::remove_dir(&self.path);
    }
}
