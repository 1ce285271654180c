//! What one call may use, and the names of the limits that end it.

/// What one call may use. The defaults are those of the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Fuel from entry of the method.
    pub fuel: u64,
    /// Linear memory in bytes.
    pub memory: u64,
    /// Wall time in milliseconds, waiting included.
    pub timeout: u64,
    /// Response body in bytes.
    pub response: u64,
    /// Calls from the guest to the host.
    pub host_calls: u64,
    /// Exchanges that are open at the same time.
    pub open_fetches: u32,
    /// Bytes of log lines.
    pub log_bytes: u64,
    /// Bytes of keys and values written.
    pub state_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fuel: 2_000_000_000,
            memory: 64 << 20,
            timeout: 30_000,
            response: 1 << 20,
            host_calls: 100_000,
            open_fetches: 16,
            log_bytes: 256 << 10,
            state_bytes: 16 << 20,
        }
    }
}

impl From<&tacit_types::manifest::Limits> for Limits {
    fn from(limits: &tacit_types::manifest::Limits) -> Self {
        Self {
            fuel: limits.fuel,
            memory: limits.memory,
            timeout: limits.timeout,
            response: limits.response,
            ..Self::default()
        }
    }
}

/// The limit that ended a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Limit {
    /// The method used all its fuel.
    #[error("fuel: the call used all of its fuel")]
    Fuel,
    /// The module's top level used all the fuel that loading may use.
    #[error("load-fuel: the module's top level used all of the fuel that loading may use")]
    LoadFuel,
    /// The call wanted more memory.
    #[error("memory: the call wanted more memory than its limit")]
    Memory,
    /// The call nested too deeply.
    #[error("stack: the call nested too deeply")]
    Stack,
    /// The call took too long.
    #[error("timeout: the call took longer than its limit")]
    Timeout,
    /// The response is too large.
    #[error("response: the response is larger than its limit")]
    Response,
    /// The call asked the host too often.
    #[error("host-calls: the call asked the host more often than its limit")]
    HostCalls,
    /// Too many exchanges were open at the same time.
    #[error("open-fetches: more fetches were open at the same time than the limit")]
    OpenFetches,
    /// Too many bytes were logged.
    #[error("log-bytes: the call logged more bytes than its limit")]
    LogBytes,
    /// Too many bytes of state were written.
    #[error("state-bytes: the call wrote more bytes of state than its limit")]
    StateBytes,
}

impl Limit {
    /// The name that manifests, logs and error texts use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fuel => "fuel",
            Self::LoadFuel => "load-fuel",
            Self::Memory => "memory",
            Self::Stack => "stack",
            Self::Timeout => "timeout",
            Self::Response => "response",
            Self::HostCalls => "host-calls",
            Self::OpenFetches => "open-fetches",
            Self::LogBytes => "log-bytes",
            Self::StateBytes => "state-bytes",
        }
    }
}
