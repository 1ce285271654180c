//! Digests as ACI writes them: `sha256:` and lower-case hex, or lower-case hex alone.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};
use tacit_types::{Digest, KeysetDigest};

const PREFIX: &str = "sha256:";

fn parse(text: &str) -> Option<[u8; 32]> {
    let lower = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let mut bytes = [0; 32];
    (text.len() == 64 && text.bytes().all(lower)).then_some(())?;
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

macro_rules! digest_text {
    ($(#[$meta:meta])* $name:ident, $prefix:expr, $refusal:literal) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Digest);

        impl $name {
            /// SHA-256 of `bytes`.
            pub fn of(bytes: &[u8]) -> Self {
                Self(<[u8; 32]>::from(Sha256::digest(bytes)).into())
            }

            /// The digest.
            pub const fn digest(self) -> Digest {
                self.0
            }
        }

        impl From<Digest> for $name {
            fn from(digest: Digest) -> Self {
                Self(digest)
            }
        }

        impl From<KeysetDigest> for $name {
            fn from(digest: KeysetDigest) -> Self {
                Self(digest.into_bytes().into())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(formatter, "{}{}", $prefix, hex::encode(self.0))
            }
        }

        impl std::str::FromStr for $name {
            type Err = &'static str;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let digits = text.strip_prefix($prefix).ok_or($refusal)?;
                parse(digits).map(|bytes| Self(bytes.into())).ok_or($refusal)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

digest_text!(
    /// A digest field: `sha256:<64 lower-case hex digits>`.
    PrefixedDigest,
    PREFIX,
    "not `sha256:` and 64 lower-case hexadecimal digits"
);
digest_text!(
    /// An id that is a digest, or `report_data`: 64 lower-case hex digits alone.
    BareDigest,
    "",
    "not 64 lower-case hexadecimal digits"
);

/// The hash of a body that is seen piece by piece, as a stream is.
#[derive(Debug, Clone, Default)]
pub struct BodyHash(Sha256);

impl BodyHash {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next bytes of the body, exactly as they go over the wire.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of everything so far.
    pub fn finish(self) -> PrefixedDigest {
        PrefixedDigest(<[u8; 32]>::from(self.0.finalize()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_digest_has_one_spelling() {
        let digits = "ab".repeat(32);
        let text = format!("sha256:{digits}");
        assert_eq!(text.parse::<PrefixedDigest>().unwrap().to_string(), text);
        assert_eq!(digits.parse::<BareDigest>().unwrap().to_string(), digits);
        for bad in [digits.clone(), format!("sha256:{}", digits.to_uppercase()), format!("{text}0"), "sha256:".into()] {
            assert!(bad.parse::<PrefixedDigest>().is_err(), "{bad}");
        }
        for bad in [text, digits.to_uppercase(), format!("0x{digits}"), "é".repeat(32)] {
            assert!(bad.parse::<BareDigest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_body_in_pieces_has_the_hash_of_the_whole() {
        let mut hash = BodyHash::new();
        hash.update(b"data: {}\n\n");
        hash.update(b"data: [DONE]\n\n");
        assert_eq!(hash.finish(), PrefixedDigest::of(b"data: {}\n\ndata: [DONE]\n\n"));
        assert_eq!(BodyHash::new().finish(), PrefixedDigest::of(b""));
    }
}
