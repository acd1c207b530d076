//! `saga`: which sagas there are, all that one has done and still has to do, and the order that lets it ask again.

use serde_json::{Value as Json, json};
use seriatim::{
    core::{obey::action, record::LaneId, saga::Instance, table::Value},
    failure::Exit,
};

use super::{
    arguments::{Change, Saga, SagaName, Settings},
    block_on,
    order::{self, Order},
    print::{self, Part},
    reader::Reader,
    shown,
};

/// Steps and branches at most: a purchase has up to a hundred lines, each a branch of two steps.
const STEPS_MAX: usize = 1_000;
/// What a list shows of a saga.
const LISTED: [&str; 8] =
    ["definition", "saga_id", "definition_version", "status", "step", "reason", "begun_at", "updated_at"];

/// Runs `saga list`, `show` or `retry`.
pub fn run(settings: &Settings, action: &Saga) -> anyhow::Result<Exit> {
    block_on(async {
        let mut reader = Reader::open(settings).await?;
        match action {
            Saga::List { status, limit, reading } => {
                let wanted = status.map(|status| status.as_str());
                let limit = usize::try_from(limit.limit).unwrap_or(usize::MAX);
                let has_status =
                    |row: &_| wanted.is_none_or(|wanted| shown::text(&shown::SAGA, row, "status") == wanted);
                let rows = reader.filtered(&shown::SAGA, &Vec::new(), limit, has_status).await?;
                let pick = |row: &_| {
                    let mut fields = shown::fields(&shown::SAGA, row);
                    fields.retain(|(name, _)| LISTED.contains(name));
                    fields.into_iter().map(|(_, value)| value).collect()
                };
                let rows: Vec<Vec<Json>> = rows.iter().map(pick).collect();
                print::rows(reading.output, &LISTED, &rows)?;
            }
            Saga::Show { name, reading } => {
                let Some(parts) = parts(&mut reader, &name.definition, &name.id).await? else { return absent(name) };
                print::document(reading.output, &parts)?;
            }
            Saga::Retry { name, change } => return retry(&mut reader, name, change).await,
        }
        Ok(Exit::Done)
    })
}

fn absent(name: &SagaName) -> anyhow::Result<Exit> {
    anyhow::bail!("there is no saga {:?} of {}", name.id, name.definition)
}

async fn retry(reader: &mut Reader, name: &SagaName, change: &Change) -> anyhow::Result<Exit> {
    let key = vec![Value::text(&name.definition), Value::text(&name.id)];
    let Some(row) = reader.keyed(&shown::SAGA, key).await?.pop() else { return absent(name) };
    let topic = shown::text(&shown::SAGA, &row, "topic").to_owned();
    let partition = shown::number(&shown::SAGA, &row, "partition").and_then(|number| i32::try_from(number).ok());
    let lives_there = |kind: &&str| reader.catalog.home_of(kind) == Some(topic.as_str());
    let kind = reader.catalog.kinds().map(|(kind, _)| kind).find(lives_there);
    let (Some(partition), Some(kind)) = (partition, kind) else {
        anyhow::bail!("this worker knows no kind of topic {topic}, where saga {:?} lives", name.id);
    };
    let lane = LaneId { topic, partition };
    let order = Order { action: action::SAGA_RETRY, lane, entity: Some((kind, &name.id)), argument: json!({}) };
    order::place(reader, &order, change).await
}

/// All of a saga, if there is one: its row, its deadline, its steps, and what is still to be undone.
pub async fn parts(
    reader: &mut Reader,
    definition: &str,
    id: &str,
) -> anyhow::Result<Option<Vec<(&'static str, Part)>>> {
    let key = vec![Value::text(definition), Value::text(id)];
    let Some(row) = reader.keyed(&shown::SAGA, key.clone()).await?.pop() else { return Ok(None) };
    let mut parts: Vec<(&'static str, Part)> = shown::fields(&shown::SAGA, &row)
        .into_iter()
        .filter(|(name, _)| *name != "state")
        .map(|(name, value)| (name, Part::Value(value)))
        .collect();
    let mut pivot_passed = false;
    // An instance that this release cannot read is shown by its columns.
    if let Ok(instance) = serde_json::from_str::<Instance>(shown::text(&shown::SAGA, &row, "state")) {
        let deadline = instance.deadline().map_or(Json::Null, shown::time);
        parts.push(("deadline", Part::Value(deadline)));
        pivot_passed = instance.pivot_passed();
        parts.push(("pivot_passed", Part::Value(pivot_passed.into())));
    }
    let steps = reader.scan(&shown::SAGA_STEP, &key, None, STEPS_MAX).await?;
    let rows = |wanted: &dyn Fn(&str) -> bool| {
        let rows = steps.iter().filter(|row| wanted(shown::text(&shown::SAGA_STEP, row, "status")));
        let cells = |row| shown::cells(&shown::SAGA_STEP, row).split_off(2);
        Part::Rows(shown::names(&shown::SAGA_STEP).split_off(2), rows.map(cells).collect())
    };
    parts.push(("steps", rows(&|_| true)));
    // What was done and not taken back: of a saga that turns back, all of it. Past the pivot nothing is taken back.
    let stands = shown::text(&shown::SAGA, &row, "status");
    let turned = !pivot_passed && ["compensating", "needs_operator"].contains(&stands);
    parts.push(("to_be_undone", rows(&|status| turned && ["yes", "waiting", "undoing"].contains(&status))));
    Ok(Some(parts))
}
