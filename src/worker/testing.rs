//! What tests of single tasks need: bounds out of the defaults, and a store that a test chooses.

use std::{ffi::OsString, sync::Arc, time::Duration};

use super::{
    chance::Chance,
    settings::{self, Settings},
    writer::Shared,
};
use crate::{
    admin::Health,
    config::{Config, Need, Sources},
    core::{
        fence::{Fence, LaneRow, Position},
        lane::Lane,
        message::Message,
        record::LaneId,
    },
    kafka, shop,
    store::Store,
    telemetry::Metrics,
};

/// What all tasks share, on a store.
pub(super) fn shared(store: Arc<dyn Store>) -> Shared {
    let environment = [("SERIATIM_KAFKA__METADATA_TIMEOUT", "1s"), ("SERIATIM_LANES__CLAIM_PAUSE_MIN", "1m")];
    let environment = environment.map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let config = Config::read(&Sources::default(), environment.into_iter(), Need::Nothing).unwrap();
    let catalog = shop::catalog(&shop::Settings::default(), "");
    // No broker answers there.
    let unreachable = kafka::Settings { brokers: "127.0.0.1:1".to_owned(), ..kafka::Settings::default() };
    let counts = catalog.all_topics().map(|topic| (topic, 4)).collect();
    Shared {
        store,
        broker: Arc::new(kafka::Cluster::new(&unreachable).unwrap()),
        chance: Chance::system(),
        catalog: Arc::new(catalog.with_partitions(counts)),
        limits: Arc::new(settings::limits(&config)),
        settings: Arc::new(Settings::of(&config, "test".to_owned())),
        metrics: Metrics::new(),
        health: Arc::new(Health::new(Duration::from_secs(30))),
    }
}

/// A lane as it was claimed.
pub(super) fn lane(shared: &Shared, lane: LaneId) -> Lane {
    let row = LaneRow {
        lane,
        fence: Fence { next_offset: 0, epoch: 1, token: "t".to_owned(), batch: 9, timeline: 1 },
        incarnation: 1,
        last: None,
        relayed: Position::default(),
        owner: "w".to_owned(),
    };
    Lane::new(row, 1, Arc::clone(&shared.catalog), Arc::clone(&shared.limits))
}

/// A lane that sends.
pub(super) fn id() -> LaneId {
    LaneId { topic: "purchases".to_owned(), partition: 0 }
}

/// What it sends with a batch.
pub(super) fn message(batch: i64) -> Message {
    Message {
        position: Position { batch, index: 0 },
        to: LaneId { topic: "purchase-outcomes".to_owned(), partition: 0 },
        link_sequence: Some(batch),
        timestamp_ms: None,
        key: None,
        value: None,
        headers: Default::default(),
    }
}
