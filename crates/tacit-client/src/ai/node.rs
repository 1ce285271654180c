//! A node that was verified: whom requests are sealed to until it has to be verified again.

use std::{collections::BTreeMap, time::Duration};

use rand::Rng as _;
use serde::Deserialize;
use tacit_attest::ExtraRoot;
use tacit_envelope::KeyConfig;
use tacit_peer::CollateralCache;
use tacit_receipt::aci::{AttestationReport, BareDigest, PrefixedDigest};
use tacit_types::{Address, Digest, UnixTime};
use tacit_verify::{
    Judge, Report,
    aci::{
        Channel, ServiceInput, Transcript, VerifiedService, carried_collateral, evidence_of, verify_service_knowing,
    },
};

use super::{AiError, transport::Transport};
use crate::now;

/// Seconds before the end of a keyset at which the node is verified again.
const MARGIN: u64 = 60;

/// Whose judgement a node must pass.
pub struct NodePolicy {
    /// The policy.
    pub judge: Judge,
    /// Simulated roots that are known but perhaps not named by the policy. A node under one of them that holds in everything else
    /// is called simulated, and is refused all the same.
    pub known_roots: Vec<ExtraRoot>,
}

/// A node that holds under the policy, and the connections whose key its keyset names.
pub struct VerifiedNode {
    pub(super) service: VerifiedService,
    pub(super) verification: Report,
    /// In normal form, as transcripts hold it.
    pub(super) attestation: AttestationReport,
    pub(super) nonce: BareDigest,
    /// The connection that requests go over; none through a gateway, where the seal alone protects them.
    pub(super) channel: Option<Channel>,
    pub(super) seal_key: KeyConfig,
    pub(super) transport: Transport,
    pub(super) account: Address,
    pub(super) note_key: [u8; 32],
    /// Digest of each model on offer, as the node says; read only where models are pinned.
    pub(super) models: BTreeMap<String, PrefixedDigest>,
    verified_at: UnixTime,
    until: UnixTime,
}

/// The node's list of models, as far as it is read.
#[derive(Deserialize)]
pub(super) struct Models {
    data: Vec<Offered>,
}

#[derive(Deserialize)]
struct Offered {
    id: String,
    digest: PrefixedDigest,
}

impl Models {
    pub(super) fn into_map(self) -> BTreeMap<String, PrefixedDigest> {
        self.data.into_iter().map(|model| (model.id, model.digest)).collect()
    }
}

impl VerifiedNode {
    /// Asks the node who it is, under a nonce drawn now, and verifies the answer. Nothing of the user's is sent.
    ///
    /// # Errors
    /// [`AiError::Node`] with the report for a node that does not hold; the others of [`AiError`] for one that cannot be asked.
    pub(super) async fn verify(
        transport: Transport,
        policy: &NodePolicy,
        collateral: &CollateralCache,
        every: Duration,
    ) -> Result<Self, AiError> {
        let mut drawn = [0; 32];
        rand::rng().fill_bytes(&mut drawn);
        let nonce = Digest::from(drawn);
        let answer = transport.report(&nonce).await?;
        let report = AttestationReport::parse(&answer)?;
        let channel = transport.channel();
        if channel.is_none() && !transport.is_relayed() {
            return Err(AiError::BadAnswer("no TLS key was seen"));
        }
        let now = now();
        let fetched = match carried_collateral(&report)? {
            Some(_) => None,
            None => Some(collateral.obtain(&evidence_of(&report)?, now).await?),
        };
        let input = ServiceInput {
            report: &report,
            nonce: Some(nonce),
            collateral: fetched.as_deref(),
            channel: channel.as_ref(),
            anchor: None,
            judge: &policy.judge,
        };
        let (service, verification) =
            verify_service_knowing(&input, &policy.known_roots, now).map_err(AiError::Node)?;
        let keyset = service.keyset();
        let seal_key = KeyConfig::parse(&keyset.ohttp_config().map_err(AiError::Keyset)?).map_err(AiError::Seal)?;
        let account = keyset.receipt_address().map_err(AiError::Keyset)?;
        let note_key = keyset.note_key().map_err(AiError::Keyset)?;
        let until = now.plus(every.as_secs()).min(UnixTime(keyset.not_after.0.saturating_sub(MARGIN)));
        let mut attestation = Transcript::normal_report(&report)?;
        if let (Some(fetched), Some(own)) = (&fetched, &mut attestation.attestation.evidence.tacit) {
            // A transcript is judged without a network.
            own.collateral = serde_json::to_value(&**fetched).ok();
        }
        Ok(Self {
            service,
            verification,
            attestation,
            nonce: BareDigest::from(nonce),
            channel,
            seal_key,
            transport,
            account,
            note_key,
            models: BTreeMap::new(),
            verified_at: now,
            until,
        })
    }

    /// What was found.
    pub fn verification(&self) -> &Report {
        &self.verification
    }

    /// The service, with its keys and its evidence.
    pub fn service(&self) -> &VerifiedService {
        &self.service
    }

    /// Whether the hardware is a simulated one.
    pub fn is_simulated(&self) -> bool {
        self.service.evidence().simulated()
    }

    /// The hardware in words, as `Intel TDX, simulated`.
    pub fn hardware(&self) -> String {
        let evidence = self.service.evidence();
        let simulated = if evidence.simulated() { ", simulated" } else { "" };
        format!("{}{simulated}", evidence.hardware_class())
    }

    /// When it was verified.
    pub const fn verified_at(&self) -> UnixTime {
        self.verified_at
    }

    /// Whether it need not be verified again yet.
    pub(super) fn is_fresh(&self, now: UnixTime) -> bool {
        self.verified_at <= now && now < self.until
    }
}
