//! Takes a lane: off the poll thread, on a connection of its own, while its partition is not yet read.
//!
//! Two questions come first. Is it the same store? A lane without a row begins at the topic's beginning only
//! if Kafka shows no other store's offsets: nobody redoes history into an empty database. Is it the same
//! topic? What the lane read last must still stand there, or lie before what is kept with nothing unread lost.

use std::sync::atomic::{AtomicBool, Ordering};

use super::writer::Shared;
use crate::{
    core::{
        fence::{LaneRow, LastRecord},
        lane::Lane,
        ledger::{TIMER, Timer},
        record::LaneId,
        sabotage::{Safeguard, lacks},
        table::{Key, Want},
    },
    failpoint::{self, Point},
    store::{Error, Session},
};

/// A lane that was claimed and loaded.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) lane: Lane,
    /// Where reading begins.
    pub(super) read_from: i64,
    /// What must be met there, if anything was read before.
    pub(super) verify: Option<LastRecord>,
    pub(super) next_timer: Option<i64>,
    /// Why nothing may be read. The lane is ours all the same: it takes operators' orders.
    pub(super) halted: Option<String>,
}

/// Why a claim was not made.
#[derive(Debug)]
pub(super) enum Failure {
    /// Try again later.
    Later(String),
    /// An operator must look; the lane is not taken.
    Refused(String),
    /// The process must end.
    Stop(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Stop(text) => Self::Stop(text),
            Error::Retry(text) | Error::Unknown(text) | Error::Rejected(text) => Self::Later(text),
        }
    }
}

/// Rows read at once when a lane is loaded.
const PAGE_ROWS: usize = 1000;

/// Claims a lane. `identity`: the store's. `held`: whether the group gives the lane to us still; a claim that is
/// made after that only disturbs the next owner.
pub(super) async fn claim(
    shared: &Shared,
    lane: &LaneId,
    identity: &str,
    held: &AtomicBool,
) -> Result<Claimed, Failure> {
    let mut session = shared.store.session().await?;
    let (mut low, mut high) = ends(shared, lane).await?;
    let unread = session.peek(lane).await?.is_none_or(|row| is_unread(&row));
    if unread {
        refuse_foreign_store(&mut *session, shared, lane, identity).await?;
    }
    if !held.load(Ordering::SeqCst) {
        return Err(Failure::Later(format!("{lane}: the group has taken it away")));
    }
    failpoint::reach(Point::Claiming);
    let token = shared.chance.token();
    let (row, now) = session.claim(lane, &token, &shared.settings.owner, low).await?;
    failpoint::reach(Point::Claimed);
    if !unread && is_unread(&row) {
        // What we have just seen is gone: the store was made anew in between, or has lost its last commits.
        refuse_foreign_store(&mut *session, shared, lane, identity).await?;
    }
    if row.fence.next_offset > high {
        // The owner before us has gone on while we asked and waited for its row; what lies beyond the end now has
        // been lost.
        (low, high) = ends(shared, lane).await?;
    }
    let (read_from, verify, halted) = match starting_point(&row, low, high) {
        Ok((read_from, verify)) => (read_from, verify, None),
        Err(why) => (row.fence.next_offset, None, Some(why)),
    };
    let read_from = match lacks(Safeguard::StartAtRow) {
        true => committed_offset(shared, &row.lane).await.unwrap_or(low),
        false => read_from,
    };
    let mut lane = Lane::new(row, now, shared.catalog.clone(), shared.limits.clone());
    let next_timer = load_residents(&mut *session, &mut lane).await?;
    failpoint::reach(Point::LaneLoaded);
    Ok(Claimed { lane, read_from, verify, next_timer, halted })
}

/// The oldest offset of the lane's partition and the one after its newest.
async fn ends(shared: &Shared, lane: &LaneId) -> Result<(i64, i64), Failure> {
    let asked = shared.broker.watermarks(lane, shared.settings.metadata_timeout).await;
    asked.map_err(|error| Failure::Later(format!("{lane}: {error}")))
}

/// Reads a lane anew under the claim that it has. Nothing, if it has no row any more.
pub(super) async fn reopen(session: &mut dyn Session, shared: &Shared, lane: &LaneId) -> Result<Option<Lane>, Error> {
    let (mut rows, now) = session.look(std::slice::from_ref(lane)).await?;
    let Some(row) = rows.pop() else { return Ok(None) };
    let mut lane = Lane::new(row, now, shared.catalog.clone(), shared.limits.clone());
    load_residents(session, &mut lane).await?;
    Ok(Some(lane))
}

/// Where the group's offsets say that reading goes on: what a claim must not believe.
async fn committed_offset(shared: &Shared, lane: &LaneId) -> Option<i64> {
    let asked = shared.broker.committed(std::slice::from_ref(lane), shared.settings.metadata_timeout).await;
    asked.ok()?.pop()?.1.map(|(offset, _)| offset)
}

/// Whether a lane has done nothing yet, as far as the store knows.
fn is_unread(row: &LaneRow) -> bool {
    row.fence.batch == 0
}

/// A database may also be made anew under a worker that runs: it is asked again who it is. Such a worker ends, because
/// all that it knows is of the other one, and what it would tell Kafka is that one's id.
async fn refuse_foreign_store(
    session: &mut dyn Session,
    shared: &Shared,
    lane: &LaneId,
    identity: &str,
) -> Result<(), Failure> {
    if lacks(Safeguard::ForeignStore) {
        return Ok(());
    }
    let found = session.identity().await?;
    if found != identity {
        return Err(Failure::Stop(format!("the store was {identity} when the worker started, and is {found} now")));
    }
    let timeout = shared.settings.metadata_timeout;
    let committed = shared.broker.committed(std::slice::from_ref(lane), timeout).await;
    let committed = committed.map_err(|error| Failure::Later(format!("{lane}: {error}")))?;
    let foreign = committed.into_iter().filter_map(|(_, committed)| committed);
    match foreign.map(|(_, metadata)| metadata).find(|metadata| !metadata.is_empty() && metadata != identity) {
        None => Ok(()),
        Some(other) => Err(Failure::Refused(format!(
            "{lane}: this store ({identity}) knows nothing of the lane, but store {other} has read it in this consumer \
             group: connect to that one, or use another kafka.group_id to read the topic from its beginning"
        ))),
    }
}

/// Where reading begins, one record early where possible.
fn starting_point(row: &LaneRow, low: i64, high: i64) -> Result<(i64, Option<LastRecord>), String> {
    let (lane, next) = (&row.lane, row.fence.next_offset);
    if next > high {
        return Err(format!("{lane}: offset {next} is beyond the end {high}: the topic was made anew or truncated"));
    }
    let Some(last) = row.last.clone() else {
        return Ok((next.max(low), None));
    };
    if low > next {
        return Err(format!(
            "{lane}: offset {next} is not kept any more, the oldest is {low}: records were lost unread"
        ));
    }
    if last.offset < low {
        // All that was read has expired and nothing unread has: there is nothing left to compare with.
        return Ok((next, None));
    }
    Ok((last.offset, Some(last)))
}

/// Reads what a lane knows whole, all tables at once: few rows are the rule. Says when its first timer is due.
async fn load_residents(session: &mut dyn Session, lane: &mut Lane) -> Result<Option<i64>, Error> {
    let (tables, prefix) = lane.residents();
    let page = |after: Option<Key>, limit| Want::Scan { prefix: prefix.clone(), after, limit };
    let mut wants: Vec<_> = tables.iter().map(|table| (*table, page(None, PAGE_ROWS))).collect();
    wants.push((&TIMER, page(None, 1)));
    let mut loaded = session.load(&wants).await?;
    let timers = loaded.pop().unwrap_or_default();
    for (table, mut rows) in tables.iter().copied().zip(loaded) {
        let mut whole = rows.len() < PAGE_ROWS;
        while !whole {
            let after = rows.last().map(|row| row[..table.key].to_vec());
            lane.admit(table, rows);
            rows = session.load(&[(table, page(after, PAGE_ROWS))]).await?.pop().unwrap_or_default();
            whole = rows.len() < PAGE_ROWS;
        }
        lane.admit(table, rows);
    }
    Ok(timers.first().and_then(|row| Timer::read(row)).map(|timer| timer.due.0))
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::{
            Arc,
            atomic::{AtomicBool, AtomicI64, Ordering},
        },
        time::Duration,
    };

    use async_trait::async_trait;
    use tokio::sync::mpsc::UnboundedSender;

    use super::{Failure, claim, starting_point};
    use crate::{
        broker::{Broker, Consumer, Event, Producer, Report},
        core::{
            fence::{Fence, LaneCommit, LaneRow, LastRecord, Position},
            record::LaneId,
        },
        memory::MemoryStore,
        store::Store as _,
        worker::testing,
    };

    /// Brokers whose partition is longer each time it is asked for.
    #[derive(Debug)]
    struct Growing(AtomicI64);

    #[async_trait]
    impl Broker for Growing {
        fn join(&self, _: &[String], _: UnboundedSender<Event>) -> anyhow::Result<Box<dyn Consumer>> {
            anyhow::bail!("nobody joins")
        }

        fn producer(&self, _: UnboundedSender<Report>) -> anyhow::Result<Box<dyn Producer>> {
            anyhow::bail!("nobody sends")
        }

        async fn partitions(&self, _: &[String], _: Duration) -> anyhow::Result<BTreeMap<String, Option<i32>>> {
            Ok(BTreeMap::new())
        }

        async fn watermarks(&self, _: &LaneId, _: Duration) -> anyhow::Result<(i64, i64)> {
            Ok((0, self.0.fetch_add(2, Ordering::SeqCst)))
        }

        async fn committed(&self, _: &[LaneId], _: Duration) -> anyhow::Result<Vec<(LaneId, Option<(i64, String)>)>> {
            Ok(Vec::new())
        }

        async fn retention(&self, _: &[String], _: Duration) -> anyhow::Result<BTreeMap<String, Option<Duration>>> {
            Ok(BTreeMap::new())
        }
    }

    #[tokio::test]
    async fn an_owner_that_went_on_while_the_end_was_asked_for_halts_nobody() {
        let store = Arc::new(MemoryStore::new("growing", || 1));
        let lane = LaneId { topic: "stock".to_owned(), partition: 0 };
        let mut session = store.session().await.unwrap();
        let (row, _) = session.claim(&lane, "t", "before", 0).await.unwrap();
        let commit = LaneCommit {
            lane: lane.clone(),
            expected: row.fence,
            next_offset: 9,
            incarnation: 1,
            last: None,
            relayed: Position::default(),
            writes: Arc::default(),
        };
        session.commit(&[commit]).await.unwrap();
        let mut shared = testing::shared(store);
        shared.broker = Arc::new(Growing(AtomicI64::new(7)));
        let claimed = claim(&shared, &lane, "growing", &AtomicBool::new(true)).await.unwrap();
        assert_eq!((claimed.read_from, claimed.halted), (9, None));
        // A topic that ends before it, whenever it is asked, is another one.
        shared.broker = Arc::new(Growing(AtomicI64::new(3)));
        let claimed = claim(&shared, &lane, "growing", &AtomicBool::new(true)).await.unwrap();
        assert!(claimed.halted.unwrap().contains("beyond the end 5"));
    }

    #[tokio::test]
    async fn a_store_that_was_made_anew_under_the_worker_is_not_taken_for_the_one_before() {
        let mut shared = testing::shared(Arc::new(MemoryStore::new("after", || 1)));
        shared.broker = Arc::new(Growing(AtomicI64::new(0)));
        let lane = LaneId { topic: "stock".to_owned(), partition: 0 };
        let refused = claim(&shared, &lane, "before", &AtomicBool::new(true)).await;
        assert!(matches!(refused, Err(Failure::Stop(_))), "{refused:?}");
    }

    fn row(next_offset: i64, last: Option<i64>) -> LaneRow {
        LaneRow {
            lane: LaneId { topic: "stock".to_owned(), partition: 0 },
            fence: Fence { next_offset, epoch: 1, token: "t".to_owned(), batch: 1, timeline: 0 },
            incarnation: 1,
            last: last.map(|offset| LastRecord { offset, timestamp_ms: 0, digest: Vec::new() }),
            relayed: Position::default(),
            owner: "w".to_owned(),
        }
    }

    #[test]
    fn reading_begins_one_record_early_to_compare() {
        assert_eq!(starting_point(&row(10, Some(9)), 0, 20).unwrap().0, 9);
        assert!(starting_point(&row(10, Some(9)), 0, 20).unwrap().1.is_some());
    }

    #[test]
    fn a_lane_that_read_nothing_begins_at_the_oldest_record() {
        assert_eq!(starting_point(&row(0, None), 5, 20), Ok((5, None)));
    }

    #[test]
    fn an_expired_last_record_halts_only_if_unread_ones_went_with_it() {
        assert_eq!(starting_point(&row(10, Some(9)), 10, 10), Ok((10, None)));
        assert!(starting_point(&row(10, Some(9)), 11, 20).unwrap_err().contains("lost unread"));
    }

    #[test]
    fn a_topic_that_ends_before_what_was_read_halts() {
        assert!(starting_point(&row(10, Some(9)), 0, 3).unwrap_err().contains("made anew"));
        // Also if nothing was read of it: it began where an older topic had kept its first record.
        assert!(starting_point(&row(10, None), 0, 3).unwrap_err().contains("made anew"));
    }
}
