//! The writes of several lanes brought together by table, checked before any store sees them.
//!
//! What is wrong here with the shape of a row is a bug of ours and stops the process; what is wrong with
//! its content is refused like a check of the database, so that all stores say the same.

use std::collections::BTreeMap;

use super::Error;
use crate::core::{
    fence::LaneCommit,
    table::{Change, Table, Type, Value, Want},
};

/// The largest cell that is sent to a database. Far above any record a broker takes, far below the sizes at
/// which the wire protocols' lengths could overflow.
pub const CELL_BYTES_MAX: usize = 64 << 20;

/// The largest commit. An array of a column must stay below what one message to a database may hold (1 GiB).
pub const COMMIT_BYTES_MAX: usize = 256 << 20;

/// What is done to one table in one transaction; each list sorted by key, no row twice.
#[derive(Debug)]
pub(crate) struct TableWrites<'a> {
    pub(crate) table: &'static Table,
    pub(crate) inserts: Vec<&'a [Value]>,
    pub(crate) updates: Vec<(&'a [Value], Option<i64>)>,
    pub(crate) deletes: Vec<&'a [Value]>,
}

impl<'a> TableWrites<'a> {
    fn rows(&self) -> impl Iterator<Item = &'a [Value]> {
        let updates = self.updates.iter().map(|(row, _)| *row);
        self.inserts.iter().copied().chain(updates).chain(self.deletes.iter().copied())
    }
}

/// The writes of several lanes.
#[derive(Debug)]
pub(crate) struct Merged<'a> {
    /// One for each table.
    pub(crate) tables: Vec<TableWrites<'a>>,
    /// Bytes of all cells, each with its length before it.
    pub(crate) bytes: usize,
}

/// The lanes in the order in which their rows are locked.
pub(crate) fn in_lock_order(lanes: &[LaneCommit]) -> Result<Vec<&LaneCommit>, Error> {
    let mut sorted: Vec<_> = lanes.iter().collect();
    sorted.sort_by(|a, b| a.lane.cmp(&b.lane));
    match sorted.windows(2).find(|pair| pair[0].lane == pair[1].lane) {
        Some(pair) => Err(Error::Stop(format!("lane {} stands twice in one commit", pair[0].lane))),
        None => Ok(sorted),
    }
}

/// Brings the writes of all lanes together, by table.
pub(crate) fn merge(lanes: &[LaneCommit]) -> Result<Merged<'_>, Error> {
    let mut by_name = BTreeMap::new();
    for (table, changes) in lanes.iter().flat_map(|lane| lane.writes.iter()) {
        let writes = by_name.entry((table.schema, table.name)).or_insert_with(|| TableWrites {
            table,
            inserts: Vec::new(),
            updates: Vec::new(),
            deletes: Vec::new(),
        });
        for change in changes {
            match change {
                Change::Insert(row) => writes.inserts.push(check_row(table, row)?),
                Change::Update { row, expected_version } => {
                    writes.updates.push((check_row(table, row)?, *expected_version));
                }
                Change::Delete(key) if key.len() != table.key => {
                    return Err(Error::Stop(format!("delete from {} without a whole key", name(table))));
                }
                Change::Delete(key) => writes.deletes.push(check_key(table, key)?),
            }
        }
    }
    let tables = by_name.into_values().map(sorted).collect::<Result<Vec<_>, _>>()?;
    let cells = tables.iter().flat_map(TableWrites::rows).flatten();
    let bytes = cells.map(|cell| size_of::<i32>() + size(cell)).sum();
    match bytes > COMMIT_BYTES_MAX {
        true => Err(Error::Rejected(format!("a commit of {bytes} bytes is larger than any may be"))),
        false => Ok(Merged { tables, bytes }),
    }
}

/// Checks what is asked of a table; a store then has rows of one shape to bind.
pub(crate) fn check_want(table: &'static Table, want: &Want) -> Result<(), Error> {
    match want {
        Want::Keys(keys) => {
            let length = keys.first().map_or(0, Vec::len);
            if keys.iter().any(|key| key.len() != length) {
                return Err(Error::Stop(format!("keys of different lengths are wanted from {}", name(table))));
            }
            keys.iter().try_for_each(|key| check_key(table, key).map(drop))
        }
        Want::Scan { prefix, after, .. } => {
            check_key(table, prefix)?;
            match after {
                Some(after) if after.len() != table.key => {
                    Err(Error::Stop(format!("a scan of {} goes on after a key that is not whole", name(table))))
                }
                Some(after) => check_key(table, after).map(drop),
                None => Ok(()),
            }
        }
    }
}

/// Checks leading key cells.
pub(crate) fn check_key<'a>(table: &'static Table, key: &'a [Value]) -> Result<&'a [Value], Error> {
    has_no_hole(table, key)?;
    check_cells(table, key)
}

fn has_no_hole(table: &'static Table, key: &[Value]) -> Result<(), Error> {
    if key.len() > table.key || key.contains(&Value::Null) {
        return Err(Error::Stop(format!("a key of {} with {} cells or with a null", name(table), key.len())));
    }
    Ok(())
}

/// Checks a whole row.
pub(crate) fn check_row<'a>(table: &'static Table, row: &'a [Value]) -> Result<&'a [Value], Error> {
    if row.len() != table.columns.len() {
        return Err(Error::Stop(format!("a row of {} with {} cells", name(table), row.len())));
    }
    has_no_hole(table, &row[..table.key])?;
    check_cells(table, row)
}

/// The table's name for people.
pub(crate) fn name(table: &Table) -> String {
    format!("{}.{}", table.schema, table.name)
}

fn check_cells<'a>(table: &'static Table, cells: &'a [Value]) -> Result<&'a [Value], Error> {
    for (cell, column) in cells.iter().zip(table.columns) {
        let refused = |why: &str| Err(Error::Rejected(format!("{}.{} {why}", name(table), column.name)));
        match (cell, column.kind) {
            (Value::Text(text), Type::Text) if text.contains('\0') => return refused("holds a NUL"),
            (Value::Json(text), Type::Json) if escapes_nul(text) => return refused("holds a NUL"),
            (Value::Json(text), Type::Json) if serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() => {
                return refused("holds no JSON document");
            }
            (Value::Null, _)
            | (Value::Int(_), Type::Int)
            | (Value::Time(_), Type::Time)
            | (Value::Text(_), Type::Text)
            | (Value::Json(_), Type::Json)
            | (Value::Bytes(_), Type::Bytes) => {}
            _ => return Err(Error::Stop(format!("{}.{} is of another type", name(table), column.name))),
        }
        if size(cell) > CELL_BYTES_MAX {
            return refused("is larger than any cell may be");
        }
    }
    Ok(cells)
}

fn size(cell: &Value) -> usize {
    match cell {
        Value::Null => 0,
        Value::Int(_) | Value::Time(_) => size_of::<i64>(),
        Value::Text(text) | Value::Json(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
    }
}

/// A NUL written as an escape: valid JSON, but no text that `jsonb` can hold.
fn escapes_nul(document: &str) -> bool {
    document.match_indices("\\u0000").any(|(at, _)| {
        let backslashes = document[..at].bytes().rev().take_while(|byte| *byte == b'\\').count();
        backslashes % 2 == 0
    })
}

fn sorted(mut writes: TableWrites<'_>) -> Result<TableWrites<'_>, Error> {
    let width = writes.table.key;
    writes.inserts.sort_by(|a, b| a[..width].cmp(&b[..width]));
    writes.updates.sort_by(|a, b| a.0[..width].cmp(&b.0[..width]));
    writes.deletes.sort();
    let mut keys: Vec<_> = writes.rows().map(|row| &row[..width]).collect();
    keys.sort();
    if keys.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Error::Stop(format!("two changes to one row of {}", name(writes.table))));
    }
    Ok(writes)
}
