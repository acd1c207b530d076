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
        table::{Table, Value},
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
    /// As the world stands, which goes on.
    pub(super) fn gather(plan: &Plan, world: &World) -> Self {
        let inner = world.inner();
        let log =
            inner.log.partitions().map(|(lane, partition)| (lane.clone(), partition.records().to_vec())).collect();
        Self::new(plan, world, log, inner.commits.clone())
    }

    /// Takes it from a world that is over.
    pub(super) fn take(plan: &Plan, world: &World) -> Self {
        let mut inner = world.inner();
        let (log, commits) = (inner.log.take_records(), std::mem::take(&mut inner.commits));
        Self::new(plan, world, log, commits)
    }

    fn new(plan: &Plan, world: &World, log: BTreeMap<LaneId, Vec<Record>>, commits: Vec<Committed>) -> Self {
        let lanes = world.store.lanes().into_iter().map(|row| (row.lane.clone(), row)).collect();
        Self { plan: plan.clone(), log, lanes, commits, store: world.store.clone() }
    }

    /// All rows of a table, in key order, as `read` reads them.
    pub fn rows<T>(&self, table: &Table, read: impl Fn(&[Value]) -> Option<T>) -> Vec<T> {
        let mut rows = Vec::new();
        self.store.find(table, |row| {
            rows.extend(read(row));
            None::<()>
        });
        rows
    }

    /// The store itself, for what reads through a session.
    #[must_use]
    pub fn store(&self) -> MemoryStore {
        self.store.clone()
    }
}
