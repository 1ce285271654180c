use proptest::prelude::*;
use tacit_envelope::{EnvelopeError, Kem, KeyPair, MAX_CHUNK, ResponseChunkOpener, seal_chunked_request};

use crate::rng;

/// A request of those chunks, its last one final.
fn request(pair: &KeyPair, chunks: &[&[u8]]) -> (Vec<u8>, ResponseChunkOpener) {
    let (mut bytes, mut sealer) = seal_chunked_request(&mut rng(2), &pair.config()).unwrap();
    let (last, first) = chunks.split_last().unwrap();
    for chunk in first {
        bytes.extend_from_slice(&sealer.seal(chunk).unwrap());
    }
    let (end, opener) = sealer.finish(last).unwrap();
    bytes.extend_from_slice(&end);
    (bytes, opener)
}

/// Opens a request in pieces of that size.
fn open(pair: &KeyPair, bytes: &[u8], piece: usize) -> Result<Vec<u8>, EnvelopeError> {
    let (start, rest) = bytes.split_at(pair.chunked_start_length());
    let mut opener = pair.open_chunked_request(start)?;
    let mut plain = Vec::new();
    for piece in rest.chunks(piece) {
        plain.extend_from_slice(&opener.push(piece)?);
    }
    plain.extend_from_slice(&opener.finish(&mut rng(3))?.0);
    Ok(plain)
}

#[test]
fn streams_there_and_back() {
    for kem in [Kem::XWing, Kem::X25519] {
        let pair = KeyPair::generate(&mut rng(1), 7, kem);
        let (bytes, mut response) = request(&pair, &[b"one ", &[7; MAX_CHUNK], b"three"]);
        let expected = [b"one ".as_slice(), &[7; MAX_CHUNK], b"three"].concat();
        for piece in [1, 7, 1000, 1 << 20] {
            assert_eq!(open(&pair, &bytes, piece).unwrap(), expected);
        }
        let (start, rest) = bytes.split_at(pair.chunked_start_length());
        let mut opener = pair.open_chunked_request(start).unwrap();
        opener.push(rest).unwrap();
        let (_, mut answer, mut sealer) = opener.finish(&mut rng(3)).unwrap();
        answer.extend_from_slice(&sealer.seal(b"a").unwrap());
        answer.extend_from_slice(&sealer.seal(b"b").unwrap());
        answer.extend_from_slice(&sealer.finish(b"").unwrap());
        let mut plain = Vec::new();
        for byte in answer {
            plain.extend_from_slice(&response.push(&[byte]).unwrap());
        }
        assert_eq!(plain, b"ab");
        assert_eq!(response.finish().unwrap(), b"");
    }
}

#[test]
fn a_cut_stream_is_an_error() {
    let pair = KeyPair::generate(&mut rng(1), 7, Kem::X25519);
    let (bytes, _) = request(&pair, &[b"one", b"two", b"three"]);
    for end in pair.chunked_start_length()..bytes.len() {
        let error = open(&pair, &bytes[..end], 16).unwrap_err();
        let expected = [EnvelopeError::NoFinalChunk, EnvelopeError::Truncated("final chunk"), EnvelopeError::Tampered];
        assert!(expected.contains(&error), "{end}: {error}");
    }
}

#[test]
fn every_altered_byte_and_every_swap_is_refused() {
    let pair = KeyPair::generate(&mut rng(1), 7, Kem::X25519);
    let (bytes, _) = request(&pair, &[b"one", b"two", b"three"]);
    for position in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[position] ^= 1;
        assert!(open(&pair, &altered, 16).is_err(), "{position}");
    }
    let start = pair.chunked_start_length();
    let mut swapped = bytes.clone();
    let (one, two) = (start..start + 20, start + 20..start + 40);
    swapped[one.clone()].copy_from_slice(&bytes[two.clone()]);
    swapped[two].copy_from_slice(&bytes[one]);
    assert_eq!(open(&pair, &swapped, 1000), Err(EnvelopeError::Tampered));
}

#[test]
fn chunks_are_bounded() {
    let pair = KeyPair::generate(&mut rng(1), 7, Kem::X25519);
    let (start, mut sealer) = seal_chunked_request(&mut rng(2), &pair.config()).unwrap();
    assert!(matches!(sealer.seal(&[0; MAX_CHUNK + 1]), Err(EnvelopeError::TooLarge { .. })));
    assert_eq!(sealer.seal(b""), Err(EnvelopeError::Malformed("empty chunk")));
    let mut opener = pair.open_chunked_request(&start).unwrap();
    assert!(matches!(opener.push(&[0xc0, 0, 0, 1, 0, 0, 0, 0]), Err(EnvelopeError::TooLarge { .. })));
    let mut opener = pair.open_chunked_request(&start).unwrap();
    assert!(matches!(opener.push(&[vec![0], vec![1; MAX_CHUNK + 17]].concat()), Err(EnvelopeError::TooLarge { .. })));
    let mut opener = pair.open_chunked_request(&start).unwrap();
    assert!(matches!(opener.push(&[3, 1, 2, 3]), Err(EnvelopeError::Truncated("chunk"))));
}

proptest! {
    #[test]
    fn hostile_chunks_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let pair = KeyPair::generate(&mut rng(1), 7, Kem::X25519);
        let (start, _) = seal_chunked_request(&mut rng(2), &pair.config()).unwrap();
        let mut opener = pair.open_chunked_request(&start).unwrap();
        if opener.push(&bytes).is_ok() {
            prop_assert!(opener.finish(&mut rng(3)).is_err());
        }
    }
}
