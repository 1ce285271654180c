//! Admission at all gatekeepers: evidence over the nonce of each, one certificate, signatures of at least t.

use std::time::Duration;

use tacit_api::gatekeeper::{
    ADMIT, AdmitAnswer, AdmitOutcome, AdmitRequest, CERTIFICATE, CHALLENGE, CertificateAnswer, CertificateRequest,
    ChallengeAnswer, ChallengeRequest, ShownGpus, Version1,
};
use tacit_attest::{Collateral, Evidence, Measurements, Policy};
use tacit_receipt::SignedCertificate;
use tacit_threshold::{
    admission::{AdmissionRefusal, Demands, certificate, verify_shown_gpus},
    collect::Collector,
};
use tacit_types::{
    Digest, UnixTime,
    deployment::Deployment,
    eip712::{Certificate, EndpointClaim},
    jcs,
    signature::SigningKey,
};

use crate::{
    certificates::Certified, error::WorkerError, evidence::EvidenceSource, gatekeepers::Gatekeepers, keys::Keys,
    time::now,
};

/// How long further gatekeepers are waited for once t have answered.
const GRACE: Duration = Duration::from_millis(1_500);

/// What an admission needs.
pub(crate) struct Applicant<'a> {
    pub keys: &'a Keys,
    pub gatekeepers: &'a Gatekeepers,
    pub deployment: &'a Deployment,
    pub evidence: &'a EvidenceSource,
    pub operator: &'a SigningKey,
    pub endpoint: &'a str,
}

/// The cluster's attestation policy.
pub(crate) fn cluster_policy(deployment: &Deployment) -> Result<Policy, WorkerError> {
    let bytes = jcs::to_bytes(&deployment.policy).map_err(tacit_types::keyset::KeysetError::from)?;
    Ok(Policy::from_json(&bytes)?)
}

impl Applicant<'_> {
    /// Asks every gatekeeper for admission.
    ///
    /// # Errors
    /// [`WorkerError::NotAdmitted`] with what each gatekeeper said, or why the machine gave no evidence.
    pub async fn admit(&self) -> Result<Certified, WorkerError> {
        let needed = self.gatekeepers.set.threshold;
        let (challenges, mut reasons) = self.challenges().await;
        if challenges.len() < needed as usize {
            return Err(not_admitted(0, needed, reasons));
        }
        // Only to fill in the certificate: whether this measurement may run here is the gatekeepers' judgement, not ours.
        let policy = Policy { measurements: Measurements::Any, ..cluster_policy(self.deployment)? };
        let mut shown = Vec::with_capacity(challenges.len());
        for (_, challenge) in &challenges {
            shown.push(self.evidence.show(self.keys.digest, challenge.nonce).await?);
        }
        let (Some(first), Some((_, challenge))) = (shown.first(), challenges.first()) else {
            return Err(not_admitted(0, needed, String::new()));
        };
        let mut times: Vec<UnixTime> = challenges.iter().map(|(_, challenge)| challenge.time).collect();
        times.sort_unstable();
        let not_before = times[times.len() / 2];
        let collateral = self.evidence.collateral(&first.evidence, not_before).await?;
        let verified = tacit_attest::verify(&first.evidence, &collateral, &policy, not_before)?;
        let demands = Demands {
            cluster: self.gatekeepers.cluster,
            epoch: self.gatekeepers.set.epoch,
            policy,
            gatekeepers_simulated: challenges.iter().any(|(_, challenge)| challenge.simulated),
        };
        let impossible = |refusal: AdmissionRefusal| not_admitted(0, needed, refusal.to_string());
        let (digest, nonce) = (self.keys.digest, challenge.nonce);
        let gpus = verify_shown_gpus(&demands.policy, digest, nonce, first.gpus.as_ref(), not_before);
        let gpus = gpus.map_err(impossible)?;
        let (keyset, operator) = (&self.keys.keyset, self.operator.address());
        let mut certificate =
            certificate(&demands, &verified, gpus.as_ref(), keyset, operator, not_before).map_err(impossible)?;
        certificate.policy = self.deployment.genesis.policy;
        let claim = EndpointClaim {
            worker: certificate.worker,
            keyset: certificate.keyset,
            endpoint: self.endpoint.to_owned(),
            not_before,
        };
        let operator_signature = self.operator.sign(claim.digest(self.gatekeepers.cluster));
        let to_value = |bytes: Vec<u8>| serde_json::from_slice(&bytes).unwrap_or_default();
        let collateral = to_value(Collateral::to_json(&collateral));
        let requests = challenges.iter().zip(&shown).map(|((index, challenge), shown)| {
            let request = AdmitRequest {
                version: Version1,
                nonce: challenge.nonce,
                certificate: certificate.clone(),
                keyset: self.keys.keyset.clone(),
                evidence: to_value(Evidence::to_json(&shown.evidence)),
                collateral: collateral.clone(),
                gpus: shown.gpus.as_ref().map(|(evidence, collateral)| ShownGpus {
                    evidence: to_value(evidence.to_json()),
                    collateral: to_value(collateral.to_json()),
                }),
                endpoint: self.endpoint.to_owned(),
                operator_signature,
            };
            (*index, request)
        });
        let signatures = self.collect(&certificate, requests.collect(), &mut reasons).await;
        let Some(mut signatures) = signatures.signatures() else {
            return Err(not_admitted(0, needed, reasons));
        };
        // Everybody who checks the certificate checks every signature that it carries: t are enough.
        signatures.truncate(needed as usize);
        let signed = SignedCertificate { certificate, keyset: self.keys.keyset.clone(), signatures };
        let certified = Certified {
            id: signed.id(self.gatekeepers.cluster),
            signed,
            nonce: challenges[0].1.nonce,
            evidence: to_value(Evidence::to_json(&first.evidence)),
            collateral,
            endpoint: self.endpoint.to_owned(),
            operator_signature,
        };
        show(self.gatekeepers, &certified).await;
        Ok(certified)
    }

    async fn challenges(&self) -> (Vec<(u32, ChallengeAnswer)>, String) {
        let question = ChallengeRequest { version: Version1, keyset: self.keys.digest };
        let mut answers = self.gatekeepers.ask_all::<_, ChallengeAnswer>(CHALLENGE, &question);
        let (mut challenges, mut reasons) = (Vec::new(), String::new());
        let genesis = &self.deployment.genesis;
        while let Some((index, answer)) = answers.recv().await {
            match answer {
                Ok(challenge) if challenge.cluster != self.gatekeepers.cluster => {
                    say(&mut reasons, index, "it is of another cluster")
                }
                Ok(challenge) if challenge.index != index => {
                    say(&mut reasons, index, "it says that it is another gatekeeper")
                }
                Ok(challenge) if challenge.policy != genesis.policy => {
                    say(&mut reasons, index, "it judges by another policy")
                }
                Ok(challenge) => challenges.push((index, challenge)),
                Err(error) => say(&mut reasons, index, &error.to_string()),
            }
        }
        challenges.sort_by_key(|(index, _)| *index);
        (challenges, reasons)
    }

    async fn collect(
        &self,
        certificate: &Certificate,
        requests: Vec<(u32, AdmitRequest)>,
        reasons: &mut String,
    ) -> Collector {
        let id = certificate.id(self.gatekeepers.cluster);
        let mut collector = Collector::threshold(&self.gatekeepers.set, Digest::from(id.into_bytes()));
        let mut tasks = tokio::task::JoinSet::new();
        for (index, request) in requests {
            let gatekeepers = self.gatekeepers.clone();
            tasks.spawn(async move { (index, gatekeepers.ask::<_, AdmitAnswer>(index, ADMIT, &request).await) });
        }
        let mut grace: Option<tokio::time::Instant> = None;
        loop {
            let next = match grace {
                None => tasks.join_next().await,
                Some(until) => tokio::time::timeout_at(until, tasks.join_next()).await.unwrap_or_default(),
            };
            let Some(Ok((index, answer))) = next else { return collector };
            match answer.map(|answer| answer.outcome) {
                Ok(AdmitOutcome::Admitted(signature)) => {
                    if collector.add(index, signature).is_err() {
                        say(reasons, index, "its signature does not hold");
                    }
                }
                Ok(AdmitOutcome::Refused(refusal)) => say(reasons, index, &refusal.to_string()),
                Err(error) => say(reasons, index, &error.to_string()),
            }
            if collector.is_complete() && grace.is_none() {
                grace = Some(tokio::time::Instant::now() + GRACE);
            }
        }
    }
}

/// Shows a certificate to every gatekeeper, for those that were away when it was signed.
pub(crate) async fn show(gatekeepers: &Gatekeepers, certified: &Certified) {
    let question = CertificateRequest {
        version: Version1,
        certificate: certified.signed.certificate.clone(),
        signatures: certified.signed.signatures.clone(),
    };
    let mut answers = gatekeepers.ask_all::<_, CertificateAnswer>(CERTIFICATE, &question);
    let until = tokio::time::Instant::now() + GRACE;
    while let Ok(Some((index, answer))) = tokio::time::timeout_at(until, answers.recv()).await {
        if let Ok(CertificateAnswer { refused: Some(refusal), .. }) = answer {
            tracing::warn!(gatekeeper = index, %refusal, "the certificate does not count there");
        }
    }
}

/// When to renew a certificate: after two thirds of its life.
pub(crate) fn renewal_time(certificate: &Certificate) -> UnixTime {
    let life = certificate.not_after.0.saturating_sub(certificate.not_before.0);
    certificate.not_before.plus(life / 3 * 2)
}

/// How long until a time, at most an hour so that a stopped clock is noticed.
pub(crate) fn wait_until(time: UnixTime) -> Duration {
    Duration::from_secs(time.0.saturating_sub(now().0).clamp(1, 3_600))
}

fn say(reasons: &mut String, index: u32, reason: &str) {
    if !reasons.is_empty() {
        reasons.push_str("; ");
    }
    reasons.push_str(&format!("gatekeeper {index}: {reason}"));
}

fn not_admitted(admitted: u32, needed: u32, reasons: String) -> WorkerError {
    let reasons = if reasons.is_empty() { "no gatekeeper answered".to_owned() } else { reasons };
    WorkerError::NotAdmitted { admitted, needed, reasons }
}

/// Reads an operator's key from its text form.
pub(crate) fn parse_key(text: &str) -> Option<SigningKey> {
    let bytes = zeroize::Zeroizing::new(tacit_types::ids::parse_hex::<32>(text.trim()).ok()?);
    SigningKey::from_bytes(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_holds_one_key() {
        let key = parse_key(&format!("0x{}\n", "11".repeat(32))).unwrap();
        assert_eq!(key.address(), SigningKey::from_bytes(&[0x11; 32]).unwrap().address());
        for bad in ["", "0x", "11", &"11".repeat(32), &format!("0x{}", "00".repeat(32))] {
            assert!(parse_key(bad).is_none(), "{bad:?}");
        }
    }
}
