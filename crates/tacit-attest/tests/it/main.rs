//! Real evidence, refusals and properties.
#![allow(clippy::unwrap_used)]

mod amd;
mod authority;
mod evidence;
mod forecast;
mod forge;
mod gpu_bench;
mod gpu_real;
mod gpu_refusals;
mod gpu_tokens;
mod hostile;
mod intel;
mod mistakes;
mod nitro;
mod policy;
mod real;
mod refusals;
