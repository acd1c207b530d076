//! What Kafka gives and where it stood.

use std::fmt;

use super::{header::Headers, table::Bytes};

/// One partition of a home topic; the single writer of its entities.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId {
    /// The home topic.
    pub topic: String,
    /// The partition, from 0.
    pub partition: i32,
}

impl fmt::Display for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// A record as it was read, bytes untouched. Its topic and partition are those of its lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Position in the partition.
    pub offset: i64,
    /// Milliseconds since the epoch, as the broker keeps it; -1 if it has none.
    pub timestamp_ms: i64,
    /// The record's key.
    pub key: Option<Bytes>,
    /// The record's value.
    pub value: Option<Bytes>,
    /// Headers in their order; names may repeat, values may be absent.
    pub headers: Headers,
}

impl Record {
    /// Bytes that it takes in memory, roughly.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let length = |part: &Option<Bytes>| part.as_ref().map_or(0, |bytes| bytes.len());
        length(&self.key) + length(&self.value) + self.headers.bytes()
    }
}
