//! Reading what stands around the graph of an ONNX file: enough to know that it is one, and under which licence.

use std::io::{self, Read};

/// Largest file, which is that of protobuf.
const MAX_FILE: u64 = 2 << 30;
/// Most fields beside the graph.
const MAX_FIELDS: u64 = 4096;
/// Largest entry of the metadata that is looked at.
const MAX_ENTRY: u64 = 64 * 1024;

/// Field numbers of `ModelProto`.
const IR_VERSION: u64 = 1;
const GRAPH: u64 = 7;
const OPERATORS: u64 = 8;
const METADATA: u64 = 14;

/// Why a file is no ONNX model that can be run. Texts may quote names of the file, never of a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// It does not begin with the version of its form, as writers of ONNX begin.
    #[error("it does not begin as an ONNX model does")]
    Begin,
    /// It ends too early.
    #[error("it ends within {0}")]
    Truncated(&'static str),
    /// It could not be read.
    #[error("it could not be read: {0}")]
    Read(io::ErrorKind),
    /// It is no protobuf message.
    #[error("{0} is not as protobuf has it")]
    Form(&'static str),
    /// It has more of something than any model.
    #[error("it has more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The most.
        limit: u64,
    },
    /// Something is missing that every model has, or is there twice.
    #[error("it has not one {0}")]
    NotOne(&'static str),
    /// Something in the graph is not usable.
    #[error("{what} {name:?} {reason}")]
    Graph {
        /// Kind of the thing.
        what: &'static str,
        /// Its name in the file.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// What stands around the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Version of the form.
    pub ir_version: u64,
    /// Bytes of the graph.
    pub graph: u64,
    /// The licence, where the file's metadata names one.
    pub licence: Option<String>,
}

/// Whether a file that begins with this byte may be an ONNX model: its first field is the version of its form.
pub fn may_begin(byte: u8) -> bool {
    byte == (IR_VERSION << 3) as u8
}

/// Reads what stands around the graph, of a file of `length` bytes. The graph itself is skipped.
///
/// # Errors
/// [`OnnxError`] for whatever is not sound.
pub fn read(from: impl Read, length: u64) -> Result<Header, OnnxError> {
    if length > MAX_FILE {
        return Err(OnnxError::TooMany { what: "bytes", limit: MAX_FILE });
    }
    let mut reader = Reader { from, left: length };
    let (mut version, mut graph, mut has_operators, mut licence) = (None, None, false, None);
    let mut fields = 0;
    while reader.left > 0 {
        fields += 1;
        if fields > MAX_FIELDS {
            return Err(OnnxError::TooMany { what: "fields", limit: MAX_FIELDS });
        }
        let (field, wire) = reader.tag()?;
        if version.is_none() && (field, wire) != (IR_VERSION, 0) {
            return Err(OnnxError::Begin);
        }
        match (field, wire) {
            (IR_VERSION, 0) if version.is_none() => version = Some(reader.varint()?),
            (IR_VERSION, _) => return Err(OnnxError::NotOne("version")),
            (GRAPH, 2) if graph.is_none() => {
                let length = reader.length("the graph")?;
                reader.skip(length, "the graph")?;
                graph = Some(length);
            }
            (GRAPH, _) => return Err(OnnxError::NotOne("graph")),
            (METADATA, 2) => licence = reader.entry()?.or(licence),
            (field, wire) => {
                has_operators |= (field, wire) == (OPERATORS, 2);
                reader.skip_value(wire)?;
            }
        }
    }
    if !has_operators {
        return Err(OnnxError::NotOne("version of the operators"));
    }
    Ok(Header {
        ir_version: version.ok_or(OnnxError::Begin)?,
        graph: graph.filter(|length| *length > 0).ok_or(OnnxError::NotOne("graph"))?,
        licence,
    })
}

struct Reader<R> {
    from: R,
    /// Bytes that follow.
    left: u64,
}

impl<R: Read> Reader<R> {
    fn fill(&mut self, into: &mut [u8], within: &'static str) -> Result<(), OnnxError> {
        let left = self.left.checked_sub(into.len() as u64);
        self.left = left.ok_or(OnnxError::Truncated(within))?;
        self.from.read_exact(into).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => OnnxError::Truncated(within),
            kind => OnnxError::Read(kind),
        })
    }

    fn varint(&mut self) -> Result<u64, OnnxError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.fill(&mut byte, "a number")?;
            let bits = u64::from(byte[0] & 0x7f);
            // The tenth byte has room for one bit.
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte[0] < 0x80 {
                return Ok(value);
            }
        }
        Err(OnnxError::Form("a number"))
    }

    /// Number and kind of the next field, in their shortest form: the first byte of a file says what it is.
    fn tag(&mut self) -> Result<(u64, u64), OnnxError> {
        let before = self.left;
        let tag = self.varint()?;
        let shortest = u64::from((64 - tag.leading_zeros()).div_ceil(7));
        if tag >> 3 == 0 || before - self.left != shortest {
            return Err(OnnxError::Form("a field"));
        }
        Ok((tag >> 3, tag & 7))
    }

    /// The length of a value, which is there in full.
    fn length(&mut self, within: &'static str) -> Result<u64, OnnxError> {
        let length = self.varint()?;
        if length > self.left { Err(OnnxError::Truncated(within)) } else { Ok(length) }
    }

    fn skip(&mut self, length: u64, within: &'static str) -> Result<(), OnnxError> {
        let skipped = io::copy(&mut self.from.by_ref().take(length), &mut io::sink());
        let skipped = skipped.map_err(|error| OnnxError::Read(error.kind()))?;
        self.left = self.left.saturating_sub(length);
        if skipped < length { Err(OnnxError::Truncated(within)) } else { Ok(()) }
    }

    fn skip_value(&mut self, wire: u64) -> Result<(), OnnxError> {
        const WHERE: &str = "a field";
        let length = match wire {
            0 => return self.varint().map(drop),
            1 => 8,
            2 => self.length(WHERE)?,
            5 => 4,
            _ => return Err(OnnxError::Form(WHERE)),
        };
        if length > self.left {
            return Err(OnnxError::Truncated(WHERE));
        }
        self.skip(length, WHERE)
    }

    /// An entry of the metadata: the licence, if it is one.
    fn entry(&mut self) -> Result<Option<String>, OnnxError> {
        const WHERE: &str = "an entry of the metadata";
        let length = self.length(WHERE)?;
        if length > MAX_ENTRY {
            return self.skip(length, WHERE).map(|()| None);
        }
        let mut bytes = vec![0; usize::try_from(length).expect("bounded just now")];
        self.fill(&mut bytes, WHERE)?;
        let mut entry = Reader { left: length, from: bytes.as_slice() };
        let (mut key, mut value) = (String::new(), String::new());
        while entry.left > 0 {
            let (field, wire) = entry.tag()?;
            match (field, wire) {
                (1, 2) => key = entry.text()?,
                (2, 2) => value = entry.text()?,
                (_, wire) => entry.skip_value(wire)?,
            }
        }
        let is_licence = ["license", "licence"].iter().any(|name| key.eq_ignore_ascii_case(name));
        Ok((is_licence && !value.is_empty()).then_some(value))
    }

    fn text(&mut self) -> Result<String, OnnxError> {
        const WHERE: &str = "a text";
        let length = self.length(WHERE)?;
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| OnnxError::Truncated(WHERE))?];
        self.fill(&mut bytes, WHERE)?;
        String::from_utf8(bytes).map_err(|_| OnnxError::Form(WHERE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, value: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(value.len()).unwrap()], value].concat()
    }

    fn file() -> Vec<u8> {
        let entry = [field(1, b"license"), field(2, b"apache-2.0")].concat();
        [&[8, 9][..], &field(2, b"tests"), &field(7, b"\x12\x01g"), &field(8, &[16, 17]), &field(14, &entry)].concat()
    }

    fn check(bytes: &[u8]) -> Result<Header, OnnxError> {
        read(bytes, bytes.len() as u64)
    }

    #[test]
    fn what_stands_around_the_graph_is_read() {
        let header = Header { ir_version: 9, graph: 3, licence: Some("apache-2.0".to_owned()) };
        assert_eq!(check(&file()), Ok(header));
    }

    #[test]
    fn every_cut_and_every_doubled_part_is_refused() {
        let file = file();
        let ends: Vec<usize> = (0..file.len()).filter(|end| check(&file[..*end]).is_ok()).collect();
        // What may be missing is the metadata, which is last.
        assert_eq!(ends, [file.len() - 23]);
        assert_eq!(check(&[&file[..], &[8, 9]].concat()), Err(OnnxError::NotOne("version")));
        assert_eq!(check(&[&file[..], &field(7, b"x")].concat()), Err(OnnxError::NotOne("graph")));
        assert_eq!(check(&file[2..]), Err(OnnxError::Begin));
        assert_eq!(check(&[8, 9]), Err(OnnxError::NotOne("version of the operators")));
        assert_eq!(check(&[&[8, 9][..], &field(8, &[])].concat()), Err(OnnxError::NotOne("graph")));
        assert_eq!(check(&[8, 9, 0]), Err(OnnxError::Form("a field")));
        assert_eq!(check(&[8, 9, 11]), Err(OnnxError::NotOne("version")));
        assert_eq!(check(&[8, 9, 19]), Err(OnnxError::Form("a field")));
        assert_eq!(check(&[&[8][..], &[0xff; 10]].concat()), Err(OnnxError::Form("a number")));
        assert_eq!(check(&[8, 9, 18, 0xff, 0xff, 0xff, 0xff, 15]), Err(OnnxError::Truncated("a field")));
        let many = [&file[..], &field(2, b"").repeat(5000)].concat();
        assert!(matches!(check(&many), Err(OnnxError::TooMany { what: "fields", .. })));
        assert!(matches!(read(&file[..], 3 << 30), Err(OnnxError::TooMany { what: "bytes", .. })));
        let entry = [field(1, b"\xff"), field(2, b"x")].concat();
        assert_eq!(check(&[&file[..], &field(14, &entry)].concat()), Err(OnnxError::Form("a text")));
    }
}
