//! Real evidence, refusals and properties.
#![allow(clippy::unwrap_used)]

mod amd;
mod evidence;
mod forecast;
mod forge;
mod hostile;
mod intel;
mod mistakes;
mod policy;
mod real;
mod refusals;
