//! The register's own thread: takes everything that waits, writes it with one flush, then answers all of it.

use std::{
    collections::HashMap,
    fs::File,
    path::Path,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tacit_api::{Problem, ProblemKind};
use tacit_threshold::{Input, MAX_RECORD, Output, Record, Refusal, Register, Reply};
use tacit_types::{CertificateId, ClusterId, FunctionId, UnixTime, eip712::Certificate};
use tokio::sync::{mpsc, oneshot};

use crate::{
    config::Clock,
    error::GatekeeperError,
    journal::{AppendError, Journal},
    seal::Sealer,
};

/// Requests that may wait for the register.
const QUEUE: usize = 4_096;
/// Requests that are written together at most.
const GROUP: usize = 1_024;
/// Bytes of a frame at which a snapshot begins the next one.
const SNAPSHOT_FRAME: usize = 1 << 20;
/// Bytes of the journal below which it is never replaced.
const COMPACT_FROM: u64 = 64 << 20;

/// How long a count of leases is told again.
const COUNT_AGAIN: Duration = Duration::from_secs(1);

/// What the gatekeeper's register is asked through.
#[derive(Clone)]
pub(crate) struct Desk {
    jobs: mpsc::Sender<Job>,
    certificates: Certificates,
    counts: Arc<Counts>,
}

type Certificates = Arc<RwLock<HashMap<CertificateId, Known>>>;

/// A certificate that the register noted.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) certificate: Arc<Certificate>,
    pub(crate) revoked: bool,
}

/// What the status page shows.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) functions: AtomicU64,
    pub(crate) halted: AtomicBool,
}

enum Job {
    Inputs(Vec<Input>, oneshot::Sender<Result<Vec<Reply>, Problem>>),
    Holder {
        function: FunctionId,
        certificate: CertificateId,
        fence: u64,
        answer: oneshot::Sender<Result<(), Refusal>>,
    },
    Leases(oneshot::Sender<u64>),
}

/// A request whose records are in the present group.
type Waiting = (oneshot::Sender<Result<Vec<Reply>, Problem>>, Vec<Reply>);

impl Desk {
    /// Opens the register in a folder and starts its thread, which ends with the last copy of the desk.
    pub(crate) fn open(
        folder: &Path,
        sealer: Sealer,
        cluster: ClusterId,
        epoch: u64,
        clock: Clock,
        lock: Arc<File>,
    ) -> Result<Self, GatekeeperError> {
        let (register, journal) = load(folder, sealer.clone(), cluster, epoch)?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        let certificates = Certificates::default();
        let counts = Arc::new(Counts::default());
        let worker = Worker {
            register,
            compacted: journal.length(),
            counted: None,
            _lock: lock,
            journal,
            clock,
            certificates: certificates.clone(),
            counts: counts.clone(),
            reload: Box::new({
                let folder = folder.to_owned();
                move || load(&folder, sealer.clone(), cluster, epoch)
            }),
        };
        worker.publish_all();
        let thread = std::thread::Builder::new().name("register".into());
        thread
            .spawn(move || worker.run(queue))
            .map_err(|source| GatekeeperError::File { path: folder.to_owned(), source })?;
        Ok(Self { jobs, certificates, counts })
    }

    /// Hands inputs to the register, which takes them together; the replies come when everything they rest on is durable.
    pub(crate) async fn ask(&self, inputs: Vec<Input>) -> Result<Vec<Reply>, Problem> {
        let (answer, reply) = oneshot::channel();
        self.jobs.try_send(Job::Inputs(inputs, answer)).map_err(|error| self.refused(&error))?;
        reply.await.unwrap_or_else(|_| Err(halted()))
    }

    /// Whether a certificate holds a function's lease.
    pub(crate) async fn check_holder(
        &self,
        function: FunctionId,
        certificate: CertificateId,
        fence: u64,
    ) -> Result<Result<(), Refusal>, Problem> {
        let (answer, reply) = oneshot::channel();
        let job = Job::Holder { function, certificate, fence, answer };
        self.jobs.try_send(job).map_err(|error| self.refused(&error))?;
        reply.await.map_err(|_| halted())
    }

    /// Leases that are not over.
    pub(crate) async fn leases(&self) -> Result<u64, Problem> {
        let (answer, reply) = oneshot::channel();
        self.jobs.try_send(Job::Leases(answer)).map_err(|error| self.refused(&error))?;
        reply.await.map_err(|_| halted())
    }

    /// A certificate that the register noted.
    pub(crate) fn certificate(&self, id: CertificateId) -> Option<Known> {
        self.certificates.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// All certificates that were noted.
    pub(crate) fn certificates(&self) -> Vec<(CertificateId, Known)> {
        let table = self.certificates.read().unwrap_or_else(PoisonError::into_inner);
        table.iter().map(|(id, known)| (*id, known.clone())).collect()
    }

    /// What the status page shows.
    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    fn refused(&self, error: &mpsc::error::TrySendError<Job>) -> Problem {
        match error {
            mpsc::error::TrySendError::Full(_) => {
                Problem::new(ProblemKind::Overloaded, "too many requests wait for the register")
            }
            mpsc::error::TrySendError::Closed(_) => halted(),
        }
    }
}

fn halted() -> Problem {
    Problem::new(
        ProblemKind::StorageUnavailable,
        "the register's disk failed; this gatekeeper answers nothing until it is restarted",
    )
}

fn load(folder: &Path, sealer: Sealer, cluster: ClusterId, epoch: u64) -> Result<(Register, Journal), GatekeeperError> {
    let mut register = Register::new(cluster, epoch);
    let journal = Journal::open(folder, sealer, |frame| {
        let records = Record::decode_all(frame).map_err(|error| error.to_string())?;
        records.into_iter().try_for_each(|record| register.apply(record)).map_err(|error| error.to_string())
    })?;
    Ok((register, journal))
}

struct Worker {
    register: Register,
    journal: Journal,
    clock: Clock,
    certificates: Certificates,
    counts: Arc<Counts>,
    compacted: u64,
    counted: Option<(Instant, u64)>,
    /// The folder's lock: nobody else opens the journal while this thread may write.
    _lock: Arc<File>,
    reload: Box<dyn Fn() -> Result<(Register, Journal), GatekeeperError> + Send>,
}

impl Worker {
    fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        while let Some(first) = queue.blocking_recv() {
            let (mut frame, mut waiting, mut taken) = (Vec::new(), Vec::new(), 0);
            let mut next = Some(first);
            while let Some(job) = next {
                self.take(job, &mut frame, &mut waiting);
                taken += 1;
                let room = taken < GROUP && frame.len() < SNAPSHOT_FRAME;
                next = if room { queue.try_recv().ok() } else { None };
            }
            if !self.finish(&frame, waiting) {
                self.counts.halted.store(true, Ordering::Relaxed);
                return;
            }
            self.compact();
        }
    }

    fn take(&mut self, job: Job, frame: &mut Vec<u8>, waiting: &mut Vec<Waiting>) {
        let now = self.clock.now();
        match job {
            Job::Holder { function, certificate, fence, answer } => {
                // Nothing is promised by this answer, so it need not wait for the disk.
                let _gone = answer.send(self.register.check_holder(now, function, certificate, fence));
            }
            Job::Leases(answer) => {
                // Looks through the whole register, so not for everybody who asks.
                let counted = self.counted.filter(|(at, _)| at.elapsed() < COUNT_AGAIN);
                let (at, count) = counted.unwrap_or_else(|| (Instant::now(), self.register.live_leases(now) as u64));
                self.counted = Some((at, count));
                let _gone = answer.send(count);
            }
            Job::Inputs(inputs, answer) => {
                let mut replies = Vec::with_capacity(inputs.len());
                for input in inputs {
                    for output in self.register.handle(now, input) {
                        match output {
                            Output::Persist(record) => {
                                record.encode(frame);
                                self.publish(&record);
                            }
                            Output::Reply(reply) => replies.push(reply),
                        }
                    }
                }
                waiting.push((answer, replies));
            }
        }
    }

    /// Makes the group durable and answers it. False if there is no going on.
    fn finish(&mut self, frame: &[u8], waiting: Vec<Waiting>) -> bool {
        let outcome = if frame.is_empty() { Ok(()) } else { self.journal.append(frame) };
        let (problem, going_on) = match outcome {
            Ok(()) => {
                self.counts.functions.store(self.register.functions() as u64, Ordering::Relaxed);
                for (answer, replies) in waiting {
                    let _gone = answer.send(Ok(replies));
                }
                return true;
            }
            Err(AppendError::Full(error)) => {
                tracing::error!(%error, "the register could not be written");
                let problem = Problem::new(
                    ProblemKind::StorageUnavailable,
                    format!("the register's disk refuses: {}", error.kind()),
                );
                // The register in memory is ahead of the disk: go back to what the disk holds.
                match (self.reload)() {
                    Ok((register, journal)) => {
                        (self.register, self.journal) = (register, journal);
                        self.publish_all();
                        (problem, true)
                    }
                    Err(error) => {
                        tracing::error!(%error, "the register could not be read again");
                        (halted(), false)
                    }
                }
            }
            Err(AppendError::Broken(error)) => {
                tracing::error!(%error, "the register's disk failed");
                (halted(), false)
            }
        };
        for (answer, _) in waiting {
            let _gone = answer.send(Err(problem.clone()));
        }
        going_on
    }

    fn compact(&mut self) {
        if self.journal.length() < COMPACT_FROM.max(self.compacted.saturating_mul(4)) {
            return;
        }
        let now = self.clock.now();
        let mut frames = vec![Vec::new()];
        for record in self.register.compact(now) {
            if frames.last().is_some_and(|frame| frame.len() + MAX_RECORD > SNAPSHOT_FRAME) {
                frames.push(Vec::new());
            }
            if let Some(frame) = frames.last_mut() {
                record.encode(frame);
            }
        }
        let content = frames.iter().map(Vec::as_slice).filter(|frame| !frame.is_empty());
        match self.journal.replace(content) {
            Ok(()) => tracing::info!(bytes = self.journal.length(), "register compacted"),
            Err(error) => tracing::error!(%error, "the register could not be compacted"),
        }
        self.compacted = self.journal.length();
        self.publish_all();
    }

    fn publish(&self, record: &Record) {
        let mut table = self.certificates.write().unwrap_or_else(PoisonError::into_inner);
        match record {
            Record::Certified(_) | Record::Revoked(_) => refresh(&self.register, &mut table),
            Record::Promised { .. } | Record::Held(_) | Record::Accepted { .. } => {}
        }
    }

    fn publish_all(&self) {
        let mut table = self.certificates.write().unwrap_or_else(PoisonError::into_inner);
        refresh(&self.register, &mut table);
        self.counts.functions.store(self.register.functions() as u64, Ordering::Relaxed);
    }
}

fn refresh(register: &Register, table: &mut HashMap<CertificateId, Known>) {
    let mut fresh = HashMap::with_capacity(table.len() + 1);
    for (id, certificate, revoked) in register.certificates() {
        let certificate = match table.remove(&id) {
            Some(known) => known.certificate,
            None => Arc::new(certificate.clone()),
        };
        fresh.insert(id, Known { certificate, revoked });
    }
    *table = fresh;
}

/// Certificates that live at `now`.
pub(crate) fn live_certificates(desk: &Desk, now: UnixTime) -> u64 {
    desk.certificates().iter().filter(|(_, known)| !known.revoked && known.certificate.is_live(now)).count() as u64
}
