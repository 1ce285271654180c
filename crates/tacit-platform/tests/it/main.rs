//! Drivers against guest agents, kernel interfaces and files that behave, and ones that do not.
#![allow(clippy::unwrap_used)]

mod configfs;
mod gpus;
mod gramine;
mod guest_socket;
