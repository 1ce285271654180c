//! Mistakes that other verifiers made, and demands of a policy, which only evidence with signatures of our own can show. The
//! others stand in tacit-attest under the same name.

use tacit_attest::event_log::{Form, digest_in, extend, to_json_in};
use tacit_attest::{
    AttestError, Evidence, Grace, Pin, Policy, Presence, Preset, TcbStatus, TdAttribute, VerifiedEvidence, boot_log,
    verify,
};

use super::tdx::{bench, of_domain};
use super::{Bench, DATA, EXECUTABLE, NOW};
use crate::Registers;
use crate::machine::Attester;
use crate::quote::TrustDomain;

/// Seen elsewhere: the identity of the TDX module was not looked at.
#[test]
fn another_tdx_module_is_refused() {
    let bench = bench();
    let refused = |change: fn(&mut TrustDomain)| {
        let refused = of_domain(&bench, change);
        assert!(matches!(refused, Err(AttestError::TdxModule(_))), "{refused:?}");
    };
    refused(|domain| domain.module_signer = [0; 48]);
    refused(|domain| domain.module_signer[47] ^= 1);
    refused(|domain| domain.module_attributes = 1 << 33);
    refused(|domain| domain.tee_tcb_svn[0] = 0);
    refused(|domain| domain.tee_tcb_svn[1] = 9);
}

/// Seen elsewhere: XFAM, the module's attributes and the debug bit were not looked at.
#[test]
fn a_trust_domain_that_its_host_can_read_is_refused() {
    let bench = bench();
    assert_eq!(of_domain(&bench, |domain| domain.attributes |= 1), Err(AttestError::Debug));
    // Every bit of the module's attributes, its debug bit among them, and every attribute that only harms.
    for bit in 0..64 {
        assert!(of_domain(&bench, |domain| domain.module_attributes = 1 << bit).is_err(), "module attribute {bit}");
    }
    for bit in (0..=15).chain([17, 29]).chain(23..=26).chain(32..=61) {
        assert!(of_domain(&bench, |domain| domain.attributes |= 1 << bit).is_err(), "attribute {bit}");
    }
    for bit in [3, 4, 10, 13, 16, 19, 40, 63] {
        let refused = of_domain(&bench, |domain| domain.xfam |= 1 << bit);
        assert!(matches!(refused, Err(AttestError::Attribute(_))), "XFAM {bit}: {refused:?}");
    }
}

/// Seen elsewhere: an advisory changed the status overnight, and 7 of 22 nodes were out.
#[test]
fn a_new_advisory_can_be_met_by_a_dated_grace() {
    let bench = bench();
    let standard = Policy { extra_roots: bench.policy.extra_roots.clone(), ..Policy::preset(Preset::Standard) };
    let overnight = |policy: &Policy| {
        bench.of_bulletin_under(policy, |bulletin| {
            *bulletin = bulletin.clone().with_status("OutOfDate", &["INTEL-SA-01421".into()]);
        })
    };
    let too_low = AttestError::TcbTooLow { policy: "standard".into(), status: TcbStatus::OutOfDate };
    assert_eq!(overnight(&standard), Err(too_low));
    let mut grace = standard.clone();
    grace.tcb.grace = vec![Grace { status: TcbStatus::OutOfDate, until: NOW.plus(86_400) }];
    assert_eq!(overnight(&grace).map(|verified| verified.confidence().level()), Ok(5));
    // Who would rather see an unknown advisory refused than accepted lists the ones that he knows.
    grace.tcb.accepted_advisories = Some(vec!["INTEL-SA-01192".into()]);
    assert_eq!(overnight(&grace), Err(AttestError::AdvisoryNotAccepted { id: "INTEL-SA-01421".into() }));
}

#[test]
fn attributes_that_do_not_only_protect_must_be_named() {
    let bench = bench();
    let with = |bit: u32, extra: &[TdAttribute]| {
        let mut domain = TrustDomain::default();
        domain.attributes |= 1 << bit;
        let mut policy = bench.policy.clone();
        policy.tdx.extra_attributes = extra.to_vec();
        of_registers(&bench, &domain, &bench.machine.registers(EXECUTABLE), |evidence| evidence, &policy)
    };
    for (bit, attribute) in
        [(63, TdAttribute::Perfmon), (31, TdAttribute::KeyLocker), (62, TdAttribute::ProvisioningAgent)]
    {
        assert!(matches!(with(bit, &[]), Err(AttestError::Attribute(_))), "{attribute:?}");
        assert!(with(bit, &[attribute]).is_ok(), "{attribute:?}");
    }
    for bit in [16, 27, 30] {
        assert!(with(bit, &[]).is_ok(), "{bit} only protects");
    }
}

const COMPOSE: [u8; 32] = [5; 32];

/// Registers into which these events were measured.
fn with_events(bench: &Bench, form: Form, events: &[(&str, &[u8])]) -> Registers {
    let mut registers = bench.machine.registers(EXECUTABLE);
    registers.rtmr[3] =
        events.iter().fold([0; 48], |register, (name, payload)| extend(&register, &digest_in(form, name, payload)));
    registers
}

fn of_registers(
    bench: &Bench,
    domain: &TrustDomain,
    registers: &Registers,
    complete: impl FnOnce(Evidence) -> Evidence,
    policy: &Policy,
) -> Result<VerifiedEvidence, AttestError> {
    let Attester::Intel(enclave) = &bench.machine.attester else { panic!("not an Intel machine") };
    let quote = enclave.quote_domain(domain, registers, &DATA);
    verify(&complete(Evidence::tdx(quote, None).unwrap()), &bench.collateral(), policy, NOW)
}

fn with_log(evidence: Evidence, log: &str) -> Evidence {
    Evidence::tdx(evidence.document().to_vec(), Some(log.to_owned())).unwrap()
}

#[test]
fn a_policy_can_name_what_was_composed_and_which_image_runs() {
    let bench = bench();
    let mut policy = bench.policy.clone();
    policy.events.insert("compose-hash".into(), vec![Pin::new(&COMPOSE).unwrap()]);
    let judge = |form, events: &[(&str, &[u8])]| {
        let registers = with_events(&bench, form, events);
        let log = to_json_in(form, events.iter().copied());
        of_registers(&bench, &TrustDomain::default(), &registers, |evidence| with_log(evidence, &log), &policy)
    };
    for form in [Form::Version1, Form::Version2] {
        let verified = judge(form, &[("app-id", b"one"), ("compose-hash", &COMPOSE)]).unwrap();
        assert_eq!(verified.event("compose-hash"), Some(&COMPOSE[..]));
        assert_eq!((verified.event("app-id"), verified.event("os-image-hash")), (Some(&b"one"[..]), None));
        assert_eq!(verified.events().len(), 2);
    }
    let name = || "compose-hash".to_owned();
    let form = Form::Version1;
    assert_eq!(judge(form, &[("app-id", b"one")]), Err(AttestError::EventMissing { name: name() }));
    let found = hex::encode([6; 32]);
    assert_eq!(judge(form, &[("compose-hash", &[6; 32])]), Err(AttestError::EventNotAccepted { name: name(), found }));
    // An application measures what it likes, but later: it cannot take the place of what the boot measured.
    let later: [(&str, &[u8]); 2] = [("compose-hash", &[6; 32]), ("compose-hash", &COMPOSE)];
    assert_eq!(judge(form, &later), Err(AttestError::EventRepeated { name: name() }));
    // Without its log a quote shows no events.
    let bare = of_registers(
        &bench,
        &TrustDomain::default(),
        &with_events(&bench, form, &[("compose-hash", &COMPOSE)]),
        |evidence| evidence,
        &policy,
    );
    assert_eq!(bare, Err(AttestError::EventMissing { name: name() }));
}

/// A boot log with one event for each of registers 0 to 2.
fn boot_log_of(data: [&[u8]; 3]) -> Vec<u8> {
    use sha2::{Digest as _, Sha384};
    let mut specification = b"Spec ID Event03\0".to_vec();
    specification.extend([0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 0x0c, 0, 48, 0, 0]);
    let mut log = [1u32, 3].map(u32::to_le_bytes).concat();
    log.extend([0; 20]);
    log.extend((specification.len() as u32).to_le_bytes());
    log.extend(specification);
    for (register, data) in (1u32..).zip(data) {
        log.extend([register, 0x8000_0007, 1].map(u32::to_le_bytes).concat());
        log.extend([0x0c, 0]);
        log.extend(Sha384::digest(data));
        log.extend((data.len() as u32).to_le_bytes());
        log.extend(data);
    }
    log.extend([0xff; 64]);
    log
}

#[test]
fn a_boot_log_is_replayed_to_the_measured_registers() {
    let bench = bench();
    let log = boot_log_of([b"firmware", b"kernel", b"command line"]);
    let mut registers = bench.machine.registers(EXECUTABLE);
    registers.rtmr[..3].copy_from_slice(&boot_log::replay(&boot_log::parse(&log).unwrap()));
    let mut policy = bench.policy.clone();
    policy.tdx.boot_log = Some(Presence::Required);
    let judge = |registers: &Registers, log: Option<Vec<u8>>| {
        let complete = |evidence: Evidence| match log {
            Some(log) => evidence.with_boot_log(log).unwrap(),
            None => evidence,
        };
        of_registers(&bench, &TrustDomain::default(), registers, complete, &policy)
    };
    let verified = judge(&registers, Some(log.clone())).unwrap();
    assert_eq!(verified.boot_events()[2].data, b"command line");
    assert!(verified.boot_events().iter().all(boot_log::BootEvent::is_data_measured));
    assert_eq!(judge(&registers, None), Err(AttestError::Missing { what: "the boot log" }));
    for (index, register) in ["RTMR0", "RTMR1", "RTMR2"].into_iter().enumerate() {
        let mut data: [&[u8]; 3] = [b"firmware", b"kernel", b"command line"];
        data[index] = b"another";
        let refused = judge(&registers, Some(boot_log_of(data)));
        assert_eq!(refused, Err(AttestError::BootLogMismatch { register }));
    }
    let cut = judge(&registers, Some(log[..80].to_vec()));
    assert!(matches!(cut, Err(AttestError::Truncated { what: "boot log" })), "{cut:?}");
}
