//! Facts read by proof: `eth_getProof` against the state root of a given block (EIP-1186, Merkle Patricia trie).
//!
//! What the node says is believed only as far as a chain of hashes leads from the block's hash to it. What the hash is, is
//! settled elsewhere (t gatekeepers agree on it).

use std::collections::BTreeMap;

use alloy::{
    eips::BlockId,
    primitives::{Address as AlloyAddress, B256, U256, keccak256},
    providers::Provider,
    rlp,
    rpc::types::EIP1186AccountProofResponse,
    trie::{Nibbles, TrieAccount, proof::verify_proof},
};
use tacit_types::{Address, CodeHash, FunctionId, ManifestHash, UnixTime, formats};

use crate::{
    error::LedgerError,
    functions::{FunctionRecord, StateReset},
    ledger::{At, BlockRef, Ledger},
    requests::{ContractRequest, RequestStatus},
};

/// Slot of the functions' mapping in `FunctionRegistry`.
const FUNCTIONS: u64 = 0;
/// Slot of the minimum key epochs in `WorkerRegistry`.
const MIN_KEY_EPOCHS: u64 = 11;
/// Slot of the requests' mapping in `RequestHub`.
const REQUESTS: u64 = 4;
/// Slots that one version takes.
const VERSION_SLOTS: u64 = 4;

/// Proved storage of one contract at one block.
struct ProvedStorage(BTreeMap<B256, U256>);

impl ProvedStorage {
    fn word(&self, slot: B256) -> U256 {
        self.0.get(&slot).copied().unwrap_or_default()
    }
}

/// The slot of `key` in the mapping at `mapping`.
fn entry(mapping: u64, key: B256) -> B256 {
    let mut both = [0; 64];
    both[..32].copy_from_slice(key.as_slice());
    both[56..].copy_from_slice(&mapping.to_be_bytes());
    keccak256(both)
}

fn plus(slot: B256, offset: u64) -> B256 {
    B256::from(U256::from_be_bytes(slot.0).wrapping_add(U256::from(offset)))
}

/// The unsigned integer of `bits` (at most 64) that lies `offset` bits above the word's low end.
fn field(word: U256, offset: usize, bits: usize) -> u64 {
    let mask = (U256::from(1) << bits) - U256::from(1);
    ((word >> offset) & mask).to::<u64>()
}

fn address(word: U256) -> Address {
    AlloyAddress::from_word(B256::from(word & ((U256::from(1) << 160) - U256::from(1)))).into()
}

impl Ledger {
    /// A function as it stands at `block`, everything but `uri` proved from the block's hash, or nothing if it is proved not
    /// to be registered.
    ///
    /// # Errors
    /// [`LedgerError::Proof`] when a proof does not hold; else as for any read.
    pub async fn prove_function(&self, id: FunctionId, block: BlockRef) -> Result<Option<FunctionRecord>, LedgerError> {
        let base = entry(FUNCTIONS, id.into());
        let versions_slot = plus(base, 5);
        let claimed = self.function(id, At::Block(block)).await?;
        let count = claimed.as_ref().map_or(0, |record| record.versions);
        let first_version = keccak256(versions_slot);
        let mut slots = vec![base, plus(base, 1), plus(base, 2), plus(base, 3), versions_slot];
        for version in count.saturating_sub(2)..count {
            slots.extend((0..3).map(|offset| plus(first_version, version * VERSION_SLOTS + offset)));
        }
        let registry = self.addresses().function_registry;
        let storage = self.proved_storage(registry, slots, block, "the function's record").await?;

        let failed = LedgerError::Proof { what: "the function's record", block: block.number };
        let head = storage.word(base);
        let owner = address(head);
        let Some(claimed) = claimed else {
            return if owner == Address::ZERO { Ok(None) } else { Err(failed) };
        };
        if storage.word(versions_slot) != U256::from(count) || count == 0 {
            return Err(failed);
        }
        // The id commits to chain, registry, owner and name.
        let chain_id = self.chain_id().await?;
        if formats::function_id(chain_id, registry, owner, &claimed.name) != id {
            return Err(failed);
        }
        let version = |index: u64| {
            let at = |offset| storage.word(plus(first_version, index * VERSION_SLOTS + offset));
            (
                CodeHash::from(at(0).to_be_bytes::<32>()),
                ManifestHash::from(at(1).to_be_bytes::<32>()),
                field(at(2), 0, 64),
            )
        };
        let mut current = version(count - 1);
        if current.2 > block.time.0 {
            if count < 2 {
                return Err(failed);
            }
            current = version(count - 2);
        }
        let min_slot = entry(MIN_KEY_EPOCHS, id.into());
        let minimum = self
            .proved_storage(self.addresses().worker_registry, vec![min_slot], block, "the minimum key epoch")
            .await?;
        let min_key_epoch = field(minimum.word(min_slot), 0, 64);

        let (delays, resets) = (storage.word(plus(base, 1)), storage.word(plus(base, 3)));
        let (delay, next_delay, next_from) = (field(delays, 0, 64), field(delays, 64, 64), field(delays, 128, 64));
        let secrets_version = field(delays, 192, 64);
        let reset_key_epoch = field(resets, 64, 64);
        Ok(Some(FunctionRecord {
            id,
            owner,
            name: claimed.name,
            code_hash: current.0,
            manifest_hash: current.1,
            uri: claimed.uri,
            activation: UnixTime(current.2),
            key_epoch: field(head, 160, 64).max(min_key_epoch),
            min_key_epoch,
            frozen: field(head, 224, 8) != 0,
            upgrade_delay: if next_from != 0 && block.time.0 >= next_from { next_delay } else { delay },
            secrets_digest: (secrets_version != 0).then(|| storage.word(plus(base, 2)).to_be_bytes::<32>().into()),
            secrets_version,
            reset: (reset_key_epoch != 0)
                .then_some(StateReset { sequence: field(resets, 0, 64), key_epoch: reset_key_epoch }),
            versions: count,
            block,
        }))
    }

    /// Where a request stands at `block`, proved from the block's hash. The id commits to all arguments, so a proved entry
    /// under it proves them too; consumer, deadline and time of asking are compared besides.
    ///
    /// # Errors
    /// [`LedgerError::Proof`] when a proof does not hold or the request is not as shown; else as for any read.
    pub async fn prove_request(
        &self,
        request: &ContractRequest,
        block: BlockRef,
    ) -> Result<RequestStatus, LedgerError> {
        let failed = || LedgerError::Proof { what: "the request", block: block.number };
        let base = entry(REQUESTS, request.id.into());
        let second = plus(base, 1);
        let storage =
            self.proved_storage(self.addresses().request_hub, vec![base, second], block, "the request").await?;
        let head = storage.word(base);
        let status = RequestStatus::from_code(field(head, 224, 8) as u8).ok_or_else(failed)?;
        if status == RequestStatus::None {
            return Ok(status);
        }
        let as_shown = request.arguments.id() == request.id
            && address(head) == request.arguments.consumer
            && field(head, 160, 64) == request.arguments.deadline.0
            && field(storage.word(second), 0, 64) == request.created_at.0;
        if as_shown { Ok(status) } else { Err(failed()) }
    }

    async fn proved_storage(
        &self,
        contract: Address,
        slots: Vec<B256>,
        block: BlockRef,
        what: &'static str,
    ) -> Result<ProvedStorage, LedgerError> {
        let id = BlockId::hash(block.hash.into());
        let header = self.full_block(id).await?.header;
        // The node could show the right hash beside another header: compute it.
        if header.inner.hash_slow() != B256::from(block.hash)
            || header.inner.number != block.number
            || header.inner.timestamp != block.time.0
        {
            return Err(LedgerError::Proof { what: "the block's header", block: block.number });
        }
        let account = AlloyAddress::from(contract);
        let proof = self.ask("eth_getProof", self.provider().get_proof(account, slots.clone()).block_id(id)).await?;
        verify_storage(header.inner.state_root, account, &slots, &proof)
            .ok_or(LedgerError::Proof { what, block: block.number })
    }
}

/// Checks an EIP-1186 answer: account under the state root, each slot under the account's storage root.
fn verify_storage(
    state_root: B256,
    account: AlloyAddress,
    slots: &[B256],
    proof: &EIP1186AccountProofResponse,
) -> Option<ProvedStorage> {
    // With other features of alloy-trie an account has a further member.
    #[allow(clippy::needless_update)]
    let claimed = TrieAccount {
        nonce: proof.nonce,
        balance: proof.balance,
        storage_root: proof.storage_hash,
        code_hash: proof.code_hash,
        ..TrieAccount::default()
    };
    verify_proof(state_root, Nibbles::unpack(keccak256(account)), Some(rlp::encode(claimed)), &proof.account_proof)
        .ok()?;
    if proof.storage_proof.len() != slots.len() {
        return None;
    }
    let mut words = BTreeMap::new();
    for (slot, shown) in slots.iter().zip(&proof.storage_proof) {
        let key = Nibbles::unpack(keccak256(slot));
        let proved = |value: Option<Vec<u8>>| verify_proof(proof.storage_hash, key, value, &shown.proof).is_ok();
        // A word that is zero is not in the trie; anvil leaves one in that was written, which says the same.
        let holds = match shown.value.is_zero() {
            true => proved(None) || proved(Some(rlp::encode(U256::ZERO))),
            false => proved(Some(rlp::encode(shown.value))),
        };
        if !holds {
            return None;
        }
        words.insert(*slot, shown.value);
    }
    Some(ProvedStorage(words))
}

#[cfg(test)]
mod tests {
    use alloy::{
        primitives::Bytes,
        rpc::types::EIP1186StorageProof,
        trie::{HashBuilder, proof::ProofRetainer},
    };

    use super::*;

    #[test]
    fn fields_come_from_their_place_in_the_word() {
        let word = (U256::from(0xabcd_u64) << 160) | (U256::from(1) << 224) | U256::from(0x1234_u64);
        assert_eq!(field(word, 160, 64), 0xabcd);
        assert_eq!(field(word, 224, 8), 1);
        assert_eq!(field(word, 0, 64), 0x1234);
        assert_eq!(field(U256::MAX, 192, 64), u64::MAX);
        assert_eq!(
            address(word),
            Address::from({
                let mut bytes = [0; 20];
                bytes[18..].copy_from_slice(&[0x12, 0x34]);
                bytes
            })
        );
    }

    #[test]
    fn mapping_slots_are_those_of_the_compiler() {
        let mut padded = [0; 64];
        padded[31] = 7;
        padded[63] = 4;
        assert_eq!(entry(4, B256::with_last_byte(7)), keccak256(padded));
        assert_eq!(plus(B256::repeat_byte(0xff), 1), B256::ZERO);
    }

    /// The root of a trie and, per key, the nodes on the way to it.
    fn trie(mut leaves: Vec<(B256, Vec<u8>)>, keys: &[B256]) -> (B256, Vec<Vec<Bytes>>) {
        let nibbles = |key: &B256| Nibbles::unpack(keccak256(key));
        leaves.sort_by_key(|(key, _)| nibbles(key));
        let retainer = ProofRetainer::new(keys.iter().map(nibbles).collect());
        let mut builder = HashBuilder::default().with_proof_retainer(retainer);
        for (key, value) in &leaves {
            builder.add_leaf(nibbles(key), value);
        }
        let root = builder.root();
        let nodes = builder.take_proof_nodes();
        let path = |key: &B256| nodes.matching_nodes_sorted(&nibbles(key)).into_iter().map(|(_, node)| node).collect();
        (root, keys.iter().map(path).collect())
    }

    /// State with one contract that holds three words (one written as zero, as anvil keeps it), and the proof of five.
    fn state() -> (B256, AlloyAddress, Vec<B256>, EIP1186AccountProofResponse) {
        let slots: Vec<B256> = (1..=5).map(B256::with_last_byte).collect();
        let values = [U256::from(7), U256::MAX, U256::ZERO, U256::ZERO, U256::ZERO];
        let stored = (0..3).map(|index| (slots[index], rlp::encode(values[index]))).collect();
        let (storage_hash, paths) = trie(stored, &slots);
        let account = AlloyAddress::repeat_byte(0x11);
        #[allow(clippy::needless_update)]
        let body = TrieAccount {
            nonce: 1,
            balance: U256::from(2),
            storage_root: storage_hash,
            code_hash: B256::repeat_byte(3),
            ..TrieAccount::default()
        };
        // Keys are hashed again, so any 20 or 32 bytes do for the other accounts.
        let nibbles = Nibbles::unpack(keccak256(account));
        let mut leaves = vec![(nibbles, rlp::encode(body))];
        leaves.extend((0..9).map(|byte| (Nibbles::unpack(keccak256([byte; 20])), rlp::encode(TrieAccount::default()))));
        leaves.sort();
        let mut builder = HashBuilder::default().with_proof_retainer(ProofRetainer::new(vec![nibbles]));
        for (key, value) in &leaves {
            builder.add_leaf(*key, value);
        }
        let state_root = builder.root();
        let account_proof =
            builder.take_proof_nodes().matching_nodes_sorted(&nibbles).into_iter().map(|(_, node)| node).collect();
        let storage_proof = slots
            .iter()
            .zip(values)
            .zip(paths)
            .map(|((slot, value), proof)| EIP1186StorageProof { key: (*slot).into(), value, proof })
            .collect();
        let proof = EIP1186AccountProofResponse {
            address: account,
            balance: body.balance,
            code_hash: body.code_hash,
            nonce: body.nonce,
            storage_hash,
            account_proof,
            storage_proof,
        };
        (state_root, account, slots, proof)
    }

    #[test]
    fn what_is_proved_is_what_stands_there() {
        let (root, account, slots, proof) = state();
        let proved = verify_storage(root, account, &slots, &proof).unwrap();
        assert_eq!(proved.word(slots[0]), U256::from(7));
        assert_eq!(proved.word(slots[1]), U256::MAX);
        assert_eq!(proved.word(slots[2]), U256::ZERO);
        assert_eq!(proved.word(slots[4]), U256::ZERO);
    }

    #[test]
    fn a_lying_node_proves_nothing() {
        let (root, account, slots, good) = state();
        let check = |change: &dyn Fn(&mut EIP1186AccountProofResponse)| {
            let mut proof = good.clone();
            change(&mut proof);
            assert!(verify_storage(root, account, &slots, &proof).is_none());
        };
        check(&|p| p.nonce += 1);
        check(&|p| p.balance += U256::from(1));
        check(&|p| p.code_hash = B256::ZERO);
        check(&|p| p.storage_hash = B256::repeat_byte(9));
        check(&|p| p.account_proof.clear());
        check(&|p| p.storage_proof[0].value = U256::from(8));
        check(&|p| p.storage_proof[0].value = U256::ZERO);
        check(&|p| p.storage_proof[4].value = U256::from(1));
        check(&|p| p.storage_proof[1].proof.clear());
        check(&|p| p.storage_proof.swap(0, 1));
        check(&|p| {
            p.storage_proof.pop();
        });
        assert!(verify_storage(B256::ZERO, account, &slots, &good).is_none());
        assert!(verify_storage(root, AlloyAddress::ZERO, &slots, &good).is_none());
        for index in 0..good.account_proof.len() {
            check(&|p| {
                let mut node = p.account_proof[index].to_vec();
                node[3] ^= 1;
                p.account_proof[index] = node.into();
            });
        }
    }
}
