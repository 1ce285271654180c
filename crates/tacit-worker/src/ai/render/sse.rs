//! Server-sent events, padded so that their lengths tell less about the words in them.

use rand::RngExt as _;
use serde_json::Value;

/// The end of a stream.
pub(crate) const DONE: &[u8] = b"data: [DONE]\n\n";

/// Frames of padded pieces have a length that is a multiple of this.
const UNIT: usize = 64;
/// Name of the member that pads.
const PAD: &str = "obfuscation";

/// One event of a stream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Piece {
    /// Name of the event, where the interface names events.
    pub event: Option<&'static str>,
    /// What it says.
    pub data: Value,
    /// Whether it carries generated text, and so is padded.
    pub text: bool,
}

impl Piece {
    pub fn new(data: Value) -> Self {
        Self { event: None, data, text: false }
    }

    pub fn text(data: Value) -> Self {
        Self { event: None, data, text: true }
    }
}

/// The bytes of a piece. With `padded`, a piece of text gets random letters up to the next multiple of 64 bytes.
pub(crate) fn frame(piece: &Piece, padded: bool) -> Vec<u8> {
    let json = piece.data.to_string();
    let name = piece.event.map_or(0, |name| name.len() + "event: \n".len());
    let mut frame = Vec::with_capacity(json.len() + name + 2 * UNIT);
    if let Some(name) = piece.event {
        frame.extend_from_slice(b"event: ");
        frame.extend_from_slice(name.as_bytes());
        frame.push(b'\n');
    }
    frame.extend_from_slice(b"data: ");
    frame.extend_from_slice(json.as_bytes());
    if padded && piece.text && piece.data.is_object() && json.ends_with('}') && json.len() > 2 {
        frame.pop();
        let bare = frame.len() + format!(",\"{PAD}\":\"\"}}\n\n").len();
        let letters = (UNIT - bare % UNIT) % UNIT;
        frame.extend_from_slice(format!(",\"{PAD}\":\"").as_bytes());
        let mut rng = rand::rng();
        frame.extend((0..letters).map(|_| rng.random_range(b'a'..=b'z')));
        frame.extend_from_slice(b"\"}");
    }
    frame.extend_from_slice(b"\n\n");
    frame
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pieces_of_text_have_lengths_in_steps() {
        for length in 0..200 {
            let piece = Piece::text(json!({"content": "x".repeat(length)}));
            let padded = frame(&piece, true);
            assert_eq!(padded.len() % UNIT, 0, "{length}");
            let body = padded.strip_prefix(b"data: ").unwrap();
            let value: Value = serde_json::from_slice(body).unwrap();
            assert_eq!(value["content"].as_str().unwrap().len(), length);
            assert!(frame(&piece, false).len() < padded.len());
        }
        let named = Piece { event: Some("response.created"), ..Piece::new(json!({"a": 1})) };
        assert_eq!(frame(&named, true), b"event: response.created\ndata: {\"a\":1}\n\n");
    }
}
