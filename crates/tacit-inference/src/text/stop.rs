//! Stop texts, also across the borders of tokens.

/// Passes text on until a stop text comes; holds back only what may be the beginning of one.
#[derive(Debug)]
pub(crate) struct StopFilter {
    stops: Vec<String>,
    held: String,
    hit: bool,
}

impl StopFilter {
    /// A filter for these texts. Empty ones are ignored.
    pub(crate) fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        Self { stops, held: String::new(), hit: false }
    }

    /// More text; gives what may be told. Nothing comes after a stop.
    pub(crate) fn push(&mut self, text: &str) -> String {
        if self.hit {
            return String::new();
        }
        self.held.push_str(text);
        if let Some(end) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.hit = true;
            self.held.truncate(end);
            return std::mem::take(&mut self.held);
        }
        let kept = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - kept);
        std::mem::replace(&mut self.held, rest)
    }

    /// Whether a stop text came.
    pub(crate) fn is_hit(&self) -> bool {
        self.hit
    }

    /// Whether text is held back.
    pub(crate) fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// The end of all text: what was held back was no stop text.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Length of the longest end of `text` that is a beginning of `stop`, but not all of it.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len() - 1);
    (1..=longest).rev().find(|&length| stop.is_char_boundary(length) && text.ends_with(&stop[..length])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filtered(pieces: &[&str], stops: &[&str]) -> (String, bool) {
        let mut filter = StopFilter::new(&stops.iter().map(ToString::to_string).collect::<Vec<_>>());
        let mut text: String = pieces.iter().map(|piece| filter.push(piece)).collect();
        text.push_str(&filter.finish());
        (text, filter.is_hit())
    }

    #[test]
    fn a_stop_is_found_across_pieces_and_not_told() {
        let check = |pieces: &[&str], stops: &[&str], text: &str, hit: bool| {
            assert_eq!(filtered(pieces, stops), (text.to_owned(), hit), "{pieces:?} {stops:?}");
        };
        check(&["abc"], &[], "abc", false);
        check(&["ab", "c"], &[""], "abc", false);
        check(&["one\n", "\ntwo"], &["\n\n"], "one", true);
        check(&["aab"], &["ab"], "a", true);
        check(&["a", "a", "b"], &["ab"], "a", true);
        check(&["stop later"], &["later", "op"], "st", true);
        check(&["EN", "D"], &["END."], "END", false);
        check(&["x€", "y"], &["€z"], "x€y", false);
        check(&["ab", "c", "d"], &["abcd", "bc"], "a", true);
    }

    #[test]
    fn only_a_possible_stop_is_held_back() {
        let mut filter = StopFilter::new(&["<end>".to_owned()]);
        assert_eq!(filter.push("hello <"), "hello ");
        assert!(filter.is_holding());
        assert_eq!(filter.push("em>"), "<em>");
        assert!(!filter.is_holding());
        assert_eq!(filter.push("<end>more"), "");
        assert_eq!(filter.push("and more"), "");
    }

    proptest! {
        #[test]
        fn cutting_the_text_elsewhere_changes_nothing(
            text in "[ab€]{0,40}", stops in proptest::collection::vec("[ab€]{1,4}", 0..3), cuts in proptest::collection::vec(0_usize..40, 0..6),
        ) {
            let whole = match stops.iter().filter_map(|stop| text.find(stop.as_str())).min() {
                Some(end) => (text[..end].to_owned(), true),
                None => (text.clone(), false),
            };
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| text.is_char_boundary(*cut)).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&str> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let found = filtered(&pieces, &stops);
            // A stop may begin before another and be complete only after it: then the one that is complete first counts.
            if found != whole {
                prop_assert!(found.1 && whole.1 && found.0.len() > whole.0.len());
                prop_assert!(text.starts_with(&found.0));
            }
        }
    }
}
