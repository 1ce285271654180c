//! A disk that is really full under a worker: a small tmpfs in a mount namespace of its own.

use std::{io::Write as _, path::Path, process::Command, time::Duration};

use serde_json::json;
use tacit_api::ProblemKind;
use tacit_client::CallRequest;

use crate::network::{LONG_LEASE, Network, ask_once, candidate, eventually, json};

/// Set for the run inside the namespace: where the small disk is mounted.
const INSIDE: &str = "TACIT_TEST_FULL_DISK";

#[test]
fn a_full_disk_refuses_commands_by_name_answers_queries_and_loses_nothing() {
    if let Some(folder) = std::env::var_os(INSIDE) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        return runtime.block_on(fill(Path::new(&folder)));
    }
    let folder = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=128m tmpfs \"$0\" && { \"$1\" --exact full_disk::a_full_disk_refuses_commands_by_name_answers_queries_and_loses_nothing; status=$?; umount \"$0\"; exit $status; }";
    let status = Command::new("unshare")
        .args(own_mounts())
        .args(["sh", "-c", script])
        .arg(folder.path())
        .arg(std::env::current_exe().unwrap())
        .env(INSIDE, folder.path())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

/// What gives `unshare` mounts of its own: as an ordinary user through a user namespace, else, as in a chroot, where the kernel
/// allows none, as root.
fn own_mounts() -> &'static [&'static str] {
    const WAYS: [&[&str]; 2] = [&["--mount", "--map-root-user", "--user"], &["--mount", "--propagation", "unchanged"]];
    let works = |way: &&&[&str]| Command::new("unshare").args(**way).arg("true").output().unwrap().status.success();
    WAYS.iter().find(works).expect("neither user namespaces nor root")
}

async fn fill(disk: &Path) {
    let network = Network::start().await;
    // The worker's own folder and the functions' state are both on the small disk.
    let mut config = network.config(0);
    config.folder = disk.join("worker");
    config.store = disk.join("store");
    config.limits.lease_seconds = LONG_LEASE;
    let worker = network.worker_with(config.clone()).await;
    let function = network.deploy("full", "").await;
    let client = network.client();
    assert_eq!(json(&client, function, "add", json!({ "amount": 1 })).await, json!({ "total": 1 }));
    let candidate = candidate(&client, &worker, function).await;

    let blocker = disk.join("blocker");
    let mut file = std::fs::File::create(&blocker).unwrap();
    let full = loop {
        if let Err(error) = file.write_all(&[0; 4_096]) {
            break error;
        }
    };
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);

    let request = CallRequest::new(function, "add", r#"{"amount":10}"#);
    let refused = eventually("the full disk is named", async || {
        let refused = ask_once(&client, &candidate, &request).await.err().expect("nothing can be stored");
        (refused.kind == ProblemKind::StorageUnavailable).then_some(refused)
    })
    .await;
    assert!(refused.detail.contains("the disk is full") && refused.hint.is_some(), "{refused}");
    assert_eq!(json(&client, function, "total", json!(null)).await, json!({ "total": 1 }));

    // A long command that began upon the writes of a short one, which then cannot be stored, is refused with it: there is room again
    // before the long one ends, and nothing of either may be in what it would write.
    let slow = |amount: u64, milliseconds: u64| {
        let body = format!(r#"{{"amount":{amount},"milliseconds":{milliseconds}}}"#);
        CallRequest::new(function, "addLater", body)
    };
    let (first, short) = (slow(100, 1_000), CallRequest::new(function, "add", r#"{"amount":1000}"#));
    let long = slow(10_000, 3_000);
    let later = async |wait: u64, request: &CallRequest| {
        tokio::time::sleep(Duration::from_millis(wait)).await;
        ask_once(&client, &candidate, request).await
    };
    let room = async {
        // All three are in one round by then, and the long one runs.
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        std::fs::remove_file(&blocker).unwrap();
    };
    drop(file);
    let (first, short, long, ()) = tokio::join!(later(0, &first), later(200, &short), later(400, &long), room);
    for refused in [first, short, long] {
        let refused = refused.err().expect("what it was built upon is not stored");
        assert_eq!(refused.kind, ProblemKind::StorageUnavailable, "{refused}");
    }
    assert_eq!(json(&client, function, "total", json!(null)).await, json!({ "total": 1 }));

    // With room again the same command runs, once, and another process finds everything.
    for _ in 0..2 {
        assert_eq!(client.call(&request).await.unwrap().response(), br#"{"total":11}"#);
    }
    worker.stop().await;
    let again = network.worker_with(config).await;
    assert_eq!(json(&client, function, "total", json!(null)).await, json!({ "total": 11 }));
    again.stop().await;
}
