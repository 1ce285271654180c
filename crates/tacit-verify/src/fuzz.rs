//! What fuzzers do with hostile bytes: the verifier as plain functions that may refuse but never panic, and never accept.
//!
//! `fuzz/` calls them under libFuzzer, this crate's tests with a seeded mutator.

use tacit_types::UnixTime;

use crate::{Anchor, refuse_without_anchor, verify_json};

/// Each parser by name.
pub const BODIES: [(&str, fn(&[u8])); 3] = [("question", question), ("anchor", anchor), ("bundle_alone", bundle_alone)];

/// A question to the verifier's JSON surface.
pub fn question(bytes: &[u8]) {
    let answer = verify_json(bytes);
    assert!(answer.starts_with(b"{"), "an answer is a report");
}

/// A deployment that somebody would anchor trust in.
pub fn anchor(bytes: &[u8]) {
    if let Ok(anchor) = Anchor::parse(bytes) {
        let _ = crate::Judge::Preset(tacit_attest::Preset::Dev).policy_for(Some(&anchor));
        let _ = crate::Verifier::new(anchor, crate::Judge::Preset(tacit_attest::Preset::Dev))
            .verify_bundle(bytes, UnixTime(1_790_000_000));
    }
}

/// A bundle without an anchor, which can never be verified.
pub fn bundle_alone(bytes: &[u8]) {
    let report = refuse_without_anchor(bytes);
    assert!(report.verdict.exit_code() != 0, "nothing is verified without an anchor");
}
