//! What happens to text between the model and the caller: whole characters, stop texts, tool calls.

mod characters;
mod stop;
mod tools;

pub(crate) use characters::Characters;
pub(crate) use stop::StopFilter;
pub(crate) use tools::{CLOSE, OPEN, Piece, ToolParser};
