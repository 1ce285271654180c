//! Real evidence, refusals and properties.
#![allow(clippy::unwrap_used)]

mod evidence;
mod hostile;
mod real;
mod refusals;
