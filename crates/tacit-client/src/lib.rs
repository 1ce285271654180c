#![doc = include_str!("../README.md")]

pub mod ai;
mod bundle;
mod call;
mod deploy;
mod error;
mod http;
mod package;
mod sealed;
mod ways;
mod workers;

pub use call::CallRequest;
pub use deploy::{Deployed, Step as DeployStep};
pub use error::ClientError;
pub use package::{Package, PackageError};
pub use sealed::{Answer, OpenedAnswer, PreparedCall};
pub use workers::{Candidate, Entry};

use std::{
    sync::{Arc, Mutex},
    time::SystemTime,
};

use tacit_ledger::{Addresses, Ledger};
use tacit_types::{Address, FunctionId, UnixTime, deployment::Deployment, formats, signature::SigningKey};
use tacit_verify::{Anchor, Judge, Verifier};

use crate::{ways::Ways, workers::KnownWorkers};

/// One user's view of one cluster: whom to ask, by what to judge, and who is asking.
pub struct Client {
    verifier: Arc<Verifier>,
    http: http::Http,
    ways: Arc<Ways>,
    caller: Option<SigningKey>,
    known: Mutex<KnownWorkers>,
}

impl Client {
    /// A client that trusts `deployment`, judges by `judge`, and reaches the cluster through the deployment's gateways.
    ///
    /// # Errors
    /// [`ClientError::Verify`] if the deployment contradicts itself, [`ClientError::Http`] if no HTTP client can be made.
    pub fn new(deployment: Deployment, judge: Judge) -> Result<Self, ClientError> {
        let entries = deployment.gateways.iter().map(|url| Entry::gateway(url)).collect();
        let verifier = Verifier::new(Anchor::new(deployment)?, judge);
        Ok(Self {
            verifier: Arc::new(verifier),
            http: http::Http::new()?,
            ways: Arc::new(Ways::new(entries)),
            caller: None,
            known: Mutex::default(),
        })
    }

    /// The same client, signing calls and transactions with `key`.
    #[must_use]
    pub fn with_caller(mut self, key: SigningKey) -> Self {
        self.caller = Some(key);
        self
    }

    /// The same client without a name.
    #[must_use]
    pub fn without_caller(mut self) -> Self {
        self.caller = None;
        self
    }

    /// The same client, reaching the cluster through these gateways and workers, in this order.
    #[must_use]
    pub fn through(mut self, entries: Vec<Entry>) -> Self {
        self.ways = Arc::new(Ways::new(entries));
        self.known = Mutex::default();
        self
    }

    /// A second client of the same cluster that asks without a name.
    pub(crate) fn nameless(&self) -> Self {
        Self {
            verifier: self.verifier.clone(),
            http: self.http.clone(),
            ways: self.ways.clone(),
            caller: None,
            known: Mutex::default(),
        }
    }

    /// What is trusted.
    pub fn deployment(&self) -> &Deployment {
        self.verifier.anchor().deployment()
    }

    /// What judges.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// Account of the caller's key.
    pub fn caller(&self) -> Option<Address> {
        self.caller.as_ref().map(SigningKey::address)
    }

    /// The home chain.
    ///
    /// # Errors
    /// [`ClientError::Ledger`] if the deployment does not name the contracts.
    pub fn ledger(&self) -> Result<Ledger, ClientError> {
        let deployment = self.deployment();
        let addresses = Addresses::from_map(&deployment.genesis.contracts)?;
        Ok(Ledger::connect(&deployment.chain.rpc, addresses, deployment.chain.finality)?)
    }

    /// The id of `owner`'s function `name`.
    ///
    /// # Errors
    /// [`ClientError::NoRegistry`] if the deployment names no function registry.
    pub fn function_id(&self, owner: Address, name: &str) -> Result<FunctionId, ClientError> {
        let genesis = &self.deployment().genesis;
        let registry = genesis.contracts.get("FunctionRegistry").ok_or(ClientError::NoRegistry)?;
        Ok(formats::function_id(genesis.chain_id, *registry, owner, name))
    }
}

/// The clock.
pub(crate) fn now() -> UnixTime {
    UnixTime(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |passed| passed.as_secs()))
}
