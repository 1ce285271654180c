//! Who a service is: the checks of section 9.1.

use serde::{Deserialize, Serialize};
use tacit_attest::{Collateral, Policy, VerifiedEvidence, event_log::Event, verify_bound};
use tacit_receipt::SignedCertificate;
use tacit_receipt::aci::{AttestationReport, BareDigest, Serving};
use tacit_types::formats::sha256;
use tacit_types::keyset::{Keyset, report_data};
use tacit_types::{Digest, KeysetDigest, UnixTime};

use super::{carried_collateral, evidence_of};
use crate::anchor::chain_text;
use crate::judge::{JudgedEvidence, judge_evidence};
use crate::report::Steps;
use crate::worker::check_certificate;
use crate::{Anchor, Judge, Report, StepName, TimeProof, Verdict, VerifyError};

/// Longest life of a keyset that is plausible, in seconds: ten years.
const LONGEST_LIFE: u64 = 10 * 366 * 86_400;

/// The TLS connection that was used, as the client's own stack saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// The host that was connected to.
    pub host: String,
    /// SHA-256 of the subject public key info of the server's certificate.
    pub spki_sha256: BareDigest,
}

/// What a service is judged by.
pub struct ServiceInput<'a> {
    /// What it says about itself.
    pub report: &'a AttestationReport,
    /// The nonce that the asker chose; nothing is fresh without one.
    pub nonce: Option<Digest>,
    /// Collateral from elsewhere, for a report that carries none.
    pub collateral: Option<&'a Collateral>,
    /// The connection, if there was one.
    pub channel: Option<&'a Channel>,
    /// The deployment that is trusted, for a service that is a worker of a cluster.
    pub anchor: Option<&'a Anchor>,
    /// Whose judgement.
    pub judge: &'a Judge,
}

/// A service that holds in every check, at one moment, under the judge's policy; nothing else makes one.
#[derive(Debug, Clone)]
pub struct VerifiedService {
    pub(super) keyset: Keyset,
    pub(super) digest: KeysetDigest,
    pub(super) evidence: VerifiedEvidence,
    pub(super) serving: Serving,
    /// Origin of the log, where the cluster's certificate says whose it is.
    pub(super) origin: Option<String>,
}

impl VerifiedService {
    /// Its keys.
    pub fn keyset(&self) -> &Keyset {
        &self.keyset
    }

    /// The digest of its keyset.
    pub fn digest(&self) -> KeysetDigest {
        self.digest
    }

    /// What the hardware says.
    pub fn evidence(&self) -> &VerifiedEvidence {
        &self.evidence
    }

    /// Whether it runs the model itself.
    pub fn serving(&self) -> Serving {
        self.serving
    }
}

/// Verifies a service at `now`, before anything is sent to it.
///
/// # Errors
/// The report, for every verdict but [`Verdict::Verified`].
pub fn verify_service(input: &ServiceInput<'_>, now: UnixTime) -> Result<(VerifiedService, Report), Box<Report>> {
    let mut steps = Steps::default();
    let (service, named) = record_service(&mut steps, input, now);
    let mut report = steps.report(named);
    if let Some(service) = &service {
        report.root = Some(service.evidence.root_name().to_owned());
        report.time = Some(TimeProof::Live);
    }
    match (report.verdict, service) {
        (Verdict::Verified, Some(service)) => Ok((service, report)),
        _ => Err(Box::new(report)),
    }
}

/// Records the checks. Gives the service if everything was found that later checks need, and whether the judge's policy names
/// every root that was met.
pub(super) fn record_service(
    steps: &mut Steps,
    input: &ServiceInput<'_>,
    at: UnixTime,
) -> (Option<VerifiedService>, bool) {
    let policy = input.judge.policy_for(input.anchor);
    let (report, keyset) = (input.report, &input.report.attestation.workload_keyset);
    let judged = steps.record(StepName::AciHardware, check_hardware(input, &policy, at));
    let digest = steps.record(StepName::AciBinding, check_binding(input));
    steps.record(StepName::AciExpiry, check_expiry(keyset, at));
    let listed = policy.lists_measurements() || input.anchor.is_some();
    if let Some(JudgedEvidence { evidence, .. }) = &judged {
        steps.record(StepName::AciProvenance, check_provenance(report, evidence.events(), listed));
        if listed {
            // Evidence of code that no policy lists has been refused by then.
            steps.record(StepName::AciCustody, Ok(()));
        }
    }
    if let Some(channel) = input.channel {
        steps.record(StepName::AciChannel, check_channel(keyset, channel));
    }
    let (certificate_named, origin) = record_certificate(steps, input, &policy, at);
    let (Some(JudgedEvidence { evidence, root_named }), Some(digest)) = (judged, digest) else { return (None, true) };
    let serving = report.service_capabilities.serving;
    let service = VerifiedService { keyset: keyset.clone(), digest, evidence, serving, origin };
    (Some(service), root_named && certificate_named)
}

/// `id-1`: the evidence holds, and is over keyset and nonce.
fn check_hardware(input: &ServiceInput<'_>, policy: &Policy, at: UnixTime) -> Result<JudgedEvidence, VerifyError> {
    let report = input.report;
    let evidence = evidence_of(report)?;
    let carried = carried_collateral(report)?;
    let nothing = VerifyError::Missing("the collateral to check the evidence with");
    let collateral = carried.as_ref().or(input.collateral).ok_or(nothing)?;
    let digest = report.attestation.workload_keyset.digest();
    let digest = digest.map_err(|error| VerifyError::Unreadable(chain_text(&error)))?;
    let expected = report_data(digest, input.nonce);
    Ok(match input.anchor {
        None => {
            let evidence = verify_bound(&evidence, collateral, policy, at, &expected)?;
            JudgedEvidence { evidence, root_named: true }
        }
        Some(anchor) => judge_evidence(&evidence, collateral, &expected, anchor.policy(), policy, at)?,
    })
}

/// `id-2`: what the report says of keyset and statement is what follows from them.
fn check_binding(input: &ServiceInput<'_>) -> Result<KeysetDigest, VerifyError> {
    let digest = input.report.check_binding(input.nonce).map_err(|error| VerifyError::Aci(chain_text(&error)))?;
    match input.nonce {
        Some(_) => Ok(digest),
        None => Err(VerifyError::Missing("a nonce of the asker's: the report may be an old one")),
    }
}

/// `id-3`: the keys are valid.
fn check_expiry(keyset: &Keyset, at: UnixTime) -> Result<(), VerifyError> {
    if at >= keyset.not_after {
        return Err(VerifyError::Time("the keys are over"));
    }
    if keyset.not_after > at.plus(LONGEST_LIFE) {
        return Err(VerifyError::Time("the keys are valid for longer than is plausible"));
    }
    Ok(())
}

/// `id-4`: what runs is known, either by the policy's list or by a description that is measured. A description that is published
/// must be the measured one in any case.
fn check_provenance(report: &AttestationReport, events: &[Event], listed: bool) -> Result<(), VerifyError> {
    let declared = report.attestation.source_provenance.as_ref().filter(|source| source.is_declared());
    let Some(compose) = &report.attestation.evidence.app_compose else {
        if listed {
            return Ok(());
        }
        return Err(VerifyError::Missing("a policy that lists what may run, or a description of the application"));
    };
    // What is measured after the system is ready is the application's own word.
    let before = events.iter().take_while(|event| event.name != "system-ready");
    let mut measured = before.filter(|event| event.name == "compose-hash");
    let (Some(event), None) = (measured.next(), measured.next()) else {
        return Err(VerifyError::Mismatch("the description of the application is not measured exactly once"));
    };
    if event.payload != sha256(compose.as_bytes()).as_bytes() {
        return Err(VerifyError::Mismatch("the description of the application is not the measured one"));
    }
    match declared {
        Some(source) if source.is_backed_by(compose) => Ok(()),
        Some(_) => Err(VerifyError::Mismatch("the source that the report names is not in the measured description")),
        None if listed => Ok(()),
        None => Err(VerifyError::Missing("the source that the application comes from")),
    }
}

/// `id-6`: the connection ended in the TEE.
fn check_channel(keyset: &Keyset, channel: &Channel) -> Result<(), VerifyError> {
    if keyset.names_tls_key_for(channel.spki_sha256.digest().into_bytes(), &channel.host) {
        Ok(())
    } else {
        Err(VerifyError::Mismatch("the keyset does not name the key of the connection for this host"))
    }
}

/// The cluster's word, where the report carries it and the cluster is known. Gives whether the judge's policy names the roots, and
/// the origin of the worker's log.
fn record_certificate(
    steps: &mut Steps,
    input: &ServiceInput<'_>,
    policy: &Policy,
    at: UnixTime,
) -> (bool, Option<String>) {
    let attestation = &input.report.attestation;
    let stated = attestation.evidence.tacit.as_ref().and_then(|own| own.certificate.as_ref());
    let (Some(anchor), Some(stated)) = (input.anchor, stated) else { return (true, None) };
    let gatekeepers = steps.record(StepName::Gatekeepers, anchor.judge_gatekeepers(policy));
    let signed = SignedCertificate {
        certificate: stated.certificate.clone(),
        keyset: attestation.workload_keyset.clone(),
        signatures: stated.signatures.clone(),
    };
    steps.record(StepName::Certificate, check_certificate(anchor, &signed));
    let named = steps.record(StepName::Policy, crate::judge::judge_certificate(&signed.certificate, anchor, policy));
    let live = if signed.certificate.is_live(at) {
        Ok(())
    } else {
        Err(VerifyError::Time("the certificate is not valid then"))
    };
    steps.record(StepName::Time, live);
    let origin = tacit_receipt::log_origin(anchor.cluster(), signed.certificate.worker);
    (gatekeepers.unwrap_or(false) && named.unwrap_or(false), Some(origin))
}
