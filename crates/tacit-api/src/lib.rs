#![doc = include_str!("../README.md")]

pub mod blobs;
pub mod calls;
pub mod gatekeeper;
pub mod headers;
pub mod identity;
pub mod limits;
pub mod openai;
pub mod openapi;
pub mod problem;
pub mod rendezvous;
pub mod reports;
pub mod routes;

pub use blobs::{BlobUri, BlobUriError};
pub use calls::{CallFailure, CallKind, outcome_status};
pub use identity::{AiWorkers, FunctionAnswer, FunctionRecord, WorkerIdentity};
pub use problem::{Problem, ProblemKind};
pub use reports::{CallReport, DeployReport, StatusReport};
pub use routes::{Node, Operation};
