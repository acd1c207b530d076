//! The small registers: operators' orders, the store's id, how many partitions a topic has.

use std::collections::BTreeMap;

use super::{
    connection::{Arguments, Open, cell},
    load::as_json,
    sql::{Statements, Verb},
};
use crate::{
    core::{ledger, table::Row},
    store::{Error, merge, register},
};

const REGISTER: &str = "insert into \"seriatim_topic\" (\"name\", \"partitions\") \
     select r.value ->> 0, r.value ->> 1 from json_each(?1) r where true on conflict do nothing";

const REGISTERED: &str = "select t.\"name\", t.\"partitions\" from json_each(?1) r \
     cross join \"seriatim_topic\" t on t.\"name\" = (r.value ->> 0)";

/// Adds an operator's order. One whose id is there already is the same order, sent again for want of an answer.
pub(super) async fn order(open: &mut Open, statements: &mut Statements, command: &Row) -> Result<(), Error> {
    let table = &ledger::COMMAND;
    let row = merge::check_row(table, command)?;
    let mut arguments = Arguments::default();
    arguments.add(as_json(std::iter::once((row, None))))?;
    open.change("ordering a command", Some(table), statements.text(table, Verb::Offer), arguments).await?;
    Ok(())
}

/// The store's random id.
pub(super) async fn identity(open: &mut Open) -> Result<String, Error> {
    let sql = "select \"identity\" from \"seriatim_store\"";
    let rows = open.rows("reading the store's identity", None, sql, Arguments::default()).await?;
    register::identity(rows.first().map(|row| cell(row, 0)))
}

/// Registers what is not registered yet; the first count stays.
pub(super) async fn partitions(
    open: &mut Open,
    counts: &BTreeMap<String, i32>,
) -> Result<BTreeMap<String, i32>, Error> {
    let pairs: Vec<_> = counts.iter().map(|(name, count)| serde_json::json!([name, count])).collect();
    let pairs = serde_json::Value::Array(pairs).to_string();
    let mut arguments = Arguments::default();
    arguments.add(pairs.clone())?;
    open.change("registering partition counts", None, REGISTER, arguments).await?;
    let mut arguments = Arguments::default();
    arguments.add(pairs)?;
    let rows = open.rows("reading partition counts", None, REGISTERED, arguments).await?;
    register::counts(rows.iter().map(|row| Ok((cell(row, 0)?, cell(row, 1)?))))
}
