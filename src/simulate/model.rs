//! The model: one thread folds each partition of the log in order and says what must become of each record from outside.
//!
//! Written from the contract and sharing nothing with the worker. A lane's order, duplicates, conflicts and dead letters
//! depend on nothing but the lane and are said exactly; what depends on the moment at which other lanes spoke is said as a
//! set of outcomes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;
use seriatim::{
    core::{
        header::POSITION,
        record::{LaneId, Record},
    },
    simulation::Evidence,
};

use crate::demo::wire;

/// A record's place.
pub type Place = (LaneId, i64);
/// An entity: kind and id.
pub type Entity = (&'static str, String);

/// What may become of a record.
pub type Words = BTreeSet<String>;

/// An event from outside.
#[derive(Clone, Debug)]
pub struct Seen {
    pub entity: Entity,
    pub kind: String,
    pub data: Json,
}

/// What the model says of a whole log.
#[derive(Debug, Default)]
pub struct Predicted {
    pub outcomes: BTreeMap<Place, Words>,
    pub events: BTreeMap<Place, Seen>,
    /// Whom a record names, sound or not.
    pub entities: BTreeMap<Place, Entity>,
    /// When records were written, in milliseconds since the epoch.
    pub written: BTreeMap<Place, i64>,
    /// Per entity what is applied for certain, in order.
    pub order: BTreeMap<Entity, Vec<Place>>,
    /// Purchases that were placed, by their first event.
    pub placed: BTreeMap<String, Json>,
    /// Entities of which a number never came.
    pub gaps: BTreeSet<Entity>,
    /// Entities of which a number came before an earlier one, or that a fact contradicts.
    pub suspects: BTreeSet<Entity>,
}

/// How far one source of one entity has come.
#[derive(Debug, Default)]
struct Marks {
    taken: i64,
    contents: BTreeMap<i64, String>,
    held: BTreeMap<i64, Place>,
    passed: BTreeSet<i64>,
}

#[derive(Debug, Default)]
struct Fold {
    found: Predicted,
    marks: BTreeMap<(Entity, String), Marks>,
    ids: BTreeMap<(Entity, String, String), String>,
    waiting: BTreeMap<String, Vec<Place>>,
    /// How long a record waits for its entity.
    patience_ms: i64,
    jumps: bool,
}

/// Predicts from the log alone.
pub fn predict(evidence: &Evidence) -> Predicted {
    let patience_ms = i64::try_from(evidence.plan.patience.as_millis()).unwrap_or(i64::MAX);
    let mut fold = Fold { patience_ms, jumps: evidence.plan.jumps(), ..Fold::default() };
    for (lane, records) in &evidence.log {
        let Some(kind) = kind_of(&lane.topic) else { continue };
        for record in records.iter().filter(|record| record.headers.text(POSITION).is_none()) {
            fold.take(kind, lane, record);
        }
    }
    for ((entity, _), marks) in &fold.marks {
        if !marks.held.is_empty() {
            fold.found.gaps.insert(entity.clone());
        }
        for place in marks.held.values() {
            fold.found.outcomes.insert(place.clone(), words(&["parked"]));
        }
    }
    for place in fold.waiting.into_values().flatten() {
        fold.found.outcomes.insert(place, words(&["expired"]));
    }
    fold.found
}

fn kind_of(topic: &str) -> Option<&'static str> {
    let kinds = [
        ("activity", "counter"),
        ("payments", "payment"),
        ("profiles", "profile"),
        ("purchases", "purchase"),
        ("stock", "stock"),
    ];
    kinds.into_iter().find(|(home, _)| *home == topic).map(|(_, kind)| kind)
}

fn words(all: &[&str]) -> Words {
    all.iter().map(|word| (*word).to_owned()).collect()
}

impl Fold {
    fn take(&mut self, kind: &'static str, lane: &LaneId, record: &Record) {
        let place = (lane.clone(), record.offset);
        let key = record.key.as_deref().map(|key| String::from_utf8_lossy(key).into_owned()).unwrap_or_default();
        let opened = wire::open(record);
        let entity = (kind, key);
        self.found.entities.insert(place.clone(), entity.clone());
        self.found.written.insert(place.clone(), record.timestamp_ms);
        let Some(opened) = opened else {
            let reason = if record.value.is_none() { "invalid" } else { "undecodable" };
            self.found.outcomes.insert(place, words(&[reason]));
            return;
        };
        if opened.id == "astray" {
            self.found.outcomes.insert(place, words(&["wrong_partition"]));
            return;
        }
        let (source, sequence) = attributes(record);
        if opened.kind == "activity.exploded" {
            self.found.outcomes.insert(place, words(&["unknown_type"]));
            return;
        }
        if opened.kind == "activity.counted" && opened.data.get("delta").is_none() {
            self.found.outcomes.insert(place, words(&["invalid"]));
            if let Some(number) = sequence {
                self.marks.entry((entity.clone(), source.clone())).or_default().passed.insert(number);
                self.release(&entity, &source);
            }
            return;
        }
        let content = format!("{} {}", opened.kind, opened.data);
        self.found.events.insert(place.clone(), Seen { entity: entity.clone(), kind: opened.kind, data: opened.data });
        match sequence {
            Some(number) => self.by_number(&entity, &source, number, content, place),
            None => self.by_id(&entity, &source, opened.id, content, place),
        }
    }

    fn by_id(&mut self, entity: &Entity, source: &str, id: String, content: String, place: Place) {
        let before = self.ids.entry((entity.clone(), source.to_owned(), id));
        match before {
            std::collections::btree_map::Entry::Occupied(before) => {
                let word = if *before.get() == content { "duplicate" } else { "conflict" };
                self.found.outcomes.insert(place, words(&[word]));
            }
            std::collections::btree_map::Entry::Vacant(new) => {
                new.insert(content);
                self.handle(place);
            }
        }
    }

    fn by_number(&mut self, entity: &Entity, source: &str, number: i64, content: String, place: Place) {
        let marks = self.marks.entry((entity.clone(), source.to_owned())).or_default();
        if let Some(known) = marks.contents.get(&number) {
            let word = if *known == content { "duplicate" } else { "conflict" };
            self.found.outcomes.insert(place, words(&[word]));
            return;
        }
        if number != marks.taken + 1 {
            self.found.suspects.insert(entity.clone());
        }
        marks.contents.insert(number, content);
        marks.held.insert(number, place);
        self.release(entity, source);
    }

    fn release(&mut self, entity: &Entity, source: &str) {
        loop {
            let marks = self.marks.entry((entity.clone(), source.to_owned())).or_default();
            let next = marks.taken + 1;
            let place = marks.held.remove(&next);
            if place.is_none() && !marks.passed.contains(&next) {
                return;
            }
            marks.taken = next;
            if let Some(place) = place {
                self.handle(place);
            }
        }
    }

    /// A fresh event in its turn.
    fn handle(&mut self, place: Place) {
        let event = self.found.events[&place].clone();
        let (entity, id) = (event.entity.clone(), event.entity.1.clone());
        let outcome = match event.kind.as_str() {
            "stock.adjusted" if event.data["delta"].as_i64() < Some(0) => words(&["applied", "refused"]),
            "purchase.placed" if self.found.placed.contains_key(&id) => words(&["refused"]),
            "purchase.placed" => {
                self.found.placed.insert(id.clone(), event.data.clone());
                let now = self.found.written[&place];
                for (number, waiting) in self.waiting.remove(&id).unwrap_or_default().into_iter().enumerate() {
                    let mut known = if number == 0 { words(&["applied"]) } else { words(&["applied", "refused"]) };
                    // What it waited for was there in time, however late it was read.
                    if self.jumps || now >= self.found.written[&waiting] + self.patience_ms {
                        known.extend(words(&["applied", "refused", "expired"]));
                    }
                    self.found.outcomes.insert(waiting, known);
                }
                words(&["applied"])
            }
            "purchase.cancelled" if self.found.placed.contains_key(&id) => words(&["applied", "refused"]),
            "purchase.cancelled" => {
                self.waiting.entry(id).or_default().push(place);
                return;
            }
            "payment.captured" | "payment.declined" | "payment.refunded" => {
                if id == "pay-unheard-of" {
                    words(&["expired"])
                } else {
                    // A fact of the bank beside the gateway's own contradicts one of the two, or comes too early.
                    words(&["applied", "parked", "expired"])
                }
            }
            _ => words(&["applied"]),
        };
        if outcome == words(&["applied"]) {
            self.found.order.entry(entity).or_default().push(place.clone());
        }
        self.found.outcomes.insert(place, outcome);
    }
}

/// Source and number, in either mode.
fn attributes(record: &Record) -> (String, Option<i64>) {
    if let Some(source) = record.headers.text("ce_source") {
        return (source.to_owned(), record.headers.text("ce_entityseq").and_then(|number| number.parse().ok()));
    }
    let body: Json = record.value.as_deref().and_then(|value| serde_json::from_slice(value).ok()).unwrap_or_default();
    let number = body["entityseq"].as_str().and_then(|number| number.parse().ok());
    (body["source"].as_str().unwrap_or_default().to_owned(), number)
}
