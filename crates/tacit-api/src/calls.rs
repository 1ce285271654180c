//! What a sealed call says about itself, and how its outcome becomes a status.

use serde::{Deserialize, Serialize};
use tacit_types::eip712::Outcome;

/// How a method is to run, as the header [`crate::headers::KIND`] says; the manifest decides where it is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallKind {
    /// Reads the newest state and must not write, whatever the manifest says.
    Query,
    /// Reads state that may be old.
    Stale,
}

impl CallKind {
    /// The header's value.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Stale => "stale",
        }
    }

    /// The kind with that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Query, Self::Stale].into_iter().find(|kind| kind.name() == name)
    }
}

/// Response body of an execution whose outcome is not `ok`; the receipt commits to these bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallFailure {
    /// Name of the error: the thrown error's, or the limit's (`fuel`, `memory`, `state-read-only`, …).
    pub name: String,
    /// What the author's code or the worker says about it.
    pub message: String,
    /// Stack trace with the author's file and line, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
}

/// Status of the answer inside the seal. The receipt, not the status, says what happened.
pub const fn outcome_status(outcome: Outcome) -> u16 {
    match outcome {
        Outcome::Ok => 200,
        Outcome::Thrown => 500,
        Outcome::Limit => 422,
        Outcome::Denied => 403,
        Outcome::Unavailable => 503,
    }
}

/// Reserved method: the function's owner sets or deletes secrets; the body is `{"NAME": "value" | null, …}`.
pub const SECRETS_SET: &str = "tacit.secrets.set";

/// The path inside the seal: `/{id}/{method}`.
pub fn inner_path(function: tacit_types::FunctionId, method: &str) -> String {
    format!("/{function}/{method}")
}

/// Reads the path inside the seal back.
pub fn parse_inner_path(path: &str) -> Option<(tacit_types::FunctionId, &str)> {
    let (function, method) = path.strip_prefix('/')?.split_once('/')?;
    (is_method_name(method) || method == SECRETS_SET).then_some(())?;
    Some((function.parse().ok()?, method))
}

/// Whether a text may name a method: a letter or underscore, then letters, digits and underscores.
pub fn is_method_name(name: &str) -> bool {
    name.len() <= crate::limits::MAX_METHOD
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Whether a text may be an idempotency key: 1 to [`crate::limits::MAX_IDEMPOTENCY_KEY`] visible ASCII characters.
pub fn is_idempotency_key(key: &str) -> bool {
    (1..=crate::limits::MAX_IDEMPOTENCY_KEY).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tacit_types::FunctionId;

    #[test]
    fn the_inner_path_reads_back() {
        let function = FunctionId::from([0xab; 32]);
        let check = |path: &str, expected| assert_eq!(parse_inner_path(path), expected, "{path}");
        check(&inner_path(function, "price"), Some((function, "price")));
        check(&inner_path(function, "$other"), None);
        check(&inner_path(function, SECRETS_SET), Some((function, SECRETS_SET)));
        check(&inner_path(function, "tacit.other"), None);
        check(&inner_path(function, "9price"), None);
        check(&inner_path(function, "a/b"), None);
        check(&inner_path(function, ""), None);
        check("/price", None);
        check("", None);
        check(&format!("/{}/price", "0xAB"), None);
        check(&inner_path(function, &"a".repeat(65)), None);
    }

    #[test]
    fn keys_are_bounded() {
        let check = |key: &str, expected| assert_eq!(is_idempotency_key(key), expected, "{key:?}");
        check("a", true);
        check("", false);
        check("a b", false);
        check("é", false);
        check(&"a".repeat(128), true);
        check(&"a".repeat(129), false);
    }

    #[test]
    fn no_method_can_have_the_name_that_sets_secrets() {
        assert!(!is_method_name(SECRETS_SET));
    }

    #[test]
    fn kinds_read_back() {
        assert_eq!(CallKind::named("query"), Some(CallKind::Query));
        assert_eq!(CallKind::named("stale"), Some(CallKind::Stale));
        assert_eq!(CallKind::named("command"), None);
    }
}
