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

/// A part of an answer about one thing.
pub enum Part {
    /// One value.
    Value(Json),
    /// One row, by column, if there is one.
    Row(Option<Vec<(&'static str, Json)>>),
    /// Rows of a table.
    Rows(Vec<&'static str>, Vec<Vec<Json>>),
    /// A thing inside of the thing, if there is one.
    Whole(Option<Vec<(&'static str, Self)>>),
}

/// One thing: single values first, then its tables, each under its name; or an object.
pub fn document(output: Output, parts: &[(&str, Part)]) -> io::Result<()> {
    write_out(&match output {
        Output::Text => sections(parts),
        Output::Json => json(&object_of(parts)),
    })
}

/// Parts as one object.
fn object_of(parts: &[(&str, Part)]) -> Json {
    Json::Object(parts.iter().map(|(name, part)| ((*name).to_owned(), part.json())).collect())
}

impl Part {
    fn json(&self) -> Json {
        let fields =
            |row: &[(&str, Json)]| row.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        match self {
            Self::Value(value) => value.clone(),
            Self::Row(row) => row.as_deref().map_or(Json::Null, |row| Json::Object(fields(row))),
            Self::Rows(columns, rows) => rows.iter().map(|row| object(columns, row)).collect(),
            Self::Whole(parts) => parts.as_deref().map_or(Json::Null, object_of),
        }
    }
}

/// Text of parts; those with nothing in them are left out.
fn sections(parts: &[(&str, Part)]) -> String {
    let values: Vec<_> = parts
        .iter()
        .filter_map(|(name, part)| match part {
            Part::Value(value) => Some((*name, value.clone())),
            Part::Row(_) | Part::Rows(..) | Part::Whole(_) => None,
        })
        .collect();
    let mut text = lines(&values);
    for (name, part) in parts {
        let body = match part {
            Part::Row(Some(row)) => lines(row),
            Part::Rows(columns, rows) if !rows.is_empty() => table(columns, rows),
            Part::Whole(Some(parts)) => sections(parts),
            Part::Value(_) | Part::Row(None) | Part::Rows(..) | Part::Whole(None) => continue,
        };
        write!(text, "\n{name}\n").expect("writing to a string cannot fail");
        for line in body.lines() {
            let indent = if line.is_empty() { "" } else { "  " };
            writeln!(text, "{indent}{line}").expect("writing to a string cannot fail");
        }
    }
    text
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
    fn what_is_empty_is_left_out_of_text_and_kept_in_json() {
        let parts = [
            ("held", Part::Rows(vec!["topic"], Vec::new())),
            ("quarantine", Part::Row(None)),
            ("kind", Part::Value(json!("stock"))),
            ("row", Part::Row(Some(vec![("sku", json!("tea"))]))),
            ("parked", Part::Rows(vec!["topic", "place"], vec![vec![json!("stock"), json!(1)]])),
        ];
        assert_eq!(sections(&parts), "kind  stock\n\nrow\n  sku  tea\n\nparked\n  TOPIC  PLACE\n  stock  1\n");
        assert_eq!(parts[0].1.json(), json!([]));
        assert_eq!(parts[1].1.json(), Json::Null);
        assert_eq!(parts[4].1.json(), json!([{"topic": "stock", "place": 1}]));
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
