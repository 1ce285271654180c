//! Hostile bytes: an error, never a panic, and never an acceptance.

use proptest::prelude::*;
use tacit_attest::samples::Sample;
use tacit_attest::*;
use tacit_types::UnixTime;

use crate::evidence::{of_samples, samples};

fn policy() -> Policy {
    of_samples(Preset::Dev)
}

fn evidence(platform: Platform, document: Vec<u8>) -> Evidence {
    match platform {
        Platform::Sgx => Evidence::sgx(document),
        Platform::Tdx => Evidence::tdx(document, None),
        Platform::Nitro => Evidence::nitro(document),
        Platform::SevSnp => Evidence::sev_snp(document),
    }
    .unwrap()
}

fn verify_document(sample: &Sample, document: Vec<u8>) -> Result<VerifiedEvidence, AttestError> {
    verify(&evidence(sample.evidence.platform(), document), &sample.collateral, &policy(), sample.at)
}

#[test]
fn no_beginning_of_a_document_is_accepted() {
    for sample in samples() {
        let document = sample.evidence.document();
        let padding = document.iter().rev().take_while(|byte| **byte == 0).count();
        // Without its padding a quote is whole; the PEM inside ends in a NUL that belongs to it.
        for length in (0..document.len() - padding).step_by(7) {
            let refused = verify_document(&sample, document[..length].to_vec());
            assert!(refused.is_err(), "{} at {length}", sample.name);
        }
    }
}

#[test]
fn lengths_inside_a_quote_are_not_believed() {
    let is_quote = |sample: &Sample| matches!(sample.evidence.platform(), Platform::Sgx | Platform::Tdx);
    for sample in samples().into_iter().filter(is_quote) {
        let document = sample.evidence.document();
        // Up to the certificates, which no signature of the quote covers: with a chain in the collateral nobody reads them.
        let certificates = document.windows(10).position(|window| window == b"-----BEGIN").unwrap();
        // Every second 4-byte word becomes a huge length once.
        for at in (0..certificates - 4).step_by(2) {
            let mut changed = document.to_vec();
            changed[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
            if changed != document {
                assert!(verify_document(&sample, changed).is_err(), "{} at {at}", sample.name);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn random_bytes_are_no_evidence(bytes in proptest::collection::vec(any::<u8>(), 0..3000), kind in 0..4usize) {
        let platform = [Platform::Sgx, Platform::Tdx, Platform::SevSnp, Platform::Nitro][kind];
        let evidence = evidence(platform, bytes.clone());
        let intel = Collateral::Intel(Box::new(IntelParts::default().into()));
        let amd = Collateral::Amd(Box::new(AmdCollateral::new(bytes.clone(), bytes.clone())));
        prop_assert!(verify(&evidence, &intel, &policy(), UnixTime(0)).is_err());
        prop_assert!(verify(&evidence, &amd, &policy(), UnixTime(0)).is_err());
        let nitro = Collateral::Nitro(NitroCollateral::default());
        prop_assert!(verify(&evidence, &nitro, &policy(), UnixTime(0)).is_err());
        prop_assert!(Evidence::from_json(&bytes).is_err());
        prop_assert!(Collateral::from_json(&bytes).is_err());
        prop_assert!(Policy::from_json(&bytes).is_err());
        prop_assert!(Policy::from_toml(&String::from_utf8_lossy(&bytes)).is_err());
    }

    #[test]
    fn random_text_is_no_collateral(text in ".{0,400}", which in 0..6usize) {
        let samples = samples();
        let sample = samples.iter().find(|sample| sample.name == "intel-tdx-v4").unwrap();
        let Collateral::Intel(mut collateral) = sample.collateral.clone() else { panic!("an Intel sample") };
        match which {
            0 => collateral.tcb_info = text,
            1 => collateral.qe_identity = text,
            2 => collateral.tcb_info_issuer_chain = text,
            3 => collateral.pck_crl_issuer_chain = text,
            4 => collateral.pck_crl = text.into_bytes(),
            _ => collateral.pck_certificate_chain = Some(text),
        }
        prop_assert!(verify(&sample.evidence, &Collateral::Intel(collateral), &policy(), sample.at).is_err());
    }

    #[test]
    fn several_changed_bytes_are_refused(seed in any::<[u16; 4]>(), values in any::<[u8; 4]>(), which in any::<prop::sample::Index>()) {
        let samples = samples();
        let sample = &samples[which.index(samples.len())];
        let mut document = sample.evidence.document().to_vec();
        // The signed report at the start: no change there may pass.
        let signed = match sample.evidence.platform() {
            Platform::SevSnp => 0x2a0,
            Platform::Sgx | Platform::Tdx => 432,
            Platform::Nitro => document.len(),
        };
        for (at, value) in seed.into_iter().zip(values) {
            document[usize::from(at) % signed] ^= value;
        }
        prop_assume!(document != sample.evidence.document());
        prop_assert!(verify_document(sample, document).is_err());
    }

    #[test]
    fn evidence_and_policies_round_trip(document in proptest::collection::vec(any::<u8>(), 0..500), log in proptest::option::of(".{0,80}"), age in 0..u64::from(u32::MAX)) {
        let evidence = Evidence::tdx(document, log).unwrap();
        prop_assert_eq!(Evidence::from_json(&evidence.to_json()), Ok(evidence));
        let mut policy = policy();
        policy.max_collateral_age = age;
        prop_assert_eq!(Policy::from_toml(&policy.to_toml().unwrap()), Ok(policy.clone()));
        prop_assert_eq!(Policy::from_json(&policy.canonical().unwrap()), Ok(policy));
    }
}
