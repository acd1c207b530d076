//! Orders and refusals of the database as they meet other inputs in one batch.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use seriatim::core::{
    lane::Input,
    ledger::{self, COMMAND_LOG, CommandLog, Parked, Quarantine, TIMER},
    limits::Limits,
    obey::action,
    record::LaneId,
    table::Value,
};

use super::{
    lane_world::{self, World},
    told::{Sent, lane_of, words, world},
};

fn begin(sent: &[(i64, &str)]) -> (World, LaneId, Arc<AtomicBool>) {
    let broken = Arc::new(AtomicBool::new(true));
    let mut world = world(lane_world::limits(), &broken);
    for (number, word) in sent {
        append(&mut world, *number, word);
    }
    (world, lane_of("strict"), broken)
}

fn append(world: &mut World, number: i64, word: &str) {
    let sent = Sent { entity: "a", source: "/till", number, word: Some((*word).to_owned()) };
    world.append("strict", sent.record());
}

fn results(world: &mut World) -> Vec<(i64, String)> {
    let rows = world.rows(&COMMAND_LOG, vec![]);
    rows.iter().filter_map(|row| CommandLog::read(row)).map(|log| (log.done, log.action)).collect()
}

fn parked(world: &mut World) -> Vec<String> {
    let rows = world.rows(&ledger::PARKED, vec![]);
    let rows = rows.iter().filter_map(|row| Parked::read(row));
    rows.map(|row| row.record_offset.map_or_else(|| "timer".to_owned(), |offset| offset.to_string())).collect()
}

#[test]
fn what_drains_is_not_skipped() {
    let (mut world, lane, broken) = begin(&[(1, "fail"), (2, "two")]);
    world.run();
    broken.store(false, Ordering::Relaxed);
    world.order(&lane, action::ENTITY_RELEASE, Some("a"), "{}");
    world.order(&lane, action::ENTITY_SKIP, Some("a"), "{}");
    world.run();
    assert_eq!(words(&mut world, "a"), ["fail", "two"]);
    assert_eq!(results(&mut world), [(1, action::ENTITY_RELEASE.to_owned()), (0, action::ENTITY_SKIP.to_owned())]);
}

/// The order was given for an earlier failure; what is parked by the same batch is not known to the store yet.
#[test]
fn what_fails_in_the_batch_of_a_skip_is_skipped_in_the_next() {
    let (mut world, lane, _) = begin(&[(1, "fail"), (2, "two")]);
    world.order(&lane, action::ENTITY_SKIP, Some("a"), "{}");
    let inputs = world.gather(&lane);
    assert_eq!(inputs.len(), 3);
    world.turn(&lane, &inputs, None);
    assert_eq!((parked(&mut world).len(), results(&mut world)), (2, vec![]));
    world.run();
    assert_eq!(words(&mut world, "a"), ["two"]);
    assert_eq!(results(&mut world).len(), 1);
}

#[test]
fn a_record_whose_rows_the_database_refuses_counts_as_failed() {
    let (mut world, lane, _) = begin(&[(1, "one"), (3, "three")]);
    world.run();
    append(&mut world, 2, "two");
    let mut inputs = world.gather(&lane);
    inputs[0].condemn("numeric value out of range".to_owned());
    world.turn(&lane, &inputs, None);
    assert_eq!(words(&mut world, "a"), ["one"]);
    assert_eq!(parked(&mut world), ["2", "1"], "what failed, then what was held behind it");
    world.order(&lane, action::ENTITY_RELEASE, Some("a"), "{}");
    world.run();
    assert_eq!(words(&mut world, "a"), ["one", "two", "three"]);
}

#[test]
fn a_timer_whose_rows_the_database_refuses_is_parked_first() {
    let (mut world, lane, _) = begin(&[(1, "wake"), (3, "three")]);
    world.run();
    world.pass_time(2 * lane_world::MINUTE);
    let mut inputs = world.gather(&lane);
    inputs[0].condemn("out of range".to_owned());
    world.turn(&lane, &inputs, None);
    assert_eq!(parked(&mut world), ["timer", "1"]);
    let row = world.rows(&ledger::QUARANTINE, vec![]).pop().and_then(|row| Quarantine::read(&row)).unwrap();
    assert_eq!((row.status.as_str(), row.cause.as_str()), ("quarantined", "failure"));
    world.order(&lane, action::ENTITY_RELEASE, Some("a"), "{}");
    world.run();
    assert_eq!(words(&mut world, "a"), ["wake", "(alarm)"]);
    let timers = world.rows(&TIMER, vec![Value::text("strict")]);
    assert!(!timers.is_empty(), "three has a gap before it, with a deadline");
}

#[test]
fn an_order_whose_rows_the_database_refuses_is_refused() {
    let (mut world, lane, _) = begin(&[(1, "fail")]);
    world.run();
    world.order(&lane, action::ENTITY_RELEASE, Some("a"), "{}");
    let mut inputs = world.gather(&lane);
    inputs[0].condemn("out of range".to_owned());
    world.turn(&lane, &inputs, None);
    assert_eq!(results(&mut world), [(0, action::ENTITY_RELEASE.to_owned())]);
    assert_eq!(parked(&mut world), ["0"]);
}

#[test]
fn nothing_is_read_in_the_batch_that_accepts_a_new_topic() {
    let (mut world, lane, _) = begin(&[(1, "one")]);
    world.run();
    append(&mut world, 2, "two");
    world.order(&lane, action::LANE_ACCEPT, None, "{}");
    let mut inputs = world.gather(&lane);
    inputs.rotate_right(1);
    assert!(matches!(inputs[..], [Input::Command(..), Input::Record(_)]));
    let turn = world.turn(&lane, &inputs, None);
    assert_eq!((turn.decided.commit.next_offset, turn.decided.commit.incarnation), (0, 2));
    assert_eq!(turn.decided.commit.last, None);
    world.run();
    assert_eq!(words(&mut world, "a"), ["one", "two"], "numbers tell what was taken of the old topic");
}

/// Who gets no answer sends again, and the lane may have obeyed in between.
#[test]
fn an_order_that_comes_again_after_it_was_obeyed_changes_nothing() {
    let (mut world, lane, _) = begin(&[(1, "fail"), (2, "two"), (3, "fail"), (4, "four")]);
    world.run();
    world.order(&lane, action::ENTITY_SKIP, Some("a"), "{}");
    world.run();
    assert_eq!(parked(&mut world), ["2", "3"]);
    world.order_again();
    world.run();
    assert_eq!(parked(&mut world), ["2", "3"], "the second failure is not skipped by the order for the first");
    assert_eq!(results(&mut world).len(), 1);
    assert!(world.rows(&ledger::COMMAND, vec![]).is_empty());
}

/// What was given up by then is given up: the order is not refused for what came between its pages.
#[test]
fn a_discard_that_has_begun_is_not_refused() {
    let broken = Arc::new(AtomicBool::new(true));
    let mut world = world(Limits { drain_max: 1, ..lane_world::limits() }, &broken);
    let lane = lane_of("strict");
    for (number, word) in [(1, "fail"), (2, "two"), (3, "three")] {
        append(&mut world, number, word);
    }
    world.run();
    world.order(&lane, action::ENTITY_DISCARD, Some("a"), "{}");
    let inputs = world.gather(&lane);
    world.turn(&lane, &inputs, None);
    assert_eq!((parked(&mut world), results(&mut world)), (vec!["1".to_owned(), "2".to_owned()], vec![]));
    world.order(&lane, action::ENTITY_RELEASE, Some("a"), "{}");
    while !parked(&mut world).is_empty() {
        let all_but_the_discard = world.gather(&lane).split_off(1);
        world.turn(&lane, &all_but_the_discard, None);
    }
    world.run();
    assert_eq!(words(&mut world, "a"), ["two", "three"]);
    assert_eq!(results(&mut world), [(1, action::ENTITY_DISCARD.to_owned()), (1, action::ENTITY_RELEASE.to_owned())]);
}
