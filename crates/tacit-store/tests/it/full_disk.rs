//! A disk that is really full: a small tmpfs in a mount namespace of its own.

use std::{path::Path, process::Command};

use tacit_store::{StoreError, open_local};
use tacit_types::register::Position;

use crate::network::{contents, open, set, take_over};

/// Set for the run inside the namespace: where the small disk is mounted.
const INSIDE: &str = "TACIT_TEST_FULL_DISK";

#[test]
fn a_full_disk_refuses_the_command_and_loses_nothing() {
    if let Some(folder) = std::env::var_os(INSIDE) {
        return tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(fill(Path::new(&folder)));
    }
    let folder = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=65536 tmpfs \"$0\" && { \"$1\" --exact full_disk::a_full_disk_refuses_the_command_and_loses_nothing; status=$?; umount \"$0\"; exit $status; }";
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

async fn fill(folder: &Path) {
    let blocker = folder.join("blocker");
    std::fs::write(&blocker, vec![0; 16_384]).unwrap();
    let store = open_local(folder).unwrap();
    let mut log = take_over(&store, Position::START, 1).await.unwrap();
    let value = "x".repeat(7_000);
    let mut stored = 0;
    let error = loop {
        match set(&mut log, &format!("key{stored}"), &value).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 100, "the disk never fills");
    };
    assert!(matches!(error, StoreError::DiskFull(_)), "{error:?}");
    assert_eq!((error.to_string().as_str(), error.is_retryable()), ("the disk is full", true));
    assert!(stored > 2 && contents(&log).len() == stored);
    assert!(matches!(set(&mut log, "again", &value).await, Err(StoreError::DiskFull(_))));
    // What was there is there, and once there is room the same log goes on.
    assert_eq!(contents(&open(&store, log.position().unwrap()).await.unwrap()).len(), stored);
    std::fs::remove_file(&blocker).unwrap();
    set(&mut log, "again", &value).await.unwrap();
    assert_eq!(contents(&open(&store, log.position().unwrap()).await.unwrap()).len(), stored + 1);
}
