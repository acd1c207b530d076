//! Lanes' rows: taking one, and looking at them with and without lock.

use sqlx::postgres::PgRow;

use super::connection::{Arguments, Open, cell};
use crate::{
    core::{
        fence::{Fence, LaneRow, LastRecord, Position},
        record::LaneId,
    },
    failpoint::{self, Point},
    store::Error,
};

macro_rules! lane_columns {
    () => {
        "l.\"topic\", l.\"partition\", l.\"next_offset\", l.\"epoch\", l.\"token\", l.\"batch\", l.\"owner\", \
         l.\"incarnation\", l.\"last_offset\", l.\"last_timestamp_ms\", l.\"last_digest\", l.\"relayed_batch\", \
         l.\"relayed_index\""
    };
}

const CREATE: &str = "insert into \"seriatim\".\"lane\" (\"topic\", \"partition\", \"next_offset\", \"epoch\", \
     \"token\", \"batch\", \"owner\", \"incarnation\", \"relayed_batch\", \"relayed_index\") \
     values ($1, $2, $3, 0, '', 0, '', 1, 0, 0) on conflict do nothing";

// Waits for the row's lock, then sees the row as the old owner's transaction has left it.
const TAKE: &str = concat!(
    "update \"seriatim\".\"lane\" l set \"epoch\" = l.\"epoch\" + 1, \"token\" = $3, \"owner\" = $4 \
     where l.\"topic\" = $1 and l.\"partition\" = $2 returning ",
    lane_columns!(),
    ", clock_timestamp()"
);

const PEEK: &str = concat!(
    "select ",
    lane_columns!(),
    " from \"seriatim\".\"lane\" l where l.\"topic\" = $1 and l.\"partition\" = $2"
);

/// Takes the locks in the order of the key, as every transaction does, so that two never wait for each other.
const LOCK: &str = concat!(
    "select ",
    lane_columns!(),
    " from unnest($1::text[], $2::bigint[]) as r(\"topic\", \"partition\") join \"seriatim\".\"lane\" l \
     on l.\"topic\" = r.\"topic\" and l.\"partition\" = r.\"partition\" \
     order by l.\"topic\", l.\"partition\" for update of l"
);

/// Takes a lane in one transaction.
pub(super) async fn claim(
    open: &mut Open,
    lane: &LaneId,
    token: &str,
    owner: &str,
    start: i64,
) -> Result<(LaneRow, i64), Error> {
    let doing = format!("claiming lane {lane}");
    open.begin().await?;
    let mut arguments = key(lane)?;
    arguments.add(start)?;
    open.change(&doing, &[], CREATE, arguments).await?;
    let mut arguments = key(lane)?;
    arguments.add(token)?;
    arguments.add(owner)?;
    let rows = open.rows(&doing, &[], TAKE, arguments).await?;
    let row = rows.first().ok_or_else(|| Error::Retry(format!("{doing}: its row went away")))?;
    let claimed =
        (lane_row(row, open.timeline)?, cell::<chrono::DateTime<chrono::Utc>>(row, LANE_COLUMNS)?.timestamp_micros());
    failpoint::reach(Point::ClaimWritten);
    // A claim without an answer is simply made again: it raises the epoch once more.
    open.commit().await.map_err(|error| Error::Retry(format!("{doing}: {error}")))?;
    Ok(claimed)
}

/// Reads a lane's row without a lock.
pub(super) async fn peek(open: &mut Open, lane: &LaneId) -> Result<Option<LaneRow>, Error> {
    let rows = open.rows("reading a lane's row", &[], PEEK, key(lane)?).await?;
    rows.first().map(|row| lane_row(row, open.timeline)).transpose()
}

/// Reads lanes' rows under lock. The locks end with the statement: having waited for them is the point.
pub(super) async fn look(open: &mut Open, lanes: &[LaneId]) -> Result<(Vec<LaneRow>, i64), Error> {
    let mut arguments = Arguments::default();
    add_keys(&mut arguments, lanes.iter())?;
    let rows = open.rows("looking at lanes' rows", &[], LOCK, arguments).await?;
    let found = rows.iter().map(|row| lane_row(row, open.timeline)).collect::<Result<_, _>>()?;
    Ok((found, clock(open).await?))
}

/// The database's clock in microseconds.
pub(super) async fn clock(open: &mut Open) -> Result<i64, Error> {
    let rows = open.rows("reading the clock", &[], "select clock_timestamp()", Arguments::default()).await?;
    let row = rows.first().ok_or_else(|| Error::Stop("the database shows no clock".to_owned()))?;
    Ok(cell::<chrono::DateTime<chrono::Utc>>(row, 0)?.timestamp_micros())
}

/// Adds lanes' keys: the first two arguments of whatever locks their rows.
pub(super) fn add_keys<'a>(arguments: &mut Arguments, lanes: impl Iterator<Item = &'a LaneId>) -> Result<(), Error> {
    let (topics, partitions): (Vec<&str>, Vec<i64>) =
        lanes.map(|lane| (lane.topic.as_str(), i64::from(lane.partition))).unzip();
    arguments.add(topics)?;
    arguments.add(partitions)
}

/// How many columns a lane's row has, and where the next column stands.
const LANE_COLUMNS: usize = 13;

/// Reads what comes first of a lane's row: which lane, and what a commit compares.
pub(super) fn fence(row: &PgRow, timeline: i64) -> Result<(LaneId, Fence), Error> {
    let partition = i32::try_from(cell::<i64>(row, 1)?)
        .map_err(|_| Error::Stop("a lane's partition in the database is out of range".to_owned()))?;
    let (next_offset, epoch, token, batch) = (cell(row, 2)?, cell(row, 3)?, cell(row, 4)?, cell(row, 5)?);
    Ok((LaneId { topic: cell(row, 0)?, partition }, Fence { next_offset, epoch, token, batch, timeline }))
}

/// Reads a lane's row, found on a connection to this timeline.
pub(super) fn lane_row(row: &PgRow, timeline: i64) -> Result<LaneRow, Error> {
    let (lane, fence) = fence(row, timeline)?;
    let last = match (cell(row, 8)?, cell(row, 9)?, cell(row, 10)?) {
        (Some(offset), Some(timestamp_ms), Some(digest)) => Some(LastRecord { offset, timestamp_ms, digest }),
        _ => None,
    };
    Ok(LaneRow {
        lane,
        fence,
        owner: cell(row, 6)?,
        incarnation: cell(row, 7)?,
        last,
        relayed: Position { batch: cell(row, 11)?, index: cell(row, 12)? },
    })
}

fn key(lane: &LaneId) -> Result<Arguments, Error> {
    let mut arguments = Arguments::default();
    arguments.add(lane.topic.as_str())?;
    arguments.add(i64::from(lane.partition))?;
    Ok(arguments)
}
