//! What a lane's row in the database holds, and what one batch of it writes.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::{
    record::{LaneId, Record},
    table::{Change, Table},
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
    /// The store's timeline when the row was read: of the connection, not of the row. A failover that loses the
    /// commits of a later owner makes the row whole again, but not what was read of that owner's commits meanwhile.
    pub timeline: i64,
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

impl LastRecord {
    /// What a claimer compares with the topic.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let mut hash = Sha256::new();
        for part in [&record.key, &record.value] {
            let bytes = part.as_deref().unwrap_or_default();
            hash.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(bytes);
        }
        Self { offset: record.offset, timestamp_ms: record.timestamp_ms, digest: hash.finalize()[..16].to_vec() }
    }
}

/// Where an outgoing message stands among those of its lane. Ordered as they are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The lane batch that made it, from 1.
    pub batch: i64,
    /// Its place in that batch, from 0.
    pub index: i64,
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
    /// All messages up to and including this one were acknowledged by the broker.
    pub relayed: Position,
    /// Who claimed it.
    pub owner: String,
}

/// Rows by table; a table stands at most once.
pub type Writes = Vec<(&'static Table, Vec<Change>)>;

/// All that one lane writes in one transaction.
#[derive(Clone, Debug)]
pub struct LaneCommit {
    /// Which lane.
    pub lane: LaneId,
    /// What the row must hold. The commit sets `batch + 1`.
    pub expected: Fence,
    /// The new `next_offset`.
    pub next_offset: i64,
    /// The incarnation, as it was or as an operator's command raised it.
    pub incarnation: i64,
    /// The last record read, as the row shall hold it from now on.
    pub last: Option<LastRecord>,
    /// How far the relay has come, as the row shall hold it from now on.
    pub relayed: Position,
    /// The rows to write. Shared: a batch that is tried again is not copied.
    pub writes: Arc<Writes>,
}
