#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod amd;
mod amd_report;
pub mod bench;
pub mod boot_log;
mod cbor;
mod demands;
mod der;
mod diversity;
mod error;
pub mod event_log;
mod evidence;
pub mod forecast;
pub mod fuzz;
mod intel;
mod nitro;
pub mod nvidia;
mod path;
mod policy;
mod revocation;
mod root;
pub mod samples;
mod seen;
pub mod sweep;
mod verified;
mod wanted;

pub use demands::{
    IsvMinimum, PckAuthority, PckPolicy, PckProperty, Pin, Presence, SgxAttribute, SgxPolicy, SnpGuestDemand,
    SnpPlatformDemand, SnpPolicy, TdAttribute, TdxPolicy,
};
pub use diversity::{Diversity, Member};
pub use error::{AttestError, PolicyError};
pub use evidence::{
    AmdCollateral, Collateral, Evidence, IntelCollateral, IntelParts, MAX_BOOT_LOG, MAX_COLLATERAL_PART, MAX_DOCUMENT,
    MAX_EVENT_LOG, MAX_JSON, NitroCollateral,
};
pub use intel::{measurement_of_td, quote_header};
pub use policy::{ChipPolicy, Grace, Location, MAX_POLICY, Measurements, Policy, Preset, SnpMinimum, TcbPolicy};
pub use root::{ExtraRoot, Vendor, VendorRoot, root_id};
pub use seen::Seen;
use tacit_types::UnixTime;
pub use tacit_types::eip712::Platform;
pub use verified::{Confidence, HardwareClass, TcbStatus, VerifiedEvidence};
pub use wanted::{ReportedTcb, Wanted};

/// Verifies evidence: signatures, chain, dates and revocation at `now`, then the policy.
///
/// Signatures come first, so a refusal by policy (denied class, chip, measurement, TCB) speaks about evidence whose signatures
/// and chain are valid.
///
/// # Errors
/// [`AttestError`], one variant per check.
pub fn verify(
    evidence: &Evidence,
    collateral: &Collateral,
    policy: &Policy,
    now: UnixTime,
) -> Result<VerifiedEvidence, AttestError> {
    policy.validate().map_err(|error| AttestError::Malformed { what: "policy", detail: error.to_string() })?;
    let claims = match (evidence.platform(), collateral) {
        (Platform::Sgx | Platform::Tdx, Collateral::Intel(collateral)) => {
            intel::verify(evidence, collateral, policy, now)?
        }
        (Platform::SevSnp, Collateral::Amd(collateral)) => amd::verify(evidence.document(), collateral, policy, now)?,
        (Platform::Nitro, Collateral::Nitro(_)) => nitro::verify(evidence.document(), policy, now)?,
        (platform, other) => {
            return Err(AttestError::CollateralMismatch { evidence: platform.name(), collateral: other.name() });
        }
    };
    policy.judge(claims, now)
}

/// [`verify`], and no number of the collateral may be below one that was seen: not by the policy's minimum, but by what this
/// verifier, or the ledger, has met before. Gives what has been seen now; the caller keeps it.
///
/// # Errors
/// As [`verify`], and [`AttestError::Downgrade`].
pub fn verify_seen(
    evidence: &Evidence,
    collateral: &Collateral,
    policy: &Policy,
    now: UnixTime,
    seen: &Seen,
) -> Result<(VerifiedEvidence, Seen), AttestError> {
    let verified = verify(evidence, collateral, policy, now)?;
    seen.check(&verified.claims.details.counters)?;
    let seen = seen.after(&verified);
    Ok((verified, seen))
}

/// [`verify`], and the report data must be exactly `report_data` (see `tacit_types::keyset::report_data`).
///
/// # Errors
/// As [`verify`], and [`AttestError::ReportDataMismatch`].
pub fn verify_bound(
    evidence: &Evidence,
    collateral: &Collateral,
    policy: &Policy,
    now: UnixTime,
    report_data: &[u8; 64],
) -> Result<VerifiedEvidence, AttestError> {
    let verified = verify(evidence, collateral, policy, now)?;
    verified.require_report_data(report_data)?;
    Ok(verified)
}
