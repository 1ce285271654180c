use proptest::prelude::*;
use tacit_envelope::{EnvelopeError, Fields, Framing, Limits, Request, Response};

fn fields() -> impl Strategy<Value = Fields> {
    let field = ("[a-z0-9-]{1,12}", "[!-~]([ -~]{0,20}[!-~])?");
    proptest::collection::vec(field, 0..6).prop_map(|list| {
        let mut fields = Fields::new();
        for (name, value) in list {
            fields.push(name, value.into_bytes());
        }
        fields
    })
}

fn framing() -> impl Strategy<Value = Framing> {
    prop_oneof![Just(Framing::KnownLength), Just(Framing::Indeterminate)]
}

proptest! {
    #[test]
    fn requests_return(
        method in "[A-Z]{1,8}", path in "/[!-~]{0,30}", headers in fields(), trailers in fields(),
        body in proptest::collection::vec(any::<u8>(), 0..300), framing in framing(), padding in 0usize..4,
    ) {
        let request = Request { method, headers, trailers, body, ..Request::post("function", path) };
        let mut bytes = request.encode_framed(framing).unwrap();
        bytes.resize(bytes.len() + padding, 0);
        prop_assert_eq!(Request::decode(&bytes, &Limits::default()).unwrap(), request);
    }

    #[test]
    fn responses_return(
        status in 200u16..600, headers in fields(), trailers in fields(),
        body in proptest::collection::vec(any::<u8>(), 0..300), framing in framing(),
    ) {
        let response = Response { status, headers, body, trailers };
        let bytes = response.encode_framed(framing).unwrap();
        prop_assert_eq!(Response::decode(&bytes, &Limits::default()).unwrap(), response);
    }

    #[test]
    fn hostile_bytes_never_panic(kind in 0u8..4, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let bytes = [vec![kind], bytes].concat();
        let _ = Request::decode(&bytes, &Limits::default());
        let _ = Response::decode(&bytes, &Limits::default());
    }

    #[test]
    fn altered_messages_never_panic(position in 0usize..200, value: u8, framing in framing()) {
        let request = Request::post("function", "/a").header("idempotency-key", "k").body(b"{\"a\":1}".to_vec());
        let mut bytes = request.encode_framed(framing).unwrap();
        let position = position % bytes.len();
        bytes[position] = value;
        let _ = Request::decode(&bytes, &Limits::default());
    }
}

#[test]
fn every_truncation_is_named() {
    let mut response = Response::new(200).header("content-type", "application/json").body(b"{}".to_vec());
    response.trailers.push("tacit-bundle", "AAAA");
    for framing in [Framing::KnownLength, Framing::Indeterminate] {
        let bytes = response.encode_framed(framing).unwrap();
        let mut read = 0;
        for end in 0..bytes.len() {
            match Response::decode(&bytes[..end], &Limits::default()) {
                Err(EnvelopeError::Truncated(_)) => {}
                // The format lets empty body and trailers be cut off.
                Ok(shorter) => {
                    assert!(shorter.trailers.is_empty());
                    read += 1;
                }
                Err(other) => panic!("{end}: {other}"),
            }
        }
        assert!(read <= 3, "{read} prefixes were read");
    }
}

#[test]
fn limits_hold() {
    let check = |limits: Limits, what| {
        let response = Response::new(200).header("a", "b").header("c", "d").body(vec![7; 100]).trailer("e", "f");
        for framing in [Framing::KnownLength, Framing::Indeterminate] {
            let bytes = response.encode_framed(framing).unwrap();
            match Response::decode(&bytes, &limits) {
                Err(EnvelopeError::TooLarge { what: found, .. }) => {
                    assert!(found == what || found.starts_with("field"), "{found} instead of {what}");
                }
                other => panic!("{other:?} instead of {what}"),
            }
        }
    };
    check(Limits { body: 99, ..Limits::default() }, "body");
    check(Limits { headers: 3, ..Limits::default() }, "field section");
    check(Limits { trailers: 1, ..Limits::default() }, "field section");
    check(Limits { fields: 1, ..Limits::default() }, "number of fields");
}

#[test]
fn padding_must_be_zero() {
    let mut bytes = Request::post("function", "/a").body(b"x".to_vec()).encode().unwrap();
    bytes.extend_from_slice(&[0, 0, 1]);
    assert_eq!(Request::decode(&bytes, &Limits::default()), Err(EnvelopeError::Malformed("padding")));
}
