//! The one writing transaction of the path: one statement between BEGIN and COMMIT, all or none.
//!
//! The statement locks the lanes' rows in their order and compares them by equality; only if every one is as remembered
//! does it move them and write each table, and it says how many rows it has hit. A claim that comes meanwhile waits for
//! that lock; one that came before has left another epoch and token behind. All in one statement, because each further
//! one costs a turn of two schedulers, which in small batches is most of what a transaction takes.

use std::collections::BTreeMap;

use sqlx::{Connection as _, postgres::PgRow};

use super::{
    claim,
    connection::{Arguments, Open, cell},
    load::add_columns,
    sql::{Frame, Statements, Verb},
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
        merge::{self, Merged, TableWrites},
    },
};

/// Whatever reads `fence` has to wait for the locks in `found`.
const FRAME: Frame = Frame {
    head: "\"found\" as materialized (select l.\"topic\", l.\"partition\", l.\"next_offset\", l.\"epoch\", \
         l.\"token\", l.\"batch\", r.\"to_offset\", r.\"incarnation\", r.\"last_offset\", r.\"last_timestamp_ms\", \
         r.\"last_digest\", r.\"relayed_batch\", r.\"relayed_index\", (l.\"next_offset\" = r.\"from_offset\" and \
         l.\"epoch\" = r.\"epoch\" and l.\"token\" = r.\"token\" and l.\"batch\" = r.\"batch\") as \"whole\" \
         from unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::bigint[], $7::bigint[], \
         $8::bigint[], $9::bigint[], $10::bigint[], $11::bytea[], $12::bigint[], $13::bigint[]) as r(\"topic\", \
         \"partition\", \"from_offset\", \"epoch\", \"token\", \"batch\", \"to_offset\", \"incarnation\", \
         \"last_offset\", \"last_timestamp_ms\", \"last_digest\", \"relayed_batch\", \"relayed_index\") \
         join \"seriatim\".\"lane\" l on l.\"topic\" = r.\"topic\" and l.\"partition\" = r.\"partition\" \
         order by l.\"topic\", l.\"partition\" for update of l), \
         \"fence\" as materialized (select count(*) = cardinality($1) and bool_and(\"whole\") as \"whole\" \
         from \"found\"), \
         \"moved\" as (update \"seriatim\".\"lane\" l set \"batch\" = l.\"batch\" + 1, \
         \"next_offset\" = f.\"to_offset\", \"incarnation\" = f.\"incarnation\", \"last_offset\" = f.\"last_offset\", \
         \"last_timestamp_ms\" = f.\"last_timestamp_ms\", \"last_digest\" = f.\"last_digest\", \
         \"relayed_batch\" = f.\"relayed_batch\", \"relayed_index\" = f.\"relayed_index\" from \"found\" f \
         where l.\"topic\" = f.\"topic\" and l.\"partition\" = f.\"partition\" and (select \"whole\" from \"fence\") \
         returning clock_timestamp() as \"now\")",
    arguments: 13,
    condition: "(select \"whole\" from \"fence\")",
    select: "f.\"topic\", f.\"partition\", f.\"next_offset\", f.\"epoch\", f.\"token\", f.\"batch\", \
         (select max(\"now\") from \"moved\"), (select count(*) from \"moved\")",
    from: "\"found\" f",
};
/// Where the time of the move, the count of lanes moved, and the counts of the parts stand.
const NOW: usize = 6;
const MOVED: usize = 7;
const PARTS: usize = 8;
/// A connection that has sent a larger batch gives the memory back: the next one is rarely as large.
const BUFFER_BYTES_KEPT: usize = 1 << 20;

/// One thing done to a table, and the number of its rows.
struct Part {
    table: &'static Table,
    verb: Verb,
    rows: usize,
}

/// Writes the batches of several lanes.
pub(super) async fn commit(
    open: &mut Open,
    statements: &mut Statements,
    lanes: &[LaneCommit],
) -> Result<Committed, Error> {
    let sorted = merge::in_lock_order(lanes)?;
    let Merged { tables, bytes } = merge::merge(lanes)?;
    if sorted.is_empty() {
        return Ok(Committed::All { now: claim::clock(open).await? });
    }
    let mut arguments = Arguments::with_capacity(bytes);
    add_lanes(&mut arguments, &sorted)?;
    let mut parts = Vec::new();
    for writes in &tables {
        add_parts(&mut arguments, &mut parts, writes)?;
    }
    let named: Vec<_> = parts.iter().map(|part| (part.table, part.verb)).collect();
    let touched: Vec<_> = tables.iter().map(|writes| writes.table).collect();
    open.begin().await?;
    failpoint::reach(Point::Begun);
    let rows = open.rows("writing a batch", &touched, statements.together(&FRAME, &named), arguments).await?;
    let fenced = fenced(open, &sorted, &rows)?;
    if !fenced.is_empty() {
        open.rollback().await?;
        return Ok(Committed::Fenced(fenced));
    }
    let first = rows.first().ok_or_else(|| Error::Stop("no lane's row was found".to_owned()))?;
    check_hits(first, &sorted, &parts)?;
    let now = cell::<chrono::DateTime<chrono::Utc>>(first, NOW)?.timestamp_micros();
    failpoint::reach(Point::Written);
    failpoint::reach_within(Point::CommitSent, open.commit()).await?;
    failpoint::reach(Point::CommitAnswered);
    if bytes > BUFFER_BYTES_KEPT {
        open.connection.shrink_buffers();
    }
    Ok(Committed::All { now })
}

/// The arguments of the frame's head.
fn add_lanes(arguments: &mut Arguments, sorted: &[&LaneCommit]) -> Result<(), Error> {
    let each = |number: fn(&LaneCommit) -> i64| sorted.iter().map(|commit| number(commit)).collect::<Vec<_>>();
    let last = || sorted.iter().map(|commit| commit.last.as_ref());
    claim::add_keys(arguments, sorted.iter().map(|commit| &commit.lane))?;
    arguments.add(each(|commit| commit.expected.next_offset))?;
    arguments.add(each(|commit| commit.expected.epoch))?;
    arguments.add(sorted.iter().map(|commit| commit.expected.token.as_str()).collect::<Vec<_>>())?;
    arguments.add(each(|commit| commit.expected.batch))?;
    arguments.add(each(|commit| commit.next_offset))?;
    arguments.add(each(|commit| commit.incarnation))?;
    arguments.add(last().map(|last| last.map(|last| last.offset)).collect::<Vec<_>>())?;
    arguments.add(last().map(|last| last.map(|last| last.timestamp_ms)).collect::<Vec<_>>())?;
    arguments.add(last().map(|last| last.map(|last| last.digest.as_slice())).collect::<Vec<_>>())?;
    arguments.add(each(|commit| commit.relayed.batch))?;
    arguments.add(each(|commit| commit.relayed.index))
}

/// One table: at most one insert, one update, one delete.
fn add_parts(arguments: &mut Arguments, parts: &mut Vec<Part>, writes: &TableWrites<'_>) -> Result<(), Error> {
    let table = writes.table;
    if !writes.inserts.is_empty() {
        add_columns(arguments, table.columns, &writes.inserts)?;
        parts.push(Part { table, verb: Verb::Insert, rows: writes.inserts.len() });
    }
    if !writes.updates.is_empty() {
        let rows: Vec<&[Value]> = writes.updates.iter().map(|(row, _)| *row).collect();
        add_columns(arguments, table.columns, &rows)?;
        if table.version.is_some() {
            arguments.add(writes.updates.iter().map(|(_, expected)| *expected).collect::<Vec<_>>())?;
        }
        parts.push(Part { table, verb: Verb::Update, rows: rows.len() });
    }
    if !writes.deletes.is_empty() {
        add_columns(arguments, &table.columns[..table.key], &writes.deletes)?;
        parts.push(Part { table, verb: Verb::Delete, rows: writes.deletes.len() });
    }
    Ok(())
}

/// Says which lanes' rows are not as they are remembered.
fn fenced(open: &Open, sorted: &[&LaneCommit], rows: &[PgRow]) -> Result<Vec<LaneId>, Error> {
    let mut found = BTreeMap::<LaneId, Fence>::new();
    for row in rows {
        let (lane, fence) = claim::fence(row, open.timeline)?;
        found.insert(lane, fence);
    }
    let differs = |commit: &&&LaneCommit| found.get(&commit.lane) != Some(&commit.expected);
    Ok(sorted.iter().filter(differs).map(|commit| commit.lane.clone()).collect())
}

/// Each part must have hit exactly the rows that it names.
fn check_hits(row: &PgRow, sorted: &[&LaneCommit], parts: &[Part]) -> Result<(), Error> {
    let moved: i64 = cell(row, MOVED)?;
    if usize::try_from(moved).ok() != Some(sorted.len()) {
        return Err(Error::Stop(format!("{moved} lanes' rows moved instead of {}", sorted.len())));
    }
    for (place, Part { table, verb, rows }) in (PARTS..).zip(parts) {
        let hit: i64 = cell(row, place)?;
        if usize::try_from(hit).ok() != Some(*rows) {
            let doing = format!("writing {} ({verb:?})", merge::name(table));
            return Err(Error::Stop(format!("{doing}: {hit} rows instead of {rows}: they moved under a whole fence")));
        }
    }
    Ok(())
}
