//! Answers on standard output: a table for people, JSON for programs.
//!
//! What comes from records was written by strangers: in text, control characters are escaped, so that nobody's event can
//! move a terminal's cursor. JSON escapes them by itself.

use std::{
    fmt::Write as _,
    io::{self, ErrorKind, Write},
};

use clap::ValueEnum;
use serde_json::{Map, Value as Json};

/// How an answer looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// A list: a table with a header, or an array of objects.
pub fn rows(output: Output, columns: &[&str], rows: &[Vec<Json>]) -> io::Result<()> {
    write_out(&match output {
        Output::Text => table(columns, rows),
        Output::Json => json(&Json::Array(rows.iter().map(|row| object(columns, row)).collect())),
    })
}

/// One thing: a line a field, or an object.
#[expect(dead_code, reason = "printed by the commands that show one entity, saga or dead letter")]
pub fn record(output: Output, fields: &[(&str, Json)]) -> io::Result<()> {
    write_out(&match output {
        Output::Text => lines(fields),
        Output::Json => {
            json(&Json::Object(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()))
        }
    })
}

/// A reader that has seen enough (`seriatim dlq list | head`) is no failure.
fn write_out(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

fn json(value: &Json) -> String {
    format!("{value:#}\n")
}

fn object(columns: &[&str], row: &[Json]) -> Json {
    let fields = columns.iter().zip(row).map(|(name, value)| ((*name).to_owned(), value.clone()));
    Json::Object(fields.collect::<Map<_, _>>())
}

/// Columns as wide as their widest cell; the last is not filled up.
fn table(columns: &[&str], rows: &[Vec<Json>]) -> String {
    let header = columns.iter().map(|name| name.to_uppercase()).collect();
    let cells: Vec<Vec<String>> =
        std::iter::once(header).chain(rows.iter().map(|row| row.iter().map(cell).collect())).collect();
    let width = |column: usize| {
        cells.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for row in &cells {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let gap = width - cell.chars().count() + 2;
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', gap));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn lines(fields: &[(&str, Json)]) -> String {
    let width = fields.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in fields {
        let line = format!("{name:width$}  {}", cell(value));
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A value in text: nothing for nothing, and no control character from a stranger.
fn cell(value: &Json) -> String {
    let plain = match value {
        Json::Null => String::new(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut safe = String::with_capacity(plain.len());
    for c in plain.chars() {
        // Beside the control characters, those that turn the direction of writing.
        if c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            write!(safe, "{}", c.escape_default()).expect("writing to a string cannot fail");
        } else {
            safe.push(c);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_lines_up() {
        let rows = [vec![json!("stock"), json!(7)], vec![json!("purchases"), Json::Null]];
        assert_eq!(table(&["topic", "count"], &rows), "TOPIC      COUNT\nstock      7\npurchases\n");
    }

    #[test]
    fn numbers_stay_numbers_in_json() {
        assert_eq!(object(&["topic", "count"], &[json!("stock"), json!(7)]), json!({"topic": "stock", "count": 7}));
    }

    #[test]
    fn a_strangers_text_moves_no_cursor() {
        let text = lines(&[("error", json!("a\u{1b}[2Jb\nc\u{202e}d"))]);
        assert_eq!(text, "error  a\\u{1b}[2Jb\\nc\\u{202e}d\n");
    }
}
