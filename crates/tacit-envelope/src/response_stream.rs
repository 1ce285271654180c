//! A response in binary HTTP that is written and read while its body is still being made (RFC 9292, indeterminate length).

use crate::varint::{Reader, push, push_bytes};
use crate::{EnvelopeError, Fields, Limits};

/// Framing indicator of a response of indeterminate length.
const INDETERMINATE_RESPONSE: u64 = 3;

/// The beginning of a response: status and header fields; what follows are pieces of its body.
///
/// # Errors
/// [`EnvelopeError::Malformed`] if a part is not allowed in HTTP.
pub fn response_start(status: u16, headers: &Fields) -> Result<Vec<u8>, EnvelopeError> {
    if !(200..=599).contains(&status) {
        return Err(EnvelopeError::Malformed("status"));
    }
    let mut out = Vec::with_capacity(256);
    push(&mut out, INDETERMINATE_RESPONSE);
    push(&mut out, u64::from(status));
    headers.encode_indeterminate(&mut out)?;
    Ok(out)
}

/// A piece of a response's body; nothing for no bytes.
pub fn response_piece(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 8);
    if !bytes.is_empty() {
        push_bytes(&mut out, bytes);
    }
    out
}

/// The end of a response, with its trailer fields.
///
/// # Errors
/// [`EnvelopeError::Malformed`] if a field is not allowed in HTTP.
pub fn response_end(trailers: &Fields) -> Result<Vec<u8>, EnvelopeError> {
    let mut out = Vec::new();
    push(&mut out, 0);
    trailers.encode_indeterminate(&mut out)?;
    Ok(out)
}

/// Something that a [`ResponseReader`] has read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResponsePart {
    /// Status and header fields: comes first, once.
    Start {
        /// The status.
        status: u16,
        /// The header fields.
        headers: Fields,
    },
    /// A piece of the body.
    Body(Vec<u8>),
    /// Trailer fields: comes last, once.
    End(Fields),
}

/// Reads such a response as its bytes arrive. It holds no more than the limits allow for its fields, and one piece of its body.
pub struct ResponseReader {
    limits: Limits,
    buffer: Vec<u8>,
    body: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    Body,
    Trailers,
    Over,
}

impl ResponseReader {
    /// A reader with these bounds; `limits.body` is for the whole body.
    pub fn new(limits: Limits) -> Self {
        Self { limits, buffer: Vec::new(), body: 0, state: State::Start }
    }

    /// Takes bytes, and gives the parts that they complete.
    ///
    /// # Errors
    /// [`EnvelopeError::Malformed`], [`EnvelopeError::TooLarge`], [`EnvelopeError::StreamOver`] for bytes after the end.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<ResponsePart>, EnvelopeError> {
        self.buffer.extend_from_slice(bytes);
        let mut parts = Vec::new();
        while let Some(part) = self.part()? {
            parts.push(part);
        }
        Ok(parts)
    }

    /// Ends the response.
    ///
    /// # Errors
    /// [`EnvelopeError::Truncated`] if it is not complete.
    pub fn finish(self) -> Result<(), EnvelopeError> {
        if self.state == State::Over { Ok(()) } else { Err(EnvelopeError::Truncated("response")) }
    }

    fn part(&mut self) -> Result<Option<ResponsePart>, EnvelopeError> {
        let mut reader = Reader::new(&self.buffer);
        let read = match self.state {
            State::Start => start(&mut reader, &self.limits),
            State::Body => piece(&mut reader, self.limits.body - self.body),
            State::Trailers => Fields::decode_indeterminate(&mut reader, self.limits.trailers, self.limits.fields)
                .map(ResponsePart::End),
            State::Over => {
                let padding = self.buffer.iter().all(|byte| *byte == 0);
                self.buffer.clear();
                return if padding { Ok(None) } else { Err(EnvelopeError::StreamOver) };
            }
        };
        let part = match read {
            Ok(part) => part,
            Err(EnvelopeError::Truncated(_)) if self.buffer.len() <= self.most() => return Ok(None),
            Err(EnvelopeError::Truncated(what)) => return Err(EnvelopeError::TooLarge { what, limit: self.most() }),
            Err(error) => return Err(error),
        };
        let used = self.buffer.len() - reader.rest().len();
        self.buffer.drain(..used);
        self.state = match &part {
            ResponsePart::Start { .. } => State::Body,
            ResponsePart::Body(bytes) if bytes.is_empty() => {
                self.state = State::Trailers;
                return self.part();
            }
            ResponsePart::Body(bytes) => {
                self.body += bytes.len();
                State::Body
            }
            ResponsePart::End(_) => State::Over,
        };
        Ok(Some(part))
    }

    /// How many bytes one unfinished part may take.
    fn most(&self) -> usize {
        // Framing, status and the lengths of fields come on top of the fields themselves.
        const FRAMING: usize = 64;
        match self.state {
            State::Start => self.limits.headers + FRAMING,
            State::Body => self.limits.body - self.body + FRAMING,
            State::Trailers | State::Over => self.limits.trailers + FRAMING,
        }
    }
}

fn start(reader: &mut Reader<'_>, limits: &Limits) -> Result<ResponsePart, EnvelopeError> {
    if reader.varint("framing indicator")? != INDETERMINATE_RESPONSE {
        return Err(EnvelopeError::Malformed("not a response of indeterminate length"));
    }
    let status = reader.varint("status")?;
    let status = u16::try_from(status).ok().filter(|status| (200..=599).contains(status));
    let status = status.ok_or(EnvelopeError::Malformed("status"))?;
    let headers = Fields::decode_indeterminate(reader, limits.headers, limits.fields)?;
    Ok(ResponsePart::Start { status, headers })
}

fn piece(reader: &mut Reader<'_>, limit: usize) -> Result<ResponsePart, EnvelopeError> {
    Ok(ResponsePart::Body(reader.bytes(limit, "body")?.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Response;

    fn limits() -> Limits {
        Limits { control: 64, headers: 256, trailers: 64, fields: 8, body: 1_000, informational: 0 }
    }

    fn message(pieces: &[&[u8]]) -> Vec<u8> {
        let mut headers = Fields::new();
        headers.push("content-type", "text/event-stream");
        let mut out = response_start(200, &headers).unwrap();
        for piece in pieces {
            out.extend(response_piece(piece));
        }
        let mut trailers = Fields::new();
        trailers.push("proof", "x");
        out.extend(response_end(&trailers).unwrap());
        out
    }

    fn read(bytes: &[u8], size: usize) -> Result<(Vec<u8>, Fields), EnvelopeError> {
        let mut reader = ResponseReader::new(limits());
        let (mut body, mut trailers) = (Vec::new(), Fields::new());
        for chunk in bytes.chunks(size) {
            for part in reader.push(chunk)? {
                match part {
                    ResponsePart::Start { status, headers } => {
                        assert_eq!((status, headers.value("content-type")), (200, Some("text/event-stream")));
                    }
                    ResponsePart::Body(bytes) => body.extend(bytes),
                    ResponsePart::End(fields) => trailers = fields,
                }
            }
        }
        reader.finish()?;
        Ok((body, trailers))
    }

    #[test]
    fn what_is_written_in_pieces_is_read_in_pieces_of_any_size() {
        let bytes = message(&[b"data: 1\n\n", b"", &[7; 300], b"data: [DONE]\n\n"]);
        let whole = Response::decode(&bytes, &limits()).unwrap();
        for size in [1, 2, 3, 7, 64, bytes.len()] {
            let (body, trailers) = read(&bytes, size).unwrap();
            assert_eq!((&body, trailers.value("proof")), (&whole.body, Some("x")), "{size}");
        }
        assert!(read(&[bytes.as_slice(), &[0; 9]].concat(), 5).is_ok());
    }

    #[test]
    fn cut_oversized_and_malformed_responses_are_refused() {
        let bytes = message(&[b"data: 1\n\n"]);
        for length in 0..bytes.len() {
            assert!(matches!(read(&bytes[..length], 4), Err(EnvelopeError::Truncated(_))), "{length}");
        }
        assert!(matches!(read(&[bytes.as_slice(), b"x"].concat(), 4), Err(EnvelopeError::StreamOver)));
        assert!(matches!(read(&message(&[&[1; 600], &[1; 600]]), 50), Err(EnvelopeError::TooLarge { .. })));
        assert!(matches!(read(&message(&[&[1; 1_200]]), 50), Err(EnvelopeError::TooLarge { .. })));
        let mut headers = Fields::new();
        headers.push("a", vec![b'x'; 400]);
        assert!(matches!(read(&response_start(200, &headers).unwrap(), 9), Err(EnvelopeError::TooLarge { .. })));
        assert!(matches!(read(&[1, 0x40, 200], 9), Err(EnvelopeError::Malformed(_))));
        assert!(matches!(read(&[3, 0x40, 199], 9), Err(EnvelopeError::Malformed(_))));
        assert!(response_start(99, &Fields::new()).is_err());
    }
}
