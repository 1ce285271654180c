//! What one sandbox holds on the host's side, and the world's imports over it.

use std::sync::Arc;

use bytes::Bytes;
use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};
use tacit_types::chain::{MAX_PUBLICATION_DATA, MAX_TOPIC, Publication};
use tacit_types::manifest::MethodKind;
use wasmtime::ResourceLimiter;

use crate::bindings::engine::tacit::function::{chain, clock, log, request, secrets, state, types};
use crate::bindings::function::tacit::function::random;
use crate::call::{Call, Clock, LogEntry, LogLevel, RequestInfo, Write};
use crate::exchanges::Exchanges;
use crate::host::{Host, HostError};
use crate::limits::{Limit, Limits};
use crate::overlay::Overlay;

/// Bytes of a key of state.
const KEY: usize = 256;
/// Bytes of a value of state.
const VALUE: usize = 1 << 20;
/// Entries of one page of state.
const PAGE: u32 = 1000;
/// Publications of one call.
const PUBLICATIONS: usize = 16;
/// Entries that a table may grow to.
const TABLE: usize = 20_000;

/// How far a call has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The module is being compiled or loaded: it has no powers but a clock and its own randomness.
    Loading,
    /// The method runs.
    Entered,
}

/// The host's side of one sandbox.
pub(crate) struct Sandbox {
    pub host: Arc<dyn Host>,
    pub limits: Limits,
    pub phase: Phase,
    kind: MethodKind,
    pub clock: Clock,
    info: RequestInfo,
    random: ChaCha20Rng,
    pub host_calls: u64,
    pub logs: Vec<LogEntry>,
    logged: u64,
    /// What was printed to standard output and error since the last end of line.
    printed: [Vec<u8>; 2],
    overlay: Overlay,
    pub exchanges: Exchanges,
    publications: Vec<Publication>,
    /// The most linear memory so far, and the memory that instances began with.
    pub memory: usize,
}

/// What a sandbox leaves.
pub(crate) struct Left {
    pub logs: Vec<LogEntry>,
    pub effects: Vec<crate::call::Effect>,
    pub writes: Vec<Write>,
    pub publications: Vec<Publication>,
}

impl Sandbox {
    pub fn new(host: Arc<dyn Host>, call: Call) -> Self {
        // The guest's own generator starts from the seed itself; this one must not repeat it.
        let seed: [u8; 32] =
            Sha256::new().chain_update(b"tacit/random/host/1").chain_update(call.seed).finalize().into();
        Self {
            host,
            limits: call.limits,
            phase: Phase::Loading,
            kind: call.kind,
            clock: call.clock,
            info: call.request,
            random: ChaCha20Rng::from_seed(seed),
            host_calls: 0,
            logs: Vec::new(),
            logged: 0,
            printed: Default::default(),
            overlay: Overlay::default(),
            exchanges: Exchanges::default(),
            publications: Vec::new(),
            memory: 0,
        }
    }

    /// What the call leaves.
    pub fn finish(self) -> Left {
        Left {
            logs: self.logs,
            effects: self.exchanges.into_effects(),
            writes: self.overlay.into_writes(),
            publications: self.publications,
        }
    }

    pub fn time(&self) -> u64 {
        match self.clock {
            Clock::Host => self.host.now(),
            Clock::Fixed(now) => now,
        }
    }

    pub fn random_bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.random.fill_bytes(&mut bytes);
        bytes
    }

    pub fn random_u64(&mut self) -> u64 {
        self.random.next_u64()
    }

    /// Counts one call from the guest to the host.
    pub fn counted(&mut self) -> wasmtime::Result<()> {
        self.host_calls += 1;
        if self.host_calls > self.limits.host_calls { Err(Limit::HostCalls.into()) } else { Ok(()) }
    }

    pub fn write_log(&mut self, level: LogLevel, message: String) -> wasmtime::Result<()> {
        self.logged += message.len() as u64 + 16;
        if self.logged > self.limits.log_bytes {
            return Err(Limit::LogBytes.into());
        }
        let entry = LogEntry { time: self.time(), level, message };
        self.host.log(&entry);
        self.logs.push(entry);
        Ok(())
    }

    /// Takes what a program prints: standard output (1) and error (2) become log lines.
    pub fn print(&mut self, stream: u32, bytes: &[u8]) -> wasmtime::Result<()> {
        let (buffer, level) = if stream == 1 { (0, LogLevel::Info) } else { (1, LogLevel::Error) };
        if (self.printed[buffer].len() + bytes.len()) as u64 + self.logged > self.limits.log_bytes {
            return Err(Limit::LogBytes.into());
        }
        self.printed[buffer].extend_from_slice(bytes);
        while let Some(end) = self.printed[buffer].iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.printed[buffer].drain(..=end).collect();
            let line = String::from_utf8_lossy(&line[..end]).into_owned();
            if !line.is_empty() {
                self.write_log(level, line)?;
            }
        }
        Ok(())
    }

    /// Refuses powers to a module that is only being loaded.
    pub fn entered(&self, what: &str) -> Result<(), types::HostError> {
        match self.phase {
            Phase::Entered => Ok(()),
            Phase::Loading => Err(types::HostError::Denied(format!(
                "{what} cannot be used while the module loads; use it inside a method"
            ))),
        }
    }

    fn writable(&self, key: &str) -> Result<(), types::HostError> {
        self.entered("state")?;
        match self.kind {
            MethodKind::Query => Err(types::HostError::ReadOnly),
            MethodKind::Command => key_fits(key),
        }
    }

    fn publishable(&self, topic: &str, data: &[u8]) -> Result<(), types::HostError> {
        self.entered("chain")?;
        if self.kind == MethodKind::Query {
            return Err(types::HostError::ReadOnly);
        }
        let invalid = |message| Err(types::HostError::Invalid(message));
        if topic.is_empty() || topic.len() > MAX_TOPIC {
            return invalid(format!("a topic has 1 to {MAX_TOPIC} bytes, this one has {}", topic.len()));
        }
        if data.len() > MAX_PUBLICATION_DATA {
            return invalid(format!(
                "a publication has at most {MAX_PUBLICATION_DATA} bytes of data, this one has {}",
                data.len()
            ));
        }
        if self.publications.len() >= PUBLICATIONS {
            return invalid(format!("a call publishes at most {PUBLICATIONS} times"));
        }
        Ok(())
    }

    fn put(&mut self, key: String, value: Option<Bytes>) -> wasmtime::Result<()> {
        self.overlay.put(key, value);
        if self.overlay.written() > self.limits.state_bytes { Err(Limit::StateBytes.into()) } else { Ok(()) }
    }

    fn savepoint(
        &mut self,
        change: impl FnOnce(&mut Overlay) -> bool,
        refusal: &str,
    ) -> wasmtime::Result<Result<(), types::HostError>> {
        self.counted()?;
        Ok(self.entered("state").and_then(|()| {
            if change(&mut self.overlay) { Ok(()) } else { Err(types::HostError::Invalid(refusal.to_owned())) }
        }))
    }
}

fn key_fits(key: &str) -> Result<(), types::HostError> {
    if key.is_empty() || key.len() > KEY {
        return Err(types::HostError::Invalid(format!(
            "a key of state has 1 to {KEY} bytes, this one has {}",
            key.len()
        )));
    }
    Ok(())
}

impl From<HostError> for types::HostError {
    fn from(error: HostError) -> Self {
        match error {
            HostError::Denied(message) => Self::Denied(message),
            HostError::Invalid(message) => Self::Invalid(message),
            HostError::Unavailable(message) => Self::Unavailable(message),
        }
    }
}

impl types::Host for Sandbox {}

impl state::Host for Sandbox {
    async fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<Vec<u8>>, types::HostError>> {
        self.counted()?;
        if let Err(error) = self.entered("state").and_then(|()| key_fits(&key)) {
            return Ok(Err(error));
        }
        if let Some(value) = self.overlay.get(&key) {
            return Ok(Ok(value.as_ref().map(|value| value.to_vec())));
        }
        let value = self.host.state_get(&key).await;
        Ok(value.map(|value| value.map(|value| value.to_vec())).map_err(Into::into))
    }

    async fn set(&mut self, key: String, value: Vec<u8>) -> wasmtime::Result<Result<(), types::HostError>> {
        self.counted()?;
        if let Err(error) = self.writable(&key) {
            return Ok(Err(error));
        }
        if value.len() > VALUE {
            return Ok(Err(types::HostError::Invalid(format!(
                "a value of state has at most {VALUE} bytes, this one has {}",
                value.len()
            ))));
        }
        self.put(key, Some(value.into())).map(Ok)
    }

    async fn delete(&mut self, key: String) -> wasmtime::Result<Result<(), types::HostError>> {
        self.counted()?;
        if let Err(error) = self.writable(&key) {
            return Ok(Err(error));
        }
        self.put(key, None).map(Ok)
    }

    async fn list(
        &mut self,
        prefix: String,
        after: Option<String>,
        limit: u32,
    ) -> wasmtime::Result<Result<Vec<(String, Vec<u8>)>, types::HostError>> {
        self.counted()?;
        if let Err(error) = self.entered("state") {
            return Ok(Err(error));
        }
        if limit == 0 || limit > PAGE {
            return Ok(Err(types::HostError::Invalid(format!("a page of state has 1 to {PAGE} entries, not {limit}"))));
        }
        let entries = self.overlay.list(&*self.host, &prefix, after.as_deref(), limit as usize).await;
        Ok(entries
            .map(|entries| entries.into_iter().map(|(key, value)| (key, value.to_vec())).collect())
            .map_err(Into::into))
    }

    async fn begin(&mut self) -> wasmtime::Result<Result<(), types::HostError>> {
        self.savepoint(Overlay::begin, "transactions are nested too deeply")
    }

    async fn commit(&mut self) -> wasmtime::Result<Result<(), types::HostError>> {
        self.savepoint(Overlay::commit, "no transaction is open")
    }

    async fn rollback(&mut self) -> wasmtime::Result<Result<(), types::HostError>> {
        self.savepoint(Overlay::rollback, "no transaction is open")
    }
}

impl chain::Host for Sandbox {
    async fn publish(
        &mut self,
        chain: String,
        contract: String,
        topic: String,
        data: Vec<u8>,
    ) -> wasmtime::Result<Result<u64, types::HostError>> {
        self.counted()?;
        if let Err(error) = self.publishable(&topic, &data) {
            return Ok(Err(error));
        }
        let destination = match self.host.destination(&chain, &contract, &topic).await {
            Ok(destination) => destination,
            Err(error) => return Ok(Err(error.into())),
        };
        let (chain_id, consumer) = (destination.chain_id, destination.contract);
        let same = |made: &&Publication| (made.chain_id, made.consumer, &made.topic) == (chain_id, consumer, &topic);
        let last = self.publications.iter().rev().find(same).map_or(destination.last, |made| made.sequence);
        let Some(sequence) = last.checked_add(1) else {
            return Ok(Err(types::HostError::Invalid("there is no higher sequence".into())));
        };
        self.publications.push(Publication { chain_id, consumer, topic, sequence, data });
        Ok(Ok(sequence))
    }
}

impl secrets::Host for Sandbox {
    async fn get(&mut self, name: String) -> wasmtime::Result<Result<Option<String>, types::HostError>> {
        self.counted()?;
        if let Err(error) = self.entered("secrets") {
            return Ok(Err(error));
        }
        let secret = self.host.secret(&name).await;
        Ok(secret.map(|secret| secret.map(|secret| secret.as_str().to_owned())).map_err(Into::into))
    }
}

impl log::Host for Sandbox {
    fn write(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        self.counted()?;
        let level = match level {
            log::Level::Debug => LogLevel::Debug,
            log::Level::Info => LogLevel::Info,
            log::Level::Warn => LogLevel::Warn,
            log::Level::Error => LogLevel::Error,
        };
        self.write_log(level, message)
    }
}

impl clock::Host for Sandbox {
    fn now(&mut self) -> wasmtime::Result<u64> {
        self.counted()?;
        Ok(self.time())
    }
}

impl random::Host for Sandbox {
    fn bytes(&mut self, length: u32) -> wasmtime::Result<Vec<u8>> {
        self.counted()?;
        if u64::from(length) > self.limits.memory {
            return Err(Limit::Memory.into());
        }
        Ok(self.random_bytes(length as usize))
    }
}

impl request::Host for Sandbox {
    fn current(&mut self) -> wasmtime::Result<request::Info> {
        self.counted()?;
        let info = self.info.clone();
        Ok(request::Info {
            caller: info.caller,
            call_id: info.call_id,
            method: info.method,
            deadline: info.deadline,
            trigger: info.trigger,
            version: info.version,
        })
    }
}

impl ResourceLimiter for Sandbox {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        // What a module begins with is bounded by the pool; the limit is about what a call asks for.
        if current > 0 && (desired as u64 > self.limits.memory || maximum.is_some_and(|maximum| desired > maximum)) {
            return Err(Limit::Memory.into());
        }
        self.memory = self.memory.max(desired);
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        // Tables begin with their functions; a program has no reason to grow them far.
        if current > 0 && desired > TABLE { Err(Limit::Memory.into()) } else { Ok(true) }
    }
}
