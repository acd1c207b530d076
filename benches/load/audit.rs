//! Whether what came out is right: every movement once in its account, every account's messages in order and once.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use rdkafka::Message as _;
use serde::Deserialize;
use sqlx::{Connection as _, PgConnection, Row as _};

use super::{
    stream::{Stream, name},
    whole::Whole,
};

/// What to compare.
#[derive(Args)]
pub struct Audit {
    /// Bootstrap servers.
    #[arg(long)]
    brokers: String,
    /// Topic of the messages.
    #[arg(long)]
    topic: String,
    /// PostgreSQL.
    #[arg(long)]
    database: String,
    /// The table of accounts.
    #[arg(long)]
    table: String,
    #[command(flatten)]
    stream: Stream,
}

/// What one message says.
#[derive(Deserialize)]
struct Balance {
    account: String,
    balance_minor: i64,
    movements: i64,
}

/// Fails at the first difference.
pub async fn run(audit: &Audit) -> anyhow::Result<()> {
    let mut wanted: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for movement in audit.stream.movements() {
        let balances = wanted.entry(name(movement.entity)).or_default();
        let before = balances.last().copied().unwrap_or(0);
        balances.push(before + movement.amount_minor);
    }
    tables(audit, &wanted).await?;
    let repeated = messages(audit, &wanted)?;
    println!("{}", serde_json::json!({ "accounts": wanted.len(), "repeated": repeated }));
    Ok(())
}

async fn tables(audit: &Audit, wanted: &BTreeMap<String, Vec<i64>>) -> anyhow::Result<()> {
    let mut database = PgConnection::connect(&audit.database).await?;
    let select = format!("select account, balance_minor, movements from {}", audit.table);
    let rows = sqlx::query(sqlx::AssertSqlSafe(select)).fetch_all(&mut database).await?;
    ensure!(rows.len() == wanted.len(), "{} accounts instead of {}", rows.len(), wanted.len());
    for row in rows {
        let (account, balance, movements): (String, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let balances = wanted.get(&account).with_context(|| format!("{account} was never moved"))?;
        let right = (balances.last().copied().unwrap_or(0), i64::try_from(balances.len())?);
        ensure!((balance, movements) == right, "{account} holds {balance} after {movements} instead of {right:?}");
    }
    Ok(())
}

/// Reads the topic from its beginning; gives how many messages came again.
fn messages(audit: &Audit, wanted: &BTreeMap<String, Vec<i64>>) -> anyhow::Result<u64> {
    let mut whole = Whole::of(&audit.brokers, &audit.topic, audit.stream.partitions)?;
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut repeated = 0;
    while let Some(message) = whole.next()? {
        let balance: Balance = serde_json::from_slice(message.payload().context("a message without value")?)?;
        let balances = wanted.get(&balance.account).context("a message of an unknown account")?;
        let place = usize::try_from(balance.movements - 1)?;
        ensure!(balances.get(place) == Some(&balance.balance_minor), "{}: a wrong balance", balance.account);
        let next = seen.entry(balance.account.clone()).or_default();
        match place.cmp(next) {
            std::cmp::Ordering::Equal => *next += 1,
            std::cmp::Ordering::Less => repeated += 1,
            std::cmp::Ordering::Greater => bail!("{}: message {} came before {next}", balance.account, place),
        }
    }
    let sent: usize = seen.values().sum();
    let all: usize = wanted.values().map(Vec::len).sum();
    ensure!(sent == all, "{sent} messages instead of {all}");
    Ok(repeated)
}
