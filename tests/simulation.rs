//! A team's own handlers in simulated worlds, by the library's face alone; and that a seed is a seed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "simulation/poison.rs"]
mod poison;

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value as Json, json};
use seriatim::{
    core::{
        catalog::Catalog,
        fence::Position,
        header::Headers,
        message::Message,
        partition::partition_of,
        record::{LaneId, Record},
        rows::Row as _,
    },
    shop::counter::{Counter, Counters},
    simulation::{Dice, Evidence, Outsider, Plan, Scenario, Simulator},
};

/// Counters alone: every delta counts once, however often and in whatever order it comes.
struct Counting;

/// Nobody is asked anything.
struct Nobody;

impl Outsider for Nobody {
    fn hear(&mut self, _: &LaneId, _: &Record, _: &mut Dice) -> Vec<(Duration, Message)> {
        Vec::new()
    }
}

impl Scenario for Counting {
    fn catalog(&self) -> Catalog {
        Catalog::new("").kind(Counters)
    }

    fn traffic(&self, partitions: i32, dice: &mut Dice) -> Vec<(Duration, Message)> {
        let mut traffic = Vec::new();
        for number in 1..=20_i64 {
            for _ in 0..=dice.below(2) {
                traffic.push((Plan::moment(dice), counted(number, partitions)));
            }
        }
        traffic
    }

    fn outsider(&self, _: u64, _: i32) -> Box<dyn Outsider> {
        Box::new(Nobody)
    }

    fn judge(&self, evidence: &Evidence) -> Vec<String> {
        let counters = evidence.rows(Counter::table(), Counter::from_cells);
        let values: BTreeMap<String, i64> = counters.into_iter().map(|row| (row.counter, row.value)).collect();
        let expected = BTreeMap::from([("c".to_owned(), (1..=20).sum())]);
        if values == expected { Vec::new() } else { vec![format!("counters: {values:?}")] }
    }
}

fn counted(number: i64, partitions: i32) -> Message {
    let data = json!({ "counter": "c", "delta": number });
    message("activity", "c", "activity.counted", &number.to_string(), &data, partitions)
}

/// An event as a producer sends it.
fn message(topic: &str, key: &str, kind: &str, id: &str, data: &Json, partitions: i32) -> Message {
    Message {
        position: Position::default(),
        to: LaneId { topic: topic.to_owned(), partition: partition_of(key.as_bytes(), partitions) },
        link_sequence: None,
        timestamp_ms: None,
        key: Some(key.as_bytes().into()),
        value: Some(data.to_string().into_bytes().into()),
        headers: Headers::from_iter([
            ("ce_specversion", Some("1.0")),
            ("ce_id", Some(id)),
            ("ce_source", Some("/meter")),
            ("ce_type", Some(kind)),
        ]),
    }
}

#[test]
fn own_handlers_run_under_every_fault() {
    let simulator = Simulator::new(&Counting);
    for seed in 1..=150 {
        let outcome = simulator.run(&simulator.plan(seed), false);
        assert!(outcome.findings.is_empty(), "seed {seed}: {:?}", outcome.findings);
        assert!(outcome.records >= 20, "seed {seed} is no world");
    }
}

#[test]
fn a_seed_is_the_same_world_every_time() {
    let simulator = Simulator::new(&Counting);
    for seed in 1..=10 {
        let (first, second) = (simulator.run(&simulator.plan(seed), true), simulator.run(&simulator.plan(seed), true));
        assert_eq!(first.trace, second.trace, "seed {seed}");
        assert!(!first.trace.is_empty());
    }
}

#[test]
fn a_law_that_does_not_hold_is_found_and_made_small() {
    struct Wrong;
    impl Scenario for Wrong {
        fn catalog(&self) -> Catalog {
            Counting.catalog()
        }
        fn traffic(&self, partitions: i32, dice: &mut Dice) -> Vec<(Duration, Message)> {
            Counting.traffic(partitions, dice)
        }
        fn outsider(&self, seed: u64, partitions: i32) -> Box<dyn Outsider> {
            Counting.outsider(seed, partitions)
        }
        fn judge(&self, evidence: &Evidence) -> Vec<String> {
            let counters = evidence.rows(Counter::table(), Counter::from_cells);
            counters.iter().filter(|row| row.value >= 7).map(|row| format!("counter: {}", row.value)).collect()
        }
    }
    let simulator = Simulator::new(&Wrong);
    let plan = simulator.plan(3);
    assert!(!simulator.run(&plan, false).findings.is_empty());
    let small = simulator.shrink(&plan, 300);
    assert!(!simulator.run(&small, false).findings.is_empty());
    assert!(small.traffic.len() <= 3 && small.strikes.is_empty(), "{small:?}");
}
