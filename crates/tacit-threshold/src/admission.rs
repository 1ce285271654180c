//! Admission: which certificate follows from which evidence. Worker and gatekeeper compute it by the same code, the worker to
//! propose it, each gatekeeper to find the same or refuse by the field's name.

use serde::{Deserialize, Serialize};
use tacit_attest::{
    AttestError, Collateral, Evidence, HardwareClass, Measurements, Policy, Seen, VerifiedEvidence,
    nvidia::{GpuCollateral, GpuEvidence, VerifiedGpus, gpu_nonce, require_gpus, verify_gpus},
    verify_seen,
};
use tacit_types::{
    Address, ClusterId, Digest, KeysetDigest, UnixTime,
    eip712::{Certificate, EndpointClaim},
    keyset::{Keyset, report_data},
    signature::Signature,
};

use crate::register::MAX_SKEW_SECONDS;

/// Longest life of a certificate, in seconds.
pub const CERTIFICATE_SECONDS: u64 = 86_400;
/// Most characters of an endpoint.
pub const MAX_ENDPOINT: usize = 2_048;
/// The policy's name for the image that workers run.
pub const WORKER_IMAGE: &str = "worker";
/// The policy's name for the image that gatekeepers run.
pub const GATEKEEPER_IMAGE: &str = "gatekeeper";

/// Why a worker was not admitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub enum AdmissionRefusal {
    /// The nonce was never given for this keyset, was used, or has expired.
    #[error("the nonce was not given for this keyset, was used before, or has expired")]
    Nonce,
    /// The keyset lacks a key or is not valid.
    #[error("keyset: {detail}")]
    Keyset {
        /// What is wrong.
        detail: String,
    },
    /// The evidence does not hold under the cluster's policy.
    #[error("evidence: {detail}")]
    Evidence {
        /// What is wrong.
        detail: String,
    },
    /// What its GPUs show does not hold, or is not there where the policy asks for it.
    #[error("GPUs: {detail}")]
    Gpus {
        /// What is wrong.
        detail: String,
    },
    /// On the home chain another policy document counts than the one that this cluster was founded with.
    #[error("the home chain names policy {found}, which this gatekeeper does not have")]
    PolicyReplaced {
        /// The digest of the one that counts.
        found: String,
    },
    /// The home chain's policy registry denies it, or does not allow the measurement.
    #[error("the home chain's policy does not accept {what}")]
    NotAccepted {
        /// What is not accepted.
        what: String,
    },
    /// The measurement is not one that the policy lists for this role.
    #[error("measurement {measurement} is not one of the image {image:?}")]
    Image {
        /// The image that the role needs.
        image: String,
        /// The measurement.
        measurement: String,
    },
    /// The chip, measurement, root or worker was revoked on the home chain.
    #[error("{what} was revoked")]
    Revoked {
        /// What was revoked.
        what: String,
    },
    /// A field of the proposed certificate is not what this gatekeeper finds.
    #[error("certificate field {field}: proposed {proposed}, found {found}")]
    Field {
        /// The field.
        field: String,
        /// What the worker proposed.
        proposed: String,
        /// What this gatekeeper finds.
        found: String,
    },
    /// The endpoint is not a URL that anybody could reach.
    #[error("the endpoint is not an http or https URL")]
    Endpoint,
    /// The operator's signature does not hold.
    #[error("the operator did not sign this worker and endpoint")]
    Operator,
}

/// What a cluster demands of its workers.
#[derive(Debug, Clone)]
pub struct Demands {
    /// The cluster.
    pub cluster: ClusterId,
    /// Gatekeeper epoch.
    pub epoch: u64,
    /// The attestation policy.
    pub policy: Policy,
    /// Whether any gatekeeper's root is a simulated one.
    pub gatekeepers_simulated: bool,
}

/// What a worker sends to be admitted.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// The certificate that it proposes.
    pub certificate: Certificate,
    /// Its keyset.
    pub keyset: Keyset,
    /// Evidence over keyset and nonce.
    pub evidence: Evidence,
    /// Collateral for it.
    pub collateral: Collateral,
    /// What its GPUs signed over keyset and nonce ([`gpu_nonce`]), where it shows any, and what vouches for them.
    pub gpus: Option<(GpuEvidence, GpuCollateral)>,
    /// URL under which it is reached.
    pub endpoint: String,
    /// The operator's signature over [`EndpointClaim`].
    pub operator_signature: Signature,
}

/// A certificate whose every field was checked against verified evidence; nothing else can make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    certificate: Certificate,
    class: HardwareClass,
    advisories: Vec<String>,
    seen: Seen,
}

impl Admitted {
    /// The certificate, to be signed.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The hardware class, which no certificate names.
    pub fn hardware_class(&self) -> HardwareClass {
        self.class
    }

    /// The vendor's advisories that apply to the machine.
    pub fn advisories(&self) -> &[String] {
        &self.advisories
    }

    /// What has been seen of the vendors' numbers after this evidence: to be durable before the certificate is signed.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }
}

/// The certificate that follows from verified evidence. It ends a day after `not_before`, or when the keyset or the first part
/// of the collateral or of the GPUs' chains does; it is simulated if any part of it is.
///
/// # Errors
/// [`AdmissionRefusal::Keyset`] for a keyset without exactly one key of each kind.
pub fn certificate(
    demands: &Demands,
    verified: &VerifiedEvidence,
    gpus: Option<&VerifiedGpus>,
    keyset: &Keyset,
    operator: Address,
    not_before: UnixTime,
) -> Result<Certificate, AdmissionRefusal> {
    let wrong = |error: tacit_types::keyset::KeysetError| AdmissionRefusal::Keyset { detail: error.to_string() };
    keyset.note_key().map_err(wrong)?;
    keyset.check_roles().map_err(wrong)?;
    keyset.ohttp_config().map_err(wrong)?;
    let evidence_ends = gpus.map_or(UnixTime(u64::MAX), VerifiedGpus::expires).min(verified.collateral_expires());
    let not_after = not_before.plus(CERTIFICATE_SECONDS).min(keyset.not_after).min(evidence_ends);
    if not_after <= not_before {
        return Err(AdmissionRefusal::Keyset { detail: format!("keyset or collateral ended at {not_after}") });
    }
    Ok(Certificate {
        worker: keyset.receipt_address().map_err(wrong)?,
        keyset: keyset.digest().map_err(wrong)?,
        platform: verified.platform(),
        measurement: verified.measurement(),
        chip: verified.chip(),
        confidence: verified.confidence().level(),
        root: verified.root(),
        policy: verified.policy(),
        simulated: verified.simulated() || gpus.is_some_and(VerifiedGpus::simulated) || demands.gatekeepers_simulated,
        operator,
        collateral_time: verified.collateral_time(),
        not_before,
        not_after,
        epoch: demands.epoch,
    })
}

/// Checks that the measurement stands in the policy under this image's name.
///
/// # Errors
/// [`AdmissionRefusal::Image`]; also under a policy that lists no measurements, which no cluster may have.
pub fn require_image(policy: &Policy, verified: &VerifiedEvidence, image: &str) -> Result<(), AdmissionRefusal> {
    let listed = match &policy.measurements {
        Measurements::Any => false,
        Measurements::Listed(images) => images.get(image).is_some_and(|list| list.contains(&verified.measurement())),
    };
    if listed {
        return Ok(());
    }
    Err(AdmissionRefusal::Image { image: image.to_owned(), measurement: verified.measurement().to_string() })
}

/// Verifies what the GPUs of a machine show over keyset and nonce, and that they show something where the policy asks for it.
///
/// # Errors
/// [`AdmissionRefusal::Gpus`].
pub fn verify_shown_gpus(
    policy: &Policy,
    keyset: KeysetDigest,
    nonce: Digest,
    shown: Option<&(GpuEvidence, GpuCollateral)>,
    now: UnixTime,
) -> Result<Option<VerifiedGpus>, AdmissionRefusal> {
    let nonce = gpu_nonce(keyset, nonce.as_ref());
    let judge =
        |(evidence, collateral): &(GpuEvidence, GpuCollateral)| verify_gpus(evidence, collateral, policy, &nonce, now);
    let verified = shown.map(judge).transpose().and_then(|gpus| {
        require_gpus(policy, gpus.as_ref())?;
        Ok(gpus)
    });
    verified.map_err(|error| AdmissionRefusal::Gpus { detail: error.to_string() })
}

/// Verifies a proposal: evidence over keyset and `nonce` under the cluster's policy, with collateral that is not older than what
/// was `seen`; GPUs; every field of the certificate; the endpoint and the operator's signature. That the nonce was given for
/// this keyset, and that nothing is revoked or denied on the ledger, is for the caller to check.
///
/// # Errors
/// The first thing found wrong.
pub fn verify(
    demands: &Demands,
    now: UnixTime,
    nonce: Digest,
    seen: &Seen,
    proposal: &Proposal,
) -> Result<Admitted, AdmissionRefusal> {
    let Proposal { certificate: proposed, keyset, evidence, collateral, gpus, endpoint, operator_signature } = proposal;
    let digest = keyset.digest().map_err(|error| AdmissionRefusal::Keyset { detail: error.to_string() })?;
    let wrong = |error: AttestError| AdmissionRefusal::Evidence { detail: error.to_string() };
    let (verified, seen) = verify_seen(evidence, collateral, &demands.policy, now, seen).map_err(wrong)?;
    verified.require_report_data(&report_data(digest, Some(nonce))).map_err(wrong)?;
    require_image(&demands.policy, &verified, WORKER_IMAGE)?;
    let gpus = verify_shown_gpus(&demands.policy, digest, nonce, gpus.as_ref(), now)?;
    let found = certificate(demands, &verified, gpus.as_ref(), keyset, proposed.operator, proposed.not_before)?;
    compare(proposed, &found)?;
    if proposed.not_before.distance(now) > MAX_SKEW_SECONDS {
        return Err(AdmissionRefusal::Field {
            field: "notBefore".into(),
            proposed: proposed.not_before.to_string(),
            found: now.to_string(),
        });
    }
    if !is_endpoint(endpoint) {
        return Err(AdmissionRefusal::Endpoint);
    }
    let claim = EndpointClaim {
        worker: found.worker,
        keyset: found.keyset,
        endpoint: endpoint.clone(),
        not_before: found.not_before,
    };
    if operator_signature.recover(claim.digest(demands.cluster)).ok() != Some(found.operator) {
        return Err(AdmissionRefusal::Operator);
    }
    let (class, advisories) = (verified.hardware_class(), verified.advisories().to_vec());
    Ok(Admitted { certificate: found, class, advisories, seen })
}

fn compare(proposed: &Certificate, found: &Certificate) -> Result<(), AdmissionRefusal> {
    // Without `..`, so that a new field cannot be forgotten here.
    let Certificate {
        worker,
        keyset,
        platform,
        measurement,
        chip,
        confidence,
        root,
        policy,
        simulated,
        operator,
        collateral_time,
        not_before,
        not_after,
        epoch,
    } = found;
    let fields = [
        ("worker", proposed.worker.to_string(), worker.to_string()),
        ("keyset", proposed.keyset.to_string(), keyset.to_string()),
        ("platform", proposed.platform.name().to_owned(), platform.name().to_owned()),
        ("measurement", proposed.measurement.to_string(), measurement.to_string()),
        ("chip", proposed.chip.to_string(), chip.to_string()),
        ("confidence", proposed.confidence.to_string(), confidence.to_string()),
        ("root", proposed.root.to_string(), root.to_string()),
        ("policy", proposed.policy.to_string(), policy.to_string()),
        ("simulated", proposed.simulated.to_string(), simulated.to_string()),
        ("operator", proposed.operator.to_string(), operator.to_string()),
        ("collateralTime", proposed.collateral_time.0.to_string(), collateral_time.0.to_string()),
        ("notBefore", proposed.not_before.0.to_string(), not_before.0.to_string()),
        ("notAfter", proposed.not_after.0.to_string(), not_after.0.to_string()),
        ("epoch", proposed.epoch.to_string(), epoch.to_string()),
    ];
    match fields.into_iter().find(|(_, proposed, found)| proposed != found) {
        None => Ok(()),
        Some((field, proposed, found)) => Err(AdmissionRefusal::Field { field: field.to_owned(), proposed, found }),
    }
}

fn is_endpoint(endpoint: &str) -> bool {
    let rest = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
    let authority = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
    endpoint.len() <= MAX_ENDPOINT
        && endpoint.bytes().all(|byte| byte.is_ascii_graphic())
        && authority.is_some_and(|authority| !authority.is_empty() && !authority.contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn every_field_that_differs_is_named() {
        let found = samples::certificate(1);
        assert_eq!(compare(&found.clone(), &found), Ok(()));
        let json = serde_json::to_value(&found).unwrap();
        let other = serde_json::to_value(Certificate {
            worker: Address::ZERO,
            keyset: [0xee; 32].into(),
            platform: tacit_types::eip712::Platform::Sgx,
            measurement: [0xee; 32].into(),
            chip: [0xee; 32].into(),
            confidence: 5,
            root: [0xee; 32].into(),
            policy: [0xee; 32].into(),
            simulated: false,
            operator: Address::ZERO,
            collateral_time: UnixTime(1),
            not_before: UnixTime(2),
            not_after: UnixTime(3),
            epoch: 4,
        })
        .unwrap();
        let names: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
        assert_eq!(names.len(), 14);
        for name in names {
            let mut changed = json.clone();
            changed[&name] = other[&name].clone();
            let proposed: Certificate = serde_json::from_value(changed).unwrap();
            let refusal = compare(&proposed, &found);
            assert!(
                matches!(&refusal, Err(AdmissionRefusal::Field { field, .. }) if *field == name),
                "{name}: {refusal:?}"
            );
        }
    }

    #[test]
    fn endpoints() {
        for good in ["http://127.0.0.1:8080", "https://worker.example.com/path"] {
            assert!(is_endpoint(good), "{good}");
        }
        let long = format!("https://{}", "a".repeat(MAX_ENDPOINT));
        for bad in
            ["", "ftp://x", "http://", "https:///path", "http://user@host", "http://a b", "http://a\n", long.as_str()]
        {
            assert!(!is_endpoint(bad), "{bad}");
        }
    }
}
