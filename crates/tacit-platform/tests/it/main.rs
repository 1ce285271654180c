//! Drivers against a guest agent and a kernel interface that behave, and ones that do not.
#![allow(clippy::unwrap_used)]

mod configfs;
mod guest_socket;
