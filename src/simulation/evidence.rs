//! What a world leaves behind to be judged: all topics, all tables, every transaction.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    plan::Plan,
    world::{Committed, World},
};
use crate::{
    core::{
        catalog::Catalog,
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
    /// Ids of the operator's orders that the store has taken, since it last went back.
    pub(super) orders: BTreeSet<String>,
    store: MemoryStore,
}

impl Evidence {
    /// As the world stands, which goes on.
    pub(super) fn gather(plan: &Plan, world: &World) -> Self {
        let inner = world.inner();
        let log =
            inner.log.partitions().map(|(lane, partition)| (lane.clone(), partition.records().to_vec())).collect();
        Self::new(plan, world, log, inner.commits.clone(), inner.orders.clone())
    }

    /// Takes it from a world that is over.
    pub(super) fn take(plan: &Plan, world: &World) -> Self {
        let mut inner = world.inner();
        let (commits, orders) = (std::mem::take(&mut inner.commits), std::mem::take(&mut inner.orders));
        Self::new(plan, world, inner.log.take_records(), commits, orders)
    }

    fn new(
        plan: &Plan,
        world: &World,
        log: BTreeMap<LaneId, Vec<Record>>,
        commits: Vec<Committed>,
        orders: BTreeSet<String>,
    ) -> Self {
        let lanes = world.store.lanes().into_iter().map(|row| (row.lane.clone(), row)).collect();
        Self { plan: plan.clone(), log, lanes, commits, orders, store: world.store.clone() }
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

    /// Every partition that holds what was sent for its own sake: the copies of dead letters bear the headers of what
    /// they are copies of.
    pub(super) fn sent(&self) -> impl Iterator<Item = (&LaneId, &Vec<Record>)> {
        let letters: BTreeSet<String> = self.lanes.keys().map(|lane| Catalog::dead_letter_topic(&lane.topic)).collect();
        self.log.iter().filter(move |(lane, _)| !letters.contains(&lane.topic))
    }

    /// The store itself, for what reads through a session.
    #[must_use]
    pub fn store(&self) -> MemoryStore {
        self.store.clone()
    }
}
