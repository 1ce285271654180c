use crate::EnvelopeError;
use crate::varint::{Reader, push, push_bytes};

/// The header or trailer fields of a message, in order; names are lower-case tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(Vec<(String, Vec<u8>)>);

impl Fields {
    /// No fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a field; its name and value are checked when the message is encoded.
    pub fn push(&mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) {
        self.0.push((name.into(), value.into()));
    }

    /// The value of the only field of that name, if it is there once and is UTF-8; repeated fields count as absent.
    pub fn value(&self, name: &str) -> Option<&str> {
        let mut values = self.0.iter().filter(|(own, _)| own == name);
        let first = values.next()?;
        if values.next().is_some() {
            return None;
        }
        std::str::from_utf8(&first.1).ok()
    }

    /// All fields in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn encode_known(&self, out: &mut Vec<u8>) -> Result<(), EnvelopeError> {
        let mut section = Vec::new();
        self.encode_lines(&mut section)?;
        push_bytes(out, &section);
        Ok(())
    }

    pub(crate) fn encode_indeterminate(&self, out: &mut Vec<u8>) -> Result<(), EnvelopeError> {
        self.encode_lines(out)?;
        push(out, 0);
        Ok(())
    }

    fn encode_lines(&self, out: &mut Vec<u8>) -> Result<(), EnvelopeError> {
        for (name, value) in &self.0 {
            check_field(name.as_bytes(), value)?;
            push_bytes(out, name.as_bytes());
            push_bytes(out, value);
        }
        Ok(())
    }

    pub(crate) fn decode_known(reader: &mut Reader<'_>, bytes: usize, count: usize) -> Result<Self, EnvelopeError> {
        let mut section = Reader::new(reader.bytes(bytes, "field section")?);
        let mut fields = Self::new();
        while !section.is_empty() {
            let name = section.bytes(bytes, "field name")?;
            fields.read_line(name, &mut section, bytes, count)?;
        }
        Ok(fields)
    }

    pub(crate) fn decode_indeterminate(
        reader: &mut Reader<'_>,
        bytes: usize,
        count: usize,
    ) -> Result<Self, EnvelopeError> {
        let start = reader.rest().len();
        let mut fields = Self::new();
        loop {
            let name = reader.bytes(bytes, "field name")?;
            if name.is_empty() {
                return Ok(fields);
            }
            fields.read_line(name, reader, bytes, count)?;
            if start - reader.rest().len() > bytes {
                return Err(EnvelopeError::TooLarge { what: "field section", limit: bytes });
            }
        }
    }

    fn read_line(
        &mut self,
        name: &[u8],
        reader: &mut Reader<'_>,
        bytes: usize,
        count: usize,
    ) -> Result<(), EnvelopeError> {
        if self.0.len() >= count {
            return Err(EnvelopeError::TooLarge { what: "number of fields", limit: count });
        }
        let value = reader.bytes(bytes, "field value")?;
        check_field(name, value)?;
        let name = std::str::from_utf8(name).map_err(|_| EnvelopeError::Malformed("field name"))?;
        self.0.push((name.to_owned(), value.to_vec()));
        Ok(())
    }
}

/// Whether `byte` may stand in a token (RFC 9110, section 5.6.2).
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn check_field(name: &[u8], value: &[u8]) -> Result<(), EnvelopeError> {
    let name_ok = !name.is_empty() && name.iter().all(|byte| is_token(*byte) && !byte.is_ascii_uppercase());
    if !name_ok {
        return Err(EnvelopeError::Malformed("field name"));
    }
    let edge = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) || edge(value.first()) || edge(value.last()) {
        return Err(EnvelopeError::Malformed("field value"));
    }
    Ok(())
}
