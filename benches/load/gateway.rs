//! The payment gateway: says yes to every request for a capture, at once, each time with the same event.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    message::{BorrowedMessage, Header, OwnedHeaders},
    producer::BaseProducer,
};
use serde_json::{Value as Json, json};

use super::feed;

/// Where it is asked, and where it answers.
#[derive(Args)]
pub struct Gateway {
    /// Bootstrap servers.
    #[arg(long)]
    brokers: String,
    /// Topic of the requests.
    #[arg(long)]
    requests: String,
    /// Topic of the answers.
    #[arg(long)]
    answers: String,
    /// Partitions of the requests.
    #[arg(long)]
    partitions: i32,
}

/// Answers until it is killed.
pub fn run(gateway: &Gateway) -> anyhow::Result<()> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &gateway.brokers)
        .set("group.id", "gateway")
        .set("enable.auto.commit", "false")
        // Its own waiting would be measured as the worker's.
        .set("fetch.wait.max.ms", "5")
        .create()?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..gateway.partitions {
        assignment.add_partition_offset(&gateway.requests, partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let producer = feed::producer(&gateway.brokers, 1)?;
    loop {
        if let Some(message) = consumer.poll(Duration::from_millis(10)) {
            answer(&message?, &producer, &gateway.answers)?;
        }
        producer.poll(Duration::ZERO);
    }
}

fn answer(message: &BorrowedMessage<'_>, producer: &BaseProducer, topic: &str) -> anyhow::Result<()> {
    let request: Json = serde_json::from_slice(message.payload().context("a request without value")?)?;
    ensure!(request["method"].is_string(), "asked for something else than a capture: {request}");
    let payment = request["payment_id"].as_str().context("payment_id is missing")?;
    let data = json!({
        "payment_id": payment,
        "amount_minor": request["amount_minor"],
        "currency": request["currency"],
        "provider_ref": format!("ch-{payment}"),
    });
    let (id, text) = (format!("capture/{payment}"), |key, value| Header { key, value: Some(value) });
    let headers = OwnedHeaders::new_with_capacity(5)
        .insert(text("ce_specversion", "1.0"))
        .insert(text("ce_id", id.as_str()))
        .insert(text("ce_source", "/payment-gateway"))
        .insert(text("ce_type", "payment.captured"))
        .insert(text("ce_entityseq", "1"));
    feed::send(producer, topic, payment, data.to_string().as_bytes(), headers)
}
