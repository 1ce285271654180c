//! Passes a stream of events on, but for its last event: that one waits until the answer is proven.

/// Longest event that is waited for; what is longer is passed on in pieces.
const MOST: usize = 256 << 10;
/// How the line of a last event begins.
const LAST: [&[u8]; 5] = [
    b"data: [DONE]",
    b"data:[DONE]",
    b"event: response.completed",
    b"event: response.incomplete",
    b"event: response.failed",
];

/// Holds an event until it is complete, and the last event until the end.
#[derive(Debug, Default)]
pub(super) struct EventHold {
    held: Vec<u8>,
    /// How much of it has no end of an event.
    searched: usize,
    last: bool,
}

impl EventHold {
    /// Takes bytes, and gives those that may be passed on: whole events, up to the last one.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(bytes);
        if self.last {
            return Vec::new();
        }
        let (mut ready, mut searched) = (0, self.searched);
        while let Some(end) = event_end(&self.held, searched) {
            let lines = self.held[ready..end].split(|byte| matches!(byte, b'\n' | b'\r'));
            if lines.into_iter().any(|line| LAST.iter().any(|last| line.starts_with(last))) {
                self.last = true;
                break;
            }
            (ready, searched) = (end, end);
        }
        if !self.last && self.held.len() - ready > MOST {
            ready = self.held.len();
        }
        // An end may begin in the last three bytes.
        self.searched = (self.held.len() - ready).saturating_sub(3);
        self.held.drain(..ready).collect()
    }

    /// What is still held.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

/// Where the first event ends, its blank line included, looked for from `start` on.
fn event_end(bytes: &[u8], start: usize) -> Option<usize> {
    let ends = [&b"\n\n"[..], b"\r\n\r\n", b"\r\r"];
    let found = ends.iter().filter_map(|end| {
        let place = bytes[start..].windows(end.len()).position(|window| window == *end)?;
        Some(start + place + end.len())
    });
    found.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(stream: &str, held: &str) {
        for size in [1, 2, 3, 7, stream.len().max(1)] {
            let (mut hold, mut passed) = (EventHold::default(), Vec::new());
            for piece in stream.as_bytes().chunks(size) {
                passed.extend(hold.push(piece));
            }
            let rest = hold.finish();
            assert_eq!([passed, rest.clone()].concat(), stream.as_bytes(), "{size}");
            assert_eq!(String::from_utf8(rest).unwrap(), held, "{size}");
        }
    }

    #[test]
    fn everything_passes_but_the_last_event() {
        check("data: 1\n\ndata: 2\n\ndata: [DONE]\n\n", "data: [DONE]\n\n");
        check("data: 1\r\n\r\ndata: [DONE]\r\n\r\n", "data: [DONE]\r\n\r\n");
        check(
            "event: a\ndata: {}\n\nevent: response.completed\ndata: {}\n\n",
            "event: response.completed\ndata: {}\n\n",
        );
        // Text that looks like an end inside an event's data is data.
        check("data: {\"text\":\"data: [DONE]\"}\n\ndata: 2\n\n", "");
        // An event that is not complete waits.
        check("data: 1\n\ndata: 2", "data: 2");
        check("data: [DONE]\n\ndata: more\n\n", "data: [DONE]\n\ndata: more\n\n");
        check("", "");
    }

    #[test]
    fn an_endless_event_is_not_held() {
        let mut hold = EventHold::default();
        let piece = vec![b'x'; 100 << 10];
        let passed: usize = (0..10).map(|_| hold.push(&piece).len()).sum();
        assert!(passed + MOST >= 10 * piece.len());
    }
}
