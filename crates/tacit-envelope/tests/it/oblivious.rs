use proptest::prelude::*;
use tacit_envelope::{
    EnvelopeError, Kem, KeyConfig, KeyPair, TransportKey, TransportPublicKey, encode_key_configs, open_with,
    parse_key_configs, seal_request, seal_to,
};

use crate::rng;

fn both() -> [Kem; 2] {
    [Kem::XWing, Kem::X25519]
}

#[test]
fn a_call_there_and_back() {
    for kem in both() {
        let pair = KeyPair::generate(&mut rng(1), 7, kem);
        let config = KeyConfig::parse(&pair.config().encode()).unwrap();
        let (sealed, opener) = seal_request(&mut rng(2), &config, b"question").unwrap();
        assert!(!sealed.windows(8).any(|window| window == b"question"));
        let (plain, sealer) = pair.open_request(&sealed).unwrap();
        assert_eq!(plain, b"question");
        let answer = sealer.seal(&mut rng(3), b"answer").unwrap();
        assert_eq!(opener.open(&answer).unwrap(), b"answer");
    }
}

#[test]
fn randomness_is_the_callers() {
    let pair = KeyPair::generate(&mut rng(1), 7, Kem::XWing);
    let seal = |seed| seal_request(&mut rng(seed), &pair.config(), b"question").unwrap().0;
    assert_eq!(seal(5), seal(5));
    assert_ne!(seal(5), seal(6));
}

#[test]
fn every_altered_byte_of_a_request_is_refused() {
    let mut tried = 0;
    for kem in both() {
        let pair = KeyPair::generate(&mut rng(1), 7, kem);
        let (sealed, _) = seal_request(&mut rng(2), &pair.config(), b"question").unwrap();
        for position in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[position] ^= 1 << (position % 8);
            let error = pair.open_request(&altered).map(drop).unwrap_err();
            match position {
                0 => assert_eq!(error, EnvelopeError::WrongKeyId { expected: 7, found: altered[0] }),
                1..7 => assert!(matches!(error, EnvelopeError::UnknownSuite { .. }), "{position}: {error}"),
                // The top bit of an X25519 share is ignored by the function, but not by the key schedule.
                _ => assert_eq!(error, EnvelopeError::Tampered, "{position}"),
            }
            tried += 1;
        }
    }
    assert_eq!(tried, 7 + 1120 + 24 + 7 + 32 + 24);
}

#[test]
fn every_altered_byte_of_a_response_is_refused() {
    let pair = KeyPair::generate(&mut rng(1), 7, Kem::XWing);
    let (sealed, opener) = seal_request(&mut rng(2), &pair.config(), b"question").unwrap();
    let answer = pair.open_request(&sealed).unwrap().1.seal(&mut rng(3), b"answer").unwrap();
    for position in 0..answer.len() {
        let mut altered = answer.clone();
        altered[position] ^= 0x80;
        assert_eq!(opener.open(&altered), Err(EnvelopeError::Tampered), "{position}");
    }
    for end in 0..answer.len() {
        assert!(opener.open(&answer[..end]).is_err());
    }
    let (_, other) = seal_request(&mut rng(9), &pair.config(), b"question").unwrap();
    assert_eq!(other.open(&answer), Err(EnvelopeError::Tampered), "an answer to another request");
}

#[test]
fn truncations_are_named() {
    let pair = KeyPair::generate(&mut rng(1), 7, Kem::XWing);
    let (sealed, _) = seal_request(&mut rng(2), &pair.config(), b"").unwrap();
    for end in 0..sealed.len() {
        let error = pair.open_request(&sealed[..end]).map(drop).unwrap_err();
        assert!(matches!(error, EnvelopeError::Truncated(_)), "{end}: {error}");
    }
}

#[test]
fn another_key_opens_nothing() {
    let (mine, other) = (KeyPair::generate(&mut rng(1), 7, Kem::XWing), KeyPair::generate(&mut rng(2), 7, Kem::XWing));
    let (sealed, _) = seal_request(&mut rng(3), &mine.config(), b"question").unwrap();
    assert_eq!(other.open_request(&sealed).map(drop), Err(EnvelopeError::Tampered));
    let classic = KeyPair::generate(&mut rng(2), 7, Kem::X25519);
    assert!(matches!(classic.open_request(&sealed), Err(EnvelopeError::UnknownSuite { kem: 0x647a, .. })));
}

#[test]
fn key_configurations_are_read_strictly() {
    let config = KeyPair::generate(&mut rng(1), 7, Kem::X25519).config();
    let bytes = config.encode();
    assert_eq!(KeyConfig::parse(&bytes), Ok(config.clone()));
    let check = |alter: &dyn Fn(&mut Vec<u8>), expected: EnvelopeError| {
        let mut altered = bytes.clone();
        alter(&mut altered);
        assert_eq!(KeyConfig::parse(&altered), Err(expected));
    };
    check(&|bytes| bytes[2] = 0x10, EnvelopeError::UnknownSuite { kem: 0x10, kdf: 1, aead: 1 });
    check(&|bytes| bytes[40] = 3, EnvelopeError::UnknownSuite { kem: 0x20, kdf: 1, aead: 3 });
    check(&|bytes| bytes[36] = 3, EnvelopeError::KeyConfig("length of the symmetric algorithms"));
    check(&|bytes| bytes[36] = 0, EnvelopeError::KeyConfig("length of the symmetric algorithms"));
    check(&|bytes| bytes.push(0), EnvelopeError::Trailing("key configuration"));
    check(&|bytes| bytes.truncate(40), EnvelopeError::Truncated("symmetric algorithms"));
    check(&|bytes| bytes.truncate(10), EnvelopeError::Truncated("public key"));
    check(&|bytes| bytes.clear(), EnvelopeError::Truncated("key identifier"));

    let wing = KeyPair::generate(&mut rng(2), 8, Kem::XWing).config();
    let list = encode_key_configs(&[config.clone(), wing.clone()]);
    assert_eq!(parse_key_configs(&list), Ok(vec![config, wing]));
    assert_eq!(parse_key_configs(&[]), Err(EnvelopeError::KeyConfig("no usable key")));
}

#[test]
fn single_shot_messages_are_bound_to_use_and_context() {
    let key = TransportKey::generate(&mut rng(1));
    let public = TransportPublicKey::parse(&key.public().encode()).unwrap();
    let sealed = seal_to(&mut rng(2), &public, b"tacit/partial/1", b"function, epoch", b"secret").unwrap();
    assert_eq!(open_with(&key, b"tacit/partial/1", b"function, epoch", &sealed).unwrap(), b"secret");
    let refuse = |key: &TransportKey, info: &[u8], aad: &[u8]| {
        assert_eq!(open_with(key, info, aad, &sealed), Err(EnvelopeError::Tampered));
    };
    refuse(&key, b"tacit/partial/2", b"function, epoch");
    refuse(&key, b"tacit/partial/1", b"function, other");
    refuse(&TransportKey::generate(&mut rng(3)), b"tacit/partial/1", b"function, epoch");
    for position in 0..sealed.len() {
        let mut altered = sealed.clone();
        altered[position] ^= 1;
        assert_eq!(open_with(&key, b"tacit/partial/1", b"function, epoch", &altered), Err(EnvelopeError::Tampered));
    }
    assert!(matches!(open_with(&key, b"", b"", &sealed[..1120]), Err(EnvelopeError::Truncated(_))));
    assert!(matches!(seal_to(&mut rng(2), &public, &[0; 40_000], b"", b""), Err(EnvelopeError::TooLarge { .. })));
    assert_eq!(TransportPublicKey::parse(&[1; 1215]), Err(EnvelopeError::InvalidKey));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn hostile_requests_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1400)) {
        let pair = KeyPair::generate(&mut rng(1), 7, Kem::XWing);
        prop_assert!(pair.open_request(&bytes).is_err());
        let bytes = [&[7, 0x64, 0x7a, 0, 1, 0, 1], bytes.as_slice()].concat();
        prop_assert!(pair.open_request(&bytes).is_err());
        let _ = KeyConfig::parse(&bytes);
        let _ = parse_key_configs(&bytes);
        let _ = TransportPublicKey::parse(&bytes);
    }
}
