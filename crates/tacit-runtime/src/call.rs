//! One call: what goes in and what comes out.

use std::fmt;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tacit_types::chain::Publication;
use tacit_types::eip712::Outcome;
use tacit_types::manifest::{Body, MethodKind};

use crate::host::Tensor;
use crate::limits::{Limit, Limits};

/// One call of one method.
#[derive(Clone)]
pub struct Call {
    /// Name of the method.
    pub method: String,
    /// Whether the method may write state.
    pub kind: MethodKind,
    /// The request body.
    pub input: Bytes,
    /// How the request body is handed to the method.
    pub format: Body,
    /// Seed of all randomness of the call; fresh for each call, except in a replay.
    pub seed: [u8; 32],
    /// Where time comes from.
    pub clock: Clock,
    /// What the call may use.
    pub limits: Limits,
    /// What the method may know of the call.
    pub request: RequestInfo,
}

impl Call {
    /// A command with JSON input, default limits and the host's clock.
    pub fn command(method: &str, input: impl Into<Bytes>, seed: [u8; 32]) -> Self {
        Self {
            method: method.to_owned(),
            kind: MethodKind::Command,
            input: input.into(),
            format: Body::Json,
            seed,
            clock: Clock::Host,
            limits: Limits::default(),
            request: RequestInfo { method: method.to_owned(), ..RequestInfo::default() },
        }
    }

    /// The same call as a query.
    pub fn query(method: &str, input: impl Into<Bytes>, seed: [u8; 32]) -> Self {
        Self { kind: MethodKind::Query, ..Self::command(method, input, seed) }
    }
}

impl fmt::Debug for Call {
    /// Neither the input nor the seed: both are secret.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Call").field("method", &self.method).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// Where a call's time comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The host's clock; timers wait.
    Host,
    /// A deterministic call: time stands at this many microseconds since 1970, timers move it at once, and there is no network.
    Fixed(u64),
}

/// What a method may know of its call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// Address of the caller, or `{chain, address}` of a consumer as text.
    pub caller: Option<String>,
    /// Call id as 0x-hex.
    pub call_id: String,
    /// Name of the method.
    pub method: String,
    /// Microseconds since 1970.
    pub deadline: u64,
    /// What fired the call where nobody called.
    pub trigger: Option<String>,
    /// Version of the function's code.
    pub version: u64,
}

/// What a method returned.
#[derive(Clone, PartialEq, Eq)]
pub struct Output {
    /// JSON text, or bytes of the author's making.
    pub format: Body,
    /// The response body.
    pub body: Bytes,
}

impl fmt::Debug for Output {
    /// Only its form and length.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Output({:?}, {} bytes)", self.format, self.body.len())
    }
}

/// Why a call has no output.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The author's code threw.
    #[error("{name}: {message}")]
    Thrown {
        /// Class of the error.
        name: String,
        /// What the author's code said.
        message: String,
        /// Frames in the author's files, one a line; empty where there is none.
        stack: String,
    },
    /// A limit ended the call.
    #[error("limit {0}")]
    Limit(Limit),
    /// The function has no such method.
    #[error("the function has no method \"{0}\"")]
    NoSuchMethod(String),
    /// The input is not what the method's manifest entry says.
    #[error("{0}")]
    InvalidInput(String),
    /// The code ended in a WebAssembly trap.
    #[error("the code trapped: {0}")]
    Trapped(String),
    /// The host could not do its part: the engine is full, or state could not be read.
    #[error("unavailable: {0}")]
    Unavailable(String),
}

impl Failure {
    /// The outcome that the receipt names.
    pub const fn outcome(&self) -> Outcome {
        match self {
            Self::Thrown { .. } | Self::NoSuchMethod(_) | Self::InvalidInput(_) | Self::Trapped(_) => Outcome::Thrown,
            Self::Limit(_) => Outcome::Limit,
            Self::Unavailable(_) => Outcome::Unavailable,
        }
    }
}

/// Weight of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// For the author alone.
    Debug,
    /// What happened.
    Info,
    /// What should not happen.
    Warn,
    /// What failed.
    Error,
}

/// One log line of a call, for the owner's eyes only.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LogEntry {
    /// Microseconds since 1970.
    pub time: u64,
    /// Its weight.
    pub level: LogLevel,
    /// The line.
    pub message: String,
}

impl fmt::Debug for LogEntry {
    /// Without the line, which is for the owner alone.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "LogEntry({:?}, {} bytes)", self.level, self.message.len())
    }
}

/// One change of state: the value to keep, or none to delete the key.
#[derive(Clone, PartialEq, Eq)]
pub struct Write {
    /// The key.
    pub key: String,
    /// The new value.
    pub value: Option<Bytes>,
}

impl fmt::Debug for Write {
    /// Only lengths: keys may tell as much as values.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value.as_ref().map(Bytes::len);
        formatter.debug_struct("Write").field("key_length", &self.key.len()).field("value_length", &value).finish()
    }
}

/// One exchange with what is outside the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// An HTTP exchange.
    Fetch {
        /// HTTP method.
        method: String,
        /// SHA-256 of the URL as it was asked for.
        url: [u8; 32],
        /// HTTP status; zero when nobody answered.
        status: u16,
        /// SHA-256 of the response body; of nothing when nobody answered.
        response: [u8; 32],
        /// SHA-256 of the server's public key (SubjectPublicKeyInfo); zero when nobody answered.
        server_key: [u8; 32],
    },
    /// A model's answer.
    Inference {
        /// SHA-256 of the answer's ACI receipt; of a run of an ONNX model, which has none, [`run_digest`].
        receipt: [u8; 32],
        /// SHA-256 of the model's manifest.
        model: [u8; 32],
    },
}

/// What stands for a run of an ONNX model among the effects of a call: SHA-256 of `tacit/run/1` and the SHA-256 of the inputs' and
/// of the outputs' canonical form. That is for each tensor its name, a zero byte, the element's name, a zero byte, the number of
/// axes and each axis' length as four bytes, the data's length as eight bytes, big-endian, and the data.
pub fn run_digest(inputs: &[Tensor], outputs: &[Tensor]) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix("tacit/run/1");
    for tensors in [inputs, outputs] {
        let mut part = Sha256::new();
        for tensor in tensors {
            part.update(&tensor.name);
            part.update([0]);
            part.update(tensor.element.name());
            part.update([0]);
            part.update((tensor.shape.len() as u32).to_be_bytes());
            tensor.shape.iter().for_each(|axis| part.update(axis.to_be_bytes()));
            part.update((tensor.data.len() as u64).to_be_bytes());
            part.update(&tensor.data);
        }
        hash.update(part.finalize());
    }
    hash.finalize().into()
}

/// What a call leaves behind.
#[derive(Debug, Clone)]
pub struct CallOutcome {
    /// What the method returned, or why it did not.
    pub result: Result<Output, Failure>,
    /// Fuel used since entry of the method; never more than the limit.
    pub fuel_used: u64,
    /// Log lines in order, also of a failed call.
    pub logs: Vec<LogEntry>,
    /// Exchanges in the order in which they were started, also of a failed call.
    pub effects: Vec<Effect>,
    /// Changes of state in byte order of their keys, each key once; empty when the call failed.
    pub writes: Vec<Write>,
    /// What the call published, in order; empty when the call failed.
    pub publications: Vec<Publication>,
    /// Calls from the guest to the host.
    pub host_calls: u64,
    /// The most linear memory that the call had, in bytes.
    pub memory: u64,
}
