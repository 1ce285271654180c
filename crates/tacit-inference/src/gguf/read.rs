//! Reading a GGUF header.

use std::{
    collections::{BTreeMap, HashSet},
    io::Read,
};

use super::{
    Gguf, GgufError, MAX_ALIGNMENT, MAX_ARRAY, MAX_DIMENSIONS, MAX_ENTRIES, MAX_HEADER, MAX_KEY, MAX_NAME, MAX_TEXT,
    MAX_VALUES, Tensor, Value, block,
};

const TEXT: u32 = 8;
const ARRAY: u32 = 9;

/// Reads the header of a file of `length` bytes. Memory is taken only for what was read.
///
/// # Errors
/// [`GgufError`] for whatever is not sound.
pub fn read(from: impl Read, length: u64) -> Result<Gguf, GgufError> {
    let mut reader = Reader { from, position: 0 };
    if reader.bytes("the magic number")? != *b"GGUF" {
        return Err(GgufError::Magic);
    }
    let version = reader.u32("the version")?;
    if !(2..=3).contains(&version) {
        return Err(GgufError::Version(version));
    }
    let tensors = bounded("tensors", reader.u64("the counts")?, MAX_ENTRIES)?;
    let entries = bounded("metadata entries", reader.u64("the counts")?, MAX_ENTRIES)?;
    let mut metadata = BTreeMap::new();
    for _ in 0..entries {
        let key = reader.text("a key", MAX_KEY)?;
        let kind = reader.u32("a metadata entry")?;
        let value = reader.value(kind, &key)?;
        if metadata.contains_key(&key) {
            return Err(GgufError::Repeated(key));
        }
        metadata.insert(key, value);
    }
    let list = reader.position;
    let alignment = match metadata.get("general.alignment") {
        None => 32,
        Some(Value::Unsigned(alignment)) => u32::try_from(*alignment)
            .ok()
            .filter(|alignment| alignment.is_power_of_two() && *alignment <= MAX_ALIGNMENT)
            .ok_or_else(|| GgufError::Key { key: "general.alignment".to_owned() })?,
        Some(_) => return Err(GgufError::Key { key: "general.alignment".to_owned() }),
    };
    let alignment = u64::from(alignment);
    let (mut found, mut names, mut end) = (Vec::new(), HashSet::new(), 0_u64);
    for _ in 0..tensors {
        let tensor = reader.tensor()?;
        let failed = |reason| GgufError::Tensor { tensor: tensor.name.clone(), reason };
        // Tensors follow each other without holes and without overlaps, as llama.cpp requires.
        if tensor.offset != end {
            return Err(failed("it does not begin where the one before ends"));
        }
        end = tensor
            .size
            .checked_next_multiple_of(alignment)
            .and_then(|size| end.checked_add(size))
            .ok_or_else(|| failed("it is larger than any file"))?;
        if !names.insert(tensor.name.clone()) {
            return Err(GgufError::Repeated(tensor.name));
        }
        found.push(tensor);
    }
    let data = reader.position.next_multiple_of(alignment);
    // The last tensor's padding may be missing.
    let last = found.last().map_or(0, |tensor| tensor.offset + tensor.size);
    if data.checked_add(last).is_none_or(|end| end > length) {
        return Err(GgufError::Truncated("its tensors"));
    }
    Ok(Gguf { metadata, tensors: found, list, data })
}

/// Reads the texts of an array of the metadata; none if there is no such array.
///
/// # Errors
/// As [`read`].
pub fn texts(from: impl Read, wanted: &str) -> Result<Vec<String>, GgufError> {
    let mut reader = Reader { from, position: 0 };
    reader.skip(16, "the counts")?;
    let entries = bounded("metadata entries", reader.u64("the counts")?, MAX_ENTRIES)?;
    for _ in 0..entries {
        let key = reader.text("a key", MAX_KEY)?;
        let kind = reader.u32("a metadata entry")?;
        if key != wanted || kind != ARRAY {
            reader.value(kind, &key)?;
            continue;
        }
        if reader.u32("an array")? != TEXT {
            return Err(GgufError::Kind(key));
        }
        let length = bounded("values of an array", reader.u64("an array")?, MAX_ARRAY)?;
        return (0..length).map(|_| reader.text("an array", MAX_TEXT)).collect();
    }
    Ok(Vec::new())
}

fn bounded(what: &'static str, found: u64, limit: u64) -> Result<u64, GgufError> {
    if found > limit { Err(GgufError::TooMany { what, found, limit }) } else { Ok(found) }
}

struct Reader<R> {
    from: R,
    position: u64,
}

impl<R: Read> Reader<R> {
    fn fill(&mut self, into: &mut [u8], within: &'static str) -> Result<(), GgufError> {
        self.position += into.len() as u64;
        bounded("bytes of the header", self.position, MAX_HEADER)?;
        self.from.read_exact(into).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => GgufError::Truncated(within),
            kind => GgufError::Read(kind),
        })
    }

    fn bytes<const N: usize>(&mut self, within: &'static str) -> Result<[u8; N], GgufError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes, within)?;
        Ok(bytes)
    }

    fn u32(&mut self, within: &'static str) -> Result<u32, GgufError> {
        self.bytes(within).map(u32::from_le_bytes)
    }

    fn u64(&mut self, within: &'static str) -> Result<u64, GgufError> {
        self.bytes(within).map(u64::from_le_bytes)
    }

    fn text(&mut self, what: &'static str, limit: u64) -> Result<String, GgufError> {
        let length = bounded(what, self.u64(what)?, limit)?;
        let mut bytes = vec![0; usize::try_from(length).expect("bounded just now")];
        self.fill(&mut bytes, what)?;
        String::from_utf8(bytes).ok().filter(|text| !text.contains('\0')).ok_or(GgufError::Text(what))
    }

    fn value(&mut self, kind: u32, key: &str) -> Result<Value, GgufError> {
        const WHERE: &str = "a metadata value";
        Ok(match kind {
            0 => Value::Unsigned(self.bytes::<1>(WHERE)?[0].into()),
            1 => Value::Signed(i8::from_le_bytes(self.bytes(WHERE)?).into()),
            2 => Value::Unsigned(u16::from_le_bytes(self.bytes(WHERE)?).into()),
            3 => Value::Signed(i16::from_le_bytes(self.bytes(WHERE)?).into()),
            4 => Value::Unsigned(self.u32(WHERE)?.into()),
            5 => Value::Signed(i32::from_le_bytes(self.bytes(WHERE)?).into()),
            6 => Value::Float(f32::from_le_bytes(self.bytes(WHERE)?).into()),
            7 => match self.bytes::<1>(WHERE)? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                _ => return Err(GgufError::Kind(key.to_owned())),
            },
            TEXT => Value::Text(self.text(WHERE, MAX_TEXT)?),
            ARRAY => self.array(key)?,
            10 => Value::Unsigned(self.u64(WHERE)?),
            11 => Value::Signed(i64::from_le_bytes(self.bytes(WHERE)?)),
            12 => Value::Float(f64::from_le_bytes(self.bytes(WHERE)?)),
            _ => return Err(GgufError::Kind(key.to_owned())),
        })
    }

    /// Reads an array and keeps what it is; arrays of arrays do not occur in models.
    fn array(&mut self, key: &str) -> Result<Value, GgufError> {
        const WHERE: &str = "an array";
        let kind = self.u32(WHERE)?;
        let length = bounded("values of an array", self.u64(WHERE)?, MAX_ARRAY)?;
        let width = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            TEXT => {
                for _ in 0..length {
                    let length = bounded("bytes of a text", self.u64(WHERE)?, MAX_TEXT)?;
                    self.skip(length, WHERE)?;
                }
                0
            }
            _ => return Err(GgufError::Kind(key.to_owned())),
        };
        self.skip(length * width, WHERE)?;
        Ok(Value::Array { kind, length })
    }

    fn skip(&mut self, mut length: u64, within: &'static str) -> Result<(), GgufError> {
        let mut scratch = [0; 8192];
        while length > 0 {
            let piece = length.min(scratch.len() as u64);
            self.fill(&mut scratch[..usize::try_from(piece).expect("at most 8192")], within)?;
            length -= piece;
        }
        Ok(())
    }

    fn tensor(&mut self) -> Result<Tensor, GgufError> {
        const WHERE: &str = "the list of tensors";
        let name = self.text("a tensor's name", MAX_NAME)?;
        let failed = |reason| GgufError::Tensor { tensor: name.clone(), reason };
        let dimensions = self.u32(WHERE)?;
        if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
            return Err(failed("it has no dimension, or more than four"));
        }
        let (mut shape, mut values) = (Vec::new(), 1_u64);
        for _ in 0..dimensions {
            let dimension = self.u64(WHERE)?;
            values = values
                .checked_mul(dimension)
                .filter(|values| (1..=MAX_VALUES).contains(values))
                .ok_or_else(|| failed("it has no values, or too many"))?;
            shape.push(dimension);
        }
        let kind = self.u32(WHERE)?;
        let (count, bytes) = block(kind).ok_or_else(|| failed("its kind is not known"))?;
        if !shape[0].is_multiple_of(count) {
            return Err(failed("its rows are no whole blocks"));
        }
        let offset = self.u64(WHERE)?;
        Ok(Tensor { size: values / count * bytes, name, shape, kind, offset })
    }
}
