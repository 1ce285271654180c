//! What tokens a text has and what text a token has: llama.cpp's tables, or passes over all of ours.

use std::sync::Arc;

use llama_cpp_2::{model::LlamaModel, token::LlamaToken, token_type::LlamaTokenAttr, vocab::VocabType};

use crate::{
    InferenceError,
    gguf::Gguf,
    limits::parameter,
    oblivious::{Entry, LongWord, ObliviousError, Pieces, Tokenizer, Word},
};

/// The vocabulary of a model.
#[derive(Debug, Clone)]
pub(super) struct Vocabulary {
    model: Arc<LlamaModel>,
    oblivious: Option<Arc<Tables>>,
}

#[derive(Debug)]
struct Tables {
    tokenizer: Tokenizer,
    pieces: Pieces,
}

impl Vocabulary {
    /// The vocabulary as llama.cpp looks it up.
    pub(super) fn plain(model: Arc<LlamaModel>) -> Self {
        Self { model, oblivious: None }
    }

    /// The vocabulary with look-ups that touch all of it, for a file with this header and these merges.
    ///
    /// # Errors
    /// [`ObliviousError`], if its tokenizer is of a kind that is not built here.
    pub(super) fn oblivious(model: Arc<LlamaModel>, header: &Gguf, merges: &[String]) -> Result<Self, ObliviousError> {
        let vocabulary = model.vocab();
        if !matches!(vocabulary.vocab_type(), VocabType::BPE) || header.text("tokenizer.ggml.model") != Some("gpt2") {
            let kind = header.text("tokenizer.ggml.model").unwrap_or_default();
            return Err(ObliviousError::Tokenizer(kind.to_owned()));
        }
        let (mut entries, mut pieces, mut special, mut ends) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (number, token) in (0_u32..).zip((0..model.n_vocab()).map(LlamaToken)) {
            let kinds = vocabulary.attr(token);
            let is_special =
                kinds.intersects(LlamaTokenAttr::Control | LlamaTokenAttr::UserDefined | LlamaTokenAttr::Unknown);
            let strips = kinds.intersects(LlamaTokenAttr::LStrip | LlamaTokenAttr::RStrip);
            let kind = match (is_special, strips) {
                (false, _) => Word::Plain,
                (true, false) => Word::Special,
                (true, true) => Word::Strips,
            };
            let text = vocabulary.text(token).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default();
            entries.push(Entry { text, kind });
            let piece = vocabulary.token_to_piece(token, true, None);
            if vocabulary.token_to_piece(token, false, None) != piece {
                special.push(number);
            }
            if vocabulary.is_eog(token) {
                ends.push(number);
            }
            pieces.push(piece);
        }
        let style = header.text("tokenizer.ggml.pre").unwrap_or_default();
        let tables = Tables {
            tokenizer: Tokenizer::new(style, &entries, merges)?,
            pieces: Pieces::new(&pieces, special, ends)?,
        };
        Ok(Self { model, oblivious: Some(Arc::new(tables)) })
    }

    /// Tokens of a text, in which special tokens are read.
    ///
    /// # Errors
    /// [`InferenceError::Parameter`] about `name`, for a word that is too long to be merged without telling what it is.
    pub(super) fn tokens(&self, text: &str, name: &str, add_special: bool) -> Result<Vec<LlamaToken>, InferenceError> {
        let vocabulary = self.model.vocab();
        let Some(Tables { tokenizer, pieces }) = self.oblivious.as_deref() else {
            return Ok(vocabulary.tokenize(text.as_bytes(), add_special, true));
        };
        let tokens = tokenizer
            .tokens(pieces, text)
            .map_err(|LongWord| parameter(name, format!("has a word of more than {} bytes", LongWord::LIMIT)))?;
        let first = (add_special && vocabulary.should_add_bos()).then(|| vocabulary.bos());
        let last = (add_special && vocabulary.should_add_eos()).then(|| vocabulary.eos());
        let tokens = tokens.into_iter().map(|token| LlamaToken(token.cast_signed()));
        Ok(first.into_iter().chain(tokens).chain(last).collect())
    }

    /// A token's bytes; none for a special token that is not wanted.
    pub(super) fn piece(&self, token: LlamaToken, special: bool) -> Vec<u8> {
        match self.oblivious.as_deref() {
            Some(tables) => tables.pieces.bytes(token.0.cast_unsigned(), special),
            None => self.model.vocab().token_to_piece(token, special, None),
        }
    }

    /// Whether a token ends an answer.
    pub(super) fn is_end(&self, token: LlamaToken) -> bool {
        match self.oblivious.as_deref() {
            Some(tables) => tables.pieces.is_end(token.0.cast_unsigned()),
            None => self.model.vocab().is_eog(token),
        }
    }

    /// Most bytes of text for each token of the context. Plain look-ups are fast, so that is more than can fit whatever the text is.
    pub(super) fn bytes_per_token(&self) -> usize {
        if self.oblivious.is_some() { 16 } else { 64 }
    }
}
