//! The one narrow face of a store: claim, load, commit, look under lock, trim.
//!
//! The three implementations pass one contract suite. A session owns one connection and is used by
//! one task; no call may be cancelled half-way (a dropped `begin` leaves an open transaction).

use async_trait::async_trait;

use crate::core::{
    record::LaneId,
    table::{Change, Key, Row, Table, Want},
};

/// What a lane's owner remembers and every transaction compares: equality, never `<=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The next offset to read.
    pub next_offset: i64,
    /// Raised by every claim.
    pub epoch: i64,
    /// Random, fresh at every claim: an epoch alone can come again after a failover.
    pub token: String,
    /// Moves with every commit.
    pub batch: i64,
}

/// The last record that a lane has read; tells whether the topic is still the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastRecord {
    /// Its offset.
    pub offset: i64,
    /// Its timestamp in milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// Digest of its key and value.
    pub digest: Vec<u8>,
}

/// A lane's row as it was found or left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneRow {
    /// Which lane.
    pub lane: LaneId,
    /// What the next transaction must find.
    pub fence: Fence,
    /// Raised by an operator who accepts a recreated topic; part of derived ids.
    pub incarnation: i64,
    /// The last record read, if any was.
    pub last: Option<LastRecord>,
    /// Who claimed it.
    pub owner: String,
}

/// All that one lane writes in one transaction.
#[derive(Clone, Debug)]
pub struct LaneCommit {
    /// Which lane.
    pub lane: LaneId,
    /// What the row must hold. The commit sets `batch + 1`.
    pub expected: Fence,
    /// The new `next_offset`.
    pub next_offset: i64,
    /// The last record read, if this batch read any.
    pub last: Option<LastRecord>,
    /// The rows to write; a table stands at most once.
    pub writes: Vec<(&'static Table, Vec<Change>)>,
}

/// The answer to [`Session::commit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// Every lane's batch is durable.
    All {
        /// The database's clock, microseconds since the epoch.
        now: i64,
    },
    /// Nothing was written: these lanes failed the compare.
    Fenced(Vec<LaneId>),
}

/// Why a store call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The world is unwell (connection, serialization, deadlock, lock timeout): nothing was written; try again.
    #[error("{0}")]
    Retry(String),
    /// COMMIT was sent and no answer came: [`Session::look`] must tell what became of it.
    #[error("commit without an answer: {0}")]
    Unknown(String),
    /// The database refuses these rows (a check, a type, a size): nothing was written; retrying cannot help.
    #[error("{0}")]
    Rejected(String),
    /// We are unwell (schema mismatch, a version that moved under a whole fence): end the process.
    #[error("{0}")]
    Stop(String),
}

/// Makes sessions. Cheap to share.
#[async_trait]
pub trait Store: Send + Sync {
    /// Opens a session on a connection of its own.
    async fn session(&self) -> Result<Box<dyn Session>, Error>;
}

/// One connection to a store.
#[async_trait]
pub trait Session: Send {
    /// Takes a lane: creates its row if there is none, raises the epoch, sets the token and owner.
    /// Waits, within the lock timeout, for a running transaction of the old owner.
    async fn claim(&mut self, lane: &LaneId, token: &str, owner: &str) -> Result<(LaneRow, i64), Error>;

    /// Reads rows, one statement a want; the answer has one list for each want, in its order.
    async fn load(&mut self, wants: &[(&'static Table, Want)]) -> Result<Vec<Vec<Row>>, Error>;

    /// Writes the batches of several lanes in one transaction, the fence first, all or none.
    /// The number of statements depends on the number of tables touched, never on that of rows.
    async fn commit(&mut self, lanes: &[LaneCommit]) -> Result<Committed, Error>;

    /// Reads lanes' rows under lock: it waits for a transaction that still holds them. Absent lanes are left out.
    async fn look(&mut self, lanes: &[LaneId]) -> Result<Vec<LaneRow>, Error>;

    /// Deletes at most `limit` rows of `table` whose key begins with `prefix` and is at most `upto`; says how many.
    async fn trim(&mut self, table: &'static Table, prefix: &Key, upto: &Key, limit: usize) -> Result<u64, Error>;
}
