//! The event log of a trust domain's run-time register 3, in dstack's JSON.

use serde::Deserialize;
use sha2::{Digest as _, Sha384};

use crate::AttestError;

/// The event type of dstack's run-time events.
const RUNTIME_EVENT: u32 = 0x0800_0001;
/// Most events of one log.
const MAX_EVENTS: usize = 4096;

#[derive(Deserialize)]
struct Event {
    imr: u32,
    event_type: u32,
    digest: String,
    event: String,
    event_payload: String,
}

/// Replays the events of register 3: every digest must follow from its event, and all of them must lead to `rtmr3`.
pub(crate) fn check(log: &str, rtmr3: &[u8; 48]) -> Result<(), AttestError> {
    let malformed = |detail: String| AttestError::Malformed { what: "event log", detail };
    let events: Vec<Event> = serde_json::from_str(log).map_err(|error| malformed(error.to_string()))?;
    if events.len() > MAX_EVENTS {
        return Err(malformed(format!("{} events, at most {MAX_EVENTS}", events.len())));
    }
    let mut register = [0u8; 48];
    for event in events.iter().filter(|event| event.imr == 3) {
        let payload = hex::decode(&event.event_payload).map_err(|error| malformed(error.to_string()))?;
        let digest = digest(&event.event, &payload);
        if event.event_type != RUNTIME_EVENT || hex::encode(digest) != event.digest {
            return Err(AttestError::EventLogMismatch);
        }
        register = extend(&register, &digest);
    }
    if register == *rtmr3 { Ok(()) } else { Err(AttestError::EventLogMismatch) }
}

/// The digest of a run-time event: SHA-384(type, little-endian ‖ `:` ‖ name ‖ `:` ‖ payload), as dstack computes it.
pub fn digest(event: &str, payload: &[u8]) -> [u8; 48] {
    Sha384::new()
        .chain_update(RUNTIME_EVENT.to_le_bytes())
        .chain_update(b":")
        .chain_update(event)
        .chain_update(b":")
        .chain_update(payload)
        .finalize()
        .into()
}

/// Extends a register: SHA-384(register ‖ digest).
pub fn extend(register: &[u8; 48], digest: &[u8; 48]) -> [u8; 48] {
    Sha384::new().chain_update(register).chain_update(digest).finalize().into()
}

/// The log of run-time events as dstack's guest agent writes it.
pub fn to_json<'a>(events: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> String {
    let entries: Vec<serde_json::Value> = events
        .into_iter()
        .map(|(event, payload)| {
            serde_json::json!({
                "imr": 3,
                "event_type": RUNTIME_EVENT,
                "digest": hex::encode(digest(event, payload)),
                "event": event,
                "event_payload": hex::encode(payload),
            })
        })
        .collect();
    serde_json::Value::Array(entries).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_replays_and_a_changed_one_does_not() {
        let events: [(&str, &[u8]); 2] = [("app-id", b"one"), ("instance-id", b"two")];
        let register =
            events.iter().fold([0; 48], |register, (name, payload)| extend(&register, &digest(name, payload)));
        let log = to_json(events);
        assert_eq!(check(&log, &register), Ok(()));
        assert_eq!(check("[]", &[0; 48]), Ok(()));
        let refuse = |log: &str| assert_eq!(check(log, &register), Err(AttestError::EventLogMismatch), "{log}");
        refuse("[]");
        refuse(&to_json([events[1], events[0]]));
        refuse(&log.replace("app-id", "app-ie"));
        refuse(&log.replace("134217729", "134217730"));
        assert!(matches!(check("{", &register), Err(AttestError::Malformed { .. })));
    }
}
