//! Timers and the backlog: what lies in the topic when a deadline passes comes before the deadline.

use std::time::Duration;

use rdkafka::{
    ClientConfig,
    producer::{FutureProducer, FutureRecord, Producer},
};
use serde_json::json;
use sqlx::Connection;

use super::{
    services::wait_until,
    stage::{Event, Running, STEP, Stage},
};

const STATUS: &str = "select status || ' ' || coalesce(reason, '') from shop.purchase";

/// A worker whose checkout waits three seconds for a payment, and a purchase whose payment is asked for.
async fn checkout(label: &str) -> (Stage, Running) {
    let stage = Stage::new(label).await;
    let worker = stage.start(&settings(&stage)).await;
    worker.ready().await;
    stage.send("stock", vec![Event::received("book", "first", 10)]).await;
    wait_until("books are there", STEP, || async {
        stage.database.number("select on_hand from shop.stock").await == Some(10)
    })
    .await;
    stage.send("purchases", vec![Event::placed("late", "book")]).await;
    wait_until("the payment is asked for", STEP, || async {
        stage.database.number("select count(*) from shop.payment where status = 'requested'").await == Some(1)
    })
    .await;
    (stage, worker)
}

fn settings(stage: &Stage) -> std::collections::BTreeMap<String, String> {
    let mut settings = stage.settings("workers");
    for (name, value) in [
        ("SAGA__RESERVE_DEADLINE", "3s"),
        ("SAGA__CHARGE_DEADLINE", "3s"),
        ("SAGA__CAPTURE_RETRY", "1s"),
        ("SAGA__CAPTURE_ATTEMPTS", "2"),
        ("DATABASE__LOCK_TIMEOUT", "500ms"),
        ("LANES__CLAIM_PAUSE_MAX", "1s"),
    ] {
        settings.insert(name.to_owned(), value.to_owned());
    }
    settings
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_that_lies_in_the_topic_wins_over_a_deadline_that_passed_meanwhile() {
    let (stage, worker) = checkout("reply-wins").await;
    worker.stop().await;
    // The lanes of purchases cannot be claimed while their rows are locked: the reply stays in the topic.
    let mut beside = sqlx::PgConnection::connect(&stage.database.url).await.expect("connect to the database");
    let mut lock = beside.begin().await.expect("begin");
    let sql = "select 1 from seriatim.lane where topic like '%purchases' for update";
    sqlx::query(sql).fetch_all(&mut *lock).await.expect("lock the lanes");
    let worker = stage.start(&settings(&stage)).await;
    let data = json!({ "payment_id": "pay-late", "amount_minor": 100, "currency": "EUR", "provider_ref": "p" });
    let (id, key) = ("captured".to_owned(), "pay-late".to_owned());
    stage.send("payments", vec![Event { id, key, event_type: "payment.captured", sequence: None, data }]).await;
    let acknowledged = "select count(*) from seriatim.outbox o join seriatim.lane l using (topic, partition) \
         where o.headers like '%payment.succeeded%' and (o.batch, o.idx) <= (l.relayed_batch, l.relayed_index)";
    wait_until("the reply is in the topic", STEP, || async { stage.database.number(acknowledged).await == Some(1) })
        .await;
    worker.stop().await;
    wait_until("the deadline has passed", STEP, || async {
        let sql = "select count(*) from seriatim.timer where purpose = 'saga' and due > clock_timestamp()";
        stage.database.number(sql).await == Some(0)
    })
    .await;
    let open = "select count(*) from seriatim.timer where purpose = 'saga'";
    assert!(stage.database.number(open).await > Some(0), "the deadline has fired already");
    lock.rollback().await.expect("let the lanes go");

    let worker = stage.start(&settings(&stage)).await;
    wait_until("the purchase has ended", STEP, || async {
        stage.database.texts(STATUS).await.iter().all(|status| !status.starts_with("pending"))
    })
    .await;
    assert_eq!(stage.database.texts(STATUS).await, ["completed "]);
    worker.stop().await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_ends_in_a_transaction_marker_does_not_hold_timers_back() {
    let (stage, worker) = checkout("marker").await;
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", &stage.brokers)
        .set("transactional.id", &stage.topics.prefix)
        .create()
        .expect("make a producer");
    producer.init_transactions(STEP).expect("begin to use transactions");
    producer.begin_transaction().expect("begin a transaction");
    let topic = stage.topics.name("purchases");
    let record = FutureRecord::to(&topic).partition(Stage::partition("late")).key("late").payload("no event");
    producer.send(record, Duration::from_secs(30)).await.map_err(|(error, _)| error).expect("deliver a record");
    producer.commit_transaction(STEP).expect("commit a transaction");

    // Nobody pays: the deadline ends the purchase, though its lane never reads the offset of the marker.
    wait_until("the purchase is rejected", STEP, || async {
        worker.expect_running();
        stage.database.texts(STATUS).await == ["rejected timeout"]
    })
    .await;
    worker.stop().await;
    stage.end().await;
}
