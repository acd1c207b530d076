//! What a lane sends: a row of `outbox` first, a record in Kafka after the commit.

use super::{
    fence::Position,
    header::{self, Headers},
    record::LaneId,
    table::{Row, Value},
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
    pub key: Option<Vec<u8>>,
    /// Record value.
    pub value: Option<Vec<u8>>,
    /// Record headers.
    pub headers: Headers,
}

impl Message {
    /// Bytes that it takes in memory and on the wire, roughly.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let length = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + length(value)).sum();
        length(&self.key) + length(&self.value) + headers + 64
    }

    /// Its row of [`OUTBOX`](super::ledger::OUTBOX) for a sending lane.
    #[must_use]
    pub fn to_row(&self, lane: &LaneId) -> Row {
        let bytes = |part: &Option<Vec<u8>>| part.clone().map_or(Value::Null, Value::Bytes);
        let number = |part: Option<i64>| part.map_or(Value::Null, Value::Int);
        vec![
            Value::Text(lane.topic.clone()),
            Value::Int(lane.partition.into()),
            Value::Int(self.position.batch),
            Value::Int(self.position.index),
            Value::Text(self.to.topic.clone()),
            Value::Int(self.to.partition.into()),
            number(self.link_sequence),
            number(self.timestamp_ms),
            bytes(&self.key),
            bytes(&self.value),
            header::to_cell(&self.headers),
        ]
    }

    /// A message out of its row; `None` if the row is not one of `outbox`.
    #[must_use]
    pub fn from_row(row: &Row) -> Option<Self> {
        let [
            _,
            _,
            Value::Int(batch),
            Value::Int(index),
            Value::Text(topic),
            Value::Int(partition),
            link,
            time,
            key,
            value,
            headers,
        ] = row.as_slice()
        else {
            return None;
        };
        let number = |cell: &Value| if let Value::Int(number) = cell { Some(*number) } else { None };
        let bytes = |cell: &Value| if let Value::Bytes(bytes) = cell { Some(bytes.clone()) } else { None };
        Some(Self {
            position: Position { batch: *batch, index: *index },
            to: LaneId { topic: topic.clone(), partition: i32::try_from(*partition).ok()? },
            link_sequence: number(link),
            timestamp_ms: number(time),
            key: bytes(key),
            value: bytes(value),
            headers: header::from_cell(headers),
        })
    }
}
