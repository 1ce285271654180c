//! Tool calls in a model's text: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, the form of Hermes and Qwen models.

use serde::Deserialize;
use serde_json::value::RawValue;

/// Begins a call.
pub(crate) const OPEN: &str = "<tool_call>";
/// Ends a call.
pub(crate) const CLOSE: &str = "</tool_call>";
/// Most bytes of one call.
const MAX_CALL: usize = 256 * 1024;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Text that is part of no call.
    Text(String),
    /// A call of a tool on offer.
    Call {
        /// The tool.
        name: String,
        /// JSON text of its arguments, as the model wrote them.
        arguments: String,
    },
}

#[derive(Deserialize)]
struct Written<'a> {
    name: String,
    #[serde(borrow, alias = "parameters")]
    arguments: Option<&'a RawValue>,
}

/// Separates calls from text. What looks like a call but is none of a tool on offer, or no JSON, stays text.
#[derive(Debug)]
pub(crate) struct ToolParser {
    names: Vec<String>,
    held: String,
    inside: bool,
    calls: u32,
}

impl ToolParser {
    /// A parser for calls of these tools.
    pub(crate) fn new(names: Vec<String>) -> Self {
        Self { names, held: String::new(), inside: false, calls: 0 }
    }

    /// How many calls were found.
    pub(crate) fn calls(&self) -> u32 {
        self.calls
    }

    /// Text of the call that has begun and is not complete, if there is one.
    pub(crate) fn begun(&self) -> Option<&str> {
        self.inside.then_some(self.held.as_str())
    }

    /// More text.
    pub(crate) fn push(&mut self, text: &str) -> Vec<Piece> {
        self.held.push_str(text);
        let mut pieces = Vec::new();
        loop {
            if self.inside {
                if let Some(end) = self.held.find(CLOSE) {
                    let rest = self.held.split_off(end + CLOSE.len());
                    let call = std::mem::replace(&mut self.held, rest);
                    self.inside = false;
                    pieces.push(self.read(&call[..end], true));
                    continue;
                }
                if self.held.len() > MAX_CALL {
                    self.inside = false;
                    pieces.push(Piece::Text(format!("{OPEN}{}", std::mem::take(&mut self.held))));
                }
                break;
            }
            if let Some(begin) = self.held.find(OPEN) {
                let rest = self.held.split_off(begin + OPEN.len());
                let mut before = std::mem::replace(&mut self.held, rest);
                before.truncate(begin);
                self.inside = true;
                self.text(before, &mut pieces);
                continue;
            }
            let kept = (1..OPEN.len()).rev().find(|&length| self.held.ends_with(&OPEN[..length])).unwrap_or(0);
            let rest = self.held.split_off(self.held.len() - kept);
            let before = std::mem::replace(&mut self.held, rest);
            self.text(before, &mut pieces);
            break;
        }
        pieces
    }

    /// The end of all text. A call whose end mark is missing counts if its JSON is whole.
    pub(crate) fn finish(&mut self) -> Vec<Piece> {
        let held = std::mem::take(&mut self.held);
        if std::mem::take(&mut self.inside) {
            return vec![self.read(&held, false)];
        }
        let mut pieces = Vec::new();
        self.text(held, &mut pieces);
        pieces
    }

    /// Text between calls; the white space that only separates them is left out.
    fn text(&self, text: String, pieces: &mut Vec<Piece>) {
        let is_separator = self.calls > 0 && text.trim().is_empty();
        if !text.is_empty() && !is_separator {
            pieces.push(Piece::Text(text));
        }
    }

    fn read(&mut self, call: &str, is_closed: bool) -> Piece {
        if let Ok(written) = serde_json::from_str::<Written<'_>>(call.trim())
            && self.names.contains(&written.name)
        {
            self.calls += 1;
            let arguments = written.arguments.map_or("{}", RawValue::get).to_owned();
            return Piece::Call { name: written.name, arguments };
        }
        Piece::Text(format!("{OPEN}{call}{}", if is_closed { CLOSE } else { "" }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str, size: usize) -> Vec<Piece> {
        let mut parser = ToolParser::new(vec!["add".to_owned(), "now".to_owned()]);
        let characters: Vec<char> = text.chars().collect();
        let mut pieces: Vec<Piece> =
            characters.chunks(size).flat_map(|piece| parser.push(&piece.iter().collect::<String>())).collect();
        pieces.extend(parser.finish());
        let mut merged: Vec<Piece> = Vec::new();
        for piece in pieces {
            match (merged.last_mut(), piece) {
                (Some(Piece::Text(before)), Piece::Text(text)) => before.push_str(&text),
                (_, piece) => merged.push(piece),
            }
        }
        merged
    }

    fn call(name: &str, arguments: &str) -> Piece {
        Piece::Call { name: name.to_owned(), arguments: arguments.to_owned() }
    }

    fn text(text: &str) -> Piece {
        Piece::Text(text.to_owned())
    }

    #[test]
    fn calls_are_told_from_text() {
        let check = |written: &str, expected: &[Piece]| {
            for size in [1, 3, 1000] {
                assert_eq!(parsed(written, size), expected, "{written} in pieces of {size}");
            }
        };
        check("hello <b>", &[text("hello <b>")]);
        check("<tool_call>\n{\"name\": \"now\"}\n</tool_call>", &[call("now", "{}")]);
        check(
            "Well: <tool_call>{\"name\":\"add\",\"arguments\":{\"a\": 1}}</tool_call>\n<tool_call>{\"name\":\"add\",\"parameters\":{}}",
            &[text("Well: "), call("add", "{\"a\": 1}"), call("add", "{}")],
        );
        check("<tool_call>{\"name\":\"rm\"}</tool_call>", &[text("<tool_call>{\"name\":\"rm\"}</tool_call>")]);
        check("<tool_call>{\"name\":", &[text("<tool_call>{\"name\":")]);
        check("<tool_call>x</tool_call>y", &[text("<tool_call>x</tool_call>y")]);
        check("<tool_ca", &[text("<tool_ca")]);
    }

    #[test]
    fn a_call_without_an_end_is_bounded() {
        let mut parser = ToolParser::new(vec!["add".to_owned()]);
        assert!(parser.push(OPEN).is_empty());
        let pieces = parser.push(&"x".repeat(MAX_CALL + 1));
        assert!(matches!(&pieces[..], [Piece::Text(text)] if text.len() == MAX_CALL + 1 + OPEN.len()));
        assert_eq!(parser.begun(), None);
    }

    proptest! {
        #[test]
        fn text_without_a_call_is_kept(words in proptest::collection::vec("<|tool|_call>|/|a| |\\n|<tool_call|tool_call>", 0..12), size in 1_usize..9) {
            let written = words.concat();
            prop_assume!(!written.contains(OPEN));
            let expected = if written.is_empty() { vec![] } else { vec![Piece::Text(written.clone())] };
            prop_assert_eq!(parsed(&written, size), expected);
        }
    }
}
