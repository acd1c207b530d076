//! `lane`: how far each lane is, and the orders that accept a topic which was made anew and a link that has forked.

use serde_json::{Value as Json, json};
use seriatim::{
    core::{obey::action, table::Value},
    failure::Exit,
};

use super::{
    arguments::{Lane, Settings},
    block_on, confirm,
    order::{self, Order},
    print,
    reader::Reader,
    shown,
};

/// Runs `lane list`, `accept` or `accept-fork`.
pub fn run(settings: &Settings, action: &Lane) -> anyhow::Result<Exit> {
    block_on(async {
        let mut reader = Reader::open(settings).await?;
        match action {
            Lane::List { topic, limit, reading } => {
                let prefix = topic.iter().map(|topic| Value::Text(reader.topic(topic))).collect();
                let limit = usize::try_from(limit.limit).unwrap_or(usize::MAX);
                let rows = reader.filtered(&shown::LANE, &prefix, limit, |_| true).await?;
                let rows: Vec<Vec<Json>> = rows.iter().map(|row| shown::cells(&shown::LANE, row)).collect();
                print::rows(reading.output, &shown::names(&shown::LANE), &rows)?;
                Ok(Exit::Done)
            }
            Lane::Accept { topic, partition, yes, change } => {
                let lane = reader.lane(topic, *partition)?;
                let asks = !change.dry_run && !yes;
                if asks && let Some(refused) = confirm(&format!("read {lane} from its beginning?"))? {
                    return Ok(refused);
                }
                let order = Order { action: action::LANE_ACCEPT, lane, entity: None, argument: json!({}) };
                order::place(&mut reader, &order, change).await
            }
            Lane::AcceptFork { topic, partition, link, number, yes, change } => {
                let lane = reader.lane(topic, *partition)?;
                let asks = !change.dry_run && !yes;
                let question = format!("let {lane} take link {link} from message {number} on as it comes now?");
                if asks && let Some(refused) = confirm(&question)? {
                    return Ok(refused);
                }
                let argument = json!({ "link": link, "number": number });
                let order = Order { action: action::LINK_ACCEPT, lane, entity: None, argument };
                order::place(&mut reader, &order, change).await
            }
        }
    })
}
