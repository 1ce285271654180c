//! Several LoRA adapters as one, exactly: their ranks are put side by side.
//!
//! An adapter adds (alpha / rank) · B · A to a matrix. The sum of several such products is the product of all B beside each other with
//! all A above each other, once each B is multiplied by its own factor.

use std::collections::BTreeMap;

use super::{Gguf, GgufError, Metadata, Tensor, Value, write};

const F32: u32 = 0;
const F16: u32 = 1;

/// A and B, multiplied by its factor; input, rank and output.
type Halves = (Vec<f32>, Vec<f32>, [usize; 3]);

/// One adapter that does what all do together. `files` are headers with the files' whole bytes.
///
/// # Errors
/// [`GgufError`] if one is no adapter, is for another architecture than the first, or has values of another kind than F32 and F16.
pub fn combine(files: &[(Gguf, Vec<u8>)]) -> Result<Vec<u8>, GgufError> {
    let architecture = files.first().map(|(header, _)| header.architecture()).unwrap_or_default();
    // For each matrix, by its name: the halves of every adapter that has it, with its factor.
    let mut parts: BTreeMap<&str, Vec<Halves>> = BTreeMap::new();
    for (header, bytes) in files {
        header.check_adapter()?;
        if header.architecture() != architecture {
            return Err(GgufError::Role("an adapter for another architecture"));
        }
        let alpha = match header.metadata.get("adapter.lora.alpha") {
            Some(Value::Float(alpha)) => *alpha,
            _ => 0.0,
        };
        for first in header.tensors.iter() {
            let Some(base) = first.name.strip_suffix(".lora_a") else { continue };
            let second = format!("{base}.lora_b");
            let second = header.tensors.iter().find(|tensor| tensor.name == second);
            let second = second.ok_or_else(|| failed(first, "its other half is missing"))?;
            let size = |tensor: &Tensor, index: usize| usize::try_from(tensor.shape[index]).unwrap_or(usize::MAX);
            let [input, rank, output] = [size(first, 0), size(first, 1), size(second, 1)];
            #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
            let factor = if alpha == 0.0 { 1.0 } else { (alpha / rank as f64) as f32 };
            let mut b = values(header, bytes, second)?;
            b.iter_mut().for_each(|value| *value *= factor);
            parts.entry(base).or_default().push((values(header, bytes, first)?, b, [input, rank, output]));
        }
    }
    let ranks: std::collections::BTreeSet<usize> =
        parts.values().map(|parts| parts.iter().map(|(_, _, [_, rank, _])| rank).sum()).collect();
    // One alpha serves all matrices, and is divided by each one's rank: so all get the greatest, filled up with zeros.
    let rank = ranks.last().copied().unwrap_or(0);
    let mut tensors = Vec::new();
    for (base, parts) in &parts {
        let [input, _, output] = parts[0].2;
        if parts.iter().any(|(_, _, [other, _, another])| (*other, *another) != (input, output)) {
            return Err(GgufError::Tensor { tensor: (*base).to_owned(), reason: "its adapters have other shapes" });
        }
        let mut a: Vec<f32> = parts.iter().flat_map(|(a, _, _)| a.iter().copied()).collect();
        a.resize(rank * input, 0.0);
        let mut b = Vec::with_capacity(rank * output);
        for row in 0..output {
            let begin = b.len();
            for (_, values, [_, rank, _]) in parts {
                b.extend_from_slice(&values[row * rank..(row + 1) * rank]);
            }
            b.resize(begin + rank, 0.0);
        }
        tensors.push((format!("{base}.lora_a"), vec![input as u64, rank as u64], a));
        tensors.push((format!("{base}.lora_b"), vec![rank as u64, output as u64], b));
    }
    #[allow(clippy::cast_precision_loss)]
    let metadata = [
        ("general.architecture", Metadata::Text(architecture.to_owned())),
        ("general.type", Metadata::Text("adapter".to_owned())),
        ("adapter.type", Metadata::Text("lora".to_owned())),
        ("adapter.lora.alpha", Metadata::F32(rank as f32)),
    ];
    let mut out = Vec::new();
    write(&mut out, &metadata, &tensors).map_err(|error| GgufError::Read(error.kind()))?;
    Ok(out)
}

fn failed(tensor: &Tensor, reason: &'static str) -> GgufError {
    GgufError::Tensor { tensor: tensor.name.clone(), reason }
}

fn values(header: &Gguf, bytes: &[u8], tensor: &Tensor) -> Result<Vec<f32>, GgufError> {
    let begin = header.data + tensor.offset;
    let place = usize::try_from(begin).ok().zip(usize::try_from(begin + tensor.size).ok());
    let bytes = place.and_then(|(begin, end)| bytes.get(begin..end)).ok_or(GgufError::Truncated("its tensors"))?;
    match tensor.kind {
        F32 => Ok(bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect()),
        F16 => Ok(bytes.chunks_exact(2).map(|two| half(u16::from_le_bytes([two[0], two[1]]))).collect()),
        _ => Err(failed(tensor, "several adapters are combined in F32 and F16 alone")),
    }
}

/// A 16-bit floating-point number of IEEE 754.
fn half(bits: u16) -> f32 {
    let (exponent, fraction) = ((bits >> 10) & 0x1f, f32::from(bits & 0x3ff));
    let magnitude = match exponent {
        0 => fraction * 2.0_f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1.0 + fraction / 1024.0) * 2.0_f32.powi(i32::from(exponent) - 15),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::read;

    fn adapter(alpha: f32, rank: usize, seed: f32) -> (Gguf, Vec<u8>) {
        let line = |count: usize, step: f32| (0..count).map(|index| seed + index as f32 * step).collect::<Vec<f32>>();
        let tensors = [
            ("blk.0.attn_q.weight.lora_a".to_owned(), vec![3, rank as u64], line(3 * rank, 0.25)),
            ("blk.0.attn_q.weight.lora_b".to_owned(), vec![rank as u64, 2], line(2 * rank, -0.5)),
        ];
        let metadata = [
            ("general.architecture", Metadata::Text("llama".to_owned())),
            ("general.type", Metadata::Text("adapter".to_owned())),
            ("adapter.type", Metadata::Text("lora".to_owned())),
            ("adapter.lora.alpha", Metadata::F32(alpha)),
        ];
        let mut bytes = Vec::new();
        write(&mut bytes, &metadata, &tensors).unwrap();
        (read(bytes.as_slice(), bytes.len() as u64).unwrap(), bytes)
    }

    /// What an adapter adds to its matrix, row by row.
    fn product((header, bytes): &(Gguf, Vec<u8>)) -> Vec<f32> {
        let [a, b] = [0, 1].map(|index| values(header, bytes, &header.tensors[index]).unwrap());
        let rank = header.tensors[0].shape[1] as usize;
        let Some(Value::Float(alpha)) = header.metadata.get("adapter.lora.alpha") else { panic!("no alpha") };
        let factor = *alpha as f32 / rank as f32;
        let cell = |row: usize, column: usize| (0..rank).map(|k| b[row * rank + k] * a[k * 3 + column]).sum::<f32>();
        (0..6).map(|index| factor * cell(index / 3, index % 3)).collect()
    }

    #[test]
    fn together_they_add_what_each_adds() {
        let (one, other) = (adapter(4.0, 2, 0.5), adapter(6.0, 3, -1.0));
        let bytes = combine(&[one.clone(), other.clone()]).unwrap();
        let both = (read(bytes.as_slice(), bytes.len() as u64).unwrap(), bytes);
        both.0.check_adapter().unwrap();
        assert_eq!(both.0.tensors[0].shape, [3, 5]);
        let sum: Vec<f32> = product(&one).iter().zip(product(&other)).map(|(one, other)| one + other).collect();
        for (found, expected) in product(&both).iter().zip(&sum) {
            assert!((found - expected).abs() < 1e-4, "{found} {expected}");
        }
    }

    #[test]
    fn halves_are_read_as_the_standard_says() {
        let check = |bits: u16, value: f32| assert_eq!(half(bits), value, "{bits:#x}");
        check(0x3c00, 1.0);
        check(0xc000, -2.0);
        check(0x3555, 0.333_251_95);
        check(0x0001, 5.960_464_5e-8);
        check(0x7bff, 65504.0);
        check(0xfc00, f32::NEG_INFINITY);
        assert!(half(0x7e00).is_nan());
    }
}
