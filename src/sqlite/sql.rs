//! Derives SQL from declared tables: one text a table and verb, whatever the number of rows.
//!
//! The only file that vouches for made-up SQL. It is safe because nothing but names from `static` tables
//! goes into it, quoted; every value is an argument. Rows travel as one JSON array of arrays, bytes in hex.

use std::{collections::HashMap, sync::Arc};

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use crate::core::{
    ledger::kept_since,
    table::{Column, Table, Type},
};

/// What is done to a table; the number is that of the key cells given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Verb {
    /// Argument: the rows.
    Insert,
    /// As [`Verb::Insert`], but a row that is there already stays as it is.
    Offer,
    /// Argument: the rows, each with the expected version behind it.
    Update,
    /// Argument: the keys.
    Delete,
    /// Argument: so many leading cells of keys.
    Keys(usize),
    /// Arguments: so many leading key cells, then the limit.
    Scan(usize),
    /// Arguments: so many leading key cells, the other key cells of the last row seen, then the limit.
    ScanAfter(usize),
    /// Arguments: since when rows stay, then the limit.
    Forget,
}

/// The texts made so far.
#[derive(Debug, Default)]
pub(super) struct Statements(HashMap<(&'static str, &'static str, Verb), Arc<str>>);

impl Statements {
    /// The text for a verb and a table.
    pub(super) fn text(&mut self, table: &'static Table, verb: Verb) -> SqlStr {
        let text = self.0.entry((table.schema, table.name, verb)).or_insert_with(|| derive(table, verb).into());
        AssertSqlSafe(Arc::clone(text)).into_sql_str()
    }
}

/// Vouches for a view's or a script's text, which is made of names and literals of the program alone.
pub(super) fn vouch(text: String) -> SqlStr {
    AssertSqlSafe(text).into_sql_str()
}

fn derive(table: &Table, verb: Verb) -> String {
    let name = name(table);
    let key = &table.columns[..table.key];
    let selected = comma(table.columns, |(_, column)| format!("t.{}", quoted(column)));
    let order = comma(key, |(_, column)| format!("t.{}", quoted(column)));
    match verb {
        Verb::Insert => {
            let columns = comma(table.columns, |(_, column)| quoted(column));
            let cells = comma(table.columns, given);
            format!("insert into {name} ({columns}) select {cells} from json_each(?1) r")
        }
        // Without a condition the parser would take `on` for that of a join.
        Verb::Offer => format!("{} where true on conflict do nothing", derive(table, Verb::Insert)),
        Verb::Update => {
            // A table that is all key has nothing to set but what is there.
            let from = if table.key == table.columns.len() { 0 } else { table.key };
            let set: Vec<_> = table.columns.iter().enumerate().skip(from).collect();
            let set: Vec<_> = set.into_iter().map(|cell| format!("{} = {}", quoted(cell.1), given(cell))).collect();
            let expected = table.version.map_or_else(String::new, |place| {
                let expected = format!("(r.value ->> {})", table.columns.len());
                format!(" and ({expected} is null or t.{} = {expected})", quoted(&table.columns[place]))
            });
            let set = set.join(", ");
            format!("update {name} as t set {set} from json_each(?1) as r where {}{expected}", matching(key))
        }
        Verb::Delete => {
            let columns = comma(key, |(_, column)| quoted(column));
            format!("delete from {name} where ({columns}) in (select {} from json_each(?1) r)", comma(key, given))
        }
        // The cross join keeps the keys on the outside: each is looked up, nothing is scanned.
        Verb::Keys(width) => format!(
            "select {selected} from json_each(?1) r cross join {name} t on {} order by {order}",
            matching(&key[..width])
        ),
        Verb::Scan(width) => {
            let found = equal(&key[..width]).join(" and ");
            format!("select {selected} from {name} t where {found} order by {order} limit ?{}", width + 1)
        }
        Verb::ScanAfter(width) => {
            let mut found = equal(&key[..width]);
            let last: Vec<_> = (width + 1..=table.key).map(|n| format!("?{n}")).collect();
            let rest = comma(&key[width..], |(_, column)| format!("t.{}", quoted(column)));
            found.push(format!("({rest}) > ({})", last.join(", ")));
            let found = found.join(" and ");
            format!("select {selected} from {name} t where {found} order by {order} limit ?{}", table.key + 1)
        }
        Verb::Forget => {
            let since = kept_since(table).expect("only what is kept for a time is forgotten");
            format!(
                "delete from {name} where rowid in (select rowid from {name} order by rowid limit ?2) \
                 and \"{since}\" < ?1"
            )
        }
    }
}

fn matching(key: &[Column]) -> String {
    let same = |(place, column): (usize, &Column)| format!("t.{} = {}", quoted(column), given((place, column)));
    key.iter().enumerate().map(same).collect::<Vec<_>>().join(" and ")
}

fn equal(key: &[Column]) -> Vec<String> {
    let mut conditions = vec!["true".to_owned()];
    conditions.extend((1..).zip(key).map(|(n, column)| format!("t.{} = ?{n}", quoted(column))));
    conditions
}

fn given((place, column): (usize, &Column)) -> String {
    match column.kind {
        Type::Bytes => format!("unhex(r.value ->> {place})"),
        _ => format!("(r.value ->> {place})"),
    }
}

fn name(table: &Table) -> String {
    format!("\"{}_{}\"", table.schema, table.name)
}

fn quoted(column: &Column) -> String {
    format!("\"{}\"", column.name)
}

fn comma(columns: &[Column], text: impl Fn((usize, &Column)) -> String) -> String {
    columns.iter().enumerate().map(text).collect::<Vec<_>>().join(", ")
}
