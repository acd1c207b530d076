//! An entity that is unwell parks alone: the failing event and every later one, in order, while everyone
//! else flows on. Released, it drains: its parked records run the later checks one after the other, and
//! newcomers queue behind until none is left.

use super::{
    apply::FORGET,
    batch::{AlarmKind, Halt},
    decode,
    emit::Origin,
    event::{Arrival, Event},
    handle::{Cause, Failure, Way},
    header,
    lane::Lane,
    ledger::{Held, PARKED, Parked, QUARANTINE, Quarantine},
    limits::MINUTE,
    record::Record,
    rows::Micros,
    state::{Address, Need},
};

/// Name of a parked record whose number or id was taken before: it waited, or it is a dead letter replayed.
const OUTSIDE: &str = "outside";

/// The cause of a quarantine for a gap.
pub(super) const GAP: &str = "gap";
/// What is parked where it is no record.
pub(super) const TIMER: &str = "timer";

impl Lane {
    /// Whether the entity is quarantined or draining.
    pub(super) fn is_unwell(&self, entity_id: &str) -> bool {
        // Nearly always there is none at all, and no key has to be made.
        self.state.count(&QUARANTINE) > 0
            && matches!(self.state.get(&self.quarantine_address(entity_id)), Some(Some(_)))
    }

    /// Quarantines the entity of an event that failed.
    pub(super) fn quarantine_at(&mut self, arrival: &Arrival, event: &Event, failure: &Failure, way: Way) {
        let error = format!("{} offset {}: {}", self.id, arrival.record.offset, failure.text());
        let failed = self.parked_record(&arrival.record, &event.entity_id, Some(event), way);
        let held = self.held_of(&event.entity_id, None);
        self.put_in_quarantine(&event.entity_id, failure.cause(), &error, Some(failed), held);
        self.alarm_quarantine(&event.entity_id, Some((event.id.clone(), arrival.record.offset)), &error);
    }

    /// Quarantines the entity of a timer that failed.
    pub(super) fn quarantine_timer(&mut self, entity_id: &str, timer: (&str, &str, i64), failure: &Failure) {
        let (purpose, name, time) = timer;
        let failed = self.parked_timer(entity_id, purpose, name, time);
        let held = self.held_of(entity_id, None);
        let error = format!("timer {name}: {}", failure.text());
        self.put_in_quarantine(entity_id, failure.cause(), &error, Some(failed), held);
        self.alarm_quarantine(entity_id, None, &error);
    }

    /// Quarantines an entity whose gap is not to be waited for any longer. What stands behind that gap is the
    /// first to be parked, so that a skip knows which one is meant.
    pub(super) fn quarantine_gap(&mut self, entity_id: &str, source: &str, error: &str) {
        let (mut held, others): (Vec<Held>, Vec<Held>) =
            self.held_of(entity_id, None).into_iter().partition(|held| held.source == source);
        held.extend(others);
        self.put_in_quarantine(entity_id, GAP, error, None, held);
        self.alarm_quarantine(entity_id, None, error);
    }

    /// How many entities were quarantined within the last minute, for gaps or for anything else.
    pub(super) fn quarantined_lately(&self, for_gaps: bool) -> usize {
        let before = self.failures.iter().filter(|(at, is_gap)| self.now - at < MINUTE && *is_gap == for_gaps);
        before.count() + self.batch.quarantined.iter().filter(|is_gap| **is_gap == for_gaps).count()
    }

    /// What failed stands first among the parked, what was held of the entity next to it, also before what was
    /// parked already: that is behind in the order. Places of dead letters stay.
    fn put_in_quarantine(
        &mut self,
        entity_id: &str,
        cause: &str,
        error: &str,
        failed: Option<Parked>,
        held: Vec<Held>,
    ) {
        // A gap is no failure of ours: a producer that loses events must not stop the lane for everybody.
        let is_gap = cause == GAP;
        let lately = self.quarantined_lately(false);
        if !is_gap && lately >= self.limits.failures_max {
            let text = format!("{lately} entities failed within a minute, the last with: {error}");
            self.batch.halt = Some(Halt::Breaker(text));
            return;
        }
        self.batch.quarantined.push(is_gap);
        let known = self.read_quarantine(entity_id);
        let (first, next) = known.as_ref().map_or((0, 0), |known| (known.first, known.next));
        let mut row = Quarantine {
            topic: self.id.topic.clone(),
            partition: self.id.partition.into(),
            kind: self.kind().name().to_owned(),
            entity_id: entity_id.to_owned(),
            status: "quarantined".to_owned(),
            cause: cause.to_owned(),
            error: error.replace('\0', "\u{fffd}"),
            attempts: known.map_or(1, |known| known.attempts + 1),
            first,
            next,
            since: Micros(self.now),
        };
        let mut all: Vec<Parked> = failed.into_iter().collect();
        for held in held.into_iter().filter(|held| held.place == 0) {
            self.state.set(held.address(), None);
            let arrival = self.reopen(&held);
            all.push(self.parked_record(&arrival.record, entity_id, arrival.decoded.as_ref().ok(), Way::InOrder));
        }
        let count = i64::try_from(all.len()).unwrap_or(i64::MAX);
        let begin = if first == next { next } else { first - count };
        (row.first, row.next) = if first == next { (first, next + count) } else { (begin, next) };
        self.state.set(row.address(), Some(row.into_row()));
        for (place, parked) in (begin..).zip(all) {
            let parked = Parked { place, ..parked };
            self.set_new(parked.address(), parked.into_row());
        }
    }

    fn alarm_quarantine(&mut self, entity_id: &str, event: Option<(String, i64)>, error: &str) {
        let text = format!("{} {entity_id} is quarantined: {error}", self.kind().name());
        self.batch.alarm(AlarmKind::Quarantine, entity_id, event, text);
    }

    /// Parks a record behind those of its entity.
    pub(super) fn park_record(&mut self, record: &Record, entity_id: &str, event: Option<&Event>, way: Way) {
        self.park(self.parked_record(record, entity_id, event, way));
    }

    /// Parks a timer behind the records of its entity.
    pub(super) fn park_timer(&mut self, entity_id: &str, purpose: &str, name: &str, time: i64) {
        self.park(self.parked_timer(entity_id, purpose, name, time));
    }

    fn parked_record(&self, record: &Record, entity_id: &str, event: Option<&Event>, way: Way) -> Parked {
        Parked {
            what: "record".to_owned(),
            name: (way == Way::Outside).then(|| OUTSIDE.to_owned()),
            time: None,
            source: event.map(|event| event.source.clone()),
            sequence: event.and_then(|event| event.sequence),
            record_offset: Some(record.offset),
            timestamp_ms: Some(record.timestamp_ms),
            key: record.key.clone(),
            value: record.value.clone(),
            headers: Some(header::to_text(&record.headers)),
            ..self.parked_timer(entity_id, "", "", 0)
        }
    }

    fn parked_timer(&self, entity_id: &str, purpose: &str, name: &str, time: i64) -> Parked {
        Parked {
            topic: self.id.topic.clone(),
            partition: self.id.partition.into(),
            kind: self.kind().name().to_owned(),
            entity_id: entity_id.to_owned(),
            place: 0,
            what: TIMER.to_owned(),
            name: Some(format!("{purpose}/{name}")),
            time: Some(Micros(time)),
            source: None,
            sequence: None,
            record_offset: None,
            timestamp_ms: None,
            key: None,
            value: None,
            headers: None,
            parked_at: Micros(self.now),
        }
    }

    /// Puts a row behind those of its entity.
    pub(super) fn park(&mut self, parked: Parked) {
        let Some(mut quarantine) = self.read_quarantine(&parked.entity_id) else { return };
        let parked = Parked { place: quarantine.next, ..parked };
        quarantine.next += 1;
        self.state.set(quarantine.address(), Some(quarantine.into_row()));
        self.set_new(parked.address(), parked.into_row());
    }

    /// Takes up a bounded number of parked records of one draining entity.
    pub(super) fn drain(&mut self) {
        let prefix = self.key([]);
        let mut rows = self.state.scan(&QUARANTINE, &prefix).filter_map(|(_, row)| Quarantine::read(row));
        let Some(quarantine) = rows.find(|row| row.status == "draining") else { return };
        drop(rows);
        let entity_id = quarantine.entity_id;
        if let Some(error) = self.drain_condemned.clone() {
            self.put_in_quarantine(&entity_id, "failure", &error, None, Vec::new());
            return self.alarm_quarantine(&entity_id, None, &error);
        }
        let Some(page) = self.parked_page(&entity_id, self.limits.drain_max) else { return };
        for parked in page {
            // It leaves the queue first: if it fails again it is put back to the front.
            self.unpark(&entity_id, parked.address());
            self.take_up_parked(parked);
            if self.read_quarantine(&entity_id).is_none_or(|row| row.status != "draining") {
                return;
            }
        }
        self.end_drained(&entity_id);
    }

    /// Runs one parked record or timer.
    fn take_up_parked(&mut self, parked: Parked) {
        if parked.what == TIMER {
            let name = parked.name.unwrap_or_default();
            let (purpose, name) = name.split_once('/').unwrap_or(("entity", &name));
            let time = parked.time.map_or(self.now, |time| time.0);
            return self.run_timer(&parked.entity_id, purpose, name, time);
        }
        let way = if parked.name.as_deref() == Some(OUTSIDE) { Way::Outside } else { Way::InOrder };
        let arrival = decode::open(&self.catalog, &self.id, record_of(parked));
        match &arrival.decoded {
            Ok(event) => self.take_up(&arrival, event, way),
            Err(_) if self.is_from_newer(&arrival) => {}
            Err(rejection) => self.reject(&arrival, rejection),
        }
    }

    /// Removes the first parked row.
    pub(super) fn unpark(&mut self, entity_id: &str, address: Address) {
        self.state.set(address, None);
        if let Some(mut quarantine) = self.read_quarantine(entity_id) {
            quarantine.first += 1;
            self.state.set(quarantine.address(), Some(quarantine.into_row()));
        }
    }

    /// An entity with nothing parked any more is active again.
    pub(super) fn end_drained(&mut self, entity_id: &str) {
        if let Some(quarantine) = self.read_quarantine(entity_id)
            && quarantine.status == "draining"
            && quarantine.first == quarantine.next
        {
            self.state.set(quarantine.address(), None);
        }
    }

    /// Lets an entity drain.
    pub(super) fn begin_drain(&mut self, entity_id: &str) {
        if let Some(mut quarantine) = self.read_quarantine(entity_id) {
            "draining".clone_into(&mut quarantine.status);
            self.state.set(quarantine.address(), Some(quarantine.into_row()));
            self.end_drained(entity_id);
        }
    }

    /// The first parked rows of an entity, once they are known.
    pub(super) fn parked_page(&mut self, entity_id: &str, limit: usize) -> Option<Vec<Parked>> {
        let first = self.read_quarantine(entity_id)?.first;
        let prefix = Address::new(&PARKED, self.entity_key(entity_id, []));
        let rows = self.state.rows(Need::Page(prefix, limit))?;
        // Rows that this batch has parked itself are not in the page; they are drained in the next one.
        Some(rows.iter().filter_map(|row| Parked::read(row)).filter(|parked| parked.place >= first).collect())
    }

    pub(super) fn read_quarantine(&self, entity_id: &str) -> Option<Quarantine> {
        let row = self.state.get(&self.quarantine_address(entity_id)).flatten()?;
        Quarantine::read(row)
    }

    fn quarantine_address(&self, entity_id: &str) -> Address {
        Address::new(&QUARANTINE, self.entity_key(entity_id, []))
    }

    /// Runs a timer of an entity or its saga.
    pub(super) fn run_timer(&mut self, entity_id: &str, purpose: &str, name: &str, time: i64) {
        if !self.prepare(entity_id) {
            return;
        }
        let (cause, origin_name) = match (purpose, self.saga_of(entity_id)) {
            ("saga", _) if name == FORGET => return self.forget_saga(entity_id),
            ("saga", None) => return,
            ("saga", Some(saga)) => (Cause::SagaDue, format!("saga/{}/{}", saga.status().as_str(), saga.step())),
            _ => (Cause::Timer(name), name.to_owned()),
        };
        match self.run(entity_id, cause) {
            Ok(run) => {
                let origin = Origin::of_timer(self, entity_id, &origin_name, time);
                self.apply(entity_id, run, origin);
            }
            Err(failure) => self.quarantine_timer(entity_id, (purpose, name, time), &failure),
        }
    }
}

pub(super) fn record_of(parked: Parked) -> Record {
    Record {
        offset: parked.record_offset.unwrap_or_default(),
        timestamp_ms: parked.timestamp_ms.unwrap_or(-1),
        key: parked.key,
        value: parked.value,
        headers: header::from_text(parked.headers.as_deref().unwrap_or_default()),
    }
}
