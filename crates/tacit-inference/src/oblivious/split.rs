//! How a text is cut into words before merging, as llama.cpp cuts it: by the kinds of its characters.
//!
//! Where words begin and end is not hidden; which characters stand in them is.

use super::scan::{Column, within};

/// The ways of cutting that are built here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Style {
    /// Each digit is a word, whatever stands beside it.
    digits_first: bool,
    pattern: Pattern,
    /// A word that is a token is taken whole.
    pub(super) whole_words: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pattern {
    /// Of GPT-2.
    Gpt2,
    /// Of Llama 3 and Qwen 2; so many digits are one word.
    Llama3 { digits: usize },
}

impl Style {
    /// The style that a model's file names in `tokenizer.ggml.pre`.
    pub(super) fn named(name: &str) -> Option<Self> {
        let style = |digits_first, pattern, whole_words| Some(Self { digits_first, pattern, whole_words });
        match name {
            "gpt-2" | "phi-2" | "olmo" => style(false, Pattern::Gpt2, false),
            "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" => style(true, Pattern::Gpt2, false),
            "llama-bpe" | "llama3" | "llama-v3" => style(false, Pattern::Llama3 { digits: 3 }, true),
            "qwen2" | "deepseek-r1-qwen" => style(false, Pattern::Llama3 { digits: 1 }, false),
            _ => None,
        }
    }
}

/// What a character is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Number,
    Space,
    Other,
    /// There is none.
    End,
}

/// Ranges of characters that are letters, numbers and white space.
#[derive(Debug)]
pub(super) struct Classes {
    letters: Ranges,
    numbers: Ranges,
    spaces: Ranges,
}

#[derive(Debug)]
struct Ranges {
    first: Column,
    last: Column,
}

impl Classes {
    pub(super) fn new() -> Self {
        // llama.cpp's tables are those of Unicode 15.1; what came later is neither to it.
        let (letters, numbers) = (r"[\p{L}&&\p{Age:15.1}]", r"[\p{N}&&\p{Age:15.1}]");
        Self { letters: ranges(letters), numbers: ranges(numbers), spaces: ranges(r"\s") }
    }

    fn of(&self, character: char) -> Class {
        let character = u32::from(character);
        let is = |ranges: &Ranges| within(&ranges.first, &ranges.last, character);
        let kind = (is(&self.letters) & 1) | (is(&self.numbers) & 2) | (is(&self.spaces) & 4);
        match kind {
            1 => Class::Letter,
            2 => Class::Number,
            4 => Class::Space,
            _ => Class::Other,
        }
    }
}

/// Ranges of a class, as the library of regular expressions knows it.
fn ranges(class: &str) -> Ranges {
    use regex_syntax::hir::{Class, HirKind};
    match regex_syntax::parse(class).expect("a class of characters").into_kind() {
        HirKind::Class(Class::Unicode(class)) => {
            let (first, last): (Vec<u32>, Vec<u32>) =
                class.iter().map(|range| (u32::from(range.start()), u32::from(range.end()))).unzip();
            Ranges { first: Column::new(&first, u32::MAX), last: Column::new(&last, 0) }
        }
        kind => unreachable!("{kind:?} is no class of characters"),
    }
}

/// Cuts a text into words.
pub(super) fn words<'text>(style: Style, classes: &Classes, text: &'text str) -> Vec<&'text str> {
    let characters: Vec<(usize, char)> = text.char_indices().collect();
    let kinds: Vec<Class> = characters.iter().map(|(_, character)| classes.of(*character)).collect();
    let mut ends = Vec::new();
    let mut begin = 0;
    while begin < kinds.len() {
        let is_number = |place: &usize| style.digits_first && kinds[*place] == Class::Number;
        let end =
            if is_number(&begin) { begin + 1 } else { (begin..kinds.len()).find(is_number).unwrap_or(kinds.len()) };
        let piece = Piece { characters: &characters, kinds: &kinds, end };
        let mut place = begin;
        while place < end {
            place = match style.pattern {
                Pattern::Gpt2 => piece.gpt2(place),
                Pattern::Llama3 { digits } => piece.llama3(place, digits),
            };
            ends.push(place);
        }
        begin = end;
    }
    let offset = |place: usize| characters.get(place).map_or(text.len(), |(offset, _)| *offset);
    let mut begin = 0;
    ends.into_iter()
        .map(|end| {
            let word = &text[offset(begin)..offset(end)];
            begin = end;
            word
        })
        .collect()
}

/// A part of a text whose words do not reach beyond it.
struct Piece<'a> {
    characters: &'a [(usize, char)],
    kinds: &'a [Class],
    end: usize,
}

impl Piece<'_> {
    fn kind(&self, place: usize) -> Class {
        if place < self.end { self.kinds[place] } else { Class::End }
    }

    fn character(&self, place: usize) -> Option<char> {
        (place < self.end).then(|| self.characters[place].1)
    }

    /// The first place from here on that is not of this kind.
    fn after(&self, mut place: usize, kind: Class) -> usize {
        while self.kind(place) == kind {
            place += 1;
        }
        place
    }

    /// Where the contraction that begins here ends, such as `'s` or `'ll`.
    fn contraction(&self, place: usize, any_case: bool) -> Option<usize> {
        if self.character(place) != Some('\'') {
            return None;
        }
        let letter = |place| {
            let character = self.character(place)?;
            Some(if any_case { character.to_ascii_lowercase() } else { character })
        };
        match (letter(place + 1)?, letter(place + 2)) {
            ('s' | 't' | 'm' | 'd', _) => Some(place + 2),
            ('r' | 'v', Some('e')) | ('l', Some('l')) => Some(place + 3),
            _ => None,
        }
    }

    /// The end of the white space that begins here, without its last character where a word follows that takes that one.
    fn space(&self, place: usize) -> usize {
        let end = self.after(place, Class::Space);
        if end - place > 1 && end < self.end { end - 1 } else { end }
    }

    /// The end of GPT-2's word: a contraction; letters, numbers or others after at most one space; white space.
    fn gpt2(&self, place: usize) -> usize {
        if let Some(end) = self.contraction(place, false) {
            return end;
        }
        let first = place + usize::from(self.character(place) == Some(' '));
        match self.kind(first) {
            kind @ (Class::Letter | Class::Number | Class::Other) => self.after(first, kind),
            Class::Space | Class::End => self.space(place),
        }
    }

    /// The end of Llama 3's word: a contraction; letters after at most one other character; some digits; others after at most one
    /// space, with line breaks after them; white space up to its last line break.
    fn llama3(&self, place: usize, digits: usize) -> usize {
        if let Some(end) = self.contraction(place, true) {
            return end;
        }
        let (kind, is_break) = (self.kind(place), matches!(self.character(place), Some('\r' | '\n')));
        if kind == Class::Letter || (!is_break && kind != Class::Number && self.kind(place + 1) == Class::Letter) {
            return self.after(place + 1, Class::Letter);
        }
        if kind == Class::Number {
            return self.after(place, Class::Number).min(place + digits);
        }
        let first = place + usize::from(self.character(place) == Some(' '));
        if matches!(self.kind(first), Class::Other) {
            let mut end = self.after(first, Class::Other);
            while matches!(self.character(end), Some('\r' | '\n')) {
                end += 1;
            }
            return end;
        }
        let end = self.after(place, Class::Space);
        let last_break = (place..end).rev().find(|place| matches!(self.character(*place), Some('\r' | '\n')));
        last_break.map_or_else(|| self.space(place), |last| last + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(style: &str, text: &str) -> String {
        let words = words(Style::named(style).unwrap(), &Classes::new(), text);
        assert_eq!(words.concat(), text);
        words.join("|")
    }

    #[test]
    fn words_are_cut_as_each_style_cuts_them() {
        let text = "It's  12 o'clock,\n\n  naïve  ";
        assert_eq!(cut("gpt-2", text), "It|'s| | 12| o|'|clock|,|\n\n | naïve|  ");
        assert_eq!(cut("smollm", text), "It|'s|  |1|2| o|'|clock|,|\n\n | naïve|  ");
        assert_eq!(cut("qwen2", text), "It|'s| | |1|2| o|'clock|,\n\n| | naïve|  ");
        assert_eq!(cut("llama-bpe", "123456 'LL x'Ve ¼"), "123|456| '|LL| x|'Ve| |¼");
        assert_eq!(cut("gpt-2", "a\u{3000}\u{3000}b \u{e000}!"), "a|\u{3000}|\u{3000}|b| \u{e000}!");
        assert_eq!(cut("gpt-2", ""), "");
        assert!(Style::named("tekken").is_none());
    }
}
