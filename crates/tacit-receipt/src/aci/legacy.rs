//! The interface before ACI (dstack-vllm-proxy): what its quotes bind and what its signatures cover.
//!
//! Clients still ask for it. It proves less than ACI: the signing key lives as long as a process, and nothing says which model
//! answered or whether the request was rewritten. Its keys are no part of the ACI keyset, and its quotes are quotes of their own.

use alloy_primitives::eip191_hash_message;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tacit_types::signature::{NoteKey, Signature, SigningKey, verify_ed25519};
use tacit_types::{Address, Digest};

use super::{AciError, PrefixedDigest};

/// The algorithm of a legacy signing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SigningAlgorithm {
    /// secp256k1, EIP-191.
    #[default]
    Ecdsa,
    /// Ed25519 over the text itself.
    Ed25519,
}

/// The public half of a legacy signing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigningIdentity {
    /// The account of a secp256k1 key.
    Ecdsa(Address),
    /// An Ed25519 public key.
    Ed25519([u8; 32]),
}

impl SigningIdentity {
    /// Its algorithm.
    pub const fn algorithm(&self) -> SigningAlgorithm {
        match self {
            Self::Ecdsa(_) => SigningAlgorithm::Ecdsa,
            Self::Ed25519(_) => SigningAlgorithm::Ed25519,
        }
    }

    /// The bytes that report data binds: 20 of an account, 32 of a key.
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Ecdsa(address) => address.as_bytes(),
            Self::Ed25519(key) => key,
        }
    }

    /// Reads `signing_address` of that algorithm.
    ///
    /// # Errors
    /// [`AciError::Legacy`].
    pub fn parse(algorithm: SigningAlgorithm, text: &str) -> Result<Self, AciError> {
        let text = text.strip_prefix("0x").unwrap_or(text);
        let wrong = |_| AciError::Legacy("the signing address is not one of its algorithm");
        match algorithm {
            SigningAlgorithm::Ecdsa => {
                let mut bytes = [0; 20];
                hex::decode_to_slice(text, &mut bytes).map_err(wrong)?;
                Ok(Self::Ecdsa(bytes.into()))
            }
            SigningAlgorithm::Ed25519 => {
                let mut bytes = [0; 32];
                hex::decode_to_slice(text, &mut bytes).map_err(wrong)?;
                Ok(Self::Ed25519(bytes))
            }
        }
    }
}

impl std::fmt::Display for SigningIdentity {
    /// As `signing_address`: `0x…` for an account, hex alone for an Ed25519 key.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ecdsa(address) => write!(formatter, "{address}"),
            Self::Ed25519(key) => formatter.write_str(&hex::encode(key)),
        }
    }
}

/// The 32 bytes of a client's nonce: those that 64 hexadecimal digits spell, of anything else its SHA-256.
pub fn nonce_bytes(text: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    if text.len() == 64 && hex::decode_to_slice(text, &mut bytes).is_ok() {
        return bytes;
    }
    Sha256::digest(text.as_bytes()).into()
}

/// Report data of version 1: the identity, filled up with zeros to 32 bytes, and the nonce.
pub fn report_data_v1(identity: &SigningIdentity, nonce: [u8; 32]) -> [u8; 64] {
    let mut out = [0; 64];
    let bytes = identity.bytes();
    out[..bytes.len()].copy_from_slice(bytes);
    out[32..].copy_from_slice(&nonce);
    out
}

/// Report data of version 2: SHA-256 of the identity and the SHA-256 of the TLS key's subject public key info, and the nonce.
pub fn report_data_v2(identity: &SigningIdentity, spki_sha256: [u8; 32], nonce: [u8; 32]) -> [u8; 64] {
    let mut out = [0; 64];
    out[..32].copy_from_slice(&Sha256::new().chain_update(identity.bytes()).chain_update(spki_sha256).finalize());
    out[32..].copy_from_slice(&nonce);
    out
}

/// The text that is signed for one chat: the hashes of request and response bytes in hex, a colon between.
pub fn signature_text(request: PrefixedDigest, response: PrefixedDigest) -> String {
    format!("{}:{}", hex::encode(request.digest()), hex::encode(response.digest()))
}

/// A legacy signing key; it signs nothing but these texts. Wiped when dropped.
#[derive(Clone)]
pub enum LegacyKey {
    /// secp256k1.
    Ecdsa(SigningKey),
    /// Ed25519.
    Ed25519(NoteKey),
}

/// What `/v1/signature/{chat_id}` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegacySignature {
    /// See [`signature_text`].
    pub text: String,
    /// 65 bytes with `0x` of an ECDSA key, 64 bytes without of an Ed25519 key.
    pub signature: String,
    /// The signer.
    pub signing_address: String,
    /// Its algorithm.
    pub signing_algo: SigningAlgorithm,
}

impl LegacyKey {
    /// The public half.
    pub fn identity(&self) -> SigningIdentity {
        match self {
            Self::Ecdsa(key) => SigningIdentity::Ecdsa(key.address()),
            Self::Ed25519(key) => SigningIdentity::Ed25519(key.public_key()),
        }
    }

    /// Signs a text: as EIP-191 personal message, or as it is.
    pub fn sign(&self, text: String) -> LegacySignature {
        let signature = match self {
            Self::Ecdsa(key) => key.sign(eip191(&text)).to_string(),
            Self::Ed25519(key) => hex::encode(key.sign(text.as_bytes())),
        };
        let identity = self.identity();
        LegacySignature { text, signature, signing_address: identity.to_string(), signing_algo: identity.algorithm() }
    }
}

impl LegacySignature {
    /// Checks that `signer` signed the text of this request and this response.
    ///
    /// # Errors
    /// [`AciError::Legacy`].
    pub fn verify(
        &self,
        signer: &SigningIdentity,
        request: PrefixedDigest,
        response: PrefixedDigest,
    ) -> Result<(), AciError> {
        if self.text != signature_text(request, response) {
            return Err(AciError::Legacy("the text is of another request or response"));
        }
        if SigningIdentity::parse(self.signing_algo, &self.signing_address)? != *signer {
            return Err(AciError::Legacy("it names another signer"));
        }
        let malformed = AciError::Legacy("the signature is malformed");
        let holds = match signer {
            SigningIdentity::Ecdsa(address) => {
                let signature: Signature = self.signature.to_ascii_lowercase().parse().map_err(|_| malformed)?;
                signature.recover(eip191(&self.text)).is_ok_and(|found| found == *address)
            }
            SigningIdentity::Ed25519(key) => {
                let mut signature = [0; 64];
                let digits = self.signature.strip_prefix("0x").unwrap_or(&self.signature);
                hex::decode_to_slice(digits, &mut signature).map_err(|_| malformed)?;
                verify_ed25519(key, self.text.as_bytes(), &signature).is_ok()
            }
        };
        if holds { Ok(()) } else { Err(AciError::Legacy("the signature does not hold")) }
    }
}

fn eip191(text: &str) -> Digest {
    eip191_hash_message(text.as_bytes()).into()
}
