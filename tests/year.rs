//! A year of one worker's life, on a clock that is driven: what it keeps stops growing, and what it has forgotten
//! never makes a wrong answer.
//!
//! Each day brings every kind of traffic there is: with numbers and with ids, twice, out of order, late, unreadable,
//! poisonous; checkouts that succeed, fail, time out and are cancelled; and an operator who settles what is left over.
//! Retention runs as in a worker. Old records come again now and then, each by another mark.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/lane_world.rs"]
mod lane_world;
#[path = "support/tally.rs"]
mod tally;
#[path = "year/traffic.rs"]
mod traffic;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use lane_world::World;
use seriatim::{
    core::{
        batch::Outcome,
        event::Reason,
        ledger::{self, SAGA, TABLES},
        limits::Limits,
        record::{LaneId, Record},
        rows::Row as _,
        table::{Row, Table},
    },
    shop,
};
use traffic::{DAY, Traffic};

const DAYS: i64 = 365;
/// Days of a month of this year, which has twelve of them and a few days.
const MONTH: i64 = 30;
const WINDOW_DAYS: u64 = 8;
const JOURNAL_DAYS: u64 = 60;
const SETTLED_DAYS: u64 = 20;

#[test]
fn a_year_of_traffic_leaves_no_more_than_three_months_of_it() {
    let mut world = World::new(catalog(), limits(), 2);
    let mut traffic = Traffic::new(&mut world);
    let mut at_three_months = BTreeMap::new();
    for day in 0..DAYS {
        traffic.day(&mut world, day);
        if day % 10 == 0 && day > 100 {
            old_records_change_nothing(&mut world, day);
        }
        if day == 3 * MONTH {
            at_three_months = counts(&mut world);
        } else if day > 3 * MONTH && day % MONTH == 0 {
            for (table, count) in counts(&mut world) {
                let bound = at_three_months[table] * 5 / 4 + 20;
                assert!(count <= bound, "{table} holds {count} rows on day {day}, more than {bound}");
            }
        }
    }
    let told = &world.told;
    assert!(told.halts.is_empty(), "{:?}", told.halts);
    for outcome in Outcome::ALL {
        assert!(told.tally[&outcome] > 300, "{outcome:?} happened {} times", told.tally[&outcome]);
    }
    traffic.every_purchase_has_ended(&mut world);
    // The year must have been one: what is bounded was full, what has ended was forgotten.
    for table in ["seen", "journal", "passed", "saga", "saga_step", "dead_letter", "command_log", "timer"] {
        assert!(at_three_months[table] > 20, "{table} holds {} rows", at_three_months[table]);
    }
    assert!(world.rows(&SAGA, vec![]).len() < traffic.purchases() / 10);
}

/// The shop and a kind that fails, with bounds that a year passes many times.
fn catalog() -> seriatim::core::catalog::Catalog {
    tally::add_tallies(shop::catalog(&shop::Settings::default(), ""), &Arc::new(AtomicBool::new(true)))
}

fn limits() -> Limits {
    let days = |count: u64| Duration::from_secs(86_400 * count);
    Limits {
        dedupe_window: days(WINDOW_DAYS),
        journal_kept: days(JOURNAL_DAYS),
        command_log_kept: days(SETTLED_DAYS),
        saga_kept: days(SETTLED_DAYS),
        letter_kept: days(SETTLED_DAYS),
        failures_max: 1000,
        ..lane_world::limits()
    }
}

/// The rows of every table of the runtime.
fn counts(world: &mut World) -> BTreeMap<&'static str, usize> {
    TABLES.iter().map(|table| (table.name, world.rows(table, vec![]).len())).collect()
}

/// All rows that the shop's events have made.
fn business(world: &mut World) -> Vec<Vec<Row>> {
    let tables: [&'static Table; 7] = [
        shop::stock::Item::table(),
        shop::stock::Reservation::table(),
        shop::purchase::Purchase::table(),
        shop::payment::Payment::table(),
        shop::profile::Profile::table(),
        shop::counter::Counter::table(),
        tally::Tally::table(),
    ];
    tables.into_iter().map(|table| world.rows(table, vec![])).collect()
}

/// Brings records again that are a month old and more.
fn old_records_change_nothing(world: &mut World, day: i64) {
    let before = business(world);
    let number = |age: i64| record_of(world, "profiles", day - age, "ce_entityseq");
    let cases = [
        ("an id, by its record's age", record_of(world, "activity", day - 31, "ce_id"), too_old()),
        ("a number whose journal row is kept", number(31), (Outcome::Duplicate, None)),
        ("a number whose journal row is gone", number(75), too_old()),
        (
            "a message of another lane",
            record_of(world, "stock", day - 31, "seriatim_sequence"),
            (Outcome::Duplicate, None),
        ),
    ];
    for (what, (lane, record), (outcome, reason)) in cases {
        let (tally, letters) = (world.told.tally.clone(), world.told.letters.clone());
        again(world, &lane, record);
        world.run();
        let mut expected = tally;
        *expected.get_mut(&outcome).unwrap() += 1;
        assert_eq!(world.told.tally, expected, "day {day}: {what}");
        let mut expected = letters;
        if let Some(reason) = reason {
            *expected.entry(reason).or_insert(0) += 1;
        }
        assert_eq!(world.told.letters, expected, "day {day}: {what}");
    }
    // By its offset alone: the broker delivers what was read long ago.
    let (lane, record) = record_of(world, "activity", day - 31, "ce_id");
    let input = world.lane(&lane).open(record);
    let turn = world.turn(&lane, &[input], None);
    assert!(turn.decided.tally.is_empty() && turn.decided.commit.writes.is_empty(), "{:?}", turn.decided);
    assert_eq!(business(world), before, "day {day}");
}

fn too_old() -> (Outcome, Option<Reason>) {
    (Outcome::DeadLettered, Some(Reason::TooOld))
}

/// A record of that day which was taken by this attribute.
fn record_of(world: &World, topic: &str, day: i64, attribute: &str) -> (LaneId, Record) {
    let on_that_day = |record: &&Record| {
        (record.timestamp_ms * 1000 - lane_world::BEGIN) / DAY == day
            && record.headers.get(attribute).is_some()
            && record.value.as_deref().is_some_and(|value| value.starts_with(b"{"))
    };
    let mut lanes = world.logs.iter().filter(|(lane, _)| lane.topic == topic);
    let found = lanes.find_map(|(lane, log)| Some((lane.clone(), log.iter().find(on_that_day)?.clone())));
    found.unwrap_or_else(|| panic!("no record of {topic} on day {day}"))
}

/// Appends a record once more, as it was.
fn again(world: &mut World, lane: &LaneId, mut record: Record) {
    let log = world.logs.get_mut(lane).unwrap();
    record.offset = i64::try_from(log.len()).unwrap();
    log.push(record);
}

/// Whether a letter of the world is settled.
fn letters(world: &mut World) -> Vec<ledger::DeadLetter> {
    world.rows(&ledger::DEAD_LETTER, vec![]).iter().filter_map(|row| ledger::DeadLetter::read(row)).collect()
}

#[test]
fn the_page_on_retention_tells_of_every_table() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/retention.md");
    let page = std::fs::read_to_string(page).unwrap();
    let first_cells = page.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let told: BTreeSet<&str> = first_cells.flat_map(|cell| cell.trim_end_matches('`').split("`, `")).collect();
    let shop = [
        shop::stock::Item::table(),
        shop::stock::Reservation::table(),
        shop::purchase::Purchase::table(),
        shop::purchase::Line::table(),
        shop::payment::Payment::table(),
        shop::profile::Profile::table(),
        shop::counter::Counter::table(),
    ];
    let known = TABLES.iter().copied().chain(shop).map(|table| table.name);
    // The stores keep these by themselves.
    let known: BTreeSet<&str> = known.chain(["lane", "topic", "store"]).collect();
    assert_eq!(told, known);
}
