//! Functions on the ledger.

use alloy::{
    primitives::{Address as AlloyAddress, B256},
    rpc::types::Filter,
    sol_types::SolEvent,
};
use tacit_types::{Address, CodeHash, Digest, FunctionId, ManifestHash, UnixTime};

use crate::{
    abi::IFunctionRegistry,
    error::LedgerError,
    ledger::{At, BlockRef, Ledger},
    writer::{Outcome, Writer},
};

/// A function as it stands at one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionRecord {
    /// Its id.
    pub id: FunctionId,
    /// Who may change it.
    pub owner: Address,
    /// Its name among the owner's functions.
    pub name: String,
    /// Code and manifest that count.
    pub code_hash: CodeHash,
    /// Manifest that counts.
    pub manifest_hash: ManifestHash,
    /// Where module and manifest may be found; what is found is checked by hash.
    pub uri: String,
    /// When this version began to count.
    pub activation: UnixTime,
    /// Key epoch of its root key: the owner's, or the minimum that a revocation demands if that is higher.
    pub key_epoch: u64,
    /// Key epochs below this one are released no more.
    pub min_key_epoch: u64,
    /// Whether no further version can come.
    pub frozen: bool,
    /// Seconds between an upgrade and its effect.
    pub upgrade_delay: u64,
    /// Digest of the owner's set of secrets, if there is one.
    pub secrets_digest: Option<Digest>,
    /// Version of that set, zero for none.
    pub secrets_version: u64,
    /// The last reset.
    pub reset: Option<StateReset>,
    /// Number of versions, with one that waits.
    pub versions: u64,
    /// The block this was read at.
    pub block: BlockRef,
}

/// A reset of a function's state by its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateReset {
    /// The sequence that counts as the newest.
    pub sequence: u64,
    /// The key epoch that began with it.
    pub key_epoch: u64,
}

/// A version to be deployed.
#[derive(Debug, Clone)]
pub struct NewVersion {
    /// Keccak-256 of the module.
    pub module_hash: Digest,
    /// Keccak-256 of the canonical manifest.
    pub manifest_hash: ManifestHash,
    /// Where both may be found.
    pub uri: String,
}

impl Ledger {
    /// A function, or nothing if it is not registered at that block.
    ///
    /// # Errors
    /// When the chain cannot be reached.
    pub async fn function(&self, id: FunctionId, at: At) -> Result<Option<FunctionRecord>, LedgerError> {
        let at = self.pin(at).await?;
        let At::Block(block) = at else { return Err(LedgerError::Answer("eth_getBlock")) };
        let registry = self.addresses().function_registry;
        let record = match self.view(registry, IFunctionRegistry::recordCall { id: id.into() }, at).await {
            Ok(record) => record,
            Err(LedgerError::Refused(refusal)) if refusal.name == "UnknownFunction" => return Ok(None),
            Err(error) => return Err(error),
        };
        let min_key_epoch = self.min_key_epoch(id, at).await?;
        Ok(Some(FunctionRecord {
            id,
            owner: record.owner.into(),
            name: record.name,
            code_hash: record.codeHash.into(),
            manifest_hash: record.manifestHash.into(),
            uri: record.uri,
            activation: UnixTime(record.activation),
            key_epoch: record.keyEpoch,
            min_key_epoch,
            frozen: record.frozen,
            upgrade_delay: record.upgradeDelay,
            secrets_digest: (record.secretsVersion != 0).then(|| record.secretsDigest.into()),
            secrets_version: record.secretsVersion,
            reset: (record.resetKeyEpoch != 0)
                .then_some(StateReset { sequence: record.resetSequence, key_epoch: record.resetKeyEpoch }),
            versions: u64::try_from(record.versions).unwrap_or(u64::MAX),
            block,
        }))
    }

    /// Ids and names of the functions that `owner` registered up to that block, oldest first.
    ///
    /// # Errors
    /// When the chain cannot be reached.
    pub async fn functions_of(&self, owner: Address, at: At) -> Result<Vec<(FunctionId, String)>, LedgerError> {
        let At::Block(block) = self.pin(at).await? else { return Err(LedgerError::Answer("eth_getBlock")) };
        let filter = Filter::new()
            .address(AlloyAddress::from(self.addresses().function_registry))
            .event_signature(IFunctionRegistry::FunctionRegistered::SIGNATURE_HASH)
            .topic2(AlloyAddress::from(owner).into_word())
            .from_block(0)
            .to_block(block.number);
        let logs = self.logs(&filter).await?;
        let registered =
            logs.iter().filter_map(|log| IFunctionRegistry::FunctionRegistered::decode_log(&log.inner).ok());
        Ok(registered.map(|event| (event.id.into(), event.name.clone())).collect())
    }

    /// The id of `owner`'s function `name`; it need not be registered.
    ///
    /// # Errors
    /// When the chain cannot be reached.
    pub async fn function_id(&self, owner: Address, name: &str) -> Result<FunctionId, LedgerError> {
        let chain = self.chain_id().await?;
        Ok(tacit_types::formats::function_id(chain, self.addresses().function_registry, owner, name))
    }
}

impl Writer {
    /// Registers a function of the sender; its first version counts at once.
    ///
    /// # Errors
    /// When the contract refuses (name taken or impossible) or the transaction does not become final in time.
    pub async fn register_function(
        &self,
        name: &str,
        version: &NewVersion,
        upgrade_delay: u64,
    ) -> Result<(FunctionId, Outcome), LedgerError> {
        let call = IFunctionRegistry::registerCall {
            name: name.to_owned(),
            moduleHash: version.module_hash.into(),
            manifestHash: version.manifest_hash.into(),
            uri: version.uri.clone(),
            upgradeDelay: upgrade_delay,
        };
        let outcome = self.call(self.ledger().addresses().function_registry, call).await?;
        let id = outcome
            .logs
            .iter()
            .find_map(|log| IFunctionRegistry::FunctionRegistered::decode_log(&log.inner).ok())
            .ok_or(LedgerError::Answer("FunctionRegistered"))?
            .id;
        Ok((id.into(), outcome))
    }

    /// Adds a version that counts after the function's upgrade delay.
    ///
    /// # Errors
    /// When the contract refuses (not the owner, frozen, a version waiting) or the transaction is not final in time.
    pub async fn upgrade_function(&self, id: FunctionId, version: &NewVersion) -> Result<Outcome, LedgerError> {
        let call = IFunctionRegistry::upgradeCall {
            id: id.into(),
            moduleHash: version.module_hash.into(),
            manifestHash: version.manifest_hash.into(),
            uri: version.uri.clone(),
        };
        self.registry(call).await
    }

    /// Withdraws the version that waits.
    ///
    /// # Errors
    /// When the contract refuses or the transaction is not final in time.
    pub async fn cancel_upgrade(&self, id: FunctionId) -> Result<Outcome, LedgerError> {
        self.registry(IFunctionRegistry::cancelUpgradeCall { id: id.into() }).await
    }

    /// Changes the upgrade delay: longer at once, shorter after the present one.
    ///
    /// # Errors
    /// When the contract refuses or the transaction is not final in time.
    pub async fn set_upgrade_delay(&self, id: FunctionId, seconds: u64) -> Result<Outcome, LedgerError> {
        self.registry(IFunctionRegistry::setUpgradeDelayCall { id: id.into(), delay: seconds }).await
    }

    /// Allows no further version of a function, for ever.
    ///
    /// # Errors
    /// When the contract refuses or the transaction is not final in time.
    pub async fn freeze_function(&self, id: FunctionId) -> Result<Outcome, LedgerError> {
        self.registry(IFunctionRegistry::freezeCall { id: id.into() }).await
    }

    /// Names the current set of secrets; `version` is the last one plus one.
    ///
    /// # Errors
    /// When the contract refuses or the transaction is not final in time.
    pub async fn set_secrets(&self, id: FunctionId, digest: Digest, version: u64) -> Result<Outcome, LedgerError> {
        self.registry(IFunctionRegistry::setSecretsCall { id: id.into(), digest: digest.into(), version }).await
    }

    /// Puts the state back to `sequence` and starts a new key epoch.
    ///
    /// # Errors
    /// When the contract refuses or the transaction is not final in time.
    pub async fn reset_function(&self, id: FunctionId, sequence: u64) -> Result<Outcome, LedgerError> {
        self.registry(IFunctionRegistry::resetCall { id: B256::from(id), sequence }).await
    }

    async fn registry<C: alloy::sol_types::SolCall>(&self, call: C) -> Result<Outcome, LedgerError> {
        self.call(self.ledger().addresses().function_registry, call).await
    }
}
