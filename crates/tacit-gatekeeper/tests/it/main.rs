//! Gatekeepers over real HTTP on simulated machines, with a real local chain.

#![allow(clippy::unwrap_used)]

mod admission;
mod figures;
mod founding;
mod limits;
mod network;
mod register;
mod restart;
