//! What a correctly signed quote or collateral must not say: one named refusal each, by the production verifier.

use tacit_attest::sweep::{Scope, sweep};
use tacit_attest::{
    AttestError, Collateral, Confidence, Evidence, Grace, Policy, Preset, TcbStatus, VerifiedEvidence, verify,
    verify_bound,
};
use tacit_types::{ChipId, Measurement, UnixTime};

use crate::quote::TrustDomain;
use crate::root::Publication;
use crate::{Machine, Root};

const NOW: UnixTime = UnixTime(1_795_345_499);
const EXECUTABLE: [u8; 48] = [7; 48];
const DATA: [u8; 64] = [9; 64];

struct Bench {
    _folder: tempfile::TempDir,
    machine: Machine,
    policy: Policy,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::create(&folder.path().join("root"), "test-sim", NOW).unwrap();
        let policy = Policy::preset(Preset::Dev).with_root(root.policy_entry("SIM test").unwrap());
        let machine = Machine::open(&folder.path().join("machine"), root, "m", &[], NOW).unwrap();
        Self { _folder: folder, machine, policy }
    }

    fn evidence(&self) -> Evidence {
        self.machine.quote(EXECUTABLE, &DATA).unwrap()
    }

    fn collateral(&self) -> Collateral {
        self.machine.collateral(NOW).unwrap()
    }

    fn measurement(&self) -> Measurement {
        self.machine.registers(EXECUTABLE).measurement()
    }

    fn verified(&self) -> VerifiedEvidence {
        verify(&self.evidence(), &self.collateral(), &self.policy, NOW).unwrap()
    }

    fn of_domain(&self, change: impl FnOnce(&mut TrustDomain)) -> Result<VerifiedEvidence, AttestError> {
        let mut domain = TrustDomain::default();
        change(&mut domain);
        let quote = self.machine.enclave.quote_of(&domain, &self.machine.registers(EXECUTABLE), &DATA);
        verify(&Evidence::tdx(quote, None).unwrap(), &self.collateral(), &self.policy, NOW)
    }

    fn of_publication(&self, change: impl FnOnce(&mut Publication)) -> Result<VerifiedEvidence, AttestError> {
        self.of_publication_under(&self.policy, change)
    }

    fn of_publication_under(
        &self,
        policy: &Policy,
        change: impl FnOnce(&mut Publication),
    ) -> Result<VerifiedEvidence, AttestError> {
        let mut publication = Publication::at(NOW);
        change(&mut publication);
        let collateral = self.machine.root().collateral_of(&publication).unwrap();
        verify(&self.evidence(), &collateral, policy, NOW)
    }

    fn under(&self, change: impl FnOnce(&mut Policy)) -> Result<VerifiedEvidence, AttestError> {
        let mut policy = self.policy.clone();
        change(&mut policy);
        verify(&self.evidence(), &self.collateral(), &policy, NOW)
    }
}

#[test]
fn a_machine_is_verified_by_the_production_path_and_called_simulated() {
    let bench = Bench::new();
    let verified = bench.verified();
    assert!(verified.simulated());
    assert_eq!(verified.root(), bench.machine.root().id());
    assert_eq!(verified.root_name(), "SIM test");
    assert_eq!(verified.measurement(), bench.measurement());
    assert_eq!(verified.report_data(), &DATA);
    assert_eq!(verified.tcb_status(), TcbStatus::UpToDate);
    assert_eq!(verified.confidence(), Confidence::try_from(1).unwrap());
    assert_eq!(verified.policy(), bench.policy.hash().unwrap());
    assert!(verified.collateral_time() <= NOW && NOW < verified.collateral_expires());
}

#[test]
fn vendors_roots_refuse_a_simulated_machine() {
    let bench = Bench::new();
    for preset in [Preset::Dev, Preset::Standard, Preset::High] {
        let refused = verify(&bench.evidence(), &bench.collateral(), &Policy::preset(preset), NOW);
        assert_eq!(refused, Err(AttestError::WrongRoot { root: bench.machine.root().id().to_string() }));
    }
}

#[test]
fn another_networks_root_refuses_it_too() {
    let (bench, other) = (Bench::new(), Bench::new());
    let refused = verify(&bench.evidence(), &bench.collateral(), &other.policy, NOW);
    assert!(matches!(refused, Err(AttestError::WrongRoot { .. })), "{refused:?}");
    let refused = verify(&bench.evidence(), &other.collateral(), &bench.policy, NOW);
    assert!(matches!(refused, Err(AttestError::WrongRoot { .. })), "{refused:?}");
}

#[test]
fn every_signed_byte_of_a_simulated_quote_counts() {
    let bench = Bench::new();
    let result = sweep(&bench.evidence(), &bench.collateral(), &bench.policy, NOW, Scope::Everything).unwrap();
    println!("simulated TDX v4: {} signed bytes changed one at a time, {} refused", result.tried, result.refused);
    assert_eq!(result.accepted, []);
    assert!(result.tried > 4_000);
}

#[test]
fn a_trust_domain_set_up_badly_is_refused_by_name() {
    let bench = Bench::new();
    assert!(bench.of_domain(|_| ()).is_ok());
    let attribute = |result: Result<VerifiedEvidence, AttestError>| {
        assert!(matches!(result, Err(AttestError::Attribute(_))), "{result:?}");
    };
    assert_eq!(bench.of_domain(|domain| domain.attributes |= 1), Err(AttestError::Debug));
    attribute(bench.of_domain(|domain| domain.attributes |= 1 << 4));
    attribute(bench.of_domain(|domain| domain.attributes |= 1 << 29));
    attribute(bench.of_domain(|domain| domain.attributes |= 1 << 17));
    attribute(bench.of_domain(|domain| domain.attributes |= 1 << 40));
    attribute(bench.of_domain(|domain| domain.attributes &= !(1 << 28)));
    attribute(bench.of_domain(|domain| domain.xfam = 0));
    attribute(bench.of_domain(|domain| domain.xfam |= 1 << 40));
    let module = |result: Result<VerifiedEvidence, AttestError>| {
        assert!(matches!(result, Err(AttestError::TdxModule(_))), "{result:?}");
    };
    module(bench.of_domain(|domain| domain.module_signer[0] ^= 1));
    module(bench.of_domain(|domain| domain.module_attributes = 2));
    module(bench.of_domain(|domain| domain.tee_tcb_svn[0] -= 1));
    module(bench.of_domain(|domain| domain.tee_tcb_svn[1] = 3));
}

#[test]
fn collateral_that_says_no_is_obeyed_by_name() {
    let bench = Bench::new();
    assert!(bench.of_publication(|_| ()).is_ok());
    let check =
        |change: fn(&mut Publication), expected: AttestError| assert_eq!(bench.of_publication(change), Err(expected));
    check(|publication| publication.fmspc[5] = 1, AttestError::FmspcMismatch);
    check(|publication| publication.pce_id[0] = 1, AttestError::FmspcMismatch);
    check(|publication| publication.needed_svn += 1, AttestError::NoTcbLevel);
    check(|publication| publication.status = "Revoked", AttestError::Revoked { what: "TCB level" });
    check(
        |publication| publication.qe_id = "QE",
        AttestError::WrongQuotingEnclave { expected: "TD_QE", found: "QE".into() },
    );
    check(
        |publication| (publication.issued, publication.expires) = (NOW.minus(90), NOW.minus(1)),
        AttestError::Expired { what: "CRL" },
    );
    check(|publication| publication.issued = NOW.plus(60), AttestError::NotYetValid { what: "TCB info" });
    let signer = bench.of_publication(|publication| publication.qe_signer[0] ^= 1);
    assert!(matches!(signer, Err(AttestError::QuotingEnclave(_))), "{signer:?}");
    let strange = bench.of_publication(|publication| publication.status = "Fine");
    assert!(matches!(strange, Err(AttestError::Malformed { what: "TCB info", .. })), "{strange:?}");
}

#[test]
fn status_and_advisories_are_the_policys_to_judge() {
    let bench = Bench::new();
    let standard = Policy { extra_roots: bench.policy.extra_roots.clone(), ..Policy::preset(Preset::Standard) };
    let old = |publication: &mut Publication| {
        publication.status = "OutOfDate";
        publication.advisories = vec!["INTEL-SA-01421"];
    };
    let dev = bench.of_publication(old).unwrap();
    assert_eq!((dev.tcb_status(), dev.confidence().level()), (TcbStatus::OutOfDate, 5));
    assert_eq!(dev.advisories(), ["INTEL-SA-01421"]);
    assert_eq!(
        bench.of_publication_under(&standard, old),
        Err(AttestError::TcbTooLow { policy: "standard".into(), status: TcbStatus::OutOfDate })
    );
    let mut grace = standard.clone();
    grace.tcb.grace = vec![Grace { status: TcbStatus::OutOfDate, until: NOW }];
    assert!(bench.of_publication_under(&grace, old).is_ok());
    grace.tcb.grace[0].until = NOW.minus(1);
    assert!(matches!(bench.of_publication_under(&grace, old), Err(AttestError::TcbTooLow { .. })));
    let mut denied = bench.policy.clone();
    denied.tcb.denied_advisories = vec!["intel-sa-01421".into()];
    assert_eq!(
        bench.of_publication_under(&denied, old),
        Err(AttestError::AdvisoryDenied { id: "INTEL-SA-01421".into() })
    );
}

#[test]
fn the_policy_refuses_by_name() {
    let bench = Bench::new();
    let verified = bench.verified();
    let measurement = bench.measurement();
    assert_eq!(
        bench.under(|policy| *policy = policy.clone().with_image("worker", &[measurement])).unwrap().image(),
        Some("worker")
    );
    assert_eq!(
        bench.under(|policy| *policy = policy.clone().with_image("worker", &[Measurement::from([1; 32])])),
        Err(AttestError::MeasurementNotAllowed { measurement: measurement.to_string() })
    );
    let denied = AttestError::ChipDenied { chip: verified.chip().to_string() };
    assert_eq!(bench.under(|policy| policy.chips.deny = vec![verified.chip()]), Err(denied.clone()));
    assert_eq!(bench.under(|policy| policy.chips.allow = vec![ChipId::from([1; 32])]), Err(denied));
    assert!(bench.under(|policy| policy.chips.allow = vec![verified.chip()]).is_ok());
    assert_eq!(
        bench.under(|policy| policy.denied_classes = vec![tacit_attest::HardwareClass::IntelTdx]),
        Err(AttestError::HardwareClassDenied { policy: "dev".into(), class: tacit_attest::HardwareClass::IntelTdx })
    );
    assert_eq!(
        bench.under(|policy| policy.tcb.minimum_evaluation_number = 2),
        Err(AttestError::Downgrade { what: "TCB evaluation data", found: 1, minimum: 2 })
    );
    assert_eq!(
        bench.under(|policy| policy.tcb.minimum_crl_numbers = (0, 2)),
        Err(AttestError::Downgrade { what: "PCK CRL", found: 1, minimum: 2 })
    );
    assert!(matches!(
        bench.under(|policy| policy.max_collateral_age = 60),
        Err(AttestError::CollateralTooOld { limit: 60, .. })
    ));
    assert!(matches!(bench.under(|policy| policy.version = 2), Err(AttestError::Malformed { what: "policy", .. })));
    assert!(verify_bound(&bench.evidence(), &bench.collateral(), &bench.policy, NOW, &DATA).is_ok());
    assert_eq!(
        verify_bound(&bench.evidence(), &bench.collateral(), &bench.policy, NOW, &[8; 64]),
        Err(AttestError::ReportDataMismatch)
    );
}

#[test]
fn an_event_log_of_another_machine_is_refused() {
    let (bench, other) = (Bench::new(), Bench::new());
    let swapped = Evidence::tdx(bench.evidence().document().to_vec(), Some(other.machine.event_log())).unwrap();
    assert_eq!(
        verify(&swapped, &bench.collateral(), &bench.policy, NOW),
        Err(AttestError::EventLogMismatch { register: "RTMR3" })
    );
}

#[test]
fn a_policy_cannot_hide_that_a_root_is_simulated() {
    let bench = Bench::new();
    let refused = bench.under(|policy| policy.extra_roots[0].simulated = false);
    assert!(matches!(refused, Err(AttestError::Malformed { what: "policy", .. })), "{refused:?}");
}
