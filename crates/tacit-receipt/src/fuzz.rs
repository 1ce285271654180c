//! What fuzzers do with hostile bytes: the parsers of this crate as plain functions that may refuse but never panic.
//!
//! `fuzz/` calls them under libFuzzer, `tacit-verify`'s tests with a seeded mutator.

use tacit_types::Digest;
use tacit_types::signature::NoteKey;

use crate::tile::{decode_entries, decode_hashes, encode_entries, encode_hashes};
use crate::{Bundle, Checkpoint, TileId, TileKind};

/// Each parser by name.
pub const BODIES: [(&str, fn(&[u8])); 4] =
    [("bundle", bundle), ("checkpoint", checkpoint), ("tile_path", tile_path), ("tile", tile)];

const ORIGIN: &str = "tacit/0xaa/0xbb";

/// Messages that these functions accept, for a fuzzer to begin with: by the name of the function.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let digests = [Digest::from([1; 32]), Digest::from([2; 32])];
    let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: 20_852_163, root: digests[0] };
    vec![
        ("checkpoint", checkpoint.sign(&NoteKey::from_bytes(&[5; 32])).into_bytes()),
        ("tile_path", b"tile/0/x001/234.p/17".to_vec()),
        ("tile_path", b"tile/entries/000".to_vec()),
        ("tile", [vec![1], encode_hashes(&digests)].concat()),
        ("tile", [vec![1], encode_entries(&digests)].concat()),
    ]
}

/// A receipt bundle.
pub fn bundle(bytes: &[u8]) {
    if let Ok(bundle) = Bundle::parse(bytes) {
        assert_eq!(bundle.encode().expect("it was canonical"), bytes, "one bundle has one spelling");
        let _ = bundle.digest();
    }
}

/// A signed checkpoint.
pub fn checkpoint(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let key = NoteKey::from_bytes(&[5; 32]);
    for origin in [ORIGIN, text.lines().next().unwrap_or_default()] {
        if let Ok(checkpoint) = Checkpoint::verify(text, origin, &key.public_key()) {
            assert_eq!(checkpoint.sign(&key), text, "one checkpoint has one note");
        }
    }
}

/// The path of a tile.
pub fn tile_path(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(id) = TileId::parse(text) {
        assert_eq!(id.path(), text, "one tile has one path");
    }
}

/// The content of a tile: the first byte is its width less one.
pub fn tile(bytes: &[u8]) {
    let Some((width, content)) = bytes.split_first() else { return };
    let of = |kind| TileId { kind, index: 0, width: u64::from(*width) + 1 };
    let hashes: Result<Vec<Digest>, _> = decode_hashes(&of(TileKind::Hashes(0)), content);
    let entries = decode_entries(&of(TileKind::Entries), content);
    assert!(hashes.is_err() || entries.is_err(), "hashes are no entries");
}
