//! Hashes and proofs of RFC 6962 (verification as in RFC 9162, sections 2.1.3.2 and 2.1.4.2).

use sha2::{Digest as _, Sha256};
use tacit_types::Digest;

use crate::{Checkpoint, ReceiptError};

/// Longest proof that is read: a tree of 2^63 leaves.
const MAX_PATH: usize = 63;

/// The hash of the leaf for one receipt digest.
pub fn leaf_hash(receipt: Digest) -> Digest {
    let mut hash = Sha256::new();
    hash.update([0]);
    hash.update(receipt);
    Digest::from(<[u8; 32]>::from(hash.finalize()))
}

pub(crate) fn node_hash(left: Digest, right: Digest) -> Digest {
    let mut hash = Sha256::new();
    hash.update([1]);
    hash.update(left);
    hash.update(right);
    Digest::from(<[u8; 32]>::from(hash.finalize()))
}

/// The root of the log without entries.
pub fn empty_root() -> Digest {
    Digest::from(<[u8; 32]>::from(Sha256::digest([])))
}

/// The root over leaf hashes that are all at hand.
pub fn root_of(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len() as u64) as usize);
            node_hash(root_of(left), root_of(right))
        }
    }
}

/// The greatest power of two below `size`, which is at least 2.
pub(crate) fn split(size: u64) -> u64 {
    1 << (u64::BITS - 1 - (size - 1).leading_zeros())
}

/// Checks that the receipt with this digest is entry `index` of the log at `checkpoint`.
///
/// # Errors
/// [`ReceiptError::Index`] or [`ReceiptError::Inclusion`].
pub fn verify_inclusion(
    receipt: Digest,
    index: u64,
    checkpoint: &Checkpoint,
    path: &[Digest],
) -> Result<(), ReceiptError> {
    let size = checkpoint.size;
    if index >= size {
        return Err(ReceiptError::Index { index, size });
    }
    if path.len() > MAX_PATH {
        return Err(ReceiptError::Inclusion);
    }
    let (mut position, mut last) = (index, size - 1);
    let mut hash = leaf_hash(receipt);
    for sibling in path {
        if last == 0 {
            return Err(ReceiptError::Inclusion);
        }
        if position & 1 == 1 || position == last {
            hash = node_hash(*sibling, hash);
            while position & 1 == 0 && position != 0 {
                position >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(hash, *sibling);
        }
        position >>= 1;
        last >>= 1;
    }
    if last == 0 && hash == checkpoint.root { Ok(()) } else { Err(ReceiptError::Inclusion) }
}

/// Checks that the log at `later` begins with the log at `earlier`.
///
/// # Errors
/// [`ReceiptError::Consistency`], [`ReceiptError::Origin`].
pub fn verify_consistency(earlier: &Checkpoint, later: &Checkpoint, path: &[Digest]) -> Result<(), ReceiptError> {
    if earlier.origin != later.origin {
        return Err(ReceiptError::Origin);
    }
    if earlier.size > later.size || path.len() > MAX_PATH + 1 {
        return Err(ReceiptError::Consistency);
    }
    if earlier.size == later.size || earlier.size == 0 {
        let same = earlier.size == 0 || earlier.root == later.root;
        let empty = earlier.size > 0 || earlier.root == empty_root();
        return if same && empty && path.is_empty() { Ok(()) } else { Err(ReceiptError::Consistency) };
    }
    let mut rest = path.iter().copied();
    let seed = if earlier.size.is_power_of_two() { Some(earlier.root) } else { rest.next() };
    let seed = seed.ok_or(ReceiptError::Consistency)?;
    let (mut position, mut last) = (earlier.size - 1, later.size - 1);
    while position & 1 == 1 {
        position >>= 1;
        last >>= 1;
    }
    let (mut old, mut new) = (seed, seed);
    for sibling in rest {
        if last == 0 {
            return Err(ReceiptError::Consistency);
        }
        if position & 1 == 1 || position == last {
            old = node_hash(sibling, old);
            new = node_hash(sibling, new);
            while position & 1 == 0 && position != 0 {
                position >>= 1;
                last >>= 1;
            }
        } else {
            new = node_hash(new, sibling);
        }
        position >>= 1;
        last >>= 1;
    }
    if last == 0 && old == earlier.root && new == later.root { Ok(()) } else { Err(ReceiptError::Consistency) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_of_rfc_6962() {
        assert_eq!(hex::encode(empty_root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        for (size, expected) in [(2, 1), (3, 2), (4, 2), (5, 4), (8, 4), (9, 8), (1 << 40, 1 << 39)] {
            assert_eq!(split(size), expected);
        }
    }
}
