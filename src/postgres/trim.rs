//! What nobody needs any more, a bounded number of rows at a time; and the small registers.

use std::collections::BTreeMap;

use super::{
    connection::{Arguments, Open, cell},
    load::add_columns,
    sql::{Statements, Verb},
};
use crate::{
    core::{fence::Position, ledger, record::LaneId, table::Row},
    store::{Error, merge},
};

/// How many rows are looked at for each that may be deleted: what a slow lane still needs is passed over, but
/// not without end.
const LOOKED_AT_PER_TRIMMED: i64 = 16;

// A message is needed while its receiver is a lane of this store whose mark has not reached its number. A
// topic is one of this store's if a lane of it has ever been claimed here, or has taken a message of ours;
// a topic that no lane has claimed yet cannot be told from one outside.
const TRIM_OUTBOX: &str = "delete from \"seriatim\".\"outbox\" o using ( \
     select w.\"batch\", w.\"idx\" from ( \
     select \"batch\", \"idx\", \"to_topic\", \"to_partition\", \"link_sequence\" from \"seriatim\".\"outbox\" \
     where \"topic\" = $1 and \"partition\" = $2 and (\"batch\", \"idx\") <= ($3, $4) \
     order by \"batch\", \"idx\" limit $6) w \
     left join \"seriatim\".\"link_in\" i on i.\"topic\" = w.\"to_topic\" and i.\"partition\" = w.\"to_partition\" \
     and i.\"from_topic\" = $1 and i.\"from_partition\" = $2 \
     where w.\"link_sequence\" is null or i.\"mark\" >= w.\"link_sequence\" or (i.\"mark\" is null and not exists \
     (select 1 from \"seriatim\".\"lane\" h where h.\"topic\" = w.\"to_topic\")) \
     order by w.\"batch\", w.\"idx\" limit $5) c \
     where o.\"topic\" = $1 and o.\"partition\" = $2 and o.\"batch\" = c.\"batch\" and o.\"idx\" = c.\"idx\"";

const REGISTER: &str = "insert into \"seriatim\".\"topic\" (\"name\", \"partitions\") \
     select * from unnest($1::text[], $2::bigint[]) on conflict do nothing";

const REGISTERED: &str = "select t.\"name\", t.\"partitions\" from unnest($1::text[]) as r(\"name\") \
     join \"seriatim\".\"topic\" t on t.\"name\" = r.\"name\"";

/// Deletes what lies below every mark.
pub(super) async fn trim_outbox(open: &mut Open, lane: &LaneId, upto: Position, limit: i64) -> Result<u64, Error> {
    let mut arguments = Arguments::default();
    arguments.add(lane.topic.as_str())?;
    arguments.add(i64::from(lane.partition))?;
    arguments.add(upto.batch)?;
    arguments.add(upto.index)?;
    arguments.add(limit.max(0))?;
    arguments.add(limit.max(0).saturating_mul(LOOKED_AT_PER_TRIMMED))?;
    open.change("trimming the outbox", &[&ledger::OUTBOX], TRIM_OUTBOX, arguments).await
}

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
    match rows.first() {
        Some(row) => cell(row, 0),
        None => Err(Error::Stop("the database holds no store identity; run `seriatim migrate up`".to_owned())),
    }
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
    let read = |row| {
        let count = i32::try_from(cell::<i64>(row, 1)?);
        Ok((cell(row, 0)?, count.map_err(|_| Error::Stop("a partition count is out of range".to_owned()))?))
    };
    rows.iter().map(read).collect()
}
