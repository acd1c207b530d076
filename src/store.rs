//! The one narrow face of a store: claim, load, commit, look under lock, trim and forget.
//!
//! The three implementations pass one contract suite. A session owns one connection and is used by
//! one task; no call may be cancelled half-way (a dropped `begin` leaves an open transaction). After
//! [`Error::Retry`] or [`Error::Unknown`] the session opens a fresh connection by itself at the next call.

pub(crate) mod merge;
pub mod open;
pub(crate) mod register;
pub mod schema;

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;

use crate::core::{
    fence::{LaneCommit, LaneRow},
    record::LaneId,
    table::{Row, Table, Want},
};

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

/// What [`Session::forget`] leaves of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Only rows from before may go; microseconds since the epoch.
    pub since: i64,
    /// How much time a range of rows holds that goes whole, in microseconds. A store that deletes row by row has none.
    pub range: i64,
    /// Rows that one step deletes at most. A store that drops ranges deletes none.
    pub rows_max: i64,
    /// How long a step waits for those who still read an old range, before it gives up until the next time.
    pub lock_wait: Duration,
}

/// How far [`Session::forget`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgotten {
    /// Nothing that may go was found any more, or somebody else is at it.
    All,
    /// Another step may find more.
    Part,
}

/// Why a store call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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

/// Which standby would take over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standby {
    /// Those that the store itself waits for.
    Synchronous,
    /// Those that connect under this name; the least of them counts.
    Named(String),
}

/// How far a store's log has come, here and where it would be taken over. Places are bytes of the log; they rise on
/// one timeline, and those of two timelines do not compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replicated {
    /// All that was committed before the question lies up to here.
    pub committed: i64,
    /// Up to here the standby has made it durable. None if none of that description is connected.
    pub flushed: Option<i64>,
    /// Which standbys the store itself waits for, in the store's own words; empty if it waits for none.
    pub waits_for: String,
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
    /// The store's random id, made with its schema: tells one database from another.
    async fn identity(&mut self) -> Result<String, Error>;

    /// Registers the partition count of topics that have none yet; answers with the counts in force.
    async fn partitions(&mut self, counts: &BTreeMap<String, i32>) -> Result<BTreeMap<String, i32>, Error>;

    /// Takes a lane: creates its row at offset `start` if there is none, raises the epoch, sets token and owner.
    /// Waits, within the lock timeout, for a running transaction of the old owner; after it, [`Error::Retry`].
    /// Answers with the row as it is now and the database's clock in microseconds.
    async fn claim(&mut self, lane: &LaneId, token: &str, owner: &str, start: i64) -> Result<(LaneRow, i64), Error>;

    /// Reads a lane's row without a lock; for showing and for deciding where a claim starts, never for safety.
    async fn peek(&mut self, lane: &LaneId) -> Result<Option<LaneRow>, Error>;

    /// Reads rows, one statement a want; the answer has one list for each want, in key order.
    async fn load(&mut self, wants: &[(&'static Table, Want)]) -> Result<Vec<Vec<Row>>, Error>;

    /// Writes the batches of several lanes in one transaction, the fence first, all or none.
    /// The number of statements depends on the number of tables touched, never on that of rows or lanes.
    async fn commit(&mut self, lanes: &[LaneCommit]) -> Result<Committed, Error>;

    /// Reads lanes' rows under lock: it waits for a transaction that still holds them. Absent lanes are left
    /// out. Also answers with the database's clock in microseconds.
    async fn look(&mut self, lanes: &[LaneId]) -> Result<(Vec<LaneRow>, i64), Error>;

    /// Adds one row to `seriatim.command`, for the lane's owner to pick up. See [`crate::core::ledger::COMMAND`].
    async fn order(&mut self, command: Row) -> Result<(), Error>;

    /// Takes away messages of all lanes that nobody needs any more: those that their lane's row says the brokers have
    /// acknowledged, except those for a lane of a topic that is registered here, which stay until its `link_in` mark has
    /// reached their number. One bounded step: `rows_max` bounds the rows that are deleted, or, where they go by whole slots, those
    /// that are copied because they are still needed. Answers how many went. Lanes go on meanwhile. Several at a time,
    /// or one that dies half-way, do no harm.
    async fn trim_outbox(&mut self, rows_max: i64) -> Result<u64, Error>;

    /// Forgets what is old of a table of [`crate::core::ledger::KEPT_FOR_A_TIME`], by one bounded step, and makes room
    /// there for what comes. Lanes go on meanwhile. Several at a time, or one that dies half-way, do no harm.
    async fn forget(&mut self, table: &'static Table, kept: &Kept) -> Result<Forgotten, Error>;

    /// How far the log has come here and on a standby.
    async fn replicated(&mut self, standby: &Standby) -> Result<Replicated, Error>;

    /// The timeline that the store's log was on when this session's connection was made; it goes up each time a
    /// standby takes over. 0 if the store does not say.
    fn timeline(&self) -> i64;

    /// How many statements this session has sent, transaction control included.
    fn statements(&self) -> u64;
}
