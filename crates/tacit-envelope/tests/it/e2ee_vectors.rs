//! `vectors/e2ee-v2.json`: every sealed field of whole requests and responses under fixed keys, checked by Rust here and by
//! TypeScript in the SDK's tests. `TACIT_BLESS=1` writes it anew.

use std::convert::Infallible;
use std::path::PathBuf;

use rand::rand_core::{TryCryptoRng, TryRng};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tacit_envelope::e2ee::{
    ClientRequest, E2eeSecretKey, Endpoint, RequestHeaders, ServiceKeys, Suite, open_field, seal_field_with,
};
use tacit_types::UnixTime;

const NOW: UnixTime = UnixTime(1_750_000_000);

/// SHA-256 of a counter, block after block: keys and nonces that anybody can compute.
struct Counted(u64);

impl TryRng for Counted {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for chunk in out.chunks_mut(32) {
            self.0 += 1;
            chunk.copy_from_slice(&Sha256::digest(self.0.to_be_bytes())[..chunk.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for Counted {}

fn fields(suite: Suite) -> Value {
    let secret = |byte| E2eeSecretKey::from_bytes(suite, &[byte; 32]).unwrap();
    let (service, client) = (secret(3), secret(4));
    let nonce = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    let algorithm = suite.algorithm();
    let fields = [
        ("messages.0.content", false, "Hello, World!"),
        ("messages.1.content.0.image_url.url", false, "data:image/png;base64,AA=="),
        ("tools", false, r#"[{"type":"function","function":{"name":"f"}}]"#),
        ("choices.0.message.content", true, "Grüße, 世界 \u{1f600}"),
        ("choices.0.message.tool_calls.0.function.arguments", true, r#"{"a":1}"#),
        ("data.1.embedding", true, "[0.25,-1.5]"),
        ("choices.0.delta.content", true, ""),
    ];
    let listed = (0x10u8..).zip(fields).map(|(byte, (field, response, plaintext))| {
        let associated = if response {
            format!(r#"{{"algo":"{algorithm}","field":"{field}","id":"chatcmpl-123","model":"demo-model","nonce":"{nonce}","purpose":"aci.e2ee.response.v2","ts":1750000000}}"#)
        } else {
            format!(r#"{{"algo":"{algorithm}","field":"{field}","model":"demo-model","nonce":"{nonce}","purpose":"aci.e2ee.request.v2","ts":1750000000}}"#)
        };
        let recipient = if response { &client } else { &service };
        let (ephemeral, aead_nonce) = (secret(byte), [byte; 12]);
        let sealed =
            seal_field_with(&ephemeral, aead_nonce, &recipient.public(), associated.as_bytes(), plaintext.as_bytes()).unwrap();
        assert_eq!(open_field(recipient, associated.as_bytes(), &sealed).unwrap(), plaintext.as_bytes());
        json!({
            "recipient": if response { "client" } else { "service" },
            "field": field,
            "associatedData": associated,
            "ephemeralSecret": hex::encode([byte; 32]),
            "aeadNonce": hex::encode(aead_nonce),
            "plaintext": plaintext,
            "sealed": sealed,
        })
    });
    json!(listed.collect::<Vec<_>>())
}

/// A whole request and its response. The client's key is drawn, so the vector tells what it was.
fn exchange(suite: Suite, tools: bool) -> Value {
    let service = E2eeSecretKey::from_bytes(suite, &[3; 32]).unwrap();
    let body = json!({
        "model": "demo-model",
        "messages": [
            { "role": "system", "content": "Be brief." },
            { "role": "user", "content": [
                { "type": "text", "text": "What is this?" },
                { "type": "image_url", "image_url": { "url": "data:image/png;base64,AA==" } },
            ] },
        ],
        "max_tokens": 16,
        "tools": [{ "type": "function", "function": { "name": "look", "parameters": { "type": "object" } } }],
    });
    let (client, sealed) =
        ClientRequest::seal(&mut Counted(0), &service.public(), Endpoint::Chat, &body, NOW, tools).unwrap();
    // The client's key is the first thing that is drawn.
    let client_secret: [u8; 32] = Sha256::digest(1u64.to_be_bytes()).into();
    assert_eq!(E2eeSecretKey::from_bytes(suite, &client_secret).unwrap().public().to_hex(), sealed.headers[1].1);
    let header = |name: &str| sealed.headers.iter().find(|(own, _)| *own == name).map(|(_, value)| value.as_str());
    let checked = RequestHeaders::parse(header).unwrap().unwrap().check(&ServiceKeys::new(vec![service]), NOW).unwrap();
    let opened = checked.open(Endpoint::Chat, &sealed.body).unwrap();
    assert_eq!((&opened.bytes, &opened.body), (&sealed.restored, &body));
    let arguments =
        json!({ "id": "call_1", "type": "function", "function": { "name": "look", "arguments": "{\"at\":1}" } });
    let clear = json!({
        "id": "chatcmpl-123",
        "choices": [{ "index": 0, "finish_reason": "stop", "message": {
            "role": "assistant", "content": "A pixel.", "tool_calls": [arguments],
        } }],
        "usage": { "prompt_tokens": 9, "completion_tokens": 3 },
    });
    let mut response = clear.clone();
    opened.sealer.seal(&mut Counted(1_000), &mut response).unwrap();
    let mut read = response.clone();
    client.open(&mut read).unwrap();
    assert_eq!(read, clear);
    let mut places = vec!["messages.0.content", "messages.1.content"];
    let mut answers = vec!["choices.0.message.content"];
    if tools {
        places.push("tools");
        answers.push("choices.0.message.tool_calls.0.function.arguments");
    }
    let headers: serde_json::Map<String, Value> =
        sealed.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into())).collect();
    json!({
        "clientSecret": hex::encode(client_secret),
        "headers": headers,
        "request": String::from_utf8(sealed.body).unwrap(),
        "requestPlaces": places,
        "restored": String::from_utf8(sealed.restored).unwrap(),
        "receivedHash": format!("sha256:{}", hex::encode(Sha256::digest(&opened.bytes))),
        "response": response.to_string(),
        "responsePlaces": answers,
        "opened": clear.to_string(),
    })
}

#[test]
fn the_vectors_are_what_the_code_makes() {
    let suites: Vec<Value> = Suite::ALL
        .into_iter()
        .map(|suite| {
            let secret = |byte| E2eeSecretKey::from_bytes(suite, &[byte; 32]).unwrap();
            json!({
                "algorithm": suite.algorithm(),
                "service": { "secret": hex::encode([3; 32]), "public": secret(3).public().to_hex() },
                "client": { "secret": hex::encode([4; 32]), "public": secret(4).public().to_hex() },
                "fields": fields(suite),
                "exchanges": [exchange(suite, false), exchange(suite, true)],
            })
        })
        .collect();
    let mut bytes = serde_json::to_vec_pretty(&json!({ "suites": suites })).unwrap();
    bytes.push(b'\n');
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../vectors/e2ee-v2.json");
    if std::env::var_os("TACIT_BLESS").is_some() {
        std::fs::write(&path, &bytes).unwrap();
    }
    let committed = std::fs::read(&path).unwrap();
    assert!(committed == bytes, "vectors/e2ee-v2.json is not what the code makes; TACIT_BLESS=1 writes it anew");
    let published = "5dfedd3b6bd47f6fa28ee15d969d5bb0ea53774d488bdaf9df1c6e0124b3ef22";
    assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap()["suites"][0]["service"]["public"], published);
}
