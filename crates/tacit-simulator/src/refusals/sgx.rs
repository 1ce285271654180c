//! Enclaves.

use tacit_attest::sweep::{Scope, sweep};
use tacit_attest::{
    AttestError, Evidence, HardwareClass, IsvMinimum, Pin, Platform, Policy, SgxAttribute, SgxPolicy, TcbStatus,
    VerifiedEvidence, verify,
};

use super::{Bench, DATA, EXECUTABLE, NOW, vendors_refuse};
use crate::machine::Attester;
use crate::quote::Enclave;
use crate::{Bulletin, Flaws, Hardware, RevocableAuthority};

fn bench() -> Bench {
    Bench::new(Hardware::Sgx, Flaws::default())
}

fn of_enclave(bench: &Bench, change: impl FnOnce(&mut Enclave)) -> Result<VerifiedEvidence, AttestError> {
    of_enclave_under(bench, &bench.policy, change)
}

fn of_enclave_under(
    bench: &Bench,
    policy: &Policy,
    change: impl FnOnce(&mut Enclave),
) -> Result<VerifiedEvidence, AttestError> {
    let Attester::Intel(quoting) = &bench.machine.attester else { panic!("not an Intel machine") };
    let mut enclave = quoting.enclave(bench.machine.guest().enclave(EXECUTABLE));
    change(&mut enclave);
    let quote = quoting.quote_enclave(&enclave, &DATA);
    verify(&Evidence::sgx(quote).unwrap(), &bench.collateral(), policy, NOW)
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

/// Every attribute bit by itself, signed as it is: what an enclave of ours has, what only protects, what a policy must name, and
/// what nobody knows.
#[test]
fn each_attribute_of_an_enclave_is_accepted_or_refused_by_name() {
    let bench = bench();
    let usual = of_enclave(&bench, |_| ()).unwrap().measurement();
    let refused = |text: String| Err(AttestError::Attribute(text));
    for bit in 0..64u32 {
        let found = of_enclave(&bench, |enclave| enclave.attributes ^= 1 << bit).map(|verified| verified.measurement());
        let flags = 0x05u64 ^ 1 << bit;
        let expected = match bit {
            // INIT is gone.
            0 => refused(format!("SGX attributes {flags:#x}")),
            1 => Err(AttestError::Debug),
            // MODE64BIT, CET, KSS and AEXNOTIFY give nobody a way in.
            2 | 6 | 7 | 10 => Ok(usual),
            4 => refused("SGX attribute PROVISIONKEY".into()),
            5 => refused("SGX attribute EINITTOKENKEY".into()),
            _ => refused(format!("SGX attributes {flags:#x}")),
        };
        assert_eq!(found, expected, "attribute {bit}");
    }
    for bit in 0..32u32 {
        let found = of_enclave(&bench, |enclave| enclave.misc_select = 1 << bit).map(|verified| verified.measurement());
        // EXINFO tells the enclave, and nobody else, where it faulted.
        let expected = if bit == 0 { Ok(usual) } else { refused(format!("MISCSELECT {:#x}", 1u32 << bit)) };
        assert_eq!(found, expected, "MISCSELECT {bit}");
    }
}

#[test]
fn what_a_policy_demands_of_an_enclave_is_demanded() {
    let bench = bench();
    let judge = |change: fn(&mut SgxPolicy), enclave: fn(&mut Enclave)| {
        let mut policy = bench.policy.clone();
        change(&mut policy.sgx);
        of_enclave_under(&bench, &policy, enclave).map(|_| ())
    };
    let provisions = |enclave: &mut Enclave| enclave.attributes |= 1 << 4;
    assert_eq!(judge(|sgx| sgx.extra_attributes = vec![SgxAttribute::ProvisioningKey], provisions), Ok(()));
    let other = judge(|sgx| sgx.extra_attributes = vec![SgxAttribute::LaunchKey], provisions);
    assert_eq!(other, Err(AttestError::Attribute("SGX attribute PROVISIONKEY".into())));
    let cpu_info = |enclave: &mut Enclave| enclave.misc_select = 2;
    assert_eq!(judge(|sgx| sgx.extra_misc_select = 2, cpu_info), Ok(()));
    assert_eq!(judge(|sgx| sgx.extra_misc_select = 4, cpu_info), Err(AttestError::Attribute("MISCSELECT 0x2".into())));
    assert_eq!(judge(|sgx| sgx.require_kss = true, |enclave| enclave.attributes |= 1 << 7), Ok(()));
    assert!(judge(|sgx| sgx.require_kss = true, |_| ()).is_err());
    let pinned = |sgx: &mut SgxPolicy| sgx.config_id = vec![Pin::new(&[7; 64]).unwrap()];
    assert_eq!(judge(pinned, |enclave| enclave.config_id = [7; 64]), Ok(()));
    assert!(judge(pinned, |enclave| enclave.config_id[63] = 7).is_err());
    let minimum = |sgx: &mut SgxPolicy| {
        let signer = Pin::new(&crate::quote::ENCLAVE_MRSIGNER).unwrap();
        sgx.minimum_isv_svn = vec![IsvMinimum { signer, product: crate::quote::ENCLAVE_ISVPRODID, svn: 3 }];
    };
    assert_eq!(judge(minimum, |enclave| enclave.version = 3), Ok(()));
    let low = judge(minimum, |enclave| enclave.version = 2);
    assert_eq!(low, Err(AttestError::IsvSvnTooLow { found: 2, minimum: 3 }));
    // The minimum is that signer's and product's own.
    assert_eq!(judge(minimum, |enclave| (enclave.version, enclave.product) = (2, 9)), Ok(()));
}
