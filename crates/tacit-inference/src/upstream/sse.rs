//! Server-sent events, as the HTML standard defines them, of a server that is not trusted to be brief.

/// Most bytes of one event.
const MAX_EVENT: usize = 1 << 20;

/// An event is longer than any answer needs, or is not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SseError;

/// Turns bytes into the data of events.
#[derive(Debug, Default)]
pub struct SseParser {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    /// The last byte was a carriage return, so that a line feed now ends no other line.
    after_return: bool,
    begun: bool,
}

impl SseParser {
    /// The data of each event that these bytes complete.
    ///
    /// # Errors
    /// [`SseError`] once an event is too long or not UTF-8; nothing more is to be expected then.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<String>, SseError> {
        let mut events = Vec::new();
        for &byte in bytes {
            let is_second_half = self.after_return && byte == b'\n';
            self.after_return = byte == b'\r';
            if is_second_half {
                continue;
            }
            if byte == b'\r' || byte == b'\n' {
                if let Some(event) = self.end_line()? {
                    events.push(event);
                }
            } else {
                if self.line.len() + self.data.len() >= MAX_EVENT {
                    return Err(SseError);
                }
                self.line.push(byte);
            }
        }
        Ok(events)
    }

    fn end_line(&mut self) -> Result<Option<String>, SseError> {
        let mut line = std::mem::take(&mut self.line);
        if !std::mem::replace(&mut self.begun, true) && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            let is_event = std::mem::take(&mut self.has_data);
            return if is_event { String::from_utf8(data).map(Some).map_err(|_| SseError) } else { Ok(None) };
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        if &line[..colon] == b"data" {
            let value = line.get(colon + 1..).unwrap_or_default();
            let value = value.strip_prefix(b" ").unwrap_or(value);
            if std::mem::replace(&mut self.has_data, true) {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(value);
        }
        // Comments and other fields say nothing about an answer.
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &[u8], size: usize) -> Result<Vec<String>, SseError> {
        let mut parser = SseParser::default();
        let mut events = Vec::new();
        for piece in text.chunks(size) {
            events.extend(parser.push(piece)?);
        }
        Ok(events)
    }

    #[test]
    fn events_are_read_as_the_standard_says() {
        let check = |text: &str, expected: &[&str]| {
            for size in [1, 2, 7, 1000] {
                assert_eq!(parsed(text.as_bytes(), size).unwrap(), expected, "{text:?}");
            }
        };
        check("data: a\n\ndata:b\r\n\r\ndata:  c\r\r", &["a", "b", " c"]);
        check("\u{feff}data: a\ndata: b\n\n", &["a\nb"]);
        check(": comment\nevent: x\nid: 1\ndata\n\n", &[""]);
        check("event: x\n\ndata: [DONE]\n", &[]);
        check("datax: a\n\n", &[]);
    }

    #[test]
    fn what_is_too_long_or_no_text_is_refused() {
        assert_eq!(parsed(&vec![b'x'; MAX_EVENT + 1], 4096), Err(SseError));
        let lines = "data: xxxxxxxxxxxxxxxxxxxxxxxxx\n".repeat(MAX_EVENT / 25 + 1);
        assert_eq!(parsed(lines.as_bytes(), 4096), Err(SseError));
        assert_eq!(parsed(b"data: \xff\n\n", 3), Err(SseError));
    }

    proptest! {
        #[test]
        fn pieces_change_nothing(text in "(data: |\\r|\\n|\\n\\n|:|x|é){0,40}", size in 1_usize..9) {
            prop_assert_eq!(parsed(text.as_bytes(), size), parsed(text.as_bytes(), usize::MAX));
        }

        #[test]
        fn anything_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300), size in 1_usize..9) {
            let _ = parsed(&bytes, size);
        }

        #[test]
        fn what_was_written_is_read(events in proptest::collection::vec("[^\\r\\n]{0,20}", 0..6)) {
            let text: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
            prop_assert_eq!(parsed(text.as_bytes(), 5).unwrap(), events);
        }
    }
}
