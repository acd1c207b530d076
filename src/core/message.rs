//! What a lane sends: a row of `outbox` first, a record in Kafka after the commit.

use super::{
    fence::Position,
    header::{self, HEADER_BYTES, Headers},
    ledger::Outbox,
    record::LaneId,
    table::Bytes,
};

/// An outgoing message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it stands among those of its lane.
    pub position: Position,
    /// Destination topic and partition; chosen when the message is committed, not when it is sent.
    pub to: LaneId,
    /// Its number on the link from its lane to that partition, from 1; dead letters have none.
    pub link_sequence: Option<i64>,
    /// Record timestamp, where it is not that of sending.
    pub timestamp_ms: Option<i64>,
    /// Record key.
    pub key: Option<Bytes>,
    /// Record value.
    pub value: Option<Bytes>,
    /// Record headers.
    pub headers: Headers,
}

impl Message {
    /// Bytes that it takes in memory, roughly.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.wire_bytes() + HEADER_BYTES * self.headers.len()
    }

    /// Bytes that it takes on the wire, roughly.
    #[must_use]
    pub fn wire_bytes(&self) -> usize {
        let length = |part: &Option<Bytes>| part.as_ref().map_or(0, |bytes| bytes.len());
        length(&self.key) + length(&self.value) + self.headers.bytes() + 64
    }

    /// Its row of `outbox` for a sending lane.
    #[must_use]
    pub fn to_row(&self, lane: &LaneId) -> Outbox {
        Outbox {
            topic: lane.topic.clone(),
            partition: lane.partition.into(),
            batch: self.position.batch,
            idx: self.position.index,
            to_topic: self.to.topic.clone(),
            to_partition: self.to.partition.into(),
            link_sequence: self.link_sequence,
            timestamp_ms: self.timestamp_ms,
            key: self.key.clone(),
            value: self.value.clone(),
            headers: header::to_text(&self.headers),
        }
    }

    /// A message out of its row.
    #[must_use]
    pub fn from_row(row: Outbox) -> Self {
        Self {
            position: Position { batch: row.batch, index: row.idx },
            to: LaneId { topic: row.to_topic, partition: i32::try_from(row.to_partition).unwrap_or_default() },
            link_sequence: row.link_sequence,
            timestamp_ms: row.timestamp_ms,
            key: row.key,
            value: row.value,
            headers: header::from_text(&row.headers),
        }
    }
}
