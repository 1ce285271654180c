//! Transactions: one sender, rising nonces, resubmission, one outcome per intent.

use std::{
    hash::{BuildHasher, Hasher},
    sync::Arc,
    time::Duration,
};

use alloy::{
    eips::{BlockId, Encodable2718},
    network::{EthereumWallet, NetworkTransactionBuilder, TransactionBuilder},
    primitives::{Address as AlloyAddress, B256, Bytes, U256},
    providers::Provider,
    rpc::types::{Log, TransactionReceipt, TransactionRequest},
    signers::local::PrivateKeySigner,
    sol_types::SolCall,
};
use tacit_types::{Address, Digest, signature::SigningKey};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

use crate::{error::LedgerError, ledger::Ledger};

/// When a write is reported as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmation {
    /// As soon as a block holds it; a reorganisation may still undo it.
    Mined,
    /// When that block counts as final.
    Final,
}

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The transaction's hash.
    pub hash: Digest,
    /// Number of the block that holds it.
    pub block: u64,
    /// Gas of the whole transaction.
    pub gas: u64,
    /// The contract it created, if it created one.
    pub created: Option<Address>,
    pub(crate) logs: Vec<Log>,
}

/// Sends transactions of one account. Clones share the account's nonce; two writers of one account in two processes do
/// not, and then retry on a nonce that the other took.
#[derive(Clone)]
pub struct Writer {
    ledger: Ledger,
    wallet: EthereumWallet,
    address: Address,
    nonce: Arc<Mutex<Option<u64>>>,
    confirmation: Confirmation,
    patience: Duration,
    /// Most gas of one transaction, where there is a bound.
    most_gas: Option<u64>,
    /// Added to fees, in the smallest coin, so that two writers of one account never make the same transaction by chance.
    mark: u128,
}

/// A transaction under way: the same nonce under one or more hashes.
struct Pending {
    request: TransactionRequest,
    raw: Vec<u8>,
    hashes: Vec<B256>,
    /// When the chain last took it; nothing if that is not known.
    submitted: Option<Instant>,
}

impl Pending {
    fn newest(&self) -> Digest {
        self.hashes.last().copied().unwrap_or_default().into()
    }
}

impl Ledger {
    /// A writer for the account of `key`, reporting final transactions and waiting two minutes for them.
    ///
    /// # Errors
    /// [`LedgerError::Key`] when the key is not usable.
    pub fn writer(&self, key: &SigningKey) -> Result<Writer, LedgerError> {
        let secret = key.to_secret_bytes();
        let signer = PrivateKeySigner::from_slice(secret.as_slice()).map_err(|_| LedgerError::Key)?;
        Ok(Writer {
            ledger: self.clone(),
            address: signer.address().into(),
            wallet: EthereumWallet::from(signer),
            nonce: Arc::default(),
            confirmation: Confirmation::Final,
            patience: Duration::from_secs(120),
            most_gas: None,
            mark: u128::from(std::hash::RandomState::new().build_hasher().finish() % 1_000_000),
        })
    }
}

impl Writer {
    const RESUBMIT_AFTER: Duration = Duration::from_secs(15);
    const ATTEMPTS: usize = 100;

    /// Reports transactions as done at this point.
    #[must_use]
    pub const fn confirming(mut self, confirmation: Confirmation) -> Self {
        self.confirmation = confirmation;
        self
    }

    /// Waits at most this long for a transaction.
    #[must_use]
    pub const fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sends nothing that needs more gas than this: for calls of contracts that the sender does not know.
    #[must_use]
    pub const fn with_most_gas(mut self, most: u64) -> Self {
        self.most_gas = Some(most);
        self
    }

    /// The sender.
    pub const fn address(&self) -> Address {
        self.address
    }

    /// The connection.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Number of the sender's next transaction.
    ///
    /// # Errors
    /// When the chain cannot be reached.
    pub async fn next_nonce(&self) -> Result<u64, LedgerError> {
        let known = *self.nonce.lock().await;
        match known {
            Some(nonce) => Ok(nonce),
            None => self.fetch_nonce().await,
        }
    }

    /// Sends coins.
    ///
    /// # Errors
    /// When the transaction does not become final in time or fails.
    pub async fn transfer(&self, to: Address, amount: u128) -> Result<Outcome, LedgerError> {
        self.send(TransactionRequest::default().to(AlloyAddress::from(to)).value(U256::from(amount))).await
    }

    /// Deploys a contract from its creation code followed by the encoded constructor arguments.
    ///
    /// # Errors
    /// When the transaction does not become final in time or fails.
    pub async fn deploy(&self, code: Vec<u8>) -> Result<Outcome, LedgerError> {
        self.send(TransactionRequest::default().with_deploy_code(Bytes::from(code))).await
    }

    /// Calls a method of any contract.
    ///
    /// # Errors
    /// When the contract refuses or the transaction does not become final in time.
    pub async fn call<C: SolCall>(&self, contract: Address, call: C) -> Result<Outcome, LedgerError> {
        self.call_with(contract, call, 0).await
    }

    /// Calls a method of any contract and sends coins with it.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn call_with<C: SolCall>(&self, contract: Address, call: C, value: u128) -> Result<Outcome, LedgerError> {
        let request = TransactionRequest::default()
            .to(AlloyAddress::from(contract))
            .input(Bytes::from(call.abi_encode()).into())
            .value(U256::from(value));
        self.send(request).await
    }

    /// Waits until the block that holds a mined transaction is final.
    ///
    /// # Errors
    /// [`LedgerError::NotFinal`] when that takes longer than the writer's patience, [`LedgerError::Reorganised`] when the
    /// transaction is no longer in the chain.
    pub async fn settle(&self, outcome: &Outcome) -> Result<(), LedgerError> {
        let until = Instant::now() + self.patience;
        let mut pause = Pause::default();
        while self.ledger.finalized().await?.number < outcome.block {
            self.in_time(outcome.hash, until)?;
            pause.wait().await;
        }
        match self.receipt(outcome.hash.into()).await? {
            Some(receipt) if receipt.block_number == Some(outcome.block) => Ok(()),
            _ => Err(LedgerError::Reorganised { number: outcome.block }),
        }
    }

    async fn send(&self, request: TransactionRequest) -> Result<Outcome, LedgerError> {
        let request = self.prepare(request).await?;
        let mut pending = self.submit(request).await?;
        let until = Instant::now() + self.patience;
        let mut pause = Pause::default();
        loop {
            match self.look(&mut pending).await {
                Ok(Some(receipt)) => return finished(receipt),
                Ok(None) => self.in_time(pending.newest(), until)?,
                // The transaction is out: the chain may come back.
                Err(error) if error.is_unreachable() && Instant::now() < until => {}
                Err(error) => {
                    *self.nonce.lock().await = None;
                    return Err(error);
                }
            }
            pause.wait().await;
        }
    }

    /// The receipt, if the transaction is done; sends it again if it seems to be lost or stuck.
    async fn look(&self, pending: &mut Pending) -> Result<Option<TransactionReceipt>, LedgerError> {
        if let Some(receipt) = self.any_receipt(&pending.hashes).await? {
            let block = receipt.block_number.unwrap_or(u64::MAX);
            let done = match self.confirmation {
                Confirmation::Mined => true,
                // The receipt is read again each time, so a block that was replaced meanwhile does not count.
                Confirmation::Final => self.ledger.finalized().await?.number >= block,
            };
            return Ok(done.then_some(receipt));
        }
        if pending.submitted.is_none_or(|time| time.elapsed() >= Self::RESUBMIT_AFTER) {
            self.resubmit(pending).await?;
        }
        Ok(None)
    }

    /// Fills in what signing needs. Estimating the gas runs the transaction, so a refusal shows here, decoded.
    async fn prepare(&self, request: TransactionRequest) -> Result<TransactionRequest, LedgerError> {
        let provider = self.ledger.provider();
        let request = request.from(self.address.into());
        let chain_id = self.ledger.chain_id().await?;
        let fees = self.ledger.ask("eth_feeHistory", provider.estimate_eip1559_fees()).await?;
        // A limit in the request bounds the estimate.
        let simulated = self.most_gas.map_or(request.clone(), |most| request.clone().with_gas_limit(most));
        let estimate = async { provider.estimate_gas(simulated).block(BlockId::latest()).await };
        let gas = match (self.ledger.ask("eth_estimateGas", estimate).await, self.most_gas) {
            (Err(LedgerError::Rpc { message, .. }), Some(most)) if message.contains("gas required exceeds") => {
                return Err(LedgerError::TooMuchGas { most });
            }
            (estimate, _) => estimate?,
        };
        Ok(request
            .with_chain_id(chain_id)
            .with_gas_limit((gas + gas / 5).min(self.most_gas.unwrap_or(u64::MAX)))
            .with_max_fee_per_gas(fees.max_fee_per_gas + self.mark)
            .with_max_priority_fee_per_gas(fees.max_priority_fee_per_gas + self.mark))
    }

    /// Gives the transaction the next nonce and sends it. Sending is one at a time, so nonces reach the chain in order.
    async fn submit(&self, request: TransactionRequest) -> Result<Pending, LedgerError> {
        let mut next = self.nonce.lock().await;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let nonce = match *next {
                Some(nonce) => nonce,
                None => self.fetch_nonce().await?,
            };
            let request = request.clone().with_nonce(nonce);
            let (raw, hash) = self.sign(request.clone()).await?;
            match self.broadcast(&raw).await {
                Ok(()) => {
                    *next = Some(nonce + 1);
                    return Ok(Pending { request, raw, hashes: vec![hash], submitted: Some(Instant::now()) });
                }
                // It may or may not have arrived: it keeps its nonce and is sent again until the chain says.
                Err(LedgerError::Unreachable { .. }) => {
                    *next = Some(nonce + 1);
                    return Ok(Pending { request, raw, hashes: vec![hash], submitted: None });
                }
                // Another process of this account used the nonce (for the very same transaction, even), or the chain went
                // back: ask the chain.
                Err(LedgerError::Rpc { message, .. }) if attempt < Self::ATTEMPTS && is_nonce_taken(&message) => {
                    *next = None;
                    sleep(Duration::from_millis(5)).await;
                }
                Err(error) => {
                    *next = None;
                    return Err(error);
                }
            }
        }
    }

    /// Sends the same intent again under the same nonce: as it is if the chain lost it, else with a higher fee.
    async fn resubmit(&self, pending: &mut Pending) -> Result<(), LedgerError> {
        let known = pending.submitted.replace(Instant::now()).is_some();
        match self.broadcast(&pending.raw).await {
            Ok(()) => return Ok(()),
            Err(error) if error.is_unreachable() => {
                pending.submitted = None;
                return Err(error);
            }
            // The chain has it after all.
            Err(_) if !known => return Ok(()),
            Err(_) => {}
        }
        let raised = |fee: Option<u128>| fee.map_or(1, |fee| fee + fee / 4 + 1);
        let request = pending
            .request
            .clone()
            .with_max_fee_per_gas(raised(pending.request.max_fee_per_gas))
            .with_max_priority_fee_per_gas(raised(pending.request.max_priority_fee_per_gas));
        let (raw, hash) = self.sign(request.clone()).await?;
        match self.broadcast(&raw).await {
            Ok(()) => {
                tracing::info!(%hash, "transaction sent again with a higher fee");
                pending.hashes.push(hash);
                pending.raw = raw;
                pending.request = request;
                Ok(())
            }
            // It was mined meanwhile, or the node wants a still higher fee: the next round will tell.
            Err(LedgerError::Rpc { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn sign(&self, request: TransactionRequest) -> Result<(Vec<u8>, B256), LedgerError> {
        let envelope = request.build(&self.wallet).await.map_err(|_| LedgerError::Key)?;
        Ok((envelope.encoded_2718(), *envelope.tx_hash()))
    }

    async fn broadcast(&self, raw: &[u8]) -> Result<(), LedgerError> {
        self.ledger.ask("eth_sendRawTransaction", self.ledger.provider().send_raw_transaction(raw)).await.map(|_| ())
    }

    async fn fetch_nonce(&self) -> Result<u64, LedgerError> {
        let account = AlloyAddress::from(self.address);
        let provider = self.ledger.provider();
        self.ledger
            .ask("eth_getTransactionCount", async {
                provider.get_transaction_count(account).block_id(BlockId::pending()).await
            })
            .await
    }

    async fn any_receipt(&self, hashes: &[B256]) -> Result<Option<TransactionReceipt>, LedgerError> {
        for hash in hashes.iter().rev() {
            if let Some(receipt) = self.receipt(*hash).await? {
                return Ok(Some(receipt));
            }
        }
        Ok(None)
    }

    async fn receipt(&self, hash: B256) -> Result<Option<TransactionReceipt>, LedgerError> {
        let provider = self.ledger.provider();
        self.ledger.ask("eth_getTransactionReceipt", async { provider.get_transaction_receipt(hash).await }).await
    }

    fn in_time(&self, hash: Digest, until: Instant) -> Result<(), LedgerError> {
        if Instant::now() < until {
            return Ok(());
        }
        Err(LedgerError::NotFinal { hash, seconds: self.patience.as_secs() })
    }
}

/// Whether a node's words mean that the nonce belongs to another transaction.
fn is_nonce_taken(message: &str) -> bool {
    ["nonce", "already", "underpriced"].iter().any(|word| message.contains(word))
}

fn finished(receipt: TransactionReceipt) -> Result<Outcome, LedgerError> {
    let hash = receipt.transaction_hash.into();
    if !receipt.status() {
        return Err(LedgerError::Failed { hash });
    }
    Ok(Outcome {
        hash,
        block: receipt.block_number.unwrap_or(u64::MAX),
        gas: receipt.gas_used,
        created: receipt.contract_address.map(Into::into),
        logs: receipt.logs().to_vec(),
    })
}

/// Pauses that grow from 10 ms to half a second.
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(Duration::from_millis(10))
    }
}

impl Pause {
    async fn wait(&mut self) {
        sleep(self.0).await;
        self.0 = (self.0 * 3 / 2).min(Duration::from_millis(500));
    }
}
