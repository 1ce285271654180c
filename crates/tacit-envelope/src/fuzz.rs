//! What fuzzers do with hostile bytes: the parsers of this crate as plain functions that may refuse but never panic.
//!
//! `fuzz/` calls them under libFuzzer, `tacit-verify`'s tests with a seeded mutator.

use std::convert::Infallible;
use std::sync::LazyLock;

use rand_core::{TryCryptoRng, TryRng};

use crate::{
    Framing, Kem, KeyPair, Limits, Request, Response, TransportKey, TransportPublicKey, open_with, parse_key_configs,
};

/// Each parser by name.
pub const BODIES: [(&str, fn(&[u8])); 6] = [
    ("binary_http_request", binary_http_request),
    ("binary_http_response", binary_http_response),
    ("key_configs", key_configs),
    ("sealed_request", sealed_request),
    ("sealed_chunks", sealed_chunks),
    ("sealed_message", sealed_message),
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
    let request =
        Request::new("POST", "https", "function", "/0x00/handle").header("tacit-nonce", "1").body(vec![7; 40]);
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
    seeds
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
