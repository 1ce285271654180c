//! What contracts ask, and how answers and publications get to them.

use alloy::{
    primitives::{Address as AlloyAddress, B256, U256},
    rpc::types::{Filter, Log},
    sol_types::{SolEvent, SolValue},
};
use serde::{Deserialize, Serialize};
use tacit_types::{
    Address, CallId, CertificateId, CodeHash, Digest, FunctionId, RootId, UnixTime,
    chain::{Publication, RequestArguments},
    eip712::Receipt,
    register::QuorumAck,
    signature::Signature,
};

use crate::{
    abi::{self, IReceiptVerifier, IRequestHub, IStoredAnswers},
    contracts::STORED_ANSWERS,
    error::LedgerError,
    ledger::{At, BlockRef, Ledger},
    workers::{pack_signatures, signature_to_abi},
    writer::{Outcome, Writer},
};

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestStatus {
    /// Nobody asked.
    None,
    /// Waits for an answer.
    Open,
    /// Answered; the callback, if one was asked for, succeeded.
    Done,
    /// Answered; the callback failed and anybody may retry it.
    CallbackFailed,
    /// The deadline passed unanswered and the fee was given back.
    Refunded,
}

impl RequestStatus {
    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::None,
            1 => Self::Open,
            2 => Self::Done,
            3 => Self::CallbackFailed,
            4 => Self::Refunded,
            _ => return None,
        })
    }
}

/// A request as its event holds it; the id was recomputed from the arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContractRequest {
    /// The request's id, the `callId` of its answer.
    pub id: CallId,
    /// What was asked, by whom.
    pub arguments: RequestArguments,
    /// The block that holds it.
    pub block: u64,
    /// That block's timestamp: an answer's time must not be before.
    pub created_at: UnixTime,
}

/// How far an indexer has read. Kept by the reader between runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cursor {
    /// First block not read yet.
    pub next: u64,
    /// Blocks read last, newest at the end, to notice a reorganisation.
    pub checkpoints: Vec<Checkpoint>,
}

/// A block that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Checkpoint {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: Digest,
}

/// What one step of an indexer found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestPage {
    /// Requests in the order of the chain.
    pub requests: Vec<ContractRequest>,
    /// Where to go on.
    pub cursor: Cursor,
    /// The block from which the chain was replaced since the last step, if it was: requests from there on that were seen
    /// before are void unless they are seen again.
    pub replaced_from: Option<u64>,
}

impl Cursor {
    const CHECKPOINTS: usize = 64;

    /// Starts reading at this block.
    pub const fn from_block(next: u64) -> Self {
        Self { next, checkpoints: Vec::new() }
    }

    fn advance(&mut self, to: BlockRef) {
        self.next = to.number + 1;
        self.checkpoints.push(Checkpoint { number: to.number, hash: to.hash });
        let excess = self.checkpoints.len().saturating_sub(Self::CHECKPOINTS);
        self.checkpoints.drain(..excess);
    }
}

/// Who made a receipt, as the contract found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// Account of the receipt key.
    pub worker: Address,
    /// Account that is paid.
    pub operator: Address,
    /// Root of trust.
    pub root: RootId,
    /// Whether it is simulated.
    pub simulated: bool,
    /// The receipt's digest, computed by the contract.
    pub digest: Digest,
}

/// Whether a consumer takes receipts of workers under a root of trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceptance {
    /// No.
    No,
    /// Yes.
    Yes,
    /// Only with a quorum's acknowledgement.
    OnlyAcknowledged,
}

/// What a `StoredAnswers` contract asks.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// The method's name.
    pub method: &'a str,
    /// The request body.
    pub input: &'a [u8],
    /// Gas that the callback gets; zero for none.
    pub callback_gas: u64,
    /// Sent along, for the operator whose worker answers.
    pub fee: u128,
    /// Last second at which an answer counts.
    pub deadline: UnixTime,
}

/// One answer of a batch.
#[derive(Debug, Clone)]
pub struct BatchAnswer {
    /// The request.
    pub id: CallId,
    /// The response.
    pub response: Vec<u8>,
    /// Its receipt.
    pub receipt: Receipt,
    /// Siblings from the receipt's leaf to the root that the worker signed.
    pub proof: Vec<Digest>,
}

pub(crate) fn receipt_to_abi(receipt: &Receipt) -> abi::Receipt {
    abi::Receipt {
        functionId: receipt.function_id.into(),
        codeHash: receipt.code_hash.into(),
        certificate: receipt.certificate.into(),
        callId: receipt.call_id.into(),
        kind: receipt.kind.code(),
        outcome: receipt.outcome.code(),
        method: receipt.method.into(),
        caller: receipt.caller.into(),
        request: receipt.request.into(),
        response: receipt.response.into(),
        sequence: receipt.sequence,
        headBefore: receipt.head_before.into(),
        headAfter: receipt.head_after.into(),
        fence: receipt.fence,
        effects: receipt.effects.into(),
        usage: receipt.usage.into(),
        fuel: receipt.fuel,
        time: receipt.time.0,
        epoch: receipt.epoch,
    }
}

fn acknowledgement_to_abi(ack: &QuorumAck) -> abi::Acknowledgement {
    abi::Acknowledgement {
        time: ack.batch.time.0,
        receiptProof: words(&ack.receipt_path),
        batchProof: words(&ack.batch_path),
        signatures: pack_signatures(&ack.signatures).into(),
    }
}

fn words(digests: &[Digest]) -> Vec<B256> {
    digests.iter().map(|digest| B256::from(*digest)).collect()
}

/// Receipts of one worker in the form in which a contract checks them at once. They must agree in function, code,
/// certificate, kind, outcome, method, caller, fence and epoch; `None` if they do not.
pub fn compact_batch(receipts: &[Receipt]) -> Option<CompactBatch> {
    let first = receipts.first()?;
    let mut commits: Vec<abi::BatchCommit> = Vec::new();
    let mut full_heads: Vec<(B256, B256, u64)> = Vec::new();
    let mut items = Vec::with_capacity(receipts.len());
    for receipt in receipts {
        let same = receipt.function_id == first.function_id
            && receipt.code_hash == first.code_hash
            && receipt.certificate == first.certificate
            && receipt.kind == first.kind
            && receipt.outcome == first.outcome
            && receipt.method == first.method
            && receipt.caller == first.caller
            && receipt.fence == first.fence
            && receipt.epoch == first.epoch;
        if !same {
            return None;
        }
        let commit = (B256::from(receipt.head_before), B256::from(receipt.head_after), receipt.sequence);
        let index = match full_heads.iter().rposition(|known| *known == commit) {
            Some(index) => index,
            None => {
                let previous = full_heads.last().map_or(B256::ZERO, |(_, after, _)| *after);
                // Zero stands for "the head after the previous commit", so a true zero must follow from the order.
                if commit.0 == B256::ZERO && previous != B256::ZERO {
                    return None;
                }
                let shown = if commit.0 == previous { B256::ZERO } else { commit.0 };
                commits.push(abi::BatchCommit { sequence: commit.2, headBefore: shown, headAfter: commit.1 });
                full_heads.push(commit);
                full_heads.len() - 1
            }
        };
        items.push(abi::BatchItem {
            callId: receipt.call_id.into(),
            request: receipt.request.into(),
            response: receipt.response.into(),
            effects: receipt.effects.into(),
            usage: receipt.usage.into(),
            figures: (U256::from(index) << 128) | (U256::from(receipt.fuel) << 64) | U256::from(receipt.time.0),
        });
    }
    Some(CompactBatch(abi::ReceiptBatch {
        functionId: first.function_id.into(),
        codeHash: first.code_hash.into(),
        certificate: first.certificate.into(),
        kind: first.kind.code(),
        outcome: first.outcome.code(),
        method: first.method.into(),
        caller: first.caller.into(),
        fence: first.fence,
        epoch: first.epoch,
        commits,
        items,
    }))
}

/// Receipts in the form of [`compact_batch`].
#[derive(Debug, Clone)]
pub struct CompactBatch(abi::ReceiptBatch);

impl Ledger {
    pub(crate) async fn logs(&self, filter: &Filter) -> Result<Vec<Log>, LedgerError> {
        use alloy::providers::Provider;
        self.ask("eth_getLogs", self.provider().get_logs(filter)).await
    }

    /// Requests that became final since `cursor`, at most `span` blocks further. With nothing new the page is empty and
    /// the cursor the same.
    ///
    /// # Errors
    /// When the chain cannot be reached; [`LedgerError::Reorganised`] when every checkpoint of the cursor is gone.
    pub async fn requests(&self, cursor: &Cursor, span: u64) -> Result<RequestPage, LedgerError> {
        let mut cursor = cursor.clone();
        let replaced_from = self.rewind(&mut cursor).await?;
        let newest = self.finalized().await?;
        if newest.number < cursor.next {
            return Ok(RequestPage { requests: Vec::new(), cursor, replaced_from });
        }
        let last = cursor.next.saturating_add(span.max(1) - 1);
        let to = if last < newest.number { self.block(last).await? } else { newest };
        let filter = Filter::new()
            .address(AlloyAddress::from(self.addresses().request_hub))
            .event_signature(IRequestHub::Requested::SIGNATURE_HASH)
            .from_block(cursor.next)
            .to_block(to.number);
        let chain_id = self.chain_id().await?;
        let mut requests = Vec::new();
        for log in self.logs(&filter).await? {
            if let Some(request) = self.request_of_log(chain_id, &log).await? {
                requests.push(request);
            }
        }
        cursor.advance(to);
        Ok(RequestPage { requests, cursor, replaced_from })
    }

    /// Drops checkpoints that the chain no longer has.
    async fn rewind(&self, cursor: &mut Cursor) -> Result<Option<u64>, LedgerError> {
        let mut replaced = None;
        while let Some(checkpoint) = cursor.checkpoints.last().copied() {
            match self.block(checkpoint.number).await {
                Ok(block) if block.hash == checkpoint.hash => return Ok(replaced),
                Ok(_) | Err(LedgerError::NoBlock(_)) => {
                    cursor.checkpoints.pop();
                    let Some(earlier) = cursor.checkpoints.last() else {
                        return Err(LedgerError::Reorganised { number: checkpoint.number });
                    };
                    cursor.next = earlier.number + 1;
                    replaced = Some(cursor.next);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(replaced)
    }

    async fn request_of_log(&self, chain_id: u64, log: &Log) -> Result<Option<ContractRequest>, LedgerError> {
        let Ok(event) = IRequestHub::Requested::decode_log(&log.inner) else { return Ok(None) };
        let Some(block) = log.block_number else { return Ok(None) };
        let arguments = RequestArguments {
            chain_id,
            hub: self.addresses().request_hub,
            consumer: event.consumer.into(),
            nonce: u64::try_from(event.nonce).unwrap_or(u64::MAX),
            function_id: event.functionId.into(),
            code_hash: event.codeHash.into(),
            method: event.method.clone(),
            input: event.input.to_vec(),
            callback_gas: event.callbackGas,
            fee: u128::try_from(event.fee).unwrap_or(u128::MAX),
            deadline: UnixTime(event.deadline),
        };
        let id = arguments.id();
        if B256::from(id) != event.id {
            tracing::warn!(block, "the node showed a request whose id is not that of its arguments");
            return Ok(None);
        }
        let created_at = match log.block_timestamp {
            Some(time) => UnixTime(time),
            None => self.block(block).await?.time,
        };
        Ok(Some(ContractRequest { id, arguments, block, created_at }))
    }

    /// Where a request stands.
    ///
    /// # Errors
    /// When the chain cannot be reached.
    pub async fn request_status(&self, id: CallId, at: At) -> Result<RequestStatus, LedgerError> {
        let request = self.view(self.addresses().request_hub, IRequestHub::requestOfCall { id: id.into() }, at).await?;
        RequestStatus::from_code(request.status).ok_or(LedgerError::Answer("requestOf"))
    }

    /// The answer of a request, empty before.
    ///
    /// # Errors
    /// When the chain cannot be reached.
    pub async fn response(&self, id: CallId, at: At) -> Result<Vec<u8>, LedgerError> {
        let call = IRequestHub::responseOfCall { id: id.into() };
        Ok(self.view(self.addresses().request_hub, call, at).await?.to_vec())
    }

    /// Coins that the hub owes an account.
    ///
    /// # Errors
    /// When the chain cannot be reached.
    pub async fn owed(&self, account: Address, at: At) -> Result<u128, LedgerError> {
        let owed =
            self.view(self.addresses().request_hub, IRequestHub::owedCall { account: account.into() }, at).await?;
        Ok(u128::try_from(owed).unwrap_or(u128::MAX))
    }

    /// The contract's verdict on a receipt, without judging its root. A refusal is [`LedgerError::Refused`].
    ///
    /// # Errors
    /// When the contract refuses the receipt or the chain cannot be reached.
    pub async fn inspect_receipt(
        &self,
        receipt: &Receipt,
        signature: &Signature,
        at: At,
    ) -> Result<Author, LedgerError> {
        let call =
            IReceiptVerifier::inspectCall { receipt: receipt_to_abi(receipt), signature: signature_to_abi(signature) };
        self.view(self.addresses().receipt_verifier, call, at).await.map(author)
    }

    /// The contract's verdict on a receipt for one consumer.
    ///
    /// # Errors
    /// When the contract refuses the receipt or the chain cannot be reached.
    pub async fn verify_receipt(
        &self,
        consumer: Address,
        receipt: &Receipt,
        signature: &Signature,
        ack: Option<&QuorumAck>,
        at: At,
    ) -> Result<Author, LedgerError> {
        let (consumer, receipt) = (consumer.into(), receipt_to_abi(receipt));
        let signature = signature_to_abi(signature);
        let verifier = self.addresses().receipt_verifier;
        match ack {
            None => {
                self.view(verifier, IReceiptVerifier::verifyCall { consumer, receipt, signature }, at).await.map(author)
            }
            Some(ack) => {
                let acknowledgement = acknowledgement_to_abi(ack);
                let call = IReceiptVerifier::verifyAcknowledgedCall { consumer, receipt, signature, acknowledgement };
                self.view(verifier, call, at).await.map(author)
            }
        }
    }

    /// The digest that the contract computes for a receipt.
    ///
    /// # Errors
    /// When the chain cannot be reached.
    pub async fn receipt_digest(&self, receipt: &Receipt, at: At) -> Result<Digest, LedgerError> {
        let call = IReceiptVerifier::digestOfCall { receipt: receipt_to_abi(receipt) };
        Ok(self.view(self.addresses().receipt_verifier, call, at).await?.into())
    }

    /// Checks many receipts under one signature; returns the digests that the contract computed.
    ///
    /// # Errors
    /// When the contract refuses the batch or the chain cannot be reached.
    pub async fn verify_batch(
        &self,
        consumer: Address,
        batch: &CompactBatch,
        signature: &Signature,
        at: At,
    ) -> Result<Vec<Digest>, LedgerError> {
        let call = verify_batch_call(consumer, batch, signature);
        let found = self.view(self.addresses().receipt_verifier, call, at).await?;
        Ok(found.digests.into_iter().map(Digest::from).collect())
    }

    /// The consumer [`Writer::deploy_stored_answers`]'s answer to a request, empty before.
    ///
    /// # Errors
    /// When the chain cannot be reached.
    pub async fn stored_answer(&self, consumer: Address, id: CallId, at: At) -> Result<Vec<u8>, LedgerError> {
        Ok(self.view(consumer, IStoredAnswers::answerOfCall { id: id.into() }, at).await?.to_vec())
    }

    /// What a `StoredAnswers` contract holds of a function's publications under a topic.
    ///
    /// # Errors
    /// When the chain cannot be reached.
    pub async fn stored_publication(
        &self,
        consumer: Address,
        function: FunctionId,
        topic: &str,
        at: At,
    ) -> Result<Vec<u8>, LedgerError> {
        let call = IStoredAnswers::publishedCall { functionId: function.into(), topic: topic.to_owned() };
        Ok(self.view(consumer, call, at).await?.to_vec())
    }

    /// Sequence of the last publication that a consumer took, zero for none.
    ///
    /// # Errors
    /// When the chain cannot be reached.
    pub async fn last_sequence(
        &self,
        consumer: Address,
        function: FunctionId,
        topic: &str,
        at: At,
    ) -> Result<u64, LedgerError> {
        let call = IStoredAnswers::lastSequenceCall { functionId: function.into(), topic: topic.to_owned() };
        self.view(consumer, call, at).await
    }
}

fn author(author: IReceiptVerifier::Author) -> Author {
    Author {
        worker: author.worker.into(),
        operator: author.operator.into(),
        root: author.root.into(),
        simulated: author.simulated,
        digest: author.digest.into(),
    }
}

fn verify_batch_call(
    consumer: Address,
    batch: &CompactBatch,
    signature: &Signature,
) -> IReceiptVerifier::verifyBatchCall {
    IReceiptVerifier::verifyBatchCall {
        consumer: consumer.into(),
        batch: batch.0.clone(),
        signature: signature_to_abi(signature),
    }
}

/// An answer and whether its callback succeeded.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The transaction.
    pub outcome: Outcome,
    /// Whether the consumer took the callback; `None` if it asked for none.
    pub called_back: Option<bool>,
}

impl Writer {
    /// Delivers an answer, with the register's acknowledgement if one is given.
    ///
    /// # Errors
    /// When the contract refuses or the transaction is not final in time.
    pub async fn fulfil(
        &self,
        id: CallId,
        response: &[u8],
        receipt: &Receipt,
        signature: &Signature,
        ack: Option<&QuorumAck>,
    ) -> Result<Delivery, LedgerError> {
        let id = id.into();
        let response = response.to_vec().into();
        let receipt = receipt_to_abi(receipt);
        let signature = signature_to_abi(signature);
        let outcome = match ack {
            None => self.hub(IRequestHub::fulfilCall { id, response, receipt, signature }, 0).await?,
            Some(ack) => {
                let acknowledgement = acknowledgement_to_abi(ack);
                self.hub(IRequestHub::fulfilAcknowledgedCall { id, response, receipt, signature, acknowledgement }, 0)
                    .await?
            }
        };
        Ok(delivery(outcome))
    }

    /// Delivers answers of one worker under its one signature over `size` receipts
    /// ([`tacit_types::chain::receipt_batch_digest`]). Requests that are not open any more are passed over.
    ///
    /// # Errors
    /// When the contract refuses or the transaction is not final in time.
    pub async fn fulfil_batch(
        &self,
        answers: &[BatchAnswer],
        size: u64,
        signature: &Signature,
    ) -> Result<Outcome, LedgerError> {
        let answers = answers
            .iter()
            .map(|answer| IRequestHub::Answer {
                id: answer.id.into(),
                response: answer.response.clone().into(),
                receipt: receipt_to_abi(&answer.receipt),
                proof: words(&answer.proof),
            })
            .collect();
        self.hub(IRequestHub::fulfilBatchCall { answers, size, signature: signature_to_abi(signature) }, 0).await
    }

    /// Calls the consumer of an answered request again, with `callback_gas` or what it asked for, whichever is more.
    ///
    /// # Errors
    /// When the contract refuses or the transaction is not final in time.
    pub async fn retry(&self, id: CallId, callback_gas: u64) -> Result<Delivery, LedgerError> {
        self.hub(IRequestHub::retryCall { id: id.into(), callbackGas: callback_gas }, 0).await.map(delivery)
    }

    /// Gives the fee of an unanswered request back after its deadline.
    ///
    /// # Errors
    /// When the contract refuses or the transaction is not final in time.
    pub async fn refund(&self, id: CallId) -> Result<Outcome, LedgerError> {
        self.hub(IRequestHub::refundCall { id: id.into() }, 0).await
    }

    /// Fetches what the hub owes the sender.
    ///
    /// # Errors
    /// When nothing is owed or the transaction is not final in time.
    pub async fn withdraw(&self, to: Address) -> Result<Outcome, LedgerError> {
        self.hub(IRequestHub::withdrawCall { to: to.into() }, 0).await
    }

    /// Delivers a publication to its contract, with the register's acknowledgement if one is given.
    ///
    /// # Errors
    /// When the consumer refuses (for example a sequence that does not rise) or the transaction is not final in time.
    pub async fn publish(
        &self,
        publication: &Publication,
        receipt: &Receipt,
        signature: &Signature,
        ack: Option<&QuorumAck>,
    ) -> Result<Outcome, LedgerError> {
        let Publication { consumer, topic, sequence, data, .. } = publication.clone();
        let (data, receipt, signature) = (data.into(), receipt_to_abi(receipt), signature_to_abi(signature));
        match ack {
            None => {
                self.call(consumer, IStoredAnswers::onPublishCall { topic, sequence, data, receipt, signature }).await
            }
            Some(ack) => {
                let acknowledgement = acknowledgement_to_abi(ack);
                let call = IStoredAnswers::onPublishAcknowledgedCall {
                    topic,
                    sequence,
                    data,
                    receipt,
                    signature,
                    acknowledgement,
                };
                self.call(consumer, call).await
            }
        }
    }

    /// Chooses for the sender, as a consumer, whether workers under a root count.
    ///
    /// # Errors
    /// When the transaction is not final in time.
    pub async fn set_root(&self, root: RootId, acceptance: Acceptance) -> Result<Outcome, LedgerError> {
        let call = IReceiptVerifier::setRootCall { root: root.into(), acceptance: acceptance as u8 };
        self.call(self.ledger().addresses().receipt_verifier, call).await
    }

    /// Runs the contract's verification of a receipt as a transaction: what it costs is the outcome's gas.
    ///
    /// # Errors
    /// When the contract refuses or the transaction is not final in time.
    pub async fn spend_verify(
        &self,
        consumer: Address,
        receipt: &Receipt,
        signature: &Signature,
    ) -> Result<Outcome, LedgerError> {
        let call = IReceiptVerifier::verifyCall {
            consumer: consumer.into(),
            receipt: receipt_to_abi(receipt),
            signature: signature_to_abi(signature),
        };
        self.call(self.ledger().addresses().receipt_verifier, call).await
    }

    /// Runs the contract's verification of a batch as a transaction: what it costs is the outcome's gas.
    ///
    /// # Errors
    /// When the contract refuses or the transaction is not final in time.
    pub async fn spend_verify_batch(
        &self,
        consumer: Address,
        batch: &CompactBatch,
        signature: &Signature,
    ) -> Result<Outcome, LedgerError> {
        let call = verify_batch_call(consumer, batch, signature);
        self.call(self.ledger().addresses().receipt_verifier, call).await
    }

    /// Asks a function as the sender, without a callback: the answer is fetched with [`Ledger::response`].
    ///
    /// # Errors
    /// When the contract refuses or the transaction is not final in time.
    pub async fn request(
        &self,
        function: FunctionId,
        code_hash: Option<CodeHash>,
        method: &str,
        input: &[u8],
        fee: u128,
        deadline: UnixTime,
    ) -> Result<(CallId, Outcome), LedgerError> {
        let call = IRequestHub::requestCall {
            functionId: function.into(),
            codeHash: code_hash.unwrap_or(CodeHash::ZERO).into(),
            method: method.to_owned(),
            input: input.to_vec().into(),
            callbackGas: 0,
            fee: U256::from(fee),
            deadline: deadline.0,
        };
        requested(self.hub(call, fee).await?)
    }

    /// Deploys `StoredAnswers`, the smallest useful consumer, owned by the sender and believing workers under `roots`.
    ///
    /// # Errors
    /// When the transaction is not final in time.
    pub async fn deploy_stored_answers(&self, roots: &[RootId]) -> Result<Address, LedgerError> {
        let hub = AlloyAddress::from(self.ledger().addresses().request_hub);
        let roots: Vec<B256> = roots.iter().map(|root| B256::from(*root)).collect();
        let mut code = STORED_ANSWERS.to_vec();
        code.extend_from_slice(&(hub, roots).abi_encode_params());
        self.deploy(code).await?.created.ok_or(LedgerError::Answer("contract creation"))
    }

    /// Lets a `StoredAnswers` contract ask a function.
    ///
    /// # Errors
    /// When the contract refuses or the transaction is not final in time.
    pub async fn ask_through(
        &self,
        consumer: Address,
        function: FunctionId,
        question: &Question<'_>,
    ) -> Result<(CallId, Outcome), LedgerError> {
        let call = IStoredAnswers::askCall {
            functionId: function.into(),
            codeHash: B256::ZERO,
            method: question.method.to_owned(),
            input: question.input.to_vec().into(),
            callbackGas: question.callback_gas,
            deadline: question.deadline.0,
        };
        requested(self.call_with(consumer, call, question.fee).await?)
    }

    /// Chooses for a `StoredAnswers` contract whether workers under a root count.
    ///
    /// # Errors
    /// When the contract refuses or the transaction is not final in time.
    pub async fn set_root_of(
        &self,
        consumer: Address,
        root: RootId,
        acceptance: Acceptance,
    ) -> Result<Outcome, LedgerError> {
        let call = IStoredAnswers::setRootCall { root: root.into(), acceptance: acceptance as u8 };
        self.call(consumer, call).await
    }

    /// Lets a `StoredAnswers` contract take a function's publications, or no more.
    ///
    /// # Errors
    /// When the contract refuses or the transaction is not final in time.
    pub async fn set_publisher(
        &self,
        consumer: Address,
        function: FunctionId,
        accepted: bool,
    ) -> Result<Outcome, LedgerError> {
        let call = IStoredAnswers::setPublisherCall { functionId: function.into(), codeHash: B256::ZERO, accepted };
        self.call(consumer, call).await
    }

    /// Makes a `StoredAnswers` contract refuse callbacks and publications, or take them again.
    ///
    /// # Errors
    /// When the contract refuses or the transaction is not final in time.
    pub async fn set_paused(&self, consumer: Address, paused: bool) -> Result<Outcome, LedgerError> {
        self.call(consumer, IStoredAnswers::setPausedCall { paused_: paused }).await
    }

    /// Makes a `StoredAnswers` contract fetch what the hub owes it and send it to its owner.
    ///
    /// # Errors
    /// When nothing is owed or the transaction is not final in time.
    pub async fn collect(&self, consumer: Address) -> Result<Outcome, LedgerError> {
        self.call(consumer, IStoredAnswers::collectCall {}).await
    }

    async fn hub<C: alloy::sol_types::SolCall>(&self, call: C, value: u128) -> Result<Outcome, LedgerError> {
        self.call_with(self.ledger().addresses().request_hub, call, value).await
    }
}

fn delivery(outcome: Outcome) -> Delivery {
    let called_back = outcome
        .logs
        .iter()
        .find_map(|log| IRequestHub::CalledBack::decode_log(&log.inner).ok())
        .map(|event| event.success);
    Delivery { outcome, called_back }
}

fn requested(outcome: Outcome) -> Result<(CallId, Outcome), LedgerError> {
    let event = outcome.logs.iter().find_map(|log| IRequestHub::Requested::decode_log(&log.inner).ok());
    let id = event.ok_or(LedgerError::Answer("Requested"))?.id;
    Ok((id.into(), outcome))
}

/// The certificate that receipts of a batch name.
impl CompactBatch {
    /// The certificate of the worker that signed.
    pub fn certificate(&self) -> CertificateId {
        self.0.certificate.into()
    }
}
