//! What fuzzers do with hostile bytes: the parsers of this crate as plain functions that may refuse but never panic.
//!
//! `fuzz/` calls them under libFuzzer, `tacit-verify`'s tests with a seeded mutator.

use crate::Record;

/// Each parser by name.
pub const BODIES: [(&str, fn(&[u8])); 1] = [("register_record", register_record)];

/// Messages that these functions accept, for a fuzzer to begin with: by the name of the function.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let mut written = Vec::new();
    Record::Revoked([1; 32].into()).encode(&mut written);
    let promised = Record::Promised {
        function: [2; 32].into(),
        fence: 3,
        holder: [4; 32].into(),
        until: tacit_types::UnixTime(5),
    };
    promised.encode(&mut written);
    vec![("register_record", written)]
}

/// Records of the register, from a disk that anybody may have written to.
pub fn register_record(bytes: &[u8]) {
    if let Ok(records) = Record::decode_all(bytes) {
        let mut written = Vec::new();
        records.iter().for_each(|record| record.encode(&mut written));
        assert_eq!(written, bytes, "one record has one spelling");
    }
}
