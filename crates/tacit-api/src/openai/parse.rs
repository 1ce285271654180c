//! Bodies read, with errors that name the member at fault and quote no value.

use serde::de::DeserializeOwned;
use serde_json::{Value, error::Category};

use super::error::{ApiError, ErrorKind};

/// Reads a request.
///
/// # Errors
/// An error of status 400 that says where the body is wrong.
pub fn parse_request<T: DeserializeOwned>(body: &Value) -> Result<T, ApiError> {
    if !body.is_object() {
        return Err(ApiError::new(ErrorKind::Invalid, "the body is not a JSON object"));
    }
    serde_path_to_error::deserialize(body).map_err(|error| {
        let path = error.path().to_string();
        described(&path, error.inner())
    })
}

/// Serde's texts quote values; these do not.
fn described(path: &str, error: &serde_json::Error) -> ApiError {
    let text = error.to_string();
    let quoted = |prefix: &str| {
        let (_, rest) = text.split_once(prefix)?;
        rest.split_once('`').map(|(name, _)| name.to_owned())
    };
    let at = |name: &str| if path == "." { name.to_owned() } else { format!("{path}.{name}") };
    if let Some(name) = quoted("missing field `") {
        let param = at(&name);
        return ApiError::new(ErrorKind::MissingParameter, format!("missing required parameter: '{param}'")).at(param);
    }
    if text.starts_with("unknown field `") {
        // The path already ends in the unknown name.
        return ApiError::new(ErrorKind::UnknownParameter, format!("unknown parameter: '{path}'")).at(path);
    }
    let kind = if error.classify() == Category::Data { ErrorKind::InvalidType } else { ErrorKind::Invalid };
    let expected = text.rsplit_once("expected ").map(|(_, expected)| format!(": expected {}", position_cut(expected)));
    ApiError::new(kind, format!("invalid value for '{path}'{}", expected.unwrap_or_default())).at(path)
}

/// Without serde's " at line 1 column 2".
fn position_cut(text: &str) -> &str {
    text.split_once(" at line ").map_or(text, |(before, _)| before)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::openai::ChatRequest;

    fn refused(body: Value) -> (ErrorKind, Option<String>, String) {
        let error = parse_request::<ChatRequest>(&body).unwrap_err();
        (error.kind, error.param, error.message)
    }

    #[test]
    fn the_member_at_fault_is_named_and_no_value_is_quoted() {
        let (kind, param, _) = refused(json!({"model": "m"}));
        assert_eq!((kind, param.as_deref()), (ErrorKind::MissingParameter, Some("messages")));
        let (kind, param, _) = refused(json!({"model": "m", "messages": [], "heat": 1}));
        assert_eq!((kind, param.as_deref()), (ErrorKind::UnknownParameter, Some("heat")));
        let (kind, param, message) = refused(json!({"model": "m", "messages": [], "temperature": "secret words"}));
        assert_eq!((kind, param.as_deref()), (ErrorKind::InvalidType, Some("temperature")));
        assert!(!message.contains("secret"), "{message}");
        let (kind, param, message) =
            refused(json!({"model": "m", "messages": [{"role": "user", "content": {"secret": 1}}]}));
        assert_eq!(kind, ErrorKind::InvalidType);
        assert!(param.unwrap().starts_with("messages[0]"));
        assert!(!message.contains("secret"), "{message}");
        assert_eq!(refused(json!([1])).0, ErrorKind::Invalid);
    }
}
