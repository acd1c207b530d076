//! The last rows of an entity's journal, without reading the rest.
//!
//! The journal's key goes by source and number, and a busy item of stock has millions of rows. Within a source numbers
//! rise, so its last one is found by steps that double and halve, and the rows before it by a window that widens.

use seriatim::core::table::{Key, Row, Value};

use crate::cli::{reader::Reader, shown};

/// Rows that are shown.
const ROWS_MAX: usize = 20;
/// Rows of one window at most; a window that is full would not reach its end.
const WINDOW_ROWS: usize = 500;
/// Sources that are looked at, at most.
const SOURCES_MAX: usize = 1_000;

/// The last rows of an entity, by time.
pub async fn last(reader: &mut Reader, entity: &Key) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for source in reader.distinct(&shown::JOURNAL, entity, SOURCES_MAX).await? {
        let mut prefix = entity.clone();
        prefix.push(Value::Text(source));
        if let Some(number) = last_number(reader, &prefix).await? {
            rows.extend(before(reader, &prefix, number).await?);
        }
    }
    rows.sort_by_key(|row| ["at", "batch", "idx"].map(|name| shown::number(&shown::JOURNAL, row, name)));
    Ok(rows.split_off(rows.len().saturating_sub(ROWS_MAX)))
}

/// The first number of a source that is above `number`.
async fn above(reader: &mut Reader, prefix: &Key, number: i64) -> anyhow::Result<Option<i64>> {
    let row = reader.scan(&shown::JOURNAL, prefix, Some(end_of(prefix, number)), 1).await?.pop();
    Ok(row.and_then(|row| shown::number(&shown::JOURNAL, &row, "number")))
}

async fn last_number(reader: &mut Reader, prefix: &Key) -> anyhow::Result<Option<i64>> {
    let Some(mut last) = above(reader, prefix, i64::MIN).await? else { return Ok(None) };
    let mut step: i64 = 1;
    loop {
        match above(reader, prefix, last.saturating_add(step - 1)).await? {
            Some(number) => {
                last = number;
                step = step.saturating_mul(2);
            }
            None if step == 1 => return Ok(Some(last)),
            None => step /= 2,
        }
    }
}

/// The last rows up to and including `last`.
async fn before(reader: &mut Reader, prefix: &Key, last: i64) -> anyhow::Result<Vec<Row>> {
    let mut width = i64::try_from(ROWS_MAX).unwrap_or(i64::MAX);
    let mut found: Vec<Row> = Vec::new();
    loop {
        let first = last.saturating_sub(width);
        let window = reader.scan(&shown::JOURNAL, prefix, Some(end_of(prefix, first)), WINDOW_ROWS).await?;
        if window.len() == WINDOW_ROWS && !found.is_empty() {
            return Ok(found);
        }
        found = window;
        if found.len() >= ROWS_MAX || first < 0 {
            return Ok(found.split_off(found.len().saturating_sub(ROWS_MAX)));
        }
        width = width.saturating_mul(2);
    }
}

/// Behind all rows of a number.
fn end_of(prefix: &Key, number: i64) -> Key {
    let mut key = prefix.clone();
    key.extend([number, i64::MAX, i64::MAX].map(Value::Int));
    key
}
