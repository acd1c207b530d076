//! Events ahead of their turn wait as rows, written in the transaction that moves the offset past them: a
//! crash loses nothing, and a gap in one entity delays no other. When the gap fills, the run behind it is
//! released in one go. Every gap has a deadline, every buffer a bound; past either, the kind's policy decides.
//!
//! A dead letter that names its entity and number keeps its place here: successors pass over it.

use super::{
    batch::Outcome,
    decode,
    dedupe::SOURCES_MAX,
    event::{Arrival, Body, Event, Reason},
    handle::Way,
    header::{self, Headers},
    kind::GapPolicy,
    lane::Lane,
    ledger::{HELD, Held, WAITING, Waiting},
    limits::micros,
    marks::Standing,
    record::Record,
    rows::Micros,
    sabotage::{Safeguard, lacks},
    state::Address,
    table::{Key, Row, Table, Value},
    wait::record_of_waiting,
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
            if same || lacks(Safeguard::Conflict) {
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
        // A place alone has no deadline: nothing waits behind it.
        if self.first_held(&event.entity_id, &event.source).is_none() {
            self.set_gap_timer(&event.entity_id, &event.source, self.now + micros(self.limits.gap_deadline));
        }
        let row = self.held_row(&arrival.record, "", (&event.entity_id, &event.source, number), Some(event));
        self.batch.held_bytes += record_bytes(&arrival.record);
        self.state.set(address, Some(row.into_row()));
        self.bound_buffer(&event.entity_id);
    }

    /// Lets the order of an entity pass over a number: at once if it is next, else when its turn comes.
    pub(super) fn pass(&mut self, entity_id: &str, source: &str, number: i64, event: Option<&Event>) {
        if !self.prepare(entity_id) {
            return;
        }
        let adopts = self.kind().adopts_first_sequence();
        let head = self.batch.heads.get_mut(entity_id).expect("prepared above");
        let standing = head.marks.standing(source);
        let is_new = standing == Standing::New;
        if standing == Standing::Unsequenced || (is_new && head.marks.sources() >= SOURCES_MAX) {
            return;
        }
        let next = head.marks.taken(source).saturating_add(1);
        if number < next {
            return;
        }
        if number == next || (is_new && adopts) {
            head.marks.take(source, number);
            head.changed = true;
            return self.release(entity_id, source);
        }
        let address = Address::new(&HELD, self.held_key(entity_id, source, [Value::Int(number)]));
        // Places take at most half of a buffer: they may stay for long, and must not crowd out what is held.
        let full = self.state.count(&HELD) >= self.limits.held_per_lane_max / 2
            || self.held_count(entity_id) >= self.limits.held_per_entity_max / 2;
        if full || self.state.get(&address) != Some(None) {
            return;
        }
        let nothing = Record { offset: -1, timestamp_ms: -1, key: None, value: None, headers: Headers::default() };
        let held = self.held_row(&nothing, "", (entity_id, source, number), event);
        self.state.set(address, Some(Held { place: 1, record_offset: None, ..held }.into_row()));
    }

    /// Takes up what was held behind a number that has now been taken, as far as it is dense. Places that lie
    /// behind the mark go: their range was given up.
    pub(super) fn release(&mut self, entity_id: &str, source: &str) {
        let Some(head) = self.batch.heads.get(entity_id) else { return };
        if self.holds_nothing() {
            return;
        }
        let mut next = head.marks.taken(source).saturating_add(1);
        let mut run = Vec::new();
        let prefix = self.held_key(entity_id, source, []);
        for held in self.state.scan(&HELD, &prefix).filter_map(|(_, row)| Held::read(row)) {
            if held.sequence > next {
                break;
            }
            next = held.sequence.saturating_add(1).max(next);
            run.push(held);
        }
        for held in run {
            let taken = self.batch.heads[entity_id].marks.taken(source);
            if held.sequence > taken.saturating_add(1) || self.state.get(&held.address()) == Some(None) {
                // The one before it sent the entity into quarantine or lacks a row.
                return;
            }
            self.state.set(held.address(), None);
            if held.place == 0 {
                self.take_held(&held, taken);
            } else if held.sequence > taken {
                self.take_place(entity_id, source, held.sequence);
            }
        }
    }

    fn take_held(&mut self, held: &Held, taken: i64) {
        let arrival = self.reopen(held);
        match &arrival.decoded {
            Ok(event) if held.sequence <= taken => self.take_up(&arrival, event, Way::InOrder),
            Ok(event) => {
                if self.prepare_event(&arrival, event) {
                    self.handle(&arrival, event, Way::InOrder);
                }
            }
            Err(rejection) => {
                // It could be read when it was held; its number passes in any case.
                self.dead_letter(&arrival.record, rejection);
                if held.sequence > taken {
                    self.take_place(&held.entity_id, &held.source, held.sequence);
                }
            }
        }
    }

    fn take_place(&mut self, entity_id: &str, source: &str, number: i64) {
        let head = self.batch.heads.get_mut(entity_id).expect("its head was read by the caller");
        head.marks.take(source, number);
        head.changed = true;
    }

    /// The timer of a gap: nothing, if it has closed; again, if it is a younger one; else the policy.
    pub(super) fn gap_due(&mut self, entity_id: &str, source: &str) {
        if !self.prepare(entity_id) {
            return;
        }
        let Some(first) = self.first_held(entity_id, source) else { return };
        // What an unwell entity holds came up while it drained: its gap may close among what is still parked.
        let from = if self.is_unwell(entity_id) { self.now } else { first.held_at.0 };
        let due = from + micros(self.limits.gap_deadline);
        if due > self.now {
            return self.set_gap_timer(entity_id, source, due);
        }
        self.give_up(entity_id, source, "is missing past its deadline");
    }

    fn give_up(&mut self, entity_id: &str, source: &str, why: &str) {
        if lacks(Safeguard::GapDeadline) {
            return;
        }
        let Some(first) = self.first_held(entity_id, source) else { return };
        let taken = self.batch.heads[entity_id].marks.taken(source);
        let error = format!("sequence {} of {source} {why}", taken + 1);
        match self.kind().gap() {
            // As many in a minute as would be a bug if they had failed: each quarantine is kept in memory.
            GapPolicy::Quarantine if self.quarantined_lately(true) < self.limits.failures_max => {
                self.quarantine_gap(entity_id, source, &error);
            }
            GapPolicy::Skip => {
                let head = self.batch.heads.get_mut(entity_id).expect("prepared by the caller");
                head.marks.give_up(source, first.sequence - 1);
                head.changed = true;
                self.release(entity_id, source);
                if self.first_held(entity_id, source).is_some() {
                    self.set_gap_timer(entity_id, source, self.now + micros(self.limits.gap_deadline));
                }
            }
            GapPolicy::Quarantine | GapPolicy::DeadLetter => self.dead_letter_gap(entity_id, source, &error),
        }
    }

    fn dead_letter_gap(&mut self, entity_id: &str, source: &str, error: &str) {
        for held in self.held_of(entity_id, Some(source)) {
            if held.place == 0 {
                self.dead_letter_held(&held, error);
            }
        }
    }

    /// What waits behind a gap becomes a dead letter; its place stays, while there is room for
    /// places: without it, its successors wait for the deadline of their own gap.
    fn dead_letter_held(&mut self, held: &Held, error: &str) {
        let arrival = self.reopen(held);
        if let Ok(event) = &arrival.decoded {
            self.dead_letter_event(&arrival, event, Reason::SequenceGap, error);
            self.remember_passed(event);
        }
        let place = Held { place: 1, key: None, value: None, headers: None, ..held.clone() };
        let has_room = self.state.count(&HELD) < self.limits.held_per_lane_max / 2;
        self.state.set(place.address(), has_room.then(|| place.into_row()));
    }

    /// Past a bound the oldest gap is given up at once: first the entity's own, then the lane's oldest.
    fn bound_buffer(&mut self, entity_id: &str) {
        if self.held_count(entity_id) > self.limits.held_per_entity_max {
            let held = self.held_of(entity_id, None).into_iter().filter(|held| held.place == 0);
            if let Some(oldest) = held.min_by_key(|held| held.held_at) {
                self.give_up(entity_id, &oldest.source, "is missing and its buffer is full");
            }
        }
        let bytes = self.held_bytes + self.batch.held_bytes;
        let bytes_max = i64::try_from(self.limits.held_bytes_per_lane_max).unwrap_or(i64::MAX);
        if self.state.count(&HELD) > self.limits.held_per_lane_max || bytes > bytes_max {
            self.make_room();
        }
    }

    /// Gives up the lane's oldest gaps until a tenth of its buffer is free: in a flood each record would look through
    /// all of it otherwise. That the buffer is full is not the fault of those who wait in it: no entity is quarantined.
    fn make_room(&mut self) {
        let prefix = self.key([Value::text("")]);
        let rows = self.state.scan(&HELD, &prefix).filter_map(|(_, row)| Held::read(row));
        let rows = rows.filter(|held| held.place == 0);
        let gap = |held: Held| (held.held_at, held.record_offset, held.entity_id, held.source);
        let mut gaps: Vec<_> = rows.map(gap).collect();
        gaps.sort_unstable();
        let rows_wanted = self.limits.held_per_lane_max - self.limits.held_per_lane_max / 10;
        let bytes_max = self.limits.held_bytes_per_lane_max;
        let bytes_wanted = i64::try_from(bytes_max - bytes_max / 10).unwrap_or(i64::MAX);
        for (.., entity_id, source) in gaps {
            let bytes = self.held_bytes + self.batch.held_bytes;
            if self.state.count(&HELD) <= rows_wanted && bytes <= bytes_wanted {
                return;
            }
            if self.kind().gap() != GapPolicy::Skip {
                let error = format!("an event of {source} is missing and the lane's buffer is full");
                self.dead_letter_gap(&entity_id, &source, &error);
            } else if self.prepare(&entity_id) {
                self.give_up(&entity_id, &source, "is missing and the lane's buffer is full");
            }
        }
    }

    /// Nearly always: then no key has to be made to look.
    fn holds_nothing(&self) -> bool {
        self.state.count(&HELD) == 0
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

    fn held_count(&self, entity_id: &str) -> usize {
        let prefix = self.key([Value::text(""), Value::text(self.kind().name()), Value::text(entity_id)]);
        self.state.scan(&HELD, &prefix).count()
    }

    fn held_key(&self, entity_id: &str, source: &str, rest: impl IntoIterator<Item = Value>) -> Key {
        let fixed = [Value::text(""), Value::text(self.kind().name()), Value::text(entity_id), Value::text(source)];
        self.key(fixed.into_iter().chain(rest))
    }

    pub(super) fn held_row(
        &self,
        record: &Record,
        link: &str,
        place: (&str, &str, i64),
        event: Option<&Event>,
    ) -> Held {
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
            digest: event.map(|event| event.digest.into()),
            held_at: Micros(self.now),
        }
    }

    pub(super) fn reopen(&mut self, held: &Held) -> Arrival {
        let record = record_of_held(held);
        self.batch.held_bytes -= record_bytes(&record);
        decode::open(&self.catalog, &self.id, record)
    }

    fn set_gap_timer(&mut self, entity_id: &str, source: &str, due: i64) {
        let gap = (entity_id.to_owned(), source.to_owned());
        if self.batch.gaps.get(&gap).is_none_or(|known| *known > due) {
            self.batch.gaps.insert(gap, due);
            self.set_timer("gap", entity_id, source, due, due);
        }
    }

    /// Whether a dead letter keeps its place at this number.
    pub(super) fn is_place(&self, event: &Event, number: i64) -> bool {
        if self.holds_nothing() {
            return false;
        }
        let address = Address::new(&HELD, self.held_key(&event.entity_id, &event.source, [Value::Int(number)]));
        let held = self.state.get(&address).flatten().and_then(|row| Held::read(row));
        held.is_some_and(|held| held.place == 1)
    }

    /// An event that may close a gap will set free what is held behind it: what that needs is asked for now,
    /// all at once, and not anew for each run that comes free.
    pub(super) fn foresee(&mut self, event: &Event) {
        let Some(number) = event.sequence.filter(|_| !self.holds_nothing()) else { return };
        let prefix = self.held_key(&event.entity_id, &event.source, []);
        let first = self.state.scan(&HELD, &prefix).next().and_then(|(key, _)| key.last().cloned());
        let closes = first.is_some_and(|first| Value::Int(number) < first);
        let gap = (event.entity_id.clone(), event.source.clone());
        if !closes || !self.batch.foreseen.insert(gap) {
            return;
        }
        for held in self.held_of(&event.entity_id, Some(&event.source)) {
            let arrival = decode::open(&self.catalog, &self.id, record_of_held(&held));
            if let Ok(Event { body: Body::Entity(parsed), .. }) = &arrival.decoded {
                for address in self.kind().rows(&event.entity_id, parsed) {
                    let _noted = self.state.has(&address);
                }
            }
        }
    }
}

fn record_of_held(held: &Held) -> Record {
    Record {
        offset: held.record_offset.unwrap_or_default(),
        timestamp_ms: held.timestamp_ms.unwrap_or(-1),
        key: held.key.clone(),
        value: held.value.clone(),
        headers: header::from_text(held.headers.as_deref().unwrap_or_default()),
    }
}

/// Bytes of the record that a row of `held` or `waiting` keeps: as many as are taken off when it goes.
pub(super) fn buffered_bytes(table: &'static Table, row: &Row) -> i64 {
    let held = || Held::read(row).filter(|held| held.place == 0).map(|held| record_of_held(&held));
    let waiting = || Waiting::read(row).map(record_of_waiting);
    let record = match table.name {
        _ if std::ptr::eq(table, &HELD) => held(),
        _ if std::ptr::eq(table, &WAITING) => waiting(),
        _ => None,
    };
    record.map_or(0, |record| record_bytes(&record))
}

/// Bytes that a record takes while it waits.
pub(super) fn record_bytes(record: &Record) -> i64 {
    i64::try_from(record.bytes()).unwrap_or(i64::MAX)
}
