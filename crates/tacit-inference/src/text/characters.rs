//! Bytes of tokens to whole characters.

/// Collects bytes and gives text as soon as its characters are whole. What is no UTF-8 becomes U+FFFD.
#[derive(Debug, Default)]
pub(crate) struct Characters {
    /// The beginning of a character whose rest has not come: at most three bytes.
    partial: Vec<u8>,
}

impl Characters {
    /// The whole characters that these bytes complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        self.partial.extend_from_slice(bytes);
        let mut text = String::new();
        let mut rest = self.partial.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(whole) => {
                    text.push_str(whole);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (whole, after) = rest.split_at(error.valid_up_to());
                    text.push_str(std::str::from_utf8(whole).expect("checked just now"));
                    let Some(length) = error.error_len() else {
                        rest = after;
                        break;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &after[length..];
                }
            }
        }
        self.partial = rest.to_vec();
        text
    }

    /// What is left at the end: U+FFFD for the beginning of a character, else nothing.
    pub(crate) fn finish(&mut self) -> String {
        if std::mem::take(&mut self.partial).is_empty() { String::new() } else { char::REPLACEMENT_CHARACTER.into() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn in_pieces(bytes: &[u8], size: usize) -> String {
        let mut characters = Characters::default();
        let mut text: String = bytes.chunks(size).map(|piece| characters.push(piece)).collect();
        text.push_str(&characters.finish());
        text
    }

    #[test]
    fn a_character_waits_for_its_last_byte() {
        let mut characters = Characters::default();
        assert_eq!(characters.push(&[b'a', 0xf0, 0x9f]), "a");
        assert_eq!(characters.push(&[0x98]), "");
        assert_eq!(characters.push(&[0x80, b'b']), "\u{1f600}b");
        assert_eq!(characters.push(&[0xff, b'c', 0xe2]), "\u{fffd}c");
        assert_eq!(characters.finish(), "\u{fffd}");
        assert_eq!(characters.finish(), "");
    }

    proptest! {
        #[test]
        fn pieces_change_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..200), size in 1_usize..9) {
            prop_assert_eq!(in_pieces(&bytes, size), String::from_utf8_lossy(&bytes).into_owned());
        }

        #[test]
        fn text_stays_as_it_is(text in "\\PC{0,60}", size in 1_usize..5) {
            prop_assert_eq!(in_pieces(text.as_bytes(), size), text);
        }
    }
}
