//! The powers that a function gets, as one trait.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use tacit_types::Address;
use zeroize::Zeroizing;

/// Why the host did not do what it was asked; the author's code sees it as an error that it may catch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The function may not.
    #[error("{0}")]
    Denied(String),
    /// The request is wrong in itself.
    #[error("{0}")]
    Invalid(String),
    /// The outside world failed.
    #[error("{0}")]
    Unavailable(String),
}

/// How an exchange treats redirects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Redirect {
    /// Goes where it is sent, each stop checked again.
    #[default]
    Follow,
    /// Fails.
    Error,
    /// Hands the redirect to the author's code.
    Manual,
}

/// An HTTP request of a function.
#[derive(Clone, PartialEq, Eq)]
pub struct FetchRequest {
    /// HTTP method.
    pub method: String,
    /// Absolute URL.
    pub url: String,
    /// Header fields.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Option<Bytes>,
    /// What to do with a redirect.
    pub redirect: Redirect,
}

impl fmt::Debug for FetchRequest {
    /// Only the method: addresses, header fields and bodies carry secrets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("FetchRequest").field("method", &self.method).finish_non_exhaustive()
    }
}

/// The answer to a [`FetchRequest`].
#[derive(Clone, PartialEq, Eq)]
pub struct FetchResponse {
    /// HTTP status.
    pub status: u16,
    /// Header fields.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Bytes,
    /// The address that answered.
    pub url: String,
    /// Whether that is another one than was asked.
    pub redirected: bool,
    /// SHA-256 of the server's public key (SubjectPublicKeyInfo).
    pub server_key: [u8; 32],
}

impl fmt::Debug for FetchResponse {
    /// Only the status and the length of the body.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "FetchResponse({}, {} bytes)", self.status, self.body.len())
    }
}

/// What a model does for a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelTask {
    /// Continues a conversation.
    Chat,
    /// Continues a text.
    Complete,
    /// Embeds texts.
    Embed,
}

/// What a model answered, in the OpenAI interface's form.
#[derive(Clone, PartialEq, Eq)]
pub struct ModelAnswer {
    /// HTTP status.
    pub status: u16,
    /// JSON.
    pub body: Bytes,
    /// The answer's ACI receipt, as canonical JSON; none where not even a refusal could be recorded.
    pub receipt: Option<Bytes>,
    /// SHA-256 of the model's manifest, if a model began to work.
    pub model: Option<[u8; 32]>,
}

impl fmt::Debug for ModelAnswer {
    /// Only the status and the length of the body.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ModelAnswer({}, {} bytes)", self.status, self.body.len())
    }
}

/// What the elements of a tensor are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// IEEE 754, four bytes.
    Float32,
    /// IEEE 754, eight bytes.
    Float64,
    /// Signed, one byte.
    Int8,
    /// Signed, two bytes.
    Int16,
    /// Signed, four bytes.
    Int32,
    /// Signed, eight bytes.
    Int64,
    /// Unsigned, one byte.
    Uint8,
    /// Unsigned, two bytes.
    Uint16,
    /// Unsigned, four bytes.
    Uint32,
    /// Unsigned, eight bytes.
    Uint64,
    /// One byte, zero or one.
    Boolean,
}

impl Element {
    /// Its name, as in the interface of functions.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Float64 => "float64",
            Self::Int8 => "int8",
            Self::Int16 => "int16",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Uint8 => "uint8",
            Self::Uint16 => "uint16",
            Self::Uint32 => "uint32",
            Self::Uint64 => "uint64",
            Self::Boolean => "boolean",
        }
    }
}

/// A named tensor.
#[derive(Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Name of the model's input or output.
    pub name: String,
    /// What its elements are.
    pub element: Element,
    /// Length of each axis.
    pub shape: Vec<u32>,
    /// The elements in order of the last axis, little-endian.
    pub data: Bytes,
}

impl fmt::Debug for Tensor {
    /// Only its form.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Tensor({}: {:?} {:?})", self.name, self.element, self.shape)
    }
}

/// What an ONNX model made of its inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRun {
    /// All outputs of the model.
    pub outputs: Vec<Tensor>,
    /// SHA-256 of the model's manifest.
    pub model: [u8; 32],
}

/// A contract that a function may publish to, and how far its publications there have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destination {
    /// Id of the chain.
    pub chain_id: u64,
    /// The contract.
    pub contract: Address,
    /// Committed sequence of the function's last publication under the topic, zero for none.
    pub last: u64,
}

/// What a function can reach. The runtime keeps the writes of a call to itself and hands them out with the outcome,
/// so a host only reads.
#[async_trait]
pub trait Host: Send + Sync + 'static {
    /// The committed value of a key.
    async fn state_get(&self, key: &str) -> Result<Option<Bytes>, HostError>;

    /// Committed entries whose key begins with `prefix` and comes after `after`, in byte order, at most `limit`.
    async fn state_list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>, HostError>;

    /// A secret of the function.
    async fn secret(&self, name: &str) -> Result<Option<Zeroizing<String>>, HostError>;

    /// One exchange with the outside world; dropped when the call ends first. See [`crate::egress`].
    async fn fetch(&self, request: FetchRequest) -> Result<FetchResponse, HostError>;

    /// An answer of a model to a request in the OpenAI interface's JSON; dropped when the call ends first.
    async fn model(&self, task: ModelTask, request: Bytes) -> Result<ModelAnswer, HostError> {
        let _ = (task, request);
        Err(HostError::Denied("this worker runs no models".into()))
    }

    /// Runs an ONNX model.
    async fn run_model(&self, model: &str, inputs: Vec<Tensor>) -> Result<ModelRun, HostError> {
        let _ = (model, inputs);
        Err(HostError::Denied("this worker runs no models".into()))
    }

    /// The contract that a publication goes to, if the function may publish there.
    async fn destination(&self, chain: &str, contract: &str, topic: &str) -> Result<Destination, HostError> {
        let _ = (chain, contract, topic);
        Err(HostError::Denied("nothing can be published here".into()))
    }

    /// Microseconds since 1970.
    fn now(&self) -> u64;

    /// Sees each log line as it is written; the outcome holds them all.
    fn log(&self, entry: &crate::LogEntry) {
        let _ = entry;
    }
}
