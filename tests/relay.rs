//! The way out: what was committed reaches the broker in order, whatever ends in between; one topic that refuses
//! does not stop the others; nothing is thrown away that a receiver still needs.

#[path = "support/services.rs"]
mod services;
#[path = "fence/stage.rs"]
mod stage;

use std::collections::{BTreeMap, BTreeSet};

use rdkafka::{
    ClientConfig, Message, TopicPartitionList,
    admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    message::{Headers, OwnedMessage},
    topic_partition_list::Offset,
};
use serde_json::json;
use services::{PARTITIONS, Worker, logs, wait_until};
use sqlx::Connection;
use stage::{Event, STEP, Stage};

/// All records of a topic, partition by partition in order.
fn records(stage: &Stage, topic: &str) -> Vec<OwnedMessage> {
    let topic = stage.topics.name(topic);
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &stage.brokers)
        .set("group.id", "relay-reader")
        .set("enable.auto.commit", "false")
        .create()
        .expect("make a consumer");
    let mut from = TopicPartitionList::new();
    let mut left = 0;
    for partition in 0..PARTITIONS {
        left += consumer.fetch_watermarks(&topic, partition, STEP).expect("ask for the end of a partition").1;
        from.add_partition_offset(&topic, partition, Offset::Beginning).expect("name a partition once");
    }
    consumer.assign(&from).expect("assign a topic");
    let mut found = Vec::new();
    for _ in 0..left {
        found.push(consumer.poll(STEP).expect("a record before the end").expect("a readable record").detach());
    }
    found
}

fn header<'a>(record: &'a OwnedMessage, name: &str) -> Option<&'a str> {
    let found = record.headers()?.iter().find(|header| header.key == name)?;
    std::str::from_utf8(found.value?).ok()
}

/// Reads a topic as the contract tells readers to, and says how many different messages it holds: on each link
/// numbers begin at 1 and skip none, and a number always stands for the same message.
fn read_links(records: &[OwnedMessage]) -> usize {
    let mut links: BTreeMap<(String, i32), Vec<String>> = BTreeMap::new();
    for record in records {
        let Some(position) = header(record, "seriatim_position") else { continue };
        let sender = position.rsplitn(3, '/').last().expect("a position names its lane").to_owned();
        let number: usize = header(record, "seriatim_sequence").expect("a number").parse().expect("a number");
        let id = header(record, "ce_id").expect("an id");
        let link = links.entry((sender.clone(), record.partition())).or_default();
        match number.cmp(&(link.len() + 1)) {
            std::cmp::Ordering::Less => {
                assert_eq!(link[number - 1], id, "{sender}: number {number} has another message")
            }
            std::cmp::Ordering::Equal => link.push(id.to_owned()),
            std::cmp::Ordering::Greater => panic!("{sender}: number {number} comes after {}", link.len()),
        }
    }
    links.values().flatten().collect::<BTreeSet<_>>().len()
}

fn placed(label: &str, count: usize, sku: &str) -> Vec<Event> {
    (0..count).map(|at| Event::placed(&format!("{label}-{at}"), sku)).collect()
}

/// Messages for a topic that were ever made, going by the links' counts.
async fn made(stage: &Stage, topic: &str) -> i64 {
    let topic = stage.topics.name(topic);
    let sql = format!("select sum(sent)::bigint from seriatim.link_out where to_topic = '{topic}'");
    stage.database.number(&sql).await.unwrap_or(0)
}

/// Waits until a topic holds so many different messages, each link in order.
async fn wait_for_messages(stage: &Stage, topic: &str, count: usize) {
    wait_until(&format!("{count} messages are in {topic}"), STEP, || async {
        read_links(&records(stage, topic)) == count
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_committed_and_not_sent_at_a_kill_is_sent_in_order_by_the_next_worker() {
    let stage = Stage::new("relay-kill").await;
    let logs = logs(stage.topics.prefix.trim_end_matches('.'));
    let worker = Worker::new(&stage.brokers, &stage.topics, &stage.database)
        .with("DATABASE__IDLE_IN_TRANSACTION_TIMEOUT", "2s")
        // One message under way at a time: the table is soon ahead of the topic.
        .with("RELAY__BYTES_IN_FLIGHT_MAX", "4096")
        .with("RELAY__QUEUE_BYTES_MAX", "4096")
        .with("RELAY__MESSAGE_BYTES_MAX", "4096");
    let (mut sent, mut unsent) = (0, 0);
    let mut kills = 0;
    while kills < 3 || unsent == 0 {
        assert!(kills < 8, "no kill fell between a commit and its messages");
        let running = worker.start(&format!("worker-{kills}"), &logs);
        // Nothing is in stock, so each ends with an outcome.
        let label = format!("purchase-{kills}");
        stage.send("purchases", placed(&label, 400, "nothing")).await;
        sent += 400;
        let before = made(&stage, "purchase-outcomes").await;
        wait_until("outcomes are made", STEP, || async { made(&stage, "purchase-outcomes").await > before }).await;
        running.kill();
        let there = i64::try_from(read_links(&records(&stage, "purchase-outcomes"))).expect("few");
        unsent += made(&stage, "purchase-outcomes").await - there;
        kills += 1;
    }
    let last = worker.start("worker-last", &logs);
    wait_for_messages(&stage, "purchase-outcomes", sent).await;
    assert_eq!(made(&stage, "purchase-outcomes").await, i64::try_from(sent).expect("few"));
    read_links(&records(&stage, "stock"));
    read_links(&records(&stage, "purchases"));
    last.stop(STEP).await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_bound_in_memory_messages_come_from_the_table_in_order() {
    let stage = Stage::new("relay-bound").await;
    let mut settings = stage.settings("workers");
    for name in ["BYTES_IN_FLIGHT_MAX", "QUEUE_BYTES_MAX", "MESSAGE_BYTES_MAX"] {
        settings.insert(format!("RELAY__{name}"), "4096".to_owned());
    }
    settings.insert("RELAY__PAGE_ROWS".to_owned(), "7".to_owned());
    let worker = stage.start(&settings).await;
    worker.ready().await;
    stage.send("purchases", placed("bound", 1_000, "nothing")).await;
    wait_for_messages(&stage, "purchase-outcomes", 1_000).await;
    assert_eq!(records(&stage, "purchase-outcomes").len(), 1_000, "without a failure nothing is sent twice");
    worker.stop().await;
    stage.end().await;
}

async fn limit(stage: &Stage, topic: &str, bytes: &str) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &stage.brokers).create().expect("make an admin client");
    let topic = stage.topics.name(topic);
    let change = AlterConfig::new(ResourceSpecifier::Topic(&topic)).set("max.message.bytes", bytes);
    for done in admin.alter_configs([&change], &AdminOptions::new()).await.expect("change a topic") {
        done.expect("change a topic");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_refuses_stops_its_own_links_and_nothing_else() {
    let stage = Stage::new("relay-refused").await;
    let mut settings = stage.settings("workers");
    settings.insert("RELAY__RETRY_BACKOFF_MAX".to_owned(), "500ms".to_owned());
    limit(&stage, "payment-requests", "100").await;
    let worker = stage.start(&settings).await;
    worker.ready().await;
    stage.send("stock", vec![Event::received("book", "first", 1_000)]).await;
    wait_until("books are there", STEP, || async {
        stage.database.number("select on_hand from shop.stock").await == Some(1_000)
    })
    .await;
    stage.send("purchases", placed("paid", 20, "book")).await;
    let refused = || worker.metric("seriatim_relay_sent_total", "payment-requests");
    wait_until("requests are refused", STEP, || async { refused() >= 3.0 }).await;

    // Others flow on, and so do the other links of the lanes whose requests are refused: their payments are made
    // all the same, and told to the purchases.
    stage.send("purchases", placed("refused", 100, "nothing")).await;
    let captured = |at: usize| {
        let payment = format!("pay-paid-{at}");
        let data = json!({ "payment_id": payment, "amount_minor": 100, "currency": "EUR", "provider_ref": "p" });
        Event { id: format!("captured-{at}"), key: payment, event_type: "payment.captured", sequence: None, data }
    };
    stage.send("payments", (0..20).map(captured).collect()).await;
    wait_for_messages(&stage, "purchase-outcomes", 120).await;
    worker.expect_running();

    // What the broker has acknowledged behind a refused message is not sent over and over.
    wait_until("all but the requests is acknowledged", STEP, || async {
        let sum = |name: &str| worker.metric(name, "") - worker.metric(name, "payment-requests");
        read_links(&records(&stage, "purchases")) >= 140 && sum("seriatim_relay_acknowledged_total") >= 400.0
    })
    .await;
    let told = records(&stage, "purchases").len();
    let tries = refused();
    wait_until("requests are refused again", STEP, || async { refused() >= tries + 3.0 }).await;
    assert_eq!(records(&stage, "purchases").len(), told, "acknowledged messages were sent again");

    limit(&stage, "payment-requests", "1048588").await;
    wait_for_messages(&stage, "payment-requests", 20).await;
    worker.stop().await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_stays_in_the_table_until_its_receiver_has_passed_it() {
    let stage = Stage::new("relay-trim").await;
    let mut settings = stage.settings("workers");
    settings.insert("RETENTION__INTERVAL".to_owned(), "100ms".to_owned());
    settings.insert("DATABASE__LOCK_TIMEOUT".to_owned(), "500ms".to_owned());
    settings.insert("LANES__CLAIM_PAUSE_MAX".to_owned(), "1s".to_owned());
    let worker = stage.start(&settings).await;
    worker.ready().await;
    worker.stop().await;

    // While their rows are locked the lanes of stock cannot be claimed: they receive nothing.
    let mut beside = sqlx::PgConnection::connect(&stage.database.url).await.expect("connect to the database");
    let mut lock = beside.begin().await.expect("begin");
    sqlx::query("select 1 from seriatim.lane where topic like '%stock' for update")
        .fetch_all(&mut *lock)
        .await
        .expect("lock the lanes");
    let worker = stage.start(&settings).await;
    stage.send("purchases", placed("held", 40, "nothing")).await;
    let rows = |what: &str| format!("select count(*) from seriatim.outbox where {what}");
    let (to_stock, letters) = (rows("to_topic like '%stock'"), rows("link_sequence is null"));
    wait_until("reservations are asked for", STEP, || async {
        read_links(&records(&stage, "stock")) == 40 && stage.database.number(&to_stock).await == Some(40)
    })
    .await;
    // A letter to nobody here goes once it is acknowledged, which shows that trimming has looked at its lane.
    for partition in 0..PARTITIONS {
        let key = stage::key_on("bad", partition);
        let data = json!({ "purchase_id": key });
        let event = Event { id: key.clone(), key, event_type: "purchase.placed", sequence: None, data };
        stage.send("purchases", vec![event]).await;
    }
    wait_until("the letters are made", STEP, || async {
        stage.database.number("select count(*) from seriatim.dead_letter").await == Some(i64::from(PARTITIONS))
    })
    .await;
    wait_until("the letters are trimmed", STEP, || async { stage.database.number(&letters).await == Some(0) }).await;
    assert_eq!(stage.database.number(&to_stock).await, Some(40), "messages that nobody has taken are gone");

    lock.rollback().await.expect("let the lanes go");
    wait_for_messages(&stage, "purchase-outcomes", 40).await;
    wait_until("the outbox is empty", STEP, || async { stage.database.number(&rows("true")).await == Some(0) }).await;
    worker.stop().await;
    stage.end().await;
}

/// Loses what a topic holds, though the brokers have acknowledged it.
async fn lose_records(stage: &Stage, topic: &str) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &stage.brokers).create().expect("make an admin client");
    let topic = stage.topics.name(topic);
    let mut upto = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        upto.add_partition_offset(&topic, partition, Offset::End).expect("name a partition once");
    }
    let lost = admin.delete_records(&upto, &AdminOptions::new()).await.expect("delete records");
    for partition in lost.elements() {
        partition.error().expect("delete the records of a partition");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_brokers_acknowledged_and_lost_is_sent_again_by_the_next_worker_too() {
    let stage = Stage::new("relay-lost").await;
    let mut settings = stage.settings("workers");
    settings.insert("RELAY__RESEND_INTERVAL".to_owned(), "100ms".to_owned());
    settings.insert("DATABASE__LOCK_TIMEOUT".to_owned(), "500ms".to_owned());
    settings.insert("LANES__CLAIM_PAUSE_MAX".to_owned(), "1s".to_owned());
    let worker = stage.start(&settings).await;
    worker.ready().await;
    worker.stop().await;

    // The lanes of stock receive nothing while their rows are locked.
    let mut beside = sqlx::PgConnection::connect(&stage.database.url).await.expect("connect to the database");
    let mut lock = beside.begin().await.expect("begin");
    sqlx::query("select 1 from seriatim.lane where topic like '%stock' for update")
        .fetch_all(&mut *lock)
        .await
        .expect("lock the lanes");
    let worker = stage.start(&settings).await;
    stage.send("purchases", placed("lost", 40, "nothing")).await;
    let acknowledged = "select count(*) from seriatim.outbox o join seriatim.lane l using (topic, partition) \
         where to_topic like '%stock' and (o.batch, o.idx) <= (l.relayed_batch, l.relayed_index)";
    wait_until("reservations are acknowledged", STEP, || async {
        stage.database.number(acknowledged).await == Some(40)
    })
    .await;
    assert_eq!(read_links(&records(&stage, "stock")), 40);
    assert!(worker.metric("seriatim_relay_resent_total", "stock").abs() < 0.5, "nobody has lost anything yet");
    worker.stop().await;
    lose_records(&stage, "stock").await;

    lock.rollback().await.expect("let the lanes go");
    let worker = stage.start(&settings).await;
    wait_for_messages(&stage, "purchase-outcomes", 40).await;
    assert!(worker.metric("seriatim_relay_resent_total", "stock") >= 40.0);
    worker.stop().await;
    stage.end().await;
}
