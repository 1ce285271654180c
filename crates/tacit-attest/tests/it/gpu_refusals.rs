//! GPUs of our own making: one named refusal per check.

use rcgen::KeyUsagePurpose;
use tacit_attest::nvidia::*;
use tacit_attest::*;
use tacit_types::{KeysetDigest, UnixTime};

use crate::authority::Issued;
use crate::gpu_bench::*;

const REPORT: &str = "GPU report";
const CERTIFICATE: &str = "GPU certificate";
const MANIFEST: &str = "reference manifest";

fn judge_at(
    evidence: &GpuEvidence,
    collateral: &GpuCollateral,
    policy: &Policy,
    now: UnixTime,
) -> Result<VerifiedGpus, AttestError> {
    verify_gpus(evidence, collateral, policy, &NONCE, now)
}

/// Whether the GPUs are genuine, their firmware aside.
fn genuine(evidence: &GpuEvidence) -> Result<VerifiedGpus, AttestError> {
    judge_at(evidence, &GpuCollateral::default(), &HOPPER.policy(Preset::Dev), NOW)
}

fn manifests(driver: &ManifestText, vbios: &ManifestText) -> GpuCollateral {
    GpuCollateral::new(vec![HOPPER.manifest(driver), HOPPER.manifest(vbios)], None)
}

fn good_manifests() -> GpuCollateral {
    manifests(&ManifestText::driver("GH100"), &ManifestText::vbios("GH100"))
}

fn with_gpu(change: impl FnOnce(&mut Gpu<'static>)) -> Result<VerifiedGpus, AttestError> {
    let mut gpu = Gpu::hopper(1);
    change(&mut gpu);
    genuine(&gpu.evidence())
}

/// A report that was changed as bytes and then signed.
fn with_report(change: impl FnOnce(&mut Vec<u8>)) -> Result<VerifiedGpus, AttestError> {
    let gpu = Gpu::hopper(1);
    let mut report = gpu.unsigned();
    change(&mut report);
    genuine(&GpuEvidence::new(vec![gpu.item_with(gpu.sign(report))]).unwrap())
}

#[track_caller]
fn malformed(result: Result<impl std::fmt::Debug, AttestError>, what: &str, part: &str) {
    match result {
        Err(AttestError::Malformed { what: found, detail }) if found == what && detail.contains(part) => {}
        other => panic!("{other:?}, expected {what} refused for `{part}`"),
    }
}

#[test]
fn a_good_gpu_says_what_it_is() {
    for (maker, architecture) in [(&*HOPPER, GpuArchitecture::Hopper), (&*BLACKWELL, GpuArchitecture::Blackwell)] {
        let gpu = Gpu::new(maker, architecture, 123);
        let chip = if architecture == GpuArchitecture::Hopper { "GH100" } else { "GB100" };
        let collateral = GpuCollateral::new(
            vec![maker.manifest(&ManifestText::driver(chip)), maker.manifest(&ManifestText::vbios(chip))],
            None,
        );
        for preset in [Preset::Dev, Preset::Standard, Preset::High] {
            let verified = judge_at(&gpu.evidence(), &collateral, &maker.policy(preset), NOW).unwrap();
            assert!(verified.simulated());
            assert_eq!(verified.architecture(), architecture);
            let vouched = preset != Preset::Dev;
            assert_eq!(verified.voucher(), vouched.then_some(Voucher::Manifest));
            let expires = if vouched { NOW.plus(100 * DAY) } else { NOW.plus(9000 * DAY) };
            assert_eq!(verified.expires(), expires);
            assert_eq!(Ok(verified.policy()), maker.policy(preset).hash());
            let mut gpus = verified.gpus();
            let found = gpus.next().unwrap();
            assert_eq!(gpus.len(), 0);
            assert_eq!((found.ueid(), found.model()), ("123", format!("{chip} SIM GSP BROM").as_str()));
            assert_eq!((found.firmware_id(), found.root_name()), (&FWID, "SIM-gpu"));
            assert_eq!(found.report().driver().to_string(), DRIVER);
            assert_eq!(found.report().vbios().to_string(), VBIOS);
            assert_eq!(found.report().vbios_manifest_id(), "NV_GPU_VBIOS_1010_0200_882_96005E0001");
            assert_eq!(found.report().slots().len(), 64);
        }
    }
}

#[test]
fn the_nonce_ties_gpus_to_a_keyset() {
    let (keyset, other) = (KeysetDigest::from([1; 32]), KeysetDigest::from([2; 32]));
    let nonce = gpu_nonce(keyset, b"question");
    assert_ne!(nonce, gpu_nonce(other, b"question"));
    assert_ne!(nonce, gpu_nonce(keyset, b"questions"));
    let mut gpu = Gpu::hopper(1);
    gpu.nonce = nonce;
    let mut item = gpu.item();
    item.nonce = nonce;
    let evidence = GpuEvidence::new(vec![item.clone()]).unwrap();
    let policy = HOPPER.policy(Preset::Dev);
    let judge = |evidence: &GpuEvidence, nonce: [u8; 32]| {
        verify_gpus(evidence, &GpuCollateral::default(), &policy, &nonce, NOW)
    };
    assert!(judge(&evidence, nonce).is_ok());
    assert_eq!(judge(&evidence, gpu_nonce(other, b"question")), Err(AttestError::NonceMismatch));
    item.nonce = [0; 32];
    assert_eq!(judge(&GpuEvidence::new(vec![item]).unwrap(), nonce), Err(AttestError::NonceMismatch));
}

#[test]
fn reports_of_the_wrong_shape() {
    let unsupported = |result: Result<VerifiedGpus, AttestError>, what: &str| {
        assert!(matches!(&result, Err(AttestError::Unsupported { what: found, .. }) if *found == what), "{result:?}");
    };
    assert!(with_report(|_| ()).is_ok());
    for index in 0..4 {
        unsupported(with_gpu(|gpu| gpu.head[index] ^= 1), "SPDM request");
        unsupported(with_gpu(|gpu| gpu.response[index] ^= 1), "SPDM response");
    }
    unsupported(with_report(|report| report[36] = 1), "SPDM slot");
    malformed(with_gpu(|gpu| gpu.slots.clear()), REPORT, "no measurement");
    malformed(with_report(|report| report[45] = 2), REPORT, "measurement 1 does not stand in its place");
    unsupported(with_report(|report| report[46] = 2), "measurement specification");
    malformed(with_report(|report| report[47] = 50), REPORT, "measurement 1 has 48 bytes");
    malformed(with_report(|report| report[50] = 32), REPORT, "measurement 1 has 32 bytes");
    assert_eq!(with_report(|report| report[41] = 63), Err(AttestError::TrailingBytes { what: REPORT }));
    assert_eq!(with_report(|report| report[41] = 65), Err(AttestError::Truncated { what: REPORT }));
    assert_eq!(with_report(|report| report[44] = 1), Err(AttestError::Truncated { what: REPORT }));
    assert_eq!(with_report(|report| report.push(0)), Err(AttestError::TrailingBytes { what: REPORT }));
    assert_eq!(with_report(|report| report.truncate(100)), Err(AttestError::Truncated { what: REPORT }));
    for (kind, name) in [(3, "driver version"), (6, "VBIOS version"), (15, "chip SKU"), (17, "project"), (18, "SKU")] {
        malformed(with_gpu(|gpu| gpu.fields.retain(|field| field.0 != kind)), REPORT, name);
    }
    for index in 0..9 {
        malformed(with_gpu(|gpu| gpu.fields.push(gpu.fields[index].clone())), REPORT, "stands twice");
    }
    let field = |kind: u16, value: &'static [u8]| {
        with_gpu(move |gpu| gpu.fields.iter_mut().find(|field| field.0 == kind).unwrap().1 = value.to_vec())
    };
    malformed(field(3, b"\0"), REPORT, "driver version is no text");
    malformed(field(3, b"5\x01"), REPORT, "driver version is no text");
    malformed(field(3, b"new"), "driver version", "new");
    malformed(field(6, &[1; 7]), REPORT, "VBIOS version of 7 bytes");
    malformed(field(6, &[1; 8]), "VBIOS version", "0101");
    malformed(field(11, &[1]), REPORT, "neither on nor off");
    malformed(field(20, &[1; 32]), REPORT, "firmware id of 32 bytes");
    malformed(field(21, &[]), REPORT, "neither on nor off");
    malformed(with_gpu(|gpu| gpu.fields.extend((200..300).map(|kind| (kind, vec![])))), REPORT, "more than 64 fields");
}

#[test]
fn signatures_and_chains() {
    assert_eq!(
        with_gpu(|gpu| gpu.leaf = gpu.rom.issue(&leaf_wish(GpuArchitecture::Hopper, 2))).map(|_| ()),
        Ok(()),
        "another leaf signs for itself"
    );
    let gpu = Gpu::hopper(1);
    let bad = |item: GpuItem, part: &str| match genuine(&GpuEvidence::new(vec![item]).unwrap()) {
        Err(AttestError::BadChain { what: CERTIFICATE, detail }) if detail.contains(part) => {}
        other => panic!("{other:?}, expected a chain refused for `{part}`"),
    };
    let mut altered = gpu.item();
    *altered.report.last_mut().unwrap() ^= 1;
    assert_eq!(genuine(&GpuEvidence::new(vec![altered]).unwrap()), Err(AttestError::BadSignature { what: REPORT }));
    let (maker, certificates) =
        (&HOPPER, |chain: &[&Issued]| pem(&chain.iter().map(|issued| issued.der.clone()).collect::<Vec<_>>()));
    let with = |chain: &[&Issued]| GpuItem { certificates: certificates(chain), ..gpu.item() };
    bad(with(&[&gpu.leaf, &gpu.rom, &maker.provisioner, &maker.family]), "4 certificates, a GPU's chain has 5");
    let other = Gpu::new(&BLACKWELL, GpuArchitecture::Blackwell, 1);
    let foreign = genuine(&other.evidence());
    assert!(matches!(foreign, Err(AttestError::WrongRoot { .. })), "{foreign:?}");
    // A ROM that another authority certified.
    let rom = maker.family.issue_for(
        &crate::authority::Wish::authority("GH100 SIM GSP BROM", NOW.minus(DAY), NOW.plus(DAY)),
        gpu.rom.key(),
    );
    bad(with(&[&gpu.leaf, &rom, &maker.provisioner, &maker.family, &maker.root]), "certificate 1 names another issuer");
    let mut padded = gpu.item();
    padded.certificates.splice(0..0, *b"more text\n");
    assert_eq!(
        genuine(&GpuEvidence::new(vec![padded]).unwrap()),
        Err(AttestError::TrailingBytes { what: CERTIFICATE })
    );
    let leaf = |change: fn(&mut crate::authority::Wish)| {
        let mut wish = leaf_wish(GpuArchitecture::Hopper, 1);
        change(&mut wish);
        with_gpu(|gpu| gpu.leaf = gpu.rom.issue(&wish))
    };
    assert!(leaf(|_| ()).is_ok());
    assert!(matches!(
        leaf(|wish| wish.usages = vec![KeyUsagePurpose::KeyAgreement]),
        Err(AttestError::BadChain { what: CERTIFICATE, .. })
    ));
    assert_eq!(leaf(|wish| wish.to = NOW.minus(1)), Err(AttestError::Expired { what: CERTIFICATE }));
    assert_eq!(leaf(|wish| wish.from = NOW.plus(1)), Err(AttestError::NotYetValid { what: CERTIFICATE }));
    malformed(leaf(|wish| wish.extensions.clear()), CERTIFICATE, "not exactly one firmware id");
    malformed(
        leaf(|wish| wish.extensions = vec![firmware_extension(GpuArchitecture::Blackwell)]),
        CERTIFICATE,
        "of another architecture",
    );
    malformed(
        leaf(|wish| wish.extensions.push(firmware_extension(GpuArchitecture::Blackwell))),
        CERTIFICATE,
        "not exactly one firmware id",
    );
    let field = |value: Option<[u8; 48]>| {
        with_gpu(move |gpu| {
            gpu.fields.retain(|field| field.0 != 20);
            gpu.fields.extend(value.map(|value| (20, value.to_vec())));
        })
    };
    assert_eq!(field(Some([1; 48])), Err(GpuError::FirmwareIdMismatch.into()));
    assert!(field(None).is_ok(), "old reports do not state it");
    assert_eq!(
        with_gpu(|gpu| gpu.architecture = GpuArchitecture::Blackwell),
        Err(GpuError::ArchitectureMismatch { said: GpuArchitecture::Blackwell, found: "GH100".into() }.into())
    );
    let named = |name: &'static str| {
        with_gpu(move |gpu| {
            gpu.rom = HOPPER.provisioner.issue(&crate::authority::Wish::authority(name, NOW.minus(DAY), NOW.plus(DAY)));
            gpu.leaf = gpu.rom.issue(&leaf_wish(GpuArchitecture::Hopper, 1));
        })
    };
    assert!(matches!(named("GR100 SIM"), Err(AttestError::Gpu(GpuError::ArchitectureMismatch { .. }))));
    // A Blackwell chip below the authority of Hoppers.
    let mixed = Gpu::new(&HOPPER, GpuArchitecture::Blackwell, 1);
    bad(mixed.item(), "an authority of another architecture");
}

#[test]
fn several_gpus_are_distinct_and_alike() {
    let (one, two) = (Gpu::hopper(1), Gpu::hopper(2));
    let both = GpuEvidence::new(vec![one.item(), two.item()]).unwrap();
    assert_eq!(genuine(&both).unwrap().gpus().len(), 2);
    let duplicate = |items: Vec<GpuItem>| {
        let result = genuine(&GpuEvidence::new(items).unwrap());
        assert!(matches!(result, Err(AttestError::Gpu(GpuError::Duplicate { .. }))), "{result:?}");
    };
    duplicate(vec![one.item(), two.item(), one.item()]);
    // One chip with two leaves, and two chips whose leaves bear one number.
    let mut again = Gpu::hopper(3);
    again.rom = HOPPER.provisioner.issue_for(
        &crate::authority::Wish::authority("GH100 SIM GSP BROM", NOW.minus(DAY), NOW.plus(DAY)),
        one.rom.key(),
    );
    again.leaf = again.rom.issue(&leaf_wish(GpuArchitecture::Hopper, 3));
    duplicate(vec![one.item(), again.item()]);
    duplicate(vec![one.item(), Gpu::hopper(1).item()]);

    let mut policy = HOPPER.policy(Preset::Dev);
    policy
        .extra_roots
        .push(ExtraRoot::simulated("SIM-gpu-2", Vendor::NvidiaDevice, BLACKWELL.root.der.clone()).unwrap());
    let mixed = GpuEvidence::new(vec![one.item(), Gpu::new(&BLACKWELL, GpuArchitecture::Blackwell, 9).item()]).unwrap();
    assert_eq!(judge_at(&mixed, &GpuCollateral::default(), &policy, NOW), Err(GpuError::MixedArchitectures.into()));
    malformed(GpuEvidence::new(vec![]), "GPU evidence", "no GPU");
    malformed(GpuEvidence::new(vec![one.item(); 17]), "GPU evidence", "more than 16");
    let large = GpuItem { report: vec![0; MAX_REPORT + 1], ..one.item() };
    assert!(matches!(GpuEvidence::new(vec![large]), Err(AttestError::Oversized { .. })));
}

#[test]
fn demands_of_a_policy() {
    let gpu = Gpu::hopper(1);
    let evidence = gpu.evidence();
    let under = |change: fn(&mut GpuPolicy)| {
        let mut policy = HOPPER.policy(Preset::Dev);
        change(policy.gpu.as_mut().unwrap());
        judge_at(&evidence, &GpuCollateral::default(), &policy, NOW)
    };
    let version = |text: &str| text.parse::<VbiosVersion>().unwrap();
    assert!(under(|gpu| gpu.count = 1).is_ok());
    assert_eq!(under(|gpu| gpu.count = 2), Err(GpuError::Count { found: 1, expected: 2 }.into()));
    assert_eq!(
        under(|gpu| gpu.architectures = vec![GpuArchitecture::Blackwell]),
        Err(GpuError::ArchitectureDenied { found: GpuArchitecture::Hopper }.into())
    );
    assert!(under(|gpu| gpu.minimum_driver = Some(DRIVER.parse().unwrap())).is_ok());
    assert_eq!(
        under(|gpu| gpu.minimum_driver = Some("575.32.02".parse().unwrap())),
        Err(GpuError::DriverTooOld { found: DRIVER.parse().unwrap(), minimum: "575.32.02".parse().unwrap() }.into())
    );
    let vbios_since = |architecture: GpuArchitecture, minimum: &str| {
        let mut policy = HOPPER.policy(Preset::Dev);
        policy.gpu.as_mut().unwrap().minimum_vbios.insert(architecture, version(minimum));
        judge_at(&evidence, &GpuCollateral::default(), &policy, NOW)
    };
    assert!(vbios_since(GpuArchitecture::Hopper, VBIOS).is_ok());
    assert!(vbios_since(GpuArchitecture::Blackwell, "99.00.00.00.00").is_ok());
    assert_eq!(
        vbios_since(GpuArchitecture::Hopper, "96.00.5E.00.02"),
        Err(GpuError::VbiosTooOld { found: version(VBIOS), minimum: version("96.00.5E.00.02") }.into())
    );
    let id = genuine(&evidence).unwrap().gpus().next().unwrap().id();
    let mut policy = HOPPER.policy(Preset::Dev);
    policy.gpu.as_mut().unwrap().denied = vec![id];
    assert_eq!(
        judge_at(&evidence, &GpuCollateral::default(), &policy, NOW),
        Err(GpuError::Denied { gpu: id.to_string() }.into())
    );
    policy.gpu = None;
    assert_eq!(judge_at(&evidence, &GpuCollateral::default(), &policy, NOW), Err(GpuError::NotInPolicy.into()));

    assert_eq!(require_gpus(&policy, None), Ok(()));
    let mut demanding = HOPPER.policy(Preset::Dev);
    assert_eq!(require_gpus(&demanding, None), Ok(()));
    demanding.gpu.as_mut().unwrap().required = true;
    assert_eq!(require_gpus(&demanding, None), Err(GpuError::Missing.into()));
    assert_eq!(require_gpus(&demanding, Some(&genuine(&evidence).unwrap())), Ok(()));
}

#[test]
fn manifests_vouch_or_are_refused_by_name() {
    let gpu = Gpu::hopper(1);
    let standard = HOPPER.policy(Preset::Standard);
    let judge = |collateral: &GpuCollateral| judge_at(&gpu.evidence(), collateral, &standard, NOW);
    let (driver, vbios) = (ManifestText::driver("GH100"), ManifestText::vbios("GH100"));
    assert!(judge(&good_manifests()).is_ok());
    assert_eq!(judge(&GpuCollateral::default()), Err(GpuError::NotVouchedFor.into()));

    let missing = |what, version: &str| {
        AttestError::from(GpuError::NoManifest { what, version: version.into(), chip: "GH100".into() })
    };
    let only = |manifest: &ManifestText| judge(&GpuCollateral::new(vec![HOPPER.manifest(manifest)], None));
    assert_eq!(only(&driver), Err(missing("VBIOS", VBIOS)));
    assert_eq!(only(&vbios), Err(missing("driver", DRIVER)));
    let change = |manifest: &ManifestText, change: fn(&mut ManifestText)| {
        let mut manifest = manifest.clone();
        change(&mut manifest);
        manifest
    };
    let other_version = change(&driver, |manifest| manifest.version = "575.32.02".into());
    assert_eq!(judge(&manifests(&other_version, &vbios)), Err(missing("driver", DRIVER)));
    let other_chip = change(&driver, |manifest| manifest.chip = "GB100".into());
    assert_eq!(judge(&manifests(&other_chip, &vbios)), Err(missing("driver", DRIVER)));

    let slots = |what, slots: &[u16]| AttestError::from(GpuError::SlotsDiffer { what, slots: slots.to_vec() });
    let two = change(&driver, |manifest| {
        manifest.slots[3].2 = vec![[0; 48]];
        manifest.slots[9].2 = vec![[0; 48], [1; 48]];
    });
    assert_eq!(judge(&manifests(&two, &vbios)), Err(slots("driver", &[3, 9])));
    let more = change(&vbios, |manifest| manifest.slots.push((64, true, vec![[0; 48]])));
    assert_eq!(judge(&manifests(&driver, &more)), Err(slots("VBIOS", &[64])));
    // Several manifests of one version: one that matches is enough.
    let several = GpuCollateral::new([&two, &driver, &vbios].map(|manifest| HOPPER.manifest(manifest)).to_vec(), None);
    assert!(judge(&several).is_ok());
    let conflict = change(&vbios, |manifest| manifest.slots[7].1 = true);
    assert_eq!(judge(&manifests(&driver, &conflict)), Err(GpuError::SlotConflict { slot: 7 }.into()));

    // Slot 35 counts unless the decoder is off.
    let decoder = change(&vbios, |manifest| manifest.slots[35].2 = vec![[0; 48]]);
    assert_eq!(judge(&manifests(&driver, &decoder)), Err(slots("VBIOS", &[35])));
    let mut off = Gpu::hopper(1);
    off.fields.iter_mut().find(|field| field.0 == 11).unwrap().1 = vec![0x55];
    assert!(judge_at(&off.evidence(), &manifests(&driver, &decoder), &standard, NOW).is_ok());
    off.fields.retain(|field| field.0 != 11);
    assert_eq!(judge_at(&off.evidence(), &manifests(&driver, &decoder), &standard, NOW), Err(slots("VBIOS", &[35])));
    let many = GpuCollateral::new(vec![HOPPER.manifest(&driver); 9], None);
    malformed(judge(&many), "GPU collateral", "more than 8");
    assert_eq!(
        judge_at(&gpu.evidence(), &good_manifests(), &standard, NOW.plus(101 * DAY)),
        Err(AttestError::Expired { what: "manifest certificate" })
    );
}

#[test]
fn manifest_documents_have_one_form() {
    let policy = HOPPER.policy(Preset::Standard);
    let verify = |bytes: &[u8]| Manifest::verify(bytes, &policy, NOW);
    let (front, back) = ManifestText::driver("GH100").canonical();
    let chain = [&HOPPER.manifest_signer, &HOPPER.manifest_root];
    let signed = |front: &str, info: &str| sign_document(front, &back, info, &HOPPER.manifest_signer, &chain);
    let good = signed(&front, &signed_info());
    let manifest = verify(&good).unwrap();
    assert_eq!((manifest.version(), manifest.chip(), manifest.tag()), (DRIVER, "GH100", "0123"));
    assert_eq!(manifest.active_slots().count(), 32);
    assert!(manifest.simulated());

    // Content that is signed, but is not what a manifest may say.
    let content = |from: &str, to: &str| {
        assert!(front.contains(from), "{from}");
        verify(&signed(&front.replacen(from, to, 1), &signed_info()))
    };
    let refuse = |from: &str, to: &str, part: &str| malformed(content(from, to), MANIFEST, part);
    refuse("product=\"GH100\"", "product=\"GB100\"", "different chips");
    refuse(" product=\"GH100\"", "", "no good attribute product");
    refuse(DRIVER, "", "no good attribute colloquialVersion");
    refuse(" tagId=\"0123\"", "", "no good attribute tagId");
    refuse("index=\"1\"", "index=\"0\"", "slot 0 stands twice");
    refuse("index=\"1\"", "index=\"-1\"", "index of a slot is no number");
    refuse("active=\"True\"", "active=\"true\"", "neither active nor inactive");
    refuse("alternatives=\"2\"", "alternatives=\"1\"", "another number of values");
    refuse("size=\"48\"", "size=\"32\"", "no measurement of 48 bytes");
    refuse("type=\"Measurement\"", "type=\"Opaque\"", "no measurement of 48 bytes");
    refuse("name=\"m\"", "more=\"m\"", "attributes that are not known");
    refuse("ns2:Hash1=\"01", "ns2:Hash1=\"zz", "no SHA-384");
    refuse("ns2:Hash1=", "ns2:Hash2=", "no SHA-384");
    refuse("    <ns0:Payload", "    <ns0:Other></ns0:Other>\n    <ns0:Payload", "not known here");
    refuse("    <ns0:Payload", "    <ns0:Meta></ns0:Meta>\n    <ns0:Payload", "stands twice");
    malformed(
        verify(&signed(&front.replace("active=\"True\"", "active=\"False\""), &signed_info())),
        MANIFEST,
        "no active slot",
    );

    // A signature over something else, or by other means.
    let info = |from: &str, to: &str, part: &str| {
        assert!(signed_info().contains(from), "{from}");
        malformed(verify(&signed(&front, &signed_info().replacen(from, to, 1))), MANIFEST, part);
    };
    info("xml-c14n11", "xml-exc-c14n#", "CanonicalizationMethod is not");
    info("ecdsa-sha384", "rsa-sha1", "SignatureMethod is not");
    info("URI=\"\"", "URI=\"#part\"", "something else than the document");
    info("URI=\"\"", "Id=\"r\" URI=\"\"", "something else than the document");
    info("enveloped-signature", "base64", "Transform is not");
    info("more#sha384", "more#sha224", "DigestMethod is not");
    info("<ds:Transform ", "<ds:Transform Algorithm=\"x\"></ds:Transform><ds:Transform ", "other parts");
    info("DIGEST", "D*", "not base64");
    info("DIGEST", "DIGEST<ds:X></ds:X>", "not plain text");
    let digest = signed(&front, &signed_info().replace("DIGEST", "AAAA"));
    assert_eq!(verify(&digest), Err(AttestError::BadSignature { what: MANIFEST }));

    let text = String::from_utf8(good).unwrap();
    let changed = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        verify(text.replacen(from, to, 1).as_bytes())
    };
    assert_eq!(changed("name=\"m\"", "name=\"n\""), Err(AttestError::BadSignature { what: MANIFEST }));
    malformed(changed("<ds:KeyInfo>", "<ds:Object></ds:Object><ds:KeyInfo>"), MANIFEST, "other parts");
    malformed(changed("<ds:KeyInfo>", "text<ds:KeyInfo>"), MANIFEST, "stray text");
    malformed(changed("<ds:X509Certificate>", "<ds:X509CRL></ds:X509CRL><ds:X509Certificate>"), MANIFEST, "key data");
    let second = "<ds:Signature xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\"></ds:Signature></ns0:Payload>";
    malformed(changed("</ns0:Payload>", second), MANIFEST, "not exactly one signature");
    malformed(
        verify(front.replace("    </ns0:Payload>\n", "</ns0:Payload></SoftwareIdentity>").as_bytes()),
        MANIFEST,
        "not exactly one signature",
    );
    malformed(verify(b"<?xml version=\"1.0\"?><!DOCTYPE a><a/>"), "manifest XML", "");
    malformed(verify(&[0xff]), MANIFEST, "UTF-8");
    assert!(matches!(verify(&vec![b' '; MAX_MANIFEST + 1]), Err(AttestError::Oversized { what: MANIFEST, .. })));

    // Another's signature, and a root that the policy does not name for manifests.
    let other = ManifestText::driver("GH100").signed(&BLACKWELL.manifest_signer, &chain);
    assert_eq!(verify(&other), Err(AttestError::BadSignature { what: MANIFEST }));
    let foreign = BLACKWELL.manifest(&ManifestText::driver("GH100"));
    assert!(matches!(verify(&foreign), Err(AttestError::WrongRoot { .. })));
    let wish = crate::authority::Wish::leaf("SIMULATED device as signer", NOW.minus(DAY), NOW.plus(DAY));
    let device = HOPPER.root.issue(&wish);
    let under_device = ManifestText::driver("GH100").signed(&device, &[&device, &HOPPER.root]);
    assert!(matches!(verify(&under_device), Err(AttestError::WrongRoot { .. })));
}

#[test]
fn evidence_and_collateral_have_one_json_form() {
    let evidence = Gpu::hopper(1).evidence();
    let json = evidence.to_json();
    assert_eq!(GpuEvidence::from_json(&json), Ok(evidence.clone()));
    let text = String::from_utf8(json).unwrap();
    let list = text.strip_prefix("{\"version\":1,\"evidenceList\":").and_then(|text| text.strip_suffix('}')).unwrap();
    assert_eq!(GpuEvidence::from_evidence_list(list.as_bytes()), Ok(evidence));
    let refuse = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        let result = GpuEvidence::from_json(text.replacen(from, to, 1).as_bytes());
        assert!(matches!(result, Err(AttestError::Malformed { .. })), "{result:?}");
    };
    refuse("\"version\":1", "\"version\":2");
    refuse("HOPPER", "LS10");
    refuse("\"nonce\":\"42", "\"nonce\":\"");
    refuse("\"nonce\"", "\"more\":1,\"nonce\"");
    refuse("\"certificate\":\"", "\"certificate\":\"*");
    refuse("\"evidence\":\"", "\"evidence\":\"*");
    let collateral = good_manifests();
    assert_eq!(GpuCollateral::from_json(&collateral.to_json()), Ok(collateral));
    assert!(GpuCollateral::from_json(br#"{"version":1,"manifests":[],"more":1}"#).is_err());
    assert!(GpuCollateral::from_json(&vec![b' '; MAX_JSON + 1]).is_err());
}
