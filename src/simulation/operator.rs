//! An operator: looks at what the tables say and orders something of it, over a line as bad as the workers'.

use std::{sync::Arc, time::Duration};

use serde_json::json;

use super::{dice::Dice, process::Process, store::FarStore, world::World};
use crate::{
    core::{
        ledger::{Command, DEAD_LETTER, DeadLetter, JOURNAL, Journal, QUARANTINE, Quarantine, SAGA, Saga},
        obey::action,
        rows::Micros,
        table::{Row, Table, Value},
    },
    store::{Error, Store as _},
};

/// How often an order is sent whose answer is not seen.
const ATTEMPTS_MAX: usize = 3;
/// Milliseconds after which it is sent again, at most: it may have been carried out by then.
const PAUSE_MAX: u64 = 1_500;

/// Orders what a number means, of what stands in the tables now; nothing, if there is nothing to order.
pub(super) async fn order(world: World, number: u64) {
    let mut dice = Dice::new(number);
    let Some(command) = command(&world, &mut dice) else { return };
    let command = Command { id: format!("{number:020}"), ordered_at: Micros(world.database_clock()), ..command };
    world.count("order");
    world.tell(|| format!("operator orders {} of {:?} {}", command.action, command.entity_id, command.argument));
    let row = command.into_row();
    let store = FarStore { world: world.clone(), process: Arc::new(Process::new(0)) };
    for _ in 0..ATTEMPTS_MAX {
        match send(&store, row.clone()).await {
            // Now and then the answer is not seen.
            Ok(()) if !dice.one_in(3) => return,
            Ok(()) | Err(Error::Retry(_)) => {}
            Err(error) => return world.find(format!("orders: the store refuses one: {error}")),
        }
        tokio::time::sleep(Duration::from_millis(dice.below(PAUSE_MAX))).await;
    }
}

async fn send(store: &FarStore, row: Row) -> Result<(), Error> {
    store.session().await?.order(row).await
}

/// An order without its id.
fn command(world: &World, dice: &mut Dice) -> Option<Command> {
    match dice.below(4) {
        0 => {
            let action = [action::ENTITY_RELEASE, action::ENTITY_SKIP, action::ENTITY_DISCARD][dice.index(3)];
            let row = one(world, &QUARANTINE, Quarantine::read, dice)?;
            Some(about(action, (row.topic, row.partition), (Some(row.kind), Some(row.entity_id)), None))
        }
        1 => {
            let saga = one(world, &SAGA, Saga::read, dice)?;
            Some(about(action::SAGA_RETRY, (saga.topic, saga.partition), (None, Some(saga.saga_id)), None))
        }
        2 => {
            let row = one(world, &JOURNAL, Journal::read, dice)?;
            Some(about(action::ENTITY_RETRY, (row.topic, row.partition), (Some(row.kind), Some(row.entity_id)), None))
        }
        _ => {
            let action = [action::LETTER_REPLAY, action::LETTER_DISCARD][dice.index(2)];
            let replayable = |row: &[Value]| DeadLetter::read(row).filter(|letter| letter.status == "replayable");
            let letter = one(world, &DEAD_LETTER, replayable, dice)?;
            Some(about(action, (letter.topic, letter.partition), (None, None), Some(letter.record_offset)))
        }
    }
}

/// One row of a table, if it has any.
fn one<T>(world: &World, table: &Table, read: impl Fn(&[Value]) -> Option<T>, dice: &mut Dice) -> Option<T> {
    let mut rows: Vec<T> = world.store.rows(table).iter().filter_map(|row| read(row)).collect();
    (!rows.is_empty()).then(|| rows.swap_remove(dice.index(rows.len())))
}

fn about(
    action: &str,
    (topic, partition): (String, i64),
    (kind, entity_id): (Option<String>, Option<String>),
    offset: Option<i64>,
) -> Command {
    Command {
        topic,
        partition,
        id: String::new(),
        action: action.to_owned(),
        kind,
        entity_id,
        argument: offset.map_or_else(|| json!({}), |offset| json!({ "offset": offset })).to_string(),
        actor: "operator".to_owned(),
        reason: Some("simulated".to_owned()),
        ordered_at: Micros(0),
    }
}
