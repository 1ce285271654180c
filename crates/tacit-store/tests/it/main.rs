//! Whole logs on real folders and on stores that fail.

#![allow(clippy::unwrap_used)]

mod attacks;
mod crashes;
mod faulty;
mod full_disk;
mod network;
