//! Workers in a whole network: simulated machines, four gatekeepers, a local chain, a gateway, and the client of everybody.

#![allow(clippy::unwrap_used)]

mod calls;
mod chain;
mod failures;
mod network;
mod publications;
mod take_over;
