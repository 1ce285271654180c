//! Collateral from servers of ours, and handshakes between simulated machines.
#![allow(clippy::unwrap_used)]

mod collateral;
mod handshake;
mod vendor;
