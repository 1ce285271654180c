use tacit_types::jcs::JcsError;
use tacit_types::keyset::KeysetError;
use thiserror::Error;

/// Why an ACI document was refused, or could not be made. No variant quotes a prompt or an answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AciError {
    /// The document is larger than any that is read.
    #[error("{found} bytes, at most {limit} allowed")]
    TooLarge {
        /// Bytes allowed.
        limit: usize,
        /// Bytes found.
        found: usize,
    },
    /// The bytes are not JSON of the document's shape.
    #[error("not a {what}: {detail}")]
    Shape {
        /// Which document.
        what: &'static str,
        /// What the reader found.
        detail: String,
    },
    /// The document has no canonical form: a fraction, too great an integer, or too deep.
    #[error("the document has no canonical form")]
    Canonical(#[from] JcsError),
    /// The document is of another version.
    #[error("another version than aci/1")]
    Version,
    /// A member breaks a rule of its own.
    #[error("{0}")]
    Member(&'static str),
    /// The keyset has no fitting key.
    #[error(transparent)]
    Keyset(#[from] KeysetError),
    /// The receipt's signature does not hold under the key that it names.
    #[error("not signed by the receipt key that it names")]
    Signature,
    /// The receipt was made under another keyset.
    #[error("made under another keyset")]
    OtherKeyset,
    /// The nonce is not 64 lower-case hexadecimal digits.
    #[error("a nonce is 64 lower-case hexadecimal digits")]
    Nonce,
    /// The request's serving constraints break a rule.
    #[error("serving constraint: {0}")]
    Constraint(&'static str),
    /// A claim of a session, or its evidence, does not hold.
    #[error("session: {0}")]
    Session(&'static str),
    /// A legacy signature does not hold.
    #[error("legacy signature: {0}")]
    Legacy(&'static str),
}

impl AciError {
    pub(super) fn shape(what: &'static str, error: &serde_json::Error) -> Self {
        // Only place and class: the text of some errors quotes the document.
        let detail = format!("{:?} at line {} column {}", error.classify(), error.line(), error.column());
        Self::Shape { what, detail }
    }
}
