//! One object of the log: a header in clear, a nonce, and the sealed commit.
//!
//! `"TACITLG1" ‖ function 32 ‖ key epoch 8 ‖ fence 8 ‖ sequence 8 ‖ previous head 32 ‖ length of the rest 8 ‖ nonce 24 ‖ ciphertext`

use bytes::Bytes;
use chacha20poly1305::{
    XNonce,
    aead::{Aead, Payload},
};
use object_store::path::Path;
use rand::Rng;
use tacit_types::{FunctionId, Head, formats::next_head};

use crate::{commit::MAX_COMMIT_BYTES, error::StoreError, keys::StateKeys};

const MAGIC: &[u8; 8] = b"TACITLG1";
const HEADER: usize = 8 + 32 + 8 + 8 + 8 + 32 + 8;
const NONCE: usize = 24;
const TAG: usize = 16;

/// Most bytes of an object.
pub(crate) const MAX_OBJECT_BYTES: u64 = (HEADER + NONCE + TAG + MAX_COMMIT_BYTES) as u64;

/// Where an object stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub function: FunctionId,
    pub key_epoch: u64,
    pub fence: u64,
    pub sequence: u64,
    pub previous: Head,
}

/// Sequence and fence as they stand in an object's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    pub sequence: u64,
    pub fence: u64,
}

impl Name {
    pub fn path(self, function: FunctionId) -> Path {
        Path::from(format!("{function}/{:020}.{:020}", self.sequence, self.fence))
    }

    pub fn parse(file: &str) -> Option<Self> {
        let (sequence, fence) = file.split_once('.')?;
        let number = |text: &str| {
            let plain = text.len() == 20 && text.bytes().all(|byte| byte.is_ascii_digit());
            if plain { text.parse::<u64>().ok() } else { None }
        };
        Some(Self { sequence: number(sequence)?, fence: number(fence)? })
    }
}

/// An object whose form is right; not yet opened.
pub(crate) struct Sealed {
    pub place: Place,
    /// Nonce and ciphertext.
    pub body: Bytes,
}

impl Sealed {
    /// The head of the log after this object.
    pub fn head(&self) -> Head {
        let Place { function, key_epoch, fence, sequence, previous } = self.place;
        next_head(function, key_epoch, fence, sequence, previous, &self.body)
    }

    /// Seals a commit with a fresh random nonce.
    pub fn seal(place: Place, keys: &StateKeys, commit: &[u8]) -> Result<Self, StoreError> {
        let mut nonce = [0; NONCE];
        rand::rng().fill_bytes(&mut nonce);
        let sealed = keys
            .cipher(place.function, place.key_epoch, place.fence)?
            .encrypt(&XNonce::from(nonce), Payload { msg: commit, aad: &associated_data(&place) })
            .expect("XChaCha20-Poly1305 seals everything up to 256 GiB");
        let mut body = Vec::with_capacity(NONCE + sealed.len());
        body.extend_from_slice(&nonce);
        body.extend_from_slice(&sealed);
        Ok(Self { place, body: body.into() })
    }

    /// Opens the commit.
    pub fn open(&self, keys: &StateKeys) -> Result<Bytes, StoreError> {
        let Place { function, key_epoch, fence, sequence, .. } = self.place;
        let (nonce, sealed) = self.body.split_at(NONCE);
        let nonce: [u8; NONCE] = nonce.try_into().expect("split at its length");
        keys.cipher(function, key_epoch, fence)?
            .decrypt(&XNonce::from(nonce), Payload { msg: sealed, aad: &associated_data(&self.place) })
            .map(Bytes::from)
            .map_err(|_| StoreError::WrongKey { key_epoch, sequence, fence })
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let Place { function, key_epoch, fence, sequence, previous } = self.place;
        let mut out = Vec::with_capacity(HEADER + self.body.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(function.as_bytes());
        for number in [key_epoch, fence, sequence] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(previous.as_bytes());
        out.extend_from_slice(&(self.body.len() as u64).to_be_bytes());
        out.extend_from_slice(&self.body);
        out
    }

    /// Reads an object stored under `name` for `function`.
    pub fn parse(function: FunctionId, name: Name, bytes: &Bytes) -> Result<Self, StoreError> {
        let Name { sequence, fence } = name;
        let found = bytes.len() as u64;
        let torn = |expected: u64| StoreError::Torn { sequence, fence, expected, found };
        let least = (HEADER + NONCE + TAG) as u64;
        if found < least {
            return Err(torn(least));
        }
        if &bytes[..8] != MAGIC {
            return Err(StoreError::Payload { sequence, reason: "not an object of a state log" });
        }
        let array = |at: usize| -> [u8; 32] { bytes[at..at + 32].try_into().expect("within the header") };
        let number = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("within the header"));
        let expected = number(96).saturating_add(HEADER as u64);
        if expected != found {
            return Err(torn(expected));
        }
        let place = Place {
            function: array(8).into(),
            key_epoch: number(40),
            fence: number(48),
            sequence: number(56),
            previous: array(64).into(),
        };
        if place.function != function {
            return Err(StoreError::OtherFunction { sequence, fence, found: place.function });
        }
        if (place.sequence, place.fence) != (sequence, fence) {
            let (found_sequence, found_fence) = (place.sequence, place.fence);
            return Err(StoreError::Misplaced { sequence, fence, found_sequence, found_fence });
        }
        Ok(Self { place, body: bytes.slice(HEADER..) })
    }
}

fn associated_data(place: &Place) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + 32 + 24 + 32);
    out.extend_from_slice(b"tacit/commit/1\0\0");
    out.extend_from_slice(place.function.as_bytes());
    for number in [place.key_epoch, place.fence, place.sequence] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out.extend_from_slice(place.previous.as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place() -> Place {
        Place {
            function: FunctionId::from([1; 32]),
            key_epoch: 1,
            fence: 2,
            sequence: 3,
            previous: Head::from([4; 32]),
        }
    }

    const NAME: Name = Name { sequence: 3, fence: 2 };

    #[test]
    fn names_sort_and_read_back() {
        let name = Name { sequence: 41, fence: 7 };
        let path = name.path(FunctionId::from([0xab; 32]));
        assert_eq!(Name::parse(path.filename().unwrap()), Some(name));
        for bad in [
            "",
            "1.2",
            "00000000000000000041",
            "+0000000000000000041.00000000000000000007",
            "99999999999999999999.00000000000000000007",
        ] {
            assert_eq!(Name::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_byte_counts() {
        let keys = StateKeys::new(1, [9; 32]);
        let sealed = Sealed::seal(place(), &keys, b"commit").unwrap();
        let bytes = sealed.to_bytes();
        let parse = |bytes: Vec<u8>| Sealed::parse(place().function, NAME, &bytes.into());
        assert_eq!(parse(bytes.clone()).unwrap().open(&keys).unwrap(), b"commit".as_slice());
        for index in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[index] ^= 1;
            let refused = match parse(altered) {
                Err(_) => true,
                Ok(other) => other.head() != sealed.head() && other.open(&keys).is_err(),
            };
            assert!(refused, "byte {index}");
        }
        for length in 0..bytes.len() {
            assert!(matches!(parse(bytes[..length].to_vec()), Err(StoreError::Torn { .. })), "length {length}");
        }
    }

    #[test]
    fn keys_differ_by_function_epoch_and_fence() {
        let keys = StateKeys::new(1, [9; 32]).with(2, [9; 32]);
        let sealed = Sealed::seal(place(), &keys, b"commit").unwrap();
        for other in [
            Place { function: FunctionId::ZERO, ..place() },
            Place { key_epoch: 2, ..place() },
            Place { fence: 3, ..place() },
            Place { sequence: 4, ..place() },
            Place { previous: Head::ZERO, ..place() },
        ] {
            let moved = Sealed { place: other, body: sealed.body.clone() };
            assert!(matches!(moved.open(&keys), Err(StoreError::WrongKey { .. })));
            assert_ne!(moved.head(), sealed.head());
        }
        assert!(matches!(sealed.open(&StateKeys::new(1, [8; 32])), Err(StoreError::WrongKey { .. })));
        assert!(matches!(sealed.open(&StateKeys::new(2, [9; 32])), Err(StoreError::NoKey(1))));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Sealed::parse(place().function, NAME, &bytes.into());
        }
    }
}
