//! What the demo prints: one line at a time, figures with their units.

use std::time::{Duration, Instant};

/// Milliseconds with two significant places, as in `0.46 ms` or `12 ms`.
pub fn milliseconds(duration: Duration) -> String {
    let value = duration.as_secs_f64() * 1_000.0;
    if value < 10.0 { format!("{value:.2} ms") } else { format!("{value:.0} ms") }
}

/// The median of some durations; zero for none.
pub fn median(durations: &mut [Duration]) -> Duration {
    durations.sort_unstable();
    durations.get(durations.len() / 2).copied().unwrap_or_default()
}

/// Bytes as people read them.
pub fn bytes(count: u64) -> String {
    match count {
        0..1_024 => format!("{count} B"),
        1_024..1_048_576 => format!("{} KiB", count >> 10),
        _ => format!("{} MiB", count >> 20),
    }
}

/// The first ten and last four digits of a long identifier.
pub fn short(id: &impl ToString) -> String {
    let text = id.to_string();
    if text.len() <= 18 { text } else { format!("{}…{}", &text[..10], &text[text.len() - 4..]) }
}

/// A text from somewhere else, cut to the width of the screen.
pub fn cut(text: &str) -> String {
    const LONGEST: usize = 106;
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// Times the whole run.
pub struct Clock(Instant);

impl Clock {
    /// Starts now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Seconds since the start, with one place.
    pub fn seconds(&self) -> String {
        format!("{:.1} s", self.0.elapsed().as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_units() {
        assert_eq!(milliseconds(Duration::from_micros(457)), "0.46 ms");
        assert_eq!(milliseconds(Duration::from_millis(31)), "31 ms");
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(3 << 20), "3 MiB");
        assert_eq!(short(&"0x0123456789abcdef0123456789abcdef"), "0x01234567…cdef");
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"é".repeat(200)).chars().count(), 107);
    }

    #[test]
    fn the_median_is_the_middle() {
        let mut durations = [3, 1, 2].map(Duration::from_millis);
        assert_eq!(median(&mut durations), Duration::from_millis(2));
        assert_eq!(median(&mut []), Duration::ZERO);
    }
}
