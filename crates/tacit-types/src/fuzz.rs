//! What fuzzers do with hostile bytes: the parsers of this crate as plain functions that may refuse but never panic.
//!
//! `fuzz/` calls them under libFuzzer, `tacit-verify`'s tests with a seeded mutator. What a parser accepts it must read again
//! from its own spelling, or the function panics, which is what a fuzzer looks for.

use crate::deployment::Deployment;
use crate::jcs;
use crate::keyset::Keyset;
use crate::manifest::Manifest;

/// Each parser by name.
pub const BODIES: [(&str, fn(&[u8])); 4] = [
    ("keyset", keyset),
    ("manifest_toml", manifest_toml),
    ("manifest_canonical", manifest_canonical),
    ("deployment", deployment),
];

/// A keyset in canonical JSON, as a peer sends it.
pub fn keyset(bytes: &[u8]) {
    if let Ok(keyset) = jcs::from_bytes::<Keyset>(bytes, 64 * 1024) {
        let written = jcs::to_bytes(&keyset).expect("what was read as canonical JSON can be written so");
        assert_eq!(written, bytes, "one keyset has one spelling");
        let _ = (keyset.digest(), keyset.receipt_address(), keyset.note_key(), keyset.ohttp_config());
    }
}

/// A manifest as authors write it.
pub fn manifest_toml(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(manifest) = Manifest::from_toml(text)
        && let Ok(canonical) = manifest.to_canonical()
    {
        let again = Manifest::from_canonical(&canonical).expect("a manifest reads its own canonical form");
        assert_eq!(again, manifest);
    }
}

/// A manifest as registries hold it.
pub fn manifest_canonical(bytes: &[u8]) {
    if let Ok(manifest) = Manifest::from_canonical(bytes) {
        assert_eq!(manifest.to_canonical().expect("it was canonical"), bytes, "one manifest has one spelling");
        let _ = (manifest.could_talk_to(), manifest.method("handle"));
    }
}

/// A deployment document.
pub fn deployment(bytes: &[u8]) {
    if let Ok(deployment) = Deployment::from_json(bytes) {
        let _ = (deployment.genesis.cluster_id(), deployment.genesis.gatekeeper_set());
    }
}
