//! Is an event new? Four marks tell, cheapest first: offset and link were looked at before, here come
//! sequence and id. A third answer beside new and known is conflict: the same number, other content.
//!
//! A fresh event pays nothing for that: digests are looked up for suspected duplicates alone.

use super::{
    batch::{Head, Outcome},
    event::{Arrival, Body, Event, Reason, Rejection},
    handle::Way,
    lane::Lane,
    ledger::{Journal, PASSED, Passed, SAGA, SEEN, STRAY, Seen, Stray},
    limits::micros,
    marks::{Marks, Standing},
    rows::Micros,
    sabotage::{Safeguard, lacks},
    state::{Address, Need},
    table::{Bytes, Key, Value},
};

/// What the marks say of an event.
enum Novelty {
    Fresh,
    /// Beyond the next number.
    Ahead,
    Duplicate,
    Rejected(Reason, &'static str),
    /// Rows are missing that would tell.
    Unclear,
}

/// An entity that hears from more sources is refused the next one: its row must stay small.
pub(super) const SOURCES_MAX: usize = 256;

impl Lane {
    /// A record whose event could be read: behind its entity's quarantine, or into the checks.
    pub(super) fn admit_event(&mut self, arrival: &Arrival, event: &Event, way: Way) {
        if self.is_unwell(&event.entity_id) && !lacks(Safeguard::Quarantine) {
            self.park_record(&arrival.record, &event.entity_id, Some(event), way);
        } else {
            self.take_up(arrival, event, way);
        }
    }

    /// Checks an event against the marks of its entity, and handles, holds or rejects it.
    pub(super) fn take_up(&mut self, arrival: &Arrival, event: &Event, way: Way) {
        if !self.prepare_event(arrival, event) {
            return;
        }
        if way == Way::Outside || lacks(Safeguard::Judgement) {
            return self.handle(arrival, event, Way::Outside);
        }
        let novelty = if arrival.link.is_some() { Novelty::Fresh } else { self.judge(arrival, event) };
        match novelty {
            Novelty::Unclear => {
                self.batch.stalled.insert(event.entity_id.clone());
            }
            Novelty::Duplicate => self.count(Outcome::Duplicate),
            Novelty::Rejected(reason, error) => self.dead_letter_event(arrival, event, reason, error),
            Novelty::Ahead => self.hold(arrival, event),
            Novelty::Fresh => {
                self.handle(arrival, event, Way::InOrder);
                if event.sequence.is_some() {
                    self.release(&event.entity_id, &event.source);
                }
            }
        }
    }

    fn judge(&mut self, arrival: &Arrival, event: &Event) -> Novelty {
        let marks = &self.batch.heads[&event.entity_id].marks;
        let standing = marks.standing(&event.source);
        if standing == Standing::New && marks.sources() >= SOURCES_MAX {
            return Novelty::Rejected(Reason::Invalid, "attribute source: the entity hears from too many sources");
        }
        match (event.sequence, standing) {
            (Some(_), Standing::Unsequenced) => {
                Novelty::Rejected(Reason::Invalid, "attribute entityseq: the source sends this entity's events without")
            }
            (None, Standing::Taken(_)) => Novelty::Rejected(
                Reason::Invalid,
                "attribute entityseq: missing, the source sends this entity's events with",
            ),
            (Some(_), Standing::New) if self.kind().adopts_first_sequence() => Novelty::Fresh,
            (Some(number), Standing::New | Standing::Taken(_)) => {
                let next = marks.taken(&event.source).saturating_add(1);
                match number.cmp(&next) {
                    std::cmp::Ordering::Less => self.judge_taken(event, number),
                    std::cmp::Ordering::Equal => Novelty::Fresh,
                    std::cmp::Ordering::Greater => Novelty::Ahead,
                }
            }
            (None, Standing::New | Standing::Unsequenced) => self.judge_id(arrival, event),
        }
    }

    /// A number that was taken before: what was it then?
    fn judge_taken(&self, event: &Event, number: i64) -> Novelty {
        if lacks(Safeguard::Sequence) {
            return Novelty::Fresh;
        }
        let verdict = |same: bool| {
            if same || lacks(Safeguard::Conflict) {
                Novelty::Duplicate
            } else {
                Novelty::Rejected(Reason::Conflict, "attribute entityseq: was used with other content")
            }
        };
        let head = &self.batch.heads[&event.entity_id];
        if let Some(digest) = head.taken.get(&(number, event.source.clone())) {
            return verdict(*digest == event.digest);
        }
        if let Some(same) = head.marks.had_digest(&event.source, number, &event.digest) {
            return verdict(same);
        }
        let passed = self.passed_address(event, number);
        if self.kind().journaled() {
            let (Some(prior), true) =
                (self.state.rows(Need::Prior(self.prior_key(event, number))), self.state.has(&passed))
            else {
                return Novelty::Unclear;
            };
            let digests: Vec<Bytes> =
                prior.iter().filter_map(|row| Journal::read(row)).filter_map(|row| row.digest).collect();
            if !digests.is_empty() {
                return verdict(digests.iter().any(|digest| **digest == event.digest));
            }
        } else if !self.state.has(&passed) {
            return Novelty::Unclear;
        }
        let passed = self.state.get(&passed).flatten().and_then(|row| Passed::read(row)?.digest);
        match passed {
            Some(digest) => verdict(*digest == event.digest),
            None if head.marks.gave_up(&event.source, number) => {
                Novelty::Rejected(Reason::SequenceGap, "attribute entityseq: lies in a range that was given up")
            }
            None => Novelty::Rejected(Reason::TooOld, "attribute entityseq: what it said is no longer known"),
        }
    }

    fn judge_id(&self, arrival: &Arrival, event: &Event) -> Novelty {
        if lacks(Safeguard::SeenIds) {
            return Novelty::Fresh;
        }
        let arrived = arrival.record.timestamp_ms.saturating_mul(1000);
        if arrival.record.timestamp_ms >= 0 && arrived < self.now.saturating_sub(micros(self.limits.dedupe_window)) {
            return Novelty::Rejected(Reason::TooOld, "timestamp: before the window in which ids are known");
        }
        let address = self.seen_address(event);
        if !self.state.has(&address) {
            return Novelty::Unclear;
        }
        let Some(row) = self.state.get(&address).flatten() else { return Novelty::Fresh };
        let same = Seen::read(row).is_some_and(|seen| *seen.digest == event.digest);
        if same || lacks(Safeguard::Conflict) {
            Novelty::Duplicate
        } else {
            Novelty::Rejected(Reason::Conflict, "attribute id: was used with other content")
        }
    }

    /// Notes that an event was taken, so that it is known when it comes again.
    pub(super) fn mark_taken(&mut self, event: &Event, linked: bool) {
        if linked {
            // The link's own mark has moved before.
            return;
        }
        let kept = self.limits.digests_kept;
        let journaled = self.kind().journaled();
        let head = self.batch.heads.get_mut(&event.entity_id).expect("the head is loaded before its event is taken");
        if let Some(number) = event.sequence {
            head.marks.take(&event.source, number);
            head.changed = true;
            if journaled {
                head.taken.insert((number, event.source.clone()), event.digest);
            } else {
                head.marks.keep_digest(&event.source, number, &event.digest, kept);
            }
        } else {
            if head.marks.standing(&event.source) == Standing::New {
                head.marks.take_unsequenced(&event.source);
                head.changed = true;
            }
            let address = self.seen_address(event);
            let mut row = address.key.clone();
            row.extend([Value::Bytes(event.digest.into()), Value::Time(self.now)]);
            self.state.set(address, Some(row));
        }
    }

    /// Keeps the digest of a number that passes without a journal row.
    pub(super) fn remember_passed(&mut self, event: &Event) {
        let Some(number) = event.sequence else { return };
        let address = self.passed_address(event, number);
        if !self.state.has(&address) {
            // The entity goes on all the same, so that all such rows of a batch are asked for in one round.
            return;
        }
        if matches!(self.state.get(&address), Some(Some(_))) {
            // What was said first stays: a row that may be forgotten meanwhile must not be written again.
            return;
        }
        let row = Passed {
            kind: self.kind().name().to_owned(),
            entity_id: event.entity_id.clone(),
            source: event.source.clone(),
            sequence: number,
            digest: Some(event.digest.into()),
            at: Micros(self.now),
        };
        self.state.set(address, Some(row.into_row()));
    }

    /// Whether all rows are known that the event needs; notes those that are not.
    pub(super) fn prepare_event(&mut self, arrival: &Arrival, event: &Event) -> bool {
        let mut known = true;
        if let Body::Entity(parsed) = &event.body {
            for address in self.kind().rows(&event.entity_id, parsed) {
                known &= self.state.has(&address);
            }
        }
        known &= self.prepare_ids(event, arrival.link.is_some());
        known &= self.prepare(&event.entity_id);
        if let Some(number) = event.sequence
            && let Some(head) = self.batch.heads.get(&event.entity_id)
        {
            let suspect = number <= head.marks.taken(&event.source) || self.is_place(event, number);
            if suspect && arrival.link.is_none() {
                // Asked for now, also by a stalled entity: all suspects of a batch are looked up in one round.
                let _ = self.judge_taken(event, number);
            }
        }
        self.foresee(event);
        if !known {
            self.batch.stalled.insert(event.entity_id.clone());
        }
        known
    }

    /// Whether it is known where the event's id may have been seen; notes what is not.
    pub(super) fn prepare_ids(&self, event: &Event, linked: bool) -> bool {
        if event.sequence.is_some() || linked || lacks(Safeguard::Judgement) {
            return true;
        }
        self.state.has(&self.seen_address(event))
    }

    /// Whether the entity's own rows are known; reads its head.
    pub(super) fn prepare(&mut self, entity_id: &str) -> bool {
        if self.batch.heads.contains_key(entity_id) {
            // It was known when its head was read.
            return !self.batch.stalled.contains(entity_id);
        }
        // Taken out: should the batch be decided again, they are read from the row.
        let marks = self.marks.remove(entity_id);
        let main = Address::new(self.kind().main(), vec![Value::text(entity_id)]);
        let stray = || Address::new(&STRAY, vec![Value::text(self.kind().name()), Value::text(entity_id)]);
        let mut known = match self.state.get(&main) {
            Some(Some(_)) => true,
            Some(None) => self.state.has(&stray()),
            None => self.state.has(&main) & self.state.has(&stray()),
        };
        if let Some(saga) = self.saga_address(entity_id) {
            known &= self.state.has(&saga);
        }
        if known {
            let head = self.read_head(&main, stray, marks);
            self.batch.heads.insert(entity_id.to_owned(), head);
        }
        if !known {
            self.batch.stalled.insert(entity_id.to_owned());
        }
        known && !self.batch.stalled.contains(entity_id)
    }

    fn read_head(&self, main: &Address, stray: impl FnOnce() -> Address, known: Option<Marks>) -> Head {
        let marks = |text: &str| serde_json::from_str::<Marks>(text).expect("marks are read as the runtime wrote them");
        if let Some(Some(row)) = self.state.get(main) {
            let at = main.table.version.expect("a main table has the runtime's columns");
            let (Value::Int(version), Value::Text(text)) = (&row[at], &row[at + 2]) else {
                panic!("the runtime's columns of {} do not fit", main.table.name)
            };
            let marks = known.unwrap_or_else(|| marks(text));
            return Head { marks, version: *version, exists: true, ..Head::default() };
        }
        let stray = self.state.get(&stray()).flatten().and_then(|row| Stray::read(row));
        Head { marks: stray.map(|stray| marks(&stray.marks)).unwrap_or_default(), strayed: true, ..Head::default() }
    }

    /// Puts the runtime's columns into the main rows of the entities that the batch has moved. Returns the marks
    /// of all that have a main row.
    pub(super) fn settle_heads(&mut self) -> Vec<(String, Marks)> {
        let (mut settled, mut text) = (Vec::new(), Vec::new());
        for (entity_id, head) in std::mem::take(&mut self.batch.heads).into_sorted() {
            if head.changed {
                self.settle_head(&entity_id, &head, &mut text);
            }
            if head.exists {
                settled.push((entity_id, head.marks));
            }
        }
        settled
    }

    /// `text` is room to write in.
    fn settle_head(&mut self, entity_id: &str, head: &Head, text: &mut Vec<u8>) {
        let (main, name) = (self.kind().main(), self.kind().name());
        let at = main.version.expect("a main table has the runtime's columns");
        text.clear();
        serde_json::to_writer(&mut *text, &head.marks).expect("marks are plain maps and numbers");
        let marks = || Value::text(str::from_utf8(text).expect("JSON is UTF-8"));
        let exists = self.state.change(&Address::new(main, vec![Value::text(entity_id)]), |row| {
            row[at] = Value::Int(head.version);
            row[at + 2] = marks();
        });
        if !head.strayed {
            return;
        }
        let stray = Address::new(&STRAY, vec![Value::text(name), Value::text(entity_id)]);
        match self.state.get(&stray) {
            Some(Some(_)) if exists => self.state.set(stray, None),
            // Without numbers nothing would be kept but that the entity was heard of: ids are known elsewhere.
            Some(_) if !exists && head.marks.have_numbers() => {
                self.state.set(stray, Some(vec![Value::text(name), Value::text(entity_id), marks()]));
            }
            _ => {}
        }
    }

    pub(super) fn saga_address(&self, entity_id: &str) -> Option<Address> {
        let name = self.saga_name?;
        Some(Address::new(&SAGA, vec![Value::text(name), Value::text(entity_id)]))
    }

    fn prior_key(&self, event: &Event, number: i64) -> Key {
        vec![
            Value::text(self.kind().name()),
            Value::text(&event.entity_id),
            Value::text(&event.source),
            Value::Int(number),
        ]
    }

    fn passed_address(&self, event: &Event, number: i64) -> Address {
        Address::new(&PASSED, self.prior_key(event, number))
    }

    fn seen_address(&self, event: &Event) -> Address {
        let names = [self.kind().name(), &event.entity_id, &event.source, &event.id];
        Address::new(&SEEN, names.into_iter().map(Value::text).collect())
    }

    /// A record that cannot be an event: a dead letter that takes its place in the order, if it names one.
    pub(super) fn reject(&mut self, arrival: &Arrival, rejection: &Rejection) {
        self.dead_letter(&arrival.record, rejection);
        if let (Some(entity_id), Some(source), Some(number)) =
            (&rejection.entity_id, &rejection.source, rejection.sequence)
            && rejection.reason != Reason::WrongPartition
            && !lacks(Safeguard::LetterPlace)
        {
            self.pass(entity_id, source, number, None);
        }
    }
}
