//! Lanes' rows: taking one, and looking at them.
//!
//! There is one writing transaction at a time, so looking under lock means to wait for one's turn.

use sqlx::sqlite::SqliteRow;

use super::connection::{Arguments, Open, cell};
use crate::{
    core::{
        fence::{Fence, LaneRow, LastRecord, Position},
        record::LaneId,
    },
    store::Error,
};

/// The one timeline of a file: no other ever takes over.
pub(super) const TIMELINE: i64 = 1;

macro_rules! lane_columns {
    () => {
        "\"topic\", \"partition\", \"next_offset\", \"epoch\", \"token\", \"batch\", \"owner\", \"incarnation\", \
         \"last_offset\", \"last_timestamp_ms\", \"last_digest\", \"relayed_batch\", \"relayed_index\""
    };
}

/// Microseconds since the epoch, to the millisecond: SQLite's clock tells no more.
macro_rules! clock_text {
    () => {
        "cast(round(unixepoch('subsec') * 1000000) as integer)"
    };
}
pub(super) use clock_text;

const CREATE: &str = "insert into \"seriatim_lane\" (\"topic\", \"partition\", \"next_offset\", \"epoch\", \"token\", \
     \"batch\", \"owner\", \"incarnation\", \"relayed_batch\", \"relayed_index\") \
     values (?1, ?2, ?3, 0, '', 0, '', 1, 0, 0) on conflict do nothing";

const TAKE: &str = concat!(
    "update \"seriatim_lane\" set \"epoch\" = \"epoch\" + 1, \"token\" = ?3, \"owner\" = ?4 \
     where \"topic\" = ?1 and \"partition\" = ?2 returning ",
    lane_columns!()
);

const PEEK: &str =
    concat!("select ", lane_columns!(), " from \"seriatim_lane\" where \"topic\" = ?1 and \"partition\" = ?2");

const FIND: &str = concat!(
    "select ",
    lane_columns!(),
    " from json_each(?1) r cross join \"seriatim_lane\" on \"topic\" = (r.value ->> 0) and \"partition\" = \
     (r.value ->> 1) order by \"topic\", \"partition\""
);

const CLOCK: &str = concat!("select ", clock_text!());

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
    open.change(&doing, None, CREATE, arguments).await?;
    let mut arguments = key(lane)?;
    arguments.add(token.to_owned())?;
    arguments.add(owner.to_owned())?;
    let rows = open.rows(&doing, None, TAKE, arguments).await?;
    let row = rows.first().ok_or_else(|| Error::Retry(format!("{doing}: its row went away")))?;
    let claimed = (lane_row(row)?, clock(open).await?);
    // A claim without an answer is simply made again: it raises the epoch once more.
    open.commit().await.map_err(|error| Error::Retry(format!("{doing}: {error}")))?;
    Ok(claimed)
}

/// Reads a lane's row.
pub(super) async fn peek(open: &mut Open, lane: &LaneId) -> Result<Option<LaneRow>, Error> {
    let rows = open.rows("reading a lane's row", None, PEEK, key(lane)?).await?;
    rows.first().map(lane_row).transpose()
}

/// Reads lanes' rows behind any transaction that writes, in this process or another.
pub(super) async fn look(open: &mut Open, lanes: &[LaneId]) -> Result<(Vec<LaneRow>, i64), Error> {
    open.begin().await?;
    let seen = (find(open, lanes.iter()).await?, clock(open).await?);
    open.commit().await?;
    Ok(seen)
}

/// Reads lanes' rows in the order of their key.
pub(super) async fn find(open: &mut Open, lanes: impl Iterator<Item = &LaneId>) -> Result<Vec<LaneRow>, Error> {
    let keys: Vec<_> = lanes.map(|lane| serde_json::json!([lane.topic, lane.partition])).collect();
    let mut arguments = Arguments::default();
    arguments.add(serde_json::Value::Array(keys).to_string())?;
    let rows = open.rows("reading lanes' rows", None, FIND, arguments).await?;
    rows.iter().map(lane_row).collect()
}

/// The database's clock.
pub(super) async fn clock(open: &mut Open) -> Result<i64, Error> {
    let rows = open.rows("reading the clock", None, CLOCK, Arguments::default()).await?;
    let row = rows.first().ok_or_else(|| Error::Stop("the database shows no clock".to_owned()))?;
    cell(row, 0)
}

fn lane_row(row: &SqliteRow) -> Result<LaneRow, Error> {
    let partition = i32::try_from(cell::<i64>(row, 1)?)
        .map_err(|_| Error::Stop("a lane's partition in the database is out of range".to_owned()))?;
    let last = match (cell(row, 8)?, cell(row, 9)?, cell(row, 10)?) {
        (Some(offset), Some(timestamp_ms), Some(digest)) => Some(LastRecord { offset, timestamp_ms, digest }),
        _ => None,
    };
    Ok(LaneRow {
        lane: LaneId { topic: cell(row, 0)?, partition },
        fence: Fence {
            next_offset: cell(row, 2)?,
            epoch: cell(row, 3)?,
            token: cell(row, 4)?,
            batch: cell(row, 5)?,
            timeline: TIMELINE,
        },
        owner: cell(row, 6)?,
        incarnation: cell(row, 7)?,
        last,
        relayed: Position { batch: cell(row, 11)?, index: cell(row, 12)? },
    })
}

fn key(lane: &LaneId) -> Result<Arguments, Error> {
    let mut arguments = Arguments::default();
    arguments.add(lane.topic.clone())?;
    arguments.add(i64::from(lane.partition))?;
    Ok(arguments)
}
