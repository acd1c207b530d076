//! `entity`: all that is known of one entity, the orders that end its quarantine, and the one that lets it try again.

mod journal;

use serde_json::{Value as Json, json};
use seriatim::{
    core::{
        obey::action,
        partition::partition_of,
        record::LaneId,
        rows::Row as _,
        table::{Key, Row, Table, Value},
    },
    failure::Exit,
    shop,
};

use super::{
    arguments::{Change, Entity, EntityName, Settings},
    block_on,
    order::{self, Order},
    print::{self, Output, Part},
    reader::Reader,
    saga, shown,
};

/// Rows of one list at most.
const ROWS_MAX: usize = 100;
/// Sending lanes whose held messages are looked through at most.
const LINKS_MAX: usize = 10_000;
/// Orders that have been carried out, the last ones.
const PAST_ORDERS_MAX: usize = 10;

/// Runs `entity show`, `release`, `skip`, `discard` or `retry`.
pub fn run(settings: &Settings, action: &Entity) -> anyhow::Result<Exit> {
    block_on(async {
        let mut reader = Reader::open(settings).await?;
        let (name, change, action) = match action {
            Entity::Show { name, reading } => return show(&mut reader, name, reading.output).await,
            Entity::Release { name, change } => (name, change, action::ENTITY_RELEASE),
            Entity::Skip { name, change } => (name, change, action::ENTITY_SKIP),
            Entity::Discard { name, change } => (name, change, action::ENTITY_DISCARD),
            Entity::Retry { name, change } => (name, change, action::ENTITY_RETRY),
        };
        place(&mut reader, name, change, action).await
    })
}

async fn place(reader: &mut Reader, name: &EntityName, change: &Change, action: &'static str) -> anyhow::Result<Exit> {
    let main = main_row(reader, name).await?;
    let Some(lane) = lane_of(reader, name, main.as_ref()).await? else {
        anyhow::bail!("no worker has ever started on this database: it holds no {} at all", name.kind);
    };
    let key = [lane_key(&lane), entity_key(name)].concat();
    if action == action::ENTITY_RETRY {
        if main.is_none() {
            anyhow::bail!("there is no {} {:?}", name.kind, name.id);
        }
    } else if reader.keyed(&shown::QUARANTINE, key).await?.is_empty() {
        anyhow::bail!("{} {:?} is not quarantined: there is nothing to {}", name.kind, name.id, verb(action));
    }
    let order = Order { action, lane, entity: Some((&name.kind, &name.id)), argument: json!({}) };
    order::place(reader, &order, change).await
}

fn verb(action: &str) -> &str {
    action.rsplit('.').next().unwrap_or(action)
}

/// The kind's main table. The command line takes no other kinds than those of the catalog.
fn main_table(reader: &Reader, name: &EntityName) -> anyhow::Result<&'static Table> {
    let mut kinds = reader.catalog.kinds();
    let found = kinds.find(|(kind, _)| *kind == name.kind);
    found.map(|(_, table)| table).ok_or_else(|| anyhow::anyhow!("this worker knows no kind {}", name.kind))
}

async fn main_row(reader: &mut Reader, name: &EntityName) -> anyhow::Result<Option<Row>> {
    let table = main_table(reader, name)?;
    Ok(reader.keyed(table, vec![Value::text(&name.id)]).await?.pop())
}

/// The lane that owns the entity: where its row says, or else where its key lies among the partitions in force.
async fn lane_of(reader: &mut Reader, name: &EntityName, main: Option<&Row>) -> anyhow::Result<Option<LaneId>> {
    let table = main_table(reader, name)?;
    let home = reader.catalog.home_of(&name.kind).unwrap_or_default().to_owned();
    let known = main.and_then(|row| shown::number(table, row, "partition"));
    let partition = match known.and_then(|partition| i32::try_from(partition).ok()) {
        Some(partition) => Some(partition),
        None => reader.partitions(&home).await?.map(|count| partition_of(name.id.as_bytes(), count)),
    };
    Ok(partition.map(|partition| LaneId { topic: home, partition }))
}

fn lane_key(lane: &LaneId) -> Key {
    vec![Value::text(&lane.topic), Value::Int(lane.partition.into())]
}

fn entity_key(name: &EntityName) -> Key {
    vec![Value::text(&name.kind), Value::text(&name.id)]
}

/// The kind's other tables whose key begins with the entity's id.
fn sub_tables(kind: &str) -> &'static [fn() -> &'static Table] {
    match kind {
        "purchase" => &[shop::purchase::Line::table],
        "stock" => &[shop::stock::Reservation::table],
        _ => &[],
    }
}

/// What is gathered of an entity.
struct Answer {
    parts: Vec<(&'static str, Part)>,
    /// Lists that are longer than what is shown of them.
    cut: Vec<Json>,
    /// Whether anything is known of the entity.
    known: bool,
}

impl Answer {
    fn list(&mut self, name: &'static str, table: &Table, mut rows: Vec<Row>) {
        if rows.len() > ROWS_MAX {
            rows.truncate(ROWS_MAX);
            self.cut.push(name.into());
        }
        self.known |= !rows.is_empty();
        // Whose rows they are is said once, at the top.
        let own = |column: &str| ["kind", "entity_id"].contains(&column);
        let cells = |row| {
            let fields = shown::fields(table, row).into_iter();
            fields.filter(|(column, _)| !own(column)).map(|(_, value)| value).collect()
        };
        let columns = shown::names(table).into_iter().filter(|column| !own(column)).collect();
        self.parts.push((name, Part::Rows(columns, rows.iter().map(cells).collect())));
    }

    fn row(&mut self, name: &'static str, table: &Table, row: Option<&Row>) {
        self.known |= row.is_some();
        self.parts.push((name, Part::Row(row.map(|row| shown::fields(table, row)))));
    }
}

async fn show(reader: &mut Reader, name: &EntityName, output: Output) -> anyhow::Result<Exit> {
    let mut answer = Answer { parts: Vec::new(), cut: Vec::new(), known: false };
    let table = main_table(reader, name)?;
    let main = main_row(reader, name).await?;
    let lane = lane_of(reader, name, main.as_ref()).await?;
    answer.row("row", table, main.as_ref());
    for sub_table in sub_tables(&name.kind) {
        let sub_table = sub_table();
        let rows = reader.scan(sub_table, &vec![Value::text(&name.id)], None, ROWS_MAX + 1).await?;
        answer.list(sub_table.name, sub_table, rows);
    }
    let mut status = "active".to_owned();
    if let Some(lane) = &lane {
        let quarantine = reader.keyed(&shown::QUARANTINE, [lane_key(lane), entity_key(name)].concat()).await?.pop();
        if let Some(row) = &quarantine {
            shown::text(&shown::QUARANTINE, row, "status").clone_into(&mut status);
        }
        answer.row("quarantine", &shown::QUARANTINE, quarantine.as_ref());
        lane_lists(reader, name, lane, &mut answer).await?;
    }
    if let Some(definition) = reader.catalog.saga_at(reader.catalog.home_of(&name.kind).unwrap_or_default()) {
        let saga = saga::parts(reader, definition.name, &name.id).await?;
        answer.parts.push(("saga", Part::Whole(saga)));
    }
    let debts = reader.scan(&shown::DEBT, &entity_key(name), None, ROWS_MAX + 1).await?;
    answer.list("debts", &shown::DEBT, debts);
    let journal = journal::last(reader, &entity_key(name)).await?;
    answer.list("journal", &shown::JOURNAL, journal);
    if let Some(lane) = &lane {
        orders(reader, name, lane, &mut answer).await?;
    }
    if !answer.known {
        anyhow::bail!("nothing is known of {} {:?}", name.kind, name.id);
    }
    let version = main.as_ref().and_then(|row| shown::number(table, row, "version"));
    let mut parts = vec![
        ("kind", Part::Value(name.kind.as_str().into())),
        ("entity_id", Part::Value(name.id.as_str().into())),
        ("topic", Part::Value(lane.as_ref().map(|lane| lane.topic.clone()).into())),
        ("partition", Part::Value(lane.as_ref().map(|lane| lane.partition).into())),
        ("status", Part::Value(status.into())),
        ("version", Part::Value(version.into())),
        ("cut", Part::Value(answer.cut.into())),
    ];
    parts.extend(answer.parts);
    print::document(output, &parts)?;
    Ok(Exit::Done)
}

/// What of the entity has not been taken yet.
async fn lane_lists(reader: &mut Reader, name: &EntityName, lane: &LaneId, answer: &mut Answer) -> anyhow::Result<()> {
    let (lane_key, entity_key) = (lane_key(lane), entity_key(name));
    let key = [lane_key.clone(), entity_key.clone()].concat();
    let parked = reader.scan(&shown::PARKED, &key, None, ROWS_MAX + 1).await?;
    answer.list("parked", &shown::PARKED, parked);
    let waiting = reader.scan(&shown::WAITING, &key, None, ROWS_MAX + 1).await?;
    answer.list("waiting", &shown::WAITING, waiting);
    let mut held = Vec::new();
    // The link stands before the entity in the key, so each is asked for by itself.
    for link in reader.distinct(&shown::HELD, &lane_key, LINKS_MAX).await? {
        let key = [lane_key.clone(), vec![Value::Text(link)], entity_key.clone()].concat();
        held.extend(reader.scan(&shown::HELD, &key, None, ROWS_MAX + 1).await?);
        if held.len() > ROWS_MAX {
            break;
        }
    }
    answer.list("held", &shown::HELD, held);
    Ok(())
}

/// Orders that concern the entity: those to come, and the last of those that were carried out.
async fn orders(reader: &mut Reader, name: &EntityName, lane: &LaneId, answer: &mut Answer) -> anyhow::Result<()> {
    let mine = |table: &'static Table| {
        move |row: &Row| shown::text(table, row, "kind") == name.kind && shown::text(table, row, "entity_id") == name.id
    };
    let key = lane_key(lane);
    let pending = reader.filtered(&shown::COMMAND, &key, ROWS_MAX + 1, mine(&shown::COMMAND)).await?;
    answer.list("orders", &shown::COMMAND, pending);
    let mut past = reader.filtered(&shown::COMMAND_LOG, &key, usize::MAX, mine(&shown::COMMAND_LOG)).await?;
    past.sort_by_key(|row| shown::number(&shown::COMMAND_LOG, row, "done_at"));
    let past = past.split_off(past.len().saturating_sub(PAST_ORDERS_MAX));
    answer.list("past_orders", &shown::COMMAND_LOG, past);
    Ok(())
}
