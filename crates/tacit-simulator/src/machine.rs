//! One simulated machine: a chip, its sealing secret, and what it was started with.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use hkdf::Hkdf;
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tacit_attest::{AmdCollateral, Collateral, Evidence, event_log};
use tacit_types::{Measurement, RootId, UnixTime};
use zeroize::Zeroizing;

use crate::measure::{GuestFiles, Registers, firmware_hash};
use crate::quote::{IntelKind, QuotingEnclave};
use crate::snp::{Firmware, SecureProcessor, chip_id};
use crate::{Bulletin, EndorsementKey, Flaws, Generation, Hardware, Root, SimulatorError, files};

/// Seconds for which collateral is handed out again before it is signed anew.
const COLLATERAL_REUSE: u64 = 3_600;
const SEALING_SALT: &[u8] = b"tacit.simulator.seal.v1";

/// The numbers that tell one chip from another, and what it is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Chip {
    version: u32,
    /// What it plays. Machines that were made before there was a choice play TDX.
    #[serde(default)]
    hardware: Hardware,
    /// Whether its certificate is for firmware that is one version behind.
    #[serde(default)]
    pub(crate) old_firmware: bool,
    /// Platform provisioning id.
    pub(crate) ppid: [u8; 16],
    /// Platform instance id.
    pub(crate) platform_instance: [u8; 16],
}

impl Chip {
    pub(crate) fn random(hardware: Hardware, old_firmware: bool) -> Self {
        let mut chip = Self { version: 1, hardware, old_firmware, ppid: [0; 16], platform_instance: [0; 16] };
        rand::rng().fill_bytes(&mut chip.ppid);
        rand::rng().fill_bytes(&mut chip.platform_instance);
        chip
    }
}

/// What a machine is started with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Setup {
    /// The hardware that it plays. A machine plays the same for its whole life.
    pub hardware: Hardware,
    /// What is wrong with it.
    pub flaws: Flaws,
    /// Its name.
    pub name: String,
    /// Guest image and configuration, which are measured in this order. They are read once.
    pub guest_files: Vec<PathBuf>,
}

/// What signs a machine's evidence.
pub(crate) enum Attester {
    Intel(QuotingEnclave),
    Amd(SecureProcessor),
}

/// A simulated machine: one chip under a root, with a sealing secret of its own.
pub struct Machine {
    name: String,
    chip: Chip,
    sealing_secret: Zeroizing<Vec<u8>>,
    pub(crate) attester: Attester,
    guest: GuestFiles,
    application: Application,
    root: Root,
    collateral: Mutex<Option<(UnixTime, Bulletin, Collateral)>>,
}

/// What a dstack guest says about the application that it runs.
pub(crate) struct Application {
    /// The document that describes it; its digest is measured.
    pub(crate) compose: String,
    pub(crate) compose_hash: [u8; 32],
    /// The first 20 bytes of that digest.
    pub(crate) id: [u8; 20],
    pub(crate) instance: [u8; 20],
    pub(crate) image_hash: [u8; 32],
    key_provider: String,
}

impl Machine {
    /// Opens the TDX machine in `directory` (mode 0700), or makes it: a new chip that `root` certifies.
    ///
    /// # Errors
    /// As [`Machine::open_as`].
    pub fn open(
        directory: &Path,
        root: Root,
        name: &str,
        guest_files: &[PathBuf],
        now: UnixTime,
    ) -> Result<Self, SimulatorError> {
        let setup = Setup { name: name.to_owned(), guest_files: guest_files.to_vec(), ..Setup::default() };
        Self::open_as(directory, root, &setup, now)
    }

    /// Opens the machine in `directory` (mode 0700), or makes it: a new chip that `root` certifies.
    ///
    /// # Errors
    /// [`SimulatorError`] for files that cannot be read or written, or that hold something else;
    /// [`SimulatorError::OtherHardware`] for a machine that plays something else, [`SimulatorError::NoAmdRoot`] for an AMD
    /// machine under a root without an AMD part.
    pub fn open_as(directory: &Path, root: Root, setup: &Setup, now: UnixTime) -> Result<Self, SimulatorError> {
        files::make_directory(directory)?;
        let [chip_file, secret_file] = ["chip.json", "sealing.secret"].map(|file| directory.join(file));
        if !chip_file.exists() {
            let chip = Chip::random(setup.hardware, setup.flaws.old_firmware);
            files::write(&secret_file, files::random_secret().as_slice())?;
            // The chip's file comes last: its presence says that the machine is whole.
            write_chip(&chip_file, &chip)?;
        }
        let mut chip: Chip = serde_json::from_slice(&files::read(&chip_file)?)
            .map_err(|_| SimulatorError::Content { path: chip_file.clone(), expected: "a chip" })?;
        if chip.hardware != setup.hardware {
            return Err(SimulatorError::OtherHardware { path: directory.to_owned(), plays: chip.hardware.name() });
        }
        let updated = chip.old_firmware != setup.flaws.old_firmware;
        chip.old_firmware = setup.flaws.old_firmware;
        let sealing_secret = files::read(&secret_file)?;
        if sealing_secret.len() != 32 {
            return Err(SimulatorError::Content { path: secret_file, expected: "a secret of 32 bytes" });
        }
        let attester = match setup.hardware {
            Hardware::Tdx => intel(IntelKind::Tdx, directory, &root, &chip, updated, setup.flaws, now)?,
            Hardware::Sgx => intel(IntelKind::Sgx, directory, &root, &chip, updated, setup.flaws, now)?,
            Hardware::SevSnp { generation, key } => {
                amd((generation, key), directory, &root, &chip, updated, setup.flaws, now)?
            }
        };
        if updated {
            write_chip(&chip_file, &chip)?;
        }
        let guest = GuestFiles::hash(&setup.guest_files)?;
        Ok(Self {
            application: Application::new(&setup.name, &guest, &chip),
            name: setup.name.clone(),
            chip,
            sealing_secret,
            attester,
            guest,
            root,
            collateral: Mutex::new(None),
        })
    }

    /// The machine's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The hardware that it plays.
    pub fn hardware(&self) -> Hardware {
        self.chip.hardware
    }

    /// The chip's number, hex: the PPID or, for AMD, the chip id.
    pub fn chip(&self) -> String {
        match &self.attester {
            Attester::Intel(_) => hex::encode(self.chip.ppid),
            Attester::Amd(processor) => hex::encode(processor.chip_id()),
        }
    }

    /// The root that certified it.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The id of the root certificate that its evidence leads to.
    ///
    /// # Errors
    /// [`SimulatorError::NoAmdRoot`], which cannot happen to a machine that was opened.
    pub fn root_id(&self) -> Result<RootId, SimulatorError> {
        match &self.attester {
            Attester::Intel(_) => Ok(self.root.id()),
            Attester::Amd(_) => Ok(self.root.amd()?.id()),
        }
    }

    /// The measurement while an executable of this digest (SHA-384) runs.
    pub fn measurement(&self, executable: [u8; 48]) -> Measurement {
        self.guest.measurement(self.chip.hardware, executable)
    }

    /// The registers of a trust domain while an executable of this digest (SHA-384) runs.
    pub fn registers(&self, executable: [u8; 48]) -> Registers {
        let events = self.application.events();
        let rtmr3 = events.iter().fold([0; 48], |register, (event, payload)| {
            event_log::extend(&register, &event_log::digest(event, payload))
        });
        self.guest.registers(executable, rtmr3)
    }

    /// The description of the application; its SHA-256 is measured as `compose-hash` where there is a register for it.
    pub fn app_compose(&self) -> &str {
        &self.application.compose
    }

    /// What is measured besides the executable.
    pub(crate) fn guest(&self) -> &GuestFiles {
        &self.guest
    }

    pub(crate) fn application(&self) -> &Application {
        &self.application
    }

    /// Evidence about an executable of this digest over `report_data`.
    ///
    /// # Errors
    /// [`SimulatorError::Attest`] if it does not fit the form.
    pub fn quote(&self, executable: [u8; 48], report_data: &[u8; 64]) -> Result<Evidence, SimulatorError> {
        Ok(match &self.attester {
            Attester::Intel(enclave) if enclave.kind() == IntelKind::Sgx => {
                Evidence::sgx(enclave.quote_enclave(&enclave.enclave(self.guest.enclave(executable)), report_data))?
            }
            Attester::Intel(enclave) => {
                let quote = enclave.quote_domain(&enclave.domain(), &self.registers(executable), report_data);
                Evidence::tdx(quote, Some(self.event_log()))?
            }
            Attester::Amd(processor) => {
                Evidence::sev_snp(processor.report(&self.guest.launch(executable), report_data))?
            }
        })
    }

    /// Collateral under which the machine's evidence verifies at `now`.
    ///
    /// # Errors
    /// [`SimulatorError`] if a list cannot be signed, or the bulletin cannot be read.
    pub fn collateral(&self, now: UnixTime) -> Result<Collateral, SimulatorError> {
        let bulletin = self.root.bulletin()?;
        let mut kept = self.collateral.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, _, collateral)) = kept
            .as_ref()
            .filter(|(made, said, _)| *made <= now && made.distance(now) < COLLATERAL_REUSE && *said == bulletin)
        {
            return Ok(collateral.clone());
        }
        let collateral = self.collateral_of(&bulletin, now)?;
        *kept = Some((now, bulletin, collateral.clone()));
        Ok(collateral)
    }

    /// Collateral that says something in particular.
    pub(crate) fn collateral_of(&self, bulletin: &Bulletin, now: UnixTime) -> Result<Collateral, SimulatorError> {
        match &self.attester {
            Attester::Intel(enclave) => self.root.intel_collateral(enclave.kind(), bulletin, now),
            Attester::Amd(processor) => {
                let amd = self.root.amd()?;
                let intermediate = amd.intermediate(processor.kind()).to_vec();
                let parts = AmdCollateral::new(intermediate, processor.certificate.clone());
                Ok(Collateral::Amd(Box::new(parts.with_crl(amd.revocation_list(bulletin, now)?))))
            }
        }
    }

    /// The sealing key for `path`: HKDF of the machine's secret over the measurement and the path.
    pub fn seal_key(&self, executable: [u8; 48], path: &str) -> Zeroizing<[u8; 32]> {
        let measurement = self.measurement(executable);
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(Some(SEALING_SALT), &self.sealing_secret)
            .expand_multi_info(&[measurement.as_ref(), path.as_bytes()], key.as_mut_slice())
            .expect("32 bytes are fewer than HKDF gives");
        key
    }

    /// The log of register 3; empty where there is no such register.
    pub(crate) fn event_log(&self) -> String {
        match self.chip.hardware {
            Hardware::Tdx => {
                let events = self.application.events();
                event_log::to_json(events.iter().map(|(event, payload)| (*event, payload.as_slice())))
            }
            Hardware::Sgx | Hardware::SevSnp { .. } => "[]".into(),
        }
    }
}

impl Application {
    fn new(name: &str, guest: &GuestFiles, chip: &Chip) -> Self {
        let files: Vec<String> = guest.contents().iter().map(hex::encode).collect();
        // What a report may repeat as its source (ACI, section 4.1), since this document is measured.
        let image = Sha256::digest(guest.contents().concat());
        let compose = serde_json::json!({
            "manifest_version": 2,
            "name": name,
            "runner": "tacit-simulator",
            "guest_files": files,
            "source_provenance": { "image_digest": format!("sha256:{}", hex::encode(image)) },
        })
        .to_string();
        let compose_hash: [u8; 32] = Sha256::digest(&compose).into();
        let first_20 = |bytes: &[u8; 32]| {
            let mut first = [0; 20];
            first.copy_from_slice(&bytes[..20]);
            first
        };
        let id = first_20(&compose_hash);
        let instance = Sha256::new().chain_update(chip.ppid).chain_update(id).finalize().into();
        Self {
            compose,
            compose_hash,
            id,
            instance: first_20(&instance),
            image_hash: firmware_hash(),
            key_provider: serde_json::json!({ "name": "tacit-simulator", "id": hex::encode(chip.ppid) }).to_string(),
        }
    }

    /// The run-time events, by the names and in the order of dstack's guest.
    fn events(&self) -> [(&'static str, Vec<u8>); 8] {
        [
            ("system-preparing", vec![]),
            ("app-id", self.id.to_vec()),
            ("compose-hash", self.compose_hash.to_vec()),
            ("instance-id", self.instance.to_vec()),
            ("boot-mr-done", vec![]),
            ("os-image-hash", self.image_hash.to_vec()),
            ("key-provider", self.key_provider.clone().into_bytes()),
            ("system-ready", vec![]),
        ]
    }

    pub(crate) fn key_provider(&self) -> &str {
        &self.key_provider
    }
}

fn write_chip(path: &Path, chip: &Chip) -> Result<(), SimulatorError> {
    files::write(path, &serde_json::to_vec(chip).expect("numbers have a JSON form"))
}

fn intel(
    kind: IntelKind,
    directory: &Path,
    root: &Root,
    chip: &Chip,
    updated: bool,
    flaws: Flaws,
    now: UnixTime,
) -> Result<Attester, SimulatorError> {
    let [key_file, certificate_file] = ["pck.key", "pck.der"].map(|file| directory.join(file));
    if !key_file.exists() {
        files::write(&key_file, files::key_to_pem(&files::random_key()).as_bytes())?;
    }
    let key = files::read_key(&key_file)?;
    if updated || !certificate_file.exists() {
        files::write(&certificate_file, &root.certify(kind, chip, &key, now)?)?;
    }
    let pck_chain = root.pck_chain(kind, &files::read(&certificate_file)?);
    Ok(Attester::Intel(QuotingEnclave::start(kind, flaws, &key, pck_chain)))
}

fn amd(
    (generation, kind): (Generation, EndorsementKey),
    directory: &Path,
    root: &Root,
    chip: &Chip,
    updated: bool,
    flaws: Flaws,
    now: UnixTime,
) -> Result<Attester, SimulatorError> {
    let [key_file, certificate_file] = ["endorsement.key", "endorsement.der"].map(|file| directory.join(file));
    if !key_file.exists() {
        files::write(&key_file, files::report_key_to_pem(&files::random_report_key()).as_bytes())?;
    }
    let key = files::read_report_key(&key_file)?;
    if updated || !certificate_file.exists() {
        let firmware = Firmware::reported(generation, flaws);
        let certificate = root.amd()?.certify(kind, generation, &chip_id(chip, generation), &firmware, &key, now)?;
        files::write(&certificate_file, &certificate)?;
    }
    let certificate = files::read(&certificate_file)?.to_vec();
    Ok(Attester::Amd(SecureProcessor::new(generation, kind, flaws, chip, key, certificate)))
}
