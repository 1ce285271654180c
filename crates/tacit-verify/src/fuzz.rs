//! What fuzzers do with hostile bytes: the verifier as plain functions that may refuse but never panic, and never accept.
//!
//! `fuzz/` calls them under libFuzzer, this crate's tests with a seeded mutator.

use tacit_types::UnixTime;

use crate::aci::Transcript;
use crate::{Anchor, refuse_without_anchor, verify_json};

/// A parser, as a fuzzer calls it.
pub type Body = fn(&[u8]);

/// Each parser by name.
pub const BODIES: [(&str, Body); 4] = [
    ("question", question),
    ("anchor", anchor),
    ("bundle_alone", bundle_alone),
    ("ai_transcript_json", ai_transcript_json),
];

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

/// An AI transcript.
pub fn ai_transcript_json(bytes: &[u8]) {
    if let Ok(transcript) = Transcript::parse(bytes) {
        assert_eq!(transcript.encode().expect("it was canonical"), bytes, "one transcript has one spelling");
        let normal = Transcript::normal_report(&transcript.report);
        assert_eq!(normal.as_ref(), Ok(&transcript.report), "a normal form is its own");
    }
    let judge = crate::Judge::Preset(tacit_attest::Preset::Standard);
    let now = UnixTime(1_790_003_600);
    let report = crate::aci::judge_transcript(bytes, "AI transcript", None, &judge, (now, now));
    assert!(report.verdict.exit_code() != 0, "no simulated root is verified");
}
