//! The `tacit` binary against a real local network: chain, simulated chips, gatekeepers, workers and gateways as processes.

#![allow(clippy::unwrap_used)]

mod ai;
mod bench;
mod command_line;
mod kills;
mod meddler;
mod network;
mod tool;
