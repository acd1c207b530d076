//! The consumer of the textbooks, on the same records: it reads a row, changes it in memory, and writes it back.
//!
//! Four tasks work at once, as the partitions of a group or the threads of a pool do, and each event is handled without
//! a look at what the others do. The order of steps that loses is an ordinary one; here it is brought about every time:
//!
//! ```text
//!   task 1: read (1 left) ─┐            ┌─ write (0 left), sold to a
//!   task 2: read (1 left) ─┴─ barrier ──┴─ write (0 left), sold to b
//! ```
//! The barrier only makes sure that nobody writes before all have read. The code between read and write is what such
//! a consumer would have anyway; without the barrier it loses as well, only not in every run.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, anyhow};
use seriatim::sqlite::textbook::{Clerk, Textbook};
use tokio::sync::Barrier;

use super::{
    races::{self, Losses},
    wire::Opened,
};

/// As many as there are sensors.
const TASKS: usize = races::SENSORS.len();

/// Runs the consumer over the races' records and says what it has lost.
pub async fn run(path: &Path, records: &[Opened]) -> anyhow::Result<Losses> {
    let textbook = Textbook::create(path).await?;
    let mut clerk = textbook.clerk().await?;
    for goods in records.iter().filter(|record| record.kind == "stock.received") {
        let quantity = goods.data["quantity"].as_i64().context("goods have a quantity")?;
        clerk.set_on_hand(&goods.key, quantity).await?;
    }
    for entity in entities(records) {
        // What happens to one entity at about the same time, as much of it as there are tasks.
        let events: Vec<&Opened> = records.iter().filter(|record| target(record) == Some(&*entity)).collect();
        for at_once in events.chunks(TASKS) {
            handle_at_once(&textbook, at_once).await?;
        }
    }
    losses(&mut clerk).await
}

async fn handle_at_once(textbook: &Textbook, events: &[&Opened]) -> anyhow::Result<()> {
    let all_have_read = Arc::new(Barrier::new(events.len()));
    let mut tasks = Vec::new();
    for event in events {
        let (mut clerk, event, barrier) = (textbook.clerk().await?, (*event).clone(), Arc::clone(&all_have_read));
        tasks.push(tokio::spawn(async move { handle(&mut clerk, &event, &barrier).await }));
    }
    for task in tasks {
        task.await.map_err(|panic| anyhow!("a task of the textbook consumer: {panic}"))??;
    }
    Ok(())
}

/// One event, as a textbook handles it: read, change, write.
async fn handle(clerk: &mut Clerk, event: &Opened, all_have_read: &Barrier) -> anyhow::Result<()> {
    match event.kind.as_str() {
        "purchase.placed" => {
            let sku = target(event).context("a purchase in the races has one line")?;
            let on_hand = clerk.on_hand(sku).await?;
            all_have_read.wait().await;
            if on_hand > 0 {
                clerk.set_on_hand(sku, on_hand - 1).await?;
                clerk.sell(&event.key, sku).await?;
            }
        }
        "activity.counted" => {
            let value = clerk.counter(&event.key).await?;
            all_have_read.wait().await;
            let delta = event.data["delta"].as_i64().context("a count has a delta")?;
            clerk.set_counter(&event.key, value + delta).await?;
        }
        _ => {
            let (mut email, mut password_hash) = clerk.profile(&event.key).await?;
            all_have_read.wait().await;
            let text = |name: &str| event.data[name].as_str().map(str::to_owned);
            email = text("email").or(email);
            password_hash = text("password_hash").or(password_hash);
            clerk.set_profile(&event.key, (email, password_hash)).await?;
        }
    }
    Ok(())
}

/// The row that an event changes: of a purchase, its item.
fn target(event: &Opened) -> Option<&str> {
    match event.kind.as_str() {
        "purchase.placed" => event.data["lines"][0]["sku"].as_str(),
        "stock.received" => None,
        _ => Some(&event.key),
    }
}

fn entities(records: &[Opened]) -> Vec<String> {
    let mut entities: Vec<String> = records.iter().filter_map(target).map(str::to_owned).collect();
    entities.sort();
    entities.dedup();
    entities
}

async fn losses(clerk: &mut Clerk) -> anyhow::Result<Losses> {
    let mut losses = Losses::default();
    for at in 0..races::ITEMS {
        losses.oversold += (clerk.sold(&races::item(at)).await? - 1).max(0);
    }
    for at in 0..races::USERS {
        let (email, password_hash) = clerk.profile(&races::user(at)).await?;
        losses.updates += i64::from(email != Some(races::email(at)));
        losses.updates += i64::from(password_hash != Some(races::password_hash(at)));
    }
    let counted = i64::try_from(TASKS)? * races::COUNTS;
    for at in 0..races::COUNTERS {
        losses.increments += counted - clerk.counter(&races::counter(at)).await?;
    }
    Ok(losses)
}
