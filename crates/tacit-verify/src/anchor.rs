//! What verification starts from: a deployment that the caller got from a source that they trust.

use tacit_attest::{Collateral, Evidence, Policy};
use tacit_types::deployment::{Deployment, Genesis, genesis_report_data};
use tacit_types::quorum::GatekeeperSet;
use tacit_types::{ClusterId, jcs};

use crate::judge::judge_evidence;
use crate::{VerifyError, judge::names_root};

/// A deployment that agrees with itself.
#[derive(Debug, Clone)]
pub struct Anchor {
    deployment: Deployment,
    policy: Policy,
    set: GatekeeperSet,
}

impl Anchor {
    /// Reads a deployment file.
    ///
    /// # Errors
    /// [`VerifyError::Anchor`] if it is unreadable or contradicts itself.
    pub fn parse(bytes: &[u8]) -> Result<Self, VerifyError> {
        let deployment = Deployment::from_json(bytes).map_err(|error| VerifyError::Anchor(chain_text(&error)))?;
        Self::new(deployment)
    }

    /// Takes a deployment that was read before.
    ///
    /// # Errors
    /// [`VerifyError::Anchor`] if it contradicts itself.
    pub fn new(deployment: Deployment) -> Result<Self, VerifyError> {
        let refuse = |reason: &str| VerifyError::Anchor(reason.to_owned());
        let bytes = jcs::to_bytes(&deployment).map_err(|_| refuse("it has no canonical form"))?;
        let deployment = Deployment::from_json(&bytes).map_err(|error| VerifyError::Anchor(chain_text(&error)))?;
        let policy = jcs::to_bytes(&deployment.policy).map_err(|_| refuse("the policy has no canonical form"))?;
        let policy = Policy::from_json(&policy).map_err(|error| VerifyError::Anchor(error.to_string()))?;
        let genesis = &deployment.genesis;
        if policy.hash().ok() != Some(genesis.policy) {
            return Err(refuse("the policy is not the one of the genesis document"));
        }
        if !policy.lists_measurements() {
            return Err(refuse("the cluster's policy lists no measurements"));
        }
        if genesis.roots.is_empty() || !genesis.roots.iter().all(|root| names_root(&policy, *root)) {
            return Err(refuse("the genesis document names a root that the policy does not"));
        }
        let simulated = policy.extra_roots.iter().any(|root| root.simulated && genesis.roots.contains(&root.id()));
        if simulated != genesis.simulated {
            return Err(refuse("genesis document and policy differ in whether a root is simulated"));
        }
        let set = genesis.gatekeeper_set();
        Ok(Self { deployment, policy, set })
    }

    /// The cluster's name.
    pub fn cluster(&self) -> ClusterId {
        self.deployment.cluster_id
    }

    /// The genesis document.
    pub fn genesis(&self) -> &Genesis {
        &self.deployment.genesis
    }

    /// The whole deployment.
    pub fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    /// The cluster's own policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The gatekeepers of an epoch.
    ///
    /// # Errors
    /// [`VerifyError::Epoch`] for an epoch that the deployment does not name.
    pub fn gatekeepers(&self, epoch: u64) -> Result<&GatekeeperSet, VerifyError> {
        if self.set.epoch == epoch {
            Ok(&self.set)
        } else {
            Err(VerifyError::Epoch { expected: self.set.epoch, found: epoch })
        }
    }

    /// Judges every gatekeeper's genesis quote at the time of the genesis. Gives whether the judge's policy names all roots.
    pub(crate) fn judge_gatekeepers(&self, judge: &Policy) -> Result<bool, VerifyError> {
        let genesis = self.genesis();
        let transcript = self.deployment.gatekeepers.first().map(|gatekeeper| gatekeeper.transcript);
        let mut all_named = true;
        let members = self.deployment.gatekeepers.iter().zip(&genesis.gatekeepers);
        for (index, (gatekeeper, founder)) in members.enumerate() {
            if Some(gatekeeper.transcript) != transcript {
                return Err(VerifyError::Transcript(index));
            }
            let refuse = |source| VerifyError::Gatekeeper { index, source };
            let evidence = Evidence::from_json(&json_bytes(&gatekeeper.evidence)).map_err(refuse)?;
            let collateral = Collateral::from_json(&json_bytes(&gatekeeper.collateral)).map_err(refuse)?;
            let report_data = genesis_report_data(self.cluster(), gatekeeper.transcript, founder.keyset);
            let judged = judge_evidence(&evidence, &collateral, &report_data, &self.policy, judge, genesis.time)
                .map_err(refuse)?;
            if !genesis.roots.contains(&judged.evidence.root()) {
                return Err(VerifyError::Root(judged.evidence.root()));
            }
            if judged.evidence.simulated() != genesis.simulated {
                return Err(VerifyError::Mismatch("gatekeepers of one cluster are all simulated or none"));
            }
            all_named &= judged.root_named;
        }
        Ok(all_named)
    }
}

pub(crate) fn json_bytes(value: &serde_json::Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// An error and its causes in one line.
pub(crate) fn chain_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
