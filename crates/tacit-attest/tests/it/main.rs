//! Real evidence, refusals and properties.
#![allow(clippy::unwrap_used)]

mod authority;
mod evidence;
mod gpu_bench;
mod gpu_real;
mod gpu_refusals;
mod gpu_tokens;
mod hostile;
mod nitro;
mod real;
mod refusals;
