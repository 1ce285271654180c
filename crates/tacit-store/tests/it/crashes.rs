//! Whatever crashes, is lost, comes back or is reordered: what loads is exactly what the quorum acknowledged, or an error.

use std::{collections::BTreeMap, sync::Arc};

use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory};
use proptest::prelude::*;
use tacit_store::{StateLog, StoreError};
use tacit_types::register::Position;

use crate::{
    faulty::{Fault, Faulty},
    network::{call_id, contents, map, open, set, take_over},
};

#[tokio::test]
async fn a_write_that_failed_before_it_was_stored_is_tried_again() {
    let store: Arc<dyn ObjectStore> = Faulty::new([Fault::None, Fault::Before]);
    let mut log = take_over(&store, Position::START, 1).await.unwrap();
    set(&mut log, "a", "1").await.unwrap();
    let before = log.position().unwrap();
    let error = set(&mut log, "a", "2").await.unwrap_err();
    assert!(matches!(error, StoreError::Backend(_)) && error.is_retryable());
    assert_eq!((log.position(), contents(&log)), (Some(before), map(&[("a", "1")])));
    set(&mut log, "a", "3").await.unwrap();
    assert_eq!(contents(&open(&store, log.position().unwrap()).await.unwrap()), map(&[("a", "3")]));
}

#[tokio::test]
async fn a_write_of_unknown_fate_closes_the_log() {
    let store: Arc<dyn ObjectStore> = Faulty::new([Fault::None, Fault::After]);
    let mut log = take_over(&store, Position::START, 1).await.unwrap();
    set(&mut log, "a", "1").await.unwrap();
    let acknowledged = log.position().unwrap();
    let error = set(&mut log, "a", "2").await.unwrap_err();
    assert!(matches!(error, StoreError::Uncertain { sequence: 2, fence: 1, .. }) && !error.is_retryable());
    assert!(matches!(set(&mut log, "a", "3").await, Err(StoreError::Closed)));
    let mut log = take_over(&store, acknowledged, 2).await.unwrap();
    assert_eq!(contents(&log), map(&[("a", "1")]));
    set(&mut log, "a", "4").await.unwrap();
    assert_eq!(log.collect().await.unwrap(), 1);
    assert_eq!(contents(&open(&store, log.position().unwrap()).await.unwrap()), map(&[("a", "4")]));
}

/// One step in the life of a function.
#[derive(Debug, Clone)]
enum Step {
    /// The holder commits; the write may fail; the quorum may acknowledge before the holder dies.
    Commit { fault: u8, acknowledged: bool },
    /// Another worker takes over.
    TakeOver { collect: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0u8..12, any::<bool>()).prop_map(|(fault, acknowledged)| Step::Commit { fault, acknowledged }),
        1 => any::<bool>().prop_map(|collect| Step::TakeOver { collect }),
    ];
    proptest::collection::vec(step, 1..24)
}

/// What the gatekeepers know, beside every state that was ever acknowledged.
struct Life {
    store: Arc<Faulty>,
    acknowledged: Position,
    states: Vec<(Position, BTreeMap<String, String>)>,
}

async fn live(steps: Vec<Step>) -> Life {
    let faulty = Faulty::new([]);
    let store: Arc<dyn ObjectStore> = faulty.clone();
    let mut fence = 1;
    let mut acknowledged = Position::START;
    let mut states = vec![(acknowledged, BTreeMap::new())];
    let mut log = take_over(&store, acknowledged, fence).await.unwrap();
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Commit { fault, acknowledged: accepted } => {
                let fault = match fault {
                    0 => Fault::Before,
                    1 => Fault::After,
                    _ => Fault::None,
                };
                faulty.faults.lock().unwrap().push_back(fault);
                match set(&mut log, &format!("key{}", number % 3), &number.to_string()).await {
                    Ok(appended) if accepted => {
                        acknowledged = appended.position;
                        states.push((acknowledged, contents(&log)));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        faulty.faults.lock().unwrap().clear();
                        assert!(matches!(
                            error,
                            StoreError::Backend(_) | StoreError::Uncertain { .. } | StoreError::Closed
                        ));
                    }
                }
            }
            Step::TakeOver { collect } => {
                fence += 1;
                log = take_over(&store, acknowledged, fence).await.unwrap();
                acknowledged = log.position().unwrap();
                assert_eq!(contents(&log), states.last().unwrap().1);
                if collect {
                    log.collect().await.unwrap();
                }
            }
        }
    }
    Life { store: faulty, acknowledged, states }
}

async fn objects(store: &InMemory) -> Vec<object_store::path::Path> {
    store.list(None).map_ok(|meta| meta.location).try_collect().await.unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

/// The loaded state must be the newest acknowledged one.
fn check(life: &Life, opened: Result<StateLog, StoreError>, lost: bool) -> Result<(), TestCaseError> {
    match opened {
        Ok(log) => {
            prop_assert_eq!((log.sequence(), log.head()), (life.acknowledged.sequence, life.acknowledged.head));
            prop_assert_eq!(&contents(&log), &life.states.last().unwrap().1);
        }
        Err(error) => {
            prop_assert!(lost, "nothing was lost, but {error}");
            let named = matches!(
                error,
                StoreError::RolledBack { .. }
                    | StoreError::Missing { .. }
                    | StoreError::Torn { .. }
                    | StoreError::Altered { .. }
                    | StoreError::Misplaced { .. }
                    | StoreError::Payload { .. }
            );
            prop_assert!(named, "{error}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn after_a_crash_at_any_point_the_acknowledged_state_loads(steps in steps()) {
        runtime().block_on(async {
            let life = live(steps).await;
            let store: Arc<dyn ObjectStore> = life.store.clone();
            check(&life, open(&store, life.acknowledged).await, false)
        })?;
    }

    #[test]
    fn lost_torn_and_exchanged_objects_never_give_another_state(
        steps in steps(), damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0u8..3), 1..6),
    ) {
        runtime().block_on(async {
            let life = live(steps).await;
            let store: Arc<dyn ObjectStore> = life.store.clone();
            let inner = &life.store.inner;
            for (one, other, kind) in damage {
                let paths = objects(inner).await;
                if paths.is_empty() {
                    break;
                }
                let (one, other) = (&paths[one.index(paths.len())], &paths[other.index(paths.len())]);
                match kind {
                    0 => inner.delete(one).await.unwrap(),
                    1 => {
                        let (left, right) = (bytes(inner, one).await, bytes(inner, other).await);
                        inner.put(one, right.into()).await.unwrap();
                        inner.put(other, left.into()).await.unwrap();
                    }
                    _ => {
                        let whole = bytes(inner, one).await;
                        inner.put(one, whole.slice(..whole.len() / 2).into()).await.unwrap();
                    }
                }
            }
            check(&life, open(&store, life.acknowledged).await, true)
        })?;
    }

    #[test]
    fn a_disk_restored_from_any_earlier_moment_is_refused(steps in steps(), at in any::<prop::sample::Index>()) {
        runtime().block_on(async {
            let cut = at.index(steps.len());
            let life = live(steps.clone()).await;
            // The same life up to an earlier moment, on a disk of its own: other objects, since every nonce is fresh.
            let earlier = live(steps[..cut].to_vec()).await;
            let store: Arc<dyn ObjectStore> = earlier.store.clone();
            match open(&store, life.acknowledged).await {
                Ok(log) => prop_assert!(life.acknowledged.sequence == 0 && contents(&log).is_empty()),
                Err(error) => prop_assert!(matches!(error, StoreError::RolledBack { .. } | StoreError::Altered { .. }), "{error}"),
            }
            Ok(())
        })?;
    }
}

async fn bytes(store: &InMemory, path: &object_store::path::Path) -> bytes::Bytes {
    store.get(path).await.unwrap().bytes().await.unwrap()
}

#[tokio::test]
async fn a_disk_restored_from_yesterday_is_refused_and_todays_loads() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let mut log = take_over(&store, Position::START, 1).await.unwrap();
    for value in ["1", "2"] {
        set(&mut log, "a", value).await.unwrap();
    }
    let yesterday: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let paths: Vec<_> = store.list(None).map_ok(|meta| meta.location).try_collect().await.unwrap();
    for path in paths {
        let object = store.get(&path).await.unwrap().bytes().await.unwrap();
        yesterday.put(&path, object.into()).await.unwrap();
    }
    for value in ["3", "4", "5"] {
        set(&mut log, "a", value).await.unwrap();
    }
    let acknowledged = log.position().unwrap();
    let error = open(&yesterday, acknowledged).await.err().unwrap();
    assert_eq!(error.to_string(), "state rolled back: store ends at 2, quorum acknowledged 5");
    let log = open(&store, acknowledged).await.unwrap();
    assert_eq!(contents(&log), map(&[("a", "5")]));
    assert!(log.record(call_id("a=1")).is_some() && log.record(call_id("a=9")).is_none());
}
