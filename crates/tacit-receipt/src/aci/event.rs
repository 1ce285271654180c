//! The events of a receipt (section 7.4).

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use serde_json::{Map, Value};

use super::{BareDigest, InferenceEvent, PrefixedDigest, is_name};

/// Type of [`Event::Inference`].
const INFERENCE: &str = "tacit.inference";

/// One event of a receipt: a flat object with a `type`. Their order is the order of the array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// `request.received`: hash of the request body that the workload processed. Always the first event.
    RequestReceived(PrefixedDigest),
    /// `request.forwarded`: hash of the bytes used for inference. Another hash than the first event's is a declared rewrite.
    RequestForwarded(PrefixedDigest),
    /// `upstream.verified`: what an aggregator found about the upstream service.
    UpstreamVerified(UpstreamVerified),
    /// `response.returned`: hash of the exact bytes that went over the wire.
    ResponseReturned(PrefixedDigest),
    /// `tacit.inference`: model, usage and price.
    Inference(InferenceEvent),
    /// An event of another type, kept as it is; it never has a reserved type.
    Other(Map<String, Value>),
}

/// What an aggregator found about the upstream service of one request (section 7.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamVerified {
    /// Whether verified serving was demanded, by the operator or by the request.
    pub required: bool,
    /// The upstream model that was asked for.
    pub model_id: String,
    /// The outcome.
    pub outcome: UpstreamOutcome,
}

/// Whether the upstream service was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamOutcome {
    /// It was, in this session.
    Verified {
        /// The session's id.
        session_id: BareDigest,
    },
    /// It was not.
    Failed {
        /// Why.
        reason: String,
        /// Which upstream it was, if the service says so.
        upstream_name: Option<String>,
    },
}

impl Event {
    /// The event's type.
    pub fn name(&self) -> &str {
        match self {
            Self::RequestReceived(_) => "request.received",
            Self::RequestForwarded(_) => "request.forwarded",
            Self::UpstreamVerified(_) => "upstream.verified",
            Self::ResponseReturned(_) => "response.returned",
            Self::Inference(_) => INFERENCE,
            Self::Other(members) => members.get("type").and_then(Value::as_str).unwrap_or_default(),
        }
    }

    /// `request.received` of a body.
    pub fn received(body: &[u8]) -> Self {
        Self::RequestReceived(PrefixedDigest::of(body))
    }

    /// `request.forwarded` of a body.
    pub fn forwarded(body: &[u8]) -> Self {
        Self::RequestForwarded(PrefixedDigest::of(body))
    }

    /// `response.returned` of a body.
    pub fn returned(body: &[u8]) -> Self {
        Self::ResponseReturned(PrefixedDigest::of(body))
    }
}

#[derive(Serialize, Deserialize)]
struct BodyMember {
    body_hash: PrefixedDigest,
}

#[derive(Serialize, Deserialize)]
struct UpstreamMembers {
    result: UpstreamResult,
    required: bool,
    model_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session_id: Option<BareDigest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    upstream_name: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum UpstreamResult {
    Verified,
    Failed,
}

impl TryFrom<UpstreamMembers> for UpstreamVerified {
    type Error = &'static str;

    fn try_from(members: UpstreamMembers) -> Result<Self, Self::Error> {
        let UpstreamMembers { result, required, model_id, session_id, reason, upstream_name } = members;
        let outcome = match (result, session_id, reason) {
            (UpstreamResult::Verified, Some(session_id), None) => UpstreamOutcome::Verified { session_id },
            (UpstreamResult::Failed, None, Some(reason)) => UpstreamOutcome::Failed { reason, upstream_name },
            (UpstreamResult::Verified, ..) => return Err("a verified upstream cites a session and gives no reason"),
            (UpstreamResult::Failed, ..) => return Err("a failed upstream gives a reason and cites no session"),
        };
        Ok(Self { required, model_id, outcome })
    }
}

impl From<&UpstreamVerified> for UpstreamMembers {
    fn from(event: &UpstreamVerified) -> Self {
        let (result, session_id, reason, upstream_name) = match &event.outcome {
            UpstreamOutcome::Verified { session_id } => (UpstreamResult::Verified, Some(*session_id), None, None),
            UpstreamOutcome::Failed { reason, upstream_name } => {
                (UpstreamResult::Failed, None, Some(reason.clone()), upstream_name.clone())
            }
        };
        Self { result, required: event.required, model_id: event.model_id.clone(), session_id, reason, upstream_name }
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Tagged<'a, T: Serialize> {
            r#type: &'a str,
            #[serde(flatten)]
            members: T,
        }
        let name = self.name();
        match self {
            Self::RequestReceived(body_hash)
            | Self::RequestForwarded(body_hash)
            | Self::ResponseReturned(body_hash) => {
                Tagged { r#type: name, members: BodyMember { body_hash: *body_hash } }.serialize(serializer)
            }
            Self::UpstreamVerified(event) => {
                Tagged { r#type: name, members: UpstreamMembers::from(event) }.serialize(serializer)
            }
            Self::Inference(event) => Tagged { r#type: name, members: event }.serialize(serializer),
            Self::Other(members) if is_name(name) && !is_reserved(name) => members.serialize(serializer),
            Self::Other(_) => Err(ser::Error::custom("an event of another type has a type that is not reserved")),
        }
    }
}

fn is_reserved(name: &str) -> bool {
    matches!(name, "request.received" | "request.forwarded" | "upstream.verified" | "response.returned" | INFERENCE)
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut members = Map::deserialize(deserializer)?;
        let name = match members.get("type") {
            Some(Value::String(name)) if is_name(name) => name.clone(),
            _ => return Err(de::Error::custom("an event without a type")),
        };
        if !is_reserved(&name) {
            return Ok(Self::Other(members));
        }
        members.remove("type");
        let members = Value::Object(members);
        // What serde says of a wrong member may quote it.
        let wrong = |_| de::Error::custom("a reserved event of another shape");
        let body = |members| serde_json::from_value(members).map(|BodyMember { body_hash }| body_hash).map_err(wrong);
        Ok(match name.as_str() {
            "request.received" => Self::RequestReceived(body(members)?),
            "request.forwarded" => Self::RequestForwarded(body(members)?),
            "response.returned" => Self::ResponseReturned(body(members)?),
            "upstream.verified" => {
                let members: UpstreamMembers = serde_json::from_value(members).map_err(wrong)?;
                Self::UpstreamVerified(members.try_into().map_err(de::Error::custom)?)
            }
            _ => Self::Inference(serde_json::from_value(members).map_err(wrong)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: &Value) -> Result<Event, serde_json::Error> {
        serde_json::from_value(value.clone())
    }

    #[test]
    fn each_kind_reads_what_it_writes() {
        let hash = PrefixedDigest::of(b"body").to_string();
        let session = BareDigest::of(b"session").to_string();
        let inference = super::super::inference::tests::sample();
        let mut own = serde_json::to_value(&inference).unwrap();
        own["type"] = INFERENCE.into();
        let events = [
            (json!({ "type": "request.received", "body_hash": hash }), Event::received(b"body")),
            (json!({ "type": "request.forwarded", "body_hash": hash }), Event::forwarded(b"body")),
            (json!({ "type": "response.returned", "body_hash": hash }), Event::returned(b"body")),
            (
                json!({ "type": "upstream.verified", "result": "verified", "required": true, "model_id": "m", "session_id": session }),
                Event::UpstreamVerified(UpstreamVerified {
                    required: true,
                    model_id: "m".into(),
                    outcome: UpstreamOutcome::Verified { session_id: BareDigest::of(b"session") },
                }),
            ),
            (
                json!({ "type": "upstream.verified", "result": "failed", "required": false, "model_id": "m", "reason": "r", "upstream_name": "u" }),
                Event::UpstreamVerified(UpstreamVerified {
                    required: false,
                    model_id: "m".into(),
                    outcome: UpstreamOutcome::Failed { reason: "r".into(), upstream_name: Some("u".into()) },
                }),
            ),
            (own, Event::Inference(inference)),
        ];
        for (value, event) in events {
            assert_eq!(read(&value).unwrap(), event);
            assert_eq!(serde_json::to_value(&event).unwrap(), value);
        }
        let other = json!({ "type": "example.routed", "to": ["a"], "n": 1 });
        let event = read(&other).unwrap();
        assert_eq!(event.name(), "example.routed");
        assert_eq!(serde_json::to_value(&event).unwrap(), other);
    }

    #[test]
    fn reserved_events_of_another_shape_are_refused() {
        let (hash, session) = (PrefixedDigest::of(b"").to_string(), BareDigest::of(b"").to_string());
        let bad = [
            json!({}),
            json!({ "type": 1 }),
            json!({ "type": "" }),
            json!({ "type": "request.received" }),
            json!({ "type": "request.received", "body_hash": session }),
            json!({ "type": "response.returned", "body_hash": null }),
            json!({ "type": "upstream.verified", "result": "verified", "required": true, "model_id": "m" }),
            json!({ "type": "upstream.verified", "result": "verified", "required": true, "model_id": "m", "session_id": hash }),
            json!({ "type": "upstream.verified", "result": "failed", "required": true, "model_id": "m", "session_id": session }),
            json!({ "type": "upstream.verified", "result": "maybe", "required": true, "model_id": "m", "session_id": session }),
            json!({ "type": "upstream.verified", "result": "verified", "required": 1, "model_id": "m", "session_id": session }),
            json!({ "type": "tacit.inference", "model_digest": hash }),
        ];
        for value in bad {
            assert!(read(&value).is_err(), "{value}");
        }
        let mut own = serde_json::to_value(super::super::inference::tests::sample()).unwrap();
        own["type"] = INFERENCE.into();
        own["further"] = 1.into();
        assert!(read(&own).is_err());
        let reserved = json!({ "type": "request.received" });
        let forged = Event::Other(reserved.as_object().unwrap().clone());
        assert!(serde_json::to_value(forged).is_err());
    }
}
