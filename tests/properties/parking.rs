//! Entities that fail, are released, fail again: once the handler is mended and all is released, every event
//! was applied exactly once and in the order of its source.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use proptest::prelude::*;
use seriatim::core::{
    ledger::{self, Quarantine},
    limits::Limits,
    obey::action,
};

use super::{
    lane_world::{self, World},
    told::{Cut, Sent, cuts, lane_of, read_all, words, world},
};

const NUMBERS: i64 = 9;

/// All numbers of two sources of two entities, shuffled, some of them sent twice, two of them unreadable.
fn histories() -> impl Strategy<Value = Vec<Sent>> {
    let mut all = Vec::new();
    for (entity, source) in [("a", "/till"), ("a", "/web"), ("b", "/till")] {
        for number in 1..=NUMBERS {
            let word = match number {
                2 | 6 => Some("fail".to_owned()),
                4 => None,
                _ => Some(format!("{source}{number}")),
            };
            all.push(Sent { entity, source, number, word });
        }
    }
    let again = prop::sample::subsequence(all.clone(), 0..8);
    let again = again.prop_map(|again| again.into_iter().filter(|sent| sent.word.is_some()).collect::<Vec<_>>());
    again.prop_flat_map(move |again| Just([all.clone(), again].concat()).prop_shuffle())
}

fn release_all(world: &mut World) -> bool {
    let lane = lane_of("strict");
    let rows = world.rows(&ledger::QUARANTINE, vec![]);
    let unwell: Vec<Quarantine> = rows.iter().filter_map(|row| Quarantine::read(row)).collect();
    for row in &unwell {
        world.order(&lane, action::ENTITY_RELEASE, Some(&row.entity_id), "{}");
    }
    !unwell.is_empty()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_parked_is_applied_once_and_in_order(
        history in histories(),
        first in cuts(),
        second in cuts(),
        parts in 1_usize..4,
        drain_max in 1_usize..5,
    ) {
        let broken = Arc::new(AtomicBool::new(true));
        let limits = Limits { failures_max: 1000, drain_max, cached_rows_max: 3, ..lane_world::limits() };
        let (mut world, lane) = (world(limits, &broken), lane_of("strict"));
        for part in history.chunks(history.len() / parts + 1) {
            for sent in part {
                world.append("strict", sent.record());
            }
            // Released while the handler is still broken: each fails and is parked again.
            release_all(&mut world);
            read_all(&mut world, &lane, &first);
        }
        broken.store(false, Ordering::Relaxed);
        let mut releases = 0;
        while release_all(&mut world) {
            read_all(&mut world, &lane, &second);
            world.run();
            releases += 1;
            prop_assert!(releases < 5, "a release with a mended handler parks again");
        }
        for (entity, sources) in [("a", vec!["/till", "/web"]), ("b", vec!["/till"])] {
            let words = words(&mut world, entity);
            for source in &sources {
                let of_source: Vec<&String> = words.iter().filter(|word| word.starts_with(source)).collect();
                let expected: Vec<String> = [1, 3, 5, 7, 8, 9].map(|number| format!("{source}{number}")).into();
                prop_assert_eq!(of_source, expected.iter().collect::<Vec<_>>());
            }
            let failed = words.iter().filter(|word| *word == "fail").count();
            prop_assert_eq!(failed, 2 * sources.len());
        }
        for table in [&ledger::HELD, &ledger::PARKED, &ledger::QUARANTINE] {
            prop_assert!(world.rows(table, vec![]).is_empty(), "{} is empty at rest", table.name);
        }
        prop_assert!(world.told.rounds_max <= 8, "{} rounds", world.told.rounds_max);
    }
}

#[test]
fn a_cut_of_nothing_reads_all() {
    let mut world = world(lane_world::limits(), &Arc::new(AtomicBool::new(false)));
    world.append("strict", Sent { entity: "a", source: "/till", number: 1, word: Some("x".to_owned()) }.record());
    read_all(&mut world, &lane_of("strict"), &Cut(vec![]));
    assert_eq!(words(&mut world, "a"), ["x"]);
}

fn told(number: i64, word: &str) -> Sent {
    Sent { entity: "a", source: "/till", number, word: Some(word.to_owned()) }
}

/// A gap may come up while an entity drains, and its deadline with it: the timer must not be lost.
#[test]
fn a_gap_that_comes_up_while_draining_keeps_its_deadline() {
    let broken = Arc::new(AtomicBool::new(true));
    let (mut world, lane) = (world(Limits { drain_max: 1, ..lane_world::limits() }, &broken), lane_of("strict"));
    for sent in [told(1, "fail"), told(3, "three"), told(4, "four")] {
        world.append("strict", sent.record());
    }
    world.run();
    broken.store(false, Ordering::Relaxed);
    release_all(&mut world);
    // The order and the first record; then the second, which is ahead of its turn and held.
    for _ in 0..2 {
        let inputs = world.gather(&lane);
        world.turn(&lane, &inputs, None);
    }
    assert_eq!((world.lane(&lane).backlog().held, world.lane(&lane).backlog().parked), (1, 1));
    world.pass_time(6 * lane_world::MINUTE);
    let inputs = world.gather(&lane);
    assert_eq!(inputs.len(), 1, "the timer of the gap is due");
    world.turn(&lane, &inputs, None);
    world.run();
    assert_eq!(world.lane(&lane).backlog().held, 2);
    world.pass_time(6 * lane_world::MINUTE);
    world.run();
    let row = world.rows(&ledger::QUARANTINE, vec![]).pop().and_then(|row| Quarantine::read(&row));
    assert_eq!(row.map(|row| (row.cause, row.next - row.first)), Some(("gap".to_owned(), 2)));
}
