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

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use llama_cpp_2::model::params::LlamaModelParams;

    use super::*;
    use crate::gguf;

    /// SmolLM2, which `cargo xtask models` fetches; where it is not there, that is a failure in CI alone.
    fn smollm() -> Option<PathBuf> {
        let cache = std::env::var_os("XDG_CACHE_HOME")
            .map_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"), PathBuf::from);
        let path = cache.join("tacit/models/smollm2-135m-instruct-q4_1.gguf");
        if path.is_file() {
            return Some(path);
        }
        assert!(std::env::var_os("CI").is_none(), "{} is missing; run cargo xtask models", path.display());
        println!("not tested: {} is not there; cargo xtask models fetches it", path.display());
        None
    }

    /// The model with another name of its tokenizer's style in its file.
    fn styled(weights: &Path, style: &str) -> tempfile::NamedTempFile {
        let mut bytes = std::fs::read(weights).unwrap();
        let key = b"tokenizer.ggml.pre";
        let place = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len() + 4;
        let length = u64::from_le_bytes(bytes[place..][..8].try_into().unwrap()) as usize;
        assert_eq!(&bytes[place + 8..][..length], b"smollm");
        // What the name has more or less, the template that follows it somewhere has less or more, so that no tensor moves.
        let key = b"tokenizer.chat_template";
        let template = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len() + 4;
        assert!(template > place, "the template follows");
        let old = u64::from_le_bytes(bytes[template..][..8].try_into().unwrap());
        let spaces = old + length as u64 - style.len() as u64;
        bytes[template..][..8].copy_from_slice(&spaces.to_le_bytes());
        let text = template + 8;
        if style.len() > length {
            bytes.drain(text..text + style.len() - length);
        } else {
            bytes.splice(text..text, vec![b' '; length - style.len()]);
        }
        bytes[place..][..8].copy_from_slice(&(style.len() as u64).to_le_bytes());
        bytes.splice(place + 8..place + 8 + length, style.bytes());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    fn texts() -> Vec<String> {
        let mut texts: Vec<String> = [
            "It's  12 o'clock,\n\n  naïve façade ",
            "   leading\t\ttabs \r\n\r\nand breaks\n",
            "x = f(a[0], b{1}) -> \"str'ing\" // 100% #1 @me",
            "日本語のテキスト、それと한국어 и русский ١٢٣ ½ ⅷ",
            "emoji 👩‍👩‍👧‍👦 and 🇨🇭, combining e\u{301}\u{302}, \u{200b}zero\u{feff}",
            "<|im_start|>user\nHi<|im_end|>\n<|im_start",
            "I'LL WE'VE you'd it'S 'tis '",
            "1234567890 3.14159 1,000,000 v2.0.1",
            "\u{a0}\u{2003}\u{3000}spaces \u{85}of\u{2028}kinds",
            "a",
            " ",
            "\n",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "------------------------------------------------------------------========",
        ]
        .map(str::to_owned)
        .to_vec();
        // Characters of everywhere, each with something before and after it.
        let step = if std::env::var_os("TACIT_TEST_LONG").is_some() { 17 } else { 97 };
        let mut state = 0x2545_f491_u32;
        let characters =
            (0..0x11_0000_u32).step_by(step).filter_map(char::from_u32).filter(|character| *character != '\0');
        let beside = ["a", " ", "1", "'s ", "\n", ".", " b"];
        let mut text = String::new();
        for character in characters {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            text.push_str(beside[(state >> 16) as usize % beside.len()]);
            text.push(character);
            if text.len() > 300 {
                texts.push(std::mem::take(&mut text));
            }
        }
        texts
    }

    fn vocabularies(weights: &Path) -> (Vocabulary, Result<Vocabulary, ObliviousError>) {
        let file = std::fs::File::open(weights).unwrap();
        let header = gguf::read(&file, file.metadata().unwrap().len()).unwrap();
        let merges = gguf::texts(std::fs::read(weights).unwrap().as_slice(), "tokenizer.ggml.merges").unwrap();
        let parameters = LlamaModelParams::default().with_vocab_only(true);
        let model = LlamaModel::load_from_file(super::super::backend().unwrap(), weights, &parameters).unwrap();
        let model = Arc::new(model);
        (Vocabulary::plain(Arc::clone(&model)), Vocabulary::oblivious(model, &header, &merges))
    }

    #[test]
    fn every_style_cuts_texts_into_the_same_tokens() {
        let Some(weights) = smollm() else { return };
        for style in ["smollm", "gpt-2", "qwen2", "llama-bpe"] {
            let (plain, hidden) = vocabularies(styled(&weights, style).path());
            let hidden = hidden.unwrap();
            let (mut same, mut other) = (0, Vec::new());
            for text in texts() {
                let tokens = |vocabulary: &Vocabulary| vocabulary.tokens(&text, "text", true).unwrap();
                if tokens(&plain) == tokens(&hidden) { same += 1 } else { other.push(text) }
            }
            assert!(
                other.is_empty() && same > 200,
                "{style}: {same} texts have the same tokens, these others: {other:?}"
            );
        }
    }

    #[test]
    fn every_token_has_the_same_text() {
        let Some(weights) = smollm() else { return };
        let (plain, hidden) = vocabularies(&weights);
        let hidden = hidden.unwrap();
        let step = if std::env::var_os("TACIT_TEST_LONG").is_some() { 1 } else { 17 };
        for token in (0..plain.model.n_vocab()).filter(|token| *token < 20 || token % step == 0).map(LlamaToken) {
            for special in [false, true] {
                assert_eq!(hidden.piece(token, special), plain.piece(token, special), "{token}");
            }
            assert_eq!(hidden.is_end(token), plain.is_end(token), "{token}");
        }
    }

    #[test]
    fn another_style_is_refused() {
        let Some(weights) = smollm() else { return };
        let refused = vocabularies(styled(&weights, "tekken").path()).1.unwrap_err();
        assert_eq!(refused, ObliviousError::Tokenizer("tekken".into()));
    }
}
