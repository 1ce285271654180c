//! What can go wrong between this process and the chain.

use tacit_types::{CertificateId, Digest, FunctionId};

/// A contract's refusal, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Name of the contract's error, for example `NotTheAnswer`; empty when the contract gave none that is known.
    pub name: String,
    /// The error with its arguments, for people.
    pub text: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// Why something with the ledger did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The URL of the chain cannot be used.
    #[error("the chain's RPC address is not a usable http(s) URL")]
    Address,
    /// No answer from the chain: not running, not reachable, or too slow.
    #[error("the chain at {rpc} cannot be reached: {reason}")]
    Unreachable {
        /// Scheme, host and port.
        rpc: String,
        /// What happened, without anything secret.
        reason: String,
    },
    /// The chain answered with an error.
    #[error("the chain refused {method}: {message}")]
    Rpc {
        /// JSON-RPC method.
        method: &'static str,
        /// The chain's words.
        message: String,
    },
    /// The chain's answer cannot be read.
    #[error("the chain's answer to {0} cannot be read")]
    Answer(&'static str),
    /// A contract refused.
    #[error("the contract refuses: {0}")]
    Refused(Refusal),
    /// The contracts at these addresses are not the ones this build knows, or belong to another cluster.
    #[error("{contract} on this chain is not the contract of this cluster: {what}")]
    ForeignContract {
        /// Name of the contract.
        contract: &'static str,
        /// What differs.
        what: &'static str,
    },
    /// A contract's address is missing in the deployment.
    #[error("the deployment names no {0}")]
    NoAddress(&'static str),
    /// A block that counted as final is gone.
    #[error("block {number}, taken for final, is no longer part of the chain")]
    Reorganised {
        /// Number of the block.
        number: u64,
    },
    /// There is no such block.
    #[error("the chain does not have block {0}")]
    NoBlock(String),
    /// No such function is registered.
    #[error("function {0} is not registered")]
    UnknownFunction(FunctionId),
    /// No such certificate is published.
    #[error("certificate {0} is not published")]
    UnknownCertificate(CertificateId),
    /// The node's proof does not lead to the block's state root.
    #[error("the node's proof of {what} at block {block} does not hold")]
    Proof {
        /// What was to be proved.
        what: &'static str,
        /// Number of the block.
        block: u64,
    },
    /// A transaction was not final in the time allowed.
    #[error("transaction {hash} was not final within {seconds} s")]
    NotFinal {
        /// Its hash.
        hash: Digest,
        /// How long was waited.
        seconds: u64,
    },
    /// A transaction needs more gas than the sender gives.
    #[error("the transaction needs more than {most} gas")]
    TooMuchGas {
        /// What the sender gives at most.
        most: u64,
    },
    /// A transaction failed although its simulation did not.
    #[error("transaction {hash} failed on chain")]
    Failed {
        /// Its hash.
        hash: Digest,
    },
    /// The sender's key cannot be used.
    #[error("the sender's key is not usable")]
    Key,
    /// No anvil binary was found.
    #[error("no anvil binary: looked at {looked_at}; run `make bootstrap` or set TACIT_ANVIL")]
    NoAnvil {
        /// Places that were tried.
        looked_at: String,
    },
    /// The local chain's process could not be run.
    #[error("the local chain {action}")]
    LocalChain {
        /// What failed.
        action: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl LedgerError {
    /// Whether the chain itself was out of reach, so that trying again later can help.
    pub const fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// The contract's refusal, if this is one.
    pub const fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }
}
