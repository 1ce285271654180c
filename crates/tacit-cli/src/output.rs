//! Standard output is the answer alone; everything else goes to standard error.

use std::io::{ErrorKind, Write as _};

use serde::Serialize;

use crate::error::CommandError;

/// Prints a line of the answer. A reader that has gone away is no failure.
pub fn line(text: impl std::fmt::Display) -> Result<(), CommandError> {
    bytes(format!("{text}\n").as_bytes())
}

/// Prints bytes of the answer as they are.
pub fn bytes(bytes: &[u8]) -> Result<(), CommandError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Prints JSON in one line.
pub fn json(value: &impl Serialize) -> Result<(), CommandError> {
    line(serde_json::to_string(value)?)
}

/// Says something beside the answer.
pub fn note(text: impl std::fmt::Display) {
    eprintln!("{text}");
}

/// A table with columns as wide as their widest cell.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.chars().count())))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["worker".into(), "ready".into()], vec!["gatekeeper".into(), "é".into()]];
        assert_eq!(table(&rows), "worker      ready\ngatekeeper  é\n");
        assert_eq!(table(&[]), "");
    }
}
