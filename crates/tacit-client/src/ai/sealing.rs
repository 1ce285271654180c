//! The seal around one request and its answer: chunked Oblivious HTTP to the key of a verified keyset. Where the sealed bytes
//! are sent is not known here.

use std::collections::VecDeque;

use bytes::Bytes;
use tacit_envelope::{
    EnvelopeError, Fields, KeyConfig, Limits, MAX_CHUNK, Request, ResponseChunkOpener, ResponsePart, ResponseReader,
    seal_chunked_request,
};

use super::AiRequest;

/// Authority of requests inside a seal.
const AUTHORITY: &str = "inference";
/// Most bytes of an answer's body.
pub(super) const MAX_ANSWER: usize = 16 << 20;

const LIMITS: Limits =
    Limits { control: 64, headers: 16 << 10, trailers: 4 << 10, fields: 64, body: MAX_ANSWER, informational: 0 };

/// Seals a request; `authorization` goes inside.
///
/// # Errors
/// [`EnvelopeError`] for fields that HTTP does not allow.
pub(super) fn seal(
    config: &KeyConfig,
    request: &AiRequest,
    authorization: &str,
) -> Result<(Bytes, Opening), EnvelopeError> {
    let mut plain = Request::post(AUTHORITY, request.path.as_str()).body(request.body.to_vec());
    plain.method = request.method.name().to_owned();
    plain.headers = Fields::new();
    plain.headers.push("authorization", authorization);
    for (name, value) in &request.headers {
        plain.headers.push(name.as_str(), value.as_bytes());
    }
    let plain = plain.encode()?;
    let (mut sealed, mut sealer) = seal_chunked_request(&mut rand::rng(), config)?;
    let (whole, last) = plain.split_at(plain.len() - plain.len() % MAX_CHUNK);
    for chunk in whole.chunks(MAX_CHUNK) {
        sealed.extend(sealer.seal(chunk)?);
    }
    let (chunk, opener) = sealer.finish(last)?;
    sealed.extend(chunk);
    Ok((
        sealed.into(),
        Opening { opener: Some(opener), reader: Some(ResponseReader::new(LIMITS)), parts: VecDeque::new() },
    ))
}

/// Opens the answer as it arrives.
pub(super) struct Opening {
    opener: Option<ResponseChunkOpener>,
    reader: Option<ResponseReader>,
    parts: VecDeque<ResponsePart>,
}

impl Opening {
    /// The next part that is complete.
    pub(super) fn part(&mut self) -> Option<ResponsePart> {
        self.parts.pop_front()
    }

    /// Takes sealed bytes.
    ///
    /// # Errors
    /// [`EnvelopeError`]: altered, cut or malformed.
    pub(super) fn push(&mut self, sealed: &[u8]) -> Result<(), EnvelopeError> {
        let plain = self.opener.as_mut().ok_or(EnvelopeError::StreamOver)?.push(sealed)?;
        self.read(&plain)
    }

    /// The sealed bytes are over.
    ///
    /// # Errors
    /// [`EnvelopeError::NoFinalChunk`] for a stream that was cut, and as [`Opening::push`].
    pub(super) fn finish(&mut self) -> Result<(), EnvelopeError> {
        let plain = self.opener.take().ok_or(EnvelopeError::StreamOver)?.finish()?;
        self.read(&plain)?;
        self.reader.take().ok_or(EnvelopeError::StreamOver)?.finish()
    }

    /// Whether [`Opening::finish`] has been called.
    pub(super) fn is_over(&self) -> bool {
        self.opener.is_none()
    }

    fn read(&mut self, plain: &[u8]) -> Result<(), EnvelopeError> {
        let reader = self.reader.as_mut().ok_or(EnvelopeError::StreamOver)?;
        self.parts.extend(reader.push(plain)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tacit_envelope::{Kem, KeyPair, Response, response_end, response_piece, response_start};

    use super::*;
    use crate::ai::Method;

    fn exchange(body: usize) -> (Vec<u8>, Opening, tacit_envelope::ResponseChunkSealer, Vec<u8>) {
        let pair = KeyPair::generate(&mut rand::rng(), 7, Kem::XWing);
        let request = AiRequest::post("/v1/chat/completions", vec![b'x'; body]);
        let (sealed, opening) = seal(&pair.config(), &request, "Bearer k").unwrap();
        let (start, rest) = sealed.split_at(pair.chunked_start_length());
        let mut opener = pair.open_chunked_request(start).unwrap();
        let mut plain = opener.push(rest).unwrap();
        let (last, nonce, sealer) = opener.finish(&mut rand::rng()).unwrap();
        plain.extend(last);
        (plain, opening, sealer, nonce)
    }

    #[test]
    fn what_is_sealed_is_the_request_with_the_key_inside() {
        for size in [0, 1, MAX_CHUNK - 1, MAX_CHUNK, 3 * MAX_CHUNK, 100_000] {
            let (plain, ..) = exchange(size);
            let request = Request::decode(&plain, &Limits { body: 1 << 20, control: 1_024, ..LIMITS }).unwrap();
            assert_eq!((request.method.as_str(), request.scheme.as_str()), (Method::Post.name(), "https"));
            assert_eq!((request.authority.as_str(), request.path.as_str()), (AUTHORITY, "/v1/chat/completions"));
            assert_eq!(request.headers.value("authorization"), Some("Bearer k"));
            assert_eq!(request.headers.value("content-type"), Some("application/json"));
            assert_eq!(request.body.len(), size);
        }
    }

    fn answer(sealer: tacit_envelope::ResponseChunkSealer, nonce: Vec<u8>) -> Vec<u8> {
        let mut sealer = sealer;
        let mut fields = Fields::new();
        fields.push("x-receipt-id", "rcpt_1");
        let mut sealed = nonce;
        sealed.extend(sealer.seal(&response_start(200, &fields).unwrap()).unwrap());
        sealed.extend(sealer.seal(&response_piece(b"data: 1\n\n")).unwrap());
        sealed.extend(sealer.finish(&response_end(&Fields::new()).unwrap()).unwrap());
        sealed
    }

    #[test]
    fn an_answer_is_opened_as_it_arrives_and_a_cut_or_altered_one_is_refused() {
        let (_, mut opening, sealer, nonce) = exchange(10);
        let mut parts = Vec::new();
        for byte in answer(sealer, nonce) {
            opening.push(&[byte]).unwrap();
            parts.extend(std::iter::from_fn(|| opening.part()));
        }
        assert_eq!(parts.len(), 2);
        opening.finish().unwrap();
        assert!(opening.is_over());
        assert!(matches!(opening.part(), Some(ResponsePart::End(_))));

        let (_, mut opening, sealer, nonce) = exchange(10);
        let sealed = answer(sealer, nonce);
        opening.push(&sealed[..sealed.len() - 1]).unwrap();
        assert!(opening.finish().is_err());

        let (_, mut opening, sealer, nonce) = exchange(10);
        let mut sealed = answer(sealer, nonce);
        sealed[40] ^= 1;
        assert!(opening.push(&sealed).and_then(|()| opening.finish()).is_err());
        assert!(Response::decode(&sealed, &LIMITS).is_err());
    }
}
