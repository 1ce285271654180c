//! The attestation policy on the ledger: which document counts, which measurements may run, and what is denied.

use tacit_types::{Digest, Measurement, PolicyHash, UnixTime, chain::DeniedSubject};

use crate::{
    abi::IPolicyRegistry,
    error::LedgerError,
    ledger::{At, Ledger},
    writer::{Outcome, Writer},
};

/// The attestation policy that counts on the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerPolicy {
    /// Digest of the canonical policy.
    pub policy: PolicyHash,
    /// Where it may be found.
    pub uri: String,
    /// Since when it counts.
    pub active_from: UnixTime,
}

impl Ledger {
    /// The attestation policy that counts.
    ///
    /// # Errors
    /// When the chain cannot be reached.
    pub async fn policy(&self, at: At) -> Result<LedgerPolicy, LedgerError> {
        let policy = self.view(self.addresses().policy_registry, IPolicyRegistry::currentCall {}, at).await?;
        Ok(LedgerPolicy { policy: policy.policyHash.into(), uri: policy.uri, active_from: UnixTime(policy.activeFrom) })
    }

    /// Seconds between a loosening and its effect.
    ///
    /// # Errors
    /// When the chain cannot be reached.
    pub async fn policy_timelock(&self, at: At) -> Result<u64, LedgerError> {
        self.view(self.addresses().policy_registry, IPolicyRegistry::timelockCall {}, at).await
    }

    /// Whether machines with this measurement may be admitted.
    ///
    /// # Errors
    /// When the chain cannot be reached.
    pub async fn is_allowed(&self, measurement: Measurement, at: At) -> Result<bool, LedgerError> {
        let call = IPolicyRegistry::isAllowedCall { measurement: measurement.into() };
        self.view(self.addresses().policy_registry, call, at).await
    }

    /// Whether a deny list holds a value.
    ///
    /// # Errors
    /// When the chain cannot be reached.
    pub async fn is_denied(&self, subject: DeniedSubject, value: Digest, at: At) -> Result<bool, LedgerError> {
        let call = IPolicyRegistry::isDeniedCall { subject: subject.code(), value: value.into() };
        self.view(self.addresses().policy_registry, call, at).await
    }
}

impl Writer {
    /// Allows a measurement, as the governor, after the policy's timelock.
    ///
    /// # Errors
    /// When the contract refuses or the transaction is not final in time.
    pub async fn allow_measurement(&self, measurement: Measurement) -> Result<Outcome, LedgerError> {
        self.policies(IPolicyRegistry::allowMeasurementCall { measurement: measurement.into() }).await
    }

    /// Removes a measurement at once, as the governor or guardian.
    ///
    /// # Errors
    /// When the contract refuses or the transaction is not final in time.
    pub async fn remove_measurement(&self, measurement: Measurement) -> Result<Outcome, LedgerError> {
        self.policies(IPolicyRegistry::removeMeasurementCall { measurement: measurement.into() }).await
    }

    /// Denies at once, as the governor or guardian.
    ///
    /// # Errors
    /// When the contract refuses or the transaction is not final in time.
    pub async fn deny(&self, subject: DeniedSubject, value: Digest) -> Result<Outcome, LedgerError> {
        self.policies(IPolicyRegistry::denyCall { subject: subject.code(), value: value.into() }).await
    }

    /// Ends a denial, as the governor, after the policy's timelock.
    ///
    /// # Errors
    /// When the contract refuses or the transaction is not final in time.
    pub async fn lift_denial(&self, subject: DeniedSubject, value: Digest) -> Result<Outcome, LedgerError> {
        self.policies(IPolicyRegistry::liftDenialCall { subject: subject.code(), value: value.into() }).await
    }

    /// Proposes another policy document, as the governor; it counts after the timelock.
    ///
    /// # Errors
    /// When the contract refuses or the transaction is not final in time.
    pub async fn propose_policy(&self, policy: PolicyHash, uri: &str) -> Result<Outcome, LedgerError> {
        self.policies(IPolicyRegistry::proposeCall { policyHash: policy.into(), uri: uri.to_owned() }).await
    }

    /// Stops a policy document that waits, as the governor or guardian.
    ///
    /// # Errors
    /// When the contract refuses or the transaction is not final in time.
    pub async fn veto_policy(&self, index: u64) -> Result<Outcome, LedgerError> {
        self.policies(IPolicyRegistry::vetoCall { index: alloy::primitives::U256::from(index) }).await
    }

    async fn policies<C: alloy::sol_types::SolCall>(&self, call: C) -> Result<Outcome, LedgerError> {
        self.call(self.ledger().addresses().policy_registry, call).await
    }
}
