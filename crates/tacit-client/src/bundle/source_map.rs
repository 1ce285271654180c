//! Puts the source maps of several modules behind one another (ECMA-426, version 3).

use serde::Deserialize;

/// The map of a bundle in the making.
#[derive(Default)]
pub(super) struct MapBuilder {
    sources: Vec<String>,
    segments: Vec<Segment>,
}

/// A place in the bundle and the place in a source that it comes from, all counted from zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    line: usize,
    column: i64,
    source: i64,
    source_line: i64,
    source_column: i64,
}

#[derive(Deserialize)]
struct Map {
    sources: Vec<Option<String>>,
    mappings: String,
}

impl MapBuilder {
    /// Adds a module's map; the module begins at `line` of the bundle. A module without a usable map has none.
    pub(super) fn append(&mut self, line: usize, map: &str) {
        let Ok(map) = serde_json::from_str::<Map>(map) else { return };
        let first = self.sources.len() as i64;
        let count = map.sources.len() as i64;
        let Some(segments) = decode(&map.mappings) else { return };
        self.sources.extend(map.sources.into_iter().map(|source| source.unwrap_or_else(|| "unknown".into())));
        self.segments.extend(segments.into_iter().filter(|segment| segment.source < count).map(|segment| Segment {
            line: segment.line + line,
            source: segment.source + first,
            ..segment
        }));
    }

    /// The map as JSON.
    pub(super) fn finish(self) -> String {
        serde_json::json!({"version": 3, "sources": self.sources, "names": [], "mappings": encode(&self.segments)})
            .to_string()
    }
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn decode(mappings: &str) -> Option<Vec<Segment>> {
    let mut segments = Vec::new();
    let (mut source, mut source_line, mut source_column) = (0i64, 0i64, 0i64);
    for (line, text) in mappings.split(';').enumerate() {
        let mut column = 0i64;
        for segment in text.split(',').filter(|segment| !segment.is_empty()) {
            let values = decode_values(segment)?;
            column = column.checked_add(*values.first()?)?;
            if values.len() >= 4 {
                source = source.checked_add(values[1])?;
                source_line = source_line.checked_add(values[2])?;
                source_column = source_column.checked_add(values[3])?;
                if source < 0 || source_line < 0 || source_column < 0 || column < 0 {
                    return None;
                }
                segments.push(Segment { line, column, source, source_line, source_column });
            }
        }
    }
    Some(segments)
}

fn decode_values(segment: &str) -> Option<Vec<i64>> {
    let (mut values, mut value, mut shift) = (Vec::new(), 0i64, 0u32);
    for byte in segment.bytes() {
        let digit = DIGITS.iter().position(|known| *known == byte)? as i64;
        if shift > 35 {
            return None;
        }
        value |= (digit & 31) << shift;
        if digit & 32 == 0 {
            values.push(if value & 1 == 1 { -(value >> 1) } else { value >> 1 });
            (value, shift) = (0, 0);
        } else {
            shift += 5;
        }
    }
    (shift == 0).then_some(values)
}

fn encode(segments: &[Segment]) -> String {
    let mut out = String::new();
    let mut before = Segment { line: 0, column: 0, source: 0, source_line: 0, source_column: 0 };
    for (index, segment) in segments.iter().enumerate() {
        if segment.line > before.line {
            out.extend(std::iter::repeat_n(';', segment.line - before.line));
            before.column = 0;
        } else if index > 0 {
            out.push(',');
        }
        for value in [
            segment.column - before.column,
            segment.source - before.source,
            segment.source_line - before.source_line,
            segment.source_column - before.source_column,
        ] {
            encode_value(value, &mut out);
        }
        before = *segment;
    }
    out
}

fn encode_value(value: i64, out: &mut String) {
    let mut rest = if value < 0 { (-value << 1) | 1 } else { value << 1 };
    loop {
        let digit = (rest & 31) as usize;
        rest >>= 5;
        out.push(char::from(DIGITS[if rest > 0 { digit | 32 } else { digit }]));
        if rest == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_maps_follow_one_another() {
        let one = r#"{"version":3,"sources":["a.ts"],"mappings":"AAAA;AACA,IAAI"}"#;
        let mut builder = MapBuilder::default();
        builder.append(1, one);
        builder.append(10, &one.replace("a.ts", "b.ts"));
        let map: Map = serde_json::from_str(&builder.finish()).unwrap();
        assert_eq!(map.sources, [Some("a.ts".to_owned()), Some("b.ts".to_owned())]);
        let segments = decode(&map.mappings).unwrap();
        let places: Vec<_> =
            segments.iter().map(|one| (one.line, one.column, one.source, one.source_line, one.source_column)).collect();
        assert_eq!(
            places,
            [(1, 0, 0, 0, 0), (2, 0, 0, 1, 0), (2, 4, 0, 1, 4), (10, 0, 1, 0, 0), (11, 0, 1, 1, 0), (11, 4, 1, 1, 4)]
        );
    }

    #[test]
    fn hostile_mappings_are_left_out() {
        for bad in ["!", "g", "gggggggggggggggggA", "AADA"] {
            let mut builder = MapBuilder::default();
            builder.append(0, &format!(r#"{{"version":3,"sources":["a"],"mappings":"{bad}"}}"#));
            assert_eq!(builder.segments, [], "{bad}");
        }
    }
}
