//! Publications: how they wait in a function's state until they are delivered, and what their receipts commit to.

use bytes::Bytes;
use tacit_receipt::Effect;
use tacit_runtime::{Destination, HostError};
use tacit_store::{Key, Overlay, Snapshot, Space, StoreError};
use tacit_types::{
    Address, CallId, CodeHash, FunctionId, UnixTime,
    chain::Publication,
    eip712::{Kind, Outcome, keccak},
    formats::{publish_call_id, publish_request},
    manifest::{Body, Manifest, is_home_chain},
};

use crate::{
    host::View,
    outcome::{Ended, Request, Salts},
};

/// Publications of one function that wait at the same time; past it no call publishes.
const MOST_WAITING: usize = 1_024;
/// Sequences that are kept for one function, one for each contract and topic.
const MOST_SEQUENCES: usize = 1_024;

const VERSION: u8 = 1;
/// Names of the last sequences, in the part of the state that code cannot reach.
const SEQUENCES: &str = "publish/sequence/";
/// Names of what waits.
const WAITING: &str = "publish/waiting/";
/// Digits of a number in a name: as many as the largest has, so that names sort as numbers do.
const DIGITS: usize = 20;

/// Where publications with one rising sequence go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Lane {
    pub chain_id: u64,
    pub consumer: Address,
    pub topic: String,
}

impl Lane {
    pub fn of(publication: &Publication) -> Self {
        let Publication { chain_id, consumer, topic, .. } = publication;
        Self { chain_id: *chain_id, consumer: *consumer, topic: topic.clone() }
    }

    fn name(&self) -> String {
        format!("{:0DIGITS$}/{}/{}", self.chain_id, self.consumer, self.topic)
    }

    /// Where the sequence of the last publication is kept.
    pub fn sequence_key(&self) -> Key {
        Key::system(format!("{SEQUENCES}{}", self.name()))
    }

    fn waiting_key(&self, sequence: u64) -> Key {
        Key::system(format!("{WAITING}{}/{sequence:0DIGITS$}", self.name()))
    }

    /// Lane and sequence in a waiting publication's name.
    fn parse(name: &str) -> Option<(Self, u64)> {
        let (lane, sequence) = name.strip_prefix(WAITING)?.rsplit_once('/')?;
        let (chain_id, rest) = lane.split_once('/')?;
        let (consumer, topic) = rest.split_once('/')?;
        let lane = Self { chain_id: chain_id.parse().ok()?, consumer: consumer.parse().ok()?, topic: topic.to_owned() };
        let sequence = sequence.parse().ok()?;
        (lane.waiting_key(sequence).name == name).then_some((lane, sequence))
    }
}

/// The one chain that can be published to so far.
pub(crate) struct HomeChain {
    /// Name of the network, which is a name of the chain too.
    pub network: String,
    pub chain_id: u64,
}

/// The contract that a publication goes to, as far as the manifest and the state let it.
pub(crate) fn destination(
    view: &View,
    manifest: &Manifest,
    home: &HomeChain,
    [chain, contract, topic]: [&str; 3],
) -> Result<Destination, HostError> {
    if !is_home_chain(chain, &home.network) {
        let line = "this network publishes on no chain of that name; its home chain is \"local\"";
        return Err(HostError::Denied(line.into()));
    }
    let consumer: Address = contract
        .to_ascii_lowercase()
        .parse()
        .map_err(|error| HostError::Invalid(format!("the contract's address {error}")))?;
    if !manifest.may_publish(&home.network, consumer) {
        return Err(HostError::Denied(format!(
            "the manifest does not let the function publish to {consumer} on {chain}; add to tacit.toml:\n\
             [[publish]]\nchain = \"{chain}\"\ncontract = \"{consumer}\""
        )));
    }
    let lane = Lane { chain_id: home.chain_id, consumer, topic: topic.to_owned() };
    let last =
        view.value(&lane.sequence_key()).and_then(|value| Some(u64::from_be_bytes(value.as_ref().try_into().ok()?)));
    let is_full = |prefix, most| view.list(Space::System, prefix, None, most).len() >= most;
    if last.is_none() && is_full(SEQUENCES, MOST_SEQUENCES) {
        let line = format!("a function publishes under at most {MOST_SEQUENCES} contracts and topics");
        return Err(HostError::Denied(line));
    }
    if is_full(WAITING, MOST_WAITING) {
        let line = format!("{MOST_WAITING} publications of the function wait for delivery already");
        return Err(HostError::Unavailable(line));
    }
    Ok(Destination { chain_id: lane.chain_id, contract: consumer, last: last.unwrap_or(0) })
}

/// A publication that is committed and not seen final on its chain yet.
#[derive(Clone)]
pub(crate) struct Waiting {
    pub publication: Publication,
    /// The call that published.
    pub parent: CallId,
    /// Its place among those of that call.
    pub index: u64,
    /// Fence under which it was committed.
    pub fence: u64,
    /// When the call began.
    pub time: UnixTime,
    pub code_hash: CodeHash,
    pub salts: Salts,
    pub method: String,
    pub caller: Option<Address>,
}

impl Waiting {
    /// The publications of a call that ended.
    pub fn of_call(
        publications: Vec<Publication>,
        request: &Request,
        ended: &Ended,
        fence: u64,
        time: UnixTime,
    ) -> Vec<Self> {
        let waiting = publications.into_iter().zip(0..).map(|(publication, index)| Self {
            publication,
            parent: request.call_id,
            index,
            fence,
            time,
            code_hash: ended.code_hash,
            salts: ended.salts.of_publication(index),
            method: request.method.clone(),
            caller: request.caller,
        });
        waiting.collect()
    }

    pub fn lane(&self) -> Lane {
        Lane::of(&self.publication)
    }

    /// The name under which it waits.
    pub fn key(&self) -> Key {
        self.lane().waiting_key(self.publication.sequence)
    }

    /// Puts it among those that wait, and moves the sequence on.
    pub fn write(&self, overlay: &mut Overlay) -> Result<(), StoreError> {
        let sequence = self.publication.sequence.to_be_bytes();
        overlay.set(self.lane().sequence_key(), Bytes::copy_from_slice(&sequence))?;
        overlay.set(self.key(), self.encode().into())
    }

    /// What the call's receipt says of it.
    pub fn effect(&self) -> Effect {
        let Publication { chain_id, consumer, topic, sequence, data } = &self.publication;
        Effect::Publish {
            chain_id: *chain_id,
            consumer: *consumer,
            topic: topic.clone(),
            sequence: *sequence,
            data: keccak(data),
        }
    }

    /// What its own receipt is about.
    pub fn request(&self, function: FunctionId) -> Request {
        Request {
            function,
            method: self.method.clone(),
            body: publish_request(self.parent, self.index).into(),
            caller: self.caller,
            call_id: publish_call_id(function, self.parent, self.index),
        }
    }

    /// What its own receipt says. The call's receipt bills the fuel and names the effects.
    pub fn ended(&self) -> Ended {
        Ended {
            kind: Kind::Publish,
            outcome: Outcome::Ok,
            response: self.publication.encode().into(),
            format: Body::Bytes,
            salts: self.salts.clone(),
            effects: Vec::new(),
            fuel: 0,
            code_hash: self.code_hash,
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256 + self.publication.data.len());
        out.push(VERSION);
        out.extend_from_slice(self.parent.as_bytes());
        out.extend_from_slice(&self.index.to_be_bytes());
        out.extend_from_slice(&self.fence.to_be_bytes());
        out.extend_from_slice(&self.time.0.to_be_bytes());
        out.extend_from_slice(self.code_hash.as_bytes());
        out.extend_from_slice(self.salts.as_bytes());
        out.push(u8::from(self.caller.is_some()));
        out.extend_from_slice(self.caller.unwrap_or(Address::ZERO).as_bytes());
        out.extend_from_slice(&(self.method.len() as u64).to_be_bytes());
        out.extend_from_slice(self.method.as_bytes());
        out.extend_from_slice(&self.publication.data);
        out
    }

    /// Reads one back; `None` for what this build did not write.
    pub fn decode(name: &str, value: &[u8]) -> Option<Self> {
        fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
            let (number, rest) = bytes.split_first_chunk::<8>()?;
            Some((u64::from_be_bytes(*number), rest))
        }
        let (lane, sequence) = Lane::parse(name)?;
        let (version, rest) = value.split_first()?;
        let (parent, rest) = rest.split_first_chunk::<32>()?;
        let (index, rest) = number(rest)?;
        let (fence, rest) = number(rest)?;
        let (time, rest) = number(rest)?;
        let (code_hash, rest) = rest.split_first_chunk::<32>()?;
        let (salts, rest) = rest.split_first_chunk::<32>()?;
        let (has_caller, rest) = rest.split_first()?;
        let (caller, rest) = rest.split_first_chunk::<20>()?;
        let (length, rest) = number(rest)?;
        let (method, data) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        if *version != VERSION || *has_caller > 1 {
            return None;
        }
        let Lane { chain_id, consumer, topic } = lane;
        Some(Self {
            publication: Publication { chain_id, consumer, topic, sequence, data: data.to_vec() },
            parent: (*parent).into(),
            index,
            fence,
            time: UnixTime(time),
            code_hash: (*code_hash).into(),
            salts: Salts::from_bytes(*salts),
            method: std::str::from_utf8(method).ok()?.to_owned(),
            caller: (*has_caller == 1).then(|| (*caller).into()),
        })
    }
}

/// What waits in a state: by lane, then by sequence.
pub(crate) fn waiting(snapshot: &Snapshot) -> Vec<Waiting> {
    // A call that began below the bound may end a little above it.
    let found = snapshot.list(Space::System, WAITING, None, MOST_WAITING * 2);
    let mut waiting = Vec::with_capacity(found.len());
    for (name, value) in found {
        match Waiting::decode(&name, &value) {
            Some(read) => waiting.push(read),
            None => tracing::error!("a waiting publication cannot be read: another build wrote it"),
        }
    }
    waiting
}

/// Whether anything waits in a state.
pub(crate) fn any_waiting(snapshot: &Snapshot) -> bool {
    !snapshot.list(Space::System, WAITING, None, 1).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tacit_store::{Batch, StateKeys, StateLog};
    use tacit_types::{
        Head,
        formats::{Tag, commit},
        register::Position,
    };

    fn waiting(topic: &str, sequence: u64, caller: Option<Address>) -> Waiting {
        Waiting {
            publication: Publication {
                chain_id: 31_337,
                consumer: Address::from([1; 20]),
                topic: topic.into(),
                sequence,
                data: b"data".to_vec(),
            },
            parent: CallId::from([2; 32]),
            index: 3,
            fence: 4,
            time: UnixTime(5),
            code_hash: CodeHash::from([6; 32]),
            salts: Salts::of_seed(&[7; 32]),
            method: "price".into(),
            caller,
        }
    }

    #[test]
    fn what_waits_reads_back_and_nothing_shorter_does() {
        for topic in ["a", "a/b", "00000000000000000007", "a/00000000000000000007", "/", "\n"] {
            for caller in [None, Some(Address::from([8; 20]))] {
                let one = waiting(topic, u64::MAX, caller);
                let (key, value) = (one.key(), one.encode());
                assert_eq!(key.space, Space::System);
                let again = Waiting::decode(&key.name, &value).unwrap();
                assert_eq!((&again.publication, again.caller), (&one.publication, caller));
                assert_eq!(again.encode(), value);
                for length in 0..value.len() - one.publication.data.len() {
                    assert!(Waiting::decode(&key.name, &value[..length]).is_none());
                }
                let mut other = value.clone();
                other[0] = 9;
                assert!(Waiting::decode(&key.name, &other).is_none());
            }
        }
        let value = waiting("a", 1, None).encode();
        for name in ["", "publish/waiting/", "publish/waiting/1/2/3/4", "publish/sequence/a"] {
            assert!(Waiting::decode(name, &value).is_none());
        }
    }

    #[test]
    fn names_sort_by_sequence_and_no_two_lanes_share_one() {
        let name = |topic: &str, sequence| waiting(topic, sequence, None).key().name;
        assert!(name("a", 9) < name("a", 10));
        assert_ne!(name("a/00000000000000000001", 2), name("a", 1));
        let longest = waiting(&"t".repeat(64), u64::MAX, None);
        assert!(longest.key().name.len() <= tacit_store::MAX_KEY_BYTES);
        assert!(longest.lane().sequence_key().name.len() <= tacit_store::MAX_KEY_BYTES);
    }

    #[tokio::test]
    async fn what_may_be_published_is_bounded() {
        let store = Arc::new(object_store::memory::InMemory::new());
        let keys = StateKeys::new(1, [1; 32]);
        let start = Position { fence: 0, sequence: 0, head: Head::ZERO };
        let log = StateLog::open(store, FunctionId::from([9; 32]), keys, start).await.unwrap();
        let snapshot = Arc::new(log.snapshot());
        let manifest = |entries: &str| Manifest::from_toml(&format!("[function]\nname = \"a\"\n{entries}")).unwrap();
        let any = manifest("[[publish]]\nchain = \"local\"\ncontract = \"any\"\n");
        let home = HomeChain { network: "net-sim".into(), chain_id: 31_337 };
        let contract = Address::from([1; 20]).to_string();
        let ask = |view: &View, manifest: &Manifest, to: [&str; 3]| destination(view, manifest, &home, to);

        let empty = View::Snapshot(Arc::clone(&snapshot));
        let found = ask(&empty, &any, ["net-sim", &contract.to_uppercase().replacen("0X", "0x", 1), "t"]).unwrap();
        assert_eq!(found, Destination { chain_id: 31_337, contract: Address::from([1; 20]), last: 0 });
        assert!(
            matches!(ask(&empty, &any, ["other", &contract, "t"]), Err(HostError::Denied(line)) if line.contains("no chain of that name"))
        );
        assert!(matches!(ask(&empty, &any, ["local", "0x01", "t"]), Err(HostError::Invalid(_))));
        assert!(
            matches!(ask(&empty, &manifest(""), ["local", &contract, "t"]), Err(HostError::Denied(line)) if line.contains("[[publish]]\nchain = \"local\""))
        );

        // As many topics as there may be: known ones go on, a further one is refused.
        let batch = Batch::new(Arc::clone(&snapshot), 0);
        let mut overlay = batch.overlay();
        for topic in 0..MOST_SEQUENCES {
            let one = waiting(&topic.to_string(), 7, None);
            one.write(&mut overlay).unwrap();
            overlay.delete(one.key()).unwrap();
        }
        let full = View::Overlay(Arc::new(overlay));
        assert_eq!(ask(&full, &any, ["local", &contract, "0"]).unwrap().last, 7);
        assert!(
            matches!(ask(&full, &any, ["local", &contract, "new"]), Err(HostError::Denied(line)) if line.contains("at most 1024"))
        );

        // As many that wait as there may be.
        let mut overlay = batch.overlay();
        for sequence in 1..=MOST_WAITING as u64 {
            waiting("t", sequence, None).write(&mut overlay).unwrap();
        }
        let busy = View::Overlay(Arc::new(overlay));
        assert!(matches!(ask(&busy, &any, ["local", &contract, "t"]), Err(HostError::Unavailable(_))));
    }

    #[test]
    fn its_receipt_commits_to_exactly_what_a_contract_recomputes() {
        let function = FunctionId::from([9; 32]);
        let one = waiting("a", 1, None);
        let openings = one.ended().openings(&one.request(function));
        let response = openings.response.unwrap();
        assert!(response.salt.is_zero());
        assert_eq!(commit(Tag::Response, response.salt, &response.bytes), one.publication.response());
        for opening in [openings.method, openings.caller, openings.request] {
            assert!(!opening.unwrap().salt.is_zero());
        }
        assert_eq!(one.request(function).call_id, publish_call_id(function, one.parent, 3));
        // Salts of the call and of each of its publications differ.
        let salts = Salts::of_seed(&[1; 32]);
        let salt = |salts: &Salts| salts.salt(Kind::Publish, Tag::Method);
        assert_ne!(salt(&salts), salt(&salts.of_publication(0)));
        assert_ne!(salt(&salts.of_publication(1)), salt(&salts.of_publication(0)));
    }
}
