//! Variable-length integers of QUIC (RFC 9000, section 16), and a bounded reader.

use crate::EnvelopeError;

/// The largest value that a variable-length integer can carry.
pub(crate) const MAX: u64 = (1 << 62) - 1;

/// Appends `value`, which is at most [`MAX`], in the shortest form.
pub(crate) fn push(out: &mut Vec<u8>, value: u64) {
    match value {
        0..=0x3f => out.push(value as u8),
        0x40..=0x3fff => out.extend_from_slice(&(value as u16 | 0x4000).to_be_bytes()),
        0x4000..=0x3fff_ffff => out.extend_from_slice(&(value as u32 | 0x8000_0000).to_be_bytes()),
        _ => out.extend_from_slice(&((value & MAX) | 0xc000_0000_0000_0000).to_be_bytes()),
    }
}

/// Appends the length of `bytes` and the bytes.
pub(crate) fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    push(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A cursor over hostile bytes.
#[derive(Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], EnvelopeError> {
        let (head, tail) = self.rest.split_at_checked(length).ok_or(EnvelopeError::Truncated(what))?;
        self.rest = tail;
        Ok(head)
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, EnvelopeError> {
        Ok(self.take(1, what)?[0])
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, EnvelopeError> {
        let bytes = self.take(2, what)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    pub(crate) fn varint(&mut self, what: &'static str) -> Result<u64, EnvelopeError> {
        let first = *self.rest.first().ok_or(EnvelopeError::Truncated(what))?;
        let length = 1usize << (first >> 6);
        let bytes = self.take(length, what)?;
        let mut value = u64::from(bytes[0] & 0x3f);
        for byte in &bytes[1..] {
            value = value << 8 | u64::from(*byte);
        }
        Ok(value)
    }

    /// Reads a length of at most `limit` and that many bytes.
    pub(crate) fn bytes(&mut self, limit: usize, what: &'static str) -> Result<&'a [u8], EnvelopeError> {
        let length = self.varint(what)?;
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= limit)
            .ok_or(EnvelopeError::TooLarge { what, limit })?;
        self.take(length, what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_rfc_9000() {
        let check = |hex_bytes: &str, value: u64| {
            let bytes = hex::decode(hex_bytes).unwrap();
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.varint("test"), Ok(value));
            assert!(reader.is_empty());
        };
        check("c2197c5eff14e88c", 151_288_809_941_952_652);
        check("9d7f3e7d", 494_878_333);
        check("7bbd", 15_293);
        check("25", 37);
        check("4025", 37);
    }

    #[test]
    fn shortest_form_returns() {
        for value in [0, 1, 63, 64, 16_383, 16_384, 1 << 30, (1 << 30) - 1, MAX] {
            let mut bytes = Vec::new();
            push(&mut bytes, value);
            assert_eq!(Reader::new(&bytes).varint("test"), Ok(value));
        }
    }

    #[test]
    fn refuses_short_and_large() {
        assert_eq!(Reader::new(&[0x40]).varint("x"), Err(EnvelopeError::Truncated("x")));
        assert_eq!(Reader::new(&[5, 0]).bytes(4, "x"), Err(EnvelopeError::TooLarge { what: "x", limit: 4 }));
        assert_eq!(Reader::new(&[3, 0]).bytes(4, "x"), Err(EnvelopeError::Truncated("x")));
    }
}
