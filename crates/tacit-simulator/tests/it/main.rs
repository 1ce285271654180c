//! Simulated machines as processes, asked through the driver that asks real ones.
#![allow(clippy::unwrap_used)]

mod hostile;
mod process;
