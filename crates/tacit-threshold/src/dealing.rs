//! How the members of a new cluster share their sub-keys through a coordinator that nobody trusts.
//!
//! For each set its first member draws the sub-key, publishes a commitment to it and seals it to every other member. All
//! deals together are the transcript that every member attests.

use alloy_primitives::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tacit_types::{
    ClusterId, Digest,
    quorum::GatekeeperSet,
    signature::{Signature, SigningKey},
};

use crate::{
    error::ThresholdError,
    subkeys::{Subset, subsets},
};

/// Use of the seal around a sub-key.
pub const SUB_KEY_INFO: &[u8] = b"tacit/genesis/sub-key/1";
/// Most bytes of one sealed sub-key.
pub const MAX_SEALED: usize = 4 * 1024;

/// A sub-key sealed to one member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SealedSubKey {
    /// The member that can open it.
    pub to: u32,
    /// The sealed sub-key.
    pub sealed: Bytes,
}

/// One set's sub-key as its dealer hands it out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DealtSubKey {
    /// The set.
    pub subset: Subset,
    /// What every member compares what it opened with.
    pub commitment: Digest,
    /// For every other member in rising order.
    pub sealed: Vec<SealedSubKey>,
}

/// All sub-keys that one gatekeeper deals, signed by its chain key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Deal {
    /// The dealer.
    pub dealer: u32,
    /// Its sets in rising order; empty for a gatekeeper that is first in none.
    pub sub_keys: Vec<DealtSubKey>,
    /// The dealer's signature over [`Deal::digest`].
    pub signature: Signature,
}

/// Associated data of a sealed sub-key: cluster, set, dealer and recipient.
pub fn sub_key_context(cluster: ClusterId, subset: Subset, dealer: u32, to: u32) -> Vec<u8> {
    let mut out = cluster.as_bytes().to_vec();
    out.push(subset.mask());
    out.extend_from_slice(&dealer.to_be_bytes());
    out.extend_from_slice(&to.to_be_bytes());
    out
}

impl Deal {
    /// Signs a deal.
    pub fn signed(cluster: ClusterId, dealer: u32, sub_keys: Vec<DealtSubKey>, chain_key: &SigningKey) -> Self {
        let digest = deal_digest(cluster, dealer, &sub_keys);
        Self { dealer, sub_keys, signature: chain_key.sign(digest) }
    }

    /// What the dealer signs: SHA-256 over everything dealt.
    pub fn digest(&self, cluster: ClusterId) -> Digest {
        deal_digest(cluster, self.dealer, &self.sub_keys)
    }

    /// Checks the signature and that exactly the sets are dealt, to exactly the members, that this dealer must deal.
    ///
    /// # Errors
    /// [`ThresholdError::Answer`] naming the dealer.
    pub fn verify(&self, set: &GatekeeperSet, cluster: ClusterId) -> Result<(), ThresholdError> {
        let wrong = ThresholdError::Answer(self.dealer);
        let expected =
            subsets(set.size(), set.threshold)?.into_iter().filter(|subset| subset.dealer() == Some(self.dealer));
        let fits = self.sub_keys.iter().map(|dealt| dealt.subset).eq(expected)
            && self.sub_keys.iter().all(|dealt| {
                let others = dealt.subset.members().filter(|member| *member != self.dealer);
                dealt.sealed.iter().map(|sealed| sealed.to).eq(others)
                    && dealt.sealed.iter().all(|sealed| sealed.sealed.len() <= MAX_SEALED)
            });
        let member = set.members.get(self.dealer as usize).ok_or(wrong.clone())?;
        if !fits || self.signature.recover(self.digest(cluster)).ok() != Some(*member) {
            return Err(wrong);
        }
        Ok(())
    }
}

fn deal_digest(cluster: ClusterId, dealer: u32, sub_keys: &[DealtSubKey]) -> Digest {
    let mut hash = Sha256::new();
    hash.update(b"tacit/genesis/deal/1\0");
    hash.update(cluster);
    hash.update(dealer.to_be_bytes());
    hash.update((sub_keys.len() as u64).to_be_bytes());
    for dealt in sub_keys {
        hash.update([dealt.subset.mask()]);
        hash.update(dealt.commitment);
        hash.update((dealt.sealed.len() as u64).to_be_bytes());
        for sealed in &dealt.sealed {
            hash.update(sealed.to.to_be_bytes());
            hash.update(Sha256::digest(&sealed.sealed));
        }
    }
    Digest::from(<[u8; 32]>::from(hash.finalize()))
}

/// The transcript of a dealing: SHA-256 over the digests of all deals in dealer order. Every deal is checked.
///
/// # Errors
/// [`ThresholdError::Answer`] naming the first dealer whose deal is missing, out of order or wrong.
pub fn transcript(set: &GatekeeperSet, cluster: ClusterId, deals: &[Deal]) -> Result<Digest, ThresholdError> {
    let mut hash = Sha256::new();
    hash.update(b"tacit/genesis/transcript/1\0");
    hash.update(cluster);
    for index in 0..set.size() {
        let deal =
            deals.get(index as usize).filter(|deal| deal.dealer == index).ok_or(ThresholdError::Answer(index))?;
        deal.verify(set, cluster)?;
        hash.update(deal.digest(cluster));
    }
    if deals.len() != set.size() as usize {
        return Err(ThresholdError::Answer(set.size()));
    }
    Ok(Digest::from(<[u8; 32]>::from(hash.finalize())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{CLUSTER, gatekeeper_key, set};

    fn deals() -> Vec<Deal> {
        (0..4)
            .map(|dealer| {
                let mine = subsets(4, 2).unwrap().into_iter().filter(|subset| subset.dealer() == Some(dealer));
                let sub_keys = mine
                    .map(|subset| DealtSubKey {
                        subset,
                        commitment: Digest::from([subset.mask(); 32]),
                        sealed: subset
                            .members()
                            .filter(|member| *member != dealer)
                            .map(|to| SealedSubKey { to, sealed: vec![to as u8; 40].into() })
                            .collect(),
                    })
                    .collect();
                Deal::signed(CLUSTER, dealer, sub_keys, &gatekeeper_key(dealer))
            })
            .collect()
    }

    #[test]
    fn a_whole_dealing_has_a_transcript_and_any_change_is_refused() {
        let good = transcript(&set(), CLUSTER, &deals()).unwrap();
        let check = |change: &dyn Fn(&mut Vec<Deal>), dealer| {
            let mut deals = deals();
            change(&mut deals);
            assert_eq!(transcript(&set(), CLUSTER, &deals), Err(ThresholdError::Answer(dealer)));
        };
        check(&|deals| deals.truncate(3), 3);
        check(&|deals| deals.swap(0, 1), 0);
        check(&|deals| deals.push(deals[0].clone()), 4);
        check(&|deals| deals[0].sub_keys[0].commitment = Digest::ZERO, 0);
        check(&|deals| deals[0].sub_keys[0].sealed[0].sealed = vec![1].into(), 0);
        check(&|deals| _ = deals[0].sub_keys.pop(), 0);
        check(&|deals| deals[2].sub_keys = deals[0].sub_keys.clone(), 2);
        check(&|deals| deals[1].signature = deals[0].signature, 1);
        let other = ClusterId::from([1; 32]);
        assert_eq!(transcript(&set(), other, &deals()), Err(ThresholdError::Answer(0)));
        let mut again = deals();
        let mut sub_keys = again[0].sub_keys.clone();
        sub_keys[0].commitment = Digest::ZERO;
        again[0] = Deal::signed(CLUSTER, 0, sub_keys, &gatekeeper_key(0));
        assert_ne!(transcript(&set(), CLUSTER, &again).unwrap(), good);
    }
}
