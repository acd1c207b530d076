//! Rows in and out: cells as arrays, one a column, and back.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;

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
    let distinct: BTreeSet<&[Value]> = keys.iter().map(Vec::as_slice).collect();
    let distinct: Vec<&[Value]> = distinct.into_iter().collect();
    let Some(width) = distinct.first().map(|key| key.len()) else { return Ok(Vec::new()) };
    if width == 0 {
        return Err(Error::Stop(format!("rows of {} are wanted by keys without a cell", merge::name(table))));
    }
    let mut arguments = Arguments::default();
    add_columns(&mut arguments, &table.columns[..width], &distinct)?;
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
    let rows = open.rows(&doing, &[table], sql, arguments).await?;
    rows.iter().map(|row| read_row(table, row)).collect()
}

fn read_row(table: &'static Table, row: &PgRow) -> Result<Row, Error> {
    let read = |(place, column): (usize, &Column)| {
        let value = match column.kind {
            Type::Text => cell::<Option<_>>(row, place)?.map(Value::Text),
            Type::Json => cell::<Option<_>>(row, place)?.map(Value::Json),
            Type::Int => cell::<Option<_>>(row, place)?.map(Value::Int),
            Type::Bytes => cell::<Option<_>>(row, place)?.map(Value::Bytes),
            Type::Time => cell::<Option<DateTime<Utc>>>(row, place)?.map(|at| Value::Time(at.timestamp_micros())),
        };
        Ok(value.unwrap_or(Value::Null))
    };
    table.columns.iter().enumerate().map(read).collect()
}

/// Adds one array a column. The cells were checked against the columns' types before.
pub(super) fn add_columns(arguments: &mut Arguments, columns: &[Column], rows: &[&[Value]]) -> Result<(), Error> {
    for (place, column) in columns.iter().enumerate() {
        let cells = rows.iter().map(|row| &row[place]);
        match column.kind {
            Type::Text | Type::Json => arguments.add(cells.map(text).collect::<Vec<_>>())?,
            Type::Int => arguments.add(cells.map(number).collect::<Vec<_>>())?,
            Type::Bytes => arguments.add(cells.map(bytes).collect::<Vec<_>>())?,
            Type::Time => arguments.add(cells.map(time).collect::<Result<Vec<_>, _>>()?)?,
        }
    }
    Ok(())
}

/// Adds one key cell.
pub(super) fn add_single(arguments: &mut Arguments, value: &Value) -> Result<(), Error> {
    match value {
        Value::Int(number) => arguments.add(*number),
        Value::Time(_) => arguments.add(time(value)?),
        other => arguments.add(text(other)),
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) | Value::Json(text) => Some(text),
        _ => None,
    }
}

fn number(value: &Value) -> Option<i64> {
    if let Value::Int(number) = value { Some(*number) } else { None }
}

fn bytes(value: &Value) -> Option<&[u8]> {
    if let Value::Bytes(bytes) = value { Some(bytes) } else { None }
}

fn time(value: &Value) -> Result<Option<DateTime<Utc>>, Error> {
    let Value::Time(microseconds) = value else { return Ok(None) };
    DateTime::from_timestamp_micros(*microseconds)
        .map(Some)
        .ok_or_else(|| Error::Rejected(format!("{microseconds} microseconds are no time that can be stored")))
}
