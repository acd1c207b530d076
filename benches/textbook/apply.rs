//! One event, one transaction.

use anyhow::Context as _;
use rdkafka::{
    Message as _,
    consumer::{Consumer as _, StreamConsumer},
    message::{BorrowedMessage, Headers as _},
};
use serde_json::json;
use sqlx::postgres::PgPool;

/// Consumes until something fails.
pub async fn run(consumer: StreamConsumer, pool: PgPool, accounts: String, balances: String) -> anyhow::Result<()> {
    consumer.subscribe(&[&accounts])?;
    loop {
        let message = consumer.recv().await?;
        apply(&message, &pool, &balances).await?;
        consumer.store_offset_from_message(&message)?;
    }
}

async fn apply(message: &BorrowedMessage<'_>, pool: &PgPool, balances: &str) -> anyhow::Result<()> {
    let id = header(message, "ce_id").context("ce_id is missing")?;
    let source = header(message, "ce_source").context("ce_source is missing")?;
    let data: serde_json::Value = serde_json::from_slice(message.payload().context("no value")?)?;
    let account = data["account"].as_str().context("account is missing")?;
    let amount = data["amount_minor"].as_i64().context("amount_minor is missing")?;
    let mut transaction = pool.begin().await?;
    let processed = "insert into processed (id) values ($1) on conflict do nothing";
    if sqlx::query(processed).bind(format!("{source}/{id}")).execute(&mut *transaction).await?.rows_affected() == 0 {
        return Ok(transaction.rollback().await?);
    }
    let select = "select balance_minor, movements from account where account = $1 for update";
    let row: Option<(i64, i64)> = sqlx::query_as(select).bind(account).fetch_optional(&mut *transaction).await?;
    let write = match row {
        Some(_) => "update account set balance_minor = $2, movements = $3 where account = $1",
        None => "insert into account (account, balance_minor, movements) values ($1, $2, $3)",
    };
    let (balance, movements) = row.unwrap_or_default();
    let balance = balance.checked_add(amount).context("the balance would leave int64")?;
    let query = sqlx::query(write).bind(account).bind(balance).bind(movements + 1);
    query.execute(&mut *transaction).await?;
    let told = json!({ "account": account, "balance_minor": balance, "movements": movements + 1 }).to_string();
    let outbox = "insert into outbox (topic, key, value) values ($1, $2, $3)";
    sqlx::query(outbox).bind(balances).bind(account).bind(told.as_bytes()).execute(&mut *transaction).await?;
    Ok(transaction.commit().await?)
}

fn header<'a>(message: &'a BorrowedMessage<'_>, name: &str) -> Option<&'a str> {
    let found = message.headers()?.iter().find(|header| header.key == name)?;
    std::str::from_utf8(found.value?).ok()
}
