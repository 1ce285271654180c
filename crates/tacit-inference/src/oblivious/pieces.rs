//! The bytes of tokens, looked up by number or by bytes.

use std::collections::HashSet;

use super::{
    ObliviousError,
    scan::{Column, LANES, PLACES, add, contains, mask, masks, next, same, together},
};

/// Longest token.
pub(super) const LONGEST: usize = 256;
/// Bytes of a token that the tables of all tokens hold; what is longer stands in a table of its own.
const SHORT: usize = 16;
/// Stands for the length of a special token.
const SPECIAL: u32 = u32::MAX;

/// Bytes of each token of a vocabulary.
#[derive(Debug)]
pub(crate) struct Pieces {
    /// The first bytes of each token, four in each number.
    words: [Column; SHORT / 4],
    /// How many bytes each token has.
    lengths: Column,
    /// The same, but [`SPECIAL`] for special tokens, which are not found by their bytes.
    plain: Column,
    /// Tokens that are told only where special tokens are wanted.
    special: Vec<u32>,
    /// Tokens longer than [`SHORT`]; their lengths, as in `plain`; and their bytes, filled up to `stride`.
    long: Vec<u32>,
    long_plain: Vec<u32>,
    rest: Vec<u8>,
    stride: usize,
    /// Tokens that end a text.
    ends: Vec<u32>,
}

impl Pieces {
    /// Tables of these tokens: the bytes of each; which are special; which end a text.
    ///
    /// # Errors
    /// [`ObliviousError::Piece`], [`ObliviousError::Repeated`].
    pub(crate) fn new(pieces: &[Vec<u8>], special: Vec<u32>, ends: Vec<u32>) -> Result<Self, ObliviousError> {
        let stride = pieces.iter().map(Vec::len).max().unwrap_or(0);
        let (mut all_words, mut lengths, mut plains) = ([const { Vec::new() }; SHORT / 4], Vec::new(), Vec::new());
        let (mut long, mut long_plain, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        for (token, piece) in (0_u32..).zip(pieces) {
            if piece.len() > LONGEST {
                return Err(ObliviousError::Piece(token));
            }
            let is_plain = !special.contains(&token);
            if is_plain && !piece.is_empty() && !seen.insert(piece) {
                return Err(ObliviousError::Repeated(token));
            }
            let length = piece.len() as u32;
            let plain = if is_plain { length } else { SPECIAL };
            for (words, word) in all_words.iter_mut().zip(words(piece)) {
                words.push(word);
            }
            lengths.push(length);
            plains.push(plain);
            if piece.len() > SHORT {
                long.push(token);
                long_plain.push(plain);
                rest.extend(piece);
                rest.resize(long.len() * stride, 0);
            }
        }
        Ok(Self {
            words: all_words.map(|words| Column::new(&words, 0)),
            lengths: Column::new(&lengths, 0),
            plain: Column::new(&plains, SPECIAL),
            special,
            long,
            long_plain,
            rest,
            stride,
            ends,
        })
    }

    /// A token's bytes. How many there are is not hidden.
    pub(crate) fn bytes(&self, token: u32, special: bool) -> Vec<u8> {
        let (mut bytes, length) = self.filled(token, special);
        bytes.truncate(length as usize);
        bytes
    }

    /// A token's bytes, filled up with zeros, and how many there are.
    pub(super) fn filled(&self, token: u32, special: bool) -> (Vec<u8>, u32) {
        let hidden = mask(!special) & contains(&self.special, token);
        let length = self.lengths.at(token) & !hidden;
        let mut bytes = vec![0; self.stride.max(SHORT)];
        for (words, place) in self.words.iter().zip(bytes.chunks_exact_mut(4)) {
            place.copy_from_slice(&words.at(token).to_le_bytes());
        }
        for (long, rest) in self.long.iter().zip(self.rest.chunks_exact(self.stride.max(1))) {
            let mask = mask(*long == token) as u8;
            for (byte, other) in bytes.iter_mut().zip(rest) {
                *byte |= other & mask;
            }
        }
        (bytes, length)
    }

    /// The token that has these bytes, of tokens that are not special.
    pub(crate) fn find(&self, piece: &[u8]) -> Option<u32> {
        // One more than the token; no two have the same bytes.
        let mut found = 0;
        if piece.len() <= SHORT {
            let (wanted, length) = (words(piece), piece.len() as u32);
            let (mut tokens, mut numbers) = ([0; LANES], PLACES.map(|place| place + 1));
            for (group, lengths) in self.plain.groups().iter().enumerate() {
                let words: [&[u32; LANES]; SHORT / 4] = std::array::from_fn(|word| &self.words[word].groups()[group]);
                let is = masks(|lane| {
                    let same = |word: usize| words[word][lane] == wanted[word];
                    (lengths[lane] == length) & same(0) & same(1) & same(2) & same(3)
                });
                add(&mut tokens, &is, &numbers);
                next(&mut numbers);
            }
            found = together(tokens);
        } else if piece.len() <= self.stride {
            let mut filled = piece.to_vec();
            filled.resize(self.stride, 0);
            let rests = self.rest.chunks_exact(self.stride);
            for ((long, length), rest) in self.long.iter().zip(&self.long_plain).zip(rests) {
                found |= same(&filled, rest) & mask(*length == piece.len() as u32) & (long + 1);
            }
        }
        found.checked_sub(1)
    }

    /// Whether a token ends a text.
    pub(crate) fn is_end(&self, token: u32) -> bool {
        contains(&self.ends, token) != 0
    }
}

/// The first bytes, four in each number.
fn words(piece: &[u8]) -> [u32; SHORT / 4] {
    let mut bytes = [0; SHORT];
    let length = piece.len().min(SHORT);
    bytes[..length].copy_from_slice(&piece[..length]);
    std::array::from_fn(|place| u32::from_le_bytes(bytes[place * 4..][..4].try_into().expect("four bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_back_whole_and_are_found_again() {
        let pieces: Vec<Vec<u8>> =
            (0..100_usize).map(|length| (0..length).map(|byte| (byte * 7 + length) as u8).collect()).collect();
        let tables = Pieces::new(&pieces, vec![20, 5], vec![3, 99]).unwrap();
        for (token, piece) in (0..).zip(&pieces) {
            let is_special = token == 20 || token == 5;
            assert_eq!(tables.bytes(token, true), *piece);
            assert_eq!(tables.bytes(token, false), if is_special { Vec::new() } else { piece.clone() });
            assert_eq!(tables.find(piece), (!is_special).then_some(token));
            assert_eq!(tables.is_end(token), token == 3 || token == 99);
        }
        assert_eq!(tables.find(&[1, 2, 3]), None);
        assert_eq!(tables.find(&[0; 60]), None);
        assert_eq!(tables.find(&[0; 200]), None);
        assert_eq!(tables.bytes(100, true), Vec::<u8>::new());
        assert_eq!(Pieces::new(&[vec![0; LONGEST + 1]], Vec::new(), Vec::new()).unwrap_err(), ObliviousError::Piece(0));
    }
}
