#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod bench;
mod bindings;
mod cache;
pub mod call;
pub mod egress;
pub mod engine;
mod error;
mod exchanges;
pub mod host;
mod image;
pub mod limits;
mod overlay;
mod sandbox;
mod trace;
pub mod typescript;
mod wasi;

pub use cache::CompiledCache;
pub use call::{Call, CallOutcome, Clock, Effect, Failure, LogEntry, LogLevel, Output, RequestInfo, Write, run_digest};
pub use egress::{AllowList, Egress, EgressError, EgressLimits, Network};
pub use engine::{Engine, EngineConfig, Program};
pub use error::RuntimeError;
pub use host::{
    Destination, Element, FetchRequest, FetchResponse, Host, HostError, ModelAnswer, ModelRun, ModelTask, Redirect,
    Tensor,
};
pub use image::digest as image_digest;
pub use limits::{Limit, Limits};
