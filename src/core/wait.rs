//! Events about what does not exist yet wait, within bounds and with a deadline: a reply may come before its
//! saga, a fact before its payment. They are taken up again when the entity's row or saga comes into being.

use super::{
    decode,
    event::{Arrival, Event, Reason, Rejection},
    handle::Way,
    header,
    lane::Lane,
    ledger::{WAITING, Waiting},
    limits::micros,
    record::Record,
    reorder::record_bytes,
    rows::Micros,
    state::Address,
    table::Value,
};

impl Lane {
    /// Lets an event wait; its number or id counts as taken from now on.
    pub(super) fn wait(&mut self, arrival: &Arrival, event: &Event, way: Way) {
        if way == Way::InOrder {
            self.mark_taken(event, arrival.link.is_some());
            self.remember_passed(event);
        }
        let record = &arrival.record;
        if self.state.count(&WAITING) >= self.limits.waiting_per_lane_max {
            return self.expire(record, event, "what it is about does not exist, and no more can wait");
        }
        let row = Waiting {
            topic: self.id.topic.clone(),
            partition: self.id.partition.into(),
            kind: self.kind().name().to_owned(),
            entity_id: event.entity_id.clone(),
            record_offset: record.offset,
            source: event.source.clone(),
            sequence: event.sequence,
            timestamp_ms: record.timestamp_ms,
            key: record.key.clone(),
            value: record.value.clone(),
            headers: header::to_text(&record.headers),
            waiting_since: Micros(self.now),
        };
        self.batch.held_bytes += record_bytes(record);
        self.state.set(row.address(), Some(row.into_row()));
        let due = self.now + micros(self.limits.waiting_deadline);
        self.set_timer("waiting", &event.entity_id, &record.offset.to_string(), due, due);
    }

    /// Takes up again what waits for an entity.
    pub(super) fn wake_waiting(&mut self, entity_id: &str) {
        let prefix = self.entity_key(entity_id, []);
        let rows: Vec<Waiting> = self.state.scan(&WAITING, &prefix).filter_map(|(_, row)| Waiting::read(row)).collect();
        for waiting in rows {
            self.state.set(waiting.address(), None);
            let arrival = self.reopen_waiting(waiting);
            match &arrival.decoded {
                Ok(event) => {
                    if self.prepare_event(&arrival, event) {
                        self.admit_event(&arrival, event, Way::Outside);
                    }
                }
                Err(_) if self.is_from_newer(&arrival) => {}
                Err(rejection) => self.dead_letter(&arrival.record, rejection),
            }
        }
    }

    /// The deadline of a waiting event: if it waits still, it is a dead letter.
    pub(super) fn waiting_due(&mut self, entity_id: &str, offset: i64) {
        let address = Address::new(&WAITING, self.entity_key(entity_id, [Value::Int(offset)]));
        let Some(waiting) = self.state.get(&address).flatten().and_then(|row| Waiting::read(row)) else { return };
        self.state.set(address, None);
        let arrival = self.reopen_waiting(waiting);
        match &arrival.decoded {
            Ok(event) => self.expire(&arrival.record, event, "what it is about did not come into being in time"),
            Err(rejection) => self.dead_letter(&arrival.record, rejection),
        }
    }

    fn expire(&mut self, record: &Record, event: &Event, error: &str) {
        self.dead_letter(record, &Rejection::of(event, Reason::Expired, error));
    }

    fn reopen_waiting(&mut self, waiting: Waiting) -> Arrival {
        let record = record_of_waiting(waiting);
        self.batch.held_bytes -= record_bytes(&record);
        decode::open(&self.catalog, &self.id, record)
    }
}

pub(super) fn record_of_waiting(waiting: Waiting) -> Record {
    Record {
        offset: waiting.record_offset,
        timestamp_ms: waiting.timestamp_ms,
        key: waiting.key,
        value: waiting.value,
        headers: header::from_text(&waiting.headers),
    }
}
