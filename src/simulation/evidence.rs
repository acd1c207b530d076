//! What a world leaves behind to be judged: all topics, all tables, every transaction.

use std::collections::BTreeMap;

use super::{
    plan::Plan,
    world::{Committed, World},
};
use crate::{
    core::{
        fence::LaneRow,
        record::{LaneId, Record},
        table::{Row, Table},
    },
    memory::MemoryStore,
};

/// What is left of a world at rest.
#[derive(Debug)]
pub struct Evidence {
    /// The world that was.
    pub plan: Plan,
    /// Every record of every partition, in order.
    pub log: BTreeMap<LaneId, Vec<Record>>,
    /// The lanes' rows.
    pub lanes: BTreeMap<LaneId, LaneRow>,
    /// Every transaction that the store has kept, a lane at a time.
    pub(super) commits: Vec<Committed>,
    store: MemoryStore,
}

impl Evidence {
    pub(super) fn gather(plan: &Plan, world: &World) -> Self {
        let lanes = world.store.lanes().into_iter().map(|row| (row.lane.clone(), row)).collect();
        let inner = world.inner();
        let log = inner.log.partitions().map(|(lane, partition)| (lane.clone(), partition.records().to_vec()));
        let plan = plan.clone();
        Self { plan, log: log.collect(), lanes, commits: inner.commits.clone(), store: world.store.clone() }
    }

    /// All rows of a table, in key order, as `read` reads them.
    pub fn rows<T>(&self, table: &Table, read: impl Fn(&Row) -> Option<T>) -> Vec<T> {
        self.store.rows(table).iter().filter_map(read).collect()
    }

    /// The store itself, for what reads through a session.
    #[must_use]
    pub fn store(&self) -> MemoryStore {
        self.store.clone()
    }
}

/// A header's value as text; none if it is not there.
#[must_use]
pub fn header<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    std::str::from_utf8(record.headers.get(name)?).ok()
}
