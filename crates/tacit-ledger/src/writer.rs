//! Transactions: one sender, rising nonces, resubmission, one outcome per intent.
//!
//! An intent is one thing that a caller wants done. The transactions made of it exclude each other at any moment, because
//! they share one nonce and a chain takes one transaction for each. Another nonce is taken in one case only: the old one is
//! spent in a *final* block, and none of the intent's transactions is in the chain. Then a stranger's transaction spent it
//! (a second process of this account, whose fee was higher), and none of ours can ever be mined.
//!
//! ```text
//!          submit                     a receipt, mined or final as asked
//!   Free ─────────► Out (one nonce) ──────────────────────────────────────► done
//!     ▲              │  ▲ │ lost: the same bytes again; stuck: the same nonce, a higher fee;
//!     │              │  └─┘ a gap below it: a transaction that does nothing fills the gap
//!     └──────────────┘
//!       the nonce is spent in a final block, by none of ours
//! ```

use std::{
    hash::{BuildHasher, Hasher, RandomState},
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
use tokio::time::{Instant, sleep};

use crate::{
    error::LedgerError,
    ledger::Ledger,
    nonces::{Account, HeldNonce},
};

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

/// Sends transactions of one account. Clones share what they know of its nonces; writers of one account in two processes do
/// not, and then each goes on under another nonce when the other took the one that it wanted.
#[derive(Clone)]
pub struct Writer {
    ledger: Ledger,
    wallet: EthereumWallet,
    address: Address,
    account: Arc<Account>,
    confirmation: Confirmation,
    patience: Duration,
    /// Most gas of one transaction, where there is a bound.
    most_gas: Option<u64>,
}

/// Where an intent is.
enum State {
    /// None of its transactions can ever be mined; there may have been some under a nonce that a stranger spent.
    Free,
    /// Its transactions, all under one nonce, may be mined at any time.
    Out(Box<Out>),
}

/// The transactions of an intent that may still be mined: one nonce under one or more fees.
struct Out {
    nonce: HeldNonce,
    request: TransactionRequest,
    raw: Vec<u8>,
    hashes: Vec<B256>,
    /// When this fee was first sent.
    priced: Instant,
    /// When the newest bytes were last sent; nothing if it is not known that they arrived.
    sent: Option<Instant>,
    /// When the account's nonces were last compared.
    compared: Instant,
    /// The lowest nonce that the chain waits for below this one, and since when.
    gap: Option<(u64, Instant)>,
}

impl Out {
    fn newest(&self) -> Digest {
        self.hashes.last().copied().unwrap_or_default().into()
    }
}

/// What the chain says about an intent that is out.
enum Seen {
    /// A receipt, as deep in the chain as was asked for.
    Done(Box<TransactionReceipt>),
    /// Nothing yet.
    Waiting,
    /// A stranger's transaction spent the nonce in a final block.
    Replaced,
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
            account: Arc::default(),
            confirmation: Confirmation::Final,
            patience: Duration::from_secs(120),
            most_gas: None,
        })
    }
}

impl Writer {
    /// A transaction that the chain has, and does not mine for so long, gets a higher fee.
    const RAISE_AFTER: Duration = Duration::from_secs(15);
    /// How often bytes that seem to be lost are sent again.
    const RESEND_AFTER: Duration = Duration::from_secs(2);
    /// How often the account's nonces are compared while there is no receipt.
    const COMPARE_AFTER: Duration = Duration::from_millis(500);
    /// A nonce below one of ours that nobody cares for is given so long to appear.
    const FILL_AFTER: Duration = Duration::from_secs(5);
    /// Nonces tried while others take them.
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
        Ok(self.account.next_from(self.fetch_next().await?))
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

    async fn send(&self, intent: TransactionRequest) -> Result<Outcome, LedgerError> {
        let mut state = State::Out(Box::new(self.submit(&intent).await?));
        let until = Instant::now() + self.patience;
        let mut pause = Pause::default();
        loop {
            let error = match &mut state {
                State::Free => match self.submit(&intent).await {
                    Ok(out) => {
                        state = State::Out(Box::new(out));
                        continue;
                    }
                    Err(error) if error.is_unreachable() => error,
                    // Nothing of the intent is out, so this is its outcome.
                    Err(error) => return Err(error),
                },
                State::Out(out) => match self.look(out).await {
                    Ok(Seen::Done(receipt)) => return finished(*receipt),
                    Ok(Seen::Replaced) => {
                        tracing::info!(nonce = out.nonce.number(), "another writer of this account used the nonce");
                        state = State::Free;
                        continue;
                    }
                    Ok(Seen::Waiting) => LedgerError::NotFinal { hash: out.newest(), seconds: self.patience.as_secs() },
                    // It is out, and no failure to ask about it undoes that.
                    Err(error) => error,
                },
            };
            if Instant::now() >= until {
                return Err(error);
            }
            pause.wait().await;
        }
    }

    /// What the chain says; does for the transactions what can be done without ever making two outcomes of one intent.
    async fn look(&self, out: &mut Out) -> Result<Seen, LedgerError> {
        if let Some(receipt) = self.any_receipt(&out.hashes).await? {
            let block = receipt.block_number.unwrap_or(u64::MAX);
            let done = match self.confirmation {
                Confirmation::Mined => true,
                // The receipt is read again each time, so a block that was replaced meanwhile does not count.
                Confirmation::Final => self.ledger.finalized().await?.number >= block,
            };
            return Ok(if done { Seen::Done(Box::new(receipt)) } else { Seen::Waiting });
        }
        if out.compared.elapsed() < Self::COMPARE_AFTER {
            return Ok(Seen::Waiting);
        }
        out.compared = Instant::now();
        let nonce = out.nonce.number();
        if self.fetch_spent().await? > nonce {
            // Asked after the count: if it was one of ours that spent the nonce, its receipt is there by now.
            let ours = self.any_receipt(&out.hashes).await?.is_some();
            return Ok(if ours { Seen::Waiting } else { Seen::Replaced });
        }
        let next = self.fetch_next().await?;
        self.mind_the_gap(out, next).await;
        if out.priced.elapsed() >= Self::RAISE_AFTER {
            self.raise(out).await?;
        } else if next <= nonce && out.sent.is_none_or(|time| time.elapsed() >= Self::RESEND_AFTER) {
            self.resend(out).await?;
        }
        Ok(Seen::Waiting)
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
        // So that two writers of one account hardly ever make the same transaction by chance; in the smallest coin.
        let mark = u128::from(RandomState::new().build_hasher().finish() % 1_000_000);
        Ok(request
            .with_chain_id(chain_id)
            .with_gas_limit((gas + gas / 5).min(self.most_gas.unwrap_or(u64::MAX)))
            .with_max_fee_per_gas(fees.max_fee_per_gas + mark)
            .with_max_priority_fee_per_gas(fees.max_priority_fee_per_gas + mark))
    }

    /// Makes a transaction of the intent under the next nonce and sends it.
    async fn submit(&self, intent: &TransactionRequest) -> Result<Out, LedgerError> {
        let request = self.prepare(intent.clone()).await?;
        let _order = self.account.order().await;
        let mut least = 0;
        let mut attempts = Self::ATTEMPTS;
        loop {
            attempts -= 1;
            let nonce = self.account.hold_from(self.fetch_next().await?.max(least));
            let request = request.clone().with_nonce(nonce.number());
            let (raw, hash) = self.sign(request.clone()).await?;
            let now = Instant::now();
            let sent = match self.broadcast(&raw).await {
                Ok(()) => Some(now),
                // It may or may not have arrived: it keeps its nonce and is sent again until the chain says.
                Err(LedgerError::Unreachable { .. }) => None,
                // A stranger's transaction has the nonce. One that the chain knows "already" is a stranger's too, the very
                // same by chance, for this one was never sent before: it counts for the stranger's intent alone.
                Err(LedgerError::Rpc { message, .. }) if attempts > 0 && is_nonce_taken(&message) => {
                    least = nonce.number() + 1;
                    continue;
                }
                Err(error) => return Err(error),
            };
            return Ok(Out { nonce, request, raw, hashes: vec![hash], priced: now, sent, compared: now, gap: None });
        }
    }

    /// Sends the newest bytes again.
    async fn resend(&self, out: &mut Out) -> Result<(), LedgerError> {
        match self.broadcast(&out.raw).await {
            Ok(()) => {
                tracing::info!(hash = %out.newest(), "transaction sent again");
                out.sent = Some(Instant::now());
                Ok(())
            }
            // The chain has it after all, or has another one for the nonce: the next rounds will tell.
            Err(LedgerError::Rpc { .. }) => {
                out.sent = Some(Instant::now());
                Ok(())
            }
            Err(error) => {
                out.sent = None;
                Err(error)
            }
        }
    }

    /// Offers a higher fee for the same intent under the same nonce.
    async fn raise(&self, out: &mut Out) -> Result<(), LedgerError> {
        let raised = |fee: Option<u128>| fee.map_or(1, |fee| fee + fee / 4 + 1);
        let request = out
            .request
            .clone()
            .with_max_fee_per_gas(raised(out.request.max_fee_per_gas))
            .with_max_priority_fee_per_gas(raised(out.request.max_priority_fee_per_gas));
        let (raw, hash) = self.sign(request.clone()).await?;
        // Noted before it is sent: a broadcast that fails may have arrived all the same.
        out.hashes.push(hash);
        (out.raw, out.request) = (raw, request);
        out.priced = Instant::now();
        out.sent = None;
        self.resend(out).await
    }

    /// Notices a nonce below this one that the chain waits for and that no intent of this process cares for (its intent was
    /// given up, and the chain lost its transaction), and fills it. The filler does nothing, so it cannot be an outcome of
    /// any intent; should the nonce have an owner in another process after all, that one goes on under another nonce.
    async fn mind_the_gap(&self, out: &mut Out, next: u64) {
        if next >= out.nonce.number() || self.account.is_held(next) {
            out.gap = None;
            return;
        }
        match out.gap {
            Some((gap, since)) if gap == next => {
                if since.elapsed() >= Self::FILL_AFTER {
                    out.gap = None;
                    match self.fill(next).await {
                        Ok(()) => tracing::info!(nonce = next, "filled a gap in the nonces of this account"),
                        Err(error) => tracing::debug!(nonce = next, %error, "a gap in the nonces stays for now"),
                    }
                }
            }
            _ => out.gap = Some((next, Instant::now())),
        }
    }

    async fn fill(&self, gap: u64) -> Result<(), LedgerError> {
        let own = AlloyAddress::from(self.address);
        let request = self.prepare(TransactionRequest::default().to(own).value(U256::ZERO)).await?;
        let _order = self.account.order().await;
        if self.account.next_from(self.fetch_next().await?) != gap {
            // It was filled meanwhile.
            return Ok(());
        }
        let (raw, _) = self.sign(request.with_nonce(gap)).await?;
        self.broadcast(&raw).await
    }

    async fn sign(&self, request: TransactionRequest) -> Result<(Vec<u8>, B256), LedgerError> {
        let envelope = request.build(&self.wallet).await.map_err(|_| LedgerError::Key)?;
        Ok((envelope.encoded_2718(), *envelope.tx_hash()))
    }

    async fn broadcast(&self, raw: &[u8]) -> Result<(), LedgerError> {
        self.ledger.ask("eth_sendRawTransaction", self.ledger.provider().send_raw_transaction(raw)).await.map(|_| ())
    }

    /// The first nonce that is neither mined nor ready in the node's pool. A node that shows nothing of its pool gives the
    /// first one that is not mined.
    async fn fetch_next(&self) -> Result<u64, LedgerError> {
        self.fetch_count(BlockId::pending()).await
    }

    /// How many transactions of the account are final: the nonces below are spent for ever.
    async fn fetch_spent(&self) -> Result<u64, LedgerError> {
        let block = self.ledger.finalized().await?;
        self.fetch_count(BlockId::hash(block.hash.into())).await
    }

    async fn fetch_count(&self, block: BlockId) -> Result<u64, LedgerError> {
        let account = AlloyAddress::from(self.address);
        let provider = self.ledger.provider();
        self.ledger
            .ask("eth_getTransactionCount", async { provider.get_transaction_count(account).block_id(block).await })
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

/// Whether a node's words mean that the nonce belongs to another transaction. Geth, Reth, Erigon, Besu, Nethermind and anvil
/// each have words of their own.
fn is_nonce_taken(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["nonce too low", "oldnonce", "already", "known transaction", "replacement"]
        .iter()
        .any(|word| message.contains(word))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_say_in_many_words_that_a_nonce_is_taken() {
        for taken in [
            "nonce too low: next nonce 5, tx nonce 4",
            "replacement transaction underpriced",
            "already known",
            "transaction already imported",
            "Known transaction",
            "Nonce too low",
            "OldNonce, Current nonce: 5",
            "ReplacementNotAllowed",
        ] {
            assert!(is_nonce_taken(taken), "{taken}");
        }
        for other in [
            "transaction underpriced",
            "nonce too high",
            "insufficient funds for gas * price + value",
            "txpool is full",
        ] {
            assert!(!is_nonce_taken(other), "{other}");
        }
    }
}
