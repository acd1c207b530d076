//! One lane's batch, from inputs to writes: pure. The order of checks is the order of this folder's
//! verb files: decode, dedupe, reorder, handle.
//!
//! A batch is decided as if all rows were at hand. What was missing is noted, everything is taken back,
//! the rows are loaded and the batch is decided again from the start: handlers never see half a world.
//! Once an entity lacks something, its later events only say what they will need (it is `stalled`), so the
//! number of rounds does not grow with the number of events. If the commit fails the lane is thrown away.

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::{
    batch::{Alarm, Batch, Halt, Outcome},
    catalog::Catalog,
    decode,
    event::{Arrival, Reason},
    fence::{Fence, LaneCommit, LaneRow, LastRecord, Position, Writes},
    handle::Way,
    kind::AnyKind,
    ledger::{HELD, QUARANTINE, Quarantine, WAITING},
    limits::{Limits, MINUTE},
    link::Fork,
    lookup::Lookup,
    marks::Marks,
    message::Message,
    quarantine::GAP,
    record::{LaneId, Record},
    reorder::buffered_bytes,
    sabotage::{Safeguard, lacks},
    saga::Status,
    state::{Address, Needs, RESIDENT, State},
    table::{Key, Row, Table, Value},
};

/// Something for a lane to decide on.
#[derive(Clone, Debug)]
pub enum Input {
    /// A record of its partition.
    Record(Box<Arrival>),
    /// A due row of `timer`; with what the database said if it refuses what that would write.
    Timer(Row, Option<String>),
    /// A row of `command`; likewise.
    Command(Row, Option<String>),
}

impl Input {
    /// Marks an input as one whose writes the database refuses: deciding on it counts as a failure.
    pub fn condemn(&mut self, error: String) {
        match self {
            Self::Record(arrival) => arrival.condemned = Some(error),
            Self::Timer(_, condemned) | Self::Command(_, condemned) => *condemned = Some(error),
        }
    }
}

/// A batch, decided.
#[derive(Debug)]
pub struct Decided {
    /// What is to be written.
    pub commit: LaneCommit,
    /// What the relay sends once that is durable, in order.
    pub messages: Vec<Message>,
    /// Final outcomes of this batch.
    pub tally: BTreeMap<Outcome, u64>,
    /// Dead letters of this batch, by reason.
    pub letters: BTreeMap<Reason, u64>,
    /// What a person should look at.
    pub alarms: Vec<Alarm>,
    /// Sagas that have reached another status, by definition.
    pub sagas: BTreeMap<(&'static str, Status), u64>,
    /// The earliest timer set in this batch, microseconds since the epoch.
    pub next_timer: Option<i64>,
    /// How many of the inputs are in this batch: all, unless the lane halts before one.
    pub taken: usize,
    /// Why the lane may not go on after this batch.
    pub halt: Option<Halt>,
}

/// How a decision went.
#[derive(Debug)]
pub enum Step {
    /// Load these, [`Lane::answer`], and decide on the same inputs again.
    Short(Needs),
    /// Commit this.
    Decided(Box<Decided>),
}

/// The kind of a lane's entities.
struct Kind(Arc<dyn AnyKind>);

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())
    }
}

/// A lane and all that it knows.
#[derive(Debug)]
pub struct Lane {
    pub(super) id: LaneId,
    kind: Kind,
    pub(super) fence: Fence,
    pub(super) incarnation: i64,
    pub(super) catalog: Arc<Catalog>,
    pub(super) limits: Arc<Limits>,
    pub(super) state: State,
    pub(super) batch: Batch,
    /// Marks as they stand in main rows that are known: they need not be read from their text each time.
    pub(super) marks: Lookup<String, Marks>,
    last: Option<LastRecord>,
    relayed: Position,
    /// The database's clock, microseconds since the epoch; never runs backwards.
    pub(super) now: i64,
    /// When entities were quarantined lately, and whether for a gap; the breaker counts the others.
    pub(super) failures: Vec<(i64, bool)>,
    /// Bytes of the held and waiting records.
    pub(super) held_bytes: i64,
    /// Why the database refuses what drains, if it does.
    pub(super) drain_condemned: Option<String>,
    /// The saga that lives with this lane's entities, if one does.
    pub(super) saga_name: Option<&'static str>,
    /// Where the lane halted last, if it was before the fork of a link: an order must name the same.
    pub(super) fork: Option<Fork>,
}

impl Lane {
    /// A lane as it was claimed. Its resident rows are to be admitted next.
    #[must_use]
    pub fn new(row: LaneRow, now: i64, catalog: Arc<Catalog>, limits: Arc<Limits>) -> Self {
        let saga_name = catalog.saga_at(&row.lane.topic).map(|saga| saga.name);
        let kind = catalog.at(&row.lane.topic).expect("a lane is only opened for a home topic");
        Self {
            saga_name,
            kind: Kind(Arc::clone(kind)),
            id: row.lane,
            fence: row.fence,
            incarnation: row.incarnation,
            catalog,
            limits,
            state: State::default(),
            batch: Batch::default(),
            marks: Lookup::default(),
            last: row.last,
            relayed: row.relayed,
            now,
            failures: Vec::new(),
            held_bytes: 0,
            drain_condemned: None,
            fork: None,
        }
    }

    /// The tables to be read whole before the first batch, and the key prefix of this lane's rows.
    #[must_use]
    pub fn residents(&self) -> (&'static [&'static Table], Key) {
        (&RESIDENT, self.key([]))
    }

    /// Takes in resident rows.
    pub fn admit(&mut self, table: &'static Table, rows: Vec<Row>) {
        for row in rows {
            self.held_bytes += buffered_bytes(table, &row);
            if std::ptr::eq(table, &QUARANTINE) {
                // A claim must not make the breaker forget.
                self.failures.extend(Quarantine::read(&row).map(|row| (row.since.0, row.cause == GAP)));
            }
            self.state.admit(Address::new(table, row[..table.key].to_vec()), Some(row));
        }
    }

    /// Which lane.
    #[must_use]
    pub fn id(&self) -> &LaneId {
        &self.id
    }

    /// What the next transaction must find.
    #[must_use]
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Opens a record of this lane's partition.
    #[must_use]
    pub fn open(&self, record: Record) -> Input {
        Input::Record(Box::new(decode::open(&self.catalog, &self.id, record)))
    }

    /// Decides on inputs in their order. `now` in microseconds. `relayed`: how far the broker has acknowledged.
    pub fn decide(&mut self, inputs: &[Input], now: i64, relayed: Position) -> Step {
        self.now = self.now.max(now);
        if inputs.iter().any(|input| matches!(input, Input::Record(_))) {
            self.fork = None;
        }
        self.attempt(inputs, relayed, true)
    }

    fn attempt(&mut self, inputs: &[Input], relayed: Position, drains: bool) -> Step {
        self.begin();
        let halted_at = inputs.iter().position(|input| {
            match input {
                Input::Record(arrival) => self.take(arrival),
                Input::Timer(row, condemned) => self.fire(row, condemned.as_deref()),
                Input::Command(row, condemned) => self.obey(row, condemned.as_deref()),
            }
            self.batch.halt.is_some()
        });
        if halted_at.is_none() && drains {
            self.drain();
        }
        if let Some(halt) = self.batch.halt.take() {
            // The batch ends before the input that must not be taken, or without what drains.
            self.state.roll_back();
            let (taken, drains) = halted_at.map_or((inputs, false), |at| (&inputs[..at], drains));
            let mut step = self.attempt(taken, relayed, drains);
            if let Step::Decided(decided) = &mut step {
                decided.halt = Some(halt);
            }
            return step;
        }
        let marks = self.settle_heads();
        self.settle_links();
        if self.state.is_short() {
            self.state.roll_back();
            return Step::Short(self.state.take_needs());
        }
        marks.into_iter().for_each(|(entity_id, marks)| self.marks.insert(entity_id, marks));
        Step::Decided(Box::new(self.finish(inputs, relayed)))
    }

    /// The database refuses what the draining entity would write: its next drain counts as a failure.
    pub fn condemn_drain(&mut self, error: String) {
        self.drain_condemned = Some(error);
    }

    /// Takes in what was loaded after [`Step::Short`].
    pub fn answer(&mut self, needs: Needs, loaded: Vec<Vec<Row>>) {
        self.state.answer(needs, loaded);
    }

    /// The batch is durable: the next one builds on it.
    pub fn committed(&mut self, decided: &Decided) {
        self.fence.batch += 1;
        self.fence.next_offset = decided.commit.next_offset;
        self.incarnation = decided.commit.incarnation;
        self.last.clone_from(&decided.commit.last);
        self.relayed = decided.commit.relayed;
        self.drain_condemned = None;
        self.state.age(self.limits.cached_rows_max);
        if self.marks.len() >= self.limits.cached_rows_max {
            self.marks.clear();
        }
    }

    /// The lane stands where it stood, with all that it knows: what must not be done.
    pub fn go_back(&mut self, fence: Fence) {
        self.fence = fence;
    }

    /// How far the row in the database says that messages were acknowledged.
    #[must_use]
    pub fn relayed(&self) -> Position {
        self.relayed
    }

    fn begin(&mut self) {
        self.batch = Batch { next_offset: self.fence.next_offset, incarnation: self.incarnation, ..Batch::default() };
    }

    fn finish(&mut self, inputs: &[Input], relayed: Position) -> Decided {
        let batch = std::mem::take(&mut self.batch);
        self.failures.retain(|(at, _)| self.now - at < MINUTE);
        self.failures.extend(batch.quarantined.iter().map(|is_gap| (self.now, *is_gap)));
        self.held_bytes += batch.held_bytes;
        let read = inputs.iter().rev().find_map(|input| match input {
            Input::Record(arrival) if arrival.record.offset >= self.fence.next_offset => Some(&arrival.record),
            Input::Record(_) | Input::Timer(..) | Input::Command(..) => None,
        });
        let last = if batch.reset { None } else { read.map(LastRecord::of).or_else(|| self.last.clone()) };
        Decided {
            commit: LaneCommit {
                lane: self.id.clone(),
                expected: self.fence.clone(),
                next_offset: batch.next_offset,
                incarnation: batch.incarnation,
                last,
                relayed,
                writes: Arc::new(written(self.state.take_writes())),
            },
            messages: batch.messages,
            tally: batch.tally,
            letters: batch.letters,
            alarms: batch.alarms,
            sagas: batch.sagas,
            next_timer: batch.next_timer,
            taken: inputs.len(),
            halt: (batch.reset || batch.accepted).then_some(Halt::Accepted),
        }
    }

    /// Offset, then link, from headers alone; both move whatever becomes of the record.
    fn take(&mut self, arrival: &Arrival) {
        let record = &arrival.record;
        // Of a topic made anew nothing is read before the lane is claimed again.
        if record.offset < self.batch.next_offset || self.batch.reset {
            return;
        }
        self.batch.next_offset = record.offset + 1;
        match &arrival.link {
            None => self.enter(arrival),
            Some(link) => self.take_link(link, arrival),
        }
    }

    /// Into the entity's own checks, or among the dead letters.
    pub(super) fn enter(&mut self, arrival: &Arrival) {
        match &arrival.decoded {
            Ok(event) => self.admit_event(arrival, event, Way::InOrder),
            Err(_) if self.is_from_newer(arrival) => {}
            Err(rejection) => match &rejection.entity_id {
                Some(entity_id) if rejection.reason != Reason::WrongPartition && self.is_unwell(entity_id) => {
                    self.park_record(&arrival.record, entity_id, None, Way::InOrder);
                }
                _ => self.reject(arrival, rejection),
            },
        }
    }

    /// Halts the lane before a message of ours whose type this release does not know.
    pub(super) fn is_from_newer(&mut self, arrival: &Arrival) -> bool {
        let (Some(_), Err(rejection)) = (&arrival.link, &arrival.decoded) else { return false };
        let newer = rejection.reason == Reason::UnknownType;
        if newer {
            self.batch.halt = Some(Halt::Newer(format!("offset {}: {}", arrival.record.offset, rejection.error)));
        }
        newer
    }

    pub(super) fn kind(&self) -> &dyn AnyKind {
        &*self.kind.0
    }

    pub(super) fn count(&mut self, outcome: Outcome) {
        *self.batch.tally.entry(outcome).or_insert(0) += 1;
    }

    /// The lane's own key cells, then `rest`.
    pub(super) fn key(&self, rest: impl IntoIterator<Item = Value>) -> Key {
        let mut key = vec![Value::text(&self.id.topic), Value::Int(self.id.partition.into())];
        key.extend(rest);
        key
    }

    /// The lane's own key cells, kind and entity, then `rest`.
    pub(super) fn entity_key(&self, entity_id: &str, rest: impl IntoIterator<Item = Value>) -> Key {
        let mut key = self.key([Value::text(self.kind().name()), Value::text(entity_id)]);
        key.extend(rest);
        key
    }
}

/// What is written of a batch: all of it.
fn written(mut writes: Writes) -> Writes {
    writes.retain(|(table, _)| {
        let (held, waiting) = (std::ptr::eq(*table, &HELD), std::ptr::eq(*table, &WAITING));
        !(held && lacks(Safeguard::HeldRows) || waiting && lacks(Safeguard::WaitingRows))
    });
    writes
}
