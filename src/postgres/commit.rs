//! The one writing transaction of the path: the fence first, then each table at once, all or none.
//!
//! The fence's rows are locked before anything else and compared here, by equality. A claim that comes
//! meanwhile waits for that lock; one that came before has left another epoch and token behind.

use std::collections::BTreeMap;

use super::{
    claim,
    connection::{Arguments, Open, cell},
    load::add_columns,
    sql::{Statements, Verb},
};
use crate::{
    core::{
        fence::{Fence, LaneCommit},
        record::LaneId,
        table::{Table, Value},
    },
    failpoint::{self, Point},
    store::{
        Committed, Error,
        merge::{self, TableWrites},
    },
};

const MOVE: &str = "update \"seriatim\".\"lane\" l set \"batch\" = l.\"batch\" + 1, \
     \"next_offset\" = r.\"next_offset\", \"incarnation\" = r.\"incarnation\", \"last_offset\" = r.\"last_offset\", \
     \"last_timestamp_ms\" = r.\"last_timestamp_ms\", \"last_digest\" = r.\"last_digest\", \
     \"relayed_batch\" = r.\"relayed_batch\", \"relayed_index\" = r.\"relayed_index\" \
     from unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bytea[], \
     $8::bigint[], $9::bigint[]) as r(\"topic\", \"partition\", \"next_offset\", \"incarnation\", \"last_offset\", \
     \"last_timestamp_ms\", \"last_digest\", \"relayed_batch\", \"relayed_index\") \
     where l.\"topic\" = r.\"topic\" and l.\"partition\" = r.\"partition\" returning clock_timestamp()";

/// Writes the batches of several lanes.
pub(super) async fn commit(
    open: &mut Open,
    statements: &mut Statements,
    lanes: &[LaneCommit],
) -> Result<Committed, Error> {
    let sorted = merge::in_lock_order(lanes)?;
    let tables = merge::merge(lanes)?;
    if sorted.is_empty() {
        return Ok(Committed::All { now: claim::clock(open).await? });
    }
    open.begin().await?;
    failpoint::reach(Point::Begun);
    let fenced = fenced(open, &sorted).await?;
    if !fenced.is_empty() {
        open.rollback().await?;
        return Ok(Committed::Fenced(fenced));
    }
    failpoint::reach(Point::Fenced);
    let now = move_lanes(open, &sorted).await?;
    failpoint::reach(Point::Moved);
    for writes in &tables {
        write(open, statements, writes).await?;
    }
    failpoint::reach(Point::Written);
    failpoint::reach_within(Point::CommitSent, open.commit()).await?;
    failpoint::reach(Point::CommitAnswered);
    Ok(Committed::All { now })
}

/// Locks the lanes' rows and says which are not as they are remembered.
async fn fenced(open: &mut Open, sorted: &[&LaneCommit]) -> Result<Vec<LaneId>, Error> {
    let arguments = claim::keys(sorted.iter().map(|commit| &commit.lane))?;
    let rows = open.rows("locking lanes' rows", None, claim::LOCK, arguments).await?;
    let mut found = BTreeMap::<LaneId, Fence>::new();
    for row in &rows {
        let row = claim::lane_row(row, open.timeline)?;
        found.insert(row.lane, row.fence);
    }
    let differs = |commit: &&&LaneCommit| found.get(&commit.lane) != Some(&commit.expected);
    Ok(sorted.iter().filter(differs).map(|commit| commit.lane.clone()).collect())
}

async fn move_lanes(open: &mut Open, sorted: &[&LaneCommit]) -> Result<i64, Error> {
    let each = |number: fn(&LaneCommit) -> i64| sorted.iter().map(|commit| number(commit)).collect::<Vec<_>>();
    let last = || sorted.iter().map(|commit| commit.last.as_ref());
    let mut arguments = claim::keys(sorted.iter().map(|commit| &commit.lane))?;
    arguments.add(each(|commit| commit.next_offset))?;
    arguments.add(each(|commit| commit.incarnation))?;
    arguments.add(last().map(|last| last.map(|last| last.offset)).collect::<Vec<_>>())?;
    arguments.add(last().map(|last| last.map(|last| last.timestamp_ms)).collect::<Vec<_>>())?;
    arguments.add(last().map(|last| last.map(|last| last.digest.as_slice())).collect::<Vec<_>>())?;
    arguments.add(each(|commit| commit.relayed.batch))?;
    arguments.add(each(|commit| commit.relayed.index))?;
    let rows = open.rows("moving lanes' rows", None, MOVE, arguments).await?;
    if rows.len() != sorted.len() {
        return Err(Error::Stop(format!("{} lanes' rows moved instead of {}", rows.len(), sorted.len())));
    }
    let clocks = rows.iter().map(|row| cell::<chrono::DateTime<chrono::Utc>>(row, 0));
    let clocks = clocks.collect::<Result<Vec<_>, _>>()?;
    clocks.iter().max().map(chrono::DateTime::timestamp_micros).ok_or_else(|| Error::Stop("no lane moved".to_owned()))
}

/// One table: at most one insert, one update, one delete. Each must hit exactly the rows it names.
async fn write(open: &mut Open, statements: &mut Statements, writes: &TableWrites<'_>) -> Result<(), Error> {
    let table = writes.table;
    if !writes.inserts.is_empty() {
        send(open, statements, table, Verb::Insert, &writes.inserts, None).await?;
    }
    if !writes.updates.is_empty() {
        let rows: Vec<&[Value]> = writes.updates.iter().map(|(row, _)| *row).collect();
        let expected = table.version.map(|_| writes.updates.iter().map(|(_, expected)| *expected).collect());
        send(open, statements, table, Verb::Update, &rows, expected).await?;
    }
    if !writes.deletes.is_empty() {
        send(open, statements, table, Verb::Delete, &writes.deletes, None).await?;
    }
    Ok(())
}

async fn send(
    open: &mut Open,
    statements: &mut Statements,
    table: &'static Table,
    verb: Verb,
    rows: &[&[Value]],
    expected_versions: Option<Vec<Option<i64>>>,
) -> Result<(), Error> {
    let columns = if verb == Verb::Delete { &table.columns[..table.key] } else { table.columns };
    let mut arguments = Arguments::default();
    add_columns(&mut arguments, columns, rows)?;
    if let Some(expected) = expected_versions {
        arguments.add(expected)?;
    }
    let doing = format!("writing {} ({verb:?})", merge::name(table));
    let hit = open.change(&doing, Some(table), statements.text(table, verb), arguments).await?;
    if hit == rows.len() as u64 {
        return Ok(());
    }
    Err(Error::Stop(format!("{doing}: {hit} rows instead of {}: they moved under a whole fence", rows.len())))
}
