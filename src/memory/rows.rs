//! Tables as ordered maps from key to row: the same answers as the databases', in the same order.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use crate::{
    core::{
        fence::LaneRow,
        ledger,
        record::LaneId,
        sabotage::{Safeguard, lacks},
        table::{Key, Row, Table, Value, Want},
    },
    store::{
        Error, Kept,
        merge::{self, TableWrites},
    },
};

/// How many rows are looked at for each that may be deleted from the outbox, as in the other stores.
const LOOKED_AT_PER_TRIMMED: usize = 16;

/// Keys and rows are shared with the snapshots that were taken of them.
type Rows = BTreeMap<Arc<[Value]>, Arc<[Value]>>;

/// All tables by schema and name. A clone is a snapshot: it costs nothing until a table is written to.
#[derive(Clone, Debug, Default)]
pub(super) struct Tables(BTreeMap<(&'static str, &'static str), Arc<Rows>>);

impl Tables {
    /// Reads what is wanted.
    pub(super) fn load(&self, table: &'static Table, want: &Want) -> Result<Vec<Row>, Error> {
        merge::check_want(table, want)?;
        match want {
            Want::Keys(keys) if keys.iter().any(Vec::is_empty) => {
                Err(Error::Stop(format!("rows of {} are wanted by keys without a cell", merge::name(table))))
            }
            Want::Keys(keys) => {
                let distinct: BTreeSet<&Key> = keys.iter().collect();
                Ok(distinct
                    .into_iter()
                    .flat_map(|key| self.beginning(table, key))
                    .map(|(_, row)| row.to_vec())
                    .collect())
            }
            Want::Scan { prefix, after, limit } => {
                let found = match after {
                    // What begins with the prefix all stands before a key that is behind it.
                    Some(after) if after[..prefix.len()] > prefix[..] => return Ok(Vec::new()),
                    Some(after) if after[..prefix.len()] == prefix[..] => {
                        self.from(table, prefix, Bound::Excluded(after.as_slice()))
                    }
                    _ => self.from(table, prefix, Bound::Included(prefix.as_slice())),
                };
                Ok(found.take(*limit).map(|(_, row)| row.to_vec()).collect())
            }
        }
    }

    /// All rows of a table.
    pub(super) fn all(&self, table: &Table) -> Vec<Row> {
        self.rows(table).into_iter().flat_map(BTreeMap::values).map(|row| row.to_vec()).collect()
    }

    /// The first row of a table that `find` finds something in.
    pub(super) fn find<T>(&self, table: &Table, mut find: impl FnMut(&[Value]) -> Option<T>) -> Option<T> {
        self.rows(table)?.values().find_map(|row| find(row))
    }

    /// Says what a database would say about rows that are not as the writer holds them to be.
    pub(super) fn check(&self, writes: &TableWrites<'_>) -> Result<(), Error> {
        let table = writes.table;
        let held = |cells: &[Value]| self.rows(table).and_then(|rows| rows.get(&cells[..table.key]));
        let version = |row: &[Value]| match table.version.map(|place| &row[place]) {
            Some(Value::Int(version)) => Some(*version),
            _ => None,
        };
        let moved =
            |what: &str| Err(Error::Stop(format!("writing {}: {what} under a whole fence", merge::name(table))));
        if writes.inserts.iter().any(|row| held(row).is_some()) {
            return moved("a row that should be new exists");
        }
        for (row, expected) in &writes.updates {
            match held(row) {
                None => return moved("a row to be updated is absent"),
                Some(held) if table.version.is_some() && expected.is_some() && version(held) != *expected => {
                    return moved("a version has moved");
                }
                Some(_) => {}
            }
        }
        if writes.deletes.iter().any(|key| held(key).is_none()) {
            return moved("a row to be deleted is absent");
        }
        Ok(())
    }

    /// Writes what was checked.
    pub(super) fn apply(&mut self, writes: &TableWrites<'_>) {
        let width = writes.table.key;
        let rows = Arc::make_mut(self.0.entry((writes.table.schema, writes.table.name)).or_default());
        let updates = writes.updates.iter().map(|(row, _)| row);
        for row in writes.inserts.iter().chain(updates) {
            rows.insert(row[..width].into(), (*row).into());
        }
        for key in &writes.deletes {
            rows.remove(*key);
        }
    }

    /// Deletes some rows from before.
    pub(super) fn forget(&mut self, table: &'static Table, kept: &Kept) -> u64 {
        let since = ledger::kept_since(table).expect("only what is kept for a time is forgotten");
        let since = table.columns.iter().position(|column| column.name == since).expect("it is a column of its table");
        let old = self.beginning(table, &[]).filter(|(_, row)| row[since] < Value::Time(kept.since));
        let gone = old.take(usize::try_from(kept.rows_max).unwrap_or(0)).map(|(key, _)| Arc::clone(key)).collect();
        self.remove(table, gone)
    }

    /// Deletes messages that nobody needs any more; see the other stores for whom they are kept.
    pub(super) fn trim_outbox(
        &mut self,
        lanes: &BTreeMap<LaneId, LaneRow>,
        topics: &BTreeMap<String, i32>,
        rows_max: usize,
    ) -> u64 {
        let mut gone = Vec::new();
        for (lane, row) in lanes {
            let sender = [Value::Text(lane.topic.clone()), Value::Int(i64::from(lane.partition))];
            let last = [Value::Int(row.relayed.batch), Value::Int(row.relayed.index)];
            let left = rows_max - gone.len();
            let relayed = self.beginning(&ledger::OUTBOX, &sender).take_while(|(key, _)| key[2..] <= last[..]);
            let looked_at = relayed.take(left.saturating_mul(LOOKED_AT_PER_TRIMMED));
            let idle = looked_at.filter(|(_, message)| !self.is_needed(topics, &sender, message));
            gone.extend(idle.take(left).map(|(key, _)| Arc::clone(key)));
        }
        self.remove(&ledger::OUTBOX, gone)
    }

    /// Whether a message that the brokers have acknowledged has still to reach a lane of this store.
    fn is_needed(&self, topics: &BTreeMap<String, i32>, sender: &[Value; 2], message: &[Value]) -> bool {
        let (to_topic, to_partition, link_sequence) = (&message[4], &message[5], &message[6]);
        let link = [to_topic, to_partition, &sender[0], &sender[1]].map(Clone::clone);
        let ours = || matches!(to_topic, Value::Text(topic) if topics.contains_key(topic));
        match self.rows(&ledger::LINK_IN).and_then(|links| links.get(link.as_slice())) {
            _ if *link_sequence == Value::Null || lacks(Safeguard::Arrived) => false,
            Some(link_in) => link_in[4] < *link_sequence,
            None => ours(),
        }
    }

    fn rows(&self, table: &Table) -> Option<&Rows> {
        self.0.get(&(table.schema, table.name)).map(AsRef::as_ref)
    }

    fn beginning<'a>(
        &'a self,
        table: &Table,
        prefix: &'a [Value],
    ) -> impl Iterator<Item = (&'a Arc<[Value]>, &'a [Value])> {
        self.from(table, prefix, Bound::Included(prefix))
    }

    fn from<'a>(
        &'a self,
        table: &Table,
        prefix: &'a [Value],
        start: Bound<&'a [Value]>,
    ) -> impl Iterator<Item = (&'a Arc<[Value]>, &'a [Value])> {
        let rows = self.rows(table).into_iter();
        let rows = rows.flat_map(move |rows| rows.range::<[Value], _>((start, Bound::Unbounded)));
        rows.take_while(move |(key, _)| key.starts_with(prefix)).map(|(key, row)| (key, &**row))
    }

    fn remove(&mut self, table: &Table, keys: Vec<Arc<[Value]>>) -> u64 {
        if keys.is_empty() {
            return 0;
        }
        let Some(rows) = self.0.get_mut(&(table.schema, table.name)) else { return 0 };
        let rows = Arc::make_mut(rows);
        keys.iter().filter(|key| rows.remove(*key).is_some()).count() as u64
    }
}
