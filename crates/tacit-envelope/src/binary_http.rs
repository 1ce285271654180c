//! Binary representation of HTTP messages (RFC 9292), both framings, bounded.

use crate::fields::is_token;
use crate::varint::{Reader, push, push_bytes};
use crate::{EnvelopeError, Fields};

/// How the parts of an encoded message are delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Every part has its length in front.
    KnownLength,
    /// Every part ends with a terminator.
    Indeterminate,
}

/// What a decoder accepts at most, in bytes and items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of each of method, scheme, authority and path.
    pub control: usize,
    /// Bytes of the header section.
    pub headers: usize,
    /// Bytes of the trailer section, which carries a receipt bundle.
    pub trailers: usize,
    /// Fields of one section.
    pub fields: usize,
    /// Bytes of the body.
    pub body: usize,
    /// Informational responses before the final one.
    pub informational: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            control: 8 * 1024,
            headers: 64 * 1024,
            trailers: 32 * 1024 * 1024,
            fields: 128,
            body: 16 * 1024 * 1024,
            informational: 8,
        }
    }
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The method, a token.
    pub method: String,
    /// The scheme, such as `https`.
    pub scheme: String,
    /// The authority; may be empty.
    pub authority: String,
    /// Path and query.
    pub path: String,
    /// Header fields.
    pub headers: Fields,
    /// Content.
    pub body: Vec<u8>,
    /// Trailer fields.
    pub trailers: Fields,
}

/// A final response; informational ones before it are checked and dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Status code, 200 to 599.
    pub status: u16,
    /// Header fields.
    pub headers: Fields,
    /// Content.
    pub body: Vec<u8>,
    /// Trailer fields.
    pub trailers: Fields,
}

impl Request {
    /// A POST over `https` without fields and body.
    pub fn post(authority: impl Into<String>, path: impl Into<String>) -> Self {
        Self {
            method: "POST".to_owned(),
            scheme: "https".to_owned(),
            authority: authority.into(),
            path: path.into(),
            headers: Fields::new(),
            body: Vec::new(),
            trailers: Fields::new(),
        }
    }

    /// The same request with one more header field.
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push(name, value);
        self
    }

    /// The same request with that body.
    pub fn body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }

    /// Encodes with known lengths.
    ///
    /// # Errors
    /// [`EnvelopeError::Malformed`] if a part is not allowed in HTTP.
    pub fn encode(&self) -> Result<Vec<u8>, EnvelopeError> {
        self.encode_framed(Framing::KnownLength)
    }

    /// Encodes in the given framing.
    ///
    /// # Errors
    /// [`EnvelopeError::Malformed`] if a part is not allowed in HTTP.
    pub fn encode_framed(&self, framing: Framing) -> Result<Vec<u8>, EnvelopeError> {
        self.check()?;
        let mut out = Vec::with_capacity(self.body.len() + 512);
        push(&mut out, if framing == Framing::KnownLength { 0 } else { 2 });
        for part in [&self.method, &self.scheme, &self.authority, &self.path] {
            push_bytes(&mut out, part.as_bytes());
        }
        encode_rest(&mut out, framing, &self.headers, &self.body, &self.trailers)?;
        Ok(out)
    }

    /// Decodes either framing; zero padding may follow.
    ///
    /// # Errors
    /// [`EnvelopeError::Truncated`], [`EnvelopeError::TooLarge`] or [`EnvelopeError::Malformed`].
    pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Self, EnvelopeError> {
        let mut reader = Reader::new(bytes);
        let framing = match reader.varint("framing indicator")? {
            0 => Framing::KnownLength,
            2 => Framing::Indeterminate,
            _ => return Err(EnvelopeError::Malformed("not a request")),
        };
        let mut control = |what| -> Result<String, EnvelopeError> {
            let bytes = reader.bytes(limits.control, what)?;
            String::from_utf8(bytes.to_vec()).map_err(|_| EnvelopeError::Malformed(what))
        };
        let (method, scheme) = (control("method")?, control("scheme")?);
        let (authority, path) = (control("authority")?, control("path")?);
        let (headers, body, trailers) = decode_rest(&mut reader, framing, limits)?;
        let request = Self { method, scheme, authority, path, headers, body, trailers };
        request.check()?;
        Ok(request)
    }

    fn check(&self) -> Result<(), EnvelopeError> {
        if self.method.is_empty() || !self.method.bytes().all(is_token) {
            return Err(EnvelopeError::Malformed("method"));
        }
        let scheme_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if !self.scheme.bytes().all(scheme_byte) {
            return Err(EnvelopeError::Malformed("scheme"));
        }
        let visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if !visible(&self.authority) {
            return Err(EnvelopeError::Malformed("authority"));
        }
        if !visible(&self.path) {
            return Err(EnvelopeError::Malformed("path"));
        }
        Ok(())
    }
}

impl Response {
    /// A response without fields and body.
    pub fn new(status: u16) -> Self {
        Self { status, headers: Fields::new(), body: Vec::new(), trailers: Fields::new() }
    }

    /// The same response with one more header field.
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push(name, value);
        self
    }

    /// The same response with that body.
    pub fn body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }

    /// The same response with one more trailer field.
    pub fn trailer(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.trailers.push(name, value);
        self
    }

    /// Encodes with known lengths.
    ///
    /// # Errors
    /// [`EnvelopeError::Malformed`] if a part is not allowed in HTTP.
    pub fn encode(&self) -> Result<Vec<u8>, EnvelopeError> {
        self.encode_framed(Framing::KnownLength)
    }

    /// Encodes in the given framing.
    ///
    /// # Errors
    /// [`EnvelopeError::Malformed`] if a part is not allowed in HTTP.
    pub fn encode_framed(&self, framing: Framing) -> Result<Vec<u8>, EnvelopeError> {
        if !(200..=599).contains(&self.status) {
            return Err(EnvelopeError::Malformed("status"));
        }
        let mut out = Vec::with_capacity(self.body.len() + 512);
        push(&mut out, if framing == Framing::KnownLength { 1 } else { 3 });
        push(&mut out, u64::from(self.status));
        encode_rest(&mut out, framing, &self.headers, &self.body, &self.trailers)?;
        Ok(out)
    }

    /// Decodes either framing; zero padding may follow.
    ///
    /// # Errors
    /// [`EnvelopeError::Truncated`], [`EnvelopeError::TooLarge`] or [`EnvelopeError::Malformed`].
    pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Self, EnvelopeError> {
        let mut reader = Reader::new(bytes);
        let framing = match reader.varint("framing indicator")? {
            1 => Framing::KnownLength,
            3 => Framing::Indeterminate,
            _ => return Err(EnvelopeError::Malformed("not a response")),
        };
        for _ in 0..=limits.informational {
            let status = reader.varint("status")?;
            match status {
                100..=199 => {
                    decode_fields(&mut reader, framing, limits.headers, limits.fields)?;
                }
                200..=599 => {
                    let (headers, body, trailers) = decode_rest(&mut reader, framing, limits)?;
                    return Ok(Self { status: status as u16, headers, body, trailers });
                }
                _ => return Err(EnvelopeError::Malformed("status")),
            }
        }
        Err(EnvelopeError::TooLarge { what: "number of informational responses", limit: limits.informational })
    }
}

fn encode_rest(
    out: &mut Vec<u8>,
    framing: Framing,
    headers: &Fields,
    body: &[u8],
    trailers: &Fields,
) -> Result<(), EnvelopeError> {
    match framing {
        Framing::KnownLength => {
            headers.encode_known(out)?;
            push_bytes(out, body);
            trailers.encode_known(out)
        }
        Framing::Indeterminate => {
            headers.encode_indeterminate(out)?;
            if !body.is_empty() {
                push_bytes(out, body);
            }
            push(out, 0);
            trailers.encode_indeterminate(out)
        }
    }
}

fn decode_fields(
    reader: &mut Reader<'_>,
    framing: Framing,
    bytes: usize,
    count: usize,
) -> Result<Fields, EnvelopeError> {
    match framing {
        Framing::KnownLength => Fields::decode_known(reader, bytes, count),
        Framing::Indeterminate => Fields::decode_indeterminate(reader, bytes, count),
    }
}

/// Headers, body, trailers and padding. RFC 9292, section 3.8 lets empty body and trailers be cut off; the example of
/// RFC 9458 cuts empty headers off too, so that is read as well.
fn decode_rest(
    reader: &mut Reader<'_>,
    framing: Framing,
    limits: &Limits,
) -> Result<(Fields, Vec<u8>, Fields), EnvelopeError> {
    let headers =
        if reader.is_empty() { Fields::new() } else { decode_fields(reader, framing, limits.headers, limits.fields)? };
    let mut body = Vec::new();
    if !reader.is_empty() {
        match framing {
            Framing::KnownLength => body.extend_from_slice(reader.bytes(limits.body, "body")?),
            Framing::Indeterminate => loop {
                let chunk = reader.bytes(limits.body - body.len(), "body")?;
                if chunk.is_empty() {
                    break;
                }
                body.extend_from_slice(chunk);
            },
        }
    }
    let trailers =
        if reader.is_empty() { Fields::new() } else { decode_fields(reader, framing, limits.trailers, limits.fields)? };
    if reader.rest().iter().any(|byte| *byte != 0) {
        return Err(EnvelopeError::Malformed("padding"));
    }
    Ok((headers, body, trailers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_of_rfc_9458() {
        let bytes = hex::decode("00034745540568747470730b6578616d706c652e636f6d012f").unwrap();
        let request = Request::decode(&bytes, &Limits::default()).unwrap();
        assert_eq!((request.method.as_str(), request.authority.as_str()), ("GET", "example.com"));
    }

    #[test]
    fn informational_responses_are_skipped_and_bounded() {
        let one = [0x40, 102, 0];
        let mut bytes = vec![1];
        bytes.extend_from_slice(&one);
        bytes.extend_from_slice(&[0x40, 200, 0, 2, b'o', b'k']);
        let response = Response::decode(&bytes, &Limits::default()).unwrap();
        assert_eq!(response, Response::new(200).body(b"ok".to_vec()));
        let many = [vec![1], one.repeat(20)].concat();
        assert!(matches!(Response::decode(&many, &Limits::default()), Err(EnvelopeError::TooLarge { .. })));
    }

    #[test]
    fn refuses_what_http_forbids() {
        let check = |request: Request, what| {
            assert_eq!(request.encode(), Err(EnvelopeError::Malformed(what)));
        };
        let plain = || Request::post("function", "/a");
        check(Request { method: "PO ST".into(), ..plain() }, "method");
        check(Request { path: "/a b".into(), ..plain() }, "path");
        check(Request { authority: "a\r\n".into(), ..plain() }, "authority");
        check(plain().header("Upper", "x"), "field name");
        check(plain().header(":path", "x"), "field name");
        check(plain().header("x", "a\r\nb: c"), "field value");
        check(plain().header("x", " a"), "field value");
        assert_eq!(Response::new(199).encode(), Err(EnvelopeError::Malformed("status")));
    }
}
