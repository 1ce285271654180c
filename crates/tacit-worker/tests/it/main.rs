//! Workers in a whole network: simulated machines, four gatekeepers, a local chain, a gateway, and the client of everybody.

#![allow(clippy::unwrap_used)]

mod ai;
mod calls;
mod chain;
mod failures;
mod full_disk;
mod models;
mod network;
mod overdue;
mod publications;
mod take_over;
