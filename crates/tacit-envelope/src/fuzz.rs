//! What fuzzers do with hostile bytes: the parsers of this crate as plain functions that may refuse but never panic.
//!
//! `fuzz/` calls them under libFuzzer, `tacit-verify`'s tests with a seeded mutator.

use std::convert::Infallible;
use std::sync::LazyLock;

use rand_core::{TryCryptoRng, TryRng};

use tacit_types::UnixTime;

use crate::e2ee::{
    CheckedRequest, ClientRequest, E2eeSecretKey, Endpoint, RequestHeaders, SealedRequest, ServiceKeys, Suite,
};
use crate::{
    Framing, Kem, KeyPair, Limits, Request, Response, TransportKey, TransportPublicKey, open_with, parse_key_configs,
};

/// A parser, as a fuzzer calls it.
pub type Body = fn(&[u8]);

/// Each parser by name.
pub const BODIES: [(&str, Body); 8] = [
    ("binary_http_request", binary_http_request),
    ("binary_http_response", binary_http_response),
    ("key_configs", key_configs),
    ("sealed_request", sealed_request),
    ("sealed_chunks", sealed_chunks),
    ("sealed_message", sealed_message),
    ("e2ee_request_json", e2ee_request_json),
    ("e2ee_response_json", e2ee_response_json),
];

/// The same bytes for ever: what is fuzzed here must not depend on luck.
struct Fixed(u8);

impl TryRng for Fixed {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.0 = self.0.wrapping_add(1);
        Ok(u32::from(self.0))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.try_next_u32().map(u64::from)
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for byte in out {
            self.0 = self.0.wrapping_add(1);
            *byte = self.0;
        }
        Ok(())
    }
}

impl TryCryptoRng for Fixed {}

/// A key that everybody knows, for one fuzzer after another to send to.
static KEY: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate(&mut Fixed(7), 1, Kem::XWing));
static TRANSPORT: LazyLock<TransportKey> = LazyLock::new(|| TransportKey::generate(&mut Fixed(9)));

/// Messages that these functions accept, for a fuzzer to begin with: by the name of the function.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let request = Request::post("function", "/0x00/handle").header("tacit-nonce", "1").body(vec![7; 40]);
    let response =
        Response::new(200).header("content-type", "text/plain").body(vec![8; 40]).trailer("tacit-bundle", "e30");
    let mut seeds = vec![("key_configs", crate::encode_key_configs(&[KEY.config()]))];
    for framing in [Framing::KnownLength, Framing::Indeterminate] {
        seeds.extend(request.encode_framed(framing).map(|bytes| ("binary_http_request", bytes)));
        seeds.extend(response.encode_framed(framing).map(|bytes| ("binary_http_response", bytes)));
    }
    let plaintext = request.encode().unwrap_or_default();
    if let Ok((sealed, _)) = crate::seal_request(&mut Fixed(1), &KEY.config(), &plaintext) {
        seeds.push(("sealed_request", sealed));
    }
    if let Ok((start, mut sealer)) = crate::seal_chunked_request(&mut Fixed(1), &KEY.config()) {
        let chunk = sealer.seal(&plaintext).unwrap_or_default();
        let last = sealer.finish(b"end").map(|(last, _)| last).unwrap_or_default();
        seeds.push(("sealed_chunks", [start, chunk, last].concat()));
    }
    seeds.extend(
        crate::seal_to(&mut Fixed(1), &TRANSPORT.public(), b"info", b"aad", b"message")
            .map(|sealed| ("sealed_message", sealed)),
    );
    seeds.push(("e2ee_request_json", EXCHANGE.1.body.clone()));
    if let Some(response) = e2ee_response() {
        seeds.push(("e2ee_response_json", response));
    }
    seeds
}

/// When the request of [`EXCHANGE`] is made.
const NOW: UnixTime = UnixTime(1_790_000_000);

/// A request whose keys everybody knows: what the client keeps of it, and what it sends.
static EXCHANGE: LazyLock<(ClientRequest, SealedRequest)> = LazyLock::new(|| {
    let body = serde_json::json!({
        "model": "m",
        "messages": [{ "role": "user", "content": "x" }, { "role": "user", "content": [{ "type": "text", "text": "y" }] }],
        "tools": [{ "type": "function", "function": { "name": "f" } }],
    });
    ClientRequest::seal(&mut Fixed(1), &e2ee_key().public(), Endpoint::Chat, &body, NOW, true)
        .expect("a chat can be sealed")
});

fn e2ee_key() -> E2eeSecretKey {
    E2eeSecretKey::generate(&mut Fixed(11), Suite::X25519)
}

/// What opens the request of [`EXCHANGE`], and whatever a fuzzer makes of it.
fn e2ee_request() -> Option<CheckedRequest> {
    let header = |name: &str| EXCHANGE.1.headers.iter().find(|(own, _)| *own == name).map(|(_, value)| value.as_str());
    RequestHeaders::parse(header).ok()??.check(&ServiceKeys::new(vec![e2ee_key()]), NOW).ok()
}

fn e2ee_response() -> Option<Vec<u8>> {
    let opened = e2ee_request()?.open(Endpoint::Chat, &EXCHANGE.1.body).ok()?;
    let call = serde_json::json!({ "index": 0, "function": { "name": "f", "arguments": "{}" } });
    let mut body = serde_json::json!({
        "id": "c",
        "choices": [{ "index": 0, "message": { "content": "x", "tool_calls": [call] }, "delta": { "content": "y" }, "text": "z" }],
        "data": [{ "index": 0, "embedding": [0.5] }],
    });
    opened.sealer.seal(&mut Fixed(3), &mut body).ok()?;
    Some(body.to_string().into_bytes())
}

/// The body of a request of E2EE v2.
pub fn e2ee_request_json(bytes: &[u8]) {
    for endpoint in [Endpoint::Chat, Endpoint::Completions, Endpoint::Embeddings] {
        let Some(request) = e2ee_request() else { unreachable!("its headers hold") };
        if let Ok(opened) = request.open(endpoint, bytes) {
            assert!(opened.body.is_object(), "what opens is an object");
        }
    }
}

/// The body of a response of E2EE v2, sealed or to be sealed.
pub fn e2ee_response_json(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(bytes) else { return };
    let _ = EXCHANGE.0.open(&mut value.clone());
    let opened = e2ee_request().and_then(|request| request.open(Endpoint::Chat, &EXCHANGE.1.body).ok());
    let sealer = opened.expect("it was sealed here").sealer;
    let mut sealed = value;
    if let Ok(count) = sealer.seal(&mut Fixed(5), &mut sealed) {
        assert_eq!(EXCHANGE.0.open(&mut sealed), Ok(count), "what is sealed here opens");
    }
}

/// A binary HTTP request.
pub fn binary_http_request(bytes: &[u8]) {
    if let Ok(request) = Request::decode(bytes, &Limits::default()) {
        let again = request.encode().expect("what was decoded is allowed in HTTP");
        assert_eq!(Request::decode(&again, &Limits::default()).expect("it was encoded here"), request);
    }
}

/// A binary HTTP response.
pub fn binary_http_response(bytes: &[u8]) {
    if let Ok(response) = Response::decode(bytes, &Limits::default()) {
        let again = response.encode().expect("what was decoded is allowed in HTTP");
        assert_eq!(Response::decode(&again, &Limits::default()).expect("it was encoded here"), response);
    }
}

/// A list of key configurations.
pub fn key_configs(bytes: &[u8]) {
    let _ = parse_key_configs(bytes);
    let _ = TransportPublicKey::parse(bytes);
}

/// A sealed request.
pub fn sealed_request(bytes: &[u8]) {
    let _ = KEY.open_request(bytes);
}

/// A sealed request in chunks, in pieces of two sizes.
pub fn sealed_chunks(bytes: &[u8]) {
    let Some((start, rest)) = bytes.split_at_checked(KEY.chunked_start_length()) else { return };
    for size in [7, 4096] {
        let Ok(mut opener) = KEY.open_chunked_request(start) else { return };
        if rest.chunks(size).all(|piece| opener.push(piece).is_ok()) {
            let _ = opener.finish(&mut Fixed(3));
        }
    }
}

/// A sealed message.
pub fn sealed_message(bytes: &[u8]) {
    let _ = open_with(&TRANSPORT, b"info", b"aad", bytes);
}
