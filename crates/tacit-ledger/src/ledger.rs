//! One connection to the home chain: blocks, finality and reads.

use std::time::Duration;

use alloy::{
    eips::{BlockId, BlockNumberOrTag},
    primitives::{Address as AlloyAddress, Bytes},
    providers::{Provider, ProviderBuilder, RootProvider},
    rpc::types::{Block, TransactionRequest},
    sol_types::{SolCall, SolInterface},
    transports::{RpcError, TransportError},
};
use tacit_types::{
    Address, ClusterId, Digest, UnixTime,
    deployment::{Finality, NamedFinality},
    quorum::GatekeeperSet,
};

use crate::{
    abi::{
        IFunctionRegistry, IGatekeeperSet, IPolicyRegistry, IQuorumVerifier, IReceiptVerifier, IRequestHub,
        IStoredAnswers, IWorkerRegistry,
    },
    contracts::Addresses,
    error::{LedgerError, Refusal},
};

/// How long one read may take unless told otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// A block of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BlockRef {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: Digest,
    /// Its timestamp.
    pub time: UnixTime,
}

/// The block at which something is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The newest block, final or not: for hints only.
    Latest,
    /// The newest block that counts as final.
    Final,
    /// This block.
    Block(BlockRef),
}

/// A connection to the home chain and the addresses of one cluster's contracts on it.
#[derive(Debug, Clone)]
pub struct Ledger {
    provider: RootProvider,
    rpc: String,
    addresses: Addresses,
    finality: Finality,
    timeout: Duration,
}

impl Ledger {
    /// A connection to the chain behind `rpc` (http or https). Nothing is sent yet.
    ///
    /// # Errors
    /// [`LedgerError::Address`] when the URL cannot be used.
    pub fn connect(rpc: &str, addresses: Addresses, finality: Finality) -> Result<Self, LedgerError> {
        let url = rpc.parse::<reqwest_url::Url>().map_err(|_| LedgerError::Address)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(LedgerError::Address);
        }
        let shown = format!(
            "{}://{}{}",
            url.scheme(),
            url.host_str().unwrap_or_default(),
            url.port().map(|port| format!(":{port}")).unwrap_or_default()
        );
        let provider = ProviderBuilder::new().disable_recommended_fillers().connect_http(url);
        Ok(Self { provider, rpc: shown, addresses, finality, timeout: DEFAULT_TIMEOUT })
    }

    /// The same with another bound on every read.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Addresses of the contracts.
    pub const fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// When a block counts as final.
    pub const fn finality(&self) -> Finality {
        self.finality
    }

    /// Id of the chain.
    ///
    /// # Errors
    /// When the chain cannot be reached.
    pub async fn chain_id(&self) -> Result<u64, LedgerError> {
        self.ask("eth_chainId", self.provider.get_chain_id()).await
    }

    /// The newest block, final or not.
    ///
    /// # Errors
    /// When the chain cannot be reached.
    pub async fn latest(&self) -> Result<BlockRef, LedgerError> {
        self.block_by(BlockNumberOrTag::Latest).await
    }

    /// The newest block that counts as final.
    ///
    /// # Errors
    /// When the chain cannot be reached or has no final block yet.
    pub async fn finalized(&self) -> Result<BlockRef, LedgerError> {
        match self.finality {
            Finality::Named(NamedFinality::Finalized) => self.block_by(BlockNumberOrTag::Finalized).await,
            Finality::Named(NamedFinality::Safe) => self.block_by(BlockNumberOrTag::Safe).await,
            Finality::Confirmations(depth) => {
                let latest = self.latest().await?;
                self.block(latest.number.saturating_sub(depth)).await
            }
        }
    }

    /// The block with this number.
    ///
    /// # Errors
    /// [`LedgerError::NoBlock`] when there is none.
    pub async fn block(&self, number: u64) -> Result<BlockRef, LedgerError> {
        self.block_by(BlockNumberOrTag::Number(number)).await
    }

    /// Waits until something is final past `block`, looking every 20 ms, at most for `patience`.
    ///
    /// # Errors
    /// [`LedgerError::NoBlock`] when it takes longer.
    pub async fn final_from(&self, block: u64, patience: Duration) -> Result<BlockRef, LedgerError> {
        let until = tokio::time::Instant::now() + patience;
        loop {
            let newest = self.finalized().await?;
            if newest.number >= block {
                return Ok(newest);
            }
            if tokio::time::Instant::now() >= until {
                return Err(LedgerError::NoBlock(format!("{block} as a final one")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Balance of an account in the chain's smallest coin, at most the greatest number there is.
    ///
    /// # Errors
    /// When the chain cannot be reached.
    pub async fn balance(&self, account: Address, at: At) -> Result<u128, LedgerError> {
        let block = self.resolve(at).await?;
        let balance = self.ask("eth_getBalance", self.provider.get_balance(account.into()).block_id(block)).await?;
        Ok(u128::try_from(balance).unwrap_or(u128::MAX))
    }

    /// The cluster that the contracts belong to.
    ///
    /// # Errors
    /// When the chain cannot be reached.
    pub async fn cluster(&self, at: At) -> Result<ClusterId, LedgerError> {
        Ok(self.view(self.addresses.gatekeeper_set, IGatekeeperSet::clusterIdCall {}, at).await?.into())
    }

    /// The gatekeeper set that counts, and until when this chain believes it.
    ///
    /// # Errors
    /// When the chain cannot be reached.
    pub async fn gatekeepers(&self, at: At) -> Result<(GatekeeperSet, UnixTime), LedgerError> {
        let at = self.pin(at).await?;
        let contract = self.addresses.gatekeeper_set;
        let epoch = self.view(contract, IGatekeeperSet::epochCall {}, at).await?;
        let threshold = self.view(contract, IGatekeeperSet::thresholdCall {}, at).await?;
        let members = self.view(contract, IGatekeeperSet::membersCall {}, at).await?;
        let valid_until = self.view(contract, IGatekeeperSet::validUntilCall {}, at).await?;
        let members = members.into_iter().map(Address::from).collect();
        Ok((GatekeeperSet { epoch, threshold, members }, UnixTime(valid_until)))
    }

    pub(crate) const fn provider(&self) -> &RootProvider {
        &self.provider
    }

    /// Turns `Latest` and `Final` into one block, so that several reads see the same state.
    pub(crate) async fn pin(&self, at: At) -> Result<At, LedgerError> {
        Ok(match at {
            At::Latest => At::Block(self.latest().await?),
            At::Final => At::Block(self.finalized().await?),
            At::Block(block) => At::Block(block),
        })
    }

    pub(crate) async fn resolve(&self, at: At) -> Result<BlockId, LedgerError> {
        Ok(match at {
            At::Latest => BlockId::latest(),
            At::Final => BlockId::hash(self.finalized().await?.hash.into()),
            At::Block(block) => BlockId::hash(block.hash.into()),
        })
    }

    pub(crate) async fn code(&self, address: Address, block: BlockId) -> Result<Bytes, LedgerError> {
        self.ask("eth_getCode", self.provider.get_code_at(address.into()).block_id(block)).await
    }

    /// Calls a view function.
    /// Reads from any contract.
    ///
    /// # Errors
    /// When the chain cannot be reached, the contract refuses, or it answers in another form.
    pub async fn view<C: SolCall>(&self, contract: Address, call: C, at: At) -> Result<C::Return, LedgerError> {
        self.view_from(Address::ZERO, contract, call, at).await
    }

    pub(crate) async fn view_from<C: SolCall>(
        &self,
        sender: Address,
        contract: Address,
        call: C,
        at: At,
    ) -> Result<C::Return, LedgerError> {
        let block = self.resolve(at).await?;
        let request = TransactionRequest::default()
            .from(sender.into())
            .to(AlloyAddress::from(contract))
            .input(Bytes::from(call.abi_encode()).into());
        let output = self.ask("eth_call", async { self.provider.call(request).block(block).await }).await?;
        C::abi_decode_returns(&output).map_err(|_| LedgerError::Answer(C::SIGNATURE))
    }

    pub(crate) async fn full_block(&self, id: BlockId) -> Result<Block, LedgerError> {
        let block = self.ask("eth_getBlock", async { self.provider.get_block(id).await }).await?;
        block.ok_or_else(|| LedgerError::NoBlock(id.to_string()))
    }

    async fn block_by(&self, number: BlockNumberOrTag) -> Result<BlockRef, LedgerError> {
        let block = self.full_block(BlockId::Number(number)).await?;
        Ok(BlockRef {
            number: block.header.number,
            hash: block.header.hash.into(),
            time: UnixTime(block.header.timestamp),
        })
    }

    /// Runs one request under the time bound and sorts its failure.
    pub(crate) async fn ask<T>(
        &self,
        method: &'static str,
        request: impl IntoFuture<Output = Result<T, TransportError>>,
    ) -> Result<T, LedgerError> {
        match tokio::time::timeout(self.timeout, request.into_future()).await {
            Err(_) => Err(LedgerError::Unreachable {
                rpc: self.rpc.clone(),
                reason: format!("no answer to {method} within {} ms", self.timeout.as_millis()),
            }),
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.sort(method, error)),
        }
    }

    fn sort(&self, method: &'static str, error: TransportError) -> LedgerError {
        match error {
            RpcError::ErrorResp(payload) => match payload.as_revert_data() {
                Some(data) => LedgerError::Refused(refusal(&data)),
                None if payload.message.contains("revert") => {
                    LedgerError::Refused(Refusal { name: String::new(), text: payload.message.to_string() })
                }
                None => LedgerError::Rpc { method, message: payload.message.to_string() },
            },
            RpcError::Transport(error) => {
                LedgerError::Unreachable { rpc: self.rpc.clone(), reason: kind(&error).to_owned() }
            }
            _ => LedgerError::Answer(method),
        }
    }
}

/// A transport failure in words that cannot contain the URL (which may carry a key).
fn kind(error: &alloy::transports::TransportErrorKind) -> &'static str {
    use alloy::transports::TransportErrorKind as Kind;
    match error {
        Kind::HttpError(_) | Kind::HttpErrorWithRetryAfter { .. } => "it answers with an HTTP error",
        Kind::BackendGone | Kind::MissingBatchResponse(_) => "the connection broke",
        _ => "no connection",
    }
}

/// Decodes what a contract gave as its reason.
fn refusal(data: &[u8]) -> Refusal {
    macro_rules! first_known {
        ($($interface:ty),* $(,)?) => {
            $(if let Ok(error) = <$interface>::abi_decode(data) {
                return described(&format!("{error:?}"));
            })*
        };
    }
    first_known!(
        IGatekeeperSet::IGatekeeperSetErrors,
        IQuorumVerifier::IQuorumVerifierErrors,
        IPolicyRegistry::IPolicyRegistryErrors,
        IWorkerRegistry::IWorkerRegistryErrors,
        IFunctionRegistry::IFunctionRegistryErrors,
        IReceiptVerifier::IReceiptVerifierErrors,
        IRequestHub::IRequestHubErrors,
        IStoredAnswers::IStoredAnswersErrors,
    );
    let text = match alloy::sol_types::decode_revert_reason(data) {
        Some(reason) => reason,
        None => "reverted without a reason that is known here".to_owned(),
    };
    Refusal { name: String::new(), text }
}

/// `Outer(Inner { … })`, as derived by `Debug`, without its outer half.
fn described(debug: &str) -> Refusal {
    let text = debug.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(debug);
    let name = text.split([' ', '(', '{']).next().unwrap_or(text);
    Refusal { name: name.to_owned(), text: text.to_owned() }
}

/// The URL type that alloy's HTTP transport takes.
mod reqwest_url {
    pub(super) use alloy::transports::http::reqwest::Url;
}

#[cfg(test)]
mod tests {
    use alloy::sol_types::SolError;

    use super::*;
    use crate::contracts::predict_addresses;

    #[test]
    fn a_refusal_has_a_name_and_a_text() {
        let data = IRequestHub::NotTheAnswer { field: "kind".into() }.abi_encode();
        let found = refusal(&data);
        assert_eq!(found.name, "NotTheAnswer");
        assert!(found.text.contains("kind"), "{}", found.text);
        assert_eq!(refusal(&IRequestHub::NothingOwed {}.abi_encode()).name, "NothingOwed");
        assert_eq!(refusal(&[1, 2, 3, 4]).name, "");
        assert_eq!(refusal(&[]).name, "");
    }

    #[test]
    fn only_http_is_a_ledger() {
        let addresses = predict_addresses(Address::ZERO, 0);
        let connect = |rpc: &str| Ledger::connect(rpc, addresses, Finality::Confirmations(0));
        assert!(connect("http://127.0.0.1:1").is_ok());
        assert!(matches!(connect("file:///etc/passwd"), Err(LedgerError::Address)));
        assert!(matches!(connect("not a url"), Err(LedgerError::Address)));
    }

    #[test]
    fn the_shown_address_has_no_key() {
        let addresses = predict_addresses(Address::ZERO, 0);
        let ledger =
            Ledger::connect("https://user:pass@rpc.example.org:8545/v2/SECRET", addresses, Finality::Confirmations(0))
                .unwrap();
        assert_eq!(ledger.rpc, "https://rpc.example.org:8545");
    }
}
