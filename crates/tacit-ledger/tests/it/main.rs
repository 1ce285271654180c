//! Against a real anvil and the committed contracts.

#![allow(clippy::unwrap_used)]

mod chain;
mod digests;
mod fixture;
mod functions;
mod gas;
mod requests;
mod workers;
mod writer;
