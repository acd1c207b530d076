//! Reading a store page by page, on two sessions: one for narrow rows, one for whole ones.

use std::{collections::VecDeque, time::Duration};

use super::rows::{DEBT, SAGA, Saga};
use crate::{
    core::{
        fence::LaneRow,
        record::LaneId,
        saga::Instance,
        table::{Key, Row, Table, Type, Value, Want},
    },
    store::{Error, Session, Store},
};

/// Rows of one page of narrow rows.
const PAGE_ROWS: usize = 1_000;

/// Looks at one suspicion before it is left unsettled: a lane under load stands still between two batches.
pub(super) const LOOKS_MAX: u32 = 300;
/// Pause between two of them: some commits of a busy lane.
pub(super) const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// Eyes on a store: they change nothing.
pub struct Look {
    narrow: Box<dyn Session>,
    whole: Box<dyn Session>,
}

impl std::fmt::Debug for Look {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Look").finish_non_exhaustive()
    }
}

impl Look {
    /// Opens two sessions.
    ///
    /// # Errors
    /// If the store cannot be reached.
    pub async fn open(store: &dyn Store) -> Result<Self, Error> {
        Ok(Self { narrow: store.session().await?, whole: store.session().await? })
    }

    /// A lane's row, without a lock.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn lane(&mut self, lane: &LaneId) -> Result<Option<LaneRow>, Error> {
        self.narrow.peek(lane).await
    }

    /// How many batches a lane has committed: while it is the same, no row of the lane has changed.
    pub(super) async fn batch(&mut self, lane: &LaneId) -> Result<i64, Error> {
        Ok(self.lane(lane).await?.map_or(0, |row| row.fence.batch))
    }

    /// The store's clock, microseconds since the epoch.
    pub(super) async fn now(&mut self) -> Result<i64, Error> {
        Ok(self.narrow.look(&[]).await?.1)
    }

    /// The rows with these keys, or whose keys begin with them; all keys are of one length.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn keyed(&mut self, table: &'static Table, keys: Vec<Key>) -> Result<Vec<Row>, Error> {
        keyed(&mut *self.narrow, table, keys).await
    }

    /// The row with this key.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn one(&mut self, table: &'static Table, key: Key) -> Result<Option<Row>, Error> {
        Ok(self.keyed(table, vec![key]).await?.pop())
    }

    /// The saga that lives with an entity.
    ///
    /// # Errors
    /// If the store fails, or holds a saga that this release cannot read.
    pub async fn saga(&mut self, definition: &str, id: &str) -> Result<Option<Instance>, super::Error> {
        let row = self.one(&SAGA, vec![Value::text(definition), Value::text(id)]).await?;
        let Some(saga) = row.map(|row| super::read(Saga::read(&row), &SAGA)).transpose()? else { return Ok(None) };
        serde_json::from_str(&saga.state.0).map(Some).map_err(|_| super::Error::Unfit(SAGA.name))
    }

    /// Whether an entity owes something.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn owes(&mut self, kind: &str, id: &str, what: &str) -> Result<bool, Error> {
        Ok(self.one(&DEBT, [kind, id, what].map(Value::text).into()).await?.is_some())
    }

    /// Like [`Look::keyed`], on the session that reads whole rows: for no more keys than the bytes allow.
    pub(super) async fn whole(&mut self, table: &'static Table, keys: Vec<Key>) -> Result<Vec<Row>, Error> {
        keyed(&mut *self.whole, table, keys).await
    }

    async fn page(&mut self, table: &'static Table, prefix: &Key, after: Option<Key>) -> Result<Vec<Row>, Error> {
        let want = Want::Scan { prefix: prefix.clone(), after, limit: PAGE_ROWS };
        Ok(self.narrow.load(&[(table, want)]).await?.pop().unwrap_or_default())
    }

    /// The first row of a table after a key.
    pub(super) async fn first_after(
        &mut self,
        table: &'static Table,
        after: Option<Key>,
    ) -> Result<Option<Row>, Error> {
        let want = Want::Scan { prefix: Key::new(), after, limit: 1 };
        Ok(self.narrow.load(&[(table, want)]).await?.pop().and_then(|mut rows| rows.pop()))
    }

    /// The lanes that have rows in a table, whose key begins with topic and partition.
    pub(super) async fn lanes_of(&mut self, table: &'static Table) -> Result<Vec<LaneId>, Error> {
        let mut found = Vec::new();
        let mut after = None;
        while let Some(row) = self.first_after(table, after.take()).await? {
            let (Value::Text(topic), Value::Int(partition)) = (&row[0], &row[1]) else { break };
            // No row of the next partition has the smallest of all keys.
            let mut key = vec![row[0].clone(), Value::Int(partition.saturating_add(1))];
            key.extend(table.columns[2..table.key].iter().map(|column| smallest(column.kind)));
            found.push(LaneId { topic: topic.clone(), partition: i32::try_from(*partition).unwrap_or(i32::MAX) });
            after = Some(key);
        }
        Ok(found)
    }
}

async fn keyed(session: &mut dyn Session, table: &'static Table, keys: Vec<Key>) -> Result<Vec<Row>, Error> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    Ok(session.load(&[(table, Want::Keys(keys))]).await?.pop().unwrap_or_default())
}

fn smallest(kind: Type) -> Value {
    match kind {
        Type::Int => Value::Int(i64::MIN),
        Type::Time => Value::Time(0),
        Type::Text | Type::Json | Type::Bytes => Value::text(""),
    }
}

/// The rows of a table in key order, a page at a time.
#[derive(Debug)]
pub struct Scan {
    table: &'static Table,
    prefix: Key,
    after: Option<Key>,
    page: VecDeque<Row>,
    ended: bool,
}

impl Scan {
    /// Those whose key begins with `prefix`.
    #[must_use]
    pub fn new(table: &'static Table, prefix: Key) -> Self {
        Self { table, prefix, after: None, page: VecDeque::new(), ended: false }
    }

    /// The next row.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn next(&mut self, look: &mut Look) -> Result<Option<Row>, Error> {
        if self.page.is_empty() && !self.ended {
            self.page = look.page(self.table, &self.prefix, self.after.take()).await?.into();
            self.ended = self.page.len() < PAGE_ROWS;
            self.after = self.page.back().map(|row| row[..self.table.key].to_vec());
        }
        Ok(self.page.pop_front())
    }

    /// A whole page of rows; none at the end.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn pages(&mut self, look: &mut Look) -> Result<Vec<Row>, Error> {
        let first = self.next(look).await?;
        Ok(first.into_iter().chain(self.page.drain(..)).collect())
    }
}

/// The key cells of a lane.
pub(super) fn lane_key(lane: &LaneId) -> Key {
    vec![Value::text(&lane.topic), Value::Int(lane.partition.into())]
}
