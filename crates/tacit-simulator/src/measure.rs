//! Measuring: the executable of the process that asks, and the files of the guest image.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256, Sha384};
use tacit_attest::event_log::extend;
use tacit_types::Measurement;

use crate::files::failed;
use crate::quote::{ENCLAVE_ISVPRODID, ENCLAVE_ISVSVN, ENCLAVE_MRSIGNER};
use crate::{Hardware, SimulatorError};

/// Most executables whose digest is remembered.
const MAX_REMEMBERED: usize = 64;
/// The simulated firmware, which every machine starts with.
const FIRMWARE: &[u8] = b"tacit-simulator virtual firmware, version 1";

/// The measured registers of a simulated trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registers {
    /// What the machine was started with: SHA-384 of the executable.
    pub mrtd: [u8; 48],
    /// Run-time registers 0 to 3.
    pub rtmr: [[u8; 48]; 4],
}

impl Registers {
    /// The measurement as policies and certificates name it.
    pub fn measurement(&self) -> Measurement {
        tacit_attest::measurement_of_td(&self.mrtd, [&self.rtmr[0], &self.rtmr[1], &self.rtmr[2]])
    }
}

/// The guest image and the configuration files that a machine was started with, by digest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestFiles {
    contents: Vec<[u8; 48]>,
    names: Vec<[u8; 48]>,
}

impl GuestFiles {
    /// Hashes the files, in this order.
    ///
    /// # Errors
    /// [`SimulatorError::File`] for one that cannot be read.
    pub fn hash(paths: &[PathBuf]) -> Result<Self, SimulatorError> {
        let mut guest = Self::default();
        for path in paths {
            guest.contents.push(hash_file(File::open(path).map_err(failed(path))?).map_err(failed(path))?);
            let name = path.file_name().unwrap_or(path.as_os_str());
            guest.names.push(Sha384::digest(name.as_encoded_bytes()).into());
        }
        Ok(guest)
    }

    /// The registers of a machine with these files that runs an executable of this digest.
    pub(crate) fn registers(&self, executable: [u8; 48], rtmr3: [u8; 48]) -> Registers {
        let replay = |digests: &[[u8; 48]]| digests.iter().fold([0; 48], |register, digest| extend(&register, digest));
        let firmware = Sha384::digest(FIRMWARE).into();
        Registers { mrtd: executable, rtmr: [replay(&[firmware]), replay(&self.contents), replay(&self.names), rtmr3] }
    }

    /// MRENCLAVE of an enclave with these files that runs an executable of this digest: SHA-256 of everything loaded, in order,
    /// each part with its kind, as a processor hashes an enclave's pages.
    pub(crate) fn enclave(&self, executable: [u8; 48]) -> [u8; 32] {
        let mut hash = Sha256::new();
        for (kind, digest) in self.loaded(executable) {
            hash.update([kind]);
            hash.update(digest);
        }
        hash.finalize().into()
    }

    /// The launch measurement of a guest with these files that runs an executable of this digest: each part extends the digest
    /// before it through a PAGE_INFO structure (AMD 56860, section 8.17.2).
    pub(crate) fn launch(&self, executable: [u8; 48]) -> [u8; 48] {
        let mut digest = [0; 48];
        for (page, (kind, contents)) in (0u64..).zip(self.loaded(executable)) {
            let mut info = Vec::with_capacity(0x70);
            info.extend_from_slice(&digest);
            info.extend_from_slice(&contents);
            info.extend_from_slice(&0x70u16.to_le_bytes());
            info.extend_from_slice(&[kind, 0, 0, 0, 0, 0]); // kind of page, then no migration image and no lower VMPLs
            info.extend_from_slice(&(page << 12).to_le_bytes());
            digest = Sha384::digest(&info).into();
        }
        digest
    }

    /// Firmware, executable and guest files, each with a number for its kind.
    fn loaded(&self, executable: [u8; 48]) -> impl Iterator<Item = (u8, [u8; 48])> + '_ {
        let firmware: [u8; 48] = Sha384::digest(FIRMWARE).into();
        let files = self.contents.iter().zip(&self.names).flat_map(|(content, name)| [(3, *name), (4, *content)]);
        [(1, firmware), (2, executable)].into_iter().chain(files)
    }

    /// The measurement as policies and certificates name it, of a machine that plays `hardware`.
    pub(crate) fn measurement(&self, hardware: Hardware, executable: [u8; 48]) -> Measurement {
        let digest = match hardware {
            Hardware::Tdx => return self.registers(executable, [0; 48]).measurement(),
            Hardware::Sgx => Sha256::new()
                .chain_update(self.enclave(executable))
                .chain_update(ENCLAVE_MRSIGNER)
                .chain_update(ENCLAVE_ISVPRODID.to_le_bytes())
                .chain_update(ENCLAVE_ISVSVN.to_le_bytes())
                .finalize(),
            Hardware::SevSnp { .. } => Sha256::digest(self.launch(executable)),
        };
        Measurement::from(<[u8; 32]>::from(digest))
    }

    /// The digests of the files' contents, in order.
    pub(crate) fn contents(&self) -> &[[u8; 48]] {
        &self.contents
    }
}

/// SHA-256 of the simulated firmware, as the hash of the operating system's image.
pub(crate) fn firmware_hash() -> [u8; 32] {
    Sha256::digest(FIRMWARE).into()
}

/// The measurement of an executable with guest files, as a simulated TDX machine will report it.
///
/// For whoever writes a policy; a machine takes it from no one.
///
/// # Errors
/// [`SimulatorError::File`] for a file that cannot be read.
pub fn measure_executable(executable: &Path, guest_files: &[PathBuf]) -> Result<Measurement, SimulatorError> {
    measure_executable_on(Hardware::Tdx, executable, guest_files)
}

/// The measurement of an executable with guest files, as a machine that plays `hardware` will report it.
///
/// # Errors
/// [`SimulatorError::File`] for a file that cannot be read.
pub fn measure_executable_on(
    hardware: Hardware,
    executable: &Path,
    guest_files: &[PathBuf],
) -> Result<Measurement, SimulatorError> {
    let digest = hash_file(File::open(executable).map_err(failed(executable))?).map_err(failed(executable))?;
    Ok(GuestFiles::hash(guest_files)?.measurement(hardware, digest))
}

fn hash_file(mut file: File) -> std::io::Result<[u8; 48]> {
    let mut hash = Sha384::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().into()),
            read => hash.update(&buffer[..read]),
        }
    }
}

/// What tells one state of a file from another. The kernel sets the change time, and refuses writes to a running executable.
#[derive(Clone, PartialEq, Eq, Hash)]
struct FileState {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Measures processes and remembers the digest of each state of each executable.
#[derive(Clone, Default)]
pub(crate) struct ProcessMeter {
    remembered: Arc<Mutex<HashMap<FileState, [u8; 48]>>>,
}

impl ProcessMeter {
    /// SHA-384 of the executable that the process runs, whatever now lies under its name. Reads the whole file at first.
    pub(crate) fn digest(&self, pid: i32) -> std::io::Result<[u8; 48]> {
        // The link leads to the inode that is being executed, even if its name was removed or given to another file.
        let file = File::open(format!("/proc/{pid}/exe"))?;
        let metadata = file.metadata()?;
        let state = FileState {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        };
        if let Some(digest) = self.remembered.lock().unwrap_or_else(PoisonError::into_inner).get(&state) {
            return Ok(*digest);
        }
        let digest = hash_file(file)?;
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= MAX_REMEMBERED {
            remembered.clear();
        }
        remembered.insert(state, digest);
        Ok(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EndorsementKey, Generation};

    #[test]
    fn one_changed_byte_or_name_gives_another_measurement() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let (one, two) = (write("one", b"executable"), write("two", b"executablf"));
        let (image, other, renamed) = (write("image", b"guest"), write("other", b"guesu"), write("renamed", b"guest"));
        let mut all = Vec::new();
        let snp = Hardware::SevSnp { generation: Generation::Genoa, key: EndorsementKey::Vcek };
        for hardware in [Hardware::Tdx, Hardware::Sgx, snp] {
            let measure = |executable: &Path, guest: &[&PathBuf]| {
                let guest: Vec<PathBuf> = guest.iter().map(|path| (*path).clone()).collect();
                measure_executable_on(hardware, executable, &guest).unwrap()
            };
            all.extend([
                measure(&one, &[]),
                measure(&two, &[]),
                measure(&one, &[&image]),
                measure(&one, &[&other]),
                measure(&one, &[&renamed]),
                measure(&one, &[&image, &other]),
                measure(&one, &[&other, &image]),
            ]);
            assert_eq!(measure(&one, &[&image]), all[all.len() - 5]);
        }
        for (index, left) in all.iter().enumerate() {
            assert!(all.iter().skip(index + 1).all(|right| left != right));
        }
    }

    #[test]
    fn this_process_is_measured_by_its_executable() {
        let meter = ProcessMeter::default();
        let expected = hash_file(File::open("/proc/self/exe").unwrap()).unwrap();
        let pid = std::process::id() as i32;
        assert_eq!(meter.digest(pid).unwrap(), expected);
        assert_eq!(meter.digest(pid).unwrap(), expected);
        assert!(meter.digest(i32::MAX).is_err());
    }
}
