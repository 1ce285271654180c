//! A model of n gatekeepers, of which t−1 lie, and of workers, some of them clones, over a network that drops, repeats and
//! reorders, with crashes around every write and clocks that jump.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;
use tacit_threshold::{
    Batch, Entry, HeldLease, Input, Output, Record, Refusal, Register, Reply, SignedBatch,
    collect::{AckCollector, ConfirmCollector, LeaseCollector},
};
use tacit_types::{
    CertificateId, Digest, Head, UnixTime, merkle,
    quorum::GatekeeperSet,
    register::{Confirmation, Lease, Position, confirmation_leaf},
    signature::Signature,
};

use crate::values::{CLUSTER, NOW, ack, certificate, facts, function, gatekeeper_key, lease, set, worker_key};

const WORKERS: u8 = 3;

#[derive(Clone)]
enum Request {
    Grant(Lease),
    Release(u8, u64),
    Acknowledge(u8, Batch, Signature, Box<HeldLease>),
    Confirm(u8, Digest, Position),
}

enum Answer {
    Granted(Signature, Option<Box<Entry>>),
    Acknowledged(Signature),
    Confirmed(UnixTime, Option<Signature>, Vec<(usize, Refusal)>),
    Refused(Vec<Refusal>),
}

struct Gatekeeper {
    register: Register,
    disk: Vec<Record>,
    clock: UnixTime,
    liar: bool,
    answered: (u64, u64),
}

/// A worker, or a clone of one: same keys, own memory.
#[derive(Clone)]
struct Worker {
    identity: u8,
    fence_hint: u64,
    collecting: Option<LeaseCollector>,
    held: Option<HeldLease>,
    /// Acknowledged by a quorum as this worker saw it, under its own fence.
    position: Option<Position>,
    acks: Option<AckCollector>,
    confirms: Option<(ConfirmCollector, (u64, u64))>,
}

struct World {
    set: GatekeeperSet,
    gatekeepers: Vec<Gatekeeper>,
    workers: Vec<Worker>,
    requests: Vec<(usize, usize, Request)>,
    answers: Vec<(usize, usize, Answer)>,
    /// Parent and sequence of every head that was ever appended to the store.
    store: HashMap<Head, (Head, u64)>,
    /// Who signed an acknowledgement of a position; liars sign all.
    signed: BTreeMap<(u64, u64, Head), BTreeSet<usize>>,
    leases: BTreeMap<u64, BTreeMap<CertificateId, BTreeSet<usize>>>,
    counter: u64,
    time: UnixTime,
    released: usize,
}

impl World {
    fn new(count: u32, threshold: u32) -> Self {
        let set = set(count, threshold);
        let gatekeepers = (0..count)
            .map(|index| {
                let mut gatekeeper = Gatekeeper {
                    register: Register::new(CLUSTER, 1),
                    disk: Vec::new(),
                    clock: NOW,
                    liar: index + 1 < threshold,
                    answered: (0, 0),
                };
                for worker in 0..WORKERS {
                    for output in gatekeeper.register.handle(NOW, Input::Certified(certificate(worker))) {
                        if let Output::Persist(record) = output {
                            gatekeeper.disk.push(record);
                        }
                    }
                }
                gatekeeper
            })
            .collect();
        let worker = |identity| Worker {
            identity,
            fence_hint: 0,
            collecting: None,
            held: None,
            position: None,
            acks: None,
            confirms: None,
        };
        Self {
            set,
            gatekeepers,
            workers: (0..WORKERS).map(worker).collect(),
            requests: Vec::new(),
            answers: Vec::new(),
            store: HashMap::from([(Head::ZERO, (Head::ZERO, 0))]),
            signed: BTreeMap::new(),
            leases: BTreeMap::new(),
            counter: 0,
            time: NOW,
            released: 0,
        }
    }

    fn fresh(&mut self) -> [u8; 32] {
        self.counter += 1;
        let mut bytes = [0xab; 32];
        bytes[..8].copy_from_slice(&self.counter.to_be_bytes());
        bytes
    }

    fn broadcast(&mut self, worker: usize, request: &Request) {
        for gatekeeper in 0..self.gatekeepers.len() {
            self.requests.push((worker, gatekeeper, request.clone()));
        }
    }

    /// Positions that a quorum signed, whether or not any worker learned of it.
    fn acknowledged(&self) -> impl Iterator<Item = Position> {
        let liars = self.gatekeepers.iter().filter(|gatekeeper| gatekeeper.liar).count();
        let quorum = self.set.quorum() as usize;
        let enough = move |signers: &BTreeSet<usize>| signers.len() + liars >= quorum;
        let positions = self.signed.iter().filter(move |(_, signers)| enough(signers));
        positions.map(|(&(fence, sequence, head), _)| Position { fence, sequence, head })
    }

    fn newest(&self) -> (u64, u64) {
        self.acknowledged().map(|position| position.order()).max().unwrap_or_default()
    }

    // What workers do. They run measured code, so they follow the protocol; a host may stop, clone or restore them.

    fn take_over(&mut self, worker: usize, jump: u64) {
        let (set, me) = (self.set.clone(), &mut self.workers[worker]);
        me.fence_hint += 1 + jump;
        let until = self.time.plus(30);
        let lease = lease(me.identity, me.fence_hint, until);
        me.collecting = Some(LeaseCollector::new(&set, CLUSTER, lease.clone(), certificate(me.identity)));
        (me.held, me.position, me.acks, me.confirms) = (None, None, None, None);
        self.broadcast(worker, &Request::Grant(lease));
    }

    fn propose(&mut self, worker: usize, position: Position) {
        let Some(held) = self.workers[worker].held.clone() else { return };
        let time = self.time;
        let ack = ack(held.lease.fence, position.sequence, position.head, time);
        let batch = Batch::new(CLUSTER, vec![ack]).unwrap();
        let identity = self.workers[worker].identity;
        let signature = batch.sign(CLUSTER, held.lease.certificate, &worker_key(identity));
        self.workers[worker].acks = Some(AckCollector::new(&self.set, CLUSTER, batch.clone()));
        self.broadcast(worker, &Request::Acknowledge(identity, batch, signature, Box::new(held)));
    }

    fn commit(&mut self, worker: usize) {
        let me = &self.workers[worker];
        let (Some(position), None) = (me.position, &me.acks) else { return };
        let head = Head::from(self.fresh());
        self.store.insert(head, (position.head, position.sequence + 1));
        self.propose(worker, Position { sequence: position.sequence + 1, head, ..position });
    }

    fn confirm(&mut self, worker: usize) {
        let nonce = Digest::from(self.fresh());
        let newest = self.newest();
        let me = &mut self.workers[worker];
        let Some(position) = me.position else { return };
        me.confirms = Some((ConfirmCollector::new(&self.set, CLUSTER, nonce, vec![(function(), position)]), newest));
        let identity = me.identity;
        self.broadcast(worker, &Request::Confirm(identity, nonce, position));
    }

    fn release(&mut self, worker: usize) {
        if let Some(held) = self.workers[worker].held.take() {
            self.workers[worker].position = None;
            let request = Request::Release(self.workers[worker].identity, held.lease.fence);
            self.broadcast(worker, &request);
        }
    }

    // What the network and the hosts do.

    fn deliver_request(&mut self, at: usize, crash: u8) {
        if self.requests.is_empty() {
            return;
        }
        let (worker, index, request) = self.requests.swap_remove(at % self.requests.len());
        if self.gatekeepers[index].liar {
            self.lie(worker, index, request);
            return;
        }
        let inputs = match request.clone() {
            Request::Grant(lease) => vec![Input::Grant { lease, facts: Some(facts()) }],
            Request::Release(identity, fence) => {
                vec![Input::Release { function: function(), certificate: certificate(identity).id(CLUSTER), fence }]
            }
            Request::Acknowledge(identity, batch, signature, held) => {
                let acks = batch.acks().to_vec();
                let signed = SignedBatch::verify(CLUSTER, &certificate(identity), acks, signature).unwrap();
                vec![Input::Hold(held.verify(&self.set, CLUSTER).unwrap()), Input::Acknowledge(signed)]
            }
            Request::Confirm(identity, nonce, position) => {
                let certificate = certificate(identity).id(CLUSTER);
                vec![Input::Confirm { certificate, nonce, positions: vec![(function(), position)] }]
            }
        };
        let gatekeeper = &mut self.gatekeepers[index];
        let (mut records, mut last) = (Vec::new(), Reply::Noted);
        for input in inputs {
            for output in gatekeeper.register.handle(gatekeeper.clock, input) {
                match output {
                    Output::Persist(record) => records.push(record),
                    Output::Reply(reply) => last = reply,
                }
            }
        }
        if crash == 1 {
            self.restart(index);
            return;
        }
        gatekeeper.disk.extend(records);
        if crash == 2 {
            self.restart(index);
            return;
        }
        let key = gatekeeper_key(index as u32);
        let answer = match (last, request) {
            (Reply::Granted { lease, entry }, _) => {
                let signers = self.leases.entry(lease.fence).or_default().entry(lease.certificate).or_default();
                signers.insert(index);
                let signature = key.sign(lease.digest(CLUSTER));
                Answer::Granted(signature, entry)
            }
            (Reply::Acknowledged(statement), Request::Acknowledge(_, batch, _, _)) => {
                let position = batch.acks()[0].position();
                self.signed.entry((position.fence, position.sequence, position.head)).or_default().insert(index);
                let gatekeeper = &mut self.gatekeepers[index];
                assert!(position.order() >= gatekeeper.answered, "a counter went back");
                gatekeeper.answered = position.order();
                Answer::Acknowledged(key.sign(statement.digest(CLUSTER)))
            }
            (Reply::Confirmed { confirmation, refused }, Request::Confirm(..)) => {
                let time = confirmation.as_ref().map_or(NOW, |confirmation| confirmation.time);
                let signature = confirmation.map(|confirmation| key.sign(confirmation.digest(CLUSTER)));
                Answer::Confirmed(time, signature, refused)
            }
            (Reply::NotAcknowledged(refused), _) => {
                Answer::Refused(refused.into_iter().map(|(_, refusal)| refusal).collect())
            }
            (Reply::Refused(refusal), _) => Answer::Refused(vec![refusal]),
            _ => return,
        };
        self.answers.push((worker, index, answer));
    }

    /// A liar signs whatever it is asked to, remembers nothing and hides every entry.
    fn lie(&mut self, worker: usize, index: usize, request: Request) {
        let key = gatekeeper_key(index as u32);
        let answer = match request {
            Request::Grant(lease) => {
                let signature = key.sign(lease.digest(CLUSTER));
                Answer::Granted(signature, None)
            }
            Request::Acknowledge(_, batch, _, _) => {
                let position = batch.acks()[0].position();
                self.signed.entry((position.fence, position.sequence, position.head)).or_default();
                let signature = key.sign(batch.statement().digest(CLUSTER));
                Answer::Acknowledged(signature)
            }
            Request::Confirm(_, nonce, position) => {
                let root = merkle::root(&[confirmation_leaf(function(), &position)]);
                let confirmation = Confirmation { epoch: 1, root, nonce, time: NOW };
                Answer::Confirmed(NOW, Some(key.sign(confirmation.digest(CLUSTER))), Vec::new())
            }
            Request::Release(..) => return,
        };
        self.answers.push((worker, index, answer));
    }

    fn restart(&mut self, index: usize) {
        let gatekeeper = &mut self.gatekeepers[index];
        gatekeeper.register = Register::replay(CLUSTER, 1, gatekeeper.disk.clone()).unwrap();
    }

    fn deliver_answer(&mut self, at: usize) {
        if self.answers.is_empty() {
            return;
        }
        let (worker, index, answer) = self.answers.swap_remove(at % self.answers.len());
        let index = index as u32;
        let me = &mut self.workers[worker];
        match answer {
            Answer::Granted(signature, entry) => {
                let Some(collecting) = &mut me.collecting else { return };
                // An answer to an older proposal does not verify, and is dropped.
                if collecting.add(index, signature, entry.as_deref()).is_err() {
                    return;
                }
                if let Some((held, newest)) = collecting.held() {
                    (me.held, me.collecting) = (Some(held), None);
                    // "Load the store to exactly that": whatever was acknowledged was appended before.
                    assert!(self.store.contains_key(&newest.head));
                    self.propose(worker, newest);
                }
            }
            Answer::Acknowledged(signature) => {
                let Some(acks) = &mut me.acks else { return };
                if acks.add(index, signature).is_ok() && acks.acknowledged().is_some() {
                    me.position = Some(acks.batch().acks()[0].position());
                    me.acks = None;
                }
            }
            Answer::Confirmed(time, signature, refused) => {
                let Some((confirms, newest)) = &mut me.confirms else { return };
                let signed = signature.map(|signature| (time, signature));
                if confirms.add(index, signed, &refused).is_ok() && confirms.is_complete() {
                    let position = confirms.positions()[0].1;
                    assert!(position.order() >= *newest, "a stale answer was released: {position:?} behind {newest:?}");
                    me.confirms = None;
                    self.released += 1;
                }
            }
            Answer::Refused(refusals) => {
                for refusal in refusals {
                    match refusal {
                        Refusal::FenceTooLow { promised } => me.fence_hint = me.fence_hint.max(promised),
                        Refusal::NotHolder { promised }
                            if me.held.as_ref().is_some_and(|held| held.lease.fence < promised) =>
                        {
                            (me.held, me.position, me.acks, me.confirms) = (None, None, None, None);
                            me.fence_hint = me.fence_hint.max(promised);
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    fn check(&self) {
        // No fork: whatever a quorum acknowledged lies on one line.
        let mut line: Vec<_> = self.acknowledged().collect();
        line.sort_by_key(Position::order);
        for pair in line.windows(2) {
            let (earlier, later) = (pair[0], pair[1]);
            let (mut head, mut sequence) = (later.head, later.sequence);
            while sequence > earlier.sequence {
                let (parent, own) = self.store[&head];
                assert_eq!(own, sequence);
                (head, sequence) = (parent, sequence - 1);
            }
            assert_eq!((head, sequence), (earlier.head, earlier.sequence), "a fork: {earlier:?} and {later:?}");
        }
        // One holder for each fence.
        let liars = self.gatekeepers.iter().filter(|gatekeeper| gatekeeper.liar).count();
        for (fence, holders) in &self.leases {
            let held = holders.values().filter(|signers| signers.len() + liars >= self.set.quorum() as usize).count();
            assert!(held <= 1, "fence {fence} has two holders");
        }
        // What was answered survives every restart.
        for gatekeeper in &self.gatekeepers {
            let mut register = Register::replay(CLUSTER, 1, gatekeeper.disk.clone()).unwrap();
            let read = Input::Read { function: function(), facts: None };
            let Some(Output::Reply(Reply::View(view))) = register.handle(NOW, read).pop() else { panic!() };
            assert!(view.accepted.order() >= gatekeeper.answered);
        }
    }

    fn step(&mut self, kind: u8, at: usize, detail: u8) {
        let worker = at % self.workers.len();
        match kind {
            0..=59 => self.deliver_request(at, 0),
            60..=63 => self.deliver_request(at, 1 + detail % 2),
            64..=109 => self.deliver_answer(at),
            110..=113 if !self.requests.is_empty() => drop(self.requests.swap_remove(at % self.requests.len())),
            114..=117 if !self.answers.is_empty() => drop(self.answers.swap_remove(at % self.answers.len())),
            118..=120 if !self.requests.is_empty() => {
                let again = self.requests[at % self.requests.len()].clone();
                self.requests.push(again);
            }
            121 => self.take_over(worker, u64::from(detail % 3)),
            122..=124 if self.workers[worker].held.is_none() => self.take_over(worker, u64::from(detail % 3)),
            125..=140 => self.commit(worker),
            141..=143 => self.confirm(worker),
            144..=158 if self.workers[worker].confirms.is_none() => self.confirm(worker),
            159 => self.release(worker),
            160..=161 => self.restart(at % self.gatekeepers.len()),
            162..=164 => {
                self.time = self.time.plus(u64::from(detail % 20));
                self.gatekeepers.iter_mut().for_each(|gatekeeper| gatekeeper.clock.0 += u64::from(detail % 20));
            }
            // A host stops a machine's clock, or sets it.
            165..=166 => {
                self.gatekeepers[at % self.set.members.len()].clock = self.time.plus(20).minus(u64::from(detail % 60))
            }
            // The host restores an old image of a worker, or runs a second one beside it.
            167 if self.workers.len() < 6 => self.workers.push(self.workers[worker].clone()),
            168 => {
                // Retry: a worker that waits asks again.
                if let (Some(acks), Some(held)) = (&self.workers[worker].acks, &self.workers[worker].held) {
                    let (batch, held, identity) = (acks.batch().clone(), held.clone(), self.workers[worker].identity);
                    let signature = batch.sign(CLUSTER, held.lease.certificate, &worker_key(identity));
                    self.broadcast(worker, &Request::Acknowledge(identity, batch, signature, Box::new(held)));
                }
            }
            _ => {}
        }
        // Bounded: forget what was in flight the longest.
        if self.requests.len() > 120 {
            self.requests.drain(..40);
        }
    }
}

fn play(count: u32, threshold: u32, steps: &[(u8, u16, u8)]) -> World {
    let mut world = World::new(count, threshold);
    for (number, (kind, at, detail)) in steps.iter().enumerate() {
        world.step(kind % 170, usize::from(*at), *detail);
        if number % 16 == 0 {
            world.check();
        }
    }
    world.check();
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn no_fork_no_step_back_no_stale_answer(
        shape in prop::sample::select(vec![(3, 1), (4, 2), (5, 2), (5, 3), (1, 1)]),
        steps in prop::collection::vec((any::<u8>(), any::<u16>(), any::<u8>()), 400..1_500),
    ) {
        play(shape.0, shape.1, &steps);
    }
}

/// The model does something: over a fixed run, positions are acknowledged, leases change hands and queries are released.
#[test]
fn the_model_is_alive() {
    let mut random = 1u64;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as u32
    };
    let steps: Vec<_> = (0..12_000).map(|_| (next() as u8, next() as u16, next() as u8)).collect();
    let world = play(4, 2, &steps);
    let acknowledged: Vec<_> = world.acknowledged().collect();
    let fences: BTreeSet<_> = acknowledged.iter().map(|position| position.fence).collect();
    assert!(acknowledged.len() > 12, "{}", acknowledged.len());
    assert!(fences.len() > 3, "{}", fences.len());
    assert!(world.released > 5, "{}", world.released);
}

/// The model finds faults: gatekeepers that forget what they wrote (one more liar than allowed) make it fail.
#[test]
fn the_model_finds_a_liar_too_many() {
    let found = (0..40).any(|seed: u64| {
        let mut random = seed;
        let mut next = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as u32
        };
        let steps: Vec<_> = (0..3_000).map(|_| (next() as u8 % 170, next() as u16, next() as u8)).collect();
        let outcome = std::panic::catch_unwind(|| {
            let mut world = World::new(4, 2);
            world.gatekeepers[1].liar = true;
            for (kind, at, detail) in &steps {
                world.step(*kind, usize::from(*at), *detail);
            }
            world.check();
        });
        outcome.is_err()
    });
    assert!(found, "t liars went unnoticed");
}
