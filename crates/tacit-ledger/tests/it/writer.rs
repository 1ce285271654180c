//! One outcome per intent, whatever the chain and other writers of the account do meanwhile.

use std::time::{Duration, Instant};

use alloy::{
    eips::Encodable2718,
    network::{EthereumWallet, NetworkTransactionBuilder, TransactionBuilder},
    primitives::{Address as AlloyAddress, Bytes, U256},
    rpc::{
        client::{ClientBuilder, RpcClient},
        types::TransactionRequest,
    },
    signers::local::PrivateKeySigner,
};
use serde_json::{Value, json};
use tacit_ledger::{Anvil, At, Confirmation, Ledger, LedgerError, Outcome, predict_addresses};
use tacit_types::{Address, Digest, deployment::Finality, signature::SigningKey};
use tokio::task::JoinHandle;

use crate::{
    chain::kill,
    fixture::{CHAIN, Cluster, ETHER, FINALIZED, key, refused, start_anvil},
};

const TO: [u8; 20] = [0x62; 20];
const ELSEWHERE: [u8; 20] = [0x63; 20];
/// Long enough for a slow machine; what waits for ever fails after it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A chain that mines when it is told to, and an account on it.
struct Chain {
    anvil: Anvil,
    ledger: Ledger,
    sender: SigningKey,
    node: Node,
    _folder: tempfile::TempDir,
}

impl Chain {
    async fn start(finality: Finality) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let anvil = start_anvil(folder.path()).await;
        let sender = key(0x61);
        anvil.fund(sender.address(), 10 * ETHER).await.unwrap();
        let ledger = Ledger::connect(anvil.url(), predict_addresses(Address::ZERO, 0), finality).unwrap();
        let node = Node::new(anvil.url(), &sender);
        node.automine(false).await;
        Self { anvil, ledger, sender, node, _folder: folder }
    }

    fn transfer(&self, writer: &tacit_ledger::Writer) -> JoinHandle<Result<Outcome, LedgerError>> {
        let writer = writer.clone().confirming(Confirmation::Mined).with_patience(PATIENCE);
        tokio::spawn(async move { writer.transfer(TO.into(), 1).await })
    }

    async fn balance(&self, account: [u8; 20]) -> u128 {
        self.ledger.balance(account.into(), At::Latest).await.unwrap()
    }
}

/// anvil, and what the account has in its pool.
struct Node {
    rpc: RpcClient,
    account: AlloyAddress,
    wallet: EthereumWallet,
}

impl Node {
    fn new(url: &str, sender: &SigningKey) -> Self {
        let signer = PrivateKeySigner::from_slice(sender.to_secret_bytes().as_slice()).unwrap();
        Self {
            rpc: ClientBuilder::default().http(url.parse().unwrap()),
            account: signer.address(),
            wallet: EthereumWallet::from(signer),
        }
    }

    async fn automine(&self, on: bool) {
        let _: Value = self.rpc.request("evm_setAutomine", (on,)).await.unwrap();
    }

    async fn mine(&self) {
        let _: Value = self.rpc.request("evm_mine", json!([])).await.unwrap();
    }

    /// Mines what is in the pool, and from now on whatever arrives.
    async fn mine_all(&self) {
        self.automine(true).await;
        self.mine().await;
    }

    /// The account's transaction with that nonce in the pool, whether its turn has come or not.
    async fn pooled(&self, nonce: u64) -> Option<Value> {
        let pool: Value = self.rpc.request("txpool_content", json!([])).await.unwrap();
        let account = self.account.to_string().to_lowercase();
        ["pending", "queued"].into_iter().find_map(|part| {
            let accounts = pool[part].as_object()?;
            let (_, transactions) = accounts.iter().find(|(name, _)| name.to_lowercase() == account)?;
            transactions.get(nonce.to_string()).cloned()
        })
    }

    /// Waits for it and gives its hash.
    async fn arrived(&self, nonce: u64) -> Digest {
        self.arrived_whole(nonce).await["hash"].as_str().unwrap().parse().unwrap()
    }

    async fn arrived_whole(&self, nonce: u64) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(transaction) = self.pooled(nonce).await {
                return transaction;
            }
            assert!(Instant::now() < until, "nothing with nonce {nonce} came into the pool");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Takes a transaction out of the pool, as a node does that is short of memory.
    async fn forget(&self, hash: Digest) {
        let _: Value = self.rpc.request("anvil_dropTransaction", (hash.to_string(),)).await.unwrap();
    }

    /// What another process with the same key sends, with a fee that wins.
    async fn stranger_sends(&self, nonce: u64, to: AlloyAddress, input: Bytes, value: u64) -> Digest {
        let request = TransactionRequest::default()
            .to(to)
            .input(input.into())
            .value(U256::from(value))
            .with_chain_id(CHAIN)
            .with_nonce(nonce)
            .with_gas_limit(500_000)
            .with_max_fee_per_gas(200_000_000_000)
            .with_max_priority_fee_per_gas(100_000_000_000);
        let envelope = request.build(&self.wallet).await.unwrap();
        let hash: Value =
            self.rpc.request("eth_sendRawTransaction", (Bytes::from(envelope.encoded_2718()),)).await.unwrap();
        hash.as_str().unwrap().parse().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stranger_replaced_is_done_once_under_another_nonce() {
    let chain = Chain::start(FINALIZED).await;
    let writer = chain.ledger.writer(&chain.sender).unwrap();
    let sent = chain.transfer(&writer);
    let first = chain.node.arrived(0).await;
    let theirs = chain.node.stranger_sends(0, ELSEWHERE.into(), Bytes::new(), 1).await;
    assert_eq!(chain.node.arrived(0).await, theirs, "it takes the place of ours");
    chain.node.mine_all().await;
    let outcome = sent.await.unwrap().unwrap();
    assert_ne!(outcome.hash, first);
    assert_eq!((chain.balance(TO).await, chain.balance(ELSEWHERE).await), (1, 1));
    assert_eq!(writer.next_nonce().await.unwrap(), 2);
    chain.anvil.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nonce_is_given_up_only_when_it_is_spent_in_a_final_block() {
    let depth = 8;
    let chain = Chain::start(Finality::Confirmations(depth)).await;
    let writer = chain.ledger.writer(&chain.sender).unwrap();
    let sent = chain.transfer(&writer);
    let first = chain.node.arrived(0).await;
    let before = chain.ledger.latest().await.unwrap().number;
    chain.node.stranger_sends(0, ELSEWHERE.into(), Bytes::new(), 1).await;
    chain.node.mine().await;
    // The supervisor puts two empty blocks on top, which is not enough here.
    let until = Instant::now() + PATIENCE;
    while chain.ledger.latest().await.unwrap().number < before + 3 {
        assert!(Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(chain.balance(ELSEWHERE).await, 1);
    // Time to look for several times; a second transaction would wait in the pool.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(chain.node.pooled(1).await, None, "what the stranger did may still be undone");

    // It is undone: the first transaction counts after all, and nothing else was made of the intent.
    let latest = chain.ledger.latest().await.unwrap().number;
    let _: Value = chain.node.rpc.request("anvil_reorg", json!([latest - before, []])).await.unwrap();
    assert_eq!(chain.node.arrived(0).await, first, "the same bytes are sent again");
    chain.node.mine_all().await;
    assert_eq!(sent.await.unwrap().unwrap().hash, first);
    assert_eq!((chain.balance(TO).await, chain.balance(ELSEWHERE).await), (1, 0));
    assert_eq!(writer.next_nonce().await.unwrap(), 1);
    chain.anvil.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_pool_forgot_is_sent_again_as_it_was() {
    let chain = Chain::start(FINALIZED).await;
    let writer = chain.ledger.writer(&chain.sender).unwrap();
    let sent = chain.transfer(&writer);
    let first = chain.node.arrived(0).await;
    chain.node.forget(first).await;
    assert_eq!(chain.node.arrived(0).await, first);
    chain.node.mine_all().await;
    assert_eq!(sent.await.unwrap().unwrap().hash, first);
    assert_eq!(chain.balance(TO).await, 1);
    chain.anvil.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_in_the_pool_of_a_chain_that_was_killed_is_done_once() {
    let chain = Chain::start(FINALIZED).await;
    let writer = chain.ledger.writer(&chain.sender).unwrap();
    let sent: Vec<_> = (0..3).map(|_| chain.transfer(&writer)).collect();
    for nonce in 0..3 {
        chain.node.arrived(nonce).await;
    }
    let mut restarts = chain.anvil.restarts();
    kill(chain.anvil.pid());
    tokio::time::timeout(PATIENCE, restarts.changed()).await.expect("it is started again").unwrap();
    // A chain that was started anew mines at once.
    for sent in sent {
        sent.await.unwrap().unwrap();
    }
    assert_eq!(chain.balance(TO).await, 3);
    assert_eq!(writer.next_nonce().await.unwrap(), 3);
    chain.anvil.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_that_a_lost_intent_left_does_not_hold_up_the_next() {
    let chain = Chain::start(FINALIZED).await;
    let writer = chain.ledger.writer(&chain.sender).unwrap();
    let given_up = chain.transfer(&writer);
    let lost = chain.node.arrived(0).await;
    let sent = chain.transfer(&writer);
    chain.node.arrived(1).await;
    // Its caller goes away, and the chain loses its transaction: nobody cares for nonce 0 any more.
    given_up.abort();
    assert!(given_up.await.unwrap_err().is_cancelled());
    chain.node.forget(lost).await;
    chain.node.automine(true).await;
    sent.await.unwrap().unwrap();
    assert_eq!(chain.balance(TO).await, 1, "what filled the gap did nothing");
    assert_eq!(writer.next_nonce().await.unwrap(), 2);
    // And a later intent, of another process even, goes on from there.
    chain.transfer(&chain.ledger.writer(&chain.sender).unwrap()).await.unwrap().unwrap();
    assert_eq!(chain.balance(TO).await, 2);
    chain.anvil.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_taken_by_the_next_intent() {
    let chain = Chain::start(FINALIZED).await;
    let writer = chain.ledger.writer(&chain.sender).unwrap();
    let given_up = chain.transfer(&writer);
    let lost = chain.node.arrived(0).await;
    given_up.abort();
    assert!(given_up.await.unwrap_err().is_cancelled());
    chain.node.forget(lost).await;
    assert_eq!(writer.next_nonce().await.unwrap(), 0);
    chain.node.automine(true).await;
    chain.transfer(&writer).await.unwrap().unwrap();
    assert_eq!((chain.balance(TO).await, writer.next_nonce().await.unwrap()), (1, 1));
    chain.anvil.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stranger_did_already_is_refused_by_the_contract_and_not_done_twice() {
    let cluster = Cluster::start().await;
    let node = Node::new(cluster.anvil.url(), &key(0x11));
    node.automine(false).await;
    let nonce = cluster.owner.next_nonce().await.unwrap();
    let (writer, function) = (cluster.owner.clone().with_patience(PATIENCE), cluster.function);
    let sent = tokio::spawn(async move { writer.freeze_function(function).await });
    let ours = node.arrived_whole(nonce).await;
    let to: AlloyAddress = ours["to"].as_str().unwrap().parse().unwrap();
    let input: Bytes = ours["input"].as_str().unwrap().parse().unwrap();
    node.stranger_sends(nonce, to, input, 0).await;
    node.mine_all().await;
    assert_eq!(refused(sent.await.unwrap()), "IsFrozen");
    assert!(cluster.ledger.function(function, At::Final).await.unwrap().unwrap().frozen);
    assert_eq!(cluster.owner.next_nonce().await.unwrap(), nonce + 1);
    cluster.anvil.stop().await;
}
