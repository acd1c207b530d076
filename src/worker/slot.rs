//! A lane in the hands of its writer: what has come in for it, and what it waits for.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::ahead::Ahead;
use crate::{
    broker::Inbox,
    core::{
        backlog::Backlog,
        fence::{LastRecord, Position},
        lane::{Input, Lane},
        ledger::Timer,
        record::Record,
    },
};

/// What others may know of a lane that is open: shared between its writer, the relay and the router.
#[derive(Debug, Default)]
pub struct Shown {
    next_offset: AtomicI64,
    relayed: Mutex<Position>,
    backlog: Mutex<Backlog>,
    halted: Mutex<Option<String>>,
}

impl Shown {
    /// The next offset that the lane will read, as committed.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.next_offset.load(Ordering::Relaxed)
    }

    /// How far the broker has acknowledged the lane's messages.
    #[must_use]
    pub fn relayed(&self) -> Position {
        *self.relayed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets how far the broker has acknowledged.
    pub fn set_relayed(&self, position: Position) {
        *self.relayed.lock().unwrap_or_else(PoisonError::into_inner) = position;
    }

    /// What the lane keeps for later.
    #[must_use]
    pub fn backlog(&self) -> Backlog {
        *self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the lane does not go on, if it does not.
    #[must_use]
    pub fn halted(&self) -> Option<String> {
        self.halted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_halted(&self, why: Option<String>) {
        *self.halted.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    pub(super) fn show(&self, lane: &Lane) {
        self.next_offset.store(lane.fence().next_offset, Ordering::Relaxed);
        *self.backlog.lock().unwrap_or_else(PoisonError::into_inner) = lane.backlog();
    }
}

/// Why a lane reads nothing for now.
#[derive(Debug)]
pub(super) struct Rest {
    /// When it may try again; never, for what only an operator can settle.
    pub(super) until: Option<Instant>,
    /// How long the next rest will be.
    pub(super) next: Duration,
}

/// The end that a partition had when it was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// The database's clock then.
    pub(super) asked_at: i64,
    /// The offset after the newest record.
    pub(super) offset: i64,
}

/// A lane in the hands of its writer.
#[derive(Debug)]
pub struct Slot {
    /// Which claim this is of: what is told of an earlier one does not count.
    pub(super) opening: u64,
    pub(super) lane: Lane,
    pub(super) inbox: Arc<Inbox>,
    pub(super) shown: Arc<Shown>,
    /// The record that the lane read last, to be met first: tells whether the topic is still the same.
    pub(super) verify: Option<LastRecord>,
    /// Records taken from the inbox and not yet decided.
    pub(super) pending: VecDeque<Input>,
    /// The next batch, decided while the last one was being committed.
    pub(super) ahead: Option<Ahead>,
    /// The earliest due timer, microseconds since the epoch.
    pub(super) next_timer: Option<i64>,
    pub(super) end: Option<End>,
    /// The end is being asked for.
    pub(super) asking_end: bool,
    /// The brokers did not tell the end: not before this are they asked again.
    pub(super) ask_end_after: Option<Instant>,
    pub(super) rest: Option<Rest>,
    /// When its row was last seen under lock.
    pub(super) looked: Instant,
}

impl Slot {
    /// A lane as it was claimed and loaded.
    #[must_use]
    pub fn new(
        opening: u64,
        lane: Lane,
        inbox: Arc<Inbox>,
        verify: Option<LastRecord>,
        next_timer: Option<i64>,
    ) -> Self {
        let shown = Arc::new(Shown::default());
        shown.set_relayed(lane.relayed());
        shown.show(&lane);
        Self {
            opening,
            lane,
            inbox,
            shown,
            verify,
            pending: VecDeque::new(),
            ahead: None,
            next_timer,
            end: None,
            asking_end: false,
            ask_end_after: None,
            rest: None,
            looked: Instant::now(),
        }
    }

    /// Moves records from the inbox to the inputs that wait. An error: the topic is not the same.
    pub(super) fn take_in(&mut self, records_max: usize, bytes_max: usize) -> Result<(), String> {
        let room = records_max.saturating_sub(self.pending.len());
        if room == 0 || self.is_resting() {
            return Ok(());
        }
        for record in self.inbox.take(room, bytes_max) {
            if let Some(last) = self.verify.take() {
                self.check_same(&last, &record)?;
            }
            if record.offset >= self.lane.fence().next_offset {
                let input = self.lane.open(record);
                self.pending.push_back(input);
            }
        }
        Ok(())
    }

    /// The first of the records that were taken in.
    pub(super) fn next_records(&mut self, records_max: usize) -> impl Iterator<Item = Input> {
        self.pending.drain(..self.pending.len().min(records_max))
    }

    /// Takes back inputs that were not decided, in the order of their offsets. Orders are read again from their
    /// table, and so are timers, if the slot knows that one is due.
    pub(super) fn put_back(&mut self, inputs: impl IntoIterator<Item = Input>) {
        for input in inputs {
            match input {
                Input::Record(_) => self.pending.push_back(input),
                Input::Timer(row, _) => {
                    let due = Timer::read(&row).map(|timer| timer.due.0);
                    self.next_timer = self.next_timer.into_iter().chain(due).min();
                }
                Input::Command(..) => {}
            }
        }
        // A record that comes before an earlier one would move the offset past it.
        self.pending.make_contiguous().sort_by_key(|input| match input {
            Input::Record(arrival) => arrival.record.offset,
            Input::Timer(..) | Input::Command(..) => i64::MAX,
        });
    }

    /// Whether records wait for it.
    pub(super) fn has_records(&self) -> bool {
        let nothing = self.ahead.is_none() && self.pending.is_empty() && self.inbox.is_empty();
        !nothing && !self.is_resting()
    }

    fn check_same(&self, last: &LastRecord, record: &Record) -> Result<(), String> {
        if LastRecord::of(record) == *last {
            return Ok(());
        }
        Err(format!(
            "{}: the record at offset {} is not the one that was read there: the topic was made anew or truncated; \
             `seriatim lane accept` reads it from its beginning",
            self.lane.id(),
            last.offset
        ))
    }

    /// Whether it reads nothing for now.
    pub(super) fn is_resting(&self) -> bool {
        self.rest.as_ref().is_some_and(|rest| rest.until.is_none_or(|until| Instant::now() < until))
    }

    /// Whether all records are read that were in the partition when a timer came due.
    pub(super) fn has_read_up_to(&self, end: End) -> bool {
        let next = self.lane.fence().next_offset;
        next >= end.offset || (self.inbox.is_taken_up_to(end.offset) && self.pending.is_empty())
    }

    /// Lets the lane rest, each time longer, until it has gone on once.
    pub(super) fn halt(&mut self, why: String, pause: Option<Duration>) {
        let pause = pause.map(|pause| self.rest.as_ref().map_or(pause, |rest| rest.next));
        let until = pause.map(|pause| Instant::now() + pause);
        let next = pause.unwrap_or_default().saturating_mul(2).min(REST_MAX);
        self.rest = Some(Rest { until, next });
        self.shown.set_halted(Some(why));
    }

    /// The lane has gone on.
    pub(super) fn resume(&mut self) {
        if self.rest.take().is_some() {
            self.shown.set_halted(None);
        }
    }
}

/// A halted lane tries again at least this often.
const REST_MAX: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Notify;

    use super::Slot;
    use crate::{
        broker::Inbox,
        core::{
            fence::{Fence, LaneRow, Position},
            lane::{Input, Lane},
            ledger::Timer,
            record::{LaneId, Record},
            rows::Micros,
        },
        memory::MemoryStore,
        worker::testing,
    };

    fn slot() -> Slot {
        let shared = testing::shared(Arc::new(MemoryStore::new("slot", || 1)));
        let row = LaneRow {
            lane: LaneId { topic: "activity".to_owned(), partition: 0 },
            fence: Fence { next_offset: 0, epoch: 1, token: "t".to_owned(), batch: 0, timeline: 0 },
            incarnation: 1,
            last: None,
            relayed: Position::default(),
            owner: "w".to_owned(),
        };
        let lane = Lane::new(row, 1, Arc::clone(&shared.catalog), Arc::clone(&shared.limits));
        Slot::new(1, lane, Inbox::new(10, 1000, Arc::new(Notify::new())), None, None)
    }

    fn record(slot: &Slot, offset: i64) -> Input {
        slot.lane.open(Record { offset, timestamp_ms: 0, key: None, value: None, headers: Default::default() })
    }

    fn timer(due: i64) -> Input {
        let row = Timer {
            topic: "activity".to_owned(),
            partition: 0,
            due: Micros(due),
            purpose: "gap".to_owned(),
            kind: "counter".to_owned(),
            entity_id: "e".to_owned(),
            name: "n".to_owned(),
            time: Micros(due),
        };
        Input::Timer(row.into_row(), None)
    }

    #[test]
    fn what_is_put_back_stands_in_the_order_of_offsets_whoever_comes_first() {
        let mut slot = slot();
        slot.pending.push_back(record(&slot, 9));
        // A piece of a batch was taken in part and its rest put back; then the later pieces come.
        slot.put_back([record(&slot, 3), record(&slot, 4)]);
        slot.put_back([record(&slot, 5), record(&slot, 6)]);
        let offsets = slot.pending.iter().map(|input| match input {
            Input::Record(arrival) => arrival.record.offset,
            Input::Timer(..) | Input::Command(..) => -1,
        });
        assert_eq!(offsets.collect::<Vec<_>>(), [3, 4, 5, 6, 9]);
    }

    #[test]
    fn a_timer_that_is_put_back_is_due_still() {
        let mut slot = slot();
        slot.next_timer = Some(70);
        slot.put_back([timer(50), timer(60)]);
        assert_eq!((slot.next_timer, slot.pending.len()), (Some(50), 0));
    }
}
