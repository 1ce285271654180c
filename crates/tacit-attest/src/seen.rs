//! No downgrade: the newest collateral numbers that this verifier, or the ledger, has seen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{AttestError, VerifiedEvidence};

/// A number in the collateral that its vendor only ever raises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counter {
    /// What it is, for a refusal.
    pub(crate) what: &'static str,
    /// Of which series.
    pub(crate) key: String,
    pub(crate) value: u32,
}

/// The newest numbers seen: TCB evaluation data numbers by kind of TEE and platform family, revocation lists by authority.
///
/// The caller keeps it, for example in a file or on the ledger, and gives it to [`crate::verify_seen`]. It grows by one entry
/// for each platform family and authority of evidence that was *verified*, of which there are as many as vendors made. JSON
/// form: an object of numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seen(BTreeMap<String, u32>);

impl Seen {
    /// Refuses collateral with a number below one that was seen.
    pub(crate) fn check(&self, counters: &[Counter]) -> Result<(), AttestError> {
        for Counter { what, key, value } in counters {
            match self.0.get(key) {
                Some(seen) if seen > value => {
                    return Err(AttestError::Downgrade { what, found: *value, minimum: *seen });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What has been seen after this evidence too.
    pub fn after(&self, verified: &VerifiedEvidence) -> Self {
        let mut seen = self.clone();
        for Counter { key, value, .. } in &verified.claims.details.counters {
            let newest = seen.0.entry(key.clone()).or_default();
            *newest = (*newest).max(*value);
        }
        seen
    }

    /// What either has seen.
    pub fn merge(&self, other: &Self) -> Self {
        let mut seen = self.clone();
        for (key, value) in &other.0 {
            let newest = seen.0.entry(key.clone()).or_default();
            *newest = (*newest).max(*value);
        }
        seen
    }

    /// The numbers by series, for people.
    pub fn numbers(&self) -> impl Iterator<Item = (&str, u32)> {
        self.0.iter().map(|(key, value)| (key.as_str(), *value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(key: &str, value: u32) -> Counter {
        Counter { what: "PCK CRL", key: key.to_owned(), value }
    }

    #[test]
    fn a_number_below_one_that_was_seen_is_refused() {
        let seen: Seen = serde_json::from_str(r#"{"crl a":7,"tcb tdx 00":17}"#).unwrap();
        assert_eq!(seen.check(&[counter("crl a", 7), counter("crl b", 1)]), Ok(()));
        assert_eq!(seen.check(&[counter("crl a", 8)]), Ok(()));
        let refused = AttestError::Downgrade { what: "PCK CRL", found: 6, minimum: 7 };
        assert_eq!(seen.check(&[counter("crl b", 1), counter("crl a", 6)]), Err(refused));
        assert_eq!(Seen::default().check(&[counter("crl a", 0)]), Ok(()));
    }

    #[test]
    fn merging_keeps_the_newest_of_both() {
        let one: Seen = serde_json::from_str(r#"{"a":7,"b":1}"#).unwrap();
        let two: Seen = serde_json::from_str(r#"{"a":3,"c":2}"#).unwrap();
        assert_eq!(serde_json::to_string(&one.merge(&two)).unwrap(), r#"{"a":7,"b":1,"c":2}"#);
        assert_eq!(one.merge(&two), two.merge(&one));
        assert_eq!(one.numbers().collect::<Vec<_>>(), [("a", 7), ("b", 1)]);
    }
}
