//! Oblivious HTTP in chunks (draft-ietf-ohai-chunked-ohttp-08): a long message is opened piece by piece, and a missing
//! end is an error.
//!
//! Each chunk is `varint(length of ciphertext) ‖ ciphertext`; the last one has length 0 and runs to the end of the
//! message, with the associated data `final`.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes128Gcm, KeyInit};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::oblivious::info;
use crate::suite::{KEY, NONCE, Recipient, ResponseKey, Sender, TAG};
use crate::varint::{Reader, push};
use crate::{EnvelopeError, KeyConfig, KeyPair};

const REQUEST_LABEL: &[u8] = b"message/bhttp chunked request";
const RESPONSE_LABEL: &[u8] = b"message/bhttp chunked response";
const FINAL: &[u8] = b"final";

/// Plaintext bytes of one chunk at most: every receiver of the format accepts 16 KiB.
pub const MAX_CHUNK: usize = 16 * 1024;

/// Seals a request in chunks.
pub struct RequestChunkSealer {
    context: Sender,
    enc: Vec<u8>,
}

/// Starts a request in chunks: the bytes that go first, and the sealer of the chunks.
///
/// # Errors
/// [`EnvelopeError::InvalidKey`] if the key exchange fails.
pub fn seal_chunked_request(
    rng: &mut impl CryptoRng,
    config: &KeyConfig,
) -> Result<(Vec<u8>, RequestChunkSealer), EnvelopeError> {
    let header = config.header();
    let (enc, context) = config.public.encapsulate(rng, &info(REQUEST_LABEL, &header))?;
    Ok(([header.as_slice(), &enc].concat(), RequestChunkSealer { context, enc }))
}

impl RequestChunkSealer {
    /// Seals the next chunk, which is not empty.
    ///
    /// # Errors
    /// [`EnvelopeError::TooLarge`] above [`MAX_CHUNK`], [`EnvelopeError::Malformed`] for an empty chunk.
    pub fn seal(&mut self, plaintext: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        Ok(frame(self.context.seal(b"", chunk(plaintext)?)?))
    }

    /// Seals the final chunk, which may be empty, and gives what opens the response.
    ///
    /// # Errors
    /// [`EnvelopeError::TooLarge`] above [`MAX_CHUNK`].
    pub fn finish(mut self, plaintext: &[u8]) -> Result<(Vec<u8>, ResponseChunkOpener), EnvelopeError> {
        let sealed = self.context.seal(FINAL, last_chunk(plaintext)?)?;
        let opener = ResponseChunkOpener {
            start: Some((self.context.export(RESPONSE_LABEL), self.enc)),
            key: None,
            frames: Frames::default(),
        };
        Ok((frame_last(sealed), opener))
    }
}

/// Opens a request in chunks as its bytes arrive.
pub struct RequestChunkOpener {
    context: Recipient,
    enc: Vec<u8>,
    frames: Frames,
}

impl KeyPair {
    /// Starts to open a request in chunks; `start` is the header and the encapsulated key, see
    /// [`KeyPair::chunked_start_length`].
    ///
    /// # Errors
    /// As [`KeyPair::open_request`].
    pub fn open_chunked_request(&self, start: &[u8]) -> Result<RequestChunkOpener, EnvelopeError> {
        let mut reader = Reader::new(start);
        let (enc, context) = self.accept(&mut reader, REQUEST_LABEL)?;
        if !reader.is_empty() {
            return Err(EnvelopeError::Trailing("encapsulated key"));
        }
        Ok(RequestChunkOpener { context, enc, frames: Frames::default() })
    }

    /// How many bytes of a chunked request stand before its first chunk.
    pub fn chunked_start_length(&self) -> usize {
        7 + self.config().kem().encapsulated_length()
    }
}

impl RequestChunkOpener {
    /// Takes bytes as they arrive, and gives the plaintext of the chunks that they complete.
    ///
    /// # Errors
    /// [`EnvelopeError::Tampered`], [`EnvelopeError::Truncated`] for a chunk shorter than its tag,
    /// [`EnvelopeError::TooLarge`].
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        self.frames.push(bytes)?;
        let mut plain = Vec::new();
        while let Some(ciphertext) = self.frames.next_chunk()? {
            plain.extend_from_slice(&self.context.open(b"", &ciphertext)?);
        }
        Ok(plain)
    }

    /// Ends the request: the plaintext of the final chunk, and what seals the response.
    ///
    /// # Errors
    /// [`EnvelopeError::NoFinalChunk`] if the stream was cut, [`EnvelopeError::Tampered`].
    pub fn finish(
        mut self,
        rng: &mut impl CryptoRng,
    ) -> Result<(Vec<u8>, Vec<u8>, ResponseChunkSealer), EnvelopeError> {
        let plain = self.context.open(FINAL, self.frames.last_chunk()?)?;
        let secret = self.context.export(RESPONSE_LABEL);
        let mut response_nonce = [0; KEY];
        rng.fill_bytes(&mut response_nonce);
        let key = ChunkKey::new(ResponseKey::derive(&secret, &self.enc, &response_nonce));
        Ok((plain, response_nonce.to_vec(), ResponseChunkSealer { key }))
    }
}

/// Seals a response in chunks; its nonce, given beside it, goes first.
pub struct ResponseChunkSealer {
    key: ChunkKey,
}

impl ResponseChunkSealer {
    /// Seals the next chunk, which is not empty.
    ///
    /// # Errors
    /// [`EnvelopeError::TooLarge`] above [`MAX_CHUNK`], [`EnvelopeError::Malformed`] for an empty chunk.
    pub fn seal(&mut self, plaintext: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        Ok(frame(self.key.seal(b"", chunk(plaintext)?)?))
    }

    /// Seals the final chunk, which may be empty.
    ///
    /// # Errors
    /// [`EnvelopeError::TooLarge`] above [`MAX_CHUNK`].
    pub fn finish(mut self, plaintext: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        Ok(frame_last(self.key.seal(FINAL, last_chunk(plaintext)?)?))
    }
}

/// Opens a response in chunks as its bytes arrive.
pub struct ResponseChunkOpener {
    start: Option<(Zeroizing<[u8; KEY]>, Vec<u8>)>,
    key: Option<ChunkKey>,
    frames: Frames,
}

impl ResponseChunkOpener {
    /// Takes bytes as they arrive, and gives the plaintext of the chunks that they complete.
    ///
    /// # Errors
    /// As [`RequestChunkOpener::push`].
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        self.frames.push(bytes)?;
        if self.key.is_none() {
            let Some(response_nonce) = self.frames.take_nonce() else {
                return Ok(Vec::new());
            };
            let (secret, enc) = self.start.take().ok_or(EnvelopeError::StreamOver)?;
            self.key = Some(ChunkKey::new(ResponseKey::derive(&secret, &enc, &response_nonce)));
        }
        let mut plain = Vec::new();
        if let Some(key) = &mut self.key {
            while let Some(ciphertext) = self.frames.next_chunk()? {
                plain.extend_from_slice(&key.open(b"", &ciphertext)?);
            }
        }
        Ok(plain)
    }

    /// Ends the response: the plaintext of its final chunk.
    ///
    /// # Errors
    /// [`EnvelopeError::NoFinalChunk`] if the stream was cut, [`EnvelopeError::Tampered`].
    pub fn finish(mut self) -> Result<Vec<u8>, EnvelopeError> {
        let key = self.key.as_mut().ok_or(EnvelopeError::NoFinalChunk)?;
        key.open(FINAL, self.frames.last_chunk()?)
    }
}

/// Response key with a counter mixed into the nonce.
struct ChunkKey {
    cipher: Aes128Gcm,
    nonce: [u8; NONCE],
    counter: u64,
}

impl ChunkKey {
    fn new(derived: ResponseKey) -> Self {
        Self { cipher: Aes128Gcm::new((&*derived.key).into()), nonce: derived.nonce, counter: 0 }
    }

    fn next_nonce(&mut self) -> Result<[u8; NONCE], EnvelopeError> {
        let mut nonce = self.nonce;
        for (byte, count) in nonce[NONCE - 8..].iter_mut().zip(self.counter.to_be_bytes()) {
            *byte ^= count;
        }
        self.counter = self.counter.checked_add(1).ok_or(EnvelopeError::StreamOver)?;
        Ok(nonce)
    }

    fn seal(&mut self, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        let nonce = self.next_nonce()?;
        self.cipher
            .encrypt((&nonce).into(), Payload { msg: plaintext, aad })
            .map_err(|_| EnvelopeError::TooLarge { what: "chunk", limit: MAX_CHUNK })
    }

    fn open(&mut self, aad: &[u8], ciphertext: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        let nonce = self.next_nonce()?;
        self.cipher.decrypt((&nonce).into(), Payload { msg: ciphertext, aad }).map_err(|_| EnvelopeError::Tampered)
    }
}

/// Cuts arriving bytes into chunks; holds at most one unfinished chunk and what arrived with it.
#[derive(Default)]
struct Frames {
    buffer: Vec<u8>,
    last: bool,
}

impl Frames {
    fn push(&mut self, bytes: &[u8]) -> Result<(), EnvelopeError> {
        self.buffer.extend_from_slice(bytes);
        self.check_last()
    }

    fn check_last(&self) -> Result<(), EnvelopeError> {
        if self.last && self.buffer.len() > MAX_CHUNK + TAG {
            return Err(EnvelopeError::TooLarge { what: "final chunk", limit: MAX_CHUNK });
        }
        Ok(())
    }

    fn take_nonce(&mut self) -> Option<[u8; KEY]> {
        let nonce = *self.buffer.first_chunk::<KEY>()?;
        self.buffer.drain(..KEY);
        Some(nonce)
    }

    fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, EnvelopeError> {
        if self.last {
            return Ok(None);
        }
        let mut reader = Reader::new(&self.buffer);
        let length = match reader.varint("chunk length") {
            Ok(length) => length,
            Err(_) => return Ok(None),
        };
        let start = self.buffer.len() - reader.rest().len();
        if length == 0 {
            self.last = true;
            self.buffer.drain(..start);
            self.check_last()?;
            return Ok(None);
        }
        let limit = MAX_CHUNK + TAG;
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= limit)
            .ok_or(EnvelopeError::TooLarge { what: "chunk", limit })?;
        if length < TAG {
            return Err(EnvelopeError::Truncated("chunk"));
        }
        if reader.rest().len() < length {
            return Ok(None);
        }
        let chunk = self.buffer[start..start + length].to_vec();
        self.buffer.drain(..start + length);
        Ok(Some(chunk))
    }

    fn last_chunk(&self) -> Result<&[u8], EnvelopeError> {
        if !self.last {
            return Err(EnvelopeError::NoFinalChunk);
        }
        if self.buffer.len() < TAG {
            return Err(EnvelopeError::Truncated("final chunk"));
        }
        Ok(&self.buffer)
    }
}

fn chunk(plaintext: &[u8]) -> Result<&[u8], EnvelopeError> {
    if plaintext.is_empty() {
        return Err(EnvelopeError::Malformed("empty chunk"));
    }
    last_chunk(plaintext)
}

fn last_chunk(plaintext: &[u8]) -> Result<&[u8], EnvelopeError> {
    if plaintext.len() > MAX_CHUNK {
        return Err(EnvelopeError::TooLarge { what: "chunk", limit: MAX_CHUNK });
    }
    Ok(plaintext)
}

fn frame(ciphertext: Vec<u8>) -> Vec<u8> {
    let mut out = Vec::with_capacity(ciphertext.len() + 4);
    push(&mut out, ciphertext.len() as u64);
    out.extend_from_slice(&ciphertext);
    out
}

fn frame_last(ciphertext: Vec<u8>) -> Vec<u8> {
    let mut out = vec![0];
    out.extend_from_slice(&ciphertext);
    out
}
