//! What a batch costs: its statements and its rounds of loading do not grow with its events.

use std::sync::{Arc, atomic::AtomicBool};

use serde_json::json;
use seriatim::core::{limits::Limits, record::Record};

use super::{
    lane_world::{self, World},
    told::{lane_of, record, words, world},
};

const MANY: i64 = 1000;

fn counted(key: &str, number: i64) -> Record {
    record(key, "/till", Some(number), "tally.counted", &json!({ "tally": key, "word": format!("w{number}") }))
}

fn noted(key: &str, number: i64, word: &str) -> Record {
    record(key, "/till", Some(number), "tally.noted", &json!({ "tally": key, "word": word }))
}

fn big() -> World {
    let limits = Limits {
        held_per_entity_max: 5000,
        held_per_lane_max: 5000,
        ahead_max: 5000,
        held_bytes_per_lane_max: 1 << 30,
        digests_kept: 5000,
        ..lane_world::limits()
    };
    world(limits, &Arc::new(AtomicBool::new(true)))
}

/// Statements and rounds of one batch, after a history that was read before.
fn cost(topic: &str, before: Vec<Record>, batch: Vec<Record>) -> (u64, usize, World) {
    let (mut world, lane) = (big(), lane_of(topic));
    world.batch_max = 10_000;
    for record in before {
        world.append(topic, record);
    }
    world.run();
    world.restart();
    for record in batch {
        world.append(topic, record);
    }
    let inputs = world.gather(&lane);
    let turn = world.turn(&lane, &inputs, None);
    (turn.statements, turn.rounds, world)
}

/// One event and many of the same shape cost the same.
#[track_caller]
fn same_cost(topic: &str, before: impl Fn(i64) -> Vec<Record>, batch: impl Fn(i64) -> Vec<Record>) -> World {
    let (one, rounds_of_one, _) = cost(topic, before(1), batch(1));
    let (many, rounds, world) = cost(topic, before(MANY), batch(MANY));
    assert!(rounds <= 8, "{rounds} rounds");
    assert_eq!((one, rounds_of_one), (many, rounds), "statements and rounds of one event and of {MANY}");
    world
}

#[test]
fn new_events_of_many_entities() {
    let keys = |count: i64| (1..=count).map(|key| counted(&format!("k{key}"), 1)).collect();
    same_cost("strict", |_| vec![], keys);
    same_cost("plain", |_| vec![], keys);
}

#[test]
fn one_hot_entity() {
    let numbers = |count: i64| (1..=count).map(|number| counted("hot", number)).collect();
    let mut world = same_cost("strict", |_| vec![], numbers);
    assert_eq!(words(&mut world, "hot").len(), usize::try_from(MANY).unwrap());
}

#[test]
fn nothing_but_duplicates() {
    let numbers = |count: i64| (1..=count).map(|number| counted("hot", number)).collect::<Vec<_>>();
    same_cost("strict", numbers, numbers);
    same_cost("plain", numbers, numbers);
}

#[test]
fn nothing_but_conflicts() {
    let numbers = |count: i64| (1..=count).map(|number| counted("hot", number)).collect::<Vec<_>>();
    let others = |count: i64| (1..=count).map(|number| noted("hot", number, "other")).collect::<Vec<_>>();
    same_cost("strict", numbers, others);
}

#[test]
fn every_event_poisonous() {
    let fails = |count: i64| (1..=count).map(|number| noted("hot", number, "fail")).collect::<Vec<_>>();
    same_cost("easy", |_| vec![], fails);
}

#[test]
fn all_of_it_backwards() {
    let backwards = |count: i64| (1..=count).rev().map(|number| counted("hot", number)).collect::<Vec<_>>();
    let (one, rounds, _) = cost("strict", vec![], backwards(2));
    let (many, rounds_of_many, mut world) = cost("strict", vec![], backwards(MANY));
    assert_eq!((one, rounds), (many, rounds_of_many));
    assert_eq!(words(&mut world, "hot").len(), usize::try_from(MANY).unwrap());
}

#[test]
fn every_second_one_was_held() {
    let even = |count: i64| (1..=count).map(|half| counted("hot", 2 * half)).collect::<Vec<_>>();
    let odd = |count: i64| (1..=count).map(|half| counted("hot", 2 * half - 1)).collect::<Vec<_>>();
    let mut world = same_cost("strict", even, odd);
    assert_eq!(words(&mut world, "hot").len(), usize::try_from(2 * MANY).unwrap());
}

#[test]
fn every_second_one_is_the_place_of_a_dead_letter_and_comes_again() {
    let broken = |number: i64| record("hot", "/till", Some(number), "tally.noted", &json!({ "tally": "hot" }));
    let places = move |count: i64| (1..=count).map(|half| broken(2 * half)).collect::<Vec<_>>();
    let batch = |count: i64| {
        (1..=count).flat_map(|half| [counted("hot", 2 * half - 1), counted("hot", 2 * half)]).collect::<Vec<_>>()
    };
    same_cost("strict", places, batch);
}

#[test]
fn many_that_wait_are_taken_up_at_once() {
    let ended =
        |number: i64| record("hot", "/till", Some(number), "tally.ended", &json!({"tally": "hot", "word": "e"}));
    let (_, rounds, mut world) = cost("strict", (1..=100).map(ended).collect(), vec![noted("hot", 101, "x")]);
    assert!(rounds <= 8, "{rounds} rounds");
    assert_eq!(words(&mut world, "hot").len(), 101);
}
