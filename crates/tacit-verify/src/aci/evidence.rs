//! Evidence and collateral out of an attestation report.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tacit_attest::{Collateral, Evidence, Platform};
use tacit_receipt::aci::{AttestationReport, tee_type};

use crate::VerifyError;
use crate::anchor::json_bytes;

/// The evidence in a report: its kind is what `tacit.kind` says, or without it what `tee_type` does.
///
/// # Errors
/// [`VerifyError::Unreadable`] for evidence that is not there or not of a known kind, [`VerifyError::Mismatch`] where kind and
/// `tee_type` differ, [`VerifyError::Evidence`] for parts that are too large.
pub fn evidence_of(report: &AttestationReport) -> Result<Evidence, VerifyError> {
    let unreadable = |what: &str| VerifyError::Unreadable(format!("attestation report: {what}"));
    let (attestation, evidence) = (&report.attestation, &report.attestation.evidence);
    let platform = match &evidence.tacit {
        Some(own) if tee_type(own.kind) != attestation.tee_type => {
            return Err(VerifyError::Mismatch("the report's kind of evidence is not its TEE type"));
        }
        Some(own) => own.kind,
        None => match attestation.tee_type.as_str() {
            "tdx" => Platform::Tdx,
            "sev_snp" => Platform::SevSnp,
            other => return Err(unreadable(&format!("TEE type `{other:.32}`"))),
        },
    };
    let quote = evidence.quote.as_deref().ok_or_else(|| unreadable("it holds no quote"))?;
    let document = hex::decode(quote).map_err(|_| unreadable("the quote is not hex"))?;
    let found = match platform {
        Platform::Tdx => Evidence::tdx(document, evidence.event_log.clone())?,
        Platform::Sgx => Evidence::sgx(document)?,
        Platform::SevSnp => Evidence::sev_snp(document)?,
        Platform::Nitro => Evidence::nitro(document)?,
    };
    match evidence.tacit.as_ref().and_then(|own| own.boot_log.as_deref()) {
        None => Ok(found),
        Some(encoded) => {
            let log = STANDARD.decode(encoded).map_err(|_| unreadable("the boot log is not base64"))?;
            Ok(found.with_boot_log(log)?)
        }
    }
}

/// The collateral that a report carries, if it does.
///
/// # Errors
/// [`VerifyError::Evidence`] for anything but collateral.
pub fn carried_collateral(report: &AttestationReport) -> Result<Option<Collateral>, VerifyError> {
    let own = report.attestation.evidence.tacit.as_ref();
    let carried = own.and_then(|own| own.collateral.as_ref());
    Ok(carried.map(|given| Collateral::from_json(&json_bytes(given))).transpose()?)
}
