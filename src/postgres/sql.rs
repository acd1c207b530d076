//! Derives SQL from declared tables: one text a table and verb, or for several of them in one statement, whatever the
//! number of rows.
//!
//! The only file that vouches for made-up SQL. It is safe because nothing but names from `static` tables
//! goes into it, quoted; every value is an argument. Columns travel as arrays, one a column.

use std::{collections::HashMap, sync::Arc};

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use crate::core::table::{Column, Table, Type};

/// What is done to a table; the number is that of the key cells given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Verb {
    /// Arguments: an array a column.
    Insert,
    /// As [`Verb::Insert`], but a row that is there already stays as it is.
    Offer,
    /// Arguments: an array a column, then the expected versions if the table has one.
    Update,
    /// Arguments: an array a key column.
    Delete,
    /// Arguments: an array for each of so many leading key columns.
    Keys(usize),
    /// Arguments: so many leading key cells, then the limit.
    Scan(usize),
    /// Arguments: so many leading key cells, the other key cells of the last row seen, then the limit.
    ScanAfter(usize),
}

/// Something done to a table, by its name.
type Done = (&'static str, &'static str, Verb);

/// The texts made so far.
#[derive(Debug, Default)]
pub(super) struct Statements {
    single: HashMap<Done, Arc<str>>,
    together: HashMap<Vec<Done>, Arc<str>>,
}

/// What stands before and after the parts of a statement that does several things: common table expressions, and the
/// select that reads them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) head: &'static str,
    /// Arguments of the head.
    pub(super) arguments: usize,
    /// The parts do nothing unless this holds.
    pub(super) condition: &'static str,
    /// The columns that are selected; how many rows each part has hit follows them.
    pub(super) select: &'static str,
    pub(super) from: &'static str,
}

impl Statements {
    /// The text for a verb and a table.
    pub(super) fn text(&mut self, table: &'static Table, verb: Verb) -> SqlStr {
        let text = self.single.entry(done(table, verb)).or_insert_with(|| derive(table, verb, 1, None).into());
        AssertSqlSafe(Arc::clone(text)).into_sql_str()
    }

    /// The text for several things done in one statement. Its arguments are those of the frame's head, then each part's
    /// in turn. The frame is always the same one.
    pub(super) fn together(&mut self, frame: &Frame, parts: &[(&'static Table, Verb)]) -> SqlStr {
        let key = parts.iter().map(|(table, verb)| done(table, *verb)).collect();
        let text = self.together.entry(key).or_insert_with(|| together(frame, parts).into());
        AssertSqlSafe(Arc::clone(text)).into_sql_str()
    }
}

fn done(table: &Table, verb: Verb) -> Done {
    (table.schema, table.name, verb)
}

fn together(frame: &Frame, parts: &[(&'static Table, Verb)]) -> String {
    let (mut head, mut select) = (frame.head.to_owned(), frame.select.to_owned());
    let mut first = frame.arguments + 1;
    for (number, (table, verb)) in parts.iter().enumerate() {
        let part = derive(table, *verb, first, Some(frame.condition));
        head += &format!(", \"part {number}\" as ({part} returning 1)");
        select += &format!(", (select count(*) from \"part {number}\")");
        first += match verb {
            Verb::Update => table.columns.len() + usize::from(table.version.is_some()),
            Verb::Delete => table.key,
            _ => table.columns.len(),
        };
    }
    format!("with {head} select {select} from {}", frame.from)
}

/// Vouches for the text of a view, a script or a range, which is made of names and literals of the program alone.
pub(super) fn vouch(text: String) -> SqlStr {
    AssertSqlSafe(text).into_sql_str()
}

/// `first`: the number of the first argument. `condition`: changes are made only if it holds.
fn derive(table: &Table, verb: Verb, first: usize, condition: Option<&str>) -> String {
    let name = name(table);
    let key = &table.columns[..table.key];
    let selected = comma(table.columns, |column| match column.kind {
        Type::Json => format!("t.\"{}\"::text", column.name),
        _ => format!("t.\"{}\"", column.name),
    });
    match verb {
        Verb::Insert => {
            let columns = comma(table.columns, quoted);
            let cells = comma(table.columns, given);
            let only = condition.map_or_else(String::new, |condition| format!(" where {condition}"));
            format!("insert into {name} ({columns}) select {cells} from {}{only}", rows(first, table.columns, None))
        }
        Verb::Offer => format!("{} on conflict do nothing", derive(table, Verb::Insert, first, condition)),
        Verb::Update => {
            let others = &table.columns[table.key..];
            let changed = if others.is_empty() { key } else { others };
            let set = comma(changed, |column| format!("{} = {}", quoted(column), given(column)));
            let version = table.version.map(|place| &table.columns[place]);
            let expected = version.map_or_else(String::new, |column| {
                format!(" and (r.\"expected version\" is null or t.{} = r.\"expected version\")", quoted(column))
            });
            let rows = rows(first, table.columns, version.map(|_| "expected version"));
            format!("update {name} t set {set} from {rows} where {}{expected}{}", matching(key), and(condition))
        }
        Verb::Delete => {
            format!("delete from {name} t using {} where {}{}", rows(first, key, None), matching(key), and(condition))
        }
        Verb::Keys(width) => {
            let (given, order) = (&key[..width], comma(key, |column| format!("t.{}", quoted(column))));
            format!(
                "select {selected} from {} join {name} t on {} order by {order}",
                rows(first, given, None),
                matching(given)
            )
        }
        Verb::Scan(width) | Verb::ScanAfter(width) => {
            let mut conditions: Vec<_> = (1..).zip(&key[..width]).map(|(n, column)| equal(n, column)).collect();
            let mut last = width;
            if matches!(verb, Verb::ScanAfter(_)) {
                let rest = &key[width..];
                let left = comma(rest, |column| format!("t.{}", quoted(column)));
                let right: Vec<_> = (width + 1..).zip(rest).map(|(n, column)| single(n, column)).collect();
                conditions.push(format!("({left}) > ({})", right.join(", ")));
                last = table.key;
            }
            let found = if conditions.is_empty() { "true".to_owned() } else { conditions.join(" and ") };
            let order = comma(key, |column| format!("t.{}", quoted(column)));
            format!("select {selected} from {name} t where {found} order by {order} limit ${}::bigint", last + 1)
        }
    }
}

/// The arrays, side by side, as rows `r`.
fn rows(first: usize, columns: &[Column], extra: Option<&str>) -> String {
    let mut arrays: Vec<_> =
        (first..).zip(columns).map(|(n, column)| format!("${n}::{}[]", sent_as(column.kind))).collect();
    let mut names: Vec<_> = columns.iter().map(quoted).collect();
    if let Some(extra) = extra {
        arrays.push(format!("${}::bigint[]", first + columns.len()));
        names.push(format!("\"{extra}\""));
    }
    format!("unnest({}) as r({})", arrays.join(", "), names.join(", "))
}

fn and(condition: Option<&str>) -> String {
    condition.map_or_else(String::new, |condition| format!(" and {condition}"))
}

fn matching(key: &[Column]) -> String {
    key.iter().map(|column| format!("t.{0} = r.{0}", quoted(column))).collect::<Vec<_>>().join(" and ")
}

fn equal(number: usize, column: &Column) -> String {
    format!("t.{} = {}", quoted(column), single(number, column))
}

fn single(number: usize, column: &Column) -> String {
    format!("${number}::{}", sent_as(column.kind))
}

fn given(column: &Column) -> String {
    let cast = if column.kind == Type::Json { "::jsonb" } else { "" };
    format!("r.{}{cast}", quoted(column))
}

fn sent_as(kind: Type) -> &'static str {
    match kind {
        Type::Text | Type::Json => "text",
        Type::Int => "bigint",
        Type::Bytes => "bytea",
        Type::Time => "timestamptz",
    }
}

/// A table's name, quoted.
pub(super) fn name(table: &Table) -> String {
    name_beside(table, table.name)
}

/// The name of another table in the schema of this one, quoted.
pub(super) fn name_beside(table: &Table, name: &str) -> String {
    format!("\"{}\".\"{name}\"", table.schema)
}

fn quoted(column: &Column) -> String {
    format!("\"{}\"", column.name)
}

fn comma(columns: &[Column], text: impl Fn(&Column) -> String) -> String {
    columns.iter().map(text).collect::<Vec<_>>().join(", ")
}
