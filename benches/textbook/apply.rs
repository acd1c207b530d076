//! A movement of an account: its balance changes, and the new one is told.

use anyhow::Context as _;
use serde_json::{Value as Json, json};
use sqlx::PgConnection;

use super::relay;

/// Applies it within the transaction of its record.
pub async fn run(database: &mut PgConnection, data: &Json, balances: &str) -> anyhow::Result<()> {
    let account = data["account"].as_str().context("account is missing")?;
    let amount = data["amount_minor"].as_i64().context("amount_minor is missing")?;
    let select = "select balance_minor, movements from account where account = $1 for update";
    let row: Option<(i64, i64)> = sqlx::query_as(select).bind(account).fetch_optional(&mut *database).await?;
    let write = match row {
        Some(_) => "update account set balance_minor = $2, movements = $3 where account = $1",
        None => "insert into account (account, balance_minor, movements) values ($1, $2, $3)",
    };
    let (balance, movements) = row.unwrap_or_default();
    let balance = balance.checked_add(amount).context("the balance would leave int64")?;
    let query = sqlx::query(write).bind(account).bind(balance).bind(movements + 1);
    query.execute(&mut *database).await?;
    let told = json!({ "account": account, "balance_minor": balance, "movements": movements + 1 });
    relay::put(database, balances, account, "account.balance", &told).await
}
