//! Commands of one function: one after the other, several in one commit, each answered once a quorum acknowledged.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tacit_api::{Problem, ProblemKind};
use tacit_receipt::SignedCertificate;
use tacit_store::{Batch, Key, Overlay, StateLog, StoreError};
use tacit_types::{
    Digest, UnixTime,
    eip712::{Kind, Outcome, Receipt},
    manifest::Body,
    merkle,
    register::{Position, QuorumAck, receipts_root},
};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    acknowledger::NotAcknowledged,
    context::Context,
    execute::{Admitted, Ran, ended_without_running, execute},
    held::{Acknowledged, End, Held, not_acknowledged_problem, store_problem},
    host::{FunctionHost, View},
    lease,
    outcome::{Ended, Request, Standing},
    publications::{Waiting, any_waiting},
    time::now,
};

/// Calls in one commit.
const MOST_CALLS: usize = 64;
/// Bytes in one commit after which no further call joins it.
const ENOUGH_BYTES: usize = 4 << 20;
/// How long finished calls wait for the next one before they are committed without it.
const LINGER: Duration = Duration::from_millis(2);
/// Old values that queries may keep in memory before commands wait for them.
const MOST_SUPERSEDED: u64 = 512 << 20;
/// Requests of contracts whose outcome is kept at the same time.
const MOST_PINNED: usize = 16_384;

/// What a command is to do.
pub(crate) enum Work {
    /// Run the method.
    Run,
    /// The access rule does not let this caller in.
    Deny,
    /// Set or delete secrets, in order.
    SetSecrets(Vec<(String, Option<Bytes>)>),
}

/// What is done to a function's state, one thing after the other.
pub(crate) enum Order {
    /// A command.
    Call(Box<Command>),
    /// A publication that waits under this name is stated once more, under the own fence.
    State { name: String, reply: oneshot::Sender<Result<Committed, Problem>> },
    /// Publications that wait under these names wait no more.
    Settle { names: Vec<String>, reply: oneshot::Sender<Result<(), Problem>> },
}

impl Order {
    fn refuse(self, problem: Problem) {
        // Who asked may be gone.
        match self {
            Self::Call(command) => _ = command.reply.send(Err(problem)),
            Self::State { reply, .. } => _ = reply.send(Err(problem)),
            Self::Settle { reply, .. } => _ = reply.send(Err(problem)),
        }
    }
}

/// A command on its way.
pub(crate) struct Command {
    pub admitted: Admitted,
    pub work: Work,
    /// Least sequence that the state must have.
    pub least: u64,
    /// Until when its outcome must be kept.
    pub keep_until: UnixTime,
    pub reply: oneshot::Sender<Result<Committed, Problem>>,
}

/// A command's acknowledged outcome.
pub(crate) struct Committed {
    pub ended: Ended,
    pub receipt: Receipt,
    pub acknowledgement: QuorumAck,
    /// Whether this is the stored outcome of an earlier run.
    pub repeated: bool,
    /// What it published; each has a receipt of its own.
    pub publications: Vec<Stated>,
}

/// A publication with its acknowledged receipt.
pub(crate) struct Stated {
    pub waiting: Waiting,
    pub receipt: Receipt,
    pub acknowledgement: QuorumAck,
}

struct Entry {
    request: Request,
    ended: Ended,
    time: UnixTime,
    repeated: bool,
    publications: Vec<Waiting>,
    reply: oneshot::Sender<Result<Committed, Problem>>,
}

struct Round {
    batch: Batch,
    entries: Vec<Entry>,
    /// Those who wait to hear that their publications wait no more.
    settled: Vec<oneshot::Sender<Result<(), Problem>>>,
}

impl Round {
    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.settled.is_empty()
    }
}

/// The one that runs a function's commands.
pub(crate) struct Serial {
    context: Arc<Context>,
    held: Arc<Held>,
    log: StateLog,
    /// Whether the newest commit still waits for its acknowledgement.
    unacknowledged: bool,
    /// Whether a reminder of this fence says that publications wait.
    reminded: bool,
    time: UnixTime,
}

impl Serial {
    pub fn new(context: Arc<Context>, held: Arc<Held>, log: StateLog) -> Self {
        Self { context, held, log, unacknowledged: false, reminded: false, time: UnixTime(0) }
    }

    /// Serves commands until the function ends here.
    pub async fn run(mut self, mut receiver: mpsc::Receiver<Order>, mut ending: watch::Receiver<Option<End>>) {
        if any_waiting(&self.log.snapshot()) {
            Box::pin(self.remind()).await;
        }
        loop {
            let next = tokio::select! {
                biased;
                () = ended(&mut ending) => Next::Ended,
                () = lease_end(&self.held) => Next::LeaseEnded,
                order = receiver.recv() => order.map_or(Next::Ended, Next::Order),
            };
            let order = match next {
                Next::Order(order) => Some(order),
                Next::LeaseEnded => {
                    self.held.end(End::Lost(Problem::new(ProblemKind::NotHolder, "the lease ended")));
                    None
                }
                Next::Ended => {
                    receiver.close();
                    if matches!(self.held.ended(), Some(End::Retired)) { receiver.try_recv().ok() } else { None }
                }
            };
            let Some(order) = order else { break };
            // In a box of its own: a function that nobody calls holds no room for the state of a call under way.
            if let Err(problem) = Box::pin(self.serve(order, &mut receiver)).await {
                self.held.end(End::Lost(problem));
                receiver.close();
                break;
            }
        }
        let lost = matches!(self.held.ended(), Some(End::Lost(_)));
        let problem = self.held.problem();
        let Self { context, held, log, .. } = self;
        // With the log the keys go.
        drop(log);
        while let Ok(order) = receiver.try_recv() {
            order.refuse(problem.clone());
        }
        if lost {
            context.metrics.leases_lost_total.add(1);
            tracing::info!(function = %held.function, fence = held.fence, %problem, "not served any more");
        } else {
            let (certified, key) = (&held.certified, &context.keys.receipt);
            Box::pin(lease::release(&context.gatekeepers, certified, key, held.function, held.fence)).await;
            tracing::info!(function = %held.function, fence = held.fence, "given back");
        }
        held.finish();
    }

    /// Carries out an order and those behind it that fit into one commit. An error ends the function here.
    async fn serve(&mut self, first: Order, receiver: &mut mpsc::Receiver<Order>) -> Result<(), Problem> {
        if self.unacknowledged && !self.acknowledge_again().await? {
            let detail = "the last commit is not acknowledged yet";
            first.refuse(Problem::new(ProblemKind::QuorumUnavailable, detail).with_hint("the command did not run"));
            return Ok(());
        }
        let mut round = self.round();
        let mut next = Some(first);
        while let Some(order) = next.take() {
            match order {
                Order::Call(command) => self.take(&mut round, *command).await?,
                Order::State { name, reply } => self.state(&mut round, &name, reply),
                Order::Settle { names, reply } => Self::settle(&mut round, names, reply),
            }
            let full = round.entries.len() >= MOST_CALLS || round.batch.size() >= ENOUGH_BYTES;
            if !full && !self.unacknowledged {
                next = receiver.try_recv().ok();
            }
        }
        self.close(round).await.map(drop)
    }

    fn round(&self) -> Round {
        let quota = self.held.version.code.manifest.state.quota;
        Round { batch: Batch::new(Arc::new(self.log.snapshot()), quota), entries: Vec::new(), settled: Vec::new() }
    }

    /// Has a waiting publication acknowledged once more: as for every stored outcome, nothing runs and nothing changes.
    fn state(&self, round: &mut Round, name: &str, reply: oneshot::Sender<Result<Committed, Problem>>) {
        let value = self.log.snapshot().value(&Key::system(name));
        let Some(waiting) = value.and_then(|value| Waiting::decode(name, &value)) else {
            let _ =
                reply.send(Err(Problem::new(ProblemKind::UnknownReceipt, "the publication does not wait any more")));
            return;
        };
        let (request, ended) = (waiting.request(self.held.function), waiting.ended());
        round.entries.push(Entry { request, ended, time: now(), repeated: true, publications: Vec::new(), reply });
    }

    /// Takes publications out of those that wait.
    fn settle(round: &mut Round, names: Vec<String>, reply: oneshot::Sender<Result<(), Problem>>) {
        let mut overlay = round.batch.overlay();
        for name in names {
            if let Err(error) = overlay.delete(Key::system(name)) {
                let _ = reply.send(Err(store_problem(&error)));
                return;
            }
        }
        round.batch.add_writes(overlay);
        round.settled.push(reply);
    }

    /// Settles one command as far as its outcome, in `round`.
    async fn take(&mut self, round: &mut Round, command: Command) -> Result<(), Problem> {
        let Command { admitted, work, least, keep_until, reply } = command;
        let refuse = |reply: oneshot::Sender<_>, problem| _ = reply.send(Err(problem));
        let call = admitted.request.call_id;
        if round.batch.record(call).is_some() {
            let finished = std::mem::replace(round, self.round());
            self.close(finished).await?;
            *round = self.round();
        }
        if let Some((_, record)) = self.log.record(call) {
            if record.request != admitted.request.digest() {
                let detail = "the idempotency key was used for another request";
                refuse(reply, Problem::new(ProblemKind::InvalidRequest, detail));
            } else if let Some(ended) = Ended::decode(&record.body) {
                self.context.metrics.calls_repeated_total.add(1);
                let request = admitted.request;
                let time = now();
                round.entries.push(Entry { request, ended, time, repeated: true, publications: Vec::new(), reply });
            } else {
                refuse(reply, Problem::new(ProblemKind::Internal, "the stored outcome cannot be read"));
            }
            return Ok(());
        }
        let time = now();
        if time > admitted.deadline {
            refuse(reply, Problem::new(ProblemKind::DeadlineExpired, "the deadline passed while the call waited"));
            return Ok(());
        }
        if self.log.sequence() < least {
            let detail = format!("the newest sequence is {}", self.log.sequence());
            refuse(reply, Problem::new(ProblemKind::StateBehind, detail));
            return Ok(());
        }
        let pinned = admitted.kind == Kind::ChainRequest;
        if self.log.superseded_bytes() > MOST_SUPERSEDED || (pinned && self.log.pinned_records() >= MOST_PINNED) {
            refuse(reply, Problem::new(ProblemKind::Overloaded, "the function keeps too much in memory"));
            return Ok(());
        }
        let (ended, publications) = match work {
            Work::Deny => {
                let why = "this caller may not call this function";
                let ended = ended_without_running(&self.held.version, admitted.kind, Outcome::Denied, "denied", why);
                (ended, Vec::new())
            }
            Work::SetSecrets(secrets) => (self.set_secrets(round, &admitted, secrets, keep_until), Vec::new()),
            Work::Run => match self.run_method(round, &admitted, time).await? {
                Ok(ran) => self.keep(round, &admitted, ran, time, keep_until),
                Err(problem) => {
                    refuse(reply, problem);
                    return Ok(());
                }
            },
        };
        round.entries.push(Entry { request: admitted.request, ended, time, repeated: false, publications, reply });
        Ok(())
    }

    /// Runs the method; if that takes a while, calls that are finished are committed meanwhile. The inner error refuses this call: it
    /// ran upon writes of theirs that could not be stored.
    async fn run_method(
        &mut self,
        round: &mut Round,
        admitted: &Admitted,
        time: UnixTime,
    ) -> Result<Result<Ran, Problem>, Problem> {
        let view = View::Overlay(Arc::new(round.batch.overlay()));
        let (context, version) = (Arc::clone(&self.context), Arc::clone(&self.held.version));
        let host = Arc::new(FunctionHost::new(admitted.request.function, view, Arc::clone(&version), &context));
        let admitted = admitted.clone();
        let run = async move { execute(&context, &version, &admitted, time, host).await };
        let mut run = std::pin::pin!(run);
        if round.is_empty() {
            return Ok(Ok(run.await));
        }
        match tokio::time::timeout(LINGER, &mut run).await {
            Ok(ran) => Ok(Ok(ran)),
            Err(_) => {
                let finished = std::mem::replace(round, self.round());
                let (closed, ran) = tokio::join!(self.close(finished), &mut run);
                let closed = closed?;
                *round = self.round();
                Ok(match closed {
                    Closed::Stored => Ok(ran),
                    Closed::Dropped(problem) => Err(problem),
                })
            }
        }
    }

    /// Puts a finished call's writes, publications and record into the batch: all of them, or its failure alone.
    fn keep(
        &self,
        round: &mut Round,
        admitted: &Admitted,
        ran: Ran,
        time: UnixTime,
        keep_until: UnixTime,
    ) -> (Ended, Vec<Waiting>) {
        let Ran { mut ended, writes, publications } = ran;
        let pinned = admitted.kind == Kind::ChainRequest;
        let publications = Waiting::of_call(publications, &admitted.request, &ended, self.held.fence, time);
        let mut overlay = round.batch.overlay();
        let written = writes.into_iter().try_for_each(|write| {
            let key = Key::state(write.key);
            match write.value {
                Some(value) => overlay.set(key, value),
                None => overlay.delete(key),
            }
        });
        let written =
            written.and_then(|()| publications.iter().try_for_each(|publication| publication.write(&mut overlay)));
        match written {
            Ok(()) => {
                ended.effects.extend(publications.iter().map(Waiting::effect));
                (self.add(round, overlay, admitted, ended, keep_until, pinned), publications)
            }
            Err(error) => {
                let name = if matches!(error, StoreError::Quota { .. }) { "state-quota" } else { "state-bytes" };
                let mut refused =
                    ended_without_running(&self.held.version, admitted.kind, Outcome::Limit, name, &error.to_string());
                refused.fuel = ended.fuel;
                refused.effects = ended.effects;
                let unchanged = round.batch.overlay();
                (self.add(round, unchanged, admitted, refused, keep_until, pinned), Vec::new())
            }
        }
    }

    fn add(
        &self,
        round: &mut Round,
        overlay: Overlay,
        admitted: &Admitted,
        ended: Ended,
        keep_until: UnixTime,
        pinned: bool,
    ) -> Ended {
        if ended.is_settled() {
            round.batch.add(overlay, ended.record(&admitted.request, keep_until, pinned));
        }
        ended
    }

    fn set_secrets(
        &self,
        round: &mut Round,
        admitted: &Admitted,
        secrets: Vec<(String, Option<Bytes>)>,
        keep_until: UnixTime,
    ) -> Ended {
        let mut overlay = round.batch.overlay();
        let names: Vec<String> = secrets.iter().map(|(name, _)| name.clone()).collect();
        let written = secrets.into_iter().try_for_each(|(name, value)| match value {
            Some(value) => overlay.set(Key::secret(name), value),
            None => overlay.delete(Key::secret(name)),
        });
        let mut ended = ended_without_running(
            &self.held.version,
            admitted.kind,
            Outcome::Limit,
            "secrets",
            "the secrets are too large",
        );
        if written.is_ok() {
            ended.outcome = Outcome::Ok;
            ended.format = Body::Json;
            ended.response = serde_json::json!({ "set": names }).to_string().into();
            return self.add(round, overlay, admitted, ended, keep_until, false);
        }
        ended
    }

    /// Commits a round, gets it acknowledged and answers its calls. An error ends the function here. What could not be stored is
    /// dropped with its writes: its calls are refused, and whoever built upon it must not go on.
    async fn close(&mut self, round: Round) -> Result<Closed, Problem> {
        let Round { batch, entries, settled } = round;
        if entries.is_empty() && batch.is_empty() {
            self.answer_settled(settled).await;
            return Ok(Closed::Stored);
        }
        let head_before = self.log.head();
        let commits = !batch.is_empty();
        if commits {
            let publishes = entries.iter().any(|entry| !entry.publications.is_empty());
            if publishes && !self.remind().await {
                let detail = "a place for publications that wait cannot be written";
                let problem =
                    Problem::new(ProblemKind::StorageUnavailable, detail).with_hint("the command did not run");
                answer_all(entries, settled, &problem);
                return Ok(Closed::Dropped(problem));
            }
            self.time = self.time.max(now());
            let started = Instant::now();
            let appended = self.log.append(batch.into_commit(self.time)).await;
            self.context.metrics.store_microseconds_total.since(started);
            if let Err(error) = appended {
                let problem = store_problem(&error);
                tracing::warn!(function = %self.held.function, %error, "a commit could not be stored");
                answer_all(entries, settled, &problem);
                return if error.is_retryable() { Ok(Closed::Dropped(problem)) } else { Err(problem) };
            }
            self.context.metrics.commits_total.add(1);
        }
        let position = self.position();
        let SignedCertificate { certificate, .. } = &self.held.certified.signed;
        // Each call's receipt, and behind it those of its publications.
        let mut receipts: Vec<Receipt> = Vec::with_capacity(entries.len());
        for entry in &entries {
            let standing = Standing {
                certificate: self.held.certified.id,
                epoch: certificate.epoch,
                fence: position.fence,
                sequence: position.sequence,
                head_before,
                head_after: position.head,
                time: entry.time,
            };
            receipts.push(entry.ended.receipt(&entry.request, &standing));
            let function = self.held.function;
            receipts
                .extend(entry.publications.iter().map(|one| one.ended().receipt(&one.request(function), &standing)));
        }
        let digests: Vec<Digest> = receipts.iter().map(|receipt| receipt.digest(self.context.cluster)).collect();
        let acknowledgement = match self.acknowledge(position, receipts_root(&digests)).await {
            Ok(acknowledgement) => acknowledgement,
            Err(error) => {
                let problem = not_acknowledged_problem(&self.context, self.held.certified.id, &error);
                answer_all(entries, settled, &problem);
                return match error {
                    NotAcknowledged::Lost(_) => Err(problem),
                    NotAcknowledged::Unanswered => {
                        self.unacknowledged = true;
                        Ok(Closed::Stored)
                    }
                };
            }
        };
        let leaves: Vec<Digest> = digests.iter().map(|digest| merkle::leaf(*digest)).collect();
        let mut stated = receipts.into_iter().enumerate().map(|(index, receipt)| {
            let receipt_path = merkle::proof(&leaves, index).unwrap_or_default();
            (receipt, QuorumAck { receipt_path, ..acknowledgement.clone() })
        });
        for entry in entries {
            let Entry { ended, repeated, publications, reply, .. } = entry;
            let Some((receipt, acknowledgement)) = stated.next() else { break };
            let publications = publications
                .into_iter()
                .zip(&mut stated)
                .map(|(waiting, (receipt, acknowledgement))| Stated { waiting, receipt, acknowledgement })
                .collect();
            let _ = reply.send(Ok(Committed { ended, receipt, acknowledgement, repeated, publications }));
        }
        self.answer_settled(settled).await;
        Ok(Closed::Stored)
    }

    /// Says in the open that publications wait, before they do. False when that could not be written.
    async fn remind(&mut self) -> bool {
        if !self.reminded {
            match self.context.reminders.put(self.held.function, self.held.fence).await {
                Ok(()) => self.reminded = true,
                Err(error) => tracing::warn!(function = %self.held.function, %error, "no reminder could be put"),
            }
        }
        self.reminded
    }

    /// Answers those whose publications wait no more, and takes the reminder away with the last of them.
    async fn answer_settled(&mut self, settled: Vec<oneshot::Sender<Result<(), Problem>>>) {
        if settled.is_empty() {
            return;
        }
        if !any_waiting(&self.log.snapshot()) {
            match self.context.reminders.clear(self.held.function, self.held.fence).await {
                Ok(()) => self.reminded = false,
                Err(error) => tracing::warn!(function = %self.held.function, %error, "a reminder stays"),
            }
        }
        for reply in settled {
            let _ = reply.send(Ok(()));
        }
    }

    fn position(&self) -> Position {
        let Held { fence, .. } = *self.held;
        Position { fence, sequence: self.log.sequence(), head: self.log.head() }
    }

    /// Gets a position acknowledged; nothing is confirmed meanwhile.
    async fn acknowledge(&mut self, position: Position, root: Digest) -> Result<QuorumAck, NotAcknowledged> {
        let _moving = self.held.gate.write().await;
        let started = Instant::now();
        let acknowledgement = self.context.acknowledger.acknowledge(self.held.asked(position, root, false)).await?;
        self.context.metrics.acknowledge_microseconds_total.since(started);
        self.unacknowledged = false;
        if self.held.acknowledged().position == position {
            self.held.set_confirmed();
        } else {
            self.held.set_acknowledged(Acknowledged { position, snapshot: Arc::new(self.log.snapshot()) });
        }
        Ok(acknowledgement)
    }

    /// Tries once more to get the newest commit acknowledged.
    async fn acknowledge_again(&mut self) -> Result<bool, Problem> {
        match self.acknowledge(self.position(), Digest::ZERO).await {
            Ok(_) => Ok(true),
            Err(NotAcknowledged::Unanswered) => Ok(false),
            Err(error) => Err(not_acknowledged_problem(&self.context, self.held.certified.id, &error)),
        }
    }
}

/// What became of a round.
enum Closed {
    /// It is in the log, acknowledged or not yet.
    Stored,
    /// It is nowhere.
    Dropped(Problem),
}

/// What happens next to a function.
enum Next {
    Order(Order),
    Ended,
    LeaseEnded,
}

async fn ended(ending: &mut watch::Receiver<Option<End>>) {
    let _ = ending.wait_for(Option::is_some).await;
}

fn answer_all(entries: Vec<Entry>, settled: Vec<oneshot::Sender<Result<(), Problem>>>, problem: &Problem) {
    for entry in entries {
        let _ = entry.reply.send(Err(problem.clone()));
    }
    for reply in settled {
        let _ = reply.send(Err(problem.clone()));
    }
}

/// Waits until the lease, with its renewals, has ended.
async fn lease_end(held: &Held) {
    loop {
        let left = held.lease().lease.until.0.saturating_sub(now().0);
        if left == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_secs(left)).await;
    }
}
