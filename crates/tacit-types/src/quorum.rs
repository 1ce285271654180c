//! Quorum signatures: what t or q gatekeepers of one set signed.

use serde::{Deserialize, Serialize};

use crate::{
    ids::{Address, Digest},
    signature::Signature,
};

/// A gatekeeper's signature and its place in the set, counted from zero.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IndexedSignature {
    /// The signer's index in the set.
    pub index: u32,
    /// The signature.
    pub signature: Signature,
}

/// A set of gatekeepers: chain keys in index order and the two thresholds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GatekeeperSet {
    /// Gatekeeper epoch.
    pub epoch: u64,
    /// How many release a key or sign a certificate.
    pub threshold: u32,
    /// Chain-key accounts, index order.
    pub members: Vec<Address>,
}

/// Why a set or a set of signatures was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuorumError {
    /// The set is empty, too large, has a repeated member or an impossible threshold.
    #[error("not a possible gatekeeper set")]
    Set,
    /// Too few signatures.
    #[error("{found} gatekeeper signatures, {needed} needed")]
    TooFew {
        /// Signatures needed.
        needed: u32,
        /// Signatures found.
        found: u32,
    },
    /// Indices do not rise strictly.
    #[error("signer indices do not rise strictly")]
    Order,
    /// An index lies outside the set.
    #[error("there is no gatekeeper {0}")]
    Index(u32),
    /// A signature is not by the member with that index.
    #[error("signature {0} is not by that gatekeeper")]
    Signer(u32),
}

impl GatekeeperSet {
    /// Most members that a set may have.
    pub const MAX_MEMBERS: usize = 64;

    /// Checks that the set is possible: 1 ≤ t ≤ n ≤ [`Self::MAX_MEMBERS`], no member twice.
    ///
    /// # Errors
    /// [`QuorumError::Set`].
    pub fn validate(&self) -> Result<(), QuorumError> {
        let count = self.members.len();
        let mut sorted = self.members.clone();
        sorted.sort();
        sorted.dedup();
        let possible = sorted.len() == count
            && (1..=Self::MAX_MEMBERS).contains(&count)
            && (1..=count as u64).contains(&u64::from(self.threshold));
        if possible { Ok(()) } else { Err(QuorumError::Set) }
    }

    /// Number of members, n.
    pub fn size(&self) -> u32 {
        self.members.len() as u32
    }

    /// Register quorum q = ⌈(n + t) / 2⌉: two such quorums share at least t members.
    pub fn quorum(&self) -> u32 {
        (self.size() + self.threshold).div_ceil(2)
    }

    /// Checks that at least `needed` distinct members signed `digest`; every signature given must hold.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn verify(&self, digest: Digest, signatures: &[IndexedSignature], needed: u32) -> Result<(), QuorumError> {
        let found = u32::try_from(signatures.len()).unwrap_or(u32::MAX);
        if found < needed || needed == 0 {
            return Err(QuorumError::TooFew { needed, found });
        }
        let mut previous = None;
        for IndexedSignature { index, signature } in signatures {
            if previous.is_some_and(|previous| previous >= *index) {
                return Err(QuorumError::Order);
            }
            previous = Some(*index);
            let member = self.members.get(*index as usize).ok_or(QuorumError::Index(*index))?;
            if signature.recover(digest).ok() != Some(*member) {
                return Err(QuorumError::Signer(*index));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::SigningKey;

    fn keys() -> Vec<SigningKey> {
        (1..=4).map(|byte| SigningKey::from_bytes(&[byte; 32]).unwrap()).collect()
    }

    fn set() -> GatekeeperSet {
        GatekeeperSet { epoch: 1, threshold: 2, members: keys().iter().map(SigningKey::address).collect() }
    }

    fn signatures(indices: &[u32], digest: Digest) -> Vec<IndexedSignature> {
        let keys = keys();
        indices
            .iter()
            .map(|index| IndexedSignature { index: *index, signature: keys[*index as usize].sign(digest) })
            .collect()
    }

    #[test]
    fn two_quorums_share_t_members() {
        for count in 1u8..=20 {
            for threshold in 1..=u32::from(count) {
                let members = (0..count).map(|byte| Address::from([byte; 20])).collect();
                let set = GatekeeperSet { epoch: 0, threshold, members };
                assert!(2 * set.quorum() >= set.size() + threshold && set.quorum() <= set.size());
            }
        }
    }

    #[test]
    fn refusals() {
        let digest = Digest::from([5; 32]);
        let check =
            |signatures: &[IndexedSignature], expected| assert_eq!(set().verify(digest, signatures, 2), expected);
        check(&signatures(&[0, 2], digest), Ok(()));
        check(&signatures(&[1], digest), Err(QuorumError::TooFew { needed: 2, found: 1 }));
        check(&signatures(&[1, 1], digest), Err(QuorumError::Order));
        check(&signatures(&[2, 1], digest), Err(QuorumError::Order));
        check(&signatures(&[0, 1], Digest::ZERO), Err(QuorumError::Signer(0)));
        let mut outside = signatures(&[0, 1], digest);
        outside[1].index = 9;
        check(&outside, Err(QuorumError::Index(9)));
        let mut swapped = signatures(&[0, 1], digest);
        swapped[1].signature = swapped[0].signature;
        check(&swapped, Err(QuorumError::Signer(1)));
        assert_eq!(set().verify(digest, &[], 0), Err(QuorumError::TooFew { needed: 0, found: 0 }));
    }

    #[test]
    fn impossible_sets_are_refused() {
        assert_eq!(set().validate(), Ok(()));
        assert_eq!(GatekeeperSet { threshold: 0, ..set() }.validate(), Err(QuorumError::Set));
        assert_eq!(GatekeeperSet { threshold: 5, ..set() }.validate(), Err(QuorumError::Set));
        let twice = vec![Address::ZERO, Address::ZERO];
        assert_eq!(GatekeeperSet { members: twice, ..set() }.validate(), Err(QuorumError::Set));
    }
}
