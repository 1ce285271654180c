//! What correctly signed evidence or collateral must not say: one named refusal each, by the production verifier.

mod mistakes;
mod sgx;
mod snp;
mod tdx;

use tacit_attest::{AttestError, Collateral, Evidence, Policy, Preset, VerifiedEvidence, verify};
use tacit_types::{Measurement, UnixTime};

use crate::{Bulletin, Flaws, Hardware, Machine, Root, Setup};

const NOW: UnixTime = UnixTime(1_795_345_499);
const EXECUTABLE: [u8; 48] = [7; 48];
const DATA: [u8; 64] = [9; 64];

struct Bench {
    _folder: tempfile::TempDir,
    machine: Machine,
    policy: Policy,
}

impl Bench {
    fn new(hardware: Hardware, flaws: Flaws) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::create(&folder.path().join("root"), "test-sim", NOW).unwrap();
        Self::under_root(folder, root, hardware, flaws)
    }

    /// A machine whose policy names every part of `root`.
    fn under_root(folder: tempfile::TempDir, root: Root, hardware: Hardware, flaws: Flaws) -> Self {
        let entries = root.policy_entries("SIM test").unwrap();
        let policy = entries.into_iter().fold(Policy::preset(Preset::Dev), Policy::with_root);
        let setup = Setup { hardware, flaws, name: "m".into(), guest_files: vec![] };
        let machine = Machine::open_as(&folder.path().join("machine"), root, &setup, NOW).unwrap();
        Self { _folder: folder, machine, policy }
    }

    fn evidence(&self) -> Evidence {
        self.machine.quote(EXECUTABLE, &DATA).unwrap()
    }

    fn collateral(&self) -> Collateral {
        self.machine.collateral(NOW).unwrap()
    }

    fn measurement(&self) -> Measurement {
        self.machine.measurement(EXECUTABLE)
    }

    fn result(&self) -> Result<VerifiedEvidence, AttestError> {
        verify(&self.evidence(), &self.collateral(), &self.policy, NOW)
    }

    fn verified(&self) -> VerifiedEvidence {
        self.result().unwrap()
    }

    fn of_bulletin(&self, change: impl FnOnce(&mut Bulletin)) -> Result<VerifiedEvidence, AttestError> {
        self.of_bulletin_under(&self.policy, change)
    }

    fn of_bulletin_under(
        &self,
        policy: &Policy,
        change: impl FnOnce(&mut Bulletin),
    ) -> Result<VerifiedEvidence, AttestError> {
        let mut bulletin = Bulletin::default();
        change(&mut bulletin);
        let collateral = self.machine.collateral_of(&bulletin, NOW).unwrap();
        verify(&self.evidence(), &collateral, policy, NOW)
    }

    fn under(&self, change: impl FnOnce(&mut Policy)) -> Result<VerifiedEvidence, AttestError> {
        let mut policy = self.policy.clone();
        change(&mut policy);
        verify(&self.evidence(), &self.collateral(), &policy, NOW)
    }
}

/// The vendors' roots refuse a simulated machine, whatever the preset.
fn vendors_refuse(bench: &Bench) {
    for preset in [Preset::Dev, Preset::Standard, Preset::High] {
        let refused = verify(&bench.evidence(), &bench.collateral(), &Policy::preset(preset), NOW);
        assert!(matches!(refused, Err(AttestError::WrongRoot { .. })), "{refused:?}");
    }
}
