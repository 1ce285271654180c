//! A strict reader of CBOR (RFC 8949) for documents whose shape is known: it never recurses and never allocates by a length it was told.

use crate::AttestError;

/// Reads one item after the other; every method refuses what it does not expect.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    what: &'static str,
    rest: &'a [u8],
}

/// How many entries a map says it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entries {
    /// So many.
    Counted(u64),
    /// As many as come before the break.
    UntilBreak,
}

const UNSIGNED: u8 = 0;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const NULL: u8 = 0xf6;
const OPEN_MAP: u8 = 0xbf;
const BREAK: u8 = 0xff;

impl<'a> Reader<'a> {
    pub(crate) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, rest: bytes }
    }

    /// Refuses bytes after the last item.
    pub(crate) fn end(self) -> Result<(), AttestError> {
        if self.rest.is_empty() { Ok(()) } else { Err(AttestError::TrailingBytes { what: self.what }) }
    }

    /// A non-negative number.
    pub(crate) fn unsigned(&mut self) -> Result<u64, AttestError> {
        self.head(UNSIGNED, "a number")
    }

    /// A byte string of at most `limit` bytes.
    pub(crate) fn bytes(&mut self, limit: usize) -> Result<&'a [u8], AttestError> {
        let length = self.head(BYTES, "a byte string")?;
        self.take(length, limit)
    }

    /// A byte string of at most `limit` bytes, or null.
    pub(crate) fn optional_bytes(&mut self, limit: usize) -> Result<Option<&'a [u8]>, AttestError> {
        if let Some((&NULL, rest)) = self.rest.split_first() {
            self.rest = rest;
            return Ok(None);
        }
        self.bytes(limit).map(Some)
    }

    /// A text string of at most `limit` bytes.
    pub(crate) fn text(&mut self, limit: usize) -> Result<&'a str, AttestError> {
        let length = self.head(TEXT, "a text string")?;
        let what = self.what;
        std::str::from_utf8(self.take(length, limit)?)
            .map_err(|_| AttestError::Malformed { what, detail: "text that is not UTF-8".into() })
    }

    /// The head of an array: its length, at most `limit`.
    pub(crate) fn array(&mut self, limit: u64) -> Result<u64, AttestError> {
        let length = self.head(ARRAY, "an array")?;
        if length > limit {
            return Err(self.malformed(format!("an array of {length} items, at most {limit}")));
        }
        Ok(length)
    }

    /// The head of a map of at most `limit` entries.
    pub(crate) fn map(&mut self, limit: u64) -> Result<u64, AttestError> {
        let entries = self.head(MAP, "a map")?;
        if entries > limit {
            return Err(self.malformed(format!("a map of {entries} entries, at most {limit}")));
        }
        Ok(entries)
    }

    /// The head of a map whose length may be left open.
    pub(crate) fn open_map(&mut self, limit: u64) -> Result<Entries, AttestError> {
        if let Some((&OPEN_MAP, rest)) = self.rest.split_first() {
            self.rest = rest;
            return Ok(Entries::UntilBreak);
        }
        self.map(limit).map(Entries::Counted)
    }

    /// True, and past it, if the break of an open map comes next.
    pub(crate) fn is_break(&mut self) -> bool {
        match self.rest.split_first() {
            Some((&BREAK, rest)) => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    pub(crate) fn malformed(&self, detail: String) -> AttestError {
        AttestError::Malformed { what: self.what, detail }
    }

    /// The argument of an item of the major type `major`, in its shortest form.
    fn head(&mut self, major: u8, expected: &str) -> Result<u64, AttestError> {
        let truncated = AttestError::Truncated { what: self.what };
        let (&first, rest) = self.rest.split_first().ok_or(truncated.clone())?;
        if first >> 5 != major {
            return Err(self.malformed(format!("{expected} was expected, byte {first:#04x} found")));
        }
        let (width, least) = match first & 0x1f {
            small @ 0..24 => {
                self.rest = rest;
                return Ok(small.into());
            }
            24 => (1, 24),
            25 => (2, 1 << 8),
            26 => (4, 1 << 16),
            27 => (8, 1 << 32),
            _ => return Err(self.malformed("an open length where none may be".into())),
        };
        let digits = rest.get(..width).ok_or(truncated)?;
        let argument = digits.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        if argument < least {
            return Err(self.malformed("a number that is not in its shortest form".into()));
        }
        self.rest = &rest[width..];
        Ok(argument)
    }

    fn take(&mut self, length: u64, limit: usize) -> Result<&'a [u8], AttestError> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > limit {
            return Err(self.malformed(format!("a string of {length} bytes, at most {limit}")));
        }
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(AttestError::Truncated { what: self.what })?;
        self.rest = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_shortest_form_is_read() {
        let number = |bytes: &[u8]| Reader::new("it", bytes).unsigned();
        assert_eq!(number(&[0x17]), Ok(23));
        assert_eq!(number(&[0x18, 24]), Ok(24));
        assert_eq!(number(&[0x1b, 0, 0, 0, 1, 0, 0, 0, 0]), Ok(1 << 32));
        for long in [&[0x18, 23][..], &[0x19, 0, 255], &[0x1a, 0, 0, 255, 255], &[0x1b, 0, 0, 0, 0, 255, 255, 255, 255]]
        {
            assert!(matches!(number(long), Err(AttestError::Malformed { .. })), "{long:?}");
        }
        for short in [&[][..], &[0x18], &[0x1b, 0, 0, 0]] {
            assert_eq!(number(short), Err(AttestError::Truncated { what: "it" }));
        }
        for other in [0x20, 0x40, 0x60, 0x80, 0xa0, 0xc0, 0xf6, 0x1c, 0x1f] {
            assert!(matches!(number(&[other]), Err(AttestError::Malformed { .. })), "{other:#x}");
        }
    }

    #[test]
    fn lengths_are_bounded_and_not_believed() {
        assert_eq!(Reader::new("it", &[0x43, 1, 2, 3]).bytes(3), Ok(&[1, 2, 3][..]));
        assert_eq!(Reader::new("it", &[0x43, 1, 2]).bytes(3), Err(AttestError::Truncated { what: "it" }));
        let huge = [0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert!(matches!(Reader::new("it", &huge).bytes(1 << 20), Err(AttestError::Malformed { .. })));
        assert!(matches!(Reader::new("it", &[0x5f, 0x41, 0, 0xff]).bytes(9), Err(AttestError::Malformed { .. })));
        assert!(matches!(Reader::new("it", &[0x84]).array(3), Err(AttestError::Malformed { .. })));
        assert!(matches!(Reader::new("it", &[0x61, 0xff]).text(3), Err(AttestError::Malformed { .. })));
        assert_eq!(Reader::new("it", &[0xf6]).optional_bytes(3), Ok(None));
        assert_eq!(Reader::new("it", &[0xbf]).open_map(3), Ok(Entries::UntilBreak));
        assert_eq!(Reader::new("it", &[0]).end(), Err(AttestError::TrailingBytes { what: "it" }));
    }
}
