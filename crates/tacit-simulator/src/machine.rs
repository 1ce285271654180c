//! One simulated machine: a chip, its sealing secret, and what it was started with.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use hkdf::Hkdf;
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tacit_attest::{Collateral, Evidence, event_log};
use tacit_types::{Measurement, UnixTime};
use zeroize::Zeroizing;

use crate::measure::{GuestFiles, Registers};
use crate::quote::QuotingEnclave;
use crate::{Root, SimulatorError, files};

/// Seconds for which collateral is handed out again before it is signed anew.
const COLLATERAL_REUSE: u64 = 3_600;
const SEALING_SALT: &[u8] = b"tacit.simulator.seal.v1";

/// The numbers that tell one chip from another.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Chip {
    version: u32,
    /// Platform provisioning id.
    pub(crate) ppid: [u8; 16],
    /// Platform instance id.
    pub(crate) platform_instance: [u8; 16],
}

/// A simulated machine: one chip under a root, with a sealing secret of its own.
pub struct Machine {
    name: String,
    chip: Chip,
    sealing_secret: Zeroizing<Vec<u8>>,
    pub(crate) enclave: QuotingEnclave,
    guest: GuestFiles,
    root: Root,
    collateral: Mutex<Option<(UnixTime, Collateral)>>,
}

impl Machine {
    /// Opens the machine in `directory` (mode 0700), or makes it: a new chip that `root` certifies.
    ///
    /// The guest files are read here and not again.
    ///
    /// # Errors
    /// [`SimulatorError`] for files that cannot be read or written, or that hold something else.
    pub fn open(
        directory: &Path,
        root: Root,
        name: &str,
        guest_files: &[PathBuf],
        now: UnixTime,
    ) -> Result<Self, SimulatorError> {
        files::make_directory(directory)?;
        let [chip_file, secret_file, key_file, certificate_file] =
            ["chip.json", "sealing.secret", "pck.key", "pck.der"].map(|file| directory.join(file));
        // The certificate comes last: its presence says that the machine is whole.
        if !certificate_file.exists() {
            let mut chip = Chip { version: 1, ppid: [0; 16], platform_instance: [0; 16] };
            rand::rng().fill_bytes(&mut chip.ppid);
            rand::rng().fill_bytes(&mut chip.platform_instance);
            let key = files::random_key();
            files::write(&chip_file, &serde_json::to_vec(&chip).expect("numbers have a JSON form"))?;
            files::write(&secret_file, files::random_secret().as_slice())?;
            files::write(&key_file, files::key_to_pem(&key).as_bytes())?;
            files::write(&certificate_file, &root.certify(&chip, &key, now)?)?;
        }
        let chip: Chip = serde_json::from_slice(&files::read(&chip_file)?)
            .map_err(|_| SimulatorError::Content { path: chip_file, expected: "a chip" })?;
        let sealing_secret = files::read(&secret_file)?;
        if sealing_secret.len() != 32 {
            return Err(SimulatorError::Content { path: secret_file, expected: "a secret of 32 bytes" });
        }
        let pck_chain = root.pck_chain(&files::read(&certificate_file)?);
        let enclave = QuotingEnclave::start(&files::read_key(&key_file)?, pck_chain);
        let guest = GuestFiles::hash(guest_files)?;
        Ok(Self { name: name.to_owned(), chip, sealing_secret, enclave, guest, root, collateral: Mutex::new(None) })
    }

    /// The machine's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The chip's number, hex.
    pub fn chip(&self) -> String {
        hex::encode(self.chip.ppid)
    }

    /// The root that certified it.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The registers while an executable of this digest (SHA-384) runs.
    pub fn registers(&self, executable: [u8; 48]) -> Registers {
        let events = self.events();
        let rtmr3 = events.iter().fold([0; 48], |register, (event, payload)| {
            event_log::extend(&register, &event_log::digest(event, payload))
        });
        self.guest.registers(executable, rtmr3)
    }

    /// Evidence about an executable of this digest over `report_data`.
    ///
    /// # Errors
    /// [`SimulatorError::Attest`] if it does not fit the form.
    pub fn quote(&self, executable: [u8; 48], report_data: &[u8; 64]) -> Result<Evidence, SimulatorError> {
        let quote = self.enclave.quote(&self.registers(executable), report_data);
        Ok(Evidence::tdx(quote, Some(self.event_log()))?)
    }

    /// Collateral under which the machine's evidence verifies at `now`.
    ///
    /// # Errors
    /// [`SimulatorError::Certificate`].
    pub fn collateral(&self, now: UnixTime) -> Result<Collateral, SimulatorError> {
        let mut kept = self.collateral.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, collateral)) =
            kept.as_ref().filter(|(made, _)| *made <= now && made.distance(now) < COLLATERAL_REUSE)
        {
            return Ok(collateral.clone());
        }
        let collateral = self.root.collateral(now)?;
        *kept = Some((now, collateral.clone()));
        Ok(collateral)
    }

    /// The sealing key for `path`: HKDF of the machine's secret over the measurement and the path.
    pub fn seal_key(&self, executable: [u8; 48], path: &str) -> Zeroizing<[u8; 32]> {
        let measurement: Measurement = self.registers(executable).measurement();
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(Some(SEALING_SALT), &self.sealing_secret)
            .expand_multi_info(&[measurement.as_ref(), path.as_bytes()], key.as_mut_slice())
            .expect("32 bytes are fewer than HKDF gives");
        key
    }

    /// The log of register 3.
    pub(crate) fn event_log(&self) -> String {
        event_log::to_json(self.events().iter().map(|(event, payload)| (*event, payload.as_slice())))
    }

    fn events(&self) -> [(&'static str, Vec<u8>); 2] {
        [("app-id", self.name.as_bytes().to_vec()), ("instance-id", self.chip.ppid.to_vec())]
    }
}
