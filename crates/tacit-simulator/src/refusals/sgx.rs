//! Enclaves.

use tacit_attest::sweep::{Scope, sweep};
use tacit_attest::{AttestError, Evidence, HardwareClass, Platform, TcbStatus, VerifiedEvidence, verify};

use super::{Bench, DATA, EXECUTABLE, NOW, vendors_refuse};
use crate::machine::Attester;
use crate::quote::Enclave;
use crate::{Bulletin, Flaws, Hardware, RevocableAuthority};

fn bench() -> Bench {
    Bench::new(Hardware::Sgx, Flaws::default())
}

fn of_enclave(bench: &Bench, change: impl FnOnce(&mut Enclave)) -> Result<VerifiedEvidence, AttestError> {
    let Attester::Intel(quoting) = &bench.machine.attester else { panic!("not an Intel machine") };
    let mut enclave = quoting.enclave(bench.machine.guest().enclave(EXECUTABLE));
    change(&mut enclave);
    let quote = quoting.quote_enclave(&enclave, &DATA);
    verify(&Evidence::sgx(quote).unwrap(), &bench.collateral(), &bench.policy, NOW)
}

#[test]
fn an_enclave_is_verified_under_its_own_root_alone() {
    let (bench, other) = (bench(), bench());
    let verified = bench.verified();
    assert!(verified.simulated());
    assert_eq!((verified.platform(), verified.hardware_class()), (Platform::Sgx, HardwareClass::IntelSgx));
    assert_eq!(verified.root(), bench.machine.root().id());
    assert_eq!(verified.measurement(), bench.measurement());
    assert_eq!(verified.report_data(), &DATA);
    assert_eq!(verified.tcb_status(), TcbStatus::UpToDate);
    vendors_refuse(&bench);
    let refused = verify(&bench.evidence(), &bench.collateral(), &other.policy, NOW);
    assert!(matches!(refused, Err(AttestError::WrongRoot { .. })), "{refused:?}");
}

#[test]
fn every_signed_byte_of_a_simulated_quote_counts() {
    let bench = bench();
    let result = sweep(&bench.evidence(), &bench.collateral(), &bench.policy, NOW, Scope::Everything).unwrap();
    println!("simulated SGX v3: {} signed bytes changed one at a time, {} refused", result.tried, result.refused);
    assert_eq!(result.accepted, []);
    assert!(result.tried > 4_000);
}

#[test]
fn what_an_enclave_is_and_how_it_was_set_up_is_seen() {
    let bench = bench();
    let good = of_enclave(&bench, |_| ()).unwrap().measurement();
    assert_eq!(of_enclave(&bench, |enclave| enclave.attributes |= 2), Err(AttestError::Debug));
    let other = |change: fn(&mut Enclave)| assert_ne!(of_enclave(&bench, change).unwrap().measurement(), good);
    other(|enclave| enclave.measurement[0] ^= 1);
    other(|enclave| enclave.signer[0] ^= 1);
    other(|enclave| enclave.product += 1);
    other(|enclave| enclave.version += 1);
    let debug = Bench::new(Hardware::Sgx, Flaws { debug: true, ..Flaws::default() });
    assert_eq!(debug.result(), Err(AttestError::Debug));
    let old = Bench::new(Hardware::Sgx, Flaws { old_firmware: true, ..Flaws::default() });
    assert_eq!(old.result().unwrap().tcb_status(), TcbStatus::OutOfDate);
}

#[test]
fn collateral_that_says_no_is_obeyed_by_name() {
    let bench = bench();
    let check = |change: fn(&mut Bulletin), expected: AttestError| assert_eq!(bench.of_bulletin(change), Err(expected));
    check(|bulletin| bulletin.fmspc[5] = 1, AttestError::FmspcMismatch);
    check(|bulletin| bulletin.pce_id[0] = 1, AttestError::FmspcMismatch);
    check(|bulletin| bulletin.tcb_levels.clear(), AttestError::NoTcbLevel);
    check(
        |bulletin| bulletin.quoting_enclave = Some("TD_QE".into()),
        AttestError::WrongQuotingEnclave { expected: "QE", found: "TD_QE".into() },
    );
    check(
        |bulletin| bulletin.revoked_authorities = vec![RevocableAuthority::PckProcessor],
        AttestError::Revoked { what: "certificate" },
    );
    check(|bulletin| bulletin.issued = Some(NOW.plus(60)), AttestError::NotYetValid { what: "TCB info" });
    let chip = bench.machine.chip();
    let revoked = bench.of_bulletin(|bulletin| bulletin.revoked_chips = vec![chip]);
    assert_eq!(revoked, Err(AttestError::Revoked { what: "certificate" }));
    let platform = |bulletin: &mut Bulletin| bulletin.revoked_authorities = vec![RevocableAuthority::PckPlatform];
    assert!(bench.of_bulletin(platform).is_ok());
}

#[test]
fn the_documents_of_the_other_kind_of_machine_are_refused() {
    let (sgx, tdx) = (bench(), Bench::new(Hardware::Tdx, Flaws::default()));
    let refused = verify(&sgx.evidence(), &tdx.collateral(), &sgx.policy, NOW);
    assert_eq!(refused, Err(AttestError::WrongTcbInfo { expected: "SGX", found: "TDX".into() }));
    let refused = verify(&tdx.evidence(), &sgx.collateral(), &tdx.policy, NOW);
    assert_eq!(refused, Err(AttestError::WrongTcbInfo { expected: "TDX", found: "SGX".into() }));
}
