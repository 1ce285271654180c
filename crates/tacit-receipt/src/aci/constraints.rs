//! What a request demands of upstream services (section 5.3).

use serde_json::{Map, Value};

use super::{AciError, BareDigest};

/// Most sessions that one request may name.
pub const MAX_SESSION_IDS: usize = 64;

/// The `aci_…` members of a request's `provider`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServingConstraints {
    /// Whether only a verified upstream may serve.
    pub verified: bool,
    /// The sessions of which one must serve; none means any.
    pub sessions: Vec<BareDigest>,
}

impl ServingConstraints {
    /// Takes the constraints out of a request body: they are consumed and never forwarded. A `provider` that holds nothing else
    /// goes with them. Gives nothing, and changes nothing, where there are none.
    ///
    /// # Errors
    /// [`AciError::Constraint`], to be answered with 400 `invalid_request_error`: unknown `aci_…` members, an empty or malformed
    /// list, a list together with `aci_verified: false`.
    pub fn take(body: &mut Map<String, Value>) -> Result<Option<Self>, AciError> {
        let Some(Value::Object(provider)) = body.get_mut("provider") else { return Ok(None) };
        let names: Vec<String> = provider.keys().filter(|name| name.starts_with("aci_")).cloned().collect();
        if names.is_empty() {
            return Ok(None);
        }
        let (mut verified, mut sessions) = (None, Vec::new());
        for name in &names {
            match (name.as_str(), &provider[name]) {
                ("aci_verified", Value::Bool(flag)) => verified = Some(*flag),
                ("aci_session_ids", Value::Array(ids)) => sessions = parse_ids(ids)?,
                ("aci_verified", _) => return Err(AciError::Constraint("aci_verified is not a boolean")),
                ("aci_session_ids", _) => return Err(AciError::Constraint("aci_session_ids is not a list")),
                _ => return Err(AciError::Constraint("unknown aci_ member")),
            }
        }
        if verified == Some(false) && !sessions.is_empty() {
            return Err(AciError::Constraint("aci_session_ids together with aci_verified: false"));
        }
        // Keeps the order of what is left.
        provider.retain(|name, _| !name.starts_with("aci_"));
        if provider.is_empty() {
            body.retain(|name, _| name != "provider");
        }
        Ok(Some(Self { verified: verified.unwrap_or(false) || !sessions.is_empty(), sessions }))
    }
}

fn parse_ids(ids: &[Value]) -> Result<Vec<BareDigest>, AciError> {
    if !(1..=MAX_SESSION_IDS).contains(&ids.len()) {
        return Err(AciError::Constraint("aci_session_ids is empty or too long"));
    }
    let parse = |id: &Value| id.as_str().and_then(|id| id.parse().ok());
    ids.iter()
        .map(|id| parse(id).ok_or(AciError::Constraint("a session id is 64 lower-case hexadecimal digits")))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn take(provider: Value) -> (Result<Option<ServingConstraints>, AciError>, Value) {
        let mut body = json!({ "model": "m", "provider": provider, "n": 1 }).as_object().unwrap().clone();
        let taken = ServingConstraints::take(&mut body);
        (taken, Value::Object(body))
    }

    #[test]
    fn constraints_are_taken_and_the_rest_stays() {
        let id = "ab".repeat(32);
        let (taken, body) = take(json!({ "aci_verified": true }));
        assert_eq!(taken.unwrap(), Some(ServingConstraints { verified: true, sessions: vec![] }));
        assert_eq!(body, json!({ "model": "m", "n": 1 }));
        let (taken, body) = take(json!({ "order": ["a"], "aci_session_ids": [id], "zone": 1 }));
        assert_eq!(taken.unwrap(), Some(ServingConstraints { verified: true, sessions: vec![id.parse().unwrap()] }));
        assert_eq!(body, json!({ "model": "m", "provider": { "order": ["a"], "zone": 1 }, "n": 1 }));
        let (taken, body) = take(json!({ "order": ["a"] }));
        assert_eq!((taken.unwrap(), &body["provider"]), (None, &json!({ "order": ["a"] })));
        assert_eq!(take(json!("a")).0.unwrap(), None);
        assert_eq!(take(json!({ "aci_verified": false })).0.unwrap(), Some(ServingConstraints::default()));
    }

    #[test]
    fn wrong_constraints_are_refused_and_never_ignored() {
        let id = "ab".repeat(32);
        for provider in [
            json!({ "aci_verified": "true" }),
            json!({ "aci_verified": null }),
            json!({ "aci_session_ids": [] }),
            json!({ "aci_session_ids": "x" }),
            json!({ "aci_session_ids": [id.to_uppercase()] }),
            json!({ "aci_session_ids": [1] }),
            json!({ "aci_session_ids": vec![id.clone(); MAX_SESSION_IDS + 1] }),
            json!({ "aci_verified": false, "aci_session_ids": [id] }),
            json!({ "aci_verified": true, "aci_future": 1 }),
        ] {
            let (taken, body) = take(provider.clone());
            assert!(matches!(taken, Err(AciError::Constraint(_))), "{provider}");
            assert_eq!(body["provider"], provider);
        }
    }
}
