//! One event, one transaction: what was seen before is passed over, the rest is applied with its messages.

use std::sync::Arc;

use anyhow::Context as _;
use clap::Subcommand;
use rdkafka::{
    Message as _,
    consumer::{Consumer as _, StreamConsumer},
    message::{BorrowedMessage, Headers as _},
};
use sqlx::postgres::PgPool;

use super::{apply, saga};

/// What is done with events.
#[derive(Clone, Subcommand)]
pub enum Work {
    /// Moves accounts.
    Accounts {
        /// Topic of the movements.
        #[arg(long)]
        accounts: String,
        /// Topic of the new balances.
        #[arg(long)]
        balances: String,
    },
    /// Checks purchases out, step by step.
    Sagas {
        /// Stands before the name of every topic.
        #[arg(long)]
        prefix: String,
    },
}

impl Work {
    /// Its tables.
    pub fn tables(&self) -> &'static str {
        match self {
            Self::Accounts { .. } => include_str!("account.sql"),
            Self::Sagas { .. } => include_str!("saga.sql"),
        }
    }

    fn topics(&self) -> Vec<String> {
        match self {
            Self::Accounts { accounts, .. } => vec![accounts.clone()],
            Self::Sagas { prefix } => saga::HOMES.iter().map(|home| format!("{prefix}{home}")).collect(),
        }
    }
}

/// Consumes until something fails.
pub async fn run(consumer: StreamConsumer, pool: PgPool, work: Arc<Work>) -> anyhow::Result<()> {
    let topics = work.topics();
    consumer.subscribe(&topics.iter().map(String::as_str).collect::<Vec<_>>())?;
    loop {
        let message = consumer.recv().await?;
        once(&message, &pool, &work).await.with_context(|| format!("at {}", message.topic()))?;
        consumer.store_offset_from_message(&message)?;
    }
}

async fn once(message: &BorrowedMessage<'_>, pool: &PgPool, work: &Work) -> anyhow::Result<()> {
    let id = header(message, "ce_id").context("ce_id is missing")?;
    let source = header(message, "ce_source").context("ce_source is missing")?;
    let data: serde_json::Value = serde_json::from_slice(message.payload().context("no value")?)?;
    let mut transaction = pool.begin().await?;
    let processed = "insert into processed (id) values ($1) on conflict do nothing";
    if sqlx::query(processed).bind(format!("{source}/{id}")).execute(&mut *transaction).await?.rows_affected() == 0 {
        return Ok(transaction.rollback().await?);
    }
    match work {
        Work::Accounts { balances, .. } => apply::run(&mut transaction, &data, balances).await?,
        Work::Sagas { prefix } => {
            let event = header(message, "ce_type").context("ce_type is missing")?;
            saga::Step { database: &mut transaction, prefix, data: &data }.run(event).await?;
        }
    }
    Ok(transaction.commit().await?)
}

fn header<'a>(message: &'a BorrowedMessage<'_>, name: &str) -> Option<&'a str> {
    let found = message.headers()?.iter().find(|header| header.key == name)?;
    std::str::from_utf8(found.value?).ok()
}
