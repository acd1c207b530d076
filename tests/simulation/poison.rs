//! Handlers that panic or contradict: their entity stands still from that event on, in order, and nobody else does.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::{Value as Json, json};
use seriatim::{
    core::{
        catalog::Catalog,
        effect::{Effects, Objection},
        kind::{Entity, EventType, Invalid, Nature},
        ledger::{PARKED, Parked, QUARANTINE, Quarantine},
        message::Message,
        rows::{Row as _, Rows},
    },
    shop::counter::Counter,
    simulation::{Dice, Evidence, Outsider, Plan, Scenario, Simulator},
};

use super::{Nobody, message};

/// A delta that makes the handler panic, and one that it takes for a contradiction.
const PANICS: i64 = 666;
const CONTRADICTS: i64 = 667;

/// Counters whose handler has a bug.
struct Brittle;

impl Entity for Brittle {
    const KIND: &'static str = "brittle";
    const TOPIC: &'static str = "brittle";
    const KEY_FIELD: &'static str = "counter";
    const EVENTS: &'static [EventType] = &[EventType { name: "brittle.counted", nature: Nature::Fact }];
    type Main = Counter;
    type Event = i64;

    fn parse(_: &str, data: &Json) -> Result<i64, Invalid> {
        data["delta"].as_i64().ok_or_else(|| Invalid::new("delta", "is no number"))
    }

    fn decide(&self, rows: &mut Rows<'_>, delta: &i64, _: &mut Effects) -> Result<(), Objection> {
        assert_ne!(*delta, PANICS, "a bug of the handler");
        if *delta == CONTRADICTS {
            return Err(Objection::Contradiction("cannot be".to_owned()));
        }
        let before = rows.main::<Counter>().map_or(0, |counter| counter.value);
        rows.put(Counter { counter: rows.entity_id().to_owned(), value: before + delta });
        Ok(())
    }
}

/// Four of them, of which up to two meet what breaks them.
struct Breaking;

impl Scenario for Breaking {
    fn catalog(&self) -> Catalog {
        Catalog::new("").kind(Brittle)
    }

    fn traffic(&self, partitions: i32, dice: &mut Dice) -> Vec<(Duration, Message)> {
        let mut traffic = Vec::new();
        for entity in 0..4 {
            let key = format!("e{entity}");
            for number in 1..=8 {
                traffic.push((Plan::moment(dice), counted(&key, number, number, partitions)));
                if dice.one_in(4) {
                    traffic.push((Plan::moment(dice), counted(&key, number, number, partitions)));
                }
            }
            if entity < 2 && dice.one_in(2) {
                let poison = if dice.one_in(2) { PANICS } else { CONTRADICTS };
                traffic.push((Plan::moment(dice), counted(&key, 9, poison, partitions)));
            }
        }
        traffic
    }

    fn outsider(&self, _: u64, _: i32) -> Box<dyn Outsider> {
        Box::new(Nobody)
    }

    /// Folds the topic: an entity's records count up to the first that breaks it, and lie parked from there on.
    fn judge(&self, evidence: &Evidence) -> Vec<String> {
        let (mut values, mut parked) = (BTreeMap::<String, i64>::new(), BTreeMap::<String, Vec<i64>>::new());
        let mut known = BTreeSet::new();
        for record in evidence.log.iter().filter(|(lane, _)| lane.topic == Brittle::TOPIC).flat_map(|(_, log)| log) {
            let key = String::from_utf8(record.key.as_deref().unwrap().to_vec()).unwrap();
            let data: Json = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
            let delta = data["delta"].as_i64().unwrap();
            if let Some(parked) = parked.get_mut(&key) {
                parked.push(record.offset);
            } else if !known.insert((key.clone(), record.headers.text("ce_id").unwrap().to_owned())) {
                // A repeat.
            } else if delta >= PANICS {
                parked.insert(key, vec![record.offset]);
            } else {
                *values.entry(key).or_default() += delta;
            }
        }
        let counters = evidence.rows(Counter::table(), Counter::from_cells);
        let found: BTreeMap<String, i64> = counters.into_iter().map(|row| (row.counter, row.value)).collect();
        let mut findings = Vec::new();
        if found != values {
            findings.push(format!("counters: {found:?}, not {values:?}"));
        }
        let mut found: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for row in evidence.rows(&QUARANTINE, Quarantine::read) {
            found.insert(row.entity_id, Vec::new());
        }
        for row in evidence.rows(&PARKED, Parked::read) {
            found.entry(row.entity_id).or_default().extend(row.record_offset);
        }
        if found != parked {
            findings.push(format!("parked: {found:?}, not {parked:?}"));
        }
        findings
    }
}

fn counted(key: &str, number: i64, delta: i64, partitions: i32) -> Message {
    let data = json!({ "counter": key, "delta": delta });
    message(Brittle::TOPIC, key, "brittle.counted", &format!("{key}-{number}"), &data, partitions)
}

#[test]
fn poison_stops_its_entity_and_nobody_else() {
    let simulator = Simulator::new(&Breaking);
    let mut poisoned = 0;
    for seed in 1..=150 {
        let plan = simulator.plan(seed);
        let is_poison = |message: &Message| String::from_utf8_lossy(message.value.as_deref().unwrap()).contains(":66");
        poisoned += plan.traffic.iter().filter(|(_, message)| is_poison(message)).count();
        let outcome = simulator.run(&plan, false);
        assert!(outcome.findings.is_empty(), "seed {seed}: {:?}", outcome.findings);
    }
    assert!(poisoned > 50, "{poisoned} are too few to tell");
}
