//! Look-ups of a model that touch the same memory whatever the text is.
//!
//! Who can watch which addresses a program touches, as the owner of a machine can watch a guest's caches and pages, reads a prompt
//! from a tokenizer's tables and from the rows of the embedding matrix. Here every look-up passes over its whole table: a
//! vocabulary's merges ([`Tokenizer`]), the bytes of tokens ([`Pieces`]), rows of the embedding matrix ([`Rows`]). What it costs
//! and what it does not hide stands in docs/ai-side-channels.md, and why it is built so in
//! docs/decisions/0016-oblivious-look-ups.md.

mod pieces;
mod rows;
mod scan;
mod split;
#[cfg(test)]
mod tests;
mod tokenizer;

pub(crate) use pieces::Pieces;
pub(crate) use rows::Rows;
pub(crate) use scan::highest;
pub(crate) use tokenizer::{Entry, LongWord, Tokenizer, Word};

/// Why a model cannot be run so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ObliviousError {
    /// Its tokenizer is of a kind that is not built here.
    #[error("its tokenizer is of the kind {0:?}")]
    Tokenizer(String),
    /// Its merges and its vocabulary do not belong together.
    #[error("its merge {0} joins what its vocabulary does not have")]
    Merge(usize),
    /// A token of it is longer than is built for.
    #[error("token {0} is longer than {limit} bytes", limit = pieces::LONGEST)]
    Piece(u32),
    /// Two of its tokens have the same bytes.
    #[error("token {0} has the bytes of another")]
    Repeated(u32),
    /// A token takes white space around it away.
    #[error("token {0} takes white space beside it away")]
    Strips(u32),
    /// Its embedding matrix is missing, or of numbers that are looked up in tables.
    #[error("its embedding matrix is missing or of the kind {0:?}, whose numbers are not made by arithmetic alone")]
    Matrix(Option<u32>),
    /// Another tensor than the embedding matrix is read by a token's number.
    #[error("its tensor {0} is read by a token's number too")]
    Tensor(String),
    /// Its file could not be rewritten.
    #[error("its file could not be rewritten: {0}")]
    File(String),
}
