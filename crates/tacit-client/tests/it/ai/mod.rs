//! Exchanges with nodes of confidential AI over real TLS: one whose service is the worker's own, and one that lies when told to.

mod echo;
mod exchanges;
mod flaws;
mod node;
mod proxying;
mod stand_in;

use std::{path::Path, time::SystemTime};

use serde_json::{Value, json};
use tacit_client::ai::{AiClient, AiRequest, AiSettings, Keep, TranscriptStore};
use tacit_types::UnixTime;
use tacit_verify::Judge;
use zeroize::Zeroizing;

pub fn now() -> UnixTime {
    UnixTime(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
}

pub const KEY: &str = "sk-test";

pub fn settings(url: reqwest::Url, judge: Judge, store: &Path) -> AiSettings {
    let store = TranscriptStore::new(store.to_owned(), Keep::Full);
    AiSettings::new(url, judge, Zeroizing::new(KEY.into())).storing(store)
}

pub fn client(url: reqwest::Url, judge: Judge, store: &Path) -> AiClient {
    AiClient::new(settings(url, judge, store)).unwrap()
}

pub fn chat(text: &str, more: Value) -> AiRequest {
    let mut body = json!({ "model": "echo", "messages": [{ "role": "user", "content": text }] });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    AiRequest::post("/v1/chat/completions", body.to_string())
}
