//! Events ahead of their turn wait as rows, written in the transaction that moves the offset past them: a
//! crash loses nothing, and a gap in one entity delays no other. When the gap fills, the run behind it is
//! released in one go. Every gap has a deadline, every buffer a bound; past either, the kind's policy decides.
//!
//! A dead letter that names its entity and number keeps its place here: successors pass over it.

use super::{
    batch::{Halt, Outcome},
    decode,
    event::{Arrival, Event, Link, Reason},
    handle::Way,
    header,
    kind::GapPolicy,
    lane::Lane,
    ledger::{HELD, Held},
    limits::micros,
    record::Record,
    rows::Micros,
    state::Address,
    table::{Key, Value},
};

impl Lane {
    /// Holds an event whose number is further on than the next.
    pub(super) fn hold(&mut self, arrival: &Arrival, event: &Event) {
        let Some(number) = event.sequence else { return };
        let address = Address::new(&HELD, self.held_key(&event.entity_id, &event.source, [Value::Int(number)]));
        if let Some(Some(row)) = self.state.get(&address) {
            // The same number twice ahead of its turn: content decides, as it would behind it.
            let held = Held::read(row);
            let same = held.as_ref().and_then(|held| held.digest.as_deref()) == Some(event.digest.as_slice());
            if same {
                return self.count(Outcome::Duplicate);
            }
            let error = "attribute entityseq: stands ahead of its turn with other content";
            return self.dead_letter_event(arrival, event, Reason::Conflict, error);
        }
        let taken = self.batch.heads[&event.entity_id].marks.taken(&event.source);
        if number - taken > self.limits.ahead_max {
            let error = "attribute entityseq: further ahead than is held";
            self.dead_letter_event(arrival, event, Reason::SequenceGap, error);
            self.remember_passed(event);
            return self.pass(&event.entity_id, &event.source, number, Some(event));
        }
        if self.held_count(&event.entity_id, &event.source) == 0 {
            self.set_gap_timer(&event.entity_id, &event.source, self.now + micros(self.limits.gap_deadline));
        }
        let row = self.held_row(&arrival.record, "", (&event.entity_id, &event.source, number), Some(event));
        self.batch.held_bytes += record_bytes(&arrival.record);
        self.state.set(address, Some(row.into_row()));
        self.bound_buffer(&event.entity_id, &event.source);
    }

    /// Lets the order of an entity pass over a number: at once if it is next, else when its turn comes.
    pub(super) fn pass(&mut self, entity_id: &str, source: &str, number: i64, event: Option<&Event>) {
        if !self.prepare(entity_id) {
            return;
        }
        let head = self.batch.heads.get_mut(entity_id).expect("prepared above");
        if head.marks.standing(source) == super::marks::Standing::Unsequenced {
            return;
        }
        let next = head.marks.taken(source).saturating_add(1);
        if number < next {
            return;
        }
        if number == next {
            head.marks.take(source, number);
            head.changed = true;
            return self.release(entity_id, source);
        }
        let address = Address::new(&HELD, self.held_key(entity_id, source, [Value::Int(number)]));
        let full = self.state.count(&HELD) >= self.limits.held_per_lane_max
            || self.held_count(entity_id, source) >= self.limits.held_per_entity_max;
        if full || self.state.get(&address) != Some(None) {
            return;
        }
        let nothing = Record { offset: -1, timestamp_ms: -1, key: None, value: None, headers: Vec::new() };
        let held = self.held_row(&nothing, "", (entity_id, source, number), event);
        self.state.set(address, Some(Held { place: 1, record_offset: None, ..held }.into_row()));
    }

    /// Takes up what was held behind a number that has now been taken, as far as it is dense.
    pub(super) fn release(&mut self, entity_id: &str, source: &str) {
        let Some(head) = self.batch.heads.get(entity_id) else { return };
        let first = head.marks.taken(source).saturating_add(1);
        let prefix = self.held_key(entity_id, source, []);
        let held = self.state.scan(&HELD, &prefix).zip(first..);
        let dense = held.take_while(|((key, _), next)| key.last() == Some(&Value::Int(*next)));
        let run: Vec<_> = dense.map(|((key, row), _)| (key.clone(), row.clone())).collect();
        for (key, row) in run {
            let address = Address::new(&HELD, key);
            if self.state.get(&address) == Some(None) {
                // The one before it sent the entity into quarantine, and what was held went with it.
                return;
            }
            let Some(held) = Held::read(&row) else { continue };
            self.state.set(address, None);
            if held.place == 1 {
                let head = self.batch.heads.get_mut(entity_id).expect("its head was read above");
                head.marks.take(source, held.sequence);
                head.changed = true;
                continue;
            }
            let arrival = self.reopen(&held);
            if let Ok(event) = &arrival.decoded {
                if self.prepare_event(&arrival, event) {
                    self.handle(&arrival, event, Way::InOrder);
                }
            } else {
                self.enter(&arrival);
            }
        }
    }

    /// The timer of a gap: nothing, if it has closed; again, if it is a younger one; else the policy.
    pub(super) fn gap_due(&mut self, entity_id: &str, source: &str) {
        if !self.prepare(entity_id) {
            return;
        }
        let Some(first) = self.first_held(entity_id, source) else { return };
        let due = first.held_at.0 + micros(self.limits.gap_deadline);
        if due > self.now {
            return self.set_gap_timer(entity_id, source, due);
        }
        self.give_up(entity_id, source, &first, "is missing past its deadline");
    }

    fn give_up(&mut self, entity_id: &str, source: &str, first: &Held, why: &str) {
        let taken = self.batch.heads[entity_id].marks.taken(source);
        let error = format!("sequence {} of {source} {why}", taken + 1);
        match self.kind().gap() {
            GapPolicy::Quarantine => self.quarantine(entity_id, "gap", &error),
            GapPolicy::Skip => {
                let head = self.batch.heads.get_mut(entity_id).expect("prepared by the caller");
                head.marks.give_up(source, first.sequence - 1);
                head.changed = true;
                self.release(entity_id, source);
                if self.first_held(entity_id, source).is_some() {
                    self.set_gap_timer(entity_id, source, self.now + micros(self.limits.gap_deadline));
                }
            }
            GapPolicy::DeadLetter => {
                for held in self.held_of(entity_id, Some(source)) {
                    if held.place == 0 {
                        self.dead_letter_held(&held, &error);
                    }
                }
            }
        }
    }

    /// What waits behind a gap becomes a dead letter; its place stays.
    fn dead_letter_held(&mut self, held: &Held, error: &str) {
        let arrival = self.reopen(held);
        if let Ok(event) = &arrival.decoded {
            self.dead_letter_event(&arrival, event, Reason::SequenceGap, error);
            self.remember_passed(event);
        }
        let place = Held { place: 1, key: None, value: None, headers: None, ..held.clone() };
        self.state.set(place.address(), Some(place.into_row()));
    }

    /// Past a bound the oldest gap is given up at once: first the entity's own, then the lane's oldest.
    fn bound_buffer(&mut self, entity_id: &str, source: &str) {
        if self.held_count(entity_id, source) > self.limits.held_per_entity_max
            && let Some(first) = self.first_held(entity_id, source)
        {
            self.give_up(entity_id, source, &first, "is missing and its buffer is full");
        }
        let bytes = self.held_bytes + self.batch.held_bytes;
        let full = self.state.count(&HELD) > self.limits.held_per_lane_max
            || bytes > i64::try_from(self.limits.held_bytes_per_lane_max).unwrap_or(i64::MAX);
        if !full {
            return;
        }
        let prefix = self.key([Value::text("")]);
        let rows = self.state.scan(&HELD, &prefix).filter_map(|(_, row)| Held::read(row));
        let oldest = rows.filter(|held| held.place == 0).min_by_key(|held| held.held_at);
        if let Some(oldest) = oldest
            && self.prepare(&oldest.entity_id)
        {
            self.give_up(&oldest.entity_id, &oldest.source, &oldest, "is missing and the lane's buffer is full");
        }
    }

    /// Holds a message of another lane of ours that came before its predecessors.
    pub(super) fn hold_link(&mut self, link: &Link, arrival: &Arrival) {
        let name = link.to_string();
        let key = self.key([
            Value::text(&name),
            Value::text(self.kind().name()),
            Value::text(""),
            Value::text(&name),
            Value::Int(link.sequence),
        ]);
        let address = Address::new(&HELD, key);
        if self.state.get(&address) != Some(None) {
            return self.count(Outcome::Duplicate);
        }
        if self.state.count(&HELD) >= self.limits.held_per_lane_max {
            let missing = self.link_mark(link) + 1;
            self.batch.halt = Some(Halt::LinkGap(format!("message {missing} of link {name} is missing")));
            return;
        }
        let row = self.held_row(&arrival.record, &name, ("", &name, link.sequence), None);
        self.batch.held_bytes += record_bytes(&arrival.record);
        self.state.set(address, Some(row.into_row()));
    }

    /// Takes up what was held behind a message that has now been taken.
    pub(super) fn release_link(&mut self, link: &Link) {
        let name = link.to_string();
        loop {
            let next = self.link_mark(link) + 1;
            let fixed = [Value::text(&name), Value::text(self.kind().name()), Value::text(""), Value::text(&name)];
            let key = self.key(fixed.into_iter().chain([Value::Int(next)]));
            let address = Address::new(&HELD, key);
            let Some(Some(held)) = self.state.get(&address).map(|row| row.and_then(|row| Held::read(row))) else {
                return;
            };
            self.state.set(address, None);
            self.set_link_mark(link, next);
            let arrival = self.reopen(&held);
            self.enter(&arrival);
        }
    }

    /// All held records of an entity, of one source or of all, in order.
    pub(super) fn held_of(&self, entity_id: &str, source: Option<&str>) -> Vec<Held> {
        let prefix = match source {
            Some(source) => self.held_key(entity_id, source, []),
            None => self.key([Value::text(""), Value::text(self.kind().name()), Value::text(entity_id)]),
        };
        self.state.scan(&HELD, &prefix).filter_map(|(_, row)| Held::read(row)).collect()
    }

    fn first_held(&self, entity_id: &str, source: &str) -> Option<Held> {
        let prefix = self.held_key(entity_id, source, []);
        self.state.scan(&HELD, &prefix).filter_map(|(_, row)| Held::read(row)).find(|held| held.place == 0)
    }

    fn held_count(&self, entity_id: &str, source: &str) -> usize {
        let prefix = self.held_key(entity_id, source, []);
        self.state.scan(&HELD, &prefix).count()
    }

    fn held_key(&self, entity_id: &str, source: &str, rest: impl IntoIterator<Item = Value>) -> Key {
        let fixed = [Value::text(""), Value::text(self.kind().name()), Value::text(entity_id), Value::text(source)];
        self.key(fixed.into_iter().chain(rest))
    }

    fn held_row(&self, record: &Record, link: &str, place: (&str, &str, i64), event: Option<&Event>) -> Held {
        let (entity_id, source, sequence) = place;
        Held {
            topic: self.id.topic.clone(),
            partition: self.id.partition.into(),
            link: link.to_owned(),
            kind: self.kind().name().to_owned(),
            entity_id: entity_id.to_owned(),
            source: source.to_owned(),
            sequence,
            place: 0,
            record_offset: Some(record.offset),
            timestamp_ms: Some(record.timestamp_ms),
            key: record.key.clone(),
            value: record.value.clone(),
            headers: Some(header::to_text(&record.headers)),
            digest: event.map(|event| event.digest.to_vec()),
            held_at: Micros(self.now),
        }
    }

    pub(super) fn reopen(&mut self, held: &Held) -> Arrival {
        let record = Record {
            offset: held.record_offset.unwrap_or_default(),
            timestamp_ms: held.timestamp_ms.unwrap_or(-1),
            key: held.key.clone(),
            value: held.value.clone(),
            headers: header::from_text(held.headers.as_deref().unwrap_or_default()),
        };
        self.batch.held_bytes -= record_bytes(&record);
        decode::open(&self.catalog, &self.id, record)
    }

    fn set_gap_timer(&mut self, entity_id: &str, source: &str, due: i64) {
        self.set_timer("gap", entity_id, source, due, due);
    }
}

/// Bytes that a record takes while it waits.
pub(super) fn record_bytes(record: &Record) -> i64 {
    i64::try_from(record.bytes()).unwrap_or(i64::MAX)
}
