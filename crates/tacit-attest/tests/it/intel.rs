//! What a policy demands of Intel platforms, on real evidence. What needs a signature of its own stands in tacit-simulator.

use tacit_attest::samples::Sample;
use tacit_attest::*;
use tacit_types::Address;

use crate::evidence::{of_samples, sample};

fn under(sample: &Sample, demand: impl FnOnce(&mut Policy)) -> Result<VerifiedEvidence, AttestError> {
    let mut policy = of_samples(Preset::Dev);
    demand(&mut policy);
    verify(&sample.evidence, &sample.collateral, &policy, sample.at)
}

fn tdx() -> Sample {
    sample("intel-tdx-v4").unwrap()
}

fn sgx() -> Sample {
    sample("intel-sgx-v3").unwrap()
}

fn register(verified: &VerifiedEvidence, name: &str) -> Vec<u8> {
    verified.registers().iter().find(|(register, _)| *register == name).unwrap().1.clone()
}

#[test]
fn registers_can_be_pinned() {
    type Pins = fn(&mut Policy) -> &mut Vec<Pin>;
    let pins: [(&str, Pins); 4] = [
        ("MRSEAM", |policy| &mut policy.tdx.mr_seam),
        ("MRCONFIGID", |policy| &mut policy.tdx.mr_config_id),
        ("MROWNER", |policy| &mut policy.tdx.mr_owner),
        ("MROWNERCONFIG", |policy| &mut policy.tdx.mr_owner_config),
    ];
    let tdx = tdx();
    let verified = under(&tdx, |_| ()).unwrap();
    for (name, field) in pins {
        let found = register(&verified, name);
        let other = Pin::new(&[1; 48]).unwrap();
        assert!(under(&tdx, |policy| *field(policy) = vec![other.clone(), Pin::new(&found).unwrap()]).is_ok());
        let refused = AttestError::PinMismatch { register: name, found: hex::encode(&found) };
        assert_eq!(under(&tdx, |policy| *field(policy) = vec![other]).err(), Some(refused));
    }
    let sgx = sgx();
    let refused = under(&sgx, |policy| policy.sgx.config_id = vec![Pin::new(&[1; 64]).unwrap()]).err();
    assert_eq!(refused, Some(AttestError::PinMismatch { register: "CONFIGID", found: "00".repeat(64) }));
}

#[test]
fn state_components_can_be_limited() {
    // The sample's XFAM is 0x602e7.
    let mask = |hex: &str| Some(Pin::new(&hex::decode(hex).unwrap()).unwrap());
    assert!(under(&tdx(), |policy| policy.tdx.allowed_xfam = mask("00000000000602e7")).is_ok());
    let refused = under(&tdx(), |policy| policy.tdx.allowed_xfam = mask("00000000000002e7")).err();
    assert_eq!(refused, Some(AttestError::Attribute("XFAM 0x602e7".into())));
    let wrong = under(&tdx(), |policy| policy.tdx.allowed_xfam = mask("02e7"));
    assert!(matches!(wrong, Err(AttestError::Malformed { what: "policy", .. })), "{wrong:?}");
}

#[test]
fn logs_and_events_can_be_demanded() {
    let missing = under(&tdx(), |policy| policy.tdx.boot_log = Some(Presence::Required)).err();
    assert_eq!(missing, Some(AttestError::Missing { what: "the boot log" }));
    assert!(under(&tdx(), |policy| policy.tdx.boot_log = Some(Presence::IfPresent)).is_ok());
    let events = |policy: &mut Policy| {
        policy.events.insert("compose-hash".into(), vec![Pin::new(&[1; 32]).unwrap()]);
    };
    let missing = AttestError::EventMissing { name: "compose-hash".into() };
    assert_eq!(under(&tdx(), events).err(), Some(missing.clone()));
    // Evidence that cannot have events has none.
    assert_eq!(under(&sgx(), events).err(), Some(missing));
    let foreign = tdx().evidence.with_boot_log(vec![0; 64]).unwrap();
    let refused = verify(&foreign, &tdx().collateral, &of_samples(Preset::Dev), tdx().at);
    assert!(matches!(refused, Err(AttestError::Malformed { what: "boot log", .. })), "{refused:?}");
}

#[test]
fn enclaves_can_be_held_to_more() {
    let sgx = sgx();
    let verified = under(&sgx, |_| ()).unwrap();
    assert_eq!(
        under(&sgx, |policy| policy.sgx.require_kss = true).err(),
        Some(AttestError::Demand { what: "an enclave with KSS" })
    );
    let signer = Pin::new(&register(&verified, "MRSIGNER")).unwrap();
    let minimum = |svn, product| IsvMinimum { signer: signer.clone(), product, svn };
    let refused = under(&sgx, |policy| policy.sgx.minimum_isv_svn = vec![minimum(1, 0)]).err();
    assert_eq!(refused, Some(AttestError::IsvSvnTooLow { found: 0, minimum: 1 }));
    assert!(under(&sgx, |policy| policy.sgx.minimum_isv_svn = vec![minimum(0, 0), minimum(9, 1)]).is_ok());
}

#[test]
fn the_platforms_certificate_is_held_to_the_policy() {
    // The SGX sample's certificate is by the processor authority, which is silent about the platform.
    let other = Some(AttestError::Demand { what: "a PCK certificate of another authority" });
    let by = |sample: &Sample, authority| under(sample, |policy| policy.pck.authorities = vec![authority]).err();
    assert_eq!(by(&sgx(), PckAuthority::Processor), None);
    assert_eq!(by(&sgx(), PckAuthority::Platform), other);
    assert_eq!(by(&tdx(), PckAuthority::Platform), None);
    assert_eq!(by(&tdx(), PckAuthority::Processor), other);
    let denied = |sample: &Sample, property| under(sample, |policy| policy.pck.denied = vec![property]).err();
    for property in [PckProperty::DynamicPlatform, PckProperty::CachedKeys, PckProperty::Smt] {
        let refused = denied(&sgx(), property);
        assert!(matches!(refused, Some(AttestError::Demand { .. })), "{property:?}: silence is no denial: {refused:?}");
    }
    // The TDX sample says of itself: extensible, keys cached, multithreading on.
    for property in [PckProperty::DynamicPlatform, PckProperty::CachedKeys, PckProperty::Smt] {
        println!("TDX sample, {property:?} denied: {:?}", denied(&tdx(), property));
    }
    assert!(denied(&tdx(), PckProperty::Smt).is_some());
}

#[test]
fn advisories_can_be_listed_as_accepted() {
    let accepted = |list: &[&str]| {
        let list = list.iter().map(|id| (*id).to_owned()).collect();
        under(&sgx(), |policy| policy.tcb.accepted_advisories = Some(list)).err()
    };
    assert_eq!(accepted(&["INTEL-SA-00289", "intel-sa-00615", "INTEL-SA-1"]), None);
    let unlisted = AttestError::AdvisoryNotAccepted { id: "INTEL-SA-00615".into() };
    assert_eq!(accepted(&["INTEL-SA-00289"]), Some(unlisted));
    assert_eq!(accepted(&[]), Some(AttestError::AdvisoryNotAccepted { id: "INTEL-SA-00289".into() }));
    assert!(under(&tdx(), |policy| policy.tcb.accepted_advisories = Some(vec![])).is_ok(), "none applies");
}

#[test]
fn older_collateral_than_seen_is_refused() {
    let (old, new) = (tdx(), sample("intel-tdx-v5").unwrap());
    let policy = of_samples(Preset::Dev);
    let seen_of = |sample: &Sample, seen: &Seen| {
        verify_seen(&sample.evidence, &sample.collateral, &policy, sample.at, seen).map(|(_, seen)| seen)
    };
    let seen = seen_of(&old, &Seen::default()).unwrap();
    assert_eq!(seen.numbers().count(), 3, "{seen:?}");
    assert!(seen.numbers().any(|number| number == ("tcb tdx b0c06f000000", 17)), "{seen:?}");
    // Both samples are of one platform family: after the newer documents the older ones are a step back.
    let newer = seen_of(&new, &seen).unwrap();
    assert!(newer.numbers().any(|number| number == ("tcb tdx b0c06f000000", 20)), "{newer:?}");
    let refused = AttestError::Downgrade { what: "TCB evaluation data", found: 17, minimum: 20 };
    assert_eq!(seen_of(&old, &newer).err(), Some(refused));
    // What has been seen survives a file, and SGX documents of another family are not measured by it.
    let read: Seen = serde_json::from_slice(&serde_json::to_vec(&newer).unwrap()).unwrap();
    assert_eq!(read, newer);
    assert!(seen_of(&sgx(), &Seen::default()).is_ok());
}

#[test]
fn a_set_of_machines_can_be_held_to_diversity() {
    let (tdx, newer, sgx) = (tdx(), sample("intel-tdx-v5").unwrap(), sgx());
    let evidence = [&tdx, &newer, &sgx].map(|sample| under(sample, |_| ()).unwrap());
    let operators = [1, 2, 1].map(|byte| Address::from([byte; 20]));
    let members: Vec<Member<'_>> =
        evidence.iter().zip(operators).map(|(evidence, operator)| Member { evidence, operator }).collect();
    let check = |diversity: Diversity| diversity.check(&members).err();
    assert_eq!(check(Diversity::default()), None);
    let three = Diversity { per_vendor: Some(3), per_operator: Some(2), per_root: Some(3), per_chip: Some(1) };
    assert_eq!(check(three.clone()), None);
    assert_eq!(
        check(Diversity { per_vendor: Some(2), ..three.clone() }),
        Some(AttestError::NotDiverse { what: "vendor", name: "Intel".into(), found: 3, limit: 2 })
    );
    assert_eq!(
        check(Diversity { per_operator: Some(1), ..three.clone() }),
        Some(AttestError::NotDiverse { what: "operator", name: operators[0].to_string(), found: 2, limit: 1 })
    );
    let root = VendorRoot::IntelSgx.id().to_string();
    assert_eq!(
        check(Diversity { per_root: Some(0), ..three.clone() }),
        Some(AttestError::NotDiverse { what: "root", name: root, found: 3, limit: 0 })
    );
    let twice = [members[0], members[0]];
    let chip = evidence[0].chip().to_string();
    assert_eq!(
        three.check(&twice).err(),
        Some(AttestError::NotDiverse { what: "chip", name: chip, found: 2, limit: 1 })
    );
}
