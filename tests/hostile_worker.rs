//! Hostile producers against a worker at work: what they send is bounded in rows and memory, delays nobody else, and is
//! accounted for to the last record.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

#[path = "support/services.rs"]
mod services;
#[path = "fence/stage.rs"]
mod stage;

use std::{
    env, fs,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use services::{PARTITIONS, Process, Worker, logs, wait_until};
use stage::{Event, STEP, Stage, key_on};

/// What the worker may take at its peak; the shipped chart allows it a little more.
const RESIDENT_KIB_MAX: u64 = 256 << 10;
/// Records of one attack, if `SERIATIM_TEST_FLOOD` does not say how many.
const FLOOD: usize = 20_000;
/// What a lane may hold back in these tests.
const HELD_MAX: i64 = 400;

/// Records of one attack.
fn flood() -> usize {
    env::var("SERIATIM_TEST_FLOOD").map_or(FLOOD, |count| count.parse().expect("a number of records"))
}

/// How long a flood may take.
fn patience() -> Duration {
    STEP * u32::try_from(flood().div_ceil(FLOOD)).unwrap()
}

/// A worker under attack.
struct Siege {
    stage: Stage,
    worker: Worker,
    process: Process,
    began: Instant,
}

impl Siege {
    async fn begin(label: &str) -> Self {
        let stage = Stage::new(label).await;
        let logs = logs(stage.topics.prefix.trim_end_matches('.'));
        println!("logs in {}, database {}", logs.display(), stage.database.url);
        let worker = Worker::new(&stage.brokers, &stage.topics, &stage.database)
            .with_image_settings()
            .with("REORDER__HELD_PER_LANE_MAX", &HELD_MAX.to_string())
            .with("REORDER__HELD_PER_ENTITY_MAX", "100");
        let process = worker.start("worker", &logs);
        Self { stage, worker, process, began: Instant::now() }
    }

    /// Sends as many at a time as the client takes.
    async fn send(&self, events: impl Iterator<Item = Event>) {
        let mut events = events.peekable();
        while events.peek().is_some() {
            self.stage.send("activity", events.by_ref().take(FLOOD).collect()).await;
        }
    }

    async fn rows(&self, table: &str) -> i64 {
        self.stage.database.number(&format!("select count(*) from seriatim.{table}")).await.unwrap()
    }

    /// Somebody else's events come after the attack, on every lane of its topic, and are applied.
    async fn others_go_on(&mut self, name: &str) {
        let keys: Vec<String> = (0..PARTITIONS).map(|partition| key_on(&format!("good-{name}"), partition)).collect();
        let events = keys.iter().flat_map(|key| (0..10).map(move |at| Event::counted(key, format!("{key}-{at}"), 1)));
        self.stage.send("activity", events.collect()).await;
        let sql = format!("select sum(version)::bigint from shop.counter where counter like 'good-{name}%'");
        wait_until(&format!("others are served after {name}"), patience(), || {
            self.process.expect_running();
            let database = &self.stage.database;
            let sql = sql.clone();
            async move { database.number(&sql).await == Some(40) }
        })
        .await;
    }

    /// The most that the worker has had in memory, in KiB.
    fn peak(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Tells the line of the table, and that all is accounted for.
    fn told(&self, attack: &str, cases: usize) {
        let peak = self.peak();
        let seconds = self.began.elapsed().as_secs();
        println!("| {attack} | {cases} | {} MiB | {seconds} s |", peak / 1024);
        assert!(peak < RESIDENT_KIB_MAX, "{attack}: {peak} KiB resident");
    }

    async fn end(self) {
        self.process.expect_no_panic();
        let done = self.worker.command(&["fsck"]).output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
        println!("{said}");
        self.process.stop(STEP).await;
        self.stage.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_far_ahead_are_bounded_and_delay_nobody() {
    let mut siege = Siege::begin("sequences").await;
    let edge = [i64::MAX, i64::MAX - 1].map(|number| Event::counted("edge", format!("edge-{number}"), 1).at(number));
    siege.stage.send("activity", edge.into()).await;
    siege.others_go_on("edge").await;
    siege.told("sequence 2⁶³−1 and before it", 2);

    // Many entities, each with an event whose predecessor never comes.
    let many = (0..flood()).map(|at| Event::counted(&format!("flood-{at}"), format!("flood-{at}"), 1).at(2));
    siege.send(many).await;
    siege.others_go_on("many").await;
    assert!(siege.rows("held").await <= i64::from(PARTITIONS) * (HELD_MAX + 1), "held {}", siege.rows("held").await);
    siege.told("many entities, one future event each", flood());

    // One entity with all its events but the first.
    let many = (2..=flood()).map(|at| Event::counted("alone", format!("alone-{at}"), 1).at(i64::try_from(at).unwrap()));
    siege.send(many).await;
    siege.others_go_on("one").await;
    siege.told("one entity, many future events", flood());
    siege.end().await;
}

/// Records of the largest size that the broker takes, for each partition.
const LARGEST: usize = 20;
/// Headers of one record, as many as fit.
const HEADERS: usize = 100_000;
/// Records that a batch is packed of, a mebibyte each that is a kibibyte packed.
const PACKED: usize = 8;

fn header(name: &str, value: &[u8]) -> OwnedHeaders {
    OwnedHeaders::new().insert(Header { key: name, value: Some(value) })
}

/// A producer that packs its batches, as large as the client lets it.
fn packer(brokers: &str, codec: &str) -> FutureProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("compression.type", codec).set("linger.ms", "200");
    config.set("message.max.bytes", "100000000").set("batch.size", "60000000");
    // What is not packed goes alone: the broker takes no larger batch.
    config.set("batch.num.messages", if codec == "none" { "1" } else { "10000" });
    config.create().expect("make a producer")
}

/// Sends these values to every partition of a topic.
async fn send(producer: &FutureProducer, topic: &str, values: &[Vec<u8>], headers: &OwnedHeaders) {
    let mut sent = Vec::new();
    for partition in 0..PARTITIONS {
        for value in values {
            let record =
                FutureRecord::to(topic).partition(partition).key("bomb").payload(value).headers(headers.clone());
            sent.push(producer.send_result(record).map_err(|(error, _)| error).expect("queue a record"));
        }
    }
    for delivery in sent {
        delivery.await.expect("the producer lives").map_err(|(error, _)| error).expect("deliver a record");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_as_large_as_may_be_fit_into_a_small_worker() {
    let mut siege = Siege::begin("bombs").await;
    let topic = siege.stage.topics.name("activity");
    let plain = packer(&siege.stage.brokers, "none");
    send(&plain, &topic, &vec![vec![b'x'; 1_000_000]; LARGEST], &header("ce_type", b"activity.counted")).await;
    siege.others_go_on("largest").await;
    siege.told("1 MB of junk on every partition", LARGEST * 4);

    let many =
        (0..HEADERS).fold(OwnedHeaders::new(), |headers, _| headers.insert(Header { key: "h", value: Some("") }));
    send(&plain, &topic, &vec![b"{}".to_vec(); 3], &many).await;
    siege.others_go_on("headers").await;
    siege.told("100,000 headers", 3 * 4);

    for codec in ["zstd", "gzip"] {
        let packed = packer(&siege.stage.brokers, codec);
        send(&packed, &topic, &vec![vec![b' '; 1 << 20]; PACKED], &header("ce_type", b"activity.counted")).await;
        siege.others_go_on(codec).await;
        siege.told(&format!("batches of {codec}, a thousand to one"), PACKED * 4);
    }
    siege.end().await;
}
