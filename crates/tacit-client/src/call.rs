//! Calls: seal to a verified worker, send, open, verify; and another way where that cannot run anything twice.

use std::{
    collections::BTreeSet,
    future::Future,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{StreamExt as _, stream::FuturesUnordered};
use tacit_api::{CallKind, ProblemKind, calls, limits};
use tacit_envelope::Limits;
use tacit_types::{CodeHash, FunctionId, UnixTime};

use crate::{
    Answer, Client, ClientError, Entry, now,
    sealed::random_digest,
    ways::{AT_ONCE, Sent},
};

/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_millis(800);
const FIRST_PAUSE: Duration = Duration::from_millis(25);
/// Shortest time after which a try is given up.
const SHORTEST_TRY: Duration = Duration::from_secs(2);
/// A try may be silent for this part of a call's patience. Long before, the same call goes another way as well; its idempotency
/// key keeps it from running twice.
const TRIES: u32 = 3;

/// What to call.
#[derive(Debug, Clone)]
pub struct CallRequest {
    /// The function.
    pub function: FunctionId,
    /// The method.
    pub method: String,
    /// The body: JSON text, or bytes where the manifest says so.
    pub body: Bytes,
    /// How to run it if not as the manifest says.
    pub kind: Option<CallKind>,
    /// The same key runs once at most; a random one without.
    pub idempotency_key: String,
    /// How long the call may take, all tries together.
    pub patience: Duration,
    /// Least sequence of the state to answer from.
    pub min_sequence: Option<u64>,
    /// The code that must have run; any version of the function without.
    pub code: Option<CodeHash>,
}

impl CallRequest {
    /// A call as the manifest says, with a random idempotency key and the usual patience.
    pub fn new(function: FunctionId, method: &str, body: impl Into<Bytes>) -> Self {
        Self {
            function,
            method: method.to_owned(),
            body: body.into(),
            kind: None,
            idempotency_key: random_digest().to_string(),
            patience: limits::DEFAULT_DEADLINE,
            min_sequence: None,
            code: None,
        }
    }

    fn check(&self) -> Result<(), ClientError> {
        if !calls::is_method_name(&self.method) && self.method != calls::SECRETS_SET {
            return Err(ClientError::Request(
                "a method's name is a letter or underscore, then letters, digits and underscores",
            ));
        }
        if !calls::is_idempotency_key(&self.idempotency_key) {
            return Err(ClientError::Request("an idempotency key is 1 to 128 visible ASCII characters"));
        }
        if self.body.len() > Limits::default().body {
            return Err(ClientError::Request("the body is larger than 16 MiB"));
        }
        if self.patience > limits::MAX_DEADLINE {
            return Err(ClientError::Request("the deadline is more than 15 minutes away"));
        }
        Ok(())
    }
}

impl Client {
    /// Calls: verifies the workers, seals, sends, opens and verifies, until there is an answer or the deadline passes.
    ///
    /// A try that is silent for longer than is usual stays under way while the same call goes another way. The first verified
    /// answer counts.
    ///
    /// # Errors
    /// [`ClientError`]; unless it says that a worker refused inside the seal, the outcome is unknown, and calling again
    /// with the same idempotency key runs nothing twice.
    pub async fn call(&self, request: &CallRequest) -> Result<Answer, ClientError> {
        request.check()?;
        Course::new(self, request)?.run().await
    }
}

/// One call on its way to an answer: what is under way, and what was learnt from what failed.
struct Course<'a> {
    client: &'a Client,
    request: &'a CallRequest,
    deadline: UnixTime,
    end: Instant,
    /// Tries without an answer yet, at most [`AT_ONCE`], each by another way.
    out: Vec<Sent>,
    /// How often each way failed this call.
    failures: Vec<u32>,
    /// Ways that said, outside of the seal, that the call has no answer.
    denials: BTreeSet<usize>,
    /// Tries that were given up.
    silences: usize,
    /// Place of the worker to try, in the rendezvous order.
    rank: usize,
    pause: Duration,
}

/// What a failed try means for the call.
enum Next {
    /// Another try, after a pause.
    Again(Duration),
    /// No further try. A try that is still under way may have an answer all the same.
    Nothing,
    /// The call has failed.
    Over,
}

impl<'a> Course<'a> {
    fn new(client: &'a Client, request: &'a CallRequest) -> Result<Self, ClientError> {
        Ok(Self {
            client,
            request,
            deadline: now().plus(request.patience.as_secs().max(1)),
            end: Instant::now() + request.patience,
            out: Vec::with_capacity(AT_ONCE),
            failures: vec![0; client.entries()?.len()],
            denials: BTreeSet::new(),
            silences: 0,
            rank: 0,
            pause: FIRST_PAUSE,
        })
    }

    async fn run(mut self) -> Result<Answer, ClientError> {
        // Who may answer is looked up before a way is chosen: then it is known which way is silent. If that fails, the first try
        // says why.
        if let Some(way) = self.free_way() {
            let look = self.client.candidates(way, self.request.function);
            let _ = tokio::time::timeout_at(self.end.into(), look).await;
        }
        let overdue = self.client.ways.calls.overdue(self.request.patience / TRIES);
        let mut tries = FuturesUnordered::new();
        let mut next = Instant::now();
        let (mut refusal, mut failure) = (None, None);
        loop {
            let way = self.free_way().filter(|_| refusal.is_none() && next < self.end);
            tokio::select! {
                biased;
                Some((sent, result)) = tries.next() => {
                    self.out.retain(|other| *other != sent);
                    let error = match result {
                        Ok(answer) => {
                            self.client.ways.answered(&self.client.ways.calls, sent, &self.out);
                            return Ok(answer);
                        }
                        Err(error) => error,
                    };
                    match self.judge(sent, &error) {
                        Next::Again(pause) => {
                            // A try under way is not hurried: it may be the one that runs.
                            next = Instant::now() + if self.out.is_empty() { pause } else { pause.max(overdue) };
                            // That the time is over says less than what failed before.
                            if !matches!(error, ClientError::Deadline(_)) {
                                failure = Some(Box::new(error));
                            }
                        }
                        Next::Nothing => refusal = refusal.or(Some(error)),
                        Next::Over => return Err(error),
                    }
                }
                () = tokio::time::sleep_until(next.into()), if way.is_some() => {
                    let Some(way) = way else { continue };
                    tries.push(self.send(way));
                    next = Instant::now() + overdue;
                }
                else => return Err(refusal.unwrap_or(ClientError::Deadline(failure))),
            }
        }
    }

    /// The way for a further try: one by which none is under way, which failed least, and which was not silent lately.
    fn free_way(&self) -> Option<usize> {
        let is_free = |way: &usize| !self.out.iter().any(|sent| sent.way == *way);
        let order = self.client.ways.order().into_iter().filter(is_free);
        order.min_by_key(|way| self.failures[*way]).filter(|_| self.out.len() < AT_ONCE)
    }

    /// Seals and sends the call once.
    fn send(&mut self, way: usize) -> impl Future<Output = (Sent, Result<Answer, ClientError>)> + use<'a> {
        let sent = Sent { way, rank: self.rank, at: Instant::now() };
        self.out.push(sent);
        let (client, request, deadline, end) = (self.client, self.request, self.deadline, self.end);
        async move { (sent, client.try_once(request, sent, deadline, end).await) }
    }

    /// Learns from a failure.
    fn judge(&mut self, sent: Sent, error: &ClientError) -> Next {
        let ways = &self.client.ways;
        ways.failed(sent.way, error);
        let mut wait = self.pause;
        match error {
            // The word of a node that nobody vouches for ends the call only when every way in says so.
            ClientError::Lookup { problem, .. } | ClientError::Unsealed { problem, .. } if !error.is_passing() => {
                self.denials.insert(sent.way);
                self.failures[sent.way] += 1;
                if self.denials.len() == self.failures.len() || problem.kind == ProblemKind::TooLarge {
                    return Next::Nothing;
                }
            }
            // A worker's word on the request itself holds for a try that is still on its way to the same worker.
            ClientError::Sealed(problem) if !error.is_passing() => {
                let of_the_moment = matches!(problem.kind, ProblemKind::DeadlineExpired | ProblemKind::Internal);
                let elsewhere = self.out.iter().any(|other| other.rank != sent.rank);
                return if of_the_moment || elsewhere { Next::Nothing } else { Next::Over };
            }
            ClientError::Deadline(_) => {}
            _ if !error.is_passing() => return Next::Nothing,
            ClientError::Lookup { problem, .. }
            | ClientError::Unsealed { problem, .. }
            | ClientError::Sealed(problem) => {
                self.client.forget_workers(self.request.function);
                match problem.kind {
                    // A way that leads to one worker only leads to no other of its kind.
                    ProblemKind::NotHolder | ProblemKind::NotCertified | ProblemKind::WorkerUnreachable => {
                        match ways.entries()[sent.way] {
                            Entry::Gateway(_) => self.rank = sent.rank + 1,
                            Entry::Worker(_) => self.failures[sent.way] += 1,
                        }
                    }
                    ProblemKind::WrongKey | ProblemKind::UnreadableSeal | ProblemKind::UnknownWorker => self.rank = 0,
                    _ => self.failures[sent.way] += 1,
                }
                if let Some(seconds) = problem.retry_after.filter(|_| problem.kind.status() == 429) {
                    wait = wait.max(Duration::from_secs(u64::from(seconds)).min(Duration::from_secs(5)));
                }
            }
            _ => {
                self.client.forget_workers(self.request.function);
                self.failures[sent.way] += 1;
                if error.is_silence() {
                    self.silences += 1;
                    // Silent whatever the way: it is the worker.
                    if self.silences.is_multiple_of(self.failures.len()) {
                        self.rank += 1;
                    }
                }
            }
        }
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Next::Again(wait)
    }
}

impl Client {
    async fn try_once(
        &self,
        request: &CallRequest,
        sent: Sent,
        deadline: UnixTime,
        end: Instant,
    ) -> Result<Answer, ClientError> {
        let found = tokio::time::timeout_at(end.into(), self.candidates(sent.way, request.function)).await;
        let candidates = found.map_err(|_| ClientError::Deadline(None))??;
        let candidate = candidates[sent.rank % candidates.len()].clone();
        let prepared = self.prepare(request, candidate, deadline)?;
        let remaining = end.saturating_duration_since(Instant::now());
        let timeout = remaining.min((request.patience / TRIES).max(SHORTEST_TRY));
        let sealed = self.send(request.function, &prepared, &self.entries()?[sent.way], timeout).await?;
        self.verify_answer(request, prepared.open(&sealed)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_requests_are_refused_before_anything_is_sent() {
        let good = CallRequest::new(FunctionId::ZERO, "price", "{}");
        assert!(good.check().is_ok());
        let check = |request: CallRequest| assert!(matches!(request.check(), Err(ClientError::Request(_))));
        check(CallRequest { method: "a/b".into(), ..good.clone() });
        check(CallRequest { idempotency_key: String::new(), ..good.clone() });
        check(CallRequest { idempotency_key: "a b".into(), ..good.clone() });
        check(CallRequest { body: vec![0; (16 << 20) + 1].into(), ..good.clone() });
        check(CallRequest { patience: Duration::from_secs(901), ..good });
    }

    #[test]
    fn every_call_has_its_own_key_unless_told_otherwise() {
        let one = CallRequest::new(FunctionId::ZERO, "a", "");
        let two = CallRequest::new(FunctionId::ZERO, "a", "");
        assert_ne!(one.idempotency_key, two.idempotency_key);
        assert!(calls::is_idempotency_key(&one.idempotency_key));
    }
}
