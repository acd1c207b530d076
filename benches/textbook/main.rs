//! The baseline: what one writes from the textbook. A `StreamConsumer`, one transaction an event (insert into
//! processed, select for update, update, insert into outbox), and a relay that polls the outbox with skip locked.
//!
//!     textbook accounts    moves accounts
//!     textbook sagas       checks purchases out
//!
//! It is correct, and written with care: prepared statements, as many consumers as it is given connections, offsets
//! stored after the commit and committed in the background, messages sent in batches.

mod apply;
mod consume;
mod relay;
mod saga;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::Parser;
use rdkafka::ClientConfig;
use sqlx::postgres::{PgPool, PgPoolOptions};

/// The textbook's consumer.
#[derive(Parser)]
struct Arguments {
    /// Bootstrap servers.
    #[arg(long)]
    brokers: String,
    /// Consumer group.
    #[arg(long)]
    group: String,
    /// PostgreSQL.
    #[arg(long)]
    database: String,
    /// Consumers, each with a connection of its own.
    #[arg(long, default_value_t = 4)]
    connections: u32,
    /// Pause of the relay when it finds nothing.
    #[arg(long, default_value_t = 20)]
    poll_ms: u64,
    #[command(subcommand)]
    work: consume::Work,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    // One connection more for the relay.
    let pool = PgPoolOptions::new().max_connections(arguments.connections + 1).connect(&arguments.database).await?;
    let tables = "select to_regclass('processed') is not null";
    if !sqlx::query_scalar::<_, bool>(tables).fetch_one(&pool).await? {
        for script in [include_str!("tables.sql"), arguments.work.tables()] {
            sqlx::raw_sql(script).execute(&pool).await.context("making the tables")?;
        }
    }
    let work = Arc::new(arguments.work.clone());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..arguments.connections {
        let consumer = client(&arguments).create().context("making a consumer")?;
        tasks.spawn(consume::run(consumer, pool.clone(), Arc::clone(&work)));
    }
    let mut producer = ClientConfig::new();
    producer.set("bootstrap.servers", &arguments.brokers).set("enable.idempotence", "true").set("linger.ms", "5");
    let producer = producer.set("partitioner", "murmur2_random").create().context("making a producer")?;
    tasks.spawn(relay(producer, pool, Duration::from_millis(arguments.poll_ms)));
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

async fn relay(producer: rdkafka::producer::FutureProducer, pool: PgPool, pause: Duration) -> anyhow::Result<()> {
    loop {
        if relay::step(&producer, &pool).await? == 0 {
            tokio::time::sleep(pause).await;
        }
    }
}

fn client(arguments: &Arguments) -> ClientConfig {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", &arguments.brokers)
        .set("group.id", &arguments.group)
        .set("auto.offset.reset", "earliest")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("enable.auto.commit", "true")
        .set("enable.auto.offset.store", "false");
    client
}
