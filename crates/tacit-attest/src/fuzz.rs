//! What fuzzers do with hostile bytes: the parsers of this crate as plain functions that may refuse but never panic.
//!
//! `fuzz/` calls them under libFuzzer, `tacit-verify`'s tests with a seeded mutator.

use tacit_types::UnixTime;

use crate::forecast::{MachineProfile, QeIdentity, TcbInfo};
use crate::nvidia::{GpuCollateral, GpuEvidence, GpuPolicy, Manifest, TokenKey, verify_gpus};
use crate::{
    AmdCollateral, Collateral, Evidence, IntelCollateral, IntelParts, NitroCollateral, Platform, Policy, Presence,
    Preset, amd_report, boot_log, der, event_log, intel, nitro, nvidia, revocation, verify,
};

/// A parser, as a fuzzer calls it.
pub type Body = fn(&[u8]);

/// Each parser by name.
pub const BODIES: [(&str, Body); 18] = [
    ("quote", quote),
    ("amd_report", amd_report),
    ("amd_certificate", amd_certificate),
    ("revocation_list", revocation_list),
    ("evidence_json", evidence_json),
    ("collateral_json", collateral_json),
    ("intel_answer", intel_answer),
    ("event_log", event_log),
    ("boot_log", boot_log),
    ("policy_toml", policy_toml),
    ("policy_json", policy_json),
    ("tcb_info", tcb_info),
    ("machine_profile", machine_profile),
    ("nitro_document", nitro_document),
    ("gpu_structures", gpu_structures),
    ("gpu_manifest", gpu_manifest),
    ("gpu_evidence", gpu_evidence),
    ("gpu_collateral", gpu_collateral),
];

const NOW: UnixTime = UnixTime(1_790_000_000);

fn lenient() -> Policy {
    let mut policy = Policy::preset(Preset::Dev);
    policy.snp.crl = Presence::IfPresent;
    policy
}

/// A quote of either kind, with collateral that says nothing.
pub fn quote(bytes: &[u8]) {
    let collateral = Collateral::Intel(Box::new(IntelParts::default().into()));
    for platform in [Platform::Sgx, Platform::Tdx] {
        let _ = intel::parse_quote(platform, bytes);
        if let Ok(evidence) = Evidence::new(platform, bytes.to_vec(), None) {
            assert!(verify(&evidence, &collateral, &lenient(), NOW).is_err(), "nothing vouches for this quote");
            let _ = MachineProfile::of_quote("fuzzed", &evidence, None);
        }
    }
}

/// An SEV-SNP report.
pub fn amd_report(bytes: &[u8]) {
    if let Ok(report) = amd_report::Report::parse(bytes) {
        let _ = (report.check_guest(), report.class_of_processor());
    }
}

/// A certificate, which is also the whole collateral of a report.
pub fn amd_certificate(bytes: &[u8]) {
    let _ = der::certificate_bytes("certificate", bytes).and_then(|bytes| der::certificate("certificate", &bytes));
    let collateral = AmdCollateral::new(bytes.to_vec(), bytes.to_vec()).with_crl(bytes.to_vec());
    let mut document = vec![0; amd_report::REPORT];
    (document[0], document[0x34], document[0x1a0], document[0x188], document[0x189]) = (3, 1, 1, 0x19, 0x11);
    if let Ok(evidence) = Evidence::sev_snp(document) {
        let _ = verify(&evidence, &Collateral::Amd(Box::new(collateral)), &lenient(), NOW);
    }
}

/// A revocation list in any of its forms.
pub fn revocation_list(bytes: &[u8]) {
    let root = crate::VendorRoot::AmdGenoa.certificate();
    if let Ok(root) = der::certificate("ARK certificate", &root) {
        let _ = revocation::RevocationList::verify(bytes, &root, NOW);
    }
}

/// Evidence in JSON.
pub fn evidence_json(bytes: &[u8]) {
    if let Ok(evidence) = Evidence::from_json(bytes) {
        assert_eq!(Evidence::from_json(&evidence.to_json()).as_ref(), Ok(&evidence));
    }
}

/// Collateral in JSON, in our form and in that of DCAP tools.
pub fn collateral_json(bytes: &[u8]) {
    if let Ok(collateral) = Collateral::from_json(bytes) {
        let _ = Collateral::from_json(&collateral.to_json());
    }
    let _ = IntelCollateral::from_dcap_json(bytes);
}

/// What Intel's service answers with.
pub fn intel_answer(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for member in ["tcbInfo", "enclaveIdentity"] {
        if let Ok((part, _)) = IntelCollateral::signed_part(text, member) {
            assert!(text.contains(&part), "a part is never rewritten");
        }
    }
}

/// An event log.
pub fn event_log(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = event_log::check(text, [&[0; 48]; 4]);
}

/// A boot log.
pub fn boot_log(bytes: &[u8]) {
    if let Ok(events) = boot_log::parse(bytes) {
        let _ = boot_log::replay(&events);
    }
}

/// A policy in TOML.
pub fn policy_toml(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(policy) = Policy::from_toml(text)
        && let Ok(canonical) = policy.canonical()
    {
        assert_eq!(Policy::from_json(&canonical).as_ref(), Ok(&policy));
    }
}

/// A policy in JSON.
pub fn policy_json(bytes: &[u8]) {
    if let Ok(policy) = Policy::from_json(bytes)
        && let Ok(canonical) = policy.canonical()
    {
        assert_eq!(Policy::from_json(&canonical).as_ref(), Ok(&policy));
    }
}

/// Intel's documents, read for planning.
pub fn tcb_info(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = QeIdentity::parse(text);
    let Ok(info) = TcbInfo::parse(text) else { return };
    for tee_tcb_svn in [None, Some([3; 16])] {
        let profile = MachineProfile {
            name: String::new(),
            platform: if tee_tcb_svn.is_some() { Platform::Tdx } else { Platform::Sgx },
            fmspc: info.fmspc(),
            cpu_svn: [3; 16],
            pce_svn: 11,
            tee_tcb_svn,
            qe_isv_svn: None,
        };
        let _ = crate::forecast::forecast(&profile, &info, None);
    }
}

/// A machine's recorded numbers.
pub fn machine_profile(bytes: &[u8]) {
    let _ = serde_json::from_slice::<MachineProfile>(bytes);
    let _ = MachineProfile::of_certificate("fuzzed", Platform::Tdx, bytes);
}

/// A Nitro document, its content, and its certificates.
pub fn nitro_document(bytes: &[u8]) {
    nitro::parse_hostile(bytes);
    if let Ok(evidence) = Evidence::nitro(bytes.to_vec()) {
        let _ = verify(
            &evidence,
            &Collateral::Nitro(NitroCollateral::default()),
            &Policy::preset(Preset::Dev),
            UnixTime(1_766_668_537),
        );
    }
}

/// A GPU's report, and the XML of a manifest.
pub fn gpu_structures(bytes: &[u8]) {
    nvidia::parse_hostile(bytes);
}

/// A reference manifest, signature and all.
pub fn gpu_manifest(bytes: &[u8]) {
    let _ = Manifest::verify(bytes, &Policy::preset(Preset::Dev), UnixTime(1_720_000_000));
}

/// The JSON of GPU evidence, judged if it can be read.
pub fn gpu_evidence(bytes: &[u8]) {
    let policy = Policy::preset(Preset::Dev).with_gpu(GpuPolicy::preset(Preset::Dev));
    for evidence in [GpuEvidence::from_json(bytes), GpuEvidence::from_evidence_list(bytes)].into_iter().flatten() {
        let nonce = evidence.items()[0].nonce;
        let _ = verify_gpus(&evidence, &GpuCollateral::default(), &policy, &nonce, UnixTime(1_720_000_000));
    }
}

/// The JSON of GPU collateral, a key set and a policy's demands.
pub fn gpu_collateral(bytes: &[u8]) {
    let _ = GpuCollateral::from_json(bytes);
    let _ = TokenKey::from_jwks("issuer", bytes);
    let _ = Policy::from_json(bytes);
}
