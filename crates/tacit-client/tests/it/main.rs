//! Calls through gateways that fall silent. Certificates, seals, receipts and evidence are real; gateways and the worker behind
//! them are stood in for, so that a test decides who is silent and for how long.

#![allow(clippy::unwrap_used)]

mod ai;
mod network;
mod silence;
