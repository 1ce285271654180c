//! Writing GGUF version 3: for models that are converted, and for adapters.

use std::io::{self, Write};

/// A metadata value to write.
#[derive(Debug, Clone, PartialEq)]
pub enum Metadata {
    /// A whole number.
    U32(u32),
    /// A floating-point number.
    F32(f32),
    /// True or false.
    Bool(bool),
    /// A text.
    Text(String),
    /// Texts.
    Texts(Vec<String>),
    /// Whole numbers with a sign.
    I32s(Vec<i32>),
}

const ALIGNMENT: usize = 32;

/// Writes metadata and tensors of 32-bit floating-point numbers. Shapes have the fastest dimension first.
///
/// # Errors
/// What writing to `to` gives; [`io::ErrorKind::InvalidInput`] where a shape is not that of its values.
pub fn write(
    mut to: impl Write,
    metadata: &[(&str, Metadata)],
    tensors: &[(String, Vec<u64>, Vec<f32>)],
) -> io::Result<()> {
    let mut header = Vec::new();
    header.extend(b"GGUF");
    header.extend(3_u32.to_le_bytes());
    header.extend((tensors.len() as u64).to_le_bytes());
    header.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        text(&mut header, key);
        entry(&mut header, value);
    }
    let mut offset = 0_u64;
    for (name, shape, values) in tensors {
        if shape.iter().product::<u64>() != values.len() as u64 || shape.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a tensor's shape is not that of its values"));
        }
        text(&mut header, name);
        header.extend(u32::try_from(shape.len()).unwrap_or(u32::MAX).to_le_bytes());
        shape.iter().for_each(|dimension| header.extend(dimension.to_le_bytes()));
        header.extend(0_u32.to_le_bytes());
        header.extend(offset.to_le_bytes());
        offset += (values.len() * 4).next_multiple_of(ALIGNMENT) as u64;
    }
    header.resize(header.len().next_multiple_of(ALIGNMENT), 0);
    to.write_all(&header)?;
    for (_, _, values) in tensors {
        let mut bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        to.write_all(&bytes)?;
    }
    to.flush()
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn entry(out: &mut Vec<u8>, value: &Metadata) {
    let kind = |out: &mut Vec<u8>, kind: u32| out.extend(kind.to_le_bytes());
    match value {
        Metadata::U32(number) => {
            kind(out, 4);
            out.extend(number.to_le_bytes());
        }
        Metadata::F32(number) => {
            kind(out, 6);
            out.extend(number.to_le_bytes());
        }
        Metadata::Bool(is) => {
            kind(out, 7);
            out.push(u8::from(*is));
        }
        Metadata::Text(value) => {
            kind(out, 8);
            text(out, value);
        }
        Metadata::Texts(values) => {
            kind(out, 9);
            kind(out, 8);
            out.extend((values.len() as u64).to_le_bytes());
            values.iter().for_each(|value| text(out, value));
        }
        Metadata::I32s(values) => {
            kind(out, 9);
            kind(out, 5);
            out.extend((values.len() as u64).to_le_bytes());
            values.iter().for_each(|value| out.extend(value.to_le_bytes()));
        }
    }
}
