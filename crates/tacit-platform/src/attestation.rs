//! The attestation that dstack's guest API version 1 answers with: MessagePack around the platform's own evidence.

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use tacit_attest::{Evidence, MAX_DOCUMENT, MAX_EVENT_LOG};

use crate::PlatformError;
use crate::guest_socket::evidence;

const METHOD: &str = "/v1/Attest";
const VERSION: u64 = 1;
/// Most events of a log.
const MAX_EVENTS: usize = 4096;

#[derive(Deserialize)]
struct Attestation {
    version: u64,
    platform: Platform,
}

/// The platforms of which evidence is understood here. Others are refused by their name.
#[derive(Deserialize)]
#[serde(tag = "kind", content = "data")]
enum Platform {
    #[serde(rename = "tdx")]
    Tdx { quote: Bytes, event_log: Vec<Event> },
    #[serde(rename = "sev-snp")]
    SevSnp { report: Bytes },
}

#[derive(Deserialize)]
struct Event {
    imr: u32,
    event_type: u32,
    #[serde(default)]
    digest: Bytes,
    event: String,
    event_payload: Bytes,
    /// How the digest is made; agents leave the first way unnamed.
    #[serde(default)]
    version: Option<u32>,
}

/// Bytes, which some versions write as an array of numbers.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Bytes;

            fn expecting(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
                formatter.write_str("bytes")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Bytes, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = sequence.next_element()? {
                    if bytes.len() == MAX_DOCUMENT {
                        return Err(serde::de::Error::custom("too many bytes"));
                    }
                    bytes.push(byte);
                }
                Ok(Bytes(bytes))
            }
        }
        deserializer.deserialize_any(Read)
    }
}

/// Reads an attestation and keeps of it what the hardware signed.
pub(crate) fn parse(bytes: &[u8]) -> Result<Evidence, PlatformError> {
    let wrong = |what: String| PlatformError::Answer { method: METHOD, what };
    let attestation: Attestation =
        rmp_serde::from_slice(bytes).map_err(|error| wrong(format!("an attestation that cannot be read: {error}")))?;
    if attestation.version != VERSION {
        return Err(wrong(format!("an attestation of version {}", attestation.version)));
    }
    let (document, event_log) = match attestation.platform {
        Platform::SevSnp { report } => (report.0, None),
        Platform::Tdx { quote, event_log } => {
            if event_log.len() > MAX_EVENTS {
                return Err(wrong(format!("{} events", event_log.len())));
            }
            let events: Vec<serde_json::Value> = event_log.iter().map(Event::to_json).collect();
            let log = serde_json::Value::Array(events).to_string();
            if log.len() > MAX_EVENT_LOG {
                return Err(wrong(format!("an event log of {} bytes", log.len())));
            }
            (quote.0, Some(log))
        }
    };
    evidence(METHOD, document, event_log)
}

impl Event {
    fn to_json(&self) -> serde_json::Value {
        let mut event = serde_json::json!({
            "imr": self.imr,
            "event_type": self.event_type,
            "digest": hex::encode(&self.digest.0),
            "event": self.event,
            "event_payload": hex::encode(&self.event_payload.0),
        });
        if let Some(version) = self.version {
            event["version"] = version.into();
        }
        event
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tacit_attest::Platform;

    use super::*;

    fn packed(value: &serde_json::Value) -> Vec<u8> {
        rmp_serde::to_vec_named(value).unwrap()
    }

    fn snp_report() -> Vec<u8> {
        let mut report = vec![0; 1184];
        report[0] = 3;
        report
    }

    #[test]
    fn both_kinds_are_read_whatever_form_their_bytes_have() {
        let value = json!({
            "version": 1,
            "platform": { "kind": "sev-snp", "data": { "report": snp_report(), "cert_chain": [[1, 2]], "mr_config": "" } },
            "stack": { "kind": "dstack", "data": { "report_data": [1], "runtime_events": [], "config": "{}" } },
        });
        assert_eq!(parse(&packed(&value)).unwrap().platform(), Platform::SevSnp);
        let mut quote = vec![0; 700];
        (quote[0], quote[2], quote[4]) = (4, 2, 0x81);
        let event = json!({ "imr": 3, "event_type": 134_217_729, "event": "app-id", "event_payload": [7] });
        let value = json!({
            "version": 1,
            "platform": { "kind": "tdx", "data": { "quote": quote, "event_log": [event] } },
        });
        let evidence = parse(&packed(&value)).unwrap();
        assert_eq!(evidence.platform(), Platform::Tdx);
        assert!(evidence.event_log().unwrap().contains(r#""event_payload":"07""#));
    }

    #[test]
    fn other_attestations_are_refused() {
        let refuse = |bytes: &[u8]| {
            let error = parse(bytes).unwrap_err();
            assert!(matches!(error, PlatformError::Answer { method: METHOD, .. }), "{error:?}");
        };
        refuse(&[]);
        refuse(&[0; 64]);
        refuse(&[0xdd, 0xff, 0xff, 0xff, 0xff]);
        refuse(&[0x91; 100_000]);
        let whole = |version: u64, kind: &str, report: Vec<u8>| {
            packed(&json!({ "version": version, "platform": { "kind": kind, "data": { "report": report } } }))
        };
        refuse(&whole(2, "sev-snp", snp_report()));
        refuse(&whole(1, "nitro-enclave", snp_report()));
        refuse(&whole(1, "tdx", snp_report()));
        refuse(&whole(1, "sev-snp", vec![9; 1184]));
        let good = whole(1, "sev-snp", snp_report());
        assert!(parse(&good).is_ok());
        for length in (0..good.len()).step_by(37) {
            refuse(&good[..length]);
        }
    }
}
