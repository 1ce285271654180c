//! A worker's identity for measuring with: born here, admitted by every gatekeeper over real evidence of a real process.

use tacit_api::gatekeeper::{
    ADMIT, AdmitAnswer, AdmitOutcome, AdmitRequest, CERTIFICATE, CHALLENGE, CertificateAnswer, CertificateRequest,
    ChallengeAnswer, ChallengeRequest, Version1,
};
use tacit_attest::{Measurements, Policy, verify};
use tacit_envelope::{Kem, KeyPair};
use tacit_platform::Driver;
use tacit_threshold::{
    admission::{Demands, certificate},
    collect::Collector,
};
use tacit_types::{
    Digest, FunctionId,
    deployment::Deployment,
    eip712::{Certificate, EndpointClaim},
    jcs,
    keyset::{ED25519, Keyset, OHTTP, PublicKey, SECP256K1_EIP712, report_data},
    signature::{NoteKey, SigningKey},
};

use super::{Subject, now};
use crate::{client::GatekeeperClient, error::GatekeeperError};

/// Seconds that the keyset lives.
const KEYSET_SECONDS: u64 = 2 * 86_400;
/// Where nobody listens: the identity only measures.
const ENDPOINT: &str = "http://127.0.0.1:9/";

impl Subject {
    /// Has fresh keys admitted as a worker by every gatekeeper of a deployment, with evidence of this process on `machine`.
    ///
    /// # Errors
    /// When the machine gives no evidence, or a gatekeeper cannot be reached or refuses.
    pub async fn admitted(
        deployment: &Deployment,
        machine: &Driver,
        functions: Vec<FunctionId>,
    ) -> Result<Self, GatekeeperError> {
        let (cluster, set) = (deployment.cluster_id, deployment.genesis.gatekeeper_set());
        let gatekeepers: Vec<GatekeeperClient> = deployment
            .gatekeepers
            .iter()
            .map(|gatekeeper| GatekeeperClient::new(&gatekeeper.url))
            .collect::<Result<_, _>>()?;
        let impossible = |what: String| GatekeeperError::Genesis(what);
        let (receipt_key, operator) = {
            let mut rng = rand::rng();
            (SigningKey::generate(&mut rng), SigningKey::generate(&mut rng))
        };
        let keyset = keyset(&receipt_key);
        let digest = keyset.digest().map_err(|error| impossible(error.to_string()))?;
        let policy = jcs::to_bytes(&deployment.policy).map_err(|error| impossible(error.to_string()))?;
        let policy = Policy::from_json(&policy).map_err(|error| impossible(error.to_string()))?;
        // Only to fill in the certificate: whether this measurement may run is the gatekeepers' judgement.
        let policy = Policy { measurements: Measurements::Any, ..policy };
        let collateral = machine.collateral().await?;
        let not_before = now();
        let mut proposed: Option<(Certificate, Collector)> = None;
        for (index, client) in (0u32..).zip(&gatekeepers) {
            let question = ChallengeRequest { version: Version1, keyset: digest };
            let challenge: ChallengeAnswer = client.post(CHALLENGE, &question).await?;
            let evidence = machine.quote(&report_data(digest, Some(challenge.nonce))).await?;
            let (certificate, _) = match &mut proposed {
                Some(proposed) => proposed,
                none => {
                    let verified = verify(&evidence, &collateral, &policy, not_before)
                        .map_err(|error| impossible(error.to_string()))?;
                    let demands = Demands {
                        cluster,
                        epoch: set.epoch,
                        policy: policy.clone(),
                        gatekeepers_simulated: challenge.simulated,
                    };
                    let mut found = certificate(&demands, &verified, None, &keyset, operator.address(), not_before)
                        .map_err(|refusal| impossible(refusal.to_string()))?;
                    found.policy = deployment.genesis.policy;
                    let collector = Collector::threshold(&set, Digest::from(found.id(cluster).into_bytes()));
                    none.insert((found, collector))
                }
            };
            let certificate = certificate.clone();
            let claim = EndpointClaim {
                worker: certificate.worker,
                keyset: certificate.keyset,
                endpoint: ENDPOINT.to_owned(),
                not_before,
            };
            let json = |bytes: Vec<u8>| serde_json::from_slice(&bytes).map_err(|error| impossible(error.to_string()));
            let request = AdmitRequest {
                version: Version1,
                nonce: challenge.nonce,
                certificate,
                keyset: keyset.clone(),
                evidence: json(evidence.to_json())?,
                collateral: json(collateral.to_json())?,
                gpus: None,
                endpoint: ENDPOINT.to_owned(),
                operator_signature: operator.sign(claim.digest(cluster)),
            };
            let refused = |what: String| GatekeeperError::Answer { url: client.url().to_owned(), what };
            match client.post::<AdmitAnswer>(ADMIT, &request).await?.outcome {
                AdmitOutcome::Admitted(signature) => {
                    if let Some((_, collector)) = &mut proposed {
                        collector.add(index, signature).map_err(|error| refused(error.to_string()))?;
                    }
                }
                AdmitOutcome::Refused(refusal) => return Err(refused(refusal.to_string())),
            }
        }
        let Some((certificate, collector)) = proposed else { return Err(impossible("it has no gatekeeper".into())) };
        let signatures = collector.signatures().ok_or_else(|| impossible("too few gatekeepers admitted".into()))?;
        let shown = CertificateRequest { version: Version1, certificate: certificate.clone(), signatures };
        for client in &gatekeepers {
            let answer: CertificateAnswer = client.post(CERTIFICATE, &shown).await?;
            if let Some(refusal) = answer.refused {
                return Err(GatekeeperError::Answer { url: client.url().to_owned(), what: refusal.to_string() });
            }
        }
        Ok(Self { gatekeepers, set, cluster, receipt_key, certificate, functions })
    }
}

fn keyset(receipt_key: &SigningKey) -> Keyset {
    let mut rng = rand::rng();
    let note_key = NoteKey::generate(&mut rng);
    let ohttp = KeyPair::generate(&mut rng, 1, Kem::XWing).config().encode();
    let key =
        |algo: &str, bytes: &[u8]| PublicKey { key_id: algo.into(), algo: algo.into(), public_key: hex::encode(bytes) };
    Keyset {
        subject: None,
        not_after: now().plus(KEYSET_SECONDS),
        receipt_signing_keys: vec![
            key(ED25519, &note_key.public_key()),
            key(SECP256K1_EIP712, &receipt_key.public_key()),
        ],
        e2ee_public_keys: vec![key(OHTTP, &ohttp)],
        tls_public_keys: Vec::new(),
    }
}
