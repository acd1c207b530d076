//! The small registers: operators' orders, the store's id, how many partitions a topic has.

use std::collections::BTreeMap;

use super::{
    connection::{Arguments, Open, cell},
    load::add_columns,
    sql::{Statements, Verb},
};
use crate::{
    core::{ledger, table::Row},
    store::{Error, merge, register},
};

const REGISTER: &str = "insert into \"seriatim\".\"topic\" (\"name\", \"partitions\") \
     select * from unnest($1::text[], $2::bigint[]) on conflict do nothing";

const REGISTERED: &str = "select t.\"name\", t.\"partitions\" from unnest($1::text[]) as r(\"name\") \
     join \"seriatim\".\"topic\" t on t.\"name\" = r.\"name\"";

/// Adds an operator's order. One whose id is there already is the same order, sent again for want of an answer.
pub(super) async fn order(open: &mut Open, statements: &mut Statements, command: &Row) -> Result<(), Error> {
    let table = &ledger::COMMAND;
    let row = merge::check_row(table, command)?;
    let mut arguments = Arguments::default();
    add_columns(&mut arguments, table.columns, &[row])?;
    open.change("ordering a command", &[table], statements.text(table, Verb::Offer), arguments).await?;
    Ok(())
}

/// The store's random id.
pub(super) async fn identity(open: &mut Open) -> Result<String, Error> {
    let sql = "select \"identity\" from \"seriatim\".\"store\"";
    let rows = open.rows("reading the store's identity", &[], sql, Arguments::default()).await?;
    register::identity(rows.first().map(|row| cell(row, 0)))
}

/// Registers what is not registered yet; the first count stays.
pub(super) async fn partitions(
    open: &mut Open,
    counts: &BTreeMap<String, i32>,
) -> Result<BTreeMap<String, i32>, Error> {
    let names: Vec<&str> = counts.keys().map(String::as_str).collect();
    let mut arguments = Arguments::default();
    arguments.add(names.clone())?;
    arguments.add(counts.values().map(|count| i64::from(*count)).collect::<Vec<_>>())?;
    open.change("registering partition counts", &[], REGISTER, arguments).await?;
    let mut arguments = Arguments::default();
    arguments.add(names)?;
    let rows = open.rows("reading partition counts", &[], REGISTERED, arguments).await?;
    register::counts(rows.iter().map(|row| Ok((cell(row, 0)?, cell(row, 1)?))))
}
