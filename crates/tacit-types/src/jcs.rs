//! Canonical JSON (RFC 8785) for documents whose numbers are integers below 2^53.
//!
//! Member names are sorted by UTF-16 code units as the RFC asks. Fractions and greater integers are refused, so the RFC's
//! rules for printing floating-point numbers are never needed.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// The greatest integer that every JSON reader keeps exactly: 2^53 − 1.
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

/// The deepest nesting of arrays and objects that is read or written.
pub const MAX_DEPTH: usize = 32;

/// Why a value has no canonical form, or why bytes are not canonical.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JcsError {
    /// The value could not be turned into JSON, or the bytes are not JSON of the wanted shape.
    #[error("not the expected JSON")]
    Json(#[from] serde_json::Error),
    /// A number is a fraction, negative beyond −(2^53 − 1), or greater than 2^53 − 1.
    #[error("a number is not an integer below 2^53")]
    Number,
    /// Arrays and objects are nested too deeply.
    #[error("nested deeper than {MAX_DEPTH} levels")]
    Depth,
    /// The bytes are valid JSON but not the one canonical encoding of it.
    #[error("not in canonical form (RFC 8785)")]
    NotCanonical,
    /// There are more bytes than the caller allows.
    #[error("{found} bytes, at most {limit} allowed")]
    TooLarge {
        /// Bytes allowed.
        limit: usize,
        /// Bytes found.
        found: usize,
    },
}

/// The canonical bytes of `value`.
///
/// # Errors
/// [`JcsError::Number`] for fractions and integers beyond 2^53 − 1, [`JcsError::Depth`] past [`MAX_DEPTH`] levels.
pub fn to_bytes<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, JcsError> {
    let mut out = Vec::new();
    write_value(&serde_json::to_value(value)?, &mut out, 0)?;
    Ok(out)
}

/// Reads canonical bytes and refuses every other spelling of the same document: other member order, white space, repeated
/// or unknown members, other escapes.
///
/// # Errors
/// [`JcsError::TooLarge`] past `limit` bytes; [`JcsError::NotCanonical`] when re-serialising gives other bytes.
pub fn from_bytes<T: Serialize + DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, JcsError> {
    if bytes.len() > limit {
        return Err(JcsError::TooLarge { limit, found: bytes.len() });
    }
    let value: T = serde_json::from_slice(bytes)?;
    if to_bytes(&value)? != bytes {
        return Err(JcsError::NotCanonical);
    }
    Ok(value)
}

fn write_value(value: &Value, out: &mut Vec<u8>, depth: usize) -> Result<(), JcsError> {
    if depth > MAX_DEPTH {
        return Err(JcsError::Depth);
    }
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => {
            let magnitude =
                number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs)).ok_or(JcsError::Number)?;
            if magnitude > MAX_INTEGER {
                return Err(JcsError::Number);
            }
            out.extend_from_slice(number.to_string().as_bytes());
        }
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_value(item, out, depth + 1)?;
            }
            out.push(b']');
        }
        Value::Object(members) => {
            let mut names: Vec<&String> = members.keys().collect();
            names.sort_by(|left, right| left.encode_utf16().cmp(right.encode_utf16()));
            out.push(b'{');
            for (index, name) in names.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_string(name, out);
                out.push(b':');
                write_value(&members[name], out, depth + 1)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for character in text.chars() {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            '\r' => out.extend_from_slice(b"\\r"),
            control if control < ' ' => out.extend_from_slice(format!("\\u{:04x}", control as u32).as_bytes()),
            other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn canonical(json: &str) -> String {
        let value: Value = serde_json::from_str(json).unwrap();
        String::from_utf8(to_bytes(&value).unwrap()).unwrap()
    }

    #[test]
    fn members_are_sorted_by_utf16_and_white_space_goes() {
        assert_eq!(canonical(r#"{ "b": 1, "a": [true, null] }"#), r#"{"a":[true,null],"b":1}"#);
        // RFC 8785 section 3.2.3: U+1F600 sorts before U+FB33 in UTF-16, after it in UTF-8.
        assert_eq!(canonical("{\"\u{fb33}\":1,\"\u{1f600}\":2}"), "{\"\u{1f600}\":2,\"\u{fb33}\":1}");
    }

    #[test]
    fn strings_are_escaped_as_the_rfc_says() {
        assert_eq!(canonical(r#""\u20ac$\u000f\u000aA'B\u0022\u005c\\\"\/""#), "\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"");
    }

    #[test]
    fn fractions_great_integers_and_depth_are_refused() {
        assert!(matches!(to_bytes(&serde_json::json!(1.5)), Err(JcsError::Number)));
        assert!(matches!(to_bytes(&serde_json::json!(1u64 << 53)), Err(JcsError::Number)));
        let deep = (0..40).fold(serde_json::json!(1), |inner, _| serde_json::json!([inner]));
        assert!(matches!(to_bytes(&deep), Err(JcsError::Depth)));
    }

    #[test]
    fn other_spellings_are_refused() {
        let check = |bytes: &str| from_bytes::<Value>(bytes.as_bytes(), 100).map(|_| ());
        assert!(check(r#"{"a":1,"b":2}"#).is_ok());
        for bad in [r#"{"b":2,"a":1}"#, r#"{"a":1,"a":1}"#, r#"{"a": 1}"#, r#"{"a":1} "#, r#"{"a":"\u0041"}"#] {
            assert!(matches!(check(bad), Err(JcsError::NotCanonical)), "{bad}");
        }
        assert!(matches!(from_bytes::<Value>(b"[1,2]", 4), Err(JcsError::TooLarge { limit: 4, found: 5 })));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = from_bytes::<Value>(&bytes, 150);
        }

        #[test]
        fn canonical_bytes_read_back(text in ".*", number in 0..=MAX_INTEGER) {
            let value = serde_json::json!({"text": text, "number": number});
            let bytes = to_bytes(&value).unwrap();
            prop_assert_eq!(from_bytes::<Value>(&bytes, bytes.len()).unwrap(), value);
        }
    }
}
