//! Purchases: what the shop's producers write, and whether each purchase ended completed, once, with the stock it took.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use rdkafka::{
    Message as _,
    message::{Header, Headers as _, OwnedHeaders},
    producer::Producer as _,
};
use serde_json::json;
use sqlx::{Connection as _, PgConnection};

use super::{feed, whole::Whole};

/// Which purchases, and where.
#[derive(Args)]
pub struct Shop {
    /// Bootstrap servers.
    #[arg(long)]
    brokers: String,
    /// Stands before the name of every topic.
    #[arg(long)]
    prefix: String,
    /// How many purchases, of two lines each.
    #[arg(long)]
    purchases: usize,
    /// How many items there are.
    #[arg(long, default_value_t = 1000)]
    items: usize,
}

/// What to compare.
#[derive(Args)]
pub struct Settle {
    /// PostgreSQL.
    #[arg(long)]
    database: String,
    /// Partitions of the topic of outcomes.
    #[arg(long)]
    partitions: i32,
    #[command(flatten)]
    shop: Shop,
}

/// One item of a purchase: its number, how many, the price of one.
type Line = (usize, i64, i64);

const HANG: Duration = Duration::from_secs(30);

impl Shop {
    /// The lines of a purchase. The second item is never the first: the step lies between 1 and all items less one.
    fn lines(&self, purchase: usize) -> [Line; 2] {
        let first = purchase * 7919 % self.items;
        let second = (first + 1 + purchase % (self.items - 1)) % self.items;
        [(first, 1 + (purchase % 3) as i64, 450), (second, 1, 1290)]
    }

    fn total(&self, purchase: usize) -> i64 {
        self.lines(purchase).iter().map(|(_, quantity, price)| quantity * price).sum()
    }

    /// How many of each item are sold.
    fn sold(&self) -> Vec<i64> {
        let mut sold = vec![0; self.items];
        for (item, quantity, _) in (0..self.purchases).flat_map(|purchase| self.lines(purchase)) {
            sold[item] += quantity;
        }
        sold
    }

    /// Enough of everything for all.
    fn received(&self) -> i64 {
        self.purchases as i64 * 4
    }

    fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

fn sku(item: usize) -> String {
    format!("sku-{item:06}")
}

fn id(purchase: usize) -> String {
    format!("p-{purchase:08}")
}

/// Writes the stock, then the purchases.
pub fn run(shop: &Shop) -> anyhow::Result<()> {
    ensure!(shop.items > 1, "a purchase has two different items");
    let producer = feed::producer(&shop.brokers, 20)?;
    let send = |topic: &str, key: &str, event: &str, source: &str, data: &serde_json::Value| {
        let text = |key, value| Header { key, value: Some(value) };
        let id = format!("{event}/{key}");
        let headers = OwnedHeaders::new_with_capacity(5)
            .insert(text("ce_specversion", "1.0"))
            .insert(text("ce_id", id.as_str()))
            .insert(text("ce_source", source))
            .insert(text("ce_type", event))
            .insert(text("ce_entityseq", "1"));
        feed::send(&producer, topic, key, data.to_string().as_bytes(), headers)
    };
    for item in 0..shop.items {
        let data = json!({ "sku": sku(item), "quantity": shop.received() });
        send(&shop.topic("stock"), &sku(item), "stock.received", "/warehouse", &data)?;
    }
    // No purchase may come before the stock of its items.
    producer.flush(HANG)?;
    for purchase in 0..shop.purchases {
        let line = |(item, quantity, price): Line| json!({ "sku": sku(item), "quantity": quantity, "unit_price_minor": price });
        let data = json!({
            "purchase_id": id(purchase),
            "customer_id": format!("c-{}", purchase % 500),
            "currency": "EUR",
            "lines": shop.lines(purchase).map(line),
            "payment_method": "card",
        });
        send(&shop.topic("purchases"), &id(purchase), "purchase.placed", "/web-shop", &data)?;
    }
    producer.flush(HANG)?;
    println!("{}", json!({ "purchases": shop.purchases }));
    Ok(())
}

/// Fails at the first difference.
pub async fn settle(settle: &Settle) -> anyhow::Result<()> {
    tables(settle).await?;
    let repeated = outcomes(settle)?;
    println!("{}", json!({ "purchases": settle.shop.purchases, "repeated": repeated }));
    Ok(())
}

async fn tables(settle: &Settle) -> anyhow::Result<()> {
    let (shop, mut database) = (&settle.shop, PgConnection::connect(&settle.database).await?);
    let select = "select sku, on_hand, reserved from shop.stock order by sku";
    let stock: Vec<(String, i64, i64)> = sqlx::query_as(select).fetch_all(&mut database).await?;
    ensure!(stock.len() == shop.items, "{} items instead of {}", stock.len(), shop.items);
    for (row, (item, sold)) in stock.iter().zip(shop.sold().iter().enumerate()) {
        let right = (sku(item), shop.received() - sold, 0);
        ensure!(*row == right, "the stock is {row:?} instead of {right:?}");
    }
    let select = "select p.purchase_id, p.status, p.total_minor, coalesce(m.status, 'none'), \
        coalesce(m.captured_minor, 0) \
        from shop.purchase p left join shop.payment m using (purchase_id) order by p.purchase_id";
    let rows: Vec<(String, String, i64, String, i64)> = sqlx::query_as(select).fetch_all(&mut database).await?;
    ensure!(rows.len() == shop.purchases, "{} purchases instead of {}", rows.len(), shop.purchases);
    for (number, row) in rows.into_iter().enumerate() {
        let total = shop.total(number);
        let right = (id(number), "completed".to_owned(), total, "captured".to_owned(), total);
        ensure!(row == right, "a purchase is {row:?} instead of {right:?}");
    }
    let select = "select count(*), count(*) filter (where status = 'committed') from shop.reservation";
    let kept: (i64, i64) = sqlx::query_as(select).fetch_one(&mut database).await?;
    let lines = 2 * shop.purchases as i64;
    ensure!(kept == (lines, lines), "{kept:?} reservations and committed ones instead of {lines}");
    Ok(())
}

/// Reads the outcomes from their beginning; gives how many came again, under the id that they had.
fn outcomes(settle: &Settle) -> anyhow::Result<u64> {
    let mut whole = Whole::of(&settle.shop.brokers, &settle.shop.topic("purchase-outcomes"), settle.partitions)?;
    let mut ended: BTreeMap<String, String> = BTreeMap::new();
    let mut repeated = 0;
    while let Some(message) = whole.next()? {
        let header = |name: &str| {
            let found = message.headers()?.iter().find(|header| header.key == name)?;
            std::str::from_utf8(found.value?).ok().map(str::to_owned)
        };
        let key = String::from_utf8(message.key().context("an outcome without key")?.to_vec())?;
        let event = header("ce_type").context("an outcome without type")?;
        ensure!(event == "purchase.completed", "{key}: {event}");
        let message_id = header("ce_id").context("an outcome without id")?;
        match ended.insert(key.clone(), message_id.clone()) {
            None => {}
            Some(before) if before == message_id => repeated += 1,
            Some(before) => bail!("{key} ended twice: {before} and {message_id}"),
        }
    }
    let right = (0..settle.shop.purchases).map(id);
    ensure!(ended.keys().cloned().eq(right), "{} outcomes instead of {}", ended.len(), settle.shop.purchases);
    Ok(repeated)
}
