//! What a hostile store can do to a folder, and what loading says to it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use object_store::ObjectStore;
use tacit_store::{StateKeys, StateLog, StoreError, open_local};
use tacit_types::{FunctionId, Head, register::Position};
use tempfile::TempDir;

use crate::network::{contents, function, keys, map, open, set, take_over};

struct Folder {
    folder: TempDir,
    store: Arc<dyn ObjectStore>,
    acknowledged: Position,
}

impl Folder {
    /// Four commits under fence 1.
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open_local(folder.path()).unwrap();
        let mut log = take_over(&store, Position::START, 1).await.unwrap();
        for value in ["1", "2", "3", "4"] {
            set(&mut log, "a", value).await.unwrap();
        }
        let acknowledged = log.position().unwrap();
        Self { folder, store, acknowledged }
    }

    fn path(&self, function: FunctionId, sequence: u64, fence: u64) -> PathBuf {
        self.folder.path().join(function.to_string()).join(format!("{sequence:020}.{fence:020}"))
    }

    fn object(&self, sequence: u64) -> PathBuf {
        self.path(function(), sequence, 1)
    }

    async fn refusal(&self) -> String {
        open(&self.store, self.acknowledged).await.err().expect("refused").to_string()
    }
}

fn alter(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn the_acknowledged_state_is_loaded() {
    let folder = Folder::new().await;
    let log = open(&folder.store, folder.acknowledged).await.unwrap();
    assert_eq!(contents(&log), map(&[("a", "4")]));
    assert_eq!(log.record(crate::network::call_id("a=2")).unwrap().0, 2);
    let earlier = Position { fence: 1, sequence: 4, head: folder.acknowledged.head };
    assert_eq!(open(&folder.store, earlier).await.unwrap().head(), folder.acknowledged.head);
}

#[tokio::test]
async fn no_plaintext_is_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_local(folder.path()).unwrap();
    let mut log = take_over(&store, Position::START, 1).await.unwrap();
    set(&mut log, "plaintext-marker-key", "plaintext-marker-value").await.unwrap();
    let object = fs::read(folder.path().join(function().to_string()).join(format!("{:020}.{:020}", 1, 1))).unwrap();
    assert!(object.len() > 100 && !object.windows(16).any(|window| window == b"plaintext-marker"));
}

#[tokio::test]
async fn a_store_that_is_behind_is_refused() {
    let folder = Folder::new().await;
    fs::remove_file(folder.object(4)).unwrap();
    fs::remove_file(folder.object(3)).unwrap();
    assert_eq!(folder.refusal().await, "state rolled back: store ends at 2, quorum acknowledged 4");
}

#[tokio::test]
async fn a_missing_object_is_named() {
    let folder = Folder::new().await;
    fs::remove_file(folder.object(2)).unwrap();
    assert_eq!(folder.refusal().await, "state incomplete: the object of sequence 2 is missing, quorum acknowledged 4");
}

#[tokio::test]
async fn a_torn_object_is_named() {
    let folder = Folder::new().await;
    alter(&folder.object(3), |bytes| bytes.truncate(bytes.len() - 1));
    assert!(folder.refusal().await.starts_with("state damaged: the object 3.1 is torn"));
    alter(&folder.object(3), Vec::clear);
    assert!(folder.refusal().await.contains("is torn (0 of"));
}

#[tokio::test]
async fn an_altered_object_is_named() {
    let folder = Folder::new().await;
    alter(&folder.object(3), |bytes| *bytes.last_mut().unwrap() ^= 1);
    assert_eq!(
        folder.refusal().await,
        "state altered: no object of sequence 3 leads to the head that the quorum acknowledged at 4"
    );
}

#[tokio::test]
async fn swapped_objects_are_named() {
    let folder = Folder::new().await;
    fs::copy(folder.object(2), folder.object(3)).unwrap();
    assert_eq!(folder.refusal().await, "state swapped: the object named 3.1 is 2.1");
}

#[tokio::test]
async fn another_functions_object_is_named() {
    let folder = Folder::new().await;
    let other = FunctionId::from([0xf2; 32]);
    let mut log = StateLog::open(Arc::clone(&folder.store), other, keys(), Position::START).await.unwrap();
    log.write_under(1, 1).unwrap();
    set(&mut log, "a", "x").await.unwrap();
    fs::copy(folder.path(other, 1, 1), folder.object(1)).unwrap();
    assert_eq!(folder.refusal().await, format!("state swapped: the object 1.1 belongs to function {other}"));
}

#[tokio::test]
async fn a_wrong_key_is_named() {
    let folder = Folder::new().await;
    let open = |keys| StateLog::open(Arc::clone(&folder.store), function(), keys, folder.acknowledged);
    assert!(matches!(
        open(StateKeys::new(1, [8; 32])).await,
        Err(StoreError::WrongKey { key_epoch: 1, sequence: 1, fence: 1 })
    ));
    assert!(matches!(open(StateKeys::new(2, [7; 32])).await, Err(StoreError::NoKey(1))));
}

#[tokio::test]
async fn another_head_than_acknowledged_is_refused() {
    let folder = Folder::new().await;
    let open = |target| open(&folder.store, target);
    let altered = Position { head: Head::from([1; 32]), ..folder.acknowledged };
    assert!(matches!(open(altered).await, Err(StoreError::Altered { sequence: 4, .. })));
    let altered = Position { sequence: 0, ..folder.acknowledged };
    assert!(matches!(open(altered).await, Err(StoreError::Altered { sequence: 0, .. })));
}

#[tokio::test]
async fn foreign_files_in_the_folder_are_ignored() {
    let folder = Folder::new().await;
    fs::write(folder.folder.path().join(function().to_string()).join("notes.txt"), "x").unwrap();
    fs::write(folder.path(function(), 3, 9), "x").unwrap();
    assert_eq!(contents(&open(&folder.store, folder.acknowledged).await.unwrap()), map(&[("a", "4")]));
}

#[tokio::test]
async fn of_two_writers_the_acknowledged_one_counts() {
    let folder = Folder::new().await;
    let mut first = take_over(&folder.store, folder.acknowledged, 2).await.unwrap();
    let mut second = take_over(&folder.store, folder.acknowledged, 3).await.unwrap();
    set(&mut first, "a", "first").await.unwrap();
    set(&mut second, "a", "second").await.unwrap();
    set(&mut first, "b", "first").await.unwrap();
    let (left, right) = (first.position().unwrap(), second.position().unwrap());
    assert_eq!(contents(&open(&folder.store, left).await.unwrap()), map(&[("a", "first"), ("b", "first")]));
    assert_eq!(contents(&open(&folder.store, right).await.unwrap()), map(&[("a", "second")]));

    let third = take_over(&folder.store, right, 4).await.unwrap();
    assert_eq!(third.collect().await.unwrap(), 2);
    assert!(matches!(open(&folder.store, left).await, Err(StoreError::RolledBack { store_ends: 5, acknowledged: 6 })));
    assert_eq!(contents(&open(&folder.store, right).await.unwrap()), map(&[("a", "second")]));
}

#[tokio::test]
async fn a_clone_with_the_same_fence_closes_the_log() {
    let folder = Folder::new().await;
    let mut original = take_over(&folder.store, folder.acknowledged, 2).await.unwrap();
    let mut copy = take_over(&folder.store, folder.acknowledged, 2).await.unwrap();
    set(&mut original, "a", "original").await.unwrap();
    assert!(matches!(set(&mut copy, "a", "copy").await, Err(StoreError::Fenced { sequence: 5, fence: 2 })));
    assert!(matches!(set(&mut copy, "a", "copy").await, Err(StoreError::Closed)));
    assert_eq!(contents(&copy), map(&[("a", "4")]));
    let log = open(&folder.store, original.position().unwrap()).await.unwrap();
    assert_eq!(contents(&log), map(&[("a", "original")]));
}

#[tokio::test]
async fn fences_only_rise() {
    let folder = Folder::new().await;
    let mut log = open(&folder.store, folder.acknowledged).await.unwrap();
    assert!(matches!(set(&mut log, "a", "5").await, Err(StoreError::NoFence)));
    assert!(matches!(log.write_under(1, 1), Err(StoreError::Fence { current: 1, asked: 1 })));
    assert!(matches!(log.write_under(2, 9), Err(StoreError::NoKey(9))));
    log.write_under(2, 1).unwrap();
    assert_eq!(log.position(), Some(Position { fence: 2, ..folder.acknowledged }));
    set(&mut log, "a", "5").await.unwrap();
    assert!(matches!(log.write_under(2, 1), Err(StoreError::Fence { .. })));
}

#[tokio::test]
async fn a_new_key_epoch_continues_the_log() {
    let folder = Folder::new().await;
    let both = || keys().with(2, [9; 32]);
    let mut log = StateLog::open(Arc::clone(&folder.store), function(), both(), folder.acknowledged).await.unwrap();
    log.write_under(2, 2).unwrap();
    set(&mut log, "a", "5").await.unwrap();
    let target = log.position().unwrap();
    let open = |keys| StateLog::open(Arc::clone(&folder.store), function(), keys, target);
    assert_eq!(contents(&open(both()).await.unwrap()), map(&[("a", "5")]));
    assert!(matches!(open(keys()).await, Err(StoreError::NoKey(2))));
}
