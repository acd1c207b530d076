//! Rows in and out: many as one JSON text, and back from typed columns.

use std::{collections::BTreeSet, fmt::Write};

use sqlx::sqlite::SqliteRow;

use super::{
    connection::{Arguments, Open, cell},
    sql::{Statements, Verb},
};
use crate::{
    core::table::{Column, Key, Row, Table, Type, Value, Want},
    store::{Error, merge},
};

/// Reads rows, one statement a want.
pub(super) async fn load(
    open: &mut Open,
    statements: &mut Statements,
    wants: &[(&'static Table, Want)],
) -> Result<Vec<Vec<Row>>, Error> {
    let mut answer = Vec::with_capacity(wants.len());
    for (table, want) in wants {
        merge::check_want(table, want)?;
        answer.push(match want {
            Want::Keys(keys) => by_keys(open, statements, table, keys).await?,
            Want::Scan { prefix, after, limit } => {
                scan(open, statements, table, prefix, after.as_ref(), *limit).await?
            }
        });
    }
    Ok(answer)
}

async fn by_keys(
    open: &mut Open,
    statements: &mut Statements,
    table: &'static Table,
    keys: &[Key],
) -> Result<Vec<Row>, Error> {
    // A key asked for twice must not give its row twice.
    let distinct: BTreeSet<&Key> = keys.iter().collect();
    let Some(width) = distinct.first().map(|key| key.len()) else { return Ok(Vec::new()) };
    if width == 0 {
        return Err(Error::Stop(format!("rows of {} are wanted by keys without a cell", merge::name(table))));
    }
    let mut arguments = Arguments::default();
    arguments.add(as_json(distinct.into_iter().map(|key| (key.as_slice(), None))))?;
    read(open, table, statements.text(table, Verb::Keys(width)), arguments).await
}

async fn scan(
    open: &mut Open,
    statements: &mut Statements,
    table: &'static Table,
    prefix: &Key,
    after: Option<&Key>,
    limit: usize,
) -> Result<Vec<Row>, Error> {
    let width = prefix.len();
    let mut arguments = Arguments::default();
    for cell in prefix {
        add_single(&mut arguments, cell)?;
    }
    let verb = match after {
        // Rows with the prefix all stand before or all behind a key that begins otherwise.
        Some(after) if after[..width] > prefix[..] => return Ok(Vec::new()),
        Some(after) if after[..width] == prefix[..] => {
            if width == table.key {
                return Ok(Vec::new());
            }
            for cell in &after[width..] {
                add_single(&mut arguments, cell)?;
            }
            Verb::ScanAfter(width)
        }
        _ => Verb::Scan(width),
    };
    arguments.add(i64::try_from(limit).unwrap_or(i64::MAX))?;
    read(open, table, statements.text(table, verb), arguments).await
}

async fn read(
    open: &mut Open,
    table: &'static Table,
    sql: sqlx::SqlStr,
    arguments: Arguments,
) -> Result<Vec<Row>, Error> {
    let doing = format!("reading {}", merge::name(table));
    let rows = open.rows(&doing, Some(table), sql, arguments).await?;
    rows.iter().map(|row| read_row(table, row)).collect()
}

fn read_row(table: &'static Table, row: &SqliteRow) -> Result<Row, Error> {
    let read = |(place, column): (usize, &Column)| {
        let value = match column.kind {
            Type::Text => cell::<Option<_>>(row, place)?.map(Value::Text),
            Type::Json => cell::<Option<_>>(row, place)?.map(Value::Json),
            Type::Int => cell::<Option<_>>(row, place)?.map(Value::Int),
            Type::Bytes => cell::<Option<_>>(row, place)?.map(Value::Bytes),
            Type::Time => cell::<Option<_>>(row, place)?.map(Value::Time),
        };
        Ok(value.unwrap_or(Value::Null))
    };
    table.columns.iter().enumerate().map(read).collect()
}

/// Rows, each with an expected version behind its cells if it has one, as an array of arrays.
pub(super) fn as_json<'a>(rows: impl Iterator<Item = (&'a [Value], Option<i64>)>) -> String {
    let row = |(cells, expected): (&[Value], Option<i64>)| {
        serde_json::Value::Array(cells.iter().map(cell_as_json).chain(expected.map(Into::into)).collect())
    };
    serde_json::Value::Array(rows.map(row).collect()).to_string()
}

fn cell_as_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Int(number) | Value::Time(number) => (*number).into(),
        Value::Text(text) | Value::Json(text) => text.as_str().into(),
        Value::Bytes(bytes) => {
            let mut hex = String::with_capacity(bytes.len() * 2);
            for byte in bytes.iter() {
                // Writing to a string cannot fail.
                let _ = write!(hex, "{byte:02x}");
            }
            hex.into()
        }
    }
}

/// Adds one key cell.
pub(super) fn add_single(arguments: &mut Arguments, value: &Value) -> Result<(), Error> {
    match value {
        Value::Int(number) | Value::Time(number) => arguments.add(*number),
        Value::Text(text) | Value::Json(text) => arguments.add(text.clone()),
        Value::Bytes(bytes) => arguments.add(bytes.clone()),
        Value::Null => arguments.add(None::<i64>),
    }
}
