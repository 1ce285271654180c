//! Gateways on a real local chain with the real contracts; only the workers behind them are stood in for.

#![allow(clippy::unwrap_used)]

mod bounds;
mod cluster;
mod forwarding;
mod reading;
