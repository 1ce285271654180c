#![doc = include_str!("../README.md")]

mod blobs;
mod config;
mod directory;
mod error;
mod forward;
mod functions;
mod limiter;
mod metrics;
mod routes;
mod server;

pub use config::Config;
pub use error::GatewayError;
pub use server::{Gateway, run};
