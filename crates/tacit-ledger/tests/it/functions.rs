//! Functions: what the registry says, what is proved, and what it refuses.

use tacit_ledger::{At, BlockRef, FunctionRecord, LedgerError, StateReset};
use tacit_types::{FunctionId, UnixTime, chain::RevocationSubject, formats};

use crate::fixture::{CHAIN, Cluster, ETHER, digest, key, refused, version};

/// The function at the newest final block: read, proved, and both the same.
async fn proved(cluster: &Cluster) -> FunctionRecord {
    let block = cluster.ledger.finalized().await.unwrap();
    let read = cluster.ledger.function(cluster.function, At::Block(block)).await.unwrap().unwrap();
    let proved = cluster.ledger.prove_function(cluster.function, block).await.unwrap().unwrap();
    assert_eq!(read, proved);
    proved
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_from_its_first_version_to_frozen() {
    let cluster = Cluster::start().await;
    let (owner, id) = (&cluster.owner, cluster.function);
    let registry = cluster.ledger.addresses().function_registry;
    assert_eq!(id, formats::function_id(CHAIN, registry, owner.address(), "oracle"));
    assert_eq!(id, cluster.ledger.function_id(owner.address(), "oracle").await.unwrap());
    let first = proved(&cluster).await;
    assert_eq!((first.code_hash, first.versions, first.key_epoch), (cluster.code_hash(), 1, 1));
    assert_eq!((first.name.as_str(), first.owner, first.frozen), ("oracle", owner.address(), false));

    owner.set_upgrade_delay(id, 1_000).await.unwrap();
    owner.upgrade_function(id, &version(2)).await.unwrap();
    let waiting = proved(&cluster).await;
    assert_eq!((waiting.code_hash, waiting.versions, waiting.upgrade_delay), (cluster.code_hash(), 2, 1_000));
    assert_eq!(refused(owner.upgrade_function(id, &version(3)).await), "VersionWaiting");
    assert_eq!(refused(owner.freeze_function(id).await), "VersionWaiting");
    cluster.pass(1_001).await;
    let second = proved(&cluster).await;
    assert_eq!(second.code_hash, formats::code_hash_of(version(2).module_hash, version(2).manifest_hash));
    assert_eq!(second.manifest_hash, version(2).manifest_hash);

    owner.set_secrets(id, digest(5), 1).await.unwrap();
    assert_eq!(refused(owner.set_secrets(id, digest(6), 1).await), "SecretsVersion");
    owner.reset_function(id, 41).await.unwrap();
    let reset = proved(&cluster).await;
    assert_eq!((reset.secrets_digest, reset.secrets_version), (Some(digest(5)), 1));
    assert_eq!((reset.key_epoch, reset.reset), (2, Some(StateReset { sequence: 41, key_epoch: 2 })));

    owner.revoke(RevocationSubject::Chip, digest(0xc4), &[id]).await.unwrap();
    let revoked = proved(&cluster).await;
    assert_eq!((revoked.key_epoch, revoked.min_key_epoch), (3, 3));

    owner.upgrade_function(id, &version(4)).await.unwrap();
    owner.cancel_upgrade(id).await.unwrap();
    assert_eq!(refused(owner.cancel_upgrade(id).await), "NoVersionWaiting");
    owner.freeze_function(id).await.unwrap();
    assert!(proved(&cluster).await.frozen);
    assert_eq!(refused(owner.upgrade_function(id, &version(5)).await), "IsFrozen");
    cluster.anvil.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_owner_and_only_possible_names() {
    let cluster = Cluster::start().await;
    let stranger = key(0x71);
    cluster.anvil.fund(stranger.address(), ETHER).await.unwrap();
    let other = cluster.ledger.writer(&stranger).unwrap();
    let id = cluster.function;
    assert_eq!(refused(other.upgrade_function(id, &version(2)).await), "NotOwner");
    assert_eq!(refused(other.freeze_function(id).await), "NotOwner");
    assert_eq!(refused(other.set_secrets(id, digest(1), 1).await), "NotOwner");
    assert_eq!(refused(other.reset_function(id, 0).await), "NotOwner");
    assert_eq!(refused(cluster.owner.register_function("oracle", &version(1), 0).await), "NameTaken");
    for name in ["", "Oracle", "or_acle", "ü", &"a".repeat(64)] {
        assert_eq!(refused(cluster.owner.register_function(name, &version(1), 0).await), "ImpossibleName", "{name}");
    }
    assert_eq!(refused(cluster.owner.register_function("late", &version(1), 367 * 86_400).await), "DelayTooLong");
    // Another owner's function of the same name is another function.
    let (theirs, _) = other.register_function("oracle", &version(1), 0).await.unwrap();
    assert_ne!(theirs, id);

    let unknown = FunctionId::from([0xee; 32]);
    let block = cluster.ledger.finalized().await.unwrap();
    assert_eq!(cluster.ledger.function(unknown, At::Block(block)).await.unwrap(), None);
    assert_eq!(cluster.ledger.prove_function(unknown, block).await.unwrap(), None);
    assert_eq!(refused(cluster.owner.upgrade_function(unknown, &version(1)).await), "UnknownFunction");
    cluster.anvil.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_is_not_the_blocks_proves_nothing() {
    let cluster = Cluster::start().await;
    let block = cluster.ledger.finalized().await.unwrap();
    let later = BlockRef { time: UnixTime(block.time.0 + 1), ..block };
    for wrong in [later, BlockRef { number: block.number + 1, ..block }] {
        let result = cluster.ledger.prove_function(cluster.function, wrong).await;
        assert!(matches!(result, Err(LedgerError::Proof { what: "the block's header", .. })), "{result:?}");
    }
    let gone = BlockRef { hash: digest(1), ..block };
    assert!(cluster.ledger.prove_function(cluster.function, gone).await.is_err());
    cluster.anvil.stop().await;
}
