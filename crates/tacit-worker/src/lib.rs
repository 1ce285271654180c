#![doc = include_str!("../README.md")]

mod acknowledger;
mod admission;
mod answer;
mod calls;
mod certificates;
mod chain_requests;
mod code;
mod commands;
mod config;
mod confirmer;
mod context;
mod deliveries;
mod error;
mod execute;
mod functions;
mod gatekeepers;
mod held;
mod host;
mod http;
mod keys;
mod lease;
mod metrics;
mod nonces;
mod outcome;
mod publications;
mod queries;
mod receipts;
mod sealed;
mod time;
mod transparency;
mod turns;
mod worker;

pub use config::{Machine, WorkerConfig, WorkerLimits};
pub use error::WorkerError;
pub use worker::{Worker, run};
