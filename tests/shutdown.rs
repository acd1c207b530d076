//! The way down: SIGTERM ends the process with 0 within its deadline, also when the brokers or the database are
//! gone; in good weather everything that was committed is sent first.

#[path = "fence/proxy.rs"]
mod proxy;
#[path = "support/services.rs"]
mod services;
#[path = "fence/stage.rs"]
mod stage;

use std::time::Duration;

use proxy::Proxy;
use services::{Process, Worker, logs, wait_until};
use stage::{Event, STEP, Stage};

/// The deadline in these tests, and the bound that is demanded: it is the promise itself.
const DEADLINE: Duration = Duration::from_secs(10);

fn worker(stage: &Stage) -> Worker {
    Worker::new(&stage.brokers, &stage.topics, &stage.database)
        .with("DATABASE__IDLE_IN_TRANSACTION_TIMEOUT", "2s")
        .with("DATABASE__LOCK_TIMEOUT", "2s")
        .with("SHUTDOWN__DEADLINE", "10s")
}

async fn ends_in_time(mut process: Process) {
    process.terminate();
    let status = process.ended(DEADLINE).await;
    assert!(status.success(), "ended with {status}: {}", process.log_end());
    process.expect_no_panic();
}

fn counts(label: &str, count: usize) -> Vec<Event> {
    (0..count).map(|at| Event::counted(&format!("counter-{}", at % 40), format!("{label}-{at}"), 1)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_ends_in_time_though_the_brokers_are_gone() {
    let stage = Stage::new("no-broker").await;
    let proxy = Proxy::kafka(&stage.brokers).await;
    let logs = logs(stage.topics.prefix.trim_end_matches('.'));
    let process = worker(&stage).with("KAFKA__BROKERS", &proxy.address()).start("worker", &logs);
    stage.send("activity", counts("before", 100)).await;
    stage.wait_for_counted(100).await;
    // Something is to be sent that cannot be sent any more.
    stage.send("purchases", (0..200).map(|at| Event::placed(&format!("p-{at}"), "nothing")).collect()).await;
    wait_until("purchases are placed", STEP, || async {
        stage.database.number("select count(*) from shop.purchase").await > Some(0)
    })
    .await;
    proxy.cut();
    ends_in_time(process).await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_ends_in_time_though_the_database_is_gone() {
    let stage = Stage::new("no-database").await;
    let (_, rest) = stage.database.url.split_once('@').expect("the URL names a user");
    let (server, name) = rest.split_once('/').expect("the URL names a database");
    let proxy = Proxy::postgres(server).await;
    let logs = logs(stage.topics.prefix.trim_end_matches('.'));
    let url = format!("postgres://postgres@{}/{name}?sslmode=disable", proxy.address());
    let process = worker(&stage).with("DATABASE__URL", &url).start("worker", &logs);
    stage.send("activity", counts("before", 100)).await;
    stage.wait_for_counted(100).await;
    proxy.cut();
    stage.send("activity", counts("after", 1_000)).await;
    wait_until("the worker misses its database", STEP, || async { process.log().contains("did not answer") }).await;
    ends_in_time(process).await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_asked_to_end_sends_what_it_has_committed() {
    let stage = Stage::new("drain").await;
    let logs = logs(stage.topics.prefix.trim_end_matches('.'));
    let process = worker(&stage).start("worker", &logs);
    stage.send("purchases", (0..2_000).map(|at| Event::placed(&format!("p-{at}"), "nothing")).collect()).await;
    let made = "select sum(sent)::bigint from seriatim.link_out where to_topic like '%purchase-outcomes'";
    wait_until("outcomes are made", STEP, || async { stage.database.number(made).await > Some(0) }).await;
    ends_in_time(process).await;
    let made = stage.database.number(made).await.expect("outcomes were made");
    assert_eq!(stage.count_records("purchase-outcomes"), made, "records in the topic, and messages committed");
    let again = "select count(*) from seriatim.outbox o join seriatim.lane l using (topic, partition) \
         where (o.batch, o.idx) > (l.relayed_batch, l.relayed_index)";
    assert_eq!(stage.database.number(again).await, Some(0), "messages that the next worker would send again");
    stage.end().await;
}
