//! Mistakes that other verifiers made, each as a test of its own: here it is refused, or does no harm.
//!
//! What needs a signature of its own (module identity, vendor of the quoting enclave, attributes) stands in tacit-simulator
//! under the same name, what concerns Nitro and NVIDIA beside their verifiers.

use tacit_attest::samples::Sample;
use tacit_attest::*;

use crate::evidence::{of_samples, sample};

fn tdx() -> Sample {
    sample("intel-tdx-v4").unwrap()
}

fn with_intel(sample: &Sample, change: impl FnOnce(&mut IntelCollateral)) -> Result<VerifiedEvidence, AttestError> {
    let Collateral::Intel(mut collateral) = sample.collateral.clone() else { panic!("an Intel sample") };
    change(&mut collateral);
    verify(&sample.evidence, &Collateral::Intel(collateral), &of_samples(Preset::Dev), sample.at)
}

/// Seen elsewhere: collateral went through a map and came out in another order, and every quote was refused.
#[test]
fn collateral_is_never_read_and_written_again() {
    let tdx = tdx();
    let Collateral::Intel(collateral) = &tdx.collateral else { panic!("an Intel sample") };
    // Our own JSON form carries the text as text.
    let again = Collateral::from_json(&tdx.collateral.to_json()).unwrap();
    assert_eq!(again, tdx.collateral);
    assert!(verify(&tdx.evidence, &again, &of_samples(Preset::Dev), tdx.at).is_ok());
    // The service's answer is taken apart without being rewritten.
    let answer = format!(
        r#"{{"tcbInfo":{},"signature":"{}"}}"#,
        collateral.tcb_info,
        hex::encode(&collateral.tcb_info_signature)
    );
    let (text, signature) = IntelCollateral::signed_part(&answer, "tcbInfo").unwrap();
    assert_eq!((&text, &signature), (&collateral.tcb_info, &collateral.tcb_info_signature));
    // And the mistake itself is refused by name.
    let rewritten = with_intel(&tdx, |collateral| {
        let sorted: std::collections::BTreeMap<String, serde_json::Value> =
            serde_json::from_str(&collateral.tcb_info).unwrap();
        collateral.tcb_info = serde_json::to_string(&sorted).unwrap();
    });
    assert_eq!(rewritten, Err(AttestError::BadSignature { what: "TCB info" }));
}

/// Seen elsewhere: the list came as PEM in one place and as DER in another.
#[test]
fn a_revocation_list_counts_in_each_of_its_forms() {
    use base64::Engine as _;
    let tdx = tdx();
    let pem = |der: &[u8]| {
        let digits = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN X509 CRL-----\n{digits}\n-----END X509 CRL-----\n").into_bytes()
    };
    let as_it_came = with_intel(&tdx, |_| ()).unwrap();
    let as_pem = with_intel(&tdx, |collateral| {
        collateral.pck_crl = pem(&collateral.pck_crl);
        collateral.root_ca_crl = pem(&collateral.root_ca_crl);
    });
    let as_hex = with_intel(&tdx, |collateral| collateral.pck_crl = hex::encode(&collateral.pck_crl).into_bytes());
    assert_eq!((as_pem.as_ref(), as_hex.as_ref()), (Ok(&as_it_came), Ok(&as_it_came)));
    // A service's JSON may hold PEM where others hold hex.
    let Collateral::Intel(collateral) = &tdx.collateral else { panic!("an Intel sample") };
    let mut json = serde_json::to_value(&tdx.collateral).unwrap();
    json["pck_crl"] = String::from_utf8(pem(&collateral.pck_crl)).unwrap().into();
    let read = Collateral::from_json(json.to_string().as_bytes()).unwrap();
    assert!(verify(&tdx.evidence, &read, &of_samples(Preset::Dev), tdx.at).is_ok());
    // In no form does another authority's list pass.
    let swapped = with_intel(&tdx, |collateral| collateral.root_ca_crl = pem(&collateral.pck_crl));
    assert!(matches!(swapped, Err(AttestError::BadSignature { .. })), "{swapped:?}");
}

/// Seen elsewhere: the expiry of TCB info was never looked at.
#[test]
fn expired_tcb_info_is_refused() {
    let tdx = tdx();
    let Collateral::Intel(collateral) = &tdx.collateral else { panic!("an Intel sample") };
    let next: serde_json::Value = serde_json::from_str(&collateral.tcb_info).unwrap();
    assert_eq!(next["nextUpdate"], "2025-07-19T10:16:03Z");
    let at = |now| verify(&tdx.evidence, &tdx.collateral, &of_samples(Preset::Dev), now).map(|_| ());
    let last = tdx.at.plus(29 * 86_400 + 22 * 3_600 + 16 * 60 + 3);
    assert_eq!(last.to_string(), "2025-07-19T10:16:03Z");
    assert_eq!(at(last.plus(1)), Err(AttestError::Expired { what: "TCB info" }));
}

/// Seen elsewhere: an owner could put in collateral that nobody had signed.
#[test]
fn unsigned_collateral_is_refused() {
    let tdx = tdx();
    let changed = with_intel(&tdx, |collateral| {
        collateral.tcb_info = collateral.tcb_info.replace(r#""pcesvn":11"#, r#""pcesvn":10"#);
    });
    assert_eq!(changed, Err(AttestError::BadSignature { what: "TCB info" }));
    for length in [0, 63, 65] {
        let unsigned = with_intel(&tdx, |collateral| collateral.tcb_info_signature = vec![0; length]);
        assert!(unsigned.is_err(), "{length}");
    }
    // Signed by somebody whom the same root certified, but for something else.
    let by_another = with_intel(&tdx, |collateral| {
        collateral.tcb_info_issuer_chain = collateral.pck_crl_issuer_chain.clone();
    });
    assert!(
        matches!(by_another, Err(AttestError::BadSignature { .. } | AttestError::BadChain { .. })),
        "{by_another:?}"
    );
}

/// Seen elsewhere: the identity of the SGX quoting enclave was taken for that of the TDX one.
#[test]
fn the_quoting_enclaves_are_told_apart() {
    let sgx = sample("intel-sgx-v3").unwrap();
    let Collateral::Intel(other) = &sgx.collateral else { panic!("an Intel sample") };
    let mixed = with_intel(&tdx(), |collateral| {
        collateral.qe_identity = other.qe_identity.clone();
        collateral.qe_identity_signature = other.qe_identity_signature.clone();
    });
    assert_eq!(mixed, Err(AttestError::WrongQuotingEnclave { expected: "TD_QE", found: "QE".into() }));
    let Collateral::Intel(other) = &tdx().collateral else { panic!("an Intel sample") };
    let mixed = with_intel(&sgx, |collateral| {
        collateral.qe_identity = other.qe_identity.clone();
        collateral.qe_identity_signature = other.qe_identity_signature.clone();
    });
    assert_eq!(mixed, Err(AttestError::WrongQuotingEnclave { expected: "QE", found: "TD_QE".into() }));
}

/// Seen elsewhere: the vendor of the quoting enclave, which stands in the header, was not looked at.
#[test]
fn another_vendors_quoting_enclave_is_refused() {
    let tdx = tdx();
    let mut document = tdx.evidence.document().to_vec();
    document[12] ^= 1;
    let evidence = Evidence::tdx(document, None).unwrap();
    let refused = verify(&evidence, &tdx.collateral, &of_samples(Preset::Dev), tdx.at);
    assert!(matches!(refused, Err(AttestError::QuotingEnclave(_))), "{refused:?}");
}

/// Seen elsewhere: `isTeeEnabled` returned true whatever stood before it. Here a verdict needs evidence: its type has no
/// constructor, and nothing that is not evidence becomes one.
#[test]
fn nothing_is_not_evidence() {
    let policy = of_samples(Preset::Dev);
    let tdx = tdx();
    for document in [vec![], vec![0; 48], vec![0; 1184], vec![0xff; 5000]] {
        for evidence in
            [Evidence::tdx(document.clone(), None), Evidence::sgx(document.clone()), Evidence::sev_snp(document)]
        {
            let evidence = evidence.unwrap();
            assert!(verify(&evidence, &tdx.collateral, &policy, tdx.at).is_err());
        }
    }
}

/// Seen elsewhere: genuine evidence was accepted whatever keys and nonce it was made for.
#[test]
fn evidence_for_other_keys_or_another_nonce_is_refused() {
    let tdx = tdx();
    let policy = of_samples(Preset::Dev);
    let verified = verify(&tdx.evidence, &tdx.collateral, &policy, tdx.at).unwrap();
    let own = *verified.report_data();
    assert!(verify_bound(&tdx.evidence, &tdx.collateral, &policy, tdx.at, &own).is_ok());
    for at in 0..64 {
        let mut other = own;
        other[at] ^= 1;
        let refused = verify_bound(&tdx.evidence, &tdx.collateral, &policy, tdx.at, &other);
        assert_eq!(refused, Err(AttestError::ReportDataMismatch));
    }
}
