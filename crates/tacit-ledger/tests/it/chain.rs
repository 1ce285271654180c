//! The chain itself: finality, snapshots, kill -9, reorganisations, nonces, an RPC that is not there.

use std::{net::TcpListener, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tacit_ledger::{At, Confirmation, Cursor, Ledger, LedgerError, RequestStatus, predict_addresses};
use tacit_types::{Address, ClusterId, deployment::Finality};

use crate::fixture::{Cluster, ETHER, FINALIZED, key, start_anvil};

pub fn kill(pid: u32) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn contracts_are_where_they_were_predicted_and_belong_to_the_cluster() {
    let cluster = Cluster::start().await;
    cluster.ledger.check_contracts(cluster.id, At::Final).await.unwrap();
    let other = cluster.ledger.check_contracts(ClusterId::from([1; 32]), At::Final).await;
    assert!(matches!(other, Err(LedgerError::ForeignContract { contract: "GatekeeperSet", .. })), "{other:?}");
    let elsewhere = predict_addresses(cluster.owner.address(), 1);
    let ledger = Ledger::connect(cluster.anvil.url(), elsewhere, FINALIZED).unwrap();
    assert!(matches!(ledger.check_contracts(cluster.id, At::Final).await, Err(LedgerError::ForeignContract { .. })));
    let (set, _) = cluster.ledger.gatekeepers(At::Final).await.unwrap();
    assert_eq!(set, crate::fixture::gatekeeper_set());
    cluster.anvil.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_final_survives_kill_9_of_the_chain() {
    let cluster = Cluster::start().await;
    let before = cluster.ledger.finalized().await.unwrap();
    let record = cluster.ledger.function(cluster.function, At::Final).await.unwrap().unwrap();
    let mut restarts = cluster.anvil.restarts();
    let pid = cluster.anvil.pid();
    kill(pid);
    tokio::time::timeout(Duration::from_secs(60), restarts.changed()).await.expect("it is started again").unwrap();
    assert_ne!(cluster.anvil.pid(), pid);

    let again = cluster.ledger.block(before.number).await.unwrap();
    assert_eq!(again, before);
    let newest = cluster.ledger.finalized().await.unwrap();
    assert!(newest.number >= before.number);
    let restored = cluster.ledger.function(cluster.function, At::Final).await.unwrap().unwrap();
    assert_eq!(restored.code_hash, record.code_hash);
    cluster.owner.freeze_function(cluster.function).await.unwrap();
    assert!(
        cluster
            .ledger
            .prove_function(cluster.function, cluster.ledger.finalized().await.unwrap())
            .await
            .unwrap()
            .unwrap()
            .frozen
    );
    cluster.anvil.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chain_goes_on_where_it_stopped_on_the_same_port() {
    let Cluster { anvil, folder, function, ledger, .. } = Cluster::start().await;
    let (port, before) = (anvil.port(), ledger.finalized().await.unwrap());
    anvil.stop().await;
    let down = ledger.finalized().await.unwrap_err();
    assert!(down.is_unreachable(), "{down}");

    let anvil = start_anvil(folder.path()).await;
    assert_eq!(anvil.port(), port);
    assert_eq!(ledger.block(before.number).await.unwrap(), before);
    assert!(ledger.function(function, At::Final).await.unwrap().is_some());
    anvil.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_has_one_supervisor() {
    let folder = tempfile::tempdir().unwrap();
    let first = start_anvil(folder.path()).await;
    let binary = tacit_ledger::anvil::AnvilSearch::from_environment().find().unwrap();
    let config = tacit_ledger::anvil::AnvilConfig { binary, directory: folder.path().into(), port: None, chain_id: 1 };
    let second = tacit_ledger::anvil::Anvil::start(config).await;
    assert!(matches!(second.err(), Some(LedgerError::LocalChain { .. })));
    assert!(first.fund(Address::from([5; 20]), 7).await.is_ok());
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_chain_does_not_grow() {
    let folder = tempfile::tempdir().unwrap();
    let anvil = start_anvil(folder.path()).await;
    let ledger = Ledger::connect(anvil.url(), predict_addresses(Address::ZERO, 0), FINALIZED).unwrap();
    let height = ledger.latest().await.unwrap().number;
    // Twenty looks of the supervisor.
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(ledger.latest().await.unwrap().number, height);
    anvil.fund(Address::from([5; 20]), 7).await.unwrap();
    assert_eq!(ledger.balance(Address::from([5; 20]), At::Final).await.unwrap(), 7);
    assert_eq!(ledger.latest().await.unwrap().number, height + 3);
    anvil.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_block_is_noticed_and_read_again() {
    let cluster = Cluster::start().await;
    // Every block counts at once here, so a reorganisation can reach what was read.
    let hasty = Ledger::connect(cluster.anvil.url(), *cluster.ledger.addresses(), Finality::Confirmations(0)).unwrap();
    let consumer = cluster.consumer().await;
    let start = hasty.latest().await.unwrap().number;
    let first = hasty.requests(&Cursor::from_block(start), 1_000).await.unwrap();
    let request = cluster.ask(consumer, 0, 0).await;
    let seen = hasty.requests(&first.cursor, 1_000).await.unwrap();
    assert_eq!(seen.requests, std::slice::from_ref(&request));
    assert_eq!(seen.replaced_from, None);
    let nothing = hasty.requests(&seen.cursor, 1_000).await.unwrap();
    assert_eq!((nothing.requests.len(), &nothing.cursor), (0, &seen.cursor));

    let depth = hasty.latest().await.unwrap().number - first.cursor.next + 1;
    let _: Value = cluster.rpc().request("anvil_reorg", json!([depth, []])).await.unwrap();
    let after = hasty.requests(&seen.cursor, 1_000).await.unwrap();
    assert_eq!(after.replaced_from, Some(first.cursor.next));
    assert_eq!(after.requests, []);
    assert_eq!(hasty.request_status(request.id, At::Latest).await.unwrap(), RequestStatus::None);

    let lost =
        hasty.requests(&Cursor { checkpoints: seen.cursor.checkpoints[1..].to_vec(), ..seen.cursor }, 1_000).await;
    assert!(matches!(lost, Err(LedgerError::Reorganised { .. })), "{lost:?}");
    cluster.anvil.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clones_and_strangers_share_an_account_without_losing_a_transaction() {
    let folder = tempfile::tempdir().unwrap();
    let anvil = start_anvil(folder.path()).await;
    let sender = key(0x61);
    anvil.fund(sender.address(), 10 * ETHER).await.unwrap();
    let ledger = Ledger::connect(anvil.url(), predict_addresses(Address::ZERO, 0), FINALIZED).unwrap();
    let to = Address::from([0x62; 20]);
    let writers = [ledger.writer(&sender).unwrap(), ledger.writer(&sender).unwrap()];
    let tasks: Vec<_> = (0..24)
        .map(|index| {
            let writer = writers[index % 2].clone().confirming(Confirmation::Mined);
            tokio::spawn(async move { writer.transfer(to, 1).await })
        })
        .collect();
    let mut hashes = std::collections::BTreeSet::new();
    for task in tasks {
        hashes.insert(task.await.unwrap().unwrap().hash);
    }
    assert_eq!(hashes.len(), 24);
    assert_eq!(ledger.balance(to, At::Latest).await.unwrap(), 24);
    assert_eq!(writers[0].next_nonce().await.unwrap().max(writers[1].next_nonce().await.unwrap()), 24);
    anvil.stop().await;
}

#[tokio::test]
async fn a_chain_that_is_not_there_is_its_own_error() {
    let addresses = predict_addresses(Address::ZERO, 0);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ledger = Ledger::connect(&format!("http://{closed}"), addresses, FINALIZED).unwrap();
    let error = ledger.finalized().await.unwrap_err();
    assert!(error.is_unreachable(), "{error:?}");

    // Accepts connections, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let ledger = Ledger::connect(&format!("http://{}", silent.local_addr().unwrap()), addresses, FINALIZED)
        .unwrap()
        .with_timeout(Duration::from_millis(200));
    let error = ledger.chain_id().await.unwrap_err();
    assert!(error.is_unreachable() && error.to_string().contains("200 ms"), "{error}");
}
