//! Nitro documents under a root of our own: one named refusal per check. The real document is in `real.rs`.

use std::sync::LazyLock;

use rcgen::{BasicConstraints, CustomExtension, KeyUsagePurpose};
use sha2::{Digest as _, Sha256};
use tacit_attest::*;
use tacit_types::UnixTime;

use crate::authority::{Issued, Wish};
use crate::evidence::sample;

const NOW: UnixTime = UnixTime(1_780_000_000);
const HOUR: u64 = 3600;
const DOCUMENT: &str = "Nitro document";
const CERTIFICATE: &str = "Nitro certificate";

/// The wishes for a good chain, root first.
fn wishes() -> [Wish; 4] {
    let authority = |name: &str, path: u8| {
        let mut wish = Wish::authority(name, NOW.minus(24 * HOUR), NOW.plus(24 * HOUR));
        wish.authority = Some(BasicConstraints::Constrained(path));
        wish
    };
    let leaf = Wish::leaf("i-1-enc2.sim.aws", NOW.minus(HOUR), NOW.plus(2 * HOUR));
    [authority("SIMULATED Nitro Root - NOT AWS", 3), authority("zone", 1), authority("instance", 0), leaf]
}

fn chain(wishes: &[Wish; 4]) -> [Issued; 4] {
    let root = Issued::root(&wishes[0]);
    let zone = root.issue(&wishes[1]);
    let instance = zone.issue(&wishes[2]);
    let leaf = instance.issue(&wishes[3]);
    [root, zone, instance, leaf]
}

static CHAIN: LazyLock<[Issued; 4]> = LazyLock::new(|| chain(&wishes()));

fn policy_of(root: &Issued) -> Policy {
    let root = ExtraRoot::simulated("SIM-nitro", Vendor::Aws, root.der.clone()).unwrap();
    Policy::preset(Preset::Dev).with_root(root)
}

fn item(major: u8, argument: usize) -> Vec<u8> {
    let bytes = u32::try_from(argument).unwrap().to_be_bytes();
    match argument {
        0..24 => vec![major << 5 | bytes[3]],
        24..256 => vec![major << 5 | 24, bytes[3]],
        256..65536 => vec![major << 5 | 25, bytes[2], bytes[3]],
        _ => vec![major << 5 | 26, bytes[0], bytes[1], bytes[2], bytes[3]],
    }
}

fn bytes(value: &[u8]) -> Vec<u8> {
    [item(2, value.len()), value.to_vec()].concat()
}

fn text(value: &str) -> Vec<u8> {
    [item(3, value.len()), value.as_bytes().to_vec()].concat()
}

fn number(value: u64) -> Vec<u8> {
    [vec![0x1b], value.to_be_bytes().to_vec()].concat()
}

fn pcrs(values: &[(usize, Vec<u8>)]) -> Vec<u8> {
    let entries = values.iter().flat_map(|(index, value)| [item(0, *index), bytes(value)].concat());
    item(5, values.len()).into_iter().chain(entries).collect()
}

fn registers() -> Vec<(usize, Vec<u8>)> {
    (0..16).map(|index| (index, vec![u8::try_from(index).unwrap() + 1; 48])).collect()
}

/// The members of a good document, encoded.
fn members(chain: &[Issued; 4]) -> Vec<(&'static str, Vec<u8>)> {
    let [root, zone, instance, leaf] = chain;
    let bundle = [root, zone, instance].map(|issued| bytes(&issued.der)).concat();
    vec![
        ("module_id", text("i-1-enc2")),
        ("digest", text("SHA384")),
        ("timestamp", number(NOW.0 * 1000)),
        ("pcrs", pcrs(&registers())),
        ("certificate", bytes(&leaf.der)),
        ("cabundle", [item(4, 3), bundle].concat()),
        ("public_key", bytes(b"key")),
        ("user_data", bytes(&[9; 64])),
        ("nonce", bytes(b"nonce")),
    ]
}

/// An open map, as the security module writes it.
fn payload(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entries = members.iter().flat_map(|(name, value)| [text(name), value.clone()].concat());
    std::iter::once(0xbf).chain(entries).chain([0xff]).collect()
}

const PROTECTED: [u8; 4] = [0xa1, 0x01, 0x38, 0x22];

fn signed(payload: &[u8], leaf: &Issued) -> Vec<u8> {
    let structure = [&b"\x84\x6aSignature1\x44"[..], &PROTECTED, &[0x40], &bytes(payload)].concat();
    let signature = leaf.sign(&structure);
    [vec![0x84], bytes(&PROTECTED), vec![0xa0], bytes(payload), bytes(&signature)].concat()
}

fn document(change: impl FnOnce(&mut Vec<(&'static str, Vec<u8>)>)) -> Vec<u8> {
    let mut members = members(&CHAIN);
    change(&mut members);
    signed(&payload(&members), &CHAIN[3])
}

fn judge(document: Vec<u8>, policy: &Policy, now: UnixTime) -> Result<VerifiedEvidence, AttestError> {
    let collateral = Collateral::Nitro(NitroCollateral::default());
    verify(&Evidence::nitro(document).unwrap(), &collateral, policy, now)
}

fn judge_now(document: Vec<u8>) -> Result<VerifiedEvidence, AttestError> {
    judge(document, &policy_of(&CHAIN[0]), NOW)
}

fn set(name: &'static str, value: Vec<u8>) -> Result<VerifiedEvidence, AttestError> {
    judge_now(document(|members| members.iter_mut().find(|member| member.0 == name).unwrap().1 = value))
}

#[track_caller]
fn malformed(result: Result<VerifiedEvidence, AttestError>, part: &str) {
    match result {
        Err(AttestError::Malformed { what: DOCUMENT, detail }) if detail.contains(part) => {}
        other => panic!("{other:?}, expected a document refused for `{part}`"),
    }
}

#[test]
fn a_good_document_says_what_it_holds() {
    let verified = judge_now(document(|_| ())).unwrap();
    assert!(verified.simulated());
    assert_eq!((verified.platform(), verified.hardware_class()), (Platform::Nitro, HardwareClass::AwsNitro));
    let measured: [u8; 32] = Sha256::digest([[1u8; 48], [2; 48], [3; 48]].concat()).into();
    assert_eq!(verified.measurement(), measured.into());
    let chip: [u8; 32] = Sha256::digest(b"aws\0i-1-enc2").into();
    assert_eq!(verified.chip(), chip.into());
    assert_eq!(verified.report_data(), &[9; 64]);
    assert_eq!(verified.nonce(), Some(&b"nonce"[..]));
    assert_eq!(verified.document_public_key(), Some(&b"key"[..]));
    assert_eq!((verified.module_id(), verified.signed_at()), (Some("i-1-enc2"), Some(NOW)));
    assert_eq!(verified.collateral_expires(), NOW.plus(2 * HOUR));
    assert_eq!(verified.confidence().level(), 2);
    assert!(verified.registers().iter().any(|(name, value)| *name == "PCR8" && *value == [9; 48]));
    assert_eq!(verified.require_nonce(b"nonce"), Ok(()));
    assert_eq!(verified.require_nonce(b"nonc"), Err(AttestError::NonceMismatch));
    assert_eq!(verified.require_report_data(&[8; 64]), Err(AttestError::ReportDataMismatch));
    let silent = set("nonce", vec![0xf6]).unwrap();
    assert_eq!((silent.nonce(), silent.require_nonce(b"")), (None, Err(AttestError::NonceMismatch)));
    // A length that is stated reads the same.
    let mut counted = payload(&members(&CHAIN));
    (counted[0], _) = (0xa9, counted.pop());
    assert!(judge_now(signed(&counted, &CHAIN[3])).is_ok());
}

#[test]
fn members_are_known_and_stand_once() {
    for name in ["module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle"] {
        let without = judge_now(document(|members| members.retain(|member| member.0 != name)));
        malformed(without, &format!("no member `{name}`"));
    }
    for index in 0..9 {
        malformed(judge_now(document(|members| members.push(members[index].clone()))), "stands twice");
    }
    malformed(judge_now(document(|members| members.push(("more", text(""))))), "unknown member `more`");
    for name in ["public_key", "nonce"] {
        assert!(judge_now(document(|members| members.retain(|member| member.0 != name))).is_ok());
    }
    malformed(judge_now(document(|members| members.retain(|member| member.0 != "user_data"))), "user data of 0 bytes");
    malformed(set("user_data", vec![0xf6]), "user data of 0 bytes");
    malformed(set("user_data", bytes(&[9; 63])), "user data of 63 bytes");
    malformed(set("user_data", bytes(&[9; 513])), "at most 512");
    malformed(set("public_key", bytes(&[9; 1025])), "at most 1024");
    malformed(set("nonce", bytes(&[9; 513])), "at most 512");
    malformed(set("module_id", text("")), "module id");
    malformed(set("module_id", text("i-1\n")), "module id");
    malformed(set("digest", text("SHA256")), "digest other than SHA384");
    malformed(set("timestamp", text("now")), "a number was expected");
    malformed(set("cabundle", item(4, 6)), "at most 5");
}

#[test]
fn registers_are_complete_and_not_those_of_debug_mode() {
    let with = |change: fn(&mut Vec<(usize, Vec<u8>)>)| {
        let mut values = registers();
        change(&mut values);
        set("pcrs", pcrs(&values))
    };
    malformed(with(|values| drop(values.pop())), "no register 15");
    malformed(with(|values| values.push((16, vec![1; 48]))), "at most 16");
    malformed(with(|values| values[15].0 = 16), "register 16 is not known");
    malformed(with(|values| values[15].0 = 3), "register 3 stands twice");
    malformed(with(|values| values[4].1 = vec![1; 47]), "register 4 has 47 bytes");
    malformed(with(|values| values[4].1 = vec![1; 64]), "at most 48");
    for change in [
        (|values| values[..3].iter_mut().for_each(|value| value.1.fill(0))) as fn(&mut Vec<(usize, Vec<u8>)>),
        |values| values[0].1.fill(0),
        |values| values[1].1.fill(0),
        |values| values[2].1.fill(0),
    ] {
        assert_eq!(with(change), Err(AttestError::Debug));
    }
    assert!(with(|values| values[3].1.fill(0)).is_ok());
}

#[test]
fn the_envelope_has_one_form() {
    let good = document(|_| ());
    assert!(judge_now(good.clone()).is_ok());
    let changed = |change: fn(&mut Vec<u8>)| {
        let mut document = good.clone();
        change(&mut document);
        judge_now(document)
    };
    malformed(changed(|document| document[0] = 0x83), "four parts");
    malformed(changed(|document| document[0] = 0xd2), "an array was expected");
    malformed(changed(|document| document[5] = 0x21), "protected header");
    malformed(changed(|document| document[5] = 0x23), "protected header");
    malformed(changed(|document| document[6] = 0xa1), "at most 0");
    malformed(changed(|document| document[7] = 0x5f), "open length");
    assert_eq!(changed(|document| document.push(0)), Err(AttestError::TrailingBytes { what: DOCUMENT }));
    assert_eq!(
        changed(|document| document.truncate(document.len() - 1)),
        Err(AttestError::Truncated { what: DOCUMENT })
    );
    assert_eq!(
        changed(|document| *document.last_mut().unwrap() ^= 1),
        Err(AttestError::BadSignature { what: DOCUMENT })
    );
    let other = signed(&payload(&members(&CHAIN)), &CHAIN[2]);
    assert_eq!(judge_now(other), Err(AttestError::BadSignature { what: DOCUMENT }));
    let trailing = [payload(&members(&CHAIN)), vec![0]].concat();
    assert_eq!(judge_now(signed(&trailing, &CHAIN[3])), Err(AttestError::TrailingBytes { what: DOCUMENT }));
    let (mut short, _) = (good.clone(), good);
    short.truncate(short.len() - 98);
    short.extend(bytes(&[1; 95]));
    assert_eq!(judge_now(short), Err(AttestError::BadSignature { what: DOCUMENT }));
}

#[test]
fn documents_age() {
    let policy = policy_of(&CHAIN[0]);
    let at = |now: UnixTime| judge(document(|_| ()), &policy, now);
    assert!(at(NOW.plus(300)).is_ok());
    assert_eq!(at(NOW.plus(301)), Err(AttestError::DocumentTooOld { what: DOCUMENT, age: 301, limit: 300 }));
    assert!(at(NOW.minus(60)).is_ok());
    assert_eq!(at(NOW.minus(61)), Err(AttestError::FromTheFuture { what: DOCUMENT, seconds: 61 }));
    assert_eq!(at(NOW.plus(3 * HOUR)), Err(AttestError::Expired { what: CERTIFICATE }));
    assert_eq!(at(NOW.minus(2 * HOUR)), Err(AttestError::NotYetValid { what: CERTIFICATE }));
    // The certificates must have been valid when the document was signed, too.
    assert_eq!(
        set("timestamp", number((NOW.0 - 2 * HOUR) * 1000)),
        Err(AttestError::NotYetValid { what: CERTIFICATE })
    );
    assert_eq!(set("timestamp", number(u64::MAX)), Err(AttestError::Expired { what: CERTIFICATE }));
    let mut strict = policy.clone();
    strict.max_document_age = 5;
    assert!(judge(document(|_| ()), &strict, NOW.plus(5)).is_ok());
    assert!(matches!(judge(document(|_| ()), &strict, NOW.plus(6)), Err(AttestError::DocumentTooOld { .. })));
}

#[test]
fn chains_hold_or_are_refused_by_name() {
    let with = |change: fn(&mut [Wish; 4])| {
        let mut wishes = wishes();
        change(&mut wishes);
        let chain = chain(&wishes);
        judge(signed(&payload(&members(&chain)), &chain[3]), &policy_of(&chain[0]), NOW)
    };
    let bad = |result: Result<VerifiedEvidence, AttestError>, part: &str| match result {
        Err(AttestError::BadChain { what: CERTIFICATE, detail }) if detail.contains(part) => {}
        other => panic!("{other:?}, expected a chain refused for `{part}`"),
    };
    assert!(with(|_| ()).is_ok());
    bad(with(|wishes| wishes[3].usages = vec![KeyUsagePurpose::KeyAgreement]), "may not sign");
    bad(with(|wishes| wishes[3].usages = vec![]), "may not sign");
    bad(with(|wishes| wishes[3].authority = Some(BasicConstraints::Unconstrained)), "the leaf is an authority");
    bad(with(|wishes| wishes[2].authority = None), "certificate 1 is no authority");
    bad(with(|wishes| wishes[2].usages = vec![KeyUsagePurpose::DigitalSignature]), "certificate 1 is no authority");
    bad(
        with(|wishes| wishes[1].authority = Some(BasicConstraints::Constrained(0))),
        "certificate 2 allows a shorter path",
    );
    bad(
        with(|wishes| wishes[0].authority = Some(BasicConstraints::Constrained(1))),
        "certificate 3 allows a shorter path",
    );
    bad(
        with(|wishes| {
            let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
            extension.set_criticality(true);
            wishes[1].extensions.push(extension);
        }),
        "critical extension 1.2.3.4",
    );
    assert_eq!(with(|wishes| wishes[1].to = NOW.minus(1)), Err(AttestError::Expired { what: CERTIFICATE }));
    assert_eq!(with(|wishes| wishes[2].from = NOW.plus(1)), Err(AttestError::NotYetValid { what: CERTIFICATE }));

    // Another hierarchy of the same names: the signatures decide, and the root does.
    let other = chain(&wishes());
    let document = signed(&payload(&members(&other)), &other[3]);
    assert!(matches!(judge_now(document), Err(AttestError::WrongRoot { .. })));
    let mixed = [&CHAIN[0], &CHAIN[1], &other[2], &other[3]].map(|issued| issued.der.clone());
    let bundle = |certificates: &[Vec<u8>]| {
        let items = certificates.iter().flat_map(|certificate| bytes(certificate));
        item(4, certificates.len()).into_iter().chain(items).collect::<Vec<u8>>()
    };
    let mut members = members(&other);
    members.iter_mut().find(|member| member.0 == "cabundle").unwrap().1 = bundle(&mixed[..3]);
    assert_eq!(judge_now(signed(&payload(&members), &other[3])), Err(AttestError::BadSignature { what: CERTIFICATE }));
    let (root, zone, instance) = (&CHAIN[0].der, &CHAIN[1].der, &CHAIN[2].der);
    bad(set("cabundle", bundle(&[root.clone(), zone.clone()])), "certificate 0 names another issuer");
    bad(
        set("cabundle", bundle(&[root.clone(), instance.clone(), zone.clone()])),
        "certificate 2 allows a shorter path",
    );
    bad(set("cabundle", bundle(&[])), "1 certificates");
    assert!(matches!(set("cabundle", bundle(&[zone.clone(), instance.clone()])), Err(AttestError::WrongRoot { .. })));
    assert!(matches!(set("certificate", bytes(b"none")), Err(AttestError::Malformed { what: CERTIFICATE, .. })));
}

#[test]
fn policies_judge_nitro_like_any_other_hardware() {
    let policy = policy_of(&CHAIN[0]);
    let good = document(|_| ());
    let mut denied = Policy::preset(Preset::High);
    denied.extra_roots.clone_from(&policy.extra_roots);
    assert_eq!(
        judge(good.clone(), &denied, NOW),
        Err(AttestError::HardwareClassDenied { policy: "high".into(), class: HardwareClass::AwsNitro })
    );
    let listed = policy.clone().with_image("worker", &[tacit_types::Measurement::ZERO]);
    assert!(matches!(judge(good.clone(), &listed, NOW), Err(AttestError::MeasurementNotAllowed { .. })));
    let evidence = Evidence::nitro(good).unwrap();
    let amd = Collateral::Amd(Box::new(AmdCollateral::new(vec![], vec![])));
    assert_eq!(
        verify(&evidence, &amd, &policy, NOW),
        Err(AttestError::CollateralMismatch { evidence: "AWS Nitro", collateral: "AMD" })
    );
    let snp = Evidence::sev_snp(vec![0; 1184]).unwrap();
    assert_eq!(
        verify(&snp, &Collateral::Nitro(NitroCollateral::default()), &policy, NOW),
        Err(AttestError::CollateralMismatch { evidence: "AMD SEV-SNP", collateral: "Nitro" })
    );
    let collateral = Collateral::Nitro(NitroCollateral::default());
    assert!(verify_bound(&evidence, &collateral, &policy, NOW, &[9; 64]).is_ok());
    assert_eq!(verify_bound(&evidence, &collateral, &policy, NOW, &[0; 64]), Err(AttestError::ReportDataMismatch));
}

#[test]
fn the_real_document_names_its_machine() {
    let Some(sample) = sample("aws-nitro") else { return };
    let verified = verify(&sample.evidence, &sample.collateral, &Policy::preset(Preset::Standard), sample.at).unwrap();
    assert_eq!(verified.module_id(), Some("i-0827e799ec9232d44-enc019b55a68bd2ed4b"));
    assert_eq!(verified.signed_at(), Some(UnixTime(1_766_668_537)));
    assert_eq!((verified.nonce(), verified.document_public_key()), (None, None));
    assert_eq!(verified.report_data(), &[0; 64]);
    assert_eq!(verified.root(), VendorRoot::AwsNitro.id());
    let late = verify(&sample.evidence, &sample.collateral, &Policy::preset(Preset::Dev), sample.at.plus(600));
    assert!(matches!(late, Err(AttestError::DocumentTooOld { .. })), "{late:?}");
}
