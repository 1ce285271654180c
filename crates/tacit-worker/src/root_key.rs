//! A function's root key: parts of the gatekeepers, combined; believed when t of them confirm it or when it opens the state.

use std::{collections::BTreeSet, sync::Arc};

use object_store::ObjectStore;
use tacit_api::{
    Problem, ProblemKind,
    gatekeeper::{PARTIAL, PARTIAL_INFO, PartialAnswer, PartialRequest},
};
use tacit_envelope::{TransportKey, open_with};
use tacit_store::{StateKeys, StateLog, StoreError};
use tacit_threshold::{
    HeldLease, ThresholdError,
    subkeys::{self, Combined, FunctionRoot, KeyUse, Partial},
};
use tacit_types::{Address, Digest, register::Position, signature::SigningKey};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::{
    gatekeepers::{Gatekeepers, NoAnswer},
    held::store_problem,
};

/// Why a root key could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RootKeyError {
    #[error("{found} gatekeepers gave their part of the root key, {needed} are needed")]
    TooFew { needed: u32, found: usize },
    #[error("the gatekeepers' parts of the root key contradict each other")]
    Contradiction,
    #[error("{found} gatekeepers gave their part of the root key, too few to confirm it")]
    Unconfirmed { found: usize },
}

impl From<RootKeyError> for Problem {
    fn from(error: RootKeyError) -> Self {
        Self::new(ProblemKind::QuorumUnavailable, error.to_string()).with_hint("nothing was run; try again")
    }
}

/// Opens the state of a held function up to `from`, under a root key that cannot be the invention of fewer than t gatekeepers.
///
/// The parts of any t gatekeepers make a root key. One of them that lies makes a wrong one, which opens no commit. So where
/// there is a commit, t parts are enough if they open it, and more are asked if they do not. Where there is none, nothing would
/// show the lie, and what is written under such a key no other worker could open: t gatekeepers must have said the same.
pub(crate) async fn open_state(
    gatekeepers: &Gatekeepers,
    key: &SigningKey,
    lease: &HeldLease,
    store: Arc<dyn ObjectStore>,
    from: Position,
) -> Result<StateLog, Problem> {
    open_with_parts(Parts::ask(gatekeepers, key, lease), store, from).await
}

async fn open_with_parts(
    mut parts: Parts<'_>,
    store: Arc<dyn ObjectStore>,
    from: Position,
) -> Result<StateLog, Problem> {
    let PartialRequest { function_id: function, key_epoch, .. } = parts.question;
    let open = |root: &FunctionRoot| {
        let keys = StateKeys::new(key_epoch, *root.derive(KeyUse::State));
        StateLog::open(Arc::clone(&store), function, keys, from)
    };
    let first = if from.sequence == 0 { parts.confirmed().await? } else { parts.first().await? };
    let opened = open(&first.root).await;
    let is_doubtful = match &opened {
        Ok(log) => !log.has_opened(key_epoch),
        Err(error) => matches!(error, StoreError::WrongKey { .. }),
    };
    if first.confirmed || !is_doubtful {
        return opened.map_err(|error| store_problem(&error));
    }
    let confirmed = parts.confirmed().await?;
    if confirmed.root == first.root {
        return opened.map_err(|error| store_problem(&error));
    }
    tracing::warn!(%function, liars = ?confirmed.liars, "a root key made of false parts opened nothing");
    open(&confirmed.root).await.map_err(|error| store_problem(&error))
}

/// The gatekeepers' parts of one function's root key, as they come.
struct Parts<'a> {
    gatekeepers: &'a Gatekeepers,
    question: PartialRequest,
    /// Opens the answers; made for this question.
    transport: TransportKey,
    answers: mpsc::Receiver<(u32, Result<PartialAnswer, NoAnswer>)>,
    partials: Vec<Partial>,
    /// Liars that the log names already.
    named: BTreeSet<u32>,
}

impl<'a> Parts<'a> {
    /// Asks all gatekeepers.
    fn ask(gatekeepers: &'a Gatekeepers, key: &SigningKey, lease: &HeldLease) -> Self {
        let transport = TransportKey::generate(&mut rand::rng());
        let mut nonce = [0; 32];
        rand::Rng::fill_bytes(&mut rand::rng(), &mut nonce);
        let public = transport.public().encode();
        let question = PartialRequest::signed(gatekeepers.cluster, lease.clone(), Digest::from(nonce), public, key);
        let answers = gatekeepers.ask_all(PARTIAL, &question);
        Self { gatekeepers, question, transport, answers, partials: Vec::new(), named: BTreeSet::new() }
    }

    /// The root key of the first parts that do not contradict each other, t at least.
    async fn first(&mut self) -> Result<Combined, RootKeyError> {
        self.combined(|_| true).await
    }

    /// The root key once t gatekeepers gave the same value of every set.
    async fn confirmed(&mut self) -> Result<Combined, RootKeyError> {
        self.combined(|combined| combined.confirmed).await
    }

    async fn combined(&mut self, is_enough: impl Fn(&Combined) -> bool) -> Result<Combined, RootKeyError> {
        loop {
            let why = match self.combine() {
                Ok(combined) if is_enough(&combined) => return Ok(combined),
                Ok(_) => RootKeyError::Unconfirmed { found: self.partials.len() },
                Err(error) => error,
            };
            match self.answers.recv().await {
                Some((index, Ok(answer))) => self.take(index, &answer),
                Some((index, Err(error))) => tracing::debug!(gatekeeper = index, %error, "no part of a root key"),
                None => return Err(why),
            }
        }
    }

    fn combine(&mut self) -> Result<Combined, RootKeyError> {
        let (set, cluster) = (&self.gatekeepers.set, self.gatekeepers.cluster);
        let PartialRequest { function_id, key_epoch, .. } = self.question;
        let needed = set.threshold;
        let combined = loop {
            let combined = subkeys::combine(cluster, function_id, key_epoch, set.size(), needed, &self.partials);
            match combined {
                Ok(combined) => break combined,
                Err(ThresholdError::TooFewPartials { found, .. }) => {
                    return Err(RootKeyError::TooFew { needed, found: found as usize });
                }
                Err(ThresholdError::Partial { index }) => {
                    // What lacks a set of its maker's would spoil every sum.
                    tracing::warn!(gatekeeper = index, "its part of a root key is not one");
                    self.partials.retain(|partial| partial.index() != index);
                }
                Err(error) => {
                    tracing::warn!(%error, "the parts of a root key do not combine yet");
                    return Err(RootKeyError::Contradiction);
                }
            }
        };
        for liar in &combined.liars {
            if self.named.insert(*liar) {
                tracing::warn!(gatekeeper = liar, function = %function_id, "gave false parts of a root key");
            }
        }
        Ok(combined)
    }

    /// Takes an answer, if it is one.
    fn take(&mut self, index: u32, answer: &PartialAnswer) {
        let cluster = self.gatekeepers.cluster;
        let member = self.gatekeepers.set.members.get(index as usize).copied().unwrap_or(Address::ZERO);
        if answer.index != index || answer.verify(&self.question, cluster, member).is_err() {
            tracing::warn!(gatekeeper = index, "its part of a root key is not signed by it");
            return;
        }
        let statement = self.question.statement(cluster);
        let Ok(plain) =
            open_with(&self.transport, PARTIAL_INFO, statement.as_bytes(), &answer.sealed).map(Zeroizing::new)
        else {
            tracing::warn!(gatekeeper = index, "its part of a root key does not open");
            return;
        };
        match Partial::from_secret_bytes(index, &plain) {
            Ok(partial) => self.partials.push(partial),
            Err(error) => tracing::warn!(gatekeeper = index, %error, "its part of a root key is not one"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;
    use tacit_api::gatekeeper::Version1;
    use tacit_envelope::{TransportPublicKey, seal_to};
    use tacit_store::Commit;
    use tacit_threshold::subkeys::{SubKey, SubKeys, subsets};
    use tacit_types::{
        ChipId, ClusterId, CodeHash, FunctionId, Head, KeysetDigest, ManifestHash, Measurement, PolicyHash, RootId,
        UnixTime,
        eip712::{Certificate, Platform},
        quorum::GatekeeperSet,
        register::{Lease, LeaseRole},
    };

    const CLUSTER: ClusterId = ClusterId::ZERO;
    const TIME: UnixTime = UnixTime(1_800_000_000);
    const COUNT: u32 = 4;
    const THRESHOLD: u32 = 2;

    /// What one gatekeeper says.
    #[derive(Clone, Copy)]
    enum Says {
        /// Its part.
        Truth,
        /// Its part with another value of the set in this place.
        Lie(usize),
        /// Its part without the last set.
        Less,
    }

    struct Cluster {
        gatekeepers: Gatekeepers,
        sub_keys: Vec<SubKeys>,
        store: Arc<InMemory>,
    }

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32]).unwrap()
    }

    fn lease() -> HeldLease {
        let certificate = Certificate {
            worker: key(100).address(),
            keyset: KeysetDigest::ZERO,
            platform: Platform::Tdx,
            measurement: Measurement::ZERO,
            chip: ChipId::ZERO,
            confidence: 1,
            root: RootId::ZERO,
            policy: PolicyHash::ZERO,
            simulated: true,
            operator: Address::ZERO,
            collateral_time: TIME,
            not_before: TIME,
            not_after: TIME.plus(86_400),
            epoch: 1,
        };
        let lease = Lease {
            function_id: FunctionId::from([9; 32]),
            certificate: certificate.id(CLUSTER),
            role: LeaseRole::Writer,
            fence: 1,
            code_hash: CodeHash::ZERO,
            manifest_hash: ManifestHash::ZERO,
            key_epoch: 1,
            block_number: 1,
            until: TIME.plus(30),
        };
        HeldLease { lease, certificate, signatures: Vec::new() }
    }

    impl Cluster {
        fn new() -> Self {
            let drawn: Vec<_> = subsets(COUNT, THRESHOLD)
                .unwrap()
                .into_iter()
                .map(|subset| (subset, SubKey::generate(&mut rand::rng())))
                .collect();
            let sub_keys = (0..COUNT).map(|index| {
                let own = drawn.iter().filter(|(subset, _)| subset.contains(index));
                let own = own.map(|(subset, key)| (*subset, SubKey::from_bytes(&key.to_secret_bytes()))).collect();
                SubKeys::new(CLUSTER, index, COUNT, THRESHOLD, own).unwrap()
            });
            let members = (0..COUNT).map(|index| key(index as u8 + 1).address()).collect();
            let set = GatekeeperSet { epoch: 1, threshold: THRESHOLD, members };
            Self {
                gatekeepers: Gatekeepers::new(CLUSTER, set, Vec::new()).unwrap(),
                sub_keys: sub_keys.collect(),
                store: Arc::default(),
            }
        }

        fn answer(&self, question: &PartialRequest, index: u32, says: Says) -> PartialAnswer {
            let partial = self.sub_keys[index as usize].partial(question.function_id, question.key_epoch);
            let mut plain = partial.to_secret_bytes();
            match says {
                Says::Truth => {}
                Says::Lie(set) => plain[set * 33 + 7] ^= 1,
                Says::Less => plain.truncate(66),
            }
            let public = TransportPublicKey::parse(&question.transport_key).unwrap();
            let statement = question.statement(CLUSTER);
            let sealed = seal_to(&mut rand::rng(), &public, PARTIAL_INFO, statement.as_bytes(), &plain).unwrap();
            let signature = key(index as u8 + 1).sign(PartialAnswer::statement(question, CLUSTER, index, &sealed));
            PartialAnswer { version: Version1, index, sealed: sealed.into(), signature }
        }

        /// Opens the state with these answers in this order.
        async fn open(&self, from: Position, answers: &[(u32, Says)]) -> Result<StateLog, Problem> {
            let (sender, receiver) = mpsc::channel(answers.len());
            let mut parts = Parts::ask(&self.gatekeepers, &key(100), &lease());
            for (index, says) in answers {
                sender.try_send((*index, Ok(self.answer(&parts.question, *index, *says)))).unwrap();
            }
            parts.answers = receiver;
            drop(sender);
            open_with_parts(parts, Arc::clone(&self.store) as _, from).await
        }

        /// A commit under fence 1, made with the true root key.
        async fn with_state() -> (Self, Position) {
            let cluster = Self::new();
            let honest = [0, 1, 2, 3].map(|index| (index, Says::Truth));
            let mut log = cluster.open(Position::START, &honest).await.unwrap();
            log.write_under(1, 1).unwrap();
            let position = log.append(Commit::default()).await.unwrap().position;
            (cluster, position)
        }
    }

    /// Every order of two answers in which one is a lie.
    fn lies() -> impl Iterator<Item = [(u32, Says); 2]> {
        (0..COUNT).flat_map(|liar| {
            let others = (0..COUNT).filter(move |other| *other != liar);
            others.flat_map(move |other| (0..3).map(move |set| [(liar, Says::Lie(set)), (other, Says::Truth)]))
        })
    }

    fn and_the_others(two: &[(u32, Says); 2]) -> Vec<(u32, Says)> {
        let others = (0..COUNT).filter(|index| two.iter().all(|(first, _)| first != index));
        two.iter().copied().chain(others.map(|index| (index, Says::Truth))).collect()
    }

    #[tokio::test]
    async fn the_first_use_of_a_function_takes_no_single_gatekeepers_word() {
        for two in lies() {
            let cluster = Cluster::new();
            let problem = cluster.open(Position::START, &two).await.err().expect("not confirmed");
            assert_eq!(problem.kind, ProblemKind::QuorumUnavailable);
            let mut log = cluster.open(Position::START, &and_the_others(&two)).await.unwrap();
            log.write_under(1, 1).unwrap();
            let position = log.append(Commit::default()).await.unwrap().position;
            // What was written opens under the true root key.
            let honest = [(0, Says::Truth), (1, Says::Truth), (2, Says::Truth)];
            assert!(cluster.open(position, &honest).await.unwrap().has_opened(1), "{:?}", two.map(|(index, _)| index));
        }
        let cluster = Cluster::new();
        let two = [(0, Says::Truth), (3, Says::Truth)];
        let problem = cluster.open(Position::START, &two).await.err().expect("not confirmed");
        assert_eq!(problem.kind, ProblemKind::QuorumUnavailable);
    }

    #[tokio::test]
    async fn a_position_without_a_commit_counts_as_a_first_use() {
        let cluster = Cluster::new();
        let position = Position { fence: 4, sequence: 0, head: Head::ZERO };
        let two = [(1, Says::Truth), (2, Says::Truth)];
        let problem = cluster.open(position, &two).await.err().expect("not confirmed");
        assert_eq!(problem.kind, ProblemKind::QuorumUnavailable);
        assert!(cluster.open(position, &and_the_others(&two)).await.is_ok());
    }

    #[tokio::test]
    async fn state_opens_with_t_parts_and_in_spite_of_a_lie() {
        let (cluster, position) = Cluster::with_state().await;
        assert!(cluster.open(position, &[(0, Says::Truth), (3, Says::Truth)]).await.unwrap().has_opened(1));
        for two in lies() {
            let log = cluster.open(position, &and_the_others(&two)).await.unwrap();
            assert!(log.has_opened(1) && log.sequence() == 1);
            // Whoever lies cannot make the store look damaged either: too few said the same.
            let problem = cluster.open(position, &two).await.err().expect("not opened");
            assert_eq!(problem.kind, ProblemKind::QuorumUnavailable, "{problem}");
        }
    }

    #[tokio::test]
    async fn a_part_that_is_not_whole_spoils_nothing() {
        let (cluster, position) = Cluster::with_state().await;
        let answers = [(2, Says::Less), (0, Says::Truth), (3, Says::Truth)];
        assert!(cluster.open(position, &answers).await.unwrap().has_opened(1));
    }

    #[tokio::test]
    async fn what_a_store_lost_is_said_without_further_confirmation() {
        let (cluster, position) = Cluster::with_state().await;
        let ahead = Position { sequence: 2, ..position };
        let problem = cluster.open(ahead, &[(0, Says::Truth), (1, Says::Truth)]).await.err().expect("rolled back");
        assert_eq!(problem.kind, ProblemKind::StateRolledBack);
    }

    #[tokio::test]
    async fn state_under_another_key_is_the_stores_fault_once_the_root_is_confirmed() {
        let (mut cluster, position) = Cluster::with_state().await;
        cluster.sub_keys = Cluster::new().sub_keys;
        let three = [(0, Says::Truth), (1, Says::Truth), (2, Says::Truth)];
        let problem = cluster.open(position, &three).await.err().expect("not opened");
        assert_eq!(problem.kind, ProblemKind::StorageUnavailable);
        let problem = cluster.open(position, &three[..2]).await.err().expect("not opened");
        assert_eq!(problem.kind, ProblemKind::QuorumUnavailable);
    }
}
