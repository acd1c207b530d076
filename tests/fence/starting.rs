//! What a worker refuses at its start, and what halts a lane: another store, a topic that is not the same any more.

use rdkafka::{
    ClientConfig, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    topic_partition_list::Offset,
};

use super::{
    services::{Database, PARTITIONS, Worker, wait_until},
    stage::{Event, Running, STEP, Stage, key_on},
};

fn admin(stage: &Stage) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", &stage.brokers).create().expect("make an admin client")
}

/// Counts on one partition, of new counters each.
fn on(partition: i32, label: &str, count: usize) -> Vec<Event> {
    let keys = (0..count).map(|at| key_on(&format!("{label}-{at}"), partition));
    keys.map(|key| Event::counted(&key, format!("id-{key}"), 1)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_topic_another_count_of_partitions_and_a_bare_database_are_refused_at_start() {
    let stage = Stage::new("refusals").await;
    let mut elsewhere = stage.settings("workers");
    elsewhere.insert("TOPICS__PREFIX".to_owned(), "nowhere.".to_owned());
    let error = stage.start(&elsewhere).await.ended().await;
    assert!(error.contains("topics are missing: ") && error.contains("nowhere.activity"), "{error}");
    assert!(error.contains("seriatim topics apply"), "{error}");

    let worker = stage.start(&stage.settings("workers")).await;
    worker.ready().await;
    worker.stop().await;
    stage.sql("update seriatim.topic set partitions = 3 where name like '%activity'").await;
    let error = stage.start(&stage.settings("workers")).await.ended().await;
    assert!(error.contains("activity has 4 partitions where 3 are in force"), "{error}");

    let bare = Database::create("bare").await;
    let logs = super::services::logs(stage.topics.prefix.trim_end_matches('.'));
    let mut process = Worker::new(&stage.brokers, &stage.topics, &bare)
        .with("DATABASE__IDLE_IN_TRANSACTION_TIMEOUT", "2s")
        .start("bare", &logs);
    assert!(!process.ended(STEP).await.success());
    assert!(process.log().contains("migrate up"), "{}", process.log_end());
    bare.drop().await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_database_does_not_take_lanes_that_another_one_has_read() {
    let stage = Stage::new("foreign").await;
    let mut settings = stage.settings("workers");
    settings.insert("KAFKA__COMMIT_INTERVAL".to_owned(), "100ms".to_owned());
    let worker = stage.start(&settings).await;
    worker.ready().await;
    stage.send("activity", on(1, "first", 20)).await;
    stage.wait_for_counted(20).await;
    worker.stop().await;

    let other = Database::create("other").await;
    Worker::new(&stage.brokers, &stage.topics, &other).migrate();
    settings.insert("DATABASE__URL".to_owned(), other.url.clone());
    let worker = stage.start(&settings).await;
    wait_until("lanes are refused", STEP, || async {
        worker.expect_running();
        worker.metric("seriatim_claims_total", "refused") >= 20.0
    })
    .await;
    assert!(worker.metric("seriatim_alarms_total", "halt") >= 20.0, "each is an alarm");
    assert_eq!(other.number("select count(*) from seriatim.lane").await, Some(0));
    assert!(!worker.health.readiness().ready);
    worker.stop().await;
    other.drop().await;
    stage.end().await;
}

async fn recreate(stage: &Stage, topic: &str) {
    let (admin, topic, options) = (admin(stage), stage.topics.name(topic), AdminOptions::new());
    for gone in admin.delete_topics(&[&topic], &options).await.expect("delete a topic") {
        gone.expect("delete a topic");
    }
    let partitions = || {
        let metadata = admin.inner().fetch_metadata(Some(&topic), STEP).expect("ask for a topic");
        metadata.topics()[0].partitions().iter().filter(|partition| partition.leader() >= 0).count()
    };
    // The broker hears of it later than who answers the request: until then it would take records for the old one.
    wait_until("the old topic is gone", STEP, || async { partitions() == 0 }).await;
    let new = NewTopic::new(&topic, PARTITIONS, TopicReplication::Fixed(1));
    wait_until("the topic is made anew", STEP, || async {
        // Refused as long as the old one is being deleted.
        admin.create_topics([&new], &options).await.is_ok_and(|made| made.iter().all(Result::is_ok))
    })
    .await;
    wait_until("the topic is led", STEP, || async { partitions() == 4 }).await;
}

async fn wait_for_halted(worker: &Running, count: u16) {
    wait_until(&format!("{count} lanes have halted"), STEP, || async {
        worker.expect_running();
        let lanes = worker.health.readiness().lanes;
        lanes.halted == count && lanes.claimed == lanes.assigned && lanes.assigned == 20
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_made_anew_halts_its_lanes_until_an_operator_accepts_it() {
    let stage = Stage::new("recreated").await;
    let worker = stage.start(&stage.settings("workers")).await;
    worker.ready().await;
    stage.send("activity", on(0, "old", 5)).await;
    stage.send("activity", on(1, "old", 5)).await;
    stage.wait_for_counted(10).await;
    worker.stop().await;
    recreate(&stage, "activity").await;
    // On partition 0 there is more than before, so only the content tells; on 1 there is less.
    stage.send("activity", on(0, "new", 9)).await;
    stage.send("activity", on(1, "new", 2)).await;

    let worker = stage.start(&stage.settings("workers")).await;
    wait_for_halted(&worker, 2).await;
    assert!(worker.metric("seriatim_alarms_total", "halt") >= 2.0);
    // The other lanes go on, and the halted ones take orders without going on for that.
    stage.send("activity", on(2, "new", 7)).await;
    stage.wait_for_counted(17).await;
    for _ in 0..2 {
        let order = stage.order("activity", 0, "entity.release", Some("nobody")).await;
        assert_eq!(stage.obeyed(&order).await, "0: the entity is not quarantined");
    }
    stage.send("activity", on(2, "newer", 3)).await;
    stage.wait_for_counted(20).await;
    wait_for_halted(&worker, 2).await;

    for partition in [0, 1] {
        let order = stage.order("activity", partition, "lane.accept", None).await;
        assert_eq!(stage.obeyed(&order).await, "1: the topic is read from its beginning");
    }
    stage.wait_for_counted(31).await;
    wait_for_halted(&worker, 0).await;
    let accepted = "select count(*) from seriatim.lane where incarnation = 2";
    assert_eq!(stage.database.number(accepted).await, Some(2));
    worker.stop().await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_were_deleted_unread_halt_their_lane_until_an_operator_accepts_it() {
    let stage = Stage::new("truncated").await;
    let worker = stage.start(&stage.settings("workers")).await;
    worker.ready().await;
    stage.send("activity", on(0, "read", 5)).await;
    stage.send("activity", on(1, "read", 5)).await;
    stage.wait_for_counted(10).await;
    worker.stop().await;
    stage.send("activity", on(0, "unread", 5)).await;
    // Partition 0 loses two that nobody has read, partition 1 only what was.
    let mut upto = TopicPartitionList::new();
    for (partition, offset) in [(0, 7), (1, 5)] {
        let place = Offset::Offset(offset);
        upto.add_partition_offset(&stage.topics.name("activity"), partition, place).expect("name a partition once");
    }
    admin(&stage).delete_records(&upto, &AdminOptions::new()).await.expect("delete records");
    let client: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", &stage.brokers).create().expect("make a client");
    wait_until("the records are gone", STEP, || async {
        client.fetch_watermarks(&stage.topics.name("activity"), 0, STEP).is_ok_and(|(low, _)| low == 7)
    })
    .await;

    let worker = stage.start(&stage.settings("workers")).await;
    wait_for_halted(&worker, 1).await;
    stage.send("activity", on(1, "later", 5)).await;
    stage.wait_for_counted(15).await;
    let order = stage.order("activity", 0, "lane.accept", None).await;
    stage.obeyed(&order).await;
    stage.wait_for_counted(18).await;
    worker.stop().await;
    stage.end().await;
}
