//! Tables as data: what a kind, or the runtime itself, keeps, and how one batch changes it.
//!
//! The stores derive their SQL from these declarations alone, so a table is described once.

use std::sync::Arc;

/// Bytes that are not copied: a record's value is its dead letter's too, and that of the message that tells of it.
pub type Bytes = Arc<[u8]>;

/// Type of a column, as the stores must hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// UTF-8 without NUL. Compared bytewise in every store (`collate "C"`).
    Text,
    /// Signed, 64 bits.
    Int,
    /// Raw bytes.
    Bytes,
    /// Microseconds since the epoch, UTC: `timestamptz` in PostgreSQL, an integer in SQLite.
    Time,
    /// A JSON document as text: `jsonb` in PostgreSQL, text in SQLite.
    Json,
}

/// A cell. `Time` holds microseconds since the epoch; `Json` a serialized document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// SQL null.
    Null,
    /// See [`Type::Int`].
    Int(i64),
    /// See [`Type::Time`].
    Time(i64),
    /// See [`Type::Text`].
    Text(String),
    /// See [`Type::Json`].
    Json(String),
    /// See [`Type::Bytes`].
    Bytes(Bytes),
}

impl Value {
    /// A text cell.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// A column of a [`Table`].
#[derive(Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name in SQL.
    pub name: &'static str,
    /// Its type.
    pub kind: Type,
}

/// A declared table. The first `key` columns are its primary key, of types `Text`, `Int` and `Time` only.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    /// `seriatim` for the runtime, `shop` for the shipped worker.
    pub schema: &'static str,
    /// Its name inside the schema; in SQLite `<schema>_<name>`.
    pub name: &'static str,
    /// How many leading columns are the primary key.
    pub key: usize,
    /// All columns, the key first.
    pub columns: &'static [Column],
    /// Index of the `version` column, where updates compare it.
    pub version: Option<usize>,
}

/// The leading key cells, all of them or a prefix.
pub type Key = Vec<Value>;
/// One cell for each column of the table, in order.
pub type Row = Vec<Value>;

/// What happens to one row in a batch. At most one change a row and batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The row is new. That it exists already is a bug, or a broken fence.
    Insert(Row),
    /// The row exists, with the `version` given if its table has one; every other column is set.
    Update {
        /// The whole row as it shall be.
        row: Arc<Row>,
        /// The version that the database must hold now.
        expected_version: Option<i64>,
    },
    /// The row goes.
    Delete(Key),
}

/// Rows wanted from one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// The rows with these keys; absent ones are left out of the answer. All keys are of one length; shorter
    /// than the table's they are prefixes, and every row that begins with one is meant.
    Keys(Vec<Key>),
    /// Rows whose key begins with `prefix` and is greater than `after` (a whole key, if given), in key order.
    Scan {
        /// Leading key cells.
        prefix: Key,
        /// Where the previous page ended.
        after: Option<Key>,
        /// At most so many rows.
        limit: usize,
    },
}
