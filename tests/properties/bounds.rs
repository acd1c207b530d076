//! What stays small, whatever producers send.

use std::sync::{Arc, atomic::AtomicBool};

use serde_json::json;
use seriatim::core::{ledger, limits::Limits, record::Record};

use super::{
    lane_world,
    told::{letters, record, words, world},
};

fn unreadable(key: &str, source: &str, number: i64) -> Record {
    record(key, source, Some(number), "tally.noted", &json!({ "tally": key }))
}

fn noted(key: &str, source: &str, number: i64) -> Record {
    record(key, source, Some(number), "tally.noted", &json!({ "tally": key, "word": format!("w{number}") }))
}

#[test]
fn places_of_dead_letters_leave_room_for_what_is_held() {
    let limits = Limits { held_per_entity_max: 10, held_per_lane_max: 40, ..lane_world::limits() };
    let mut world = world(limits, &Arc::new(AtomicBool::new(false)));
    for number in 2..50 {
        world.append("strict", unreadable("a", "/till", number));
        world.append("strict", unreadable(&format!("k{number}"), "/till", number));
    }
    world.run();
    assert_eq!(world.rows(&ledger::HELD, vec![]).len(), 20, "half of what a lane may hold");
    let of_one = world
        .rows(&ledger::HELD, vec![])
        .iter()
        .filter_map(|row| ledger::Held::read(row))
        .filter(|held| held.entity_id == "a")
        .count();
    assert_eq!(of_one, 5, "half of what an entity may hold");
    world.append("strict", noted("b", "/till", 2));
    world.append("strict", noted("b", "/till", 1));
    world.run();
    assert_eq!(words(&mut world, "b"), ["w1", "w2"]);
}

#[test]
fn an_entity_does_not_grow_with_sources_of_unreadable_records() {
    let mut world = world(lane_world::limits(), &Arc::new(AtomicBool::new(false)));
    for source in 0..300 {
        world.append("strict", unreadable("a", &format!("/source/{source}"), 1));
    }
    world.run();
    let stray = world.rows(&ledger::STRAY, vec![]).pop().and_then(|row| ledger::Stray::read(&row)).unwrap();
    assert_eq!(stray.marks.matches("/source/").count(), 256);
    assert_eq!(letters(&mut world).len(), 300);
}

#[test]
fn what_cannot_stand_in_a_key_takes_no_place() {
    let mut world = world(lane_world::limits(), &Arc::new(AtomicBool::new(false)));
    for source in ["/a\0b".to_owned(), "s".repeat(300)] {
        world.append("strict", unreadable("a", &source, 5));
        let mut untimely = unreadable("a", &source, 6);
        untimely.headers.write("ce_time", "noon");
        world.append("strict", untimely);
    }
    world.run();
    assert_eq!(letters(&mut world).len(), 4);
    assert!(world.rows(&ledger::HELD, vec![]).is_empty());
}

/// A buffer that opens and closes again and again must not leave a timer each time for ever.
#[test]
fn gap_timers_of_one_source_fall_together() {
    let mut world = world(lane_world::limits(), &Arc::new(AtomicBool::new(false)));
    for round in 0..20 {
        for number in [2 * round + 2, 2 * round + 1] {
            world.append("strict", noted("a", "/till", number));
            world.run();
        }
        world.pass_time(1_000_000);
    }
    world.append("strict", noted("a", "/till", 100));
    world.run();
    world.pass_time(4 * lane_world::MINUTE);
    world.run();
    world.pass_time(lane_world::MINUTE - 1_000_000);
    world.run();
    let left = world.rows(&ledger::TIMER, vec![]).len();
    assert!(left <= 2, "{left} timers: those of closed gaps have gone, or fallen together");
}

#[test]
fn what_is_held_is_counted_to_the_byte_also_after_a_claim() {
    let held_bytes = |restart: bool| {
        let mut world = world(lane_world::limits(), &Arc::new(AtomicBool::new(false)));
        for number in [9, 3, 2] {
            world.append("strict", noted("a", "/till", number));
        }
        world.append("strict", unreadable("a", "/till", 5));
        world.append("strict", record("b", "/till", Some(1), "tally.ended", &json!({"tally": "b", "word": "end"})));
        world.run();
        if restart {
            world.restart();
        }
        for record in [noted("a", "/till", 1), noted("a", "/till", 4), noted("b", "/till", 2)] {
            world.append("strict", record);
        }
        world.run();
        let lane = super::told::lane_of("strict");
        let text = format!("{:?}", world.lane(&lane));
        let at = text.rfind("held_bytes: ").unwrap() + "held_bytes: ".len();
        text[at..].split(',').next().unwrap().to_owned()
    };
    assert_eq!(held_bytes(true), held_bytes(false));
}

/// A producer that loses events, or makes as if, must not stop the lane for everybody.
#[test]
fn a_flood_of_gaps_halts_nobody_and_stays_small() {
    let limits = Limits { held_per_lane_max: 40, failures_max: 10, ..lane_world::limits() };
    let mut world = world(limits, &Arc::new(AtomicBool::new(false)));
    for number in 0..500 {
        world.append("strict", noted(&format!("k{number}"), "/till", 2));
    }
    world.append("strict", noted("b", "/till", 2));
    world.append("strict", noted("b", "/till", 1));
    world.run();
    assert_eq!(world.told.halts.len(), 0, "{:?}", world.told.halts);
    assert_eq!(words(&mut world, "b"), ["w1", "w2"]);
    let held = world.rows(&ledger::HELD, vec![]).len();
    assert!((30..=40).contains(&held), "{held} held");
    assert_eq!(letters(&mut world).len() + held, 500, "what is not held any more is a dead letter");
    assert!(world.rows(&ledger::QUARANTINE, vec![]).is_empty(), "nobody is to blame for a full buffer");

    world.pass_time(6 * lane_world::MINUTE);
    world.run();
    assert_eq!(world.told.halts.len(), 0, "{:?}", world.told.halts);
    assert_eq!(world.rows(&ledger::QUARANTINE, vec![]).len(), 10, "as many as the bound of a minute");
    let parked = world.rows(&ledger::PARKED, vec![]).len();
    assert_eq!(letters(&mut world).len() + parked, 500);
}
