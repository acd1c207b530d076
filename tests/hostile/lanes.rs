//! Whole lanes on the memory store: whatever comes, each record has exactly one outcome, and nothing breaks a lane.

use seriatim::core::{
    ledger::{HELD, Held, PARKED, Parked, WAITING},
    table::Value,
};

use crate::{
    dice::Dice,
    lane_world::{self, World},
    records,
};

/// Records of one case.
const RECORDS: usize = 60;

/// A world's worth of records, half of them broken.
pub fn accounted(dice: &mut Dice) -> Result<(), String> {
    // Many entities may fail at once here: it is no bug that would have to stop the lane.
    let limits = seriatim::core::limits::Limits { failures_max: usize::MAX, ..lane_world::limits() };
    let mut world = World::new(records::catalog().clone(), limits, records::PARTITIONS);
    for _ in 0..=dice.below(RECORDS) {
        let (topic, record) = records::record(dice);
        let lane = records::lane(dice, topic, &record);
        let log = world.logs.entry(lane).or_default();
        let offset = i64::try_from(log.len()).expect("few records");
        log.push(seriatim::core::record::Record { offset, ..record });
    }
    world.batch_max = 1 + dice.below(50);
    world.run();
    let lanes: Vec<_> = world
        .logs
        .keys()
        .filter(|lane| records::catalog().home_topics().any(|home| home == lane.topic))
        .cloned()
        .collect();
    let taken: i64 = lanes.iter().map(|lane| world.lane(lane).fence().next_offset).sum();
    let ended: u64 = world.told.tally.values().sum();
    let held = world.rows(&HELD, Vec::new());
    let held = held.iter().filter_map(|row| Held::read(row)).filter(|row| row.place == 0).count();
    let parked = world.rows(&PARKED, Vec::<Value>::new());
    let parked = parked.iter().filter_map(|row| Parked::read(row)).filter(|row| row.what == "record").count();
    let standing = held + parked + world.rows(&WAITING, Vec::new()).len();
    let told = i64::try_from(ended).unwrap_or(i64::MAX) + i64::try_from(standing).unwrap_or(i64::MAX);
    if taken == told {
        Ok(())
    } else {
        Err(format!("{taken} records, {told} outcomes: {:?}, {held} held, {parked} parked", world.told.tally))
    }
}
