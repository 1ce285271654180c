//! Trust domains.

use sha2::Digest as _;
use tacit_attest::sweep::{Scope, sweep};
use tacit_attest::{
    AttestError, Confidence, Evidence, Grace, HardwareClass, Policy, Preset, TcbStatus, VerifiedEvidence, verify,
    verify_bound,
};
use tacit_types::{ChipId, Measurement};

use super::{Bench, DATA, EXECUTABLE, NOW};
use crate::machine::Attester;
use crate::quote::TrustDomain;
use crate::{Bulletin, Flaws, Hardware, RevocableAuthority};

pub(super) fn bench() -> Bench {
    Bench::new(Hardware::Tdx, Flaws::default())
}

pub(super) fn of_domain(bench: &Bench, change: impl FnOnce(&mut TrustDomain)) -> Result<VerifiedEvidence, AttestError> {
    let Attester::Intel(enclave) = &bench.machine.attester else { panic!("not an Intel machine") };
    let mut domain = enclave.domain();
    change(&mut domain);
    let quote = enclave.quote_domain(&domain, &bench.machine.registers(EXECUTABLE), &DATA);
    verify(&Evidence::tdx(quote, None).unwrap(), &bench.collateral(), &bench.policy, NOW)
}

#[test]
fn a_machine_is_verified_by_the_production_path_and_called_simulated() {
    let bench = bench();
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
    let bench = bench();
    for preset in [Preset::Dev, Preset::Standard, Preset::High] {
        let refused = verify(&bench.evidence(), &bench.collateral(), &Policy::preset(preset), NOW);
        assert_eq!(refused, Err(AttestError::WrongRoot { root: bench.machine.root().id().to_string() }));
    }
}

#[test]
fn another_networks_root_refuses_it_too() {
    let (bench, other) = (bench(), bench());
    let refused = verify(&bench.evidence(), &bench.collateral(), &other.policy, NOW);
    assert!(matches!(refused, Err(AttestError::WrongRoot { .. })), "{refused:?}");
    let refused = verify(&bench.evidence(), &other.collateral(), &bench.policy, NOW);
    assert!(matches!(refused, Err(AttestError::WrongRoot { .. })), "{refused:?}");
}

#[test]
fn every_signed_byte_of_a_simulated_quote_counts() {
    let bench = bench();
    let result = sweep(&bench.evidence(), &bench.collateral(), &bench.policy, NOW, Scope::Everything).unwrap();
    println!("simulated TDX v4: {} signed bytes changed one at a time, {} refused", result.tried, result.refused);
    assert_eq!(result.accepted, []);
    assert!(result.tried > 4_000);
}

#[test]
fn a_trust_domain_set_up_badly_is_refused_by_name() {
    let bench = bench();
    assert!(of_domain(&bench, |_| ()).is_ok());
    let attribute = |result: Result<VerifiedEvidence, AttestError>| {
        assert!(matches!(result, Err(AttestError::Attribute(_))), "{result:?}");
    };
    assert_eq!(of_domain(&bench, |domain| domain.attributes |= 1), Err(AttestError::Debug));
    attribute(of_domain(&bench, |domain| domain.attributes |= 1 << 4));
    attribute(of_domain(&bench, |domain| domain.attributes |= 1 << 29));
    attribute(of_domain(&bench, |domain| domain.attributes |= 1 << 17));
    attribute(of_domain(&bench, |domain| domain.attributes |= 1 << 40));
    attribute(of_domain(&bench, |domain| domain.attributes &= !(1 << 28)));
    attribute(of_domain(&bench, |domain| domain.xfam = 0));
    attribute(of_domain(&bench, |domain| domain.xfam |= 1 << 40));
    let module = |result: Result<VerifiedEvidence, AttestError>| {
        assert!(matches!(result, Err(AttestError::TdxModule(_))), "{result:?}");
    };
    module(of_domain(&bench, |domain| domain.module_signer[0] ^= 1));
    module(of_domain(&bench, |domain| domain.module_attributes = 2));
    module(of_domain(&bench, |domain| domain.tee_tcb_svn[0] -= 1));
    module(of_domain(&bench, |domain| domain.tee_tcb_svn[1] = 3));
}

#[test]
fn collateral_that_says_no_is_obeyed_by_name() {
    let bench = bench();
    assert!(bench.of_bulletin(|_| ()).is_ok());
    let check = |change: fn(&mut Bulletin), expected: AttestError| assert_eq!(bench.of_bulletin(change), Err(expected));
    check(|bulletin| bulletin.fmspc[5] = 1, AttestError::FmspcMismatch);
    check(|bulletin| bulletin.pce_id[0] = 1, AttestError::FmspcMismatch);
    check(|bulletin| bulletin.tcb_levels.iter_mut().for_each(|level| level.needed_svn = 3), AttestError::NoTcbLevel);
    check(|bulletin| bulletin.tcb_levels[0].status = "Revoked".into(), AttestError::Revoked { what: "TCB level" });
    check(
        |bulletin| bulletin.quoting_enclave = Some("QE".into()),
        AttestError::WrongQuotingEnclave { expected: "TD_QE", found: "QE".into() },
    );
    check(
        |bulletin| (bulletin.issued, bulletin.lifetime) = (Some(NOW.minus(90)), 89),
        AttestError::Expired { what: "CRL" },
    );
    check(|bulletin| bulletin.issued = Some(NOW.plus(60)), AttestError::NotYetValid { what: "TCB info" });
    let signer = bench.of_bulletin(|bulletin| bulletin.quoting_enclave_signer = Some([1; 32]));
    assert!(matches!(signer, Err(AttestError::QuotingEnclave(_))), "{signer:?}");
    let strange = bench.of_bulletin(|bulletin| bulletin.tcb_levels[0].status = "Fine".into());
    assert!(matches!(strange, Err(AttestError::Malformed { what: "TCB info", .. })), "{strange:?}");
}

#[test]
fn status_and_advisories_are_the_policys_to_judge() {
    let bench = bench();
    let standard = Policy { extra_roots: bench.policy.extra_roots.clone(), ..Policy::preset(Preset::Standard) };
    let old =
        |bulletin: &mut Bulletin| *bulletin = bulletin.clone().with_status("OutOfDate", &["INTEL-SA-01421".into()]);
    let dev = bench.of_bulletin(old).unwrap();
    assert_eq!((dev.tcb_status(), dev.confidence().level()), (TcbStatus::OutOfDate, 5));
    assert_eq!(dev.advisories(), ["INTEL-SA-01421"]);
    assert_eq!(
        bench.of_bulletin_under(&standard, old),
        Err(AttestError::TcbTooLow { policy: "standard".into(), status: TcbStatus::OutOfDate })
    );
    let mut grace = standard.clone();
    grace.tcb.grace = vec![Grace { status: TcbStatus::OutOfDate, until: NOW }];
    assert!(bench.of_bulletin_under(&grace, old).is_ok());
    grace.tcb.grace[0].until = NOW.minus(1);
    assert!(matches!(bench.of_bulletin_under(&grace, old), Err(AttestError::TcbTooLow { .. })));
    let mut denied = bench.policy.clone();
    denied.tcb.denied_advisories = vec!["intel-sa-01421".into()];
    assert_eq!(bench.of_bulletin_under(&denied, old), Err(AttestError::AdvisoryDenied { id: "INTEL-SA-01421".into() }));
}

#[test]
fn the_policy_refuses_by_name() {
    let bench = bench();
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
        bench.under(|policy| policy.denied_classes = vec![HardwareClass::IntelTdx]),
        Err(AttestError::HardwareClassDenied { policy: "dev".into(), class: HardwareClass::IntelTdx })
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
    let (bench, other) = (bench(), bench());
    let swapped = Evidence::tdx(bench.evidence().document().to_vec(), Some(other.machine.event_log())).unwrap();
    assert_eq!(
        verify(&swapped, &bench.collateral(), &bench.policy, NOW),
        Err(AttestError::EventLogMismatch { register: "RTMR3" })
    );
}

#[test]
fn a_policy_cannot_hide_that_a_root_is_simulated() {
    let bench = bench();
    let refused = bench.under(|policy| policy.extra_roots[0].simulated = false);
    assert!(matches!(refused, Err(AttestError::Malformed { what: "policy", .. })), "{refused:?}");
}

#[test]
fn a_revoked_chip_or_authority_is_refused_and_others_are_not() {
    let bench = bench();
    let revoked = Err(AttestError::Revoked { what: "certificate" });
    let chip = bench.machine.chip();
    assert_eq!(bench.of_bulletin(|bulletin| bulletin.revoked_chips = vec![chip]), revoked);
    assert!(bench.of_bulletin(|bulletin| bulletin.revoked_chips = vec!["00".repeat(16)]).is_ok());
    let authority = |which| bench.of_bulletin(|bulletin| bulletin.revoked_authorities = vec![which]);
    assert_eq!(authority(RevocableAuthority::PckPlatform), revoked);
    assert!(authority(RevocableAuthority::PckProcessor).is_ok());
}

#[test]
fn a_machine_that_debugs_or_lags_is_refused_or_named_by_the_production_path() {
    let debug = Bench::new(Hardware::Tdx, Flaws { debug: true, ..Flaws::default() });
    assert_eq!(debug.result(), Err(AttestError::Debug));
    let old = Bench::new(Hardware::Tdx, Flaws { old_firmware: true, ..Flaws::default() });
    assert_eq!(old.result().unwrap().tcb_status(), TcbStatus::OutOfDate);
}

#[test]
fn a_bulletin_reaches_the_machines_next_collateral() {
    let bench = bench();
    assert!(bench.result().is_ok());
    let chip = bench.machine.chip();
    let mut bulletin = Bulletin { revoked_chips: vec![chip], evaluation_number: 7, ..Bulletin::default() };
    bench.machine.root().publish(&bulletin).unwrap();
    assert_eq!(bench.result(), Err(AttestError::Revoked { what: "certificate" }));
    bulletin.revoked_chips.clear();
    bench.machine.root().publish(&bulletin).unwrap();
    assert!(bench.under(|policy| policy.tcb.minimum_evaluation_number = 7).is_ok());
    let file = bench.machine.root().directory().join("bulletin.json");
    std::fs::write(file, r#"{"version":2}"#).unwrap();
    assert!(bench.machine.collateral(NOW).is_err());
}

#[test]
fn the_event_log_is_a_dstack_guests() {
    let bench = bench();
    let log: serde_json::Value = serde_json::from_str(bench.evidence().event_log().unwrap()).unwrap();
    let events: Vec<(String, String)> = log
        .as_array()
        .unwrap()
        .iter()
        .map(|event| {
            let text = |name: &str| event[name].as_str().unwrap().to_owned();
            (text("event"), text("event_payload"))
        })
        .collect();
    let payload = |name: &str| &events.iter().find(|(event, _)| event == name).unwrap().1;
    let application = bench.machine.application();
    let compose_hash = hex::encode(sha2::Sha256::digest(&application.compose));
    assert_eq!(payload("compose-hash"), &compose_hash);
    assert_eq!(payload("app-id"), &compose_hash[..40]);
    assert_eq!(payload("instance-id").len(), 40);
    assert_eq!(events[0].0, "system-preparing");
    assert_eq!(events.last().unwrap().0, "system-ready");
}
