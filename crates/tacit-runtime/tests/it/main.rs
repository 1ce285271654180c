//! The runtime from outside: real programs, real attacks, a real TLS server for the way out.

#![allow(clippy::unwrap_used)]

mod cache;
mod component;
mod determinism;
mod egress;
mod exchanges;
mod javascript;
mod limits;
mod models;
mod publications;
mod state;
mod support;
mod typescript;
mod web;
