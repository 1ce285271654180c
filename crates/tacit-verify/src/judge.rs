//! Whose judgement: a policy, applied to evidence and to certificates.

use std::sync::LazyLock;

use tacit_attest::{
    AttestError, Collateral, Confidence, Evidence, HardwareClass, Measurements, Policy, Preset, VendorRoot,
    VerifiedEvidence, verify_bound,
};
use tacit_types::eip712::{Certificate, Platform};
use tacit_types::{RootId, UnixTime};

use crate::{Anchor, VerifyError};

/// The policy by which the caller judges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judge {
    /// A preset; `dev` also names the simulated roots of the deployment.
    Preset(Preset),
    /// The caller's own policy; it names every root that it accepts.
    Policy(Box<Policy>),
}

impl Judge {
    /// The policy, as applied to the cluster of `anchor`.
    pub fn policy_for(&self, anchor: Option<&Anchor>) -> Policy {
        match self {
            Self::Policy(policy) => (**policy).clone(),
            Self::Preset(preset) => {
                let simulated = anchor
                    .filter(|_| *preset == Preset::Dev)
                    .into_iter()
                    .flat_map(|anchor| anchor.policy().extra_roots.iter())
                    .filter(|root| root.simulated);
                simulated.fold(Policy::preset(*preset), |policy, root| policy.with_root(root.clone()))
            }
        }
    }
}

/// Evidence that holds under the cluster's policy and under the judge's, but for a simulated root.
pub(crate) struct JudgedEvidence {
    pub(crate) evidence: VerifiedEvidence,
    /// Whether the judge's policy names the root.
    pub(crate) root_named: bool,
}

/// Judges evidence by the cluster's policy, and by the judge's. Where only a simulated root stands against the judge's policy,
/// everything else is judged as if it were named.
pub(crate) fn judge_evidence(
    evidence: &Evidence,
    collateral: &Collateral,
    report_data: &[u8; 64],
    cluster: &Policy,
    judge: &Policy,
    at: UnixTime,
) -> Result<JudgedEvidence, AttestError> {
    let own = verify_bound(evidence, collateral, cluster, at, report_data)?;
    let lent = cluster.extra_roots.iter().find(|root| root.simulated && root.id() == own.root());
    match (names_root(judge, own.root()), lent) {
        (true, _) | (false, None) => {
            let evidence = verify_bound(evidence, collateral, judge, at, report_data)?;
            Ok(JudgedEvidence { evidence, root_named: true })
        }
        (false, Some(root)) => {
            let judge = judge.clone().with_root(root.clone());
            let evidence = verify_bound(evidence, collateral, &judge, at, report_data)?;
            Ok(JudgedEvidence { evidence, root_named: false })
        }
    }
}

/// The vendors' roots by id, computed once.
static VENDOR_ROOTS: LazyLock<[(VendorRoot, RootId); VendorRoot::ALL.len()]> =
    LazyLock::new(|| VendorRoot::ALL.map(|root| (root, root.id())));

fn vendor_root(id: RootId) -> Option<VendorRoot> {
    VENDOR_ROOTS.iter().find(|(_, known)| *known == id).map(|(root, _)| *root)
}

/// Whether a policy names this root.
pub(crate) fn names_root(policy: &Policy, root: RootId) -> bool {
    vendor_root(root).is_some_and(|vendor| policy.roots.contains(&vendor))
        || policy.extra_roots.iter().any(|named| named.id() == root)
}

/// The name of a root for people.
pub(crate) fn root_name(anchor: &Anchor, root: RootId) -> String {
    let vendor = vendor_root(root).map(|vendor| vendor.name().to_owned());
    let extra = || anchor.policy().extra_roots.iter().find(|extra| extra.id() == root).map(|extra| extra.name.clone());
    vendor.or_else(extra).unwrap_or_else(|| root.to_string())
}

/// Judges what the gatekeepers wrote into a certificate. Gives whether the judge's policy names the root.
pub(crate) fn judge_certificate(
    certificate: &Certificate,
    anchor: &Anchor,
    judge: &Policy,
) -> Result<bool, VerifyError> {
    let genesis = anchor.genesis();
    if certificate.policy != genesis.policy {
        return Err(VerifyError::Mismatch("the certificate was issued under another policy than the cluster's"));
    }
    if !genesis.roots.contains(&certificate.root) {
        return Err(VerifyError::Root(certificate.root));
    }
    let simulated_root = anchor.policy().extra_roots.iter().any(|root| root.simulated && root.id() == certificate.root);
    if certificate.simulated != (simulated_root || genesis.simulated) {
        return Err(VerifyError::Mismatch("the certificate and its roots differ in whether they are simulated"));
    }
    if !(1..=5).contains(&certificate.confidence) {
        return Err(VerifyError::Confidence { found: certificate.confidence, limit: 5 });
    }
    let named = names_root(judge, certificate.root);
    if !named && !simulated_root {
        return Err(VerifyError::Root(certificate.root));
    }
    for policy in [anchor.policy(), judge] {
        judge_details(certificate, policy)?;
    }
    Ok(named)
}

fn judge_details(certificate: &Certificate, policy: &Policy) -> Result<(), VerifyError> {
    if let Measurements::Listed(images) = &policy.measurements
        && !images.values().flatten().any(|listed| *listed == certificate.measurement)
    {
        return Err(VerifyError::Measurement(certificate.measurement));
    }
    let (allow, deny) = (&policy.chips.allow, &policy.chips.deny);
    if deny.contains(&certificate.chip) || (!allow.is_empty() && !allow.contains(&certificate.chip)) {
        return Err(VerifyError::Chip(certificate.chip));
    }
    let (found, minimum) = (policy.location_grade(certificate.chip), policy.chips.minimum_grade);
    if found < minimum {
        return Err(VerifyError::Location { found, minimum });
    }
    if let Some(class) = class_of(certificate)
        && policy.denied_classes.contains(&class)
    {
        return Err(VerifyError::Class(class.to_string()));
    }
    let limit = worst_confidence(policy, certificate.not_before);
    if certificate.confidence > limit {
        return Err(VerifyError::Confidence { found: certificate.confidence, limit });
    }
    let age = certificate.not_before.0.saturating_sub(certificate.collateral_time.0);
    if matches!(certificate.platform, Platform::Sgx | Platform::Tdx) && age > policy.max_collateral_age {
        return Err(VerifyError::CollateralAge { found: age, limit: policy.max_collateral_age });
    }
    Ok(())
}

/// The class, as far as platform and root tell it.
fn class_of(certificate: &Certificate) -> Option<HardwareClass> {
    match certificate.platform {
        Platform::Sgx => Some(HardwareClass::IntelSgx),
        Platform::Tdx => Some(HardwareClass::IntelTdx),
        Platform::SevSnp => match vendor_root(certificate.root)? {
            VendorRoot::AmdMilan => Some(HardwareClass::EpycMilan),
            VendorRoot::AmdGenoa => Some(HardwareClass::EpycGenoa),
            VendorRoot::AmdTurin => Some(HardwareClass::EpycTurin),
            VendorRoot::IntelSgx | VendorRoot::AwsNitro | VendorRoot::NvidiaDevice | VendorRoot::NvidiaRim => None,
        },
        Platform::Nitro => Some(HardwareClass::AwsNitro),
    }
}

/// The worst confidence that evidence can have and yet be accepted by a policy (see `tacit_attest::Confidence`).
fn worst_confidence(policy: &Policy, at: UnixTime) -> u8 {
    let grace = policy.tcb.grace.iter().filter(|grace| at <= grace.until).map(|grace| grace.status);
    let accepted = policy.tcb.accept.iter().copied().chain(grace);
    Confidence::worst(accepted, !policy.snp.vlek_providers.is_empty()).map_or(0, Confidence::level)
}
