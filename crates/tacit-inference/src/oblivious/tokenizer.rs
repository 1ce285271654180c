//! Byte-pair encoding whose look-ups pass over all merges.

use std::collections::HashMap;

use super::{
    ObliviousError, Pieces,
    scan::{Column, LANES, NOWHERE, PLACES, add, close, lowest, masks, next, pick, put, same, together},
    split::{Classes, Style, words},
};

/// Longest word: merging takes time that grows with its square.
const LONGEST_WORD: usize = 1024;
/// Stands for a byte that no token has, and for what is no more. Nothing is merged with it.
const NONE: u32 = u32::MAX;
/// Fills up the tables of what is merged. No word has it.
const FILLING: u32 = u32::MAX - 1;

/// A token as the vocabulary has it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Its text, in which each byte of a plain token is a character.
    pub(crate) text: String,
    pub(crate) kind: Word,
}

/// How a text turns into a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// By merging.
    Plain,
    /// Wherever it stands, before anything else.
    Special,
    /// The same, and white space beside it goes away.
    Strips,
}

/// A tokenizer.
#[derive(Debug)]
pub(crate) struct Tokenizer {
    style: Style,
    classes: Classes,
    /// Special tokens, the longest first.
    special: Vec<(Vec<u8>, u32)>,
    /// The token of each byte.
    bytes: Column,
    /// What is merged, in the order of ranks, and what becomes of it.
    left: Column,
    right: Column,
    made: Column,
}

/// A text has a word that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LongWord;

impl LongWord {
    /// Most bytes of one.
    pub(crate) const LIMIT: usize = LONGEST_WORD;
}

impl Tokenizer {
    /// A tokenizer of the style that a model's file names, with its vocabulary and merges.
    ///
    /// # Errors
    /// [`ObliviousError`], if it is of a kind that is not built here.
    pub(crate) fn new(style: &str, vocabulary: &[Entry], merges: &[String]) -> Result<Self, ObliviousError> {
        let style = Style::named(style).ok_or_else(|| ObliviousError::Tokenizer(style.to_owned()))?;
        let mut tokens: HashMap<&str, u32> = HashMap::new();
        let mut special = Vec::new();
        for (token, entry) in (0_u32..).zip(vocabulary) {
            tokens.insert(&entry.text, token);
            match entry.kind {
                Word::Plain => {}
                Word::Special => special.push((entry.text.clone().into_bytes(), token)),
                Word::Strips => return Err(ObliviousError::Strips(token)),
            }
        }
        special.retain(|(text, _)| !text.is_empty());
        special.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        let bytes = (0..=u8::MAX).map(|byte| {
            let mut text = [0; 4];
            tokens.get(&*character_of(byte).encode_utf8(&mut text)).copied().unwrap_or(NONE)
        });
        let bytes: Vec<u32> = bytes.collect();
        let (mut all_left, mut all_right, mut all_made) = (Vec::new(), Vec::new(), Vec::new());
        for (index, merge) in merges.iter().enumerate() {
            let joined = merge.split_once(' ').and_then(|(left, right)| {
                let made = tokens.get(format!("{left}{right}").as_str())?;
                Some((*tokens.get(left)?, *tokens.get(right)?, *made))
            });
            let (left, right, made) = joined.ok_or(ObliviousError::Merge(index))?;
            all_left.push(left);
            all_right.push(right);
            all_made.push(made);
        }
        Ok(Self {
            style,
            classes: Classes::new(),
            special,
            bytes: Column::new(&bytes, 0),
            left: Column::new(&all_left, FILLING),
            right: Column::new(&all_right, FILLING),
            made: Column::new(&all_made, 0),
        })
    }

    /// Tokens of a text.
    ///
    /// # Errors
    /// [`LongWord`].
    pub(crate) fn tokens(&self, pieces: &Pieces, text: &str) -> Result<Vec<u32>, LongWord> {
        let mut tokens = Vec::new();
        for part in self.parts(text) {
            match part {
                Part::Special(token) => tokens.push(token),
                Part::Text(text) => {
                    for word in words(self.style, &self.classes, text) {
                        if word.len() > LONGEST_WORD {
                            return Err(LongWord);
                        }
                        let whole = if self.style.whole_words { pieces.find(word.as_bytes()) } else { None };
                        match whole {
                            Some(token) => tokens.push(token),
                            None => tokens.extend(self.merged(word.as_bytes()).into_iter().filter(|id| *id != NONE)),
                        }
                    }
                }
            }
        }
        Ok(tokens)
    }

    /// Cuts special tokens out of a text. Where they stand is not hidden.
    fn parts<'text>(&self, text: &'text str) -> Vec<Part<'text>> {
        let mut parts = vec![Part::Text(text)];
        for (special, token) in &self.special {
            let mut cut = Vec::new();
            for part in parts {
                let Part::Text(mut rest) = part else {
                    cut.push(part);
                    continue;
                };
                while let Some(place) =
                    rest.as_bytes().windows(special.len()).position(|window| same(window, special) != 0)
                {
                    if place > 0 {
                        cut.push(Part::Text(&rest[..place]));
                    }
                    cut.push(Part::Special(*token));
                    rest = &rest[place + special.len()..];
                }
                if !rest.is_empty() {
                    cut.push(Part::Text(rest));
                }
            }
            parts = cut;
        }
        parts
    }

    /// Merges a word's bytes: always the pair of the lowest rank, and of several such the first. What is merged away leaves
    /// [`NONE`] at the end. As many rounds are made as a word of this length can need.
    pub(super) fn merged(&self, word: &[u8]) -> Vec<u32> {
        let mut tokens: Vec<u32> = word.iter().map(|byte| self.bytes.at((*byte).into())).collect();
        let (mut ranks, mut made): (Vec<u32>, Vec<u32>) =
            tokens.windows(2).map(|pair| self.merge(pair[0], pair[1])).unzip();
        for _ in 1..word.len() {
            let place = lowest(&ranks);
            let joined = pick(&made, place);
            close(&mut tokens, place, joined, NONE);
            // Both neighbours have another pair now. Where there is none, what is found is put nowhere.
            let before = self.merge(pick(&tokens, place.wrapping_sub(1)), joined);
            let after = self.merge(joined, pick(&tokens, place.wrapping_add(1)));
            close(&mut ranks, place, after.0, NOWHERE);
            close(&mut made, place, after.1, 0);
            put(&mut ranks, place.wrapping_sub(1), before.0);
            put(&mut made, place.wrapping_sub(1), before.1);
        }
        tokens
    }

    /// The rank of a pair and what becomes of it; the greatest number if it is not merged.
    fn merge(&self, left: u32, right: u32) -> (u32, u32) {
        let (mut rank, mut made, mut ranks) = ([0; LANES], [0; LANES], PLACES.map(|place| place + 1));
        let groups = self.left.groups().iter().zip(self.right.groups()).zip(self.made.groups());
        for ((first, second), whole) in groups {
            let is = masks(|lane| (first[lane] == left) & (second[lane] == right));
            add(&mut rank, &is, &ranks);
            add(&mut made, &is, whole);
            next(&mut ranks);
        }
        (together(rank).wrapping_sub(1), together(made))
    }
}

/// A part of a text.
enum Part<'text> {
    Text(&'text str),
    Special(u32),
}

/// The character that stands for a byte in the texts of a vocabulary: itself if it is visible, else one from 256 on.
fn character_of(byte: u8) -> char {
    let is_visible = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if is_visible(byte) {
        return char::from(byte);
    }
    let place = (0..byte).filter(|other| !is_visible(*other)).count() as u32;
    char::from_u32(256 + place).expect("at most 68 bytes are invisible")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(texts: &[(&str, Word)]) -> Vec<Entry> {
        texts.iter().map(|(text, kind)| Entry { text: (*text).to_owned(), kind: *kind }).collect()
    }

    #[test]
    fn pairs_are_merged_in_the_order_of_their_ranks() {
        use Word::{Plain, Special};
        let vocabulary = entries(&[
            ("x", Plain),
            ("z", Plain),
            ("Ġ", Plain),
            ("xz", Plain),
            ("zx", Plain),
            ("xzxz", Plain),
            ("Ġxz", Plain),
            ("<end>", Special),
            ("<e", Special),
        ]);
        let merges = ["z x", "x z", "xz xz", "Ġ xz"].map(str::to_owned);
        let tokenizer = Tokenizer::new("gpt-2", &vocabulary, &merges).unwrap();
        let pieces = Pieces::new(&vec![Vec::new(); 9], vec![7, 8], Vec::new()).unwrap();
        let tokens = |text: &str| tokenizer.tokens(&pieces, text).unwrap();
        assert_eq!(tokens("xzxz"), [0, 4, 1]);
        assert_eq!(tokens("xz xz"), [3, 6]);
        assert_eq!(tokens("zxzx"), [4, 4]);
        assert_eq!(tokens("x<end>z<end"), [0, 7, 1, 8]);
        assert_eq!(tokens("xé"), [0]);
        assert_eq!(tokens(""), [] as [u32; 0]);
        assert_eq!(tokenizer.tokens(&pieces, &"x".repeat(1025)), Err(LongWord));
        assert_eq!(tokens(&"xz".repeat(512)).len(), 513);
    }

    #[test]
    fn what_is_not_built_here_is_refused() {
        let vocabulary = entries(&[("a", Word::Plain), ("<s>", Word::Strips)]);
        let refused = |style: &str, count, merge: &str| {
            Tokenizer::new(style, &vocabulary[..count], &[merge.to_owned()]).unwrap_err()
        };
        assert_eq!(refused("tekken", 1, "a a"), ObliviousError::Tokenizer("tekken".into()));
        assert_eq!(refused("gpt-2", 1, "a a"), ObliviousError::Merge(0));
        assert_eq!(refused("gpt-2", 1, "aa"), ObliviousError::Merge(0));
        assert_eq!(refused("gpt-2", 2, "a a"), ObliviousError::Strips(1));
    }

    #[test]
    fn bytes_have_the_characters_of_gpt2() {
        assert_eq!(character_of(b' '), 'Ġ');
        assert_eq!(character_of(b'\n'), 'Ċ');
        assert_eq!(character_of(0), 'Ā');
        assert_eq!(character_of(0xad), 'Ń');
        assert_eq!(character_of(b'!'), '!');
        let all: std::collections::HashSet<char> = (0..=u8::MAX).map(character_of).collect();
        assert_eq!(all.len(), 256);
    }
}
