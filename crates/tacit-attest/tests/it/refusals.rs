//! One named refusal per check, on real evidence. What needs a signature of its own stands in tacit-simulator.

use tacit_attest::samples::Sample;
use tacit_attest::*;
use tacit_types::ChipId;

use crate::evidence::{of_samples, sample};

fn tdx() -> Sample {
    sample("intel-tdx-v4").unwrap()
}

fn sgx() -> Sample {
    sample("intel-sgx-v3").unwrap()
}

fn any_real() -> Policy {
    of_samples(Preset::Dev)
}

fn intel(collateral: &Collateral) -> IntelCollateral {
    match collateral {
        Collateral::Intel(intel) => (**intel).clone(),
        _ => panic!("an Intel sample"),
    }
}

fn amd(collateral: &Collateral) -> AmdCollateral {
    match collateral {
        Collateral::Amd(amd) => (**amd).clone(),
        _ => panic!("an AMD sample"),
    }
}

/// Verifies a sample after a change of its collateral.
fn with_intel(sample: &Sample, change: impl FnOnce(&mut IntelCollateral)) -> Result<VerifiedEvidence, AttestError> {
    let mut collateral = intel(&sample.collateral);
    change(&mut collateral);
    verify(&sample.evidence, &Collateral::Intel(Box::new(collateral)), &any_real(), sample.at)
}

fn with_amd(sample: &Sample, change: impl FnOnce(&mut AmdCollateral)) -> Result<VerifiedEvidence, AttestError> {
    let mut collateral = amd(&sample.collateral);
    change(&mut collateral);
    verify(&sample.evidence, &Collateral::Amd(Box::new(collateral)), &any_real(), sample.at)
}

/// Verifies a sample after a change of its quote or report.
fn with_document(sample: &Sample, change: impl FnOnce(&mut Vec<u8>)) -> Result<VerifiedEvidence, AttestError> {
    let mut document = sample.evidence.document().to_vec();
    change(&mut document);
    let evidence = match sample.evidence.platform() {
        Platform::Sgx => Evidence::sgx(document),
        Platform::Tdx => Evidence::tdx(document, None),
        Platform::Nitro => Evidence::nitro(document),
        Platform::SevSnp => Evidence::sev_snp(document),
    };
    verify(&evidence.unwrap(), &sample.collateral, &any_real(), sample.at)
}

#[test]
fn quotes_of_the_wrong_shape() {
    for sample in [tdx(), sgx()] {
        let check =
            |change: fn(&mut Vec<u8>), expected: AttestError| assert_eq!(with_document(&sample, change), Err(expected));
        check(|quote| quote.truncate(20), AttestError::Truncated { what: "quote header" });
        check(|quote| quote.truncate(300), AttestError::Truncated { what: "quote" });
        check(|quote| quote.truncate(1200), AttestError::Truncated { what: "quote" });
        check(|quote| quote.push(1), AttestError::TrailingBytes { what: "quote" });
        check(|quote| quote[0] = 9, AttestError::Unsupported { what: "quote version", found: 9 });
        check(|quote| quote[4] = 0x82, AttestError::Unsupported { what: "TEE type", found: 0x82 });
        assert!(with_document(&sample, |quote| quote.extend_from_slice(&[0; 64])).is_ok(), "a buffer of fixed size");
    }
}

#[test]
fn kinds_that_do_not_belong_together() {
    let (tdx, sgx) = (tdx(), sgx());
    let said_sgx = Evidence::sgx(tdx.evidence.document().to_vec()).unwrap();
    assert_eq!(
        verify(&said_sgx, &tdx.collateral, &any_real(), tdx.at),
        Err(AttestError::KindMismatch { said: "Intel SGX", found: "Intel TDX" })
    );
    let amd = Collateral::Amd(Box::new(AmdCollateral::new(vec![], vec![])));
    assert_eq!(
        verify(&tdx.evidence, &amd, &any_real(), tdx.at),
        Err(AttestError::CollateralMismatch { evidence: "Intel TDX", collateral: "AMD" })
    );
    assert_eq!(
        verify(&tdx.evidence, &sgx.collateral, &any_real(), tdx.at),
        Err(AttestError::WrongTcbInfo { expected: "TDX", found: "SGX".into() })
    );
    let other = intel(&sgx.collateral);
    // Both are signed by Intel on the same day: only their kind tells them apart.
    assert_eq!(
        with_intel(&tdx, |collateral| {
            collateral.qe_identity = other.qe_identity.clone();
            collateral.qe_identity_signature = other.qe_identity_signature.clone();
        }),
        Err(AttestError::WrongQuotingEnclave { expected: "TD_QE", found: "QE".into() })
    );
    let nitro = serde_json::json!({ "version": 1, "kind": "nitro", "document": "" }).to_string();
    let nitro = Evidence::from_json(nitro.as_bytes()).unwrap();
    assert_eq!(
        verify(&nitro, &tdx.collateral, &any_real(), tdx.at),
        Err(AttestError::CollateralMismatch { evidence: "AWS Nitro", collateral: "Intel" })
    );
}

#[test]
fn collateral_that_is_not_what_intel_signed() {
    let tdx = tdx();
    // Through a map and back: the same facts in another order.
    assert_eq!(
        with_intel(&tdx, |collateral| {
            let facts: std::collections::BTreeMap<String, serde_json::Value> =
                serde_json::from_str(&collateral.tcb_info).unwrap();
            collateral.tcb_info = serde_json::to_string(&facts).unwrap();
        }),
        Err(AttestError::BadSignature { what: "TCB info" })
    );
    assert_eq!(
        with_intel(&tdx, |collateral| collateral.qe_identity.push(' ')),
        Err(AttestError::BadSignature { what: "QE identity" })
    );
    assert_eq!(
        with_intel(&tdx, |collateral| collateral.tcb_info = collateral.tcb_info.replace("UpToDate", "OutOfDat")),
        Err(AttestError::Malformed {
            what: "TCB info",
            detail: match with_intel(&tdx, |collateral| collateral.tcb_info =
                collateral.tcb_info.replace("UpToDate", "OutOfDat"))
            {
                Err(AttestError::Malformed { detail, .. }) => detail,
                other => panic!("{other:?}"),
            }
        })
    );
    // A revocation list in PEM where DER belongs, and one that is another authority's.
    let pem = with_intel(&tdx, |collateral| collateral.root_ca_crl = b"-----BEGIN X509 CRL-----".to_vec());
    assert!(matches!(pem, Err(AttestError::Malformed { what: "root CRL", .. })), "{pem:?}");
    let swapped = with_intel(&tdx, |collateral| collateral.root_ca_crl = collateral.pck_crl.clone());
    assert!(matches!(swapped, Err(AttestError::BadSignature { .. })), "{swapped:?}");
    let chain =
        with_intel(&tdx, |collateral| collateral.pck_crl_issuer_chain = collateral.tcb_info_issuer_chain.clone());
    assert!(matches!(chain, Err(AttestError::BadChain { what: "PCK CRL", .. })), "{chain:?}");
    assert!(matches!(
        with_intel(&tdx, |collateral| collateral.tcb_info = "x".repeat(MAX_COLLATERAL_PART + 1)),
        Err(AttestError::Oversized { what: "TCB info", .. })
    ));
    let nested = with_intel(&tdx, |collateral| collateral.tcb_info = "[".repeat(100_000));
    assert!(matches!(nested, Err(AttestError::Malformed { what: "TCB info", .. })), "{nested:?}");
}

#[test]
fn another_machines_certificate() {
    let (tdx, newer) = (tdx(), sample("intel-tdx-v5").unwrap());
    let foreign = intel(&newer.collateral).pck_certificate_chain.unwrap();
    let refused = with_intel(&tdx, |collateral| collateral.pck_certificate_chain = Some(foreign));
    // Another chip's key did not sign this quote, whatever else is true of it.
    assert!(
        matches!(
            refused,
            Err(AttestError::BadSignature { what: "quoting enclave report" }
                | AttestError::NotYetValid { .. }
                | AttestError::BadChain { .. })
        ),
        "{refused:?}"
    );
}

#[test]
fn parts_of_two_chips_do_not_mix() {
    let (Some(milan), Some(genoa)) = (sample("amd-milan"), sample("amd-genoa")) else { return };
    let older = sample("amd-milan-v2").unwrap();
    assert_eq!(
        with_amd(&milan, |collateral| collateral.vcek = amd(&older.collateral).vcek),
        Err(AttestError::BadSignature { what: "SEV-SNP report" })
    );
    let generations = with_amd(&milan, |collateral| collateral.vcek = amd(&genoa.collateral).vcek);
    assert!(matches!(generations, Err(AttestError::BadChain { what: "VCEK certificate", .. })), "{generations:?}");
    let mut only_milan = any_real();
    only_milan.roots = vec![VendorRoot::AmdMilan];
    let refused = verify(&genoa.evidence, &genoa.collateral, &only_milan, genoa.at);
    assert!(matches!(refused, Err(AttestError::WrongRoot { .. })), "{refused:?}");
    // The chip's own key is no authority.
    let promoted = with_amd(&milan, |collateral| collateral.ask = collateral.vcek.clone());
    assert!(matches!(promoted, Err(AttestError::WrongRoot { .. })), "{promoted:?}");
}

#[test]
fn reports_of_the_wrong_shape() {
    let sample = sample("amd-milan-v2").unwrap();
    let check =
        |change: fn(&mut Vec<u8>), expected: AttestError| assert_eq!(with_document(&sample, change), Err(expected));
    let report = "SEV-SNP report";
    check(|bytes| bytes.truncate(1183), AttestError::Truncated { what: report });
    check(|bytes| bytes.push(0), AttestError::TrailingBytes { what: report });
    check(|bytes| bytes[0] = 6, AttestError::Unsupported { what: "report version", found: 6 });
    check(|bytes| bytes[0x34] = 2, AttestError::Unsupported { what: "signature algorithm", found: 2 });
    check(|bytes| bytes[0x48] = 1 << 2, AttestError::BadSignature { what: report });
    check(|bytes| bytes[0x48] = 2 << 2, AttestError::Unsupported { what: "signing key", found: 2 });
    check(|bytes| bytes[0x48] = 1 << 1, AttestError::MaskedChip);
    check(|bytes| bytes[0x1a0..0x1e0].fill(0), AttestError::MaskedChip);
    check(|bytes| bytes[0x4c] = 1, AttestError::TrailingBytes { what: report });
    check(|bytes| bytes[0x2a0 + 60] = 1, AttestError::TrailingBytes { what: report });
    check(|bytes| bytes[0x90] ^= 1, AttestError::BadSignature { what: report });
    check(|bytes| bytes[0x2a0..0x2a0 + 48].fill(0), AttestError::BadSignature { what: report });
    for part in ["ask", "vcek"] {
        let refused = with_amd(&sample, |collateral| match part {
            "ask" => collateral.ask.push(0),
            _ => collateral.vcek.push(0),
        });
        assert!(
            matches!(refused, Err(AttestError::Malformed { .. } | AttestError::TrailingBytes { .. })),
            "{refused:?}"
        );
    }
}

#[test]
fn what_a_policy_says_about_real_hardware() {
    let Some(genoa) = sample("amd-genoa") else { return };
    let under = |change: fn(&mut Policy)| {
        let mut policy = any_real();
        change(&mut policy);
        verify(&genoa.evidence, &genoa.collateral, &policy, genoa.at)
    };
    let minimum =
        |microcode| SnpMinimum { class: HardwareClass::EpycGenoa, fmc: 0, bootloader: 10, tee: 0, snp: 23, microcode };
    let mut policy = any_real();
    policy.tcb.snp_minimum = vec![minimum(84)];
    assert!(verify(&genoa.evidence, &genoa.collateral, &policy, genoa.at).is_ok());
    policy.tcb.snp_minimum = vec![minimum(85)];
    assert_eq!(
        verify(&genoa.evidence, &genoa.collateral, &policy, genoa.at),
        Err(AttestError::TcbTooLow { policy: "dev".into(), status: TcbStatus::UpToDate })
    );
    assert!(matches!(under(|policy| policy.chips.allow = vec![ChipId::ZERO]), Err(AttestError::ChipDenied { .. })));
    let listed = under(|policy| *policy = policy.clone().with_image("worker", &[tacit_types::Measurement::ZERO]));
    assert!(matches!(listed, Err(AttestError::MeasurementNotAllowed { .. })));
    let sgx = sgx();
    let high = Policy::preset(Preset::High);
    assert_eq!(
        verify(&sgx.evidence, &sgx.collateral, &high, sgx.at),
        Err(AttestError::HardwareClassDenied { policy: "high".into(), class: HardwareClass::IntelSgx })
    );
    let mut advisories = any_real();
    advisories.tcb.denied_advisories = vec!["INTEL-SA-00615".into()];
    assert_eq!(
        verify(&sgx.evidence, &sgx.collateral, &advisories, sgx.at),
        Err(AttestError::AdvisoryDenied { id: "INTEL-SA-00615".into() })
    );
}
