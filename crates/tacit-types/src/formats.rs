//! How identifiers and commitments are made (functions.md, "Formats"). `k` is Keccak-256, `e` is `abi.encode`, `s` is SHA-256.

use alloy_primitives::{Address as AlloyAddress, B256, U256, keccak256};
use alloy_sol_types::SolValue;
use sha2::{Digest as _, Sha256};

use crate::ids::{Address, CallId, CodeHash, Digest, FunctionId, Head, ManifestHash};

/// `k(e(uint256 homeChainId, address registry, address owner, string name))`.
pub fn function_id(home_chain_id: u64, registry: Address, owner: Address, name: &str) -> FunctionId {
    let (registry, owner): (AlloyAddress, AlloyAddress) = (registry.into(), owner.into());
    keccak256((U256::from(home_chain_id), registry, owner, name.to_owned()).abi_encode_params()).into()
}

/// `k(e(bytes32 k(module), bytes32 k(JCS manifest)))`.
pub fn code_hash(module: &[u8], manifest: ManifestHash) -> CodeHash {
    code_hash_of(keccak256(module).into(), manifest)
}

/// [`code_hash`] from the module's digest.
pub fn code_hash_of(module: Digest, manifest: ManifestHash) -> CodeHash {
    let (module, manifest): (B256, B256) = (module.into(), manifest.into());
    keccak256((module, manifest).abi_encode_params()).into()
}

/// What a commitment is about; the name is the commitment's first member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tag {
    /// The method's name.
    Method,
    /// The caller's 20 bytes, or nothing for a caller without a name.
    Caller,
    /// The request body.
    Request,
    /// The response body.
    Response,
}

impl Tag {
    /// The text that is hashed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Caller => "caller",
            Self::Request => "request",
            Self::Response => "response",
        }
    }
}

/// `k(e(string tag, bytes32 salt, bytes32 k(bytes)))`.
pub fn commit(tag: Tag, salt: Digest, bytes: &[u8]) -> Digest {
    let salt: B256 = salt.into();
    keccak256((tag.name().to_owned(), salt, keccak256(bytes)).abi_encode_params()).into()
}

/// Call id of a caller's call: `k(e(string "call", bytes32 functionId, address caller, string idempotencyKey))`; the
/// caller is the zero address when it has no name, and its key must then be unguessable.
pub fn call_id(function: FunctionId, caller: Option<Address>, idempotency_key: &str) -> CallId {
    let function: B256 = function.into();
    let caller: AlloyAddress = caller.unwrap_or(Address::ZERO).into();
    keccak256(("call".to_owned(), function, caller, idempotency_key.to_owned()).abi_encode_params()).into()
}

/// Call id of a trigger: `k(e(string "trigger", bytes32 functionId, uint256 index, bytes32 event))`.
pub fn trigger_call_id(function: FunctionId, index: u64, event: Digest) -> CallId {
    let (function, event): (B256, B256) = (function.into(), event.into());
    keccak256(("trigger".to_owned(), function, U256::from(index), event).abi_encode_params()).into()
}

/// Call id of a publication: `k(e(string "publish", bytes32 functionId, bytes32 callId, uint256 index))`, with the id of the
/// call that published and the publication's place among those of that call, from zero.
pub fn publish_call_id(function: FunctionId, parent: CallId, index: u64) -> CallId {
    let (function, parent): (B256, B256) = (function.into(), parent.into());
    keccak256(("publish".to_owned(), function, parent, U256::from(index)).abi_encode_params()).into()
}

/// The request bytes of a publication's receipt: `e(bytes32 callId, uint256 index)`, the two that its call id is made of.
pub fn publish_request(parent: CallId, index: u64) -> Vec<u8> {
    let parent: B256 = parent.into();
    (parent, U256::from(index)).abi_encode_params()
}

/// `s("tacit/head/1" ‖ functionId ‖ keyEpoch ‖ fence ‖ sequence ‖ head(n) ‖ s(ciphertext))`, integers u64 big-endian.
pub fn next_head(
    function: FunctionId,
    key_epoch: u64,
    fence: u64,
    sequence: u64,
    head: Head,
    ciphertext: &[u8],
) -> Head {
    let mut hash = Sha256::new();
    hash.update(b"tacit/head/1");
    hash.update(function);
    hash.update(key_epoch.to_be_bytes());
    hash.update(fence.to_be_bytes());
    hash.update(sequence.to_be_bytes());
    hash.update(head);
    hash.update(Sha256::digest(ciphertext));
    Head::from(<[u8; 32]>::from(hash.finalize()))
}

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> Digest {
    Digest::from(<[u8; 32]>::from(Sha256::digest(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commitments_differ_by_tag_salt_and_bytes() {
        let one = commit(Tag::Request, Digest::ZERO, b"a");
        assert_ne!(one, commit(Tag::Response, Digest::ZERO, b"a"));
        assert_ne!(one, commit(Tag::Request, Digest::from([1; 32]), b"a"));
        assert_ne!(one, commit(Tag::Request, Digest::ZERO, b"b"));
    }

    #[test]
    fn a_trigger_cannot_have_the_id_of_a_call() {
        let function = FunctionId::from([7; 32]);
        assert_ne!(call_id(function, None, "0"), trigger_call_id(function, 0, Digest::ZERO));
        assert_ne!(call_id(function, None, "0"), call_id(function, Some(Address::from([1; 20])), "0"));
    }

    #[test]
    fn the_id_of_a_publication_is_no_other_kinds_and_covers_every_part() {
        let function = FunctionId::from([7; 32]);
        let parent = call_id(function, None, "0");
        let id = publish_call_id(function, parent, 0);
        let others = [
            parent,
            trigger_call_id(function, 0, parent.into_bytes().into()),
            publish_call_id(function, parent, 1),
            publish_call_id(function, CallId::from([1; 32]), 0),
            publish_call_id(FunctionId::from([8; 32]), parent, 0),
        ];
        assert!(others.iter().all(|other| *other != id));
        assert_eq!(publish_request(parent, 1).len(), 64);
        assert_ne!(publish_request(parent, 1), publish_request(parent, 0));
    }

    #[test]
    fn the_head_covers_every_part() {
        let function = FunctionId::from([1; 32]);
        let base = next_head(function, 1, 2, 3, Head::ZERO, b"c");
        assert_ne!(base, next_head(function, 2, 2, 3, Head::ZERO, b"c"));
        assert_ne!(base, next_head(function, 1, 3, 3, Head::ZERO, b"c"));
        assert_ne!(base, next_head(function, 1, 2, 4, Head::ZERO, b"c"));
        assert_ne!(base, next_head(function, 1, 2, 3, Head::from([1; 32]), b"c"));
        assert_ne!(base, next_head(function, 1, 2, 3, Head::ZERO, b"d"));
        assert_ne!(base, next_head(FunctionId::ZERO, 1, 2, 3, Head::ZERO, b"c"));
    }
}
