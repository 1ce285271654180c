//! Stack traces in the author's own files and lines: source maps (ECMA-426), read without trust.

use serde::Deserialize;

use crate::error::RuntimeError;

/// Name under which the engine knows a function's module.
pub(crate) const MODULE: &str = "main.js";

/// Bytes of a source map.
const SIZE: usize = 16 << 20;
/// Frames of a trace that are kept.
const FRAMES: usize = 32;

/// Where each piece of the module comes from; sorted by place in the module.
#[derive(Debug, Default)]
pub(crate) struct SourceMap {
    sources: Vec<String>,
    segments: Vec<Segment>,
}

/// A place in the module and the place in a source that it comes from; all counted from zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    line: u32,
    column: u32,
    source: u32,
    source_line: u32,
    source_column: u32,
}

#[derive(Deserialize)]
struct Json {
    version: u32,
    sources: Vec<Option<String>>,
    #[serde(rename = "sourceRoot", default)]
    root: Option<String>,
    mappings: String,
}

impl SourceMap {
    /// Reads a source map of version 3 without sections.
    pub fn parse(text: &str) -> Result<Self, RuntimeError> {
        if text.len() > SIZE {
            return Err(RuntimeError::SourceMap("it is larger than 16 MiB"));
        }
        let json: Json =
            serde_json::from_str(text).map_err(|_| RuntimeError::SourceMap("it is not the JSON of a source map"))?;
        if json.version != 3 {
            return Err(RuntimeError::SourceMap("its version is not 3"));
        }
        let root = json.root.unwrap_or_default();
        let sources = json
            .sources
            .into_iter()
            .map(|source| format!("{root}{}", source.unwrap_or_else(|| "unknown".into())))
            .collect();
        let map = Self { sources, segments: decode(&json.mappings)? };
        if map.segments.iter().any(|segment| segment.source as usize >= map.sources.len()) {
            return Err(RuntimeError::SourceMap("it names a source that it does not list"));
        }
        Ok(map)
    }

    /// The source, line and column (counted from one) of a place in the module (counted from one).
    fn origin(&self, line: u32, column: u32) -> Option<(&str, u32, u32)> {
        let place = (line.checked_sub(1)?, column.checked_sub(1)?);
        let after = self.segments.partition_point(|segment| (segment.line, segment.column) <= place);
        let segment = self.segments[..after].last().filter(|segment| segment.line == place.0)?;
        Some((&self.sources[segment.source as usize], segment.source_line + 1, segment.source_column + 1))
    }

    /// Puts a trace of the engine into the author's files. Frames of the engine's own are left out.
    pub fn translate(&self, stack: &str) -> String {
        let mut lines: Vec<String> = Vec::new();
        for line in stack.lines().take(1000) {
            let Some(frame) = Frame::parse(line) else { continue };
            let place = match self.origin(frame.line, frame.column) {
                Some((source, line, column)) => format!("{source}:{line}:{column}"),
                None => format!("{MODULE}:{}:{}", frame.line, frame.column),
            };
            lines.push(match frame.function {
                "" | "<anonymous>" | "<eval>" => format!("    at {place}"),
                function => format!("    at {function} ({place})"),
            });
            if lines.len() == FRAMES {
                break;
            }
        }
        lines.join("\n")
    }
}

/// A frame in the function's module.
struct Frame<'a> {
    function: &'a str,
    line: u32,
    column: u32,
}

impl<'a> Frame<'a> {
    /// Reads `    at name (main.js:1:2)` or `    at main.js:1:2`; none for frames of other files.
    fn parse(line: &'a str) -> Option<Self> {
        let text = line.trim().strip_prefix("at ")?;
        let (function, place) = match text.strip_suffix(')').and_then(|text| text.rsplit_once(" (")) {
            Some((function, place)) => (function, place),
            None => ("", text),
        };
        let place = place.strip_prefix(MODULE)?.strip_prefix(':')?;
        let (line, column) = place.split_once(':').unwrap_or((place, "1"));
        Some(Self { function, line: line.parse().ok()?, column: column.parse().ok()? })
    }
}

/// Decodes the base64 VLQ of `mappings`.
fn decode(mappings: &str) -> Result<Vec<Segment>, RuntimeError> {
    const BROKEN: RuntimeError = RuntimeError::SourceMap("its mappings are broken");
    let mut segments = Vec::new();
    // source, source line, source column: deltas run through the whole map.
    let mut state = [0i64; 3];
    for (line, group) in mappings.split(';').enumerate() {
        let line = u32::try_from(line).map_err(|_| BROKEN)?;
        let mut column = 0i64;
        for text in group.split(',').filter(|text| !text.is_empty()) {
            let mut fields = [0i64; 5];
            let mut count = 0;
            let (mut value, mut shift) = (0i64, 0u32);
            for byte in text.bytes() {
                let digit = match byte {
                    b'A'..=b'Z' => byte - b'A',
                    b'a'..=b'z' => byte - b'a' + 26,
                    b'0'..=b'9' => byte - b'0' + 52,
                    b'+' => 62,
                    b'/' => 63,
                    _ => return Err(BROKEN),
                };
                if shift > 30 || count == fields.len() {
                    return Err(BROKEN);
                }
                value |= i64::from(digit & 31) << shift;
                shift += 5;
                if digit & 32 == 0 {
                    fields[count] = if value & 1 == 1 { -(value >> 1) } else { value >> 1 };
                    count += 1;
                    (value, shift) = (0, 0);
                }
            }
            if shift != 0 || !matches!(count, 1 | 4 | 5) {
                return Err(BROKEN);
            }
            column += fields[0];
            let column = u32::try_from(column).map_err(|_| BROKEN)?;
            if count == 1 {
                continue;
            }
            for (sum, delta) in state.iter_mut().zip(&fields[1..4]) {
                *sum += delta;
            }
            let [source, source_line, source_column] = state.map(u32::try_from);
            segments.push(Segment {
                line,
                column,
                source: source.map_err(|_| BROKEN)?,
                source_line: source_line.map_err(|_| BROKEN)?,
                source_column: source_column.map_err(|_| BROKEN)?,
            });
        }
    }
    segments.sort_by_key(|segment| (segment.line, segment.column));
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_translated_and_foreign_ones_left_out() {
        // Module line 1 column 1 is line 3 column 5 of the first source; line 2 column 11 is line 7 column 1 of the second.
        let map = SourceMap::parse(r#"{"version":3,"sources":["a.ts","b.ts"],"mappings":"AAEI;UCIJ"}"#).unwrap();
        assert_eq!(map.origin(1, 9), Some(("a.ts", 3, 5)));
        assert_eq!(map.origin(2, 1), None);
        assert_eq!(map.origin(2, 11), Some(("b.ts", 7, 1)));
        let stack =
            "    at inner (main.js:1:4)\n    at fetch (tacit:fetch:10:1)\n    at call (native)\n    at main.js:2:20\n";
        assert_eq!(map.translate(stack), "    at inner (a.ts:3:5)\n    at b.ts:7:1");
        assert_eq!(SourceMap::default().translate(stack), "    at inner (main.js:1:4)\n    at main.js:2:20");
    }

    #[test]
    fn broken_maps_are_refused() {
        let check = |text: &str, reason: &str| match SourceMap::parse(text) {
            Err(RuntimeError::SourceMap(said)) => assert!(said.contains(reason), "{text}: {said}"),
            other => panic!("{text}: {other:?}"),
        };
        check("{}", "JSON");
        check(r#"{"version":2,"sources":[],"mappings":""}"#, "version");
        for mappings in ["A!", "AA", "gggggggggggA", "D", "AAAAAA", "ADAA", "g"] {
            check(&format!(r#"{{"version":3,"sources":["a"],"mappings":"{mappings}"}}"#), "broken");
        }
        check(r#"{"version":3,"sources":["a"],"mappings":"ACAA"}"#, "does not list");
    }
}
