//! The pure core on the memory store: lanes driven by hand, one turn after the other, on a clock that moves
//! only when told to.
//!
//! Messages that a lane sends come back as records of their topic, so sagas run through. A turn may end in a
//! crash, before or after its commit. Nothing here waits, so what is run twice goes the same way twice.

#![allow(dead_code, reason = "each test target uses its own part of it")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use seriatim::{
    core::{
        batch::{Alarm, Halt, Outcome},
        catalog::Catalog,
        event::Reason,
        fence::Position,
        lane::{Decided, Input, Lane, Step},
        ledger::{COMMAND, Command, KEPT_FOR_A_TIME, TIMER, Timer},
        limits::Limits,
        message::Message,
        partition::partition_of,
        record::{LaneId, Record},
        rows::Micros,
        table::{Row, Table, Value, Want},
    },
    memory::MemoryStore,
    store::{Committed, Forgotten, Kept, Session, Store},
};
use tokio::runtime::{Builder, Runtime};

/// Where the clock begins: 2026-01-01T00:00:00Z.
pub const BEGIN: i64 = 1_767_225_600_000_000;
/// One minute of the clock.
pub const MINUTE: i64 = 60_000_000;
/// A world that has not come to rest after so many turns never will.
const TURNS_MAX: usize = 20_000;

/// Where a turn breaks off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// All is decided, nothing is written.
    BeforeCommit,
    /// All is written; the lane forgets what it knew.
    AfterCommit,
}

/// What a turn has done.
#[derive(Debug)]
pub struct Turn {
    pub decided: Decided,
    pub rounds: usize,
    pub statements: u64,
}

/// All that came of the world so far.
#[derive(Debug, Default)]
pub struct Told {
    pub tally: BTreeMap<Outcome, u64>,
    pub letters: BTreeMap<Reason, u64>,
    pub alarms: Vec<Alarm>,
    pub sent: Vec<Message>,
    pub halts: BTreeMap<LaneId, Halt>,
    pub rounds_max: usize,
}

/// Lanes, their topics, their store, their clock.
pub struct World {
    pub catalog: Arc<Catalog>,
    pub limits: Arc<Limits>,
    pub logs: BTreeMap<LaneId, Vec<Record>>,
    pub told: Told,
    /// Records that one turn takes at most.
    pub batch_max: usize,
    clock: Arc<AtomicI64>,
    lanes: BTreeMap<LaneId, Lane>,
    pub store: MemoryStore,
    session: Box<dyn Session>,
    runtime: Runtime,
    claims: u64,
    orders: u64,
    ordered: Row,
    /// Lanes that are run; every lane of a home topic.
    homes: BTreeSet<LaneId>,
}

/// Bounds small enough to reach.
pub fn limits() -> Limits {
    let minutes = |count: u64| Duration::from_secs(60 * count);
    Limits {
        group: "test".to_owned(),
        held_per_entity_max: 100,
        held_per_lane_max: 1000,
        held_bytes_per_lane_max: 1 << 20,
        ahead_max: 1000,
        gap_deadline: minutes(5),
        waiting_deadline: minutes(5),
        waiting_per_lane_max: 100,
        dedupe_window: minutes(60 * 24),
        journal_kept: minutes(60 * 24 * 4),
        command_log_kept: minutes(60 * 24),
        saga_kept: minutes(60 * 24),
        letter_kept: minutes(60 * 24),
        digests_kept: 8,
        failures_max: 10,
        drain_max: 10,
        message_bytes_max: 100_000,
        cached_rows_max: 10_000,
    }
}

impl World {
    /// A world with this many partitions in every topic.
    pub fn new(catalog: Catalog, limits: Limits, partitions: i32) -> Self {
        let counts = catalog.all_topics().map(|topic| (topic, partitions)).collect();
        let catalog = Arc::new(catalog.with_partitions(counts));
        let clock = Arc::new(AtomicI64::new(BEGIN));
        let read = Arc::clone(&clock);
        let store = MemoryStore::new("world", move || read.load(Ordering::Relaxed));
        let runtime = Builder::new_current_thread().build().expect("a runtime without a driver");
        let session = runtime.block_on(store.session()).expect("memory opens");
        let homes = catalog.home_topics().flat_map(|topic| {
            (0..partitions).map(|partition| LaneId { topic: topic.to_owned(), partition }).collect::<Vec<_>>()
        });
        let homes = homes.collect();
        Self {
            catalog,
            limits: Arc::new(limits),
            logs: BTreeMap::new(),
            told: Told::default(),
            batch_max: 1000,
            clock,
            lanes: BTreeMap::new(),
            store,
            session,
            runtime,
            claims: 0,
            orders: 0,
            ordered: Row::new(),
            homes,
        }
    }

    /// Microseconds since the epoch.
    pub fn now(&self) -> i64 {
        self.clock.load(Ordering::Relaxed)
    }

    /// Lets time pass.
    pub fn pass_time(&mut self, micros: i64) {
        self.clock.fetch_add(micros, Ordering::Relaxed);
    }

    /// Appends a record to its topic; its offset is set.
    pub fn append(&mut self, topic: &str, mut record: Record) -> (LaneId, i64) {
        let count = self.catalog.partitions_of(topic).expect("a declared topic");
        let partition = partition_of(record.key.as_deref().unwrap_or_default(), count);
        let lane = LaneId { topic: topic.to_owned(), partition };
        let log = self.logs.entry(lane.clone()).or_default();
        record.offset = i64::try_from(log.len()).unwrap();
        let offset = record.offset;
        log.push(record);
        (lane, offset)
    }

    /// Forgets all that lanes know: they are claimed again.
    pub fn restart(&mut self) {
        self.lanes.clear();
        self.told.halts.clear();
    }

    /// Lets halted lanes go on.
    pub fn resume(&mut self) {
        self.told.halts.clear();
    }

    /// Reads rows whose key begins so.
    pub fn rows(&mut self, table: &'static Table, prefix: Vec<Value>) -> Vec<Row> {
        let want = Want::Scan { prefix, after: None, limit: usize::MAX };
        self.load(&[(table, want)]).pop().expect("one answer a want")
    }

    fn load(&mut self, wants: &[(&'static Table, Want)]) -> Vec<Vec<Row>> {
        self.runtime.block_on(self.session.load(wants)).expect("memory answers")
    }

    /// Orders something of a lane.
    pub fn order(&mut self, lane: &LaneId, action: &str, entity_id: Option<&str>, argument: &str) {
        self.orders += 1;
        let command = Command {
            topic: lane.topic.clone(),
            partition: lane.partition.into(),
            id: format!("order-{}", self.orders),
            action: action.to_owned(),
            kind: None,
            entity_id: entity_id.map(str::to_owned),
            argument: argument.to_owned(),
            actor: "tester".to_owned(),
            reason: Some("as the story says".to_owned()),
            ordered_at: Micros(self.now()),
        };
        self.ordered = command.into_row();
        self.order_again();
    }

    /// Sends the last order again, as somebody does who has got no answer.
    pub fn order_again(&mut self) {
        self.runtime.block_on(self.session.order(self.ordered.clone())).expect("memory takes orders");
    }

    /// The lane, claimed if it is not held.
    pub fn lane(&mut self, id: &LaneId) -> &mut Lane {
        if !self.lanes.contains_key(id) {
            let lane = self.claim(id);
            self.lanes.insert(id.clone(), lane);
        }
        self.lanes.get_mut(id).expect("claimed above")
    }

    /// Claims a lane anew: whoever held it is fenced off.
    pub fn claim(&mut self, id: &LaneId) -> Lane {
        self.claims += 1;
        let token = format!("token-{}", self.claims);
        let (row, now) = self.runtime.block_on(self.session.claim(id, &token, "world", 0)).expect("memory claims");
        let mut lane = Lane::new(row, now, Arc::clone(&self.catalog), Arc::clone(&self.limits));
        let (tables, prefix) = lane.residents();
        for table in tables {
            let rows = self.rows(table, prefix.clone());
            lane.admit(table, rows);
        }
        lane
    }

    /// What a lane has to do now.
    pub fn gather(&mut self, id: &LaneId) -> Vec<Input> {
        let prefix = vec![Value::text(&id.topic), Value::Int(id.partition.into())];
        let (now, batch_max) = (self.now(), self.batch_max);
        let mut inputs = Vec::new();
        if !self.told.halts.contains_key(id) {
            let next = usize::try_from(self.lane(id).fence().next_offset).unwrap();
            let log = self.logs.get(id).map(Vec::as_slice).unwrap_or_default();
            let unread = log.get(next..).unwrap_or_default();
            let records: Vec<Record> = unread.iter().take(batch_max).cloned().collect();
            let at_end = records.is_empty();
            inputs.extend(records.into_iter().map(|record| self.lane(id).open(record)));
            if at_end {
                let timers = self.rows(&TIMER, prefix.clone());
                let due = timers.into_iter().filter(|row| Timer::read(row).is_some_and(|timer| timer.due.0 <= now));
                inputs.extend(due.take(batch_max).map(|row| Input::Timer(row, None)));
            }
        }
        inputs.extend(self.rows(&COMMAND, prefix).into_iter().map(|row| Input::Command(row, None)));
        inputs
    }

    /// Decides on inputs, loading what is lacking. Also says in how many rounds.
    pub fn decide(&mut self, id: &LaneId, inputs: &[Input]) -> (Decided, usize) {
        let now = self.now();
        for round in 1..=64 {
            let lane = self.lane(id);
            // All that was committed before is a record now.
            let relayed = Position { batch: lane.fence().batch, index: i64::MAX };
            match lane.decide(inputs, now, relayed) {
                Step::Decided(decided) => return (*decided, round),
                Step::Short(needs) => {
                    let loaded = self.load(&needs.wants());
                    self.lane(id).answer(needs, loaded);
                }
            }
        }
        panic!("{id}: a batch of {} inputs does not settle", inputs.len());
    }

    /// One turn of a lane on given inputs.
    pub fn turn(&mut self, id: &LaneId, inputs: &[Input], crash: Option<Crash>) -> Turn {
        let before = self.session.statements();
        let (decided, rounds) = self.decide(id, inputs);
        self.told.rounds_max = self.told.rounds_max.max(rounds);
        if crash == Some(Crash::BeforeCommit) {
            self.lanes.remove(id);
            return Turn { decided, rounds, statements: self.session.statements() - before };
        }
        let commit = std::slice::from_ref(&decided.commit);
        match self.runtime.block_on(self.session.commit(commit)) {
            Ok(Committed::All { .. }) => {}
            other => panic!("{id}: the batch is not taken: {other:?}"),
        }
        let statements = self.session.statements() - before;
        self.tell(id, &decided);
        self.lane(id).committed(&decided);
        if crash == Some(Crash::AfterCommit) || decided.halt == Some(Halt::Accepted) {
            self.lanes.remove(id);
        }
        for message in &decided.messages {
            self.relay(message);
        }
        Turn { decided, rounds, statements }
    }

    fn tell(&mut self, id: &LaneId, decided: &Decided) {
        for (outcome, count) in &decided.tally {
            *self.told.tally.entry(*outcome).or_insert(0) += count;
        }
        for (reason, count) in &decided.letters {
            *self.told.letters.entry(*reason).or_insert(0) += count;
        }
        self.told.alarms.extend(decided.alarms.iter().cloned());
        self.told.sent.extend(decided.messages.iter().cloned());
        if let Some(halt) = decided.halt.clone().filter(|halt| *halt != Halt::Accepted) {
            self.told.halts.insert(id.clone(), halt);
        }
    }

    /// Forgets what is old and trims the outbox, as a worker does. Every message has been acknowledged here.
    pub fn forget(&mut self) {
        for (table, _) in KEPT_FOR_A_TIME {
            let since = self.now() - self.limits.kept(table);
            let kept = Kept { since, range: MINUTE, rows_max: 500, lock_wait: Duration::ZERO };
            while self.runtime.block_on(self.session.forget(table, &kept)) == Ok(Forgotten::Part) {}
        }
        while self.runtime.block_on(self.session.trim_outbox(500)) == Ok(500) {}
    }

    /// The broker takes a message: it is a record now.
    pub fn relay(&mut self, message: &Message) {
        let log = self.logs.entry(message.to.clone()).or_default();
        log.push(Record {
            offset: i64::try_from(log.len()).unwrap(),
            timestamp_ms: message.timestamp_ms.unwrap_or_else(|| self.clock.load(Ordering::Relaxed) / 1000),
            key: message.key.clone(),
            value: message.value.clone(),
            headers: message.headers.clone(),
        });
    }

    /// Lets every lane do what it has to do, until none has anything.
    pub fn run(&mut self) {
        for _ in 0..TURNS_MAX {
            let mut did = false;
            for id in self.homes.clone() {
                let inputs = self.gather(&id);
                let drains = self.lane(&id).is_draining() && !self.told.halts.contains_key(&id);
                if !inputs.is_empty() || drains {
                    self.turn(&id, &inputs, None);
                    did |= !inputs.iter().all(|input| matches!(input, Input::Command(..))) || drains;
                    did |= inputs.len() == 1;
                }
            }
            if !did {
                return;
            }
        }
        panic!("the world does not come to rest");
    }
}
