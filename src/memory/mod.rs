//! The store for simulation: everything in memory.
//!
//! It keeps the promises of the databases about existence, versions and fences, each call being one
//! transaction under one mutex. It has no checks and no foreign keys. Time comes from a function, so that
//! a simulation can drive it.

mod rows;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use self::rows::Tables;
use crate::{
    core::{
        fence::{Fence, LaneCommit, LaneRow, Position},
        ledger,
        record::LaneId,
        sabotage::{Safeguard, lacks},
        table::{Row, Table, Value, Want},
    },
    store::{
        Committed, Error, Forgotten, Kept, Replicated, Session, Standby, Store,
        merge::{self, TableWrites},
    },
};

/// A store in memory. Clones share it.
#[derive(Clone)]
pub struct MemoryStore {
    clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    data: Arc<Mutex<Data>>,
}

/// All that is kept.
#[derive(Clone, Debug)]
struct Data {
    identity: Arc<str>,
    timeline: i64,
    /// Commits on this timeline and those before it.
    commits: i64,
    /// How many of them the standby has; none if there is no standby.
    flushed: Option<i64>,
    lanes: Arc<BTreeMap<LaneId, LaneRow>>,
    topics: BTreeMap<String, i32>,
    tables: Tables,
}

impl Data {
    fn new(identity: &str) -> Self {
        Self {
            identity: identity.into(),
            timeline: 1,
            commits: 0,
            flushed: None,
            lanes: Arc::default(),
            topics: BTreeMap::new(),
            tables: Tables::default(),
        }
    }

    /// What it says of its timeline: without one it is up to the token and the batch to tell that commits were lost.
    fn timeline(&self) -> i64 {
        if lacks(Safeguard::FenceToken) || lacks(Safeguard::FenceBatch) { 0 } else { self.timeline }
    }

    /// A lane's row as it is read on the timeline of now.
    fn lane(&self, lane: &LaneId) -> Option<LaneRow> {
        let row = self.lanes.get(lane)?;
        Some(LaneRow { fence: Fence { timeline: self.timeline(), ..row.fence.clone() }, ..row.clone() })
    }
}

/// An earlier state of a [`MemoryStore`].
#[derive(Clone, Debug)]
pub struct Snapshot(Data);

impl Snapshot {
    /// The row that a lane had.
    #[must_use]
    pub fn lane(&self, lane: &LaneId) -> Option<&LaneRow> {
        self.0.lanes.get(lane)
    }
}

impl MemoryStore {
    /// An empty store with this identity; `clock` tells microseconds since the epoch.
    pub fn new(identity: &str, clock: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self { clock: Arc::new(clock), data: Arc::new(Mutex::new(Data::new(identity))) }
    }

    /// Everything is gone, and another store stands in its place.
    pub fn wipe(&self, identity: &str) {
        *self.data() = Data::new(identity);
    }

    /// All that is kept now, to go back to with [`MemoryStore::restore`].
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.data().clone())
    }

    /// Goes back to an earlier state, as a standby does that is promoted without the last commits. A new timeline
    /// begins.
    pub fn restore(&self, earlier: Snapshot) {
        let mut data = self.data();
        *data = Data { timeline: data.timeline + 1, flushed: None, ..earlier.0 };
    }

    /// The standby has all that is committed now; or it is gone.
    pub fn replicate(&self, connected: bool) {
        let mut data = self.data();
        data.flushed = connected.then_some(data.commits);
    }

    /// The rows of the lanes, in their order.
    #[must_use]
    pub fn lanes(&self) -> Vec<LaneRow> {
        self.data().lanes.values().cloned().collect()
    }

    /// All rows of a table, in key order.
    #[must_use]
    pub fn rows(&self, table: &Table) -> Vec<Row> {
        self.data().tables.all(table)
    }

    /// The first row of a table, in key order, that `find` finds something in.
    pub(crate) fn find<T>(&self, table: &Table, find: impl FnMut(&[Value]) -> Option<T>) -> Option<T> {
        self.data().tables.find(table, find)
    }

    fn data(&self) -> MutexGuard<'_, Data> {
        // No call leaves half a change behind, so what a panicking holder left is whole.
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("identity", &self.data().identity).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn session(&self) -> Result<Box<dyn Session>, Error> {
        Ok(Box::new(MemorySession { store: self.clone(), statements: 0 }))
    }
}

#[derive(Debug)]
struct MemorySession {
    store: MemoryStore,
    statements: u64,
}

/// Whether a lane's row is what its owner remembers.
fn matches(row: &Fence, expected: &Fence) -> bool {
    let same = |lacking| lacks(Safeguard::Fence) || lacks(lacking);
    let older = lacks(Safeguard::FenceEquality) && row.batch <= expected.batch && row.epoch <= expected.epoch;
    let batch = row.batch == expected.batch || same(Safeguard::FenceBatch);
    let token = row.token == expected.token || same(Safeguard::FenceToken);
    let timeline = row.timeline == expected.timeline || same(Safeguard::Timeline);
    let rest = (row.next_offset, row.epoch) == (expected.next_offset, expected.epoch) || lacks(Safeguard::Fence);
    older || (batch && token && timeline && rest)
}

#[async_trait]
impl Session for MemorySession {
    async fn identity(&mut self) -> Result<String, Error> {
        self.statements += 1;
        Ok(self.store.data().identity.to_string())
    }

    async fn partitions(&mut self, counts: &BTreeMap<String, i32>) -> Result<BTreeMap<String, i32>, Error> {
        self.statements += 2;
        let topics = &mut self.store.data().topics;
        let register = |(name, count): (&String, &i32)| (name.clone(), *topics.entry(name.clone()).or_insert(*count));
        Ok(counts.iter().map(register).collect())
    }

    async fn claim(&mut self, lane: &LaneId, token: &str, owner: &str, start: i64) -> Result<(LaneRow, i64), Error> {
        self.statements += 4;
        let mut data = self.store.data();
        let timeline = data.timeline();
        let row = Arc::make_mut(&mut data.lanes).entry(lane.clone()).or_insert_with(|| LaneRow {
            lane: lane.clone(),
            fence: Fence { next_offset: start, epoch: 0, token: String::new(), batch: 0, timeline: 0 },
            incarnation: 1,
            last: None,
            relayed: Position::default(),
            owner: String::new(),
        });
        row.fence.epoch += 1;
        row.fence.timeline = timeline;
        token.clone_into(&mut row.fence.token);
        owner.clone_into(&mut row.owner);
        Ok((row.clone(), (self.store.clock)()))
    }

    async fn peek(&mut self, lane: &LaneId) -> Result<Option<LaneRow>, Error> {
        self.statements += 1;
        Ok(self.store.data().lane(lane))
    }

    async fn load(&mut self, wants: &[(&'static Table, Want)]) -> Result<Vec<Vec<Row>>, Error> {
        self.statements += wants.len() as u64;
        let data = self.store.data();
        wants.iter().map(|(table, want)| data.tables.load(table, want)).collect()
    }

    async fn commit(&mut self, lanes: &[LaneCommit]) -> Result<Committed, Error> {
        let sorted = merge::in_lock_order(lanes)?;
        let tables = merge::merge(lanes)?.tables;
        self.statements += 4 + tables.len() as u64;
        let mut data = self.store.data();
        let whole =
            |commit: &LaneCommit| data.lane(&commit.lane).is_some_and(|row| matches(&row.fence, &commit.expected));
        let fenced: Vec<_> = sorted.iter().filter(|commit| !whole(commit)).map(|commit| commit.lane.clone()).collect();
        if !fenced.is_empty() {
            return Ok(Committed::Fenced(fenced));
        }
        // All checks come before the first change: what is refused leaves nothing behind.
        for writes in &tables {
            data.tables.check(writes)?;
        }
        for writes in &tables {
            data.tables.apply(writes);
        }
        if lacks(Safeguard::OneTransaction) && self.statements.is_multiple_of(5) {
            return Err(Error::Retry("the second transaction has failed".to_owned()));
        }
        data.commits += 1;
        let rows = Arc::make_mut(&mut data.lanes);
        for commit in sorted {
            if let Some(row) = rows.get_mut(&commit.lane) {
                row.fence.batch += 1;
                row.fence.next_offset = commit.next_offset;
                row.incarnation = commit.incarnation;
                row.last.clone_from(&commit.last);
                row.relayed = commit.relayed;
            }
        }
        Ok(Committed::All { now: (self.store.clock)() })
    }

    async fn look(&mut self, lanes: &[LaneId]) -> Result<(Vec<LaneRow>, i64), Error> {
        self.statements += 2;
        let data = self.store.data();
        let mut wanted: Vec<_> = lanes.iter().collect();
        wanted.sort();
        let found = wanted.into_iter().filter_map(|lane| data.lane(lane)).collect();
        Ok((found, (self.store.clock)()))
    }

    async fn order(&mut self, command: Row) -> Result<(), Error> {
        self.statements += 1;
        let row = merge::check_row(&ledger::COMMAND, &command)?;
        let writes = TableWrites { table: &ledger::COMMAND, inserts: vec![row], updates: vec![], deletes: vec![] };
        let mut data = self.store.data();
        // An order whose id is there already is the same order, sent again.
        if data.tables.check(&writes).is_ok() {
            data.tables.apply(&writes);
        }
        Ok(())
    }

    async fn trim_outbox(&mut self, rows_max: i64) -> Result<u64, Error> {
        self.statements += 1;
        let mut data = self.store.data();
        let data = &mut *data;
        Ok(data.tables.trim_outbox(&data.lanes, &data.topics, usize::try_from(rows_max).unwrap_or(0)))
    }

    async fn forget(&mut self, table: &'static Table, kept: &Kept) -> Result<Forgotten, Error> {
        self.statements += 1;
        let gone = self.store.data().tables.forget(table, kept);
        let full = i64::try_from(gone).is_ok_and(|gone| gone >= kept.rows_max);
        Ok(if full { Forgotten::Part } else { Forgotten::All })
    }

    async fn replicated(&mut self, _standby: &Standby) -> Result<Replicated, Error> {
        self.statements += 1;
        let data = self.store.data();
        Ok(Replicated { committed: data.commits, flushed: data.flushed, waits_for: "a simulated standby".to_owned() })
    }

    fn timeline(&self) -> i64 {
        self.store.data().timeline()
    }

    fn statements(&self) -> u64 {
        self.statements
    }
}
