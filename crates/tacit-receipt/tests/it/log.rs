use proptest::prelude::*;
use tacit_receipt::{
    Checkpoint, Log, ReceiptError, TileId, TileKind, TileStore, leaf_hash, root_of, verify_consistency,
    verify_inclusion,
};
use tacit_types::{Digest, formats::sha256};

fn entry(number: u64) -> Digest {
    sha256(&number.to_be_bytes())
}

fn checkpoint(size: u64, root: Digest) -> Checkpoint {
    Checkpoint { origin: "log".into(), size, root }
}

/// A log of that many entries, published after every `step` of them, with its tiles and all its checkpoints.
fn log(size: u64, step: u64) -> (Log, TileStore, Vec<Checkpoint>) {
    let (mut log, mut store, mut checkpoints) = (Log::new(), TileStore::default(), Vec::new());
    for number in 0..size {
        assert_eq!(log.append(entry(number)), number);
        if (number + 1) % step == 0 || number + 1 == size {
            let publication = log.publish();
            store.write(&publication.tiles);
            log.written(publication.size);
            checkpoints.push(publication.checkpoint("log".into()));
        }
    }
    (log, store, checkpoints)
}

fn naive_root(size: u64) -> Digest {
    root_of(&(0..size).map(|number| leaf_hash(entry(number))).collect::<Vec<_>>())
}

#[test]
fn every_entry_of_every_small_log_is_proved() {
    for size in 1..70 {
        let (log, store, checkpoints) = log(size, 7);
        let newest = checkpoints.last().unwrap();
        assert_eq!(newest.root, naive_root(size), "{size}");
        for index in 0..size {
            let path = log.inclusion_proof(index, &mut store.reader()).unwrap();
            verify_inclusion(entry(index), index, newest, &path).unwrap();
            assert!(verify_inclusion(entry(index + 1), index, newest, &path).is_err());
            for other in (0..size + 3).filter(|other| *other != index) {
                assert!(verify_inclusion(entry(index), other, newest, &path).is_err(), "{index} as {other} of {size}");
            }
        }
    }
}

#[test]
fn large_logs_with_full_tiles_are_proved() {
    for size in [255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537, 70_003] {
        let (log, store, checkpoints) = log(size, 1000);
        let newest = checkpoints.last().unwrap();
        assert_eq!(newest.root, naive_root(size), "{size}");
        for index in [0, 1, 127, 128, 255, 256, 65_535, size / 2, size - 2, size - 1] {
            if index < size {
                let path = log.inclusion_proof(index, &mut store.reader()).unwrap();
                verify_inclusion(entry(index), index, newest, &path).unwrap();
            }
        }
        for earlier in &checkpoints {
            let path = log.consistency_proof(earlier.size, &mut store.reader()).unwrap();
            verify_consistency(earlier, newest, &path).unwrap();
        }
    }
}

#[test]
fn every_pair_of_small_logs_is_consistent_and_nothing_else() {
    for size in 1..40 {
        let (log, store, checkpoints) = log(size, 1);
        let newest = checkpoints.last().unwrap();
        for earlier in &checkpoints {
            let path = log.consistency_proof(earlier.size, &mut store.reader()).unwrap();
            verify_consistency(earlier, newest, &path).unwrap();
            let forged = checkpoint(earlier.size, entry(999));
            assert!(matches!(verify_consistency(&forged, newest, &path), Err(ReceiptError::Consistency)));
            let forged = checkpoint(newest.size, entry(999));
            assert!(matches!(verify_consistency(earlier, &forged, &path), Err(ReceiptError::Consistency)));
            for position in 0..path.len() {
                let mut altered = path.clone();
                altered[position] = entry(999);
                assert!(verify_consistency(earlier, newest, &altered).is_err());
                altered.remove(position);
                assert!(verify_consistency(earlier, newest, &altered).is_err());
            }
        }
        let other = Checkpoint { origin: "other".into(), ..newest.clone() };
        assert!(matches!(verify_consistency(newest, &other, &[]), Err(ReceiptError::Origin)));
    }
}

#[test]
fn a_log_goes_on_from_its_tiles() {
    for size in [1, 5, 255, 256, 257, 512, 1000, 65_536, 66_000] {
        let (mut whole, mut store, checkpoints) = log(size, 300);
        let mut resumed = Log::resume(checkpoints.last().unwrap(), &mut store.reader()).unwrap();
        assert_eq!(resumed.size(), size);
        for number in size..size + 300 {
            whole.append(entry(number));
            resumed.append(entry(number));
        }
        let (one, other) = (whole.publish(), resumed.publish());
        assert_eq!(one, other, "{size}");
        store.write(&other.tiles);
        let path = resumed.inclusion_proof(0, &mut store.reader()).unwrap();
        verify_inclusion(entry(0), 0, &other.checkpoint("log".into()), &path).unwrap();
    }
}

#[test]
fn damaged_tiles_are_noticed() {
    let (_, store, checkpoints) = log(1000, 1000);
    let newest = checkpoints.last().unwrap();
    let edge = TileId { kind: TileKind::Hashes(0), index: 3, width: 232 };
    let mut missing = |id: &TileId| if *id == edge { None } else { store.read(id) };
    assert!(matches!(Log::resume(newest, &mut missing), Err(ReceiptError::Tile(path)) if path == "tile/0/003.p/232"));
    let mut short = |id: &TileId| store.read(id).map(|bytes| bytes[1..].to_vec());
    assert!(matches!(Log::resume(newest, &mut short), Err(ReceiptError::Tile(_))));
    for kind in [TileKind::Hashes(0), TileKind::Hashes(1), TileKind::Entries] {
        let mut altered = |id: &TileId| {
            let mut bytes = store.read(id)?;
            if id.kind == kind {
                *bytes.last_mut()? ^= 1;
            }
            Some(bytes)
        };
        assert!(matches!(Log::resume(newest, &mut altered), Err(ReceiptError::Root)), "{kind:?}");
    }
    let other = checkpoint(newest.size, entry(0));
    assert!(matches!(Log::resume(&other, &mut store.reader()), Err(ReceiptError::Root)));
}

#[test]
fn tiles_that_could_not_be_stored_are_published_again() {
    let (mut log, mut store, _) = log(200, 200);
    (200..600).for_each(|number| _ = log.append(entry(number)));
    let lost = log.publish();
    (600..700).for_each(|number| _ = log.append(entry(number)));
    let publication = log.publish();
    assert!(lost.tiles.iter().filter(|tile| tile.id.width == 256).all(|tile| publication.tiles.contains(tile)));
    store.write(&publication.tiles);
    log.written(publication.size);
    assert_eq!(log.publish().tiles, []);
    let newest = publication.checkpoint("log".into());
    assert_eq!(Log::resume(&newest, &mut store.reader()).unwrap().root(), naive_root(700));
    for index in [0, 255, 256, 511, 699] {
        let path = log.inclusion_proof(index, &mut store.reader()).unwrap();
        verify_inclusion(entry(index), index, &newest, &path).unwrap();
    }
}

#[test]
fn publishing_nothing_writes_nothing() {
    let (log, ..) = log(300, 300);
    assert_eq!(log.publish().tiles, []);
    assert!(matches!(log.inclusion_proof(300, &mut |_| None), Err(ReceiptError::Index { index: 300, size: 300 })));
}

proptest! {
    #[test]
    fn hostile_proofs_never_panic(
        index: u64, size: u64, other: u64, path in proptest::collection::vec(any::<[u8; 32]>(), 0..70),
    ) {
        let path: Vec<Digest> = path.into_iter().map(Digest::from).collect();
        prop_assert!(verify_inclusion(entry(0), index, &checkpoint(size, entry(1)), &path).is_err());
        let _ = verify_consistency(&checkpoint(size, entry(1)), &checkpoint(other, entry(2)), &path);
    }

    #[test]
    fn hostile_notes_never_panic(note in "(.|\n){0,200}") {
        prop_assert!(Checkpoint::verify(&note, "log", &[1; 32]).is_err());
        let longer = format!("log\n1\n{note}");
        prop_assert!(Checkpoint::verify(&longer, "log", &[1; 32]).is_err());
    }

    #[test]
    fn hostile_paths_never_panic(path in ".{0,60}") {
        let _ = TileId::parse(&path);
        let _ = TileId::parse(&format!("tile/0/{path}"));
    }
}
