//! Writes a stream as fast as the broker takes it.

use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;
use rdkafka::{
    ClientConfig,
    error::KafkaError,
    message::OwnedHeaders,
    producer::{BaseProducer, BaseRecord, Producer as _},
    types::RDKafkaErrorCode,
};

use super::stream::Stream;

/// Where to, and what.
#[derive(Args)]
pub struct Feed {
    /// Bootstrap servers.
    #[arg(long)]
    brokers: String,
    /// The topic.
    #[arg(long)]
    topic: String,
    #[command(flatten)]
    stream: Stream,
}

/// A producer like that of any upstream program.
pub fn producer(brokers: &str, linger_ms: u32) -> anyhow::Result<BaseProducer> {
    Ok(ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        .set("linger.ms", linger_ms.to_string())
        .set("queue.buffering.max.messages", "200000")
        .create()?)
}

/// Sends one record, waiting while the client's queue is full.
pub fn send(
    producer: &BaseProducer,
    topic: &str,
    key: &str,
    value: &[u8],
    headers: OwnedHeaders,
) -> anyhow::Result<()> {
    let mut record = BaseRecord::to(topic).key(key).payload(value).headers(headers);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                producer.poll(Duration::from_millis(10));
                record = back;
            }
            Err((error, _)) => bail!(error),
        }
    }
}

/// Writes all of it, and says how fast that was.
pub fn run(feed: &Feed) -> anyhow::Result<()> {
    let producer = producer(&feed.brokers, 20)?;
    let begun = Instant::now();
    for (at, movement) in feed.stream.movements().enumerate() {
        let (key, value, headers) = feed.stream.record(&movement);
        send(&producer, &feed.topic, &key, &value, headers)?;
        if at % 1000 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(Duration::from_secs(120))?;
    let rate = feed.stream.events as f64 / begun.elapsed().as_secs_f64();
    println!("{}", serde_json::json!({ "events": feed.stream.events, "rate": rate }));
    Ok(())
}
