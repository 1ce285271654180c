//! Function root keys from replicated sub-keys: what a threshold key replaces later.
//!
//! For every set of n−t+1 gatekeepers there is one random sub-key that its members alone know. The root of a function is
//! made of one value of each set. Any t gatekeepers have a member in every set; t−1 gatekeepers miss the set of all others.

use std::collections::BTreeMap;

use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use tacit_types::{ClusterId, Digest, FunctionId};
use zeroize::{Zeroize, Zeroizing};

use crate::error::ThresholdError;

/// Most gatekeepers of a cluster with replicated sub-keys: there are C(n, t−1) of them.
pub const MAX_GATEKEEPERS: u32 = 5;

/// A set of gatekeepers as a bit mask: bit i stands for gatekeeper i.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Subset(u8);

impl Subset {
    /// The set with this mask.
    pub const fn from_mask(mask: u8) -> Self {
        Self(mask)
    }

    /// The mask.
    pub const fn mask(self) -> u8 {
        self.0
    }

    /// Whether gatekeeper `index` is a member.
    pub const fn contains(self, index: u32) -> bool {
        index < 8 && self.0 & (1 << index) != 0
    }

    /// The members in rising order.
    pub fn members(self) -> impl Iterator<Item = u32> {
        (0..8).filter(move |index| self.contains(*index))
    }

    /// The member that draws the sub-key: the first.
    pub fn dealer(self) -> Option<u32> {
        self.members().next()
    }
}

/// Every set of n−t+1 of `count` gatekeepers, in rising order of their masks.
///
/// # Errors
/// [`ThresholdError::Shape`] unless 1 ≤ t ≤ n ≤ [`MAX_GATEKEEPERS`].
pub fn subsets(count: u32, threshold: u32) -> Result<Vec<Subset>, ThresholdError> {
    if !(1..=MAX_GATEKEEPERS).contains(&count) || !(1..=count).contains(&threshold) {
        return Err(ThresholdError::Shape { count, threshold });
    }
    let size = count - threshold + 1;
    Ok((1u8..1 << count).filter(|mask| mask.count_ones() == size).map(Subset).collect())
}

/// One sub-key. Wiped when dropped; compared in constant time; has no `Debug`.
pub struct SubKey(Zeroizing<[u8; 32]>);

impl SubKey {
    /// A new random sub-key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        rng.fill_bytes(bytes.as_mut_slice());
        Self(bytes)
    }

    /// The sub-key with these bytes.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(Zeroizing::new(*bytes))
    }

    /// The secret bytes, to be sealed to another member.
    pub fn to_secret_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.0.clone()
    }

    /// What the dealer publishes, so that all members know that they hold the same sub-key.
    pub fn commitment(&self, cluster: ClusterId, subset: Subset) -> Digest {
        let mut hash = Sha256::new();
        hash.update(b"tacit/sub-key/commitment/1");
        hash.update(cluster);
        hash.update([subset.mask()]);
        hash.update(self.0.as_slice());
        Digest::from(<[u8; 32]>::from(hash.finalize()))
    }

    fn value(&self, cluster: ClusterId, subset: Subset, function: FunctionId, key_epoch: u64) -> Zeroizing<[u8; 32]> {
        let mut mac =
            <Hmac<Sha256> as Mac>::new_from_slice(self.0.as_slice()).expect("HMAC takes keys of every length");
        mac.update(b"tacit/sub-key/value/1");
        mac.update(cluster.as_ref());
        mac.update(&[subset.mask()]);
        mac.update(function.as_ref());
        mac.update(&key_epoch.to_be_bytes());
        Zeroizing::new(mac.finalize().into_bytes().into())
    }
}

impl PartialEq for SubKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_slice().ct_eq(other.0.as_slice()).into()
    }
}

/// The sub-keys that one gatekeeper knows.
pub struct SubKeys {
    cluster: ClusterId,
    index: u32,
    keys: BTreeMap<Subset, SubKey>,
}

impl SubKeys {
    /// Takes the sub-keys of gatekeeper `index` of `count`; there must be one for each set that it is in, and no other.
    ///
    /// # Errors
    /// [`ThresholdError::Shape`] or [`ThresholdError::Subset`].
    pub fn new(
        cluster: ClusterId,
        index: u32,
        count: u32,
        threshold: u32,
        keys: BTreeMap<Subset, SubKey>,
    ) -> Result<Self, ThresholdError> {
        let expected: Vec<_> = subsets(count, threshold)?.into_iter().filter(|subset| subset.contains(index)).collect();
        if let Some(missing) = expected.iter().find(|subset| !keys.contains_key(subset)) {
            return Err(ThresholdError::Subset(missing.mask()));
        }
        if let Some(foreign) = keys.keys().find(|subset| !expected.contains(subset)) {
            return Err(ThresholdError::Subset(foreign.mask()));
        }
        Ok(Self { cluster, index, keys })
    }

    /// This gatekeeper's part of a function's root key.
    pub fn partial(&self, function: FunctionId, key_epoch: u64) -> Partial {
        let values = self
            .keys
            .iter()
            .map(|(subset, key)| (*subset, key.value(self.cluster, *subset, function, key_epoch)))
            .collect();
        Partial { index: self.index, values }
    }

    /// Mask and sub-key of every set, to be sealed to disk.
    pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(self.keys.len() * 33));
        for (subset, key) in &self.keys {
            out.push(subset.mask());
            out.extend_from_slice(key.0.as_slice());
        }
        out
    }

    /// Reads [`Self::to_secret_bytes`].
    ///
    /// # Errors
    /// As [`Self::new`], and [`ThresholdError::Partial`] for bytes of another form.
    pub fn from_secret_bytes(
        cluster: ClusterId,
        index: u32,
        count: u32,
        threshold: u32,
        bytes: &[u8],
    ) -> Result<Self, ThresholdError> {
        let keys = read_values(bytes, index)?.into_iter().map(|(subset, value)| (subset, SubKey(value))).collect();
        Self::new(cluster, index, count, threshold, keys)
    }
}

/// One gatekeeper's part of a function's root key. Wiped when dropped; has no `Debug`.
pub struct Partial {
    index: u32,
    values: BTreeMap<Subset, Zeroizing<[u8; 32]>>,
}

impl Partial {
    /// The gatekeeper that made it.
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// Mask and value of every set, to be sealed to the worker.
    pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(self.values.len() * 33));
        for (subset, value) in &self.values {
            out.push(subset.mask());
            out.extend_from_slice(value.as_slice());
        }
        out
    }

    /// Reads what gatekeeper `index` sealed.
    ///
    /// # Errors
    /// [`ThresholdError::Partial`] for bytes of another form, with a set named twice or one that `index` is not in.
    pub fn from_secret_bytes(index: u32, bytes: &[u8]) -> Result<Self, ThresholdError> {
        Ok(Self { index, values: read_values(bytes, index)? })
    }
}

fn read_values(bytes: &[u8], index: u32) -> Result<BTreeMap<Subset, Zeroizing<[u8; 32]>>, ThresholdError> {
    let mut values = BTreeMap::new();
    if bytes.is_empty() || !bytes.len().is_multiple_of(33) || bytes.len() > 33 * 16 {
        return Err(ThresholdError::Partial { index });
    }
    for chunk in bytes.chunks_exact(33) {
        let subset = Subset(chunk[0]);
        let mut value = Zeroizing::new([0; 32]);
        value.copy_from_slice(&chunk[1..]);
        if !subset.contains(index) || values.insert(subset, value).is_some() {
            return Err(ThresholdError::Partial { index });
        }
    }
    Ok(values)
}

/// A root key, how sure it is, and who gave values that others contradicted.
pub struct Combined {
    /// The function's root key.
    pub root: FunctionRoot,
    /// Whether t gatekeepers gave the same value of every set. At most t−1 lie, so a confirmed root is the right one; a root
    /// that is not confirmed may be a single gatekeeper's invention, until it opens something that was sealed under the right one.
    pub confirmed: bool,
    /// Gatekeepers whose value was outvoted by t others; nobody honest is among them.
    pub liars: Vec<u32>,
}

/// Combines the partials of at least t of `count` gatekeepers.
///
/// Members of one set must agree. Where they do not, the value that t of them gave is the right one, as at most t−1 lie;
/// without such a value the sets are named and more gatekeepers must be asked. Agreement alone proves nothing where fewer than
/// t speak for a set: see [`Combined::confirmed`]. Any 2t−1 honest gatekeepers confirm every set.
///
/// # Errors
/// [`ThresholdError::TooFewPartials`], [`ThresholdError::Partial`] for a partial that lacks one of its maker's sets or
/// comes twice, [`ThresholdError::Disagreement`].
pub fn combine(
    cluster: ClusterId,
    function: FunctionId,
    key_epoch: u64,
    count: u32,
    threshold: u32,
    partials: &[Partial],
) -> Result<Combined, ThresholdError> {
    let subsets = subsets(count, threshold)?;
    for (position, partial) in partials.iter().enumerate() {
        let complete = partial.index < count
            && subsets.iter().all(|subset| subset.contains(partial.index) == partial.values.contains_key(subset))
            && partial.values.keys().all(|subset| subsets.contains(subset))
            && !partials[..position].iter().any(|earlier| earlier.index == partial.index);
        if !complete {
            return Err(ThresholdError::Partial { index: partial.index });
        }
    }
    if partials.len() < threshold as usize {
        return Err(ThresholdError::TooFewPartials { needed: threshold, found: partials.len() as u32 });
    }
    let mut sum = Zeroizing::new([0u8; 32]);
    let (mut liars, mut disputed) = (Vec::new(), Vec::new());
    let mut confirmed = true;
    for subset in &subsets {
        let given: Vec<_> =
            partials.iter().filter_map(|partial| Some((partial.index, partial.values.get(subset)?))).collect();
        let agreeing = |value: &Zeroizing<[u8; 32]>| {
            given.iter().filter(|(_, other)| bool::from(other.as_slice().ct_eq(value.as_slice()))).count()
        };
        let (_, best) = given
            .iter()
            .max_by_key(|(index, value)| (agreeing(value), u32::MAX - index))
            .ok_or(ThresholdError::TooFewPartials { needed: threshold, found: partials.len() as u32 })?;
        let support = agreeing(best);
        confirmed &= support >= threshold as usize;
        if support < given.len() {
            if support < threshold as usize {
                disputed.push(subset.mask());
            } else {
                liars.extend(
                    given
                        .iter()
                        .filter(|(_, value)| !bool::from(value.as_slice().ct_eq(best.as_slice())))
                        .map(|(index, _)| *index),
                );
            }
        }
        sum.iter_mut().zip(best.iter()).for_each(|(sum, value)| *sum ^= value);
    }
    if !disputed.is_empty() {
        return Err(ThresholdError::Disagreement { subsets: disputed });
    }
    liars.sort_unstable();
    liars.dedup();
    Ok(Combined { root: FunctionRoot::extract(cluster, function, key_epoch, &sum), confirmed, liars })
}

/// The root key of one function in one key epoch. Wiped when dropped; has no `Debug`.
#[derive(Clone)]
pub struct FunctionRoot(Zeroizing<[u8; 32]>);

/// What a key below a function's root is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyUse<'a> {
    /// Seals the commits of the state log.
    State,
    /// Seals the set of secrets.
    Secrets,
    /// Wallet of a chain family.
    Wallet(&'a str),
    /// TLS end points.
    Tls,
    /// Verifiable randomness.
    Vrf,
    /// A key that the author's code asked for by a label.
    Export(&'a str),
}

impl KeyUse<'_> {
    fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::State => ("state", ""),
            Self::Secrets => ("secrets", ""),
            Self::Wallet(family) => ("wallet", family),
            Self::Tls => ("tls", ""),
            Self::Vrf => ("vrf", ""),
            Self::Export(label) => ("export", label),
        }
    }
}

impl PartialEq for FunctionRoot {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_slice().ct_eq(other.0.as_slice()).into()
    }
}

impl FunctionRoot {
    fn extract(cluster: ClusterId, function: FunctionId, key_epoch: u64, sum: &Zeroizing<[u8; 32]>) -> Self {
        let mut info = Vec::with_capacity(72);
        info.extend_from_slice(cluster.as_ref());
        info.extend_from_slice(function.as_ref());
        info.extend_from_slice(&key_epoch.to_be_bytes());
        let mut root = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(Some(b"tacit/function-root/1"), sum.as_slice())
            .expand(&info, root.as_mut_slice())
            .expect("32 bytes are within HKDF's limit");
        Self(root)
    }

    /// The key for one use: HKDF-SHA256 of the root, info = `tacit/key/1`, then use and label, each behind its length (u16).
    pub fn derive(&self, key_use: KeyUse<'_>) -> Zeroizing<[u8; 32]> {
        let (name, label) = key_use.parts();
        let mut info = b"tacit/key/1".to_vec();
        for part in [name, label] {
            let length = u16::try_from(part.len()).expect("labels are bounded far below 64 KiB by the manifest");
            info.extend_from_slice(&length.to_be_bytes());
            info.extend_from_slice(part.as_bytes());
        }
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(None, self.0.as_slice())
            .expand(&info, key.as_mut_slice())
            .expect("32 bytes are within HKDF's limit");
        info.zeroize();
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CLUSTER: ClusterId = ClusterId::ZERO;

    /// Bytes that count up; good enough where a test only needs distinct keys.
    pub(crate) struct Counter(pub u8);

    impl rand_core::TryRng for Counter {
        type Error = std::convert::Infallible;
        fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
            self.0 = self.0.wrapping_add(1);
            Ok(u32::from(self.0))
        }
        fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
            Ok(u64::from(self.try_next_u32()?))
        }
        fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
            self.0 = self.0.wrapping_add(1);
            out.fill(self.0);
            Ok(())
        }
    }
    impl rand_core::TryCryptoRng for Counter {}

    fn cluster(count: u32, threshold: u32) -> Vec<SubKeys> {
        let mut rng = Counter(0);
        let drawn: Vec<_> =
            subsets(count, threshold).unwrap().into_iter().map(|s| (s, SubKey::generate(&mut rng))).collect();
        (0..count)
            .map(|index| {
                let mine = drawn
                    .iter()
                    .filter(|(subset, _)| subset.contains(index))
                    .map(|(subset, key)| (*subset, SubKey::from_bytes(&key.to_secret_bytes())))
                    .collect();
                SubKeys::new(CLUSTER, index, count, threshold, mine).unwrap()
            })
            .collect()
    }

    fn root(
        count: u32,
        threshold: u32,
        partials: &[Partial],
    ) -> Result<(Zeroizing<[u8; 32]>, Vec<u32>), ThresholdError> {
        combine(CLUSTER, FunctionId::from([7; 32]), 1, count, threshold, partials)
            .map(|found| (found.root.0.clone(), found.liars))
    }

    #[test]
    fn any_t_agree_and_fewer_miss_a_sub_key() {
        for (count, threshold) in (1..=5).flat_map(|n| (1..=n).map(move |t| (n, t))) {
            let nodes = cluster(count, threshold);
            let partials = |mask: u32| -> Vec<Partial> {
                (0..count)
                    .filter(|i| mask & (1 << i) != 0)
                    .map(|i| nodes[i as usize].partial(FunctionId::from([7; 32]), 1))
                    .collect()
            };
            let everyone = root(count, threshold, &partials((1 << count) - 1)).unwrap();
            for mask in 0u32..1 << count {
                let held: std::collections::BTreeSet<_> = (0..count)
                    .filter(|i| mask & (1 << i) != 0)
                    .flat_map(|i| nodes[i as usize].keys.keys().copied())
                    .collect();
                if mask.count_ones() >= threshold {
                    assert_eq!(
                        root(count, threshold, &partials(mask)).unwrap(),
                        everyone,
                        "{count} {threshold} {mask:b}"
                    );
                } else {
                    let found = mask.count_ones();
                    assert!(matches!(root(count, threshold, &partials(mask)),
                        Err(ThresholdError::TooFewPartials { needed, found: f }) if needed == threshold && f == found));
                    assert!(held.len() < subsets(count, threshold).unwrap().len(), "{count} {threshold} {mask:b}");
                }
            }
        }
    }

    #[test]
    fn a_lying_gatekeeper_is_outvoted_or_the_sets_are_named() {
        let nodes = cluster(4, 2);
        let function = FunctionId::from([7; 32]);
        let honest: Vec<_> = (0..4).map(|i| nodes[i].partial(function, 1)).collect();
        let expected = root(4, 2, &honest).unwrap().0;
        let mut bytes = honest[1].to_secret_bytes();
        bytes[5] ^= 1;
        let lie = || Partial::from_secret_bytes(1, &bytes).unwrap();
        let four = [nodes[0].partial(function, 1), lie(), nodes[2].partial(function, 1), nodes[3].partial(function, 1)];
        assert_eq!(root(4, 2, &four).unwrap(), (expected, vec![1]));
        let two = [nodes[0].partial(function, 1), lie()];
        assert!(matches!(root(4, 2, &two), Err(ThresholdError::Disagreement { subsets }) if subsets == [0b0111]));
    }

    /// All ways in which up to t−1 gatekeepers can lie alike about one set or about all of theirs, and all sets of answers.
    #[test]
    fn no_wrong_root_is_ever_confirmed() {
        for (count, threshold) in [(4u32, 2u32), (5, 2), (5, 3)] {
            let nodes = cluster(count, threshold);
            let function = FunctionId::from([7; 32]);
            let sets = subsets(count, threshold).unwrap();
            let lies: Vec<Option<Subset>> = sets.iter().copied().map(Some).chain([None]).collect();
            let honest: Vec<_> = nodes.iter().map(|node| node.partial(function, 1)).collect();
            let right = combine(CLUSTER, function, 1, count, threshold, &honest).unwrap().root;
            let (mut wrong, mut confirmed, mut undecided) = (0, 0, 0);
            for liars in (0u32..1 << count).filter(|liars| liars.count_ones() < threshold) {
                for lie in &lies {
                    for answers in (0u32..1 << count).filter(|answers| answers.count_ones() >= threshold) {
                        let partials: Vec<_> = (0..count)
                            .filter(|index| answers & (1 << index) != 0)
                            .map(|index| {
                                let mut partial = nodes[index as usize].partial(function, 1);
                                if liars & (1 << index) != 0 {
                                    let about = |subset: &Subset| lie.is_none_or(|lie| lie == *subset);
                                    let told = partial.values.iter_mut().filter(|(subset, _)| about(subset));
                                    told.for_each(|(_, value)| value[9] ^= 1);
                                }
                                partial
                            })
                            .collect();
                        let case = format!("{threshold} of {count}, liars {liars:05b}, answers {answers:05b}, {lie:?}");
                        match combine(CLUSTER, function, 1, count, threshold, &partials) {
                            Ok(combined) => {
                                let is_right = combined.root == right;
                                assert!(is_right || !combined.confirmed, "a wrong root is confirmed: {case}");
                                assert!(combined.liars.iter().all(|index| liars & (1 << index) != 0), "{case}");
                                wrong += u32::from(!is_right);
                                confirmed += u32::from(combined.confirmed);
                                let honest = (answers & !liars).count_ones();
                                assert!(combined.confirmed || honest < 2 * threshold - 1, "not confirmed: {case}");
                            }
                            Err(ThresholdError::Disagreement { .. }) => {
                                undecided += 1;
                                assert!((answers & !liars).count_ones() < 2 * threshold - 1, "not decided: {case}");
                            }
                            Err(error) => panic!("{error}: {case}"),
                        }
                    }
                }
            }
            // The lies do make wrong roots where nobody asks for confirmation; else this test would show nothing.
            assert!(wrong > 0 && confirmed > 0 && undecided > 0, "{wrong} {confirmed} {undecided}");
        }
    }

    #[test]
    fn t_honest_answers_that_nobody_contradicts_are_not_confirmed() {
        let nodes = cluster(4, 2);
        let function = FunctionId::from([7; 32]);
        let check = |indices: &[usize], expected: bool| {
            let partials: Vec<_> = indices.iter().map(|index| nodes[*index].partial(function, 1)).collect();
            let combined = combine(CLUSTER, function, 1, 4, 2, &partials).unwrap();
            assert_eq!(combined.confirmed, expected, "{indices:?}");
        };
        check(&[0, 1], false);
        check(&[2, 3], false);
        check(&[0, 1, 2], true);
        check(&[0, 2, 3], true);
        check(&[0, 1, 2, 3], true);
    }

    #[test]
    fn partials_of_another_form_are_refused() {
        let nodes = cluster(4, 2);
        let partial = |i: usize| nodes[i].partial(FunctionId::from([7; 32]), 1);
        let bytes = partial(0).to_secret_bytes();
        let check = |index, bytes: &[u8]| {
            assert!(
                matches!(Partial::from_secret_bytes(index, bytes), Err(ThresholdError::Partial { .. })),
                "{}",
                bytes.len()
            );
        };
        check(0, &[]);
        check(0, &bytes[1..]);
        check(3, &bytes);
        check(0, &[bytes.as_slice(), &bytes[..33]].concat());
        let short = Partial::from_secret_bytes(0, &bytes[..33]).unwrap();
        assert!(matches!(root(4, 2, &[short, partial(1)]), Err(ThresholdError::Partial { index: 0 })));
        assert!(matches!(root(4, 2, &[partial(1), partial(1)]), Err(ThresholdError::Partial { index: 1 })));
    }

    #[test]
    fn keys_differ_by_function_epoch_use_and_label() {
        let nodes = cluster(4, 2);
        let root = |function: u8, epoch| {
            let id = FunctionId::from([function; 32]);
            let partials = [nodes[0].partial(id, epoch), nodes[3].partial(id, epoch)];
            combine(CLUSTER, id, epoch, 4, 2, &partials).unwrap().root
        };
        let base = root(1, 1);
        let keys = [
            base.derive(KeyUse::State),
            base.derive(KeyUse::Secrets),
            base.derive(KeyUse::Tls),
            base.derive(KeyUse::Vrf),
            base.derive(KeyUse::Wallet("evm")),
            base.derive(KeyUse::Wallet("substrate")),
            base.derive(KeyUse::Export("evm")),
            base.derive(KeyUse::Export("")),
            root(2, 1).derive(KeyUse::State),
            root(1, 2).derive(KeyUse::State),
        ];
        let distinct: std::collections::BTreeSet<_> = keys.iter().map(|key| **key).collect();
        assert_eq!(distinct.len(), keys.len());
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(index in 0u32..10, bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
            let _ = Partial::from_secret_bytes(index, &bytes);
            let _ = SubKeys::from_secret_bytes(CLUSTER, index, 4, 2, &bytes);
        }
    }
}
