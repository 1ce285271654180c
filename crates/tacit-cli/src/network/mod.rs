//! `tacit up` and `tacit down`: a whole network on this machine, one process per role.

mod chain;
mod founding;
mod layout;
mod models;
pub mod process;
mod roles;
mod up;

pub use up::{Local, UpArguments, down, during, up};
