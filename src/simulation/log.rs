//! The topics of a simulated world: append-only partitions with offsets that may have gaps.

use std::collections::BTreeMap;

use crate::core::{
    message::Message,
    record::{LaneId, Record},
};

/// One partition.
#[derive(Debug, Default)]
pub(super) struct Partition {
    records: Vec<Record>,
    /// The offset after the newest record or marker.
    end: i64,
}

impl Partition {
    /// Writes a record; `gap` offsets are left out before it, as markers of transactions do.
    fn append(&mut self, message: &Message, now_ms: i64, gap: i64) -> i64 {
        let offset = self.end + gap;
        self.records.push(Record {
            offset,
            timestamp_ms: message.timestamp_ms.unwrap_or(now_ms),
            key: message.key.clone(),
            value: message.value.clone(),
            headers: message.headers.clone(),
        });
        self.end = offset + 1;
        offset
    }

    /// The records from an offset on.
    pub(super) fn from(&self, offset: i64) -> &[Record] {
        let at = self.records.partition_point(|record| record.offset < offset);
        &self.records[at..]
    }

    /// The offset after the newest record or marker.
    pub(super) fn end(&self) -> i64 {
        self.end
    }

    /// All records.
    pub(super) fn records(&self) -> &[Record] {
        &self.records
    }
}

/// All partitions of all topics.
#[derive(Debug, Default)]
pub(super) struct Log {
    partitions: BTreeMap<LaneId, Partition>,
    counts: BTreeMap<String, i32>,
}

impl Log {
    pub(super) fn new(counts: BTreeMap<String, i32>) -> Self {
        let lanes = counts
            .iter()
            .flat_map(|(topic, count)| (0..*count).map(|partition| LaneId { topic: topic.clone(), partition }));
        Self { partitions: lanes.map(|lane| (lane, Partition::default())).collect(), counts }
    }

    pub(super) fn counts(&self) -> &BTreeMap<String, i32> {
        &self.counts
    }

    pub(super) fn partition(&self, lane: &LaneId) -> Option<&Partition> {
        self.partitions.get(lane)
    }

    pub(super) fn partitions(&self) -> impl Iterator<Item = (&LaneId, &Partition)> {
        self.partitions.iter()
    }

    /// Everything that stands in it; nothing does any more.
    pub(super) fn take_records(&mut self) -> BTreeMap<LaneId, Vec<Record>> {
        std::mem::take(&mut self.partitions).into_iter().map(|(lane, partition)| (lane, partition.records)).collect()
    }

    /// Writes a message to its partition; nothing, if there is no such partition.
    pub(super) fn append(&mut self, message: &Message, now_ms: i64, gap: i64) -> Option<i64> {
        Some(self.partitions.get_mut(&message.to)?.append(message, now_ms, gap))
    }
}
