//! Histories: what producers send, how it is cut into batches, and where it breaks off.

use std::sync::{Arc, atomic::AtomicBool};

use proptest::prelude::*;
use serde_json::json;
use seriatim::core::{
    catalog::Catalog,
    header::Headers,
    ledger,
    limits::Limits,
    record::{LaneId, Record},
    rows::Row,
    table::Value,
};

use super::{
    lane_world::{self, Crash, World},
    tally,
};

/// One record as a producer sends it.
#[derive(Clone, Debug)]
pub struct Sent {
    pub entity: &'static str,
    pub source: &'static str,
    pub number: i64,
    /// None: data that cannot be read.
    pub word: Option<String>,
}

impl Sent {
    pub fn record(&self) -> Record {
        let data = match &self.word {
            Some(word) => json!({ "tally": self.entity, "word": word }),
            None => json!({ "tally": self.entity }),
        };
        record(self.entity, self.source, Some(self.number), "tally.noted", &data)
    }
}

/// A record of a tally.
pub fn record(key: &str, source: &str, number: Option<i64>, kind: &str, data: &serde_json::Value) -> Record {
    let id = format!("{key}-{}", number.unwrap_or_default());
    let mut headers = Headers::from_iter([
        ("ce_specversion", Some("1.0")),
        ("ce_id", Some(&id)),
        ("ce_source", Some(source)),
        ("ce_type", Some(kind)),
        ("ce_time", Some("2026-01-01T00:00:00Z")),
    ]);
    headers.extend(number.map(|number| ("ce_entityseq", Some(number.to_string()))));
    Record {
        offset: 0,
        timestamp_ms: lane_world::BEGIN / 1000,
        key: Some(key.as_bytes().into()),
        value: Some(data.to_string().into_bytes().into()),
        headers,
    }
}

/// How a history is cut: sizes of batches, each with how it ends.
#[derive(Clone, Debug)]
pub struct Cut(pub Vec<(usize, End)>);

/// How a turn ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Well,
    LostBefore,
    LostAfter,
    Restart,
}

pub fn cuts() -> impl Strategy<Value = Cut> {
    let end = prop_oneof![4 => Just(End::Well), 1 => Just(End::LostBefore), 1 => Just(End::LostAfter), 1 => Just(End::Restart)];
    prop::collection::vec((1_usize..12, end), 1..12).prop_map(Cut)
}

/// A world of tallies.
pub fn world(limits: Limits, broken: &Arc<AtomicBool>) -> World {
    World::new(tally::add_tallies(Catalog::new(""), broken), limits, 1)
}

pub fn lane_of(topic: &str) -> LaneId {
    LaneId { topic: topic.to_owned(), partition: 0 }
}

/// Lets a lane read its log to the end, cut as said; the last way of cutting goes on.
pub fn read_all(world: &mut World, lane: &LaneId, cut: &Cut) {
    let ends = cut.0.iter().chain(cut.0.iter().filter(|(_, end)| *end == End::Well)).copied();
    for (size, end) in ends.chain(std::iter::repeat((7, End::Well))) {
        world.batch_max = size;
        let inputs = world.gather(lane);
        if inputs.is_empty() {
            return;
        }
        match end {
            End::Well => drop(world.turn(lane, &inputs, None)),
            End::LostBefore => drop(world.turn(lane, &inputs, Some(Crash::BeforeCommit))),
            End::LostAfter => drop(world.turn(lane, &inputs, Some(Crash::AfterCommit))),
            End::Restart => {
                world.turn(lane, &inputs, None);
                world.restart();
            }
        }
    }
}

/// The words of a tally, in the order in which they were applied.
pub fn words(world: &mut World, entity: &str) -> Vec<String> {
    let rows = world.rows(tally::Tally::table(), vec![Value::text(entity)]);
    let tally = rows.first().and_then(|row| <tally::Tally as Row>::from_cells(row));
    tally.map_or(Vec::new(), |tally| tally.words.split(' ').map(str::to_owned).collect())
}

/// Reason and offset of every dead letter.
pub fn letters(world: &mut World) -> Vec<(i64, String)> {
    let rows = world.rows(&ledger::DEAD_LETTER, vec![]);
    let letters = rows.iter().filter_map(|row| ledger::DeadLetter::read(row));
    letters.map(|letter| (letter.record_offset, letter.reason)).collect()
}
