//! Every way to change the golden receipt is refused.

use base64::{Engine as _, prelude::BASE64_STANDARD as STANDARD};
use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::Value;
use tacit_attest::Preset;
use tacit_types::jcs;
use tacit_verify::{Verdict, Verifier};

use crate::golden::verifier;
use crate::network::LATER;
use crate::vector;

fn refused(verifier: &Verifier, bytes: &[u8], what: &str) {
    let report = verifier.verify_bundle(bytes, LATER);
    assert_eq!(report.verdict, Verdict::Refused, "{what}: {report}");
    assert_eq!(report.verdict.exit_code(), 3);
}

#[test]
fn a_thousand_altered_bytes_are_refused() {
    let (golden, verifier) = (vector("golden.receipt.json"), verifier(Preset::Dev));
    let mut rng = StdRng::seed_from_u64(2026);
    let mut tried = 0;
    while tried < 1_000 {
        let position = (rng.next_u64() % golden.len() as u64) as usize;
        let value = rng.next_u64() as u8;
        if golden[position] != value {
            let mut altered = golden.clone();
            altered[position] = value;
            refused(&verifier, &altered, &format!("byte {position} = {value}"));
            tried += 1;
        }
    }
}

/// Hex digits replaced by other hex digits and digits by other digits get past the parser, so the later steps must refuse.
#[test]
fn every_byte_replaced_by_a_plausible_one_is_refused() {
    let (golden, verifier) = (vector("golden.receipt.json"), verifier(Preset::Dev));
    for (position, byte) in golden.iter().enumerate() {
        let mut altered = golden.clone();
        altered[position] = match byte {
            b'0'..=b'8' => byte + 1,
            b'9' => b'0',
            b'a'..=b'e' => byte + 1,
            b'f' => b'a',
            other => other ^ 1,
        };
        refused(&verifier, &altered, &format!("byte {position}"));
    }
}

#[test]
fn cut_and_lengthened_files_are_refused() {
    let (golden, verifier) = (vector("golden.receipt.json"), verifier(Preset::Dev));
    for end in (0..golden.len()).step_by(97) {
        refused(&verifier, &golden[..end], &format!("first {end} bytes"));
    }
    for byte in 0..=255u8 {
        refused(&verifier, &[golden.as_slice(), &[byte]].concat(), &format!("one more byte {byte}"));
        refused(&verifier, &[&[byte], golden.as_slice()].concat(), &format!("one byte {byte} in front"));
    }
}

/// Calls `visit` with the document once for each scalar in it, changed.
fn each_scalar(document: &Value, visit: &mut dyn FnMut(&str, Value)) {
    fn walk(path: &str, root: &Value, at: &Value, visit: &mut dyn FnMut(&str, Value)) {
        let changed = match at {
            Value::Object(members) => {
                for (name, member) in members {
                    walk(&format!("{path}/{name}"), root, member, visit);
                }
                return;
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    walk(&format!("{path}/{index}"), root, item, visit);
                }
                return;
            }
            Value::Number(number) => Value::from(number.as_u64().unwrap() ^ 1),
            Value::Bool(flag) => Value::from(!flag),
            Value::Null => Value::from("0x00"),
            Value::String(text) => {
                let mut characters: Vec<char> = text.chars().collect();
                match characters.last_mut() {
                    Some(last) => *last = if *last == '0' { '1' } else { '0' },
                    None => characters.push('0'),
                }
                Value::from(characters.into_iter().collect::<String>())
            }
        };
        let mut altered = root.clone();
        *altered.pointer_mut(path).unwrap() = changed;
        visit(path, altered);
    }
    walk("", document, document, visit);
}

#[test]
fn every_field_changed_is_refused() {
    let verifier = verifier(Preset::Dev);
    let document: Value = serde_json::from_slice(&vector("golden.receipt.json")).unwrap();
    let mut tried = 0;
    each_scalar(&document, &mut |path, altered| {
        refused(&verifier, &jcs::to_bytes(&altered).unwrap(), path);
        tried += 1;
    });
    assert_eq!(tried, 112);
}

/// A member can be left out only if the rest still says the whole truth, or the verdict says that it is missing.
#[test]
fn every_member_left_out_is_noticed() {
    let verifier = verifier(Preset::Dev);
    let document: Value = serde_json::from_slice(&vector("golden.receipt.json")).unwrap();
    for name in document.as_object().unwrap().keys() {
        let mut altered = document.clone();
        altered.as_object_mut().unwrap().remove(name);
        let report = verifier.verify_bundle(&jcs::to_bytes(&altered).unwrap(), LATER);
        let expected = match name.as_str() {
            // What was private to the caller may be struck out; what is left is still true.
            "openings" | "code" => Verdict::Verified,
            "log" => Verdict::Incomplete,
            _ => Verdict::Refused,
        };
        // Without the quorum's word the receipt is both incomplete and, now, unproven in time: the refusal counts.
        assert_eq!(report.verdict, expected, "{name}: {report}");
        if name == "code" {
            assert_eq!(report.could_talk_to, None);
        }
    }
}

proptest! {
    #[test]
    fn hostile_files_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), text in ".{0,200}") {
        prop_assert!(matches!(tacit_verify::Anchor::parse(&bytes), Err(tacit_verify::VerifyError::Anchor(_))));
        prop_assert_eq!(tacit_verify::refuse_without_anchor(&bytes).verdict, Verdict::Refused);
        prop_assert_eq!(tacit_verify::cluster_of(&bytes), None);
        let question = serde_json::json!({ "file": STANDARD.encode(&text), "deployment": text, "now": 1 }).to_string();
        for question in [bytes.as_slice(), text.as_bytes(), question.as_bytes()] {
            let report: Value = serde_json::from_slice(&tacit_verify::verify_json(question)).unwrap();
            prop_assert_eq!(&report["verdict"], "refused");
        }
    }
}
