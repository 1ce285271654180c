//! What a file says once it holds, for people and for programs.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::{Value, json};
use tacit_attest::VerifiedEvidence;
use tacit_attest::nvidia::{VerifiedGpus, Voucher};
use tacit_receipt::aci::AciReceipt;
use tacit_types::{Digest, eip712::Certificate};

use crate::aci::{Transcript, VerifiedService};

/// What was looked at: its kind, and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The kind of file, for people.
    pub kind: &'static str,
    /// What it says, in order.
    pub facts: Vec<Fact>,
}

/// One thing that a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// Its name, in JSON and on the screen.
    pub name: &'static str,
    /// Text, a number, a flag, or a list or an object of texts.
    pub value: Value,
}

impl Serialize for Subject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.facts.len() + 1))?;
        map.serialize_entry("kind", self.kind)?;
        for fact in &self.facts {
            map.serialize_entry(fact.name, &fact.value)?;
        }
        map.end()
    }
}

impl Subject {
    pub(super) fn new(kind: &'static str) -> Self {
        Self { kind, facts: Vec::new() }
    }

    fn say(&mut self, name: &'static str, value: impl Into<Value>) {
        self.facts.push(Fact { name, value: value.into() });
    }

    pub(super) fn of_certificate(kind: &'static str, certificate: &Certificate) -> Self {
        let mut subject = Self::new(kind);
        subject.say("worker", certificate.worker.to_string());
        subject.say("operator", certificate.operator.to_string());
        subject.say("platform", certificate.platform.name());
        subject.say("measurement", certificate.measurement.to_string());
        subject.say("chip", certificate.chip.to_string());
        subject.say("confidence", certificate.confidence);
        subject.say("simulated", certificate.simulated);
        subject.say("notBefore", certificate.not_before.to_string());
        subject.say("notAfter", certificate.not_after.to_string());
        subject
    }

    pub(super) fn of_gpus(kind: &'static str, verified: &VerifiedGpus, nonce: [u8; 32], asked: bool) -> Self {
        let mut subject = Self::new(kind);
        subject.say("architecture", verified.architecture().to_string());
        subject.say("simulated", verified.simulated());
        let gpus = verified.gpus().map(|gpu| {
            let report = gpu.report();
            let text = format!("{} driver {} vbios {}", gpu.id(), report.driver(), report.vbios());
            json!({ "name": gpu.model(), "payload": text })
        });
        subject.say("gpus", gpus.collect::<Vec<Value>>());
        let voucher = match verified.voucher() {
            None => "nobody: what runs on them is not judged by this policy",
            Some(Voucher::Manifest) => "the vendor's reference manifests",
            Some(Voucher::Token) => "an attestation service's token",
        };
        subject.say("vouchedBy", voucher);
        subject.say("nonce", hex::encode(nonce));
        subject.say("nonceIsYours", asked);
        subject.say("expires", verified.expires().to_string());
        subject
    }

    pub(crate) fn of_exchange(
        kind: &'static str,
        service: &VerifiedService,
        receipt: &AciReceipt,
        transcript: &Transcript,
    ) -> Self {
        let mut subject = Self::new(kind);
        let evidence = service.evidence();
        subject.say("service", service.keyset().subject.clone());
        subject.say("platform", evidence.platform().name());
        subject.say("measurement", evidence.measurement().to_string());
        subject.say("simulated", evidence.simulated());
        subject.say("receipt", receipt.id());
        subject.say("endpoint", receipt.endpoint());
        subject.say("servedAt", receipt.served_at().to_string());
        subject.say("model", receipt.model());
        if let Some(inference) = receipt.inference() {
            subject.say("modelDigest", inference.model_digest.to_string());
            subject.say("promptTokens", inference.usage.prompt_tokens);
            subject.say("cachedTokens", inference.usage.cached_tokens);
            subject.say("completionTokens", inference.usage.completion_tokens);
            let price = inference.price.as_ref().map(|price| format!("{} {}", price.amount, price.currency));
            subject.say("price", price.unwrap_or_else(|| "none".to_owned()));
        }
        subject.say("rewritten", receipt.forwarded().is_some_and(|forwarded| forwarded != receipt.received()));
        if let Some(log) = &transcript.log {
            subject.say("logIndex", log.proof.index);
        }
        if transcript.channel.is_none() {
            subject.say("notChecked", vec!["id-6: the transcript names no connection"]);
        }
        subject
    }

    pub(super) fn of_evidence(kind: &'static str, verified: &VerifiedEvidence, nonce: Option<bool>) -> Self {
        let mut subject = Self::new(kind);
        subject.say("platform", verified.platform().name());
        subject.say("hardware", verified.hardware_class().to_string());
        subject.say("simulated", verified.simulated());
        subject.say("measurement", verified.measurement().to_string());
        let registers = verified.registers().iter().map(|(name, bytes)| ((*name).to_owned(), hex::encode(bytes)));
        // In the order of their names: an object keeps another order in some builds of the JSON library, and reports must not differ.
        let registers: BTreeMap<String, String> = registers.collect();
        subject.say("registers", json!(registers));
        subject.say("chip", if verified.names_chip() { json!(verified.chip().to_string()) } else { Value::Null });
        subject.say("tcbStatus", verified.tcb_status().to_string());
        subject.say("tcb", verified.tcb());
        subject.say("advisories", verified.advisories().to_vec());
        subject.say("confidence", verified.confidence().level());
        if let Some(provider) = verified.provider() {
            subject.say("provider", provider);
        }
        if let Some(number) = verified.evaluation_number() {
            subject.say("evaluationNumber", number);
        }
        let events =
            verified.events().iter().map(|event| json!({ "name": event.name, "payload": hex::encode(&event.payload) }));
        let events: Vec<Value> = events.collect();
        if !events.is_empty() {
            subject.say("events", events);
        }
        subject.say("reportData", hex::encode(verified.report_data()));
        if let Some(nonce) = nonce {
            subject.say("holdsNonce", nonce);
        }
        subject.say("collateralTime", verified.collateral_time().to_string());
        subject.say("collateralExpires", verified.collateral_expires().to_string());
        subject
    }
}

/// Whether the evidence holds the nonce as it is: a Nitro document in its own field, others in either half of the report data.
pub(super) fn names_nonce(verified: &VerifiedEvidence, nonce: Digest) -> bool {
    verified.nonce() == Some(nonce.as_ref()) || verified.report_data().chunks(32).any(|half| half == nonce.as_ref())
}

impl std::fmt::Display for Subject {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(formatter, "{:<16} {}", "file", self.kind)?;
        for Fact { name, value } in &self.facts {
            let label = label(name);
            match value {
                Value::Object(members) => {
                    for (member, value) in members {
                        writeln!(formatter, "  {member:<14} {}", value.as_str().unwrap_or_default())?;
                    }
                }
                Value::Array(items) if items.is_empty() => writeln!(formatter, "{label:<16} none")?,
                Value::Array(items) => {
                    let text = |item: &Value| match item {
                        Value::String(text) => text.clone(),
                        other => format!(
                            "{} {}",
                            other["name"].as_str().unwrap_or_default(),
                            other["payload"].as_str().unwrap_or_default()
                        ),
                    };
                    for (index, item) in items.iter().enumerate() {
                        writeln!(formatter, "{:<16} {}", if index == 0 { label.as_str() } else { "" }, text(item))?;
                    }
                }
                Value::String(text) => writeln!(formatter, "{label:<16} {text}")?,
                Value::Null => writeln!(formatter, "{label:<16} not named")?,
                Value::Bool(flag) => writeln!(formatter, "{label:<16} {}", if *flag { "yes" } else { "no" })?,
                other @ Value::Number(_) => writeln!(formatter, "{label:<16} {other}")?,
            }
        }
        Ok(())
    }
}

/// `tcbStatus` becomes `tcb status`.
fn label(name: &str) -> String {
    let mut label = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            label.push(' ');
        }
        label.push(letter.to_ascii_lowercase());
    }
    label
}
