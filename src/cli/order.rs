//! An operator's order: a row for the lane's owner, who carries it out in the lane's own transaction.
//!
//! This process never changes an entity itself: there is one writer a lane, and that is the worker. So an order is
//! placed, waited for within a bound, and stays if no worker comes in time.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use seriatim::{
    core::{
        ledger::Command,
        record::LaneId,
        rows::Micros,
        table::{Row, Value},
    },
    failure::{Exit, unreachable},
    store::Error,
};

use super::{arguments::Change, reader::Reader, shown};

/// Pause between two looks into the log: short against a worker's own pause between looks for orders.
const LOOK_PAUSE: Duration = Duration::from_millis(200);
/// How often placing an order is tried when the database does not answer. The same id is the same order.
const ATTEMPTS_MAX: usize = 3;

/// What is ordered.
pub struct Order<'a> {
    /// One of the words of `core::obey::action`.
    pub action: &'static str,
    /// Whose owner carries it out.
    pub lane: LaneId,
    /// Kind and id, if it is about an entity.
    pub entity: Option<(&'a str, &'a str)>,
    /// What else the action needs: an object.
    pub argument: Json,
}

impl Order<'_> {
    fn row(&self, id: &str, change: &Change, now: i64) -> Row {
        Command {
            topic: self.lane.topic.clone(),
            partition: self.lane.partition.into(),
            id: id.to_owned(),
            action: self.action.to_owned(),
            kind: self.entity.map(|(kind, _)| kind.to_owned()),
            entity_id: self.entity.map(|(_, id)| id.to_owned()),
            argument: self.argument.to_string(),
            actor: change.actor.clone(),
            reason: Some(change.reason.clone()),
            ordered_at: Micros(now),
        }
        .into_row()
    }

    fn about(&self) -> String {
        match (self.entity, self.argument.get("offset")) {
            (Some((kind, id)), _) => format!("{kind} {id:?} in lane {}", self.lane),
            (None, Some(offset)) => format!("offset {offset} of lane {}", self.lane),
            (None, None) => format!("lane {}", self.lane),
        }
    }
}

/// Places an order and waits until a worker has carried it out. Done if it has, failed if it refuses or does not come.
pub async fn place(reader: &mut Reader, order: &Order<'_>, change: &Change) -> anyhow::Result<Exit> {
    if change.dry_run {
        println!("would order {} of {}", order.action, order.about());
        return Ok(Exit::Done);
    }
    let Some(lane) = reader.session.peek(&order.lane).await.map_err(unreachable)? else {
        anyhow::bail!("no worker has ever held lane {}: nobody would carry the order out", order.lane);
    };
    let (_, now) = reader.session.look(&[]).await.map_err(unreachable)?;
    let id = id(now);
    send(reader, order.row(&id, change, now)).await?;
    println!("ordered {} of {} (order {id})", order.action, order.about());
    match wait(reader, &order.lane, &id, change.wait).await? {
        Some((true, result)) => {
            println!("done: {result}");
            Ok(Exit::Done)
        }
        Some((false, result)) => {
            println!("refused: {result}");
            Ok(Exit::Failed)
        }
        None => {
            let wait = humantime::format_duration(change.wait);
            println!(
                "no worker has carried it out within {wait}; the order stays until one holds lane {} (last owner: {})",
                order.lane, lane.owner
            );
            Ok(Exit::Failed)
        }
    }
}

/// Ids rise with time: orders of one lane are carried out in the order of their ids.
fn id(now: i64) -> String {
    let time = DateTime::<Utc>::from_timestamp_micros(now).unwrap_or_default();
    let random = uuid::Uuid::new_v4().simple().to_string();
    format!("{}-{}", time.format("%Y%m%dT%H%M%S%.6fZ"), &random[..8])
}

async fn send(reader: &mut Reader, row: Row) -> anyhow::Result<()> {
    let mut attempt = 1;
    loop {
        match reader.session.order(row.clone()).await {
            Ok(()) => return Ok(()),
            Err(Error::Retry(_) | Error::Unknown(_)) if attempt < ATTEMPTS_MAX => attempt += 1,
            Err(error) => return Err(unreachable(error)),
        }
    }
}

async fn wait(reader: &mut Reader, lane: &LaneId, id: &str, bound: Duration) -> anyhow::Result<Option<(bool, String)>> {
    let began = Instant::now();
    let table = &shown::COMMAND_LOG;
    loop {
        let key = vec![Value::text(&lane.topic), Value::Int(lane.partition.into()), Value::text(id)];
        if let Some(row) = reader.keyed(table, key).await?.pop() {
            let done = shown::number(table, &row, "done") == Some(1);
            return Ok(Some((done, shown::text(table, &row, "result").to_owned())));
        }
        let left = bound.saturating_sub(began.elapsed());
        if left.is_zero() {
            return Ok(None);
        }
        tokio::time::sleep(LOOK_PAUSE.min(left)).await;
    }
}
