//! The event log of a trust domain in dstack's JSON: what its software measured into run-time register 3, and the digests of
//! what firmware and kernel measured into registers 0 to 2.
//!
//! dstack writes two forms of run-time events. Version 1 hashes `type ‖ : ‖ name ‖ : ‖ payload`, version 2 the canonical JSON
//! of name, payload and type; an entry says which.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha384};
use tacit_types::jcs;

use crate::AttestError;

/// The event type of dstack's run-time events.
const RUNTIME_EVENT: u32 = 0x0800_0001;
/// Most events of one log.
const MAX_EVENTS: usize = 4096;

#[derive(Deserialize)]
struct Entry {
    imr: u32,
    event_type: u32,
    #[serde(default)]
    digest: String,
    event: String,
    event_payload: String,
    #[serde(default = "first_version")]
    version: u32,
    #[serde(default)]
    preimage: Option<String>,
}

fn first_version() -> u32 {
    1
}

/// An event of run-time register 3, which a verified log leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its name, as `compose-hash`.
    pub name: String,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// How the digest of a run-time event is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// SHA-384(type, little-endian ‖ `:` ‖ name ‖ `:` ‖ payload).
    Version1,
    /// SHA-384 of the canonical JSON `{"name":…,"payload":<hex>,"type":134217729}`.
    Version2,
}

/// Replays a log: the digest of every run-time event must follow from its event, and the entries of each register must lead to
/// its value. Registers 0 to 2 are judged if the log has entries for them; register 3 always. Gives the run-time events.
pub(crate) fn check(log: &str, registers: [&[u8; 48]; 4]) -> Result<Vec<Event>, AttestError> {
    let malformed = |detail: String| AttestError::Malformed { what: "event log", detail };
    let entries: Vec<Entry> = serde_json::from_str(log).map_err(|error| malformed(error.to_string()))?;
    if entries.len() > MAX_EVENTS {
        return Err(malformed(format!("{} events, at most {MAX_EVENTS}", entries.len())));
    }
    let mut replayed = [[0u8; 48]; 4];
    let mut present = [false, false, false, true];
    let mut events = Vec::new();
    for entry in entries {
        let index = entry.imr as usize;
        if index > 3 {
            return Err(malformed(format!("register {}, there are 0 to 3", entry.imr)));
        }
        let digest = if index == 3 {
            let payload = hex::decode(&entry.event_payload).map_err(|error| malformed(error.to_string()))?;
            let digest = entry.check_runtime(&payload)?;
            events.push(Event { name: entry.event, payload });
            digest
        } else {
            let mut digest = [0u8; 48];
            hex::decode_to_slice(&entry.digest, &mut digest).map_err(|error| malformed(error.to_string()))?;
            digest
        };
        present[index] = true;
        replayed[index] = extend(&replayed[index], &digest);
    }
    for (index, name) in ["RTMR0", "RTMR1", "RTMR2", "RTMR3"].into_iter().enumerate() {
        if present[index] && replayed[index] != *registers[index] {
            return Err(AttestError::EventLogMismatch { register: name });
        }
    }
    Ok(events)
}

impl Entry {
    fn form(&self) -> Result<Form, AttestError> {
        match self.version {
            1 => Ok(Form::Version1),
            2 => Ok(Form::Version2),
            other => Err(AttestError::Unsupported { what: "event version", found: other }),
        }
    }

    fn check_runtime(&self, payload: &[u8]) -> Result<[u8; 48], AttestError> {
        const WRONG: AttestError = AttestError::EventLogMismatch { register: "RTMR3" };
        let preimage = preimage(self.form()?, &self.event, payload);
        let digest: [u8; 48] = Sha384::digest(&preimage).into();
        // A log that was made smaller leaves digests out; a digest or preimage that is there must be the right one.
        let digest_holds = self.digest.is_empty() || self.digest == hex::encode(digest);
        let preimage_holds = self.preimage.as_ref().is_none_or(|given| *given == hex::encode(&preimage));
        if self.event_type != RUNTIME_EVENT || !digest_holds || !preimage_holds {
            return Err(WRONG);
        }
        Ok(digest)
    }
}

/// The run-time events of a log in one spelling: canonical JSON, hex in lower case, digests (and preimages of the second form)
/// filled in, other registers and members left out. Nothing is checked against a register.
///
/// # Errors
/// [`AttestError::Malformed`] or [`AttestError::Unsupported`] for a log that cannot be read.
pub fn runtime_events(log: &str) -> Result<String, AttestError> {
    #[derive(Serialize)]
    struct Written {
        imr: u32,
        event_type: u32,
        digest: String,
        event: String,
        event_payload: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        version: Option<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        preimage: Option<String>,
    }
    let malformed = |detail: String| AttestError::Malformed { what: "event log", detail };
    let entries: Vec<Entry> = serde_json::from_str(log).map_err(|error| malformed(error.to_string()))?;
    if entries.len() > MAX_EVENTS {
        return Err(malformed(format!("{} events, at most {MAX_EVENTS}", entries.len())));
    }
    let runtime = entries.into_iter().filter(|entry| entry.imr == 3).map(|entry| {
        let payload = hex::decode(&entry.event_payload).map_err(|error| malformed(error.to_string()))?;
        let form = entry.form()?;
        let second = form == Form::Version2;
        Ok(Written {
            imr: entry.imr,
            event_type: entry.event_type,
            digest: hex::encode(digest_in(form, &entry.event, &payload)),
            event_payload: hex::encode(&payload),
            version: second.then_some(2),
            preimage: second.then(|| hex::encode(preimage(form, &entry.event, &payload))),
            event: entry.event,
        })
    });
    let written = jcs::to_bytes(&runtime.collect::<Result<Vec<_>, AttestError>>()?);
    let written = written.map_err(|error| malformed(error.to_string()))?;
    String::from_utf8(written).map_err(|error| malformed(error.to_string()))
}

fn preimage(form: Form, event: &str, payload: &[u8]) -> Vec<u8> {
    #[derive(Serialize)]
    struct Canonical<'a> {
        name: &'a str,
        payload: String,
        r#type: u32,
    }
    match form {
        Form::Version1 => [&RUNTIME_EVENT.to_le_bytes()[..], b":", event.as_bytes(), b":", payload].concat(),
        Form::Version2 => {
            jcs::to_bytes(&Canonical { name: event, payload: hex::encode(payload), r#type: RUNTIME_EVENT })
                .expect("strings and one small number have a canonical form")
        }
    }
}

/// The digest of a run-time event in the first form.
pub fn digest(event: &str, payload: &[u8]) -> [u8; 48] {
    digest_in(Form::Version1, event, payload)
}

/// The digest of a run-time event.
pub fn digest_in(form: Form, event: &str, payload: &[u8]) -> [u8; 48] {
    Sha384::digest(preimage(form, event, payload)).into()
}

/// Extends a register: SHA-384(register ‖ digest).
pub fn extend(register: &[u8; 48], digest: &[u8; 48]) -> [u8; 48] {
    Sha384::new().chain_update(register).chain_update(digest).finalize().into()
}

/// The log of run-time events as dstack's guest agent writes it, in the first form.
pub fn to_json<'a>(events: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> String {
    to_json_in(Form::Version1, events)
}

/// The log of run-time events as dstack's guest agent writes it.
pub fn to_json_in<'a>(form: Form, events: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> String {
    let entries: Vec<serde_json::Value> = events
        .into_iter()
        .map(|(event, payload)| {
            let mut entry = serde_json::json!({
                "imr": 3,
                "event_type": RUNTIME_EVENT,
                "digest": hex::encode(digest_in(form, event, payload)),
                "event": event,
                "event_payload": hex::encode(payload),
            });
            if form == Form::Version2 {
                entry["version"] = 2.into();
                entry["preimage"] = hex::encode(preimage(form, event, payload)).into();
            }
            entry
        })
        .collect();
    serde_json::Value::Array(entries).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [(&str, &[u8]); 2] = [("app-id", b"one"), ("compose-hash", b"two")];
    const ZERO: [u8; 48] = [0; 48];

    fn replay(form: Form) -> [u8; 48] {
        EVENTS.iter().fold(ZERO, |register, (name, payload)| extend(&register, &digest_in(form, name, payload)))
    }

    fn check_runtime(log: &str, register: &[u8; 48]) -> Result<Vec<Event>, AttestError> {
        check(log, [&ZERO, &ZERO, &ZERO, register])
    }

    #[test]
    fn a_log_of_either_form_replays_and_a_changed_one_does_not() {
        for form in [Form::Version1, Form::Version2] {
            let register = replay(form);
            let log = to_json_in(form, EVENTS);
            let events = check_runtime(&log, &register).unwrap();
            assert_eq!(events[1], Event { name: "compose-hash".into(), payload: b"two".to_vec() });
            let refuse = |log: &str| {
                let refused = check_runtime(log, &register);
                assert_eq!(refused, Err(AttestError::EventLogMismatch { register: "RTMR3" }), "{log}");
            };
            refuse("[]");
            refuse(&to_json_in(form, [EVENTS[1], EVENTS[0]]));
            refuse(&log.replace("app-id", "app-ie"));
            refuse(&log.replace("134217729", "134217730"));
            refuse(&log.replace("6f6e65", "6f6e66"));
            assert!(matches!(check_runtime(&log[1..], &register), Err(AttestError::Malformed { .. })));
        }
        assert_eq!(check_runtime("[]", &ZERO), Ok(vec![]));
    }

    #[test]
    fn the_forms_do_not_pass_for_each_other() {
        assert_eq!(
            preimage(Form::Version2, "compose-hash", &[0xab, 0xcd]),
            br#"{"name":"compose-hash","payload":"abcd","type":134217729}"#
        );
        assert_ne!(replay(Form::Version1), replay(Form::Version2));
        let second = to_json_in(Form::Version2, EVENTS);
        let mismatch = Err(AttestError::EventLogMismatch { register: "RTMR3" });
        assert_eq!(
            check_runtime(&second.replace(r#""version":2"#, r#""version":1"#), &replay(Form::Version2)),
            mismatch
        );
        let third = second.replace(r#""version":2"#, r#""version":3"#);
        assert_eq!(
            check_runtime(&third, &replay(Form::Version2)),
            Err(AttestError::Unsupported { what: "event version", found: 3 })
        );
        // A preimage that says something else than the event does.
        let other = hex::encode(preimage(Form::Version2, "app-id", b"two"));
        let own = hex::encode(preimage(Form::Version2, "app-id", b"one"));
        assert_eq!(check_runtime(&second.replace(&own, &other), &replay(Form::Version2)), mismatch);
    }

    #[test]
    fn a_log_may_leave_digests_of_run_time_events_out() {
        let mut entries: Vec<serde_json::Value> = serde_json::from_str(&to_json(EVENTS)).unwrap();
        entries.iter_mut().for_each(|entry| entry["digest"] = "".into());
        let log = serde_json::Value::Array(entries).to_string();
        assert_eq!(check_runtime(&log, &replay(Form::Version1)).map(|events| events.len()), Ok(2));
    }

    #[test]
    fn entries_of_the_other_registers_count_where_they_are() {
        let digest = [7; 48];
        let entry = |imr: u32| {
            serde_json::json!([{"imr": imr, "event_type": 1, "digest": hex::encode(digest), "event": "", "event_payload": ""}])
                .to_string()
        };
        let register = extend(&ZERO, &digest);
        for (index, name) in ["RTMR0", "RTMR1", "RTMR2"].into_iter().enumerate() {
            let mut registers = [&ZERO; 4];
            let log = entry(index as u32);
            assert_eq!(check(&log, registers), Err(AttestError::EventLogMismatch { register: name }));
            registers[index] = &register;
            assert_eq!(check(&log, registers), Ok(vec![]));
        }
        assert!(matches!(check(&entry(4), [&ZERO; 4]), Err(AttestError::Malformed { .. })));
        assert!(matches!(check(&entry(0).replace("07", "7"), [&ZERO; 4]), Err(AttestError::Malformed { .. })));
    }

    #[test]
    fn a_log_has_one_normal_spelling() {
        for form in [Form::Version1, Form::Version2] {
            let log = to_json_in(form, EVENTS);
            let normal = runtime_events(&log).unwrap();
            assert_eq!(check_runtime(&normal, &replay(form)), check_runtime(&log, &replay(form)));
            assert_eq!(runtime_events(&normal).unwrap(), normal);
            let mut entries: Vec<serde_json::Value> = serde_json::from_str(&log).unwrap();
            for entry in &mut entries {
                entry["digest"] = "".into();
                entry["event_payload"] = entry["event_payload"].as_str().unwrap().to_uppercase().into();
                entry["further"] = 1.into();
            }
            entries.insert(
                0,
                serde_json::json!({"imr": 0, "event_type": 1, "digest": "00", "event": "", "event_payload": ""}),
            );
            assert_eq!(runtime_events(&serde_json::to_string_pretty(&entries).unwrap()).unwrap(), normal);
        }
        assert!(matches!(runtime_events("{}"), Err(AttestError::Malformed { .. })));
        assert!(matches!(
            runtime_events(&to_json(vec![EVENTS[0]; MAX_EVENTS + 1])),
            Err(AttestError::Malformed { .. })
        ));
    }

    #[test]
    fn a_log_is_bounded() {
        let many = vec![EVENTS[0]; MAX_EVENTS + 1];
        assert!(matches!(check_runtime(&to_json(many), &ZERO), Err(AttestError::Malformed { .. })));
    }
}
