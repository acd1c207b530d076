//! Tables that are kept for a time: ranges of it are partitions, made ahead, and dropped whole when they are old.
//!
//! Nothing here stops a lane. A new range is a table by itself until it is attached, which asks for a lock that lanes
//! do not mind (made in place it would take the one that they do). An old one is detached concurrently: that waits
//! for those who may still see it and lets everybody else go on; only then it is dropped, when nobody knows it any
//! more. Whoever dies between two of these steps leaves something that the names and the catalog tell, and the next
//! one goes on from there. One at a time does this in a database; the others leave it to that one.

use super::{
    claim,
    connection::{Arguments, Open, cell},
    sql, turn,
};
use crate::{
    core::{ledger::KEPT_FOR_A_TIME, table::Table},
    store::{Error, Forgotten, Kept, merge},
};

/// Microseconds in a second: ranges begin and end with whole ones.
const SECOND: i64 = 1_000_000;
/// Shorter ranges would only be more tables to look into.
const RANGE_MIN_SECONDS: i64 = 3_600;
/// What a lane makes that finds no room: enough until the next who forgets makes the right length.
const STOPGAP_SECONDS: i64 = 86_400;

const RANGES: &str = "select c.\"relname\"::text, substring(c.\"relname\" from '[0-9]+$')::bigint as \"until\", \
     i.\"inhrelid\" is not null, coalesce(i.\"inhdetachpending\", false) from pg_class c \
     join pg_namespace n on n.\"oid\" = c.\"relnamespace\" left join pg_inherits i on i.\"inhrelid\" = c.\"oid\" \
     where n.\"nspname\" = $1 and c.\"relkind\" = 'r' and c.\"relname\" ~ ('^' || $2 || '_until_[0-9]+$') \
     order by \"until\"";

const SET_LOCK_TIMEOUT: &str = "select set_config('lock_timeout', $1, false)";

/// A range of a table, as the catalog shows it.
#[derive(Debug)]
struct Range {
    name: String,
    /// Its rows are from before this second.
    until: i64,
    standing: Standing,
}

/// Where a range stands on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Part of its table.
    Attached,
    /// Who detached it has not come to the end.
    HalfDetached,
    /// A table by itself, not dropped yet.
    Detached,
}

/// Makes room for what comes and drops the oldest range, if it may go. One range a step.
pub(super) async fn forget(open: &mut Open, table: &'static Table, kept: &Kept) -> Result<Forgotten, Error> {
    if !turn::take(open).await? {
        return Ok(Forgotten::All);
    }
    let mut arguments = Arguments::default();
    arguments.add(kept.lock_wait.as_millis().to_string())?;
    open.rows("setting the lock timeout", &[], SET_LOCK_TIMEOUT, arguments).await?;
    make_room(open, table, (kept.range / SECOND).max(RANGE_MIN_SECONDS)).await?;
    let ranges = ranges(open, table).await?;
    let mut old = ranges
        .iter()
        .filter(|range| range.standing != Standing::Attached || range.until.saturating_mul(SECOND) <= kept.since);
    if let Some(range) = old.next() {
        drop_range(open, table, range).await?;
    }
    let left = if old.next().is_some() { Forgotten::Part } else { Forgotten::All };
    open.run("resetting the lock timeout", "reset lock_timeout".to_owned()).await?;
    turn::end(open).await?;
    Ok(left)
}

/// Makes room in every table: for a lane whose rows have found none.
pub(super) async fn make_room_everywhere(open: &mut Open) -> Result<(), Error> {
    if !turn::take(open).await? {
        // Whoever is at it makes room first.
        return Ok(());
    }
    for (table, _) in KEPT_FOR_A_TIME {
        make_room(open, table, STOPGAP_SECONDS).await?;
    }
    turn::end(open).await
}

/// Sees to it that the ranges reach at least `length` seconds ahead. Each begins where the one before it ends, however
/// long ago that was, so that there is neither a hole nor an overlap.
async fn make_room(open: &mut Open, table: &'static Table, length: i64) -> Result<(), Error> {
    let now = claim::clock(open).await? / SECOND;
    let ranges = ranges(open, table).await?;
    let end = ranges.iter().filter(|range| range.standing == Standing::Attached).map(|range| range.until).max();
    if end.is_some_and(|end| end >= now.saturating_add(length)) {
        return Ok(());
    }
    let until = end.map_or(now, |end| end.max(now)).saturating_add(length);
    let from = end.map_or_else(|| "minvalue".to_owned(), |end| format!("to_timestamp({end})"));
    let (parent, range) = (sql::name(table), sql::name_beside(table, &format!("{}_until_{until}", table.name)));
    let doing = format!("making a range of {}", merge::name(table));
    let bounds = format!("for values from ({from}) to (to_timestamp({until}))");
    // All in one simple query is one transaction. Whether an answer comes or not: the next one looks what there is.
    let make = format!("create table {range} (like {parent} including all)");
    open.run(&doing, format!("{make}; alter table {parent} attach partition {range} {bounds}")).await
}

/// Takes a range the rest of its way out.
async fn drop_range(open: &mut Open, table: &'static Table, range: &Range) -> Result<(), Error> {
    let doing = format!("dropping {}.{}", table.schema, range.name);
    let (parent, name) = (sql::name(table), sql::name_beside(table, &range.name));
    match range.standing {
        Standing::Attached => {
            open.run(&doing, format!("alter table {parent} detach partition {name} concurrently")).await?;
        }
        Standing::HalfDetached => {
            open.run(&doing, format!("alter table {parent} detach partition {name} finalize")).await?;
        }
        Standing::Detached => {}
    }
    open.run(&doing, format!("drop table {name}")).await
}

/// The ranges of a table, the oldest first, those on their way out among them.
async fn ranges(open: &mut Open, table: &'static Table) -> Result<Vec<Range>, Error> {
    let mut arguments = Arguments::default();
    arguments.add(table.schema)?;
    arguments.add(table.name)?;
    let rows = open.rows("looking at a table's ranges", &[], RANGES, arguments).await?;
    let read = |row| {
        let standing = match (cell(row, 2)?, cell(row, 3)?) {
            (false, _) => Standing::Detached,
            (true, true) => Standing::HalfDetached,
            (true, false) => Standing::Attached,
        };
        Ok(Range { name: cell(row, 0)?, until: cell(row, 1)?, standing })
    };
    rows.iter().map(read).collect()
}
