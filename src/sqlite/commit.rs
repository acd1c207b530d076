//! The one writing transaction of the path: the fence first, then each table at once, all or none.

use std::collections::BTreeMap;

use super::{
    claim,
    connection::{Arguments, Open, cell},
    load::as_json,
    sql::{Statements, Verb},
};
use crate::{
    core::{
        fence::LaneCommit,
        record::LaneId,
        table::{Table, Value},
    },
    store::{
        Committed, Error,
        merge::{self, TableWrites},
    },
};

const MOVE: &str = concat!(
    "update \"seriatim_lane\" as l set \"batch\" = l.\"batch\" + 1, \"next_offset\" = r.value ->> 2, \
     \"incarnation\" = r.value ->> 3, \"last_offset\" = r.value ->> 4, \"last_timestamp_ms\" = r.value ->> 5, \
     \"last_digest\" = unhex(r.value ->> 6), \"relayed_batch\" = r.value ->> 7, \"relayed_index\" = r.value ->> 8 \
     from json_each(?1) as r where l.\"topic\" = (r.value ->> 0) and l.\"partition\" = (r.value ->> 1) returning ",
    claim::clock_text!()
);

/// Writes the batches of several lanes.
pub(super) async fn commit(
    open: &mut Open,
    statements: &mut Statements,
    lanes: &[LaneCommit],
) -> Result<Committed, Error> {
    let sorted = merge::in_lock_order(lanes)?;
    let tables = merge::merge(lanes)?.tables;
    if sorted.is_empty() {
        return Ok(Committed::All { now: claim::clock(open).await? });
    }
    open.begin().await?;
    let fenced = fenced(open, &sorted).await?;
    if !fenced.is_empty() {
        open.rollback().await?;
        return Ok(Committed::Fenced(fenced));
    }
    let now = move_lanes(open, &sorted).await?;
    for writes in &tables {
        write(open, statements, writes).await?;
    }
    open.commit().await?;
    Ok(Committed::All { now })
}

/// Says which lanes' rows are not as they are remembered.
async fn fenced(open: &mut Open, sorted: &[&LaneCommit]) -> Result<Vec<LaneId>, Error> {
    let rows = claim::find(open, sorted.iter().map(|commit| &commit.lane)).await?;
    let found: BTreeMap<_, _> = rows.into_iter().map(|row| (row.lane, row.fence)).collect();
    let differs = |commit: &&&LaneCommit| found.get(&commit.lane) != Some(&commit.expected);
    Ok(sorted.iter().filter(differs).map(|commit| commit.lane.clone()).collect())
}

async fn move_lanes(open: &mut Open, sorted: &[&LaneCommit]) -> Result<i64, Error> {
    let rows: Vec<Vec<Value>> = sorted.iter().map(|commit| lane_cells(commit)).collect();
    let mut arguments = Arguments::default();
    arguments.add(as_json(rows.iter().map(|row| (row.as_slice(), None))))?;
    let rows = open.rows("moving lanes' rows", None, MOVE, arguments).await?;
    if rows.len() != sorted.len() {
        return Err(Error::Stop(format!("{} lanes' rows moved instead of {}", rows.len(), sorted.len())));
    }
    let clocks = rows.iter().map(|row| cell::<i64>(row, 0)).collect::<Result<Vec<_>, _>>()?;
    clocks.into_iter().max().ok_or_else(|| Error::Stop("no lane moved".to_owned()))
}

fn lane_cells(commit: &LaneCommit) -> Vec<Value> {
    let (offset, timestamp, digest) = match &commit.last {
        Some(last) => {
            (Value::Int(last.offset), Value::Int(last.timestamp_ms), Value::Bytes(last.digest.as_slice().into()))
        }
        None => (Value::Null, Value::Null, Value::Null),
    };
    vec![
        Value::Text(commit.lane.topic.clone()),
        Value::Int(i64::from(commit.lane.partition)),
        Value::Int(commit.next_offset),
        Value::Int(commit.incarnation),
        offset,
        timestamp,
        digest,
        Value::Int(commit.relayed.batch),
        Value::Int(commit.relayed.index),
    ]
}

/// One table: at most one insert, one update, one delete. Each must hit exactly the rows it names.
async fn write(open: &mut Open, statements: &mut Statements, writes: &TableWrites<'_>) -> Result<(), Error> {
    let table = writes.table;
    let inserts = writes.inserts.iter().map(|row| (*row, None)).collect();
    send(open, statements, table, Verb::Insert, inserts).await?;
    send(open, statements, table, Verb::Update, writes.updates.clone()).await?;
    send(open, statements, table, Verb::Delete, writes.deletes.iter().map(|key| (*key, None)).collect()).await
}

async fn send(
    open: &mut Open,
    statements: &mut Statements,
    table: &'static Table,
    verb: Verb,
    rows: Vec<(&[Value], Option<i64>)>,
) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let named = rows.len();
    let mut arguments = Arguments::default();
    arguments.add(as_json(rows.into_iter()))?;
    let doing = format!("writing {} ({verb:?})", merge::name(table));
    let hit = open.change(&doing, Some(table), statements.text(table, verb), arguments).await?;
    if hit == named as u64 {
        return Ok(());
    }
    Err(Error::Stop(format!("{doing}: {hit} rows instead of {named}: they moved under a whole fence")))
}
