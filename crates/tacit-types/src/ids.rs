//! Identifiers and digests as distinct types, so that one cannot be passed for another.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a hex identifier could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// The text does not begin with `0x`.
    #[error("does not begin with 0x")]
    Prefix,
    /// The text has the wrong number of digits.
    #[error("has {found} hex digits instead of {expected}")]
    Length {
        /// Digits that the type needs.
        expected: usize,
        /// Digits found.
        found: usize,
    },
    /// A character is not a lower-case hexadecimal digit.
    #[error("has a character that is not a lower-case hexadecimal digit")]
    Digit,
}

/// Reads `0x` and lower-case hexadecimal digits into exactly `N` bytes.
pub fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], IdError> {
    let digits = text.strip_prefix("0x").ok_or(IdError::Prefix)?;
    if digits.len() != N * 2 {
        return Err(IdError::Length { expected: N * 2, found: digits.len() });
    }
    if !digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(IdError::Digit);
    }
    let mut out = [0; N];
    hex::decode_to_slice(digits, &mut out).map_err(|_| IdError::Digit)?;
    Ok(out)
}

macro_rules! fixed_bytes {
    ($(#[$meta:meta])* $name:ident, $length:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $length]);

        impl $name {
            /// All bytes zero.
            pub const ZERO: Self = Self([0; $length]);

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }

            /// Takes the bytes out.
            pub const fn into_bytes(self) -> [u8; $length] {
                self.0
            }

            /// Whether every byte is zero.
            pub fn is_zero(&self) -> bool {
                self.0 == [0; $length]
            }
        }

        impl From<[u8; $length]> for $name {
            fn from(bytes: [u8; $length]) -> Self {
                Self(bytes)
            }
        }

        impl From<alloy_primitives::FixedBytes<$length>> for $name {
            fn from(bytes: alloy_primitives::FixedBytes<$length>) -> Self {
                Self(bytes.0)
            }
        }

        impl From<$name> for alloy_primitives::FixedBytes<$length> {
            fn from(id: $name) -> Self {
                Self(id.0)
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = IdError;

            fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
                bytes.try_into().map(Self).map_err(|_| IdError::Length { expected: $length * 2, found: bytes.len() * 2 })
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_hex(text).map(Self)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(formatter, "0x{}", hex::encode(self.0))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(formatter, "{}(0x{})", stringify!($name), hex::encode(self.0))
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

fixed_bytes!(
    /// An account on an EVM chain; written in lower case.
    Address,
    20
);
fixed_bytes!(
    /// A 32-byte digest without a role of its own.
    Digest,
    32
);
fixed_bytes!(
    /// Identifies a function: see [`crate::formats::function_id`].
    FunctionId,
    32
);
fixed_bytes!(
    /// Identifies one version of a function's code and manifest: see [`crate::formats::code_hash`].
    CodeHash,
    32
);
fixed_bytes!(
    /// Keccak-256 of the canonical manifest.
    ManifestHash,
    32
);
fixed_bytes!(
    /// Identifies one call: see [`crate::formats`].
    CallId,
    32
);
fixed_bytes!(
    /// Digest of the genesis document: the name of a cluster and the salt of its EIP-712 domain.
    ClusterId,
    32
);
fixed_bytes!(
    /// EIP-712 digest of a worker certificate.
    CertificateId,
    32
);
fixed_bytes!(
    /// SHA-256 of the canonical keyset.
    KeysetDigest,
    32
);
fixed_bytes!(
    /// What a machine runs, reduced to 32 bytes (see the README of tacit-attest for how per platform).
    Measurement,
    32
);
fixed_bytes!(
    /// Identifies the chip that signed the evidence.
    ChipId,
    32
);
fixed_bytes!(
    /// Identifies the root of trust that a chain of evidence ended in.
    RootId,
    32
);
fixed_bytes!(
    /// Digest of a canonical attestation policy.
    PolicyHash,
    32
);
fixed_bytes!(
    /// Head of a function's hash-chained state log: see [`crate::formats::next_head`].
    Head,
    32
);

impl From<alloy_primitives::Address> for Address {
    fn from(address: alloy_primitives::Address) -> Self {
        Self(address.into_array())
    }
}

impl From<Address> for alloy_primitives::Address {
    fn from(address: Address) -> Self {
        Self::from(address.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_round_trips_through_text_and_json() {
        let id = FunctionId::from([0xab; 32]);
        assert_eq!(id.to_string().parse(), Ok(id));
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::from_str::<FunctionId>(&json).unwrap(), id);
    }

    #[test]
    fn other_spellings_are_refused() {
        let check = |text: &str, expected: IdError| assert_eq!(text.parse::<Address>(), Err(expected));
        check(&"ab".repeat(20), IdError::Prefix);
        check(&format!("0x{}", "AB".repeat(20)), IdError::Digit);
        check(&format!("0x{}", "ab".repeat(19)), IdError::Length { expected: 40, found: 38 });
        check(&format!("0x{}", "zz".repeat(20)), IdError::Digit);
        check("", IdError::Prefix);
    }
}
