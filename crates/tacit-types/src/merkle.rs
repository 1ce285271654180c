//! Merkle trees in the shape of OpenZeppelin's `MerkleProof`: pairs are sorted before hashing, a leaf is hashed twice.
//!
//! Used where a contract checks a proof: effects, batches of answers, batches of acknowledgements. The transparency log
//! uses RFC 6962 trees instead (crate tacit-receipt).

use alloy_primitives::{B256, keccak256};

use crate::ids::Digest;

/// The leaf of one 32-byte value: `k(k(e(bytes32 value)))`.
pub fn leaf(value: Digest) -> Digest {
    leaf_of(value.as_bytes())
}

/// The leaf of an ABI-encoded tuple: `k(k(encoded))`.
pub fn leaf_of(encoded: &[u8]) -> Digest {
    keccak256(keccak256(encoded)).into()
}

fn node(left: Digest, right: Digest) -> Digest {
    let (first, second) = if left <= right { (left, right) } else { (right, left) };
    let mut both = [0; 64];
    both[..32].copy_from_slice(first.as_bytes());
    both[32..].copy_from_slice(second.as_bytes());
    B256::from(keccak256(both)).into()
}

/// The root over `leaves` in their order; zero for none. An odd node at the end of a level moves up unchanged.
pub fn root(leaves: &[Digest]) -> Digest {
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        level =
            level.chunks(2).map(|pair| if let [left, right] = pair { node(*left, *right) } else { pair[0] }).collect();
    }
    level.first().copied().unwrap_or(Digest::ZERO)
}

/// The siblings from leaf `index` up to the root, or `None` when there is no such leaf.
pub fn proof(leaves: &[Digest], index: usize) -> Option<Vec<Digest>> {
    if index >= leaves.len() {
        return None;
    }
    let (mut level, mut position, mut path) = (leaves.to_vec(), index, Vec::new());
    while level.len() > 1 {
        if let Some(sibling) = level.get(position ^ 1) {
            path.push(*sibling);
        }
        level =
            level.chunks(2).map(|pair| if let [left, right] = pair { node(*left, *right) } else { pair[0] }).collect();
        position /= 2;
    }
    Some(path)
}

/// The root that `leaf` and `path` lead to.
pub fn root_from_proof(leaf: Digest, path: &[Digest]) -> Digest {
    path.iter().fold(leaf, |hash, sibling| node(hash, *sibling))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: u8) -> Vec<Digest> {
        (0..count).map(|byte| leaf(Digest::from([byte; 32]))).collect()
    }

    #[test]
    fn every_leaf_of_every_small_tree_is_proved() {
        for count in 1..20 {
            let leaves = leaves(count);
            let root = root(&leaves);
            for (index, leaf) in leaves.iter().enumerate() {
                let path = proof(&leaves, index).unwrap();
                assert_eq!(root_from_proof(*leaf, &path), root, "{index} of {count}");
                assert_ne!(root_from_proof(Digest::from([0xff; 32]), &path), root);
            }
            assert_eq!(proof(&leaves, leaves.len()), None);
        }
    }

    #[test]
    fn the_empty_tree_has_root_zero() {
        assert_eq!(root(&[]), Digest::ZERO);
    }
}
