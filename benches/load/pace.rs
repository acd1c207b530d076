//! Latency by open loop: events are sent when their time has come, whether or not earlier ones are done, and each is
//! measured from the moment for which it was meant.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clap::Args;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    message::Headers as _,
};
use seriatim::core::partition::partition_of;
use sqlx::{Connection as _, PgConnection};

use super::{feed, stream::Stream};

/// Where to, what, how fast.
#[derive(Args)]
pub struct Pace {
    /// Bootstrap servers.
    #[arg(long)]
    brokers: String,
    /// The topic; it must be empty, and the worker must be reading.
    #[arg(long)]
    topic: String,
    /// Topic of the messages.
    #[arg(long)]
    balances: String,
    /// PostgreSQL.
    #[arg(long)]
    database: String,
    /// Events a second.
    #[arg(long)]
    rate: f64,
    /// Events of the beginning that are not measured.
    #[arg(long, default_value_t = 0)]
    warm_up: u64,
    #[command(flatten)]
    stream: Stream,
}

// What measures shares two cores with what is measured: waking up each millisecond, for the sender, the client's
// threads and a look, was a third of the machine. What these three add is counted as the worker's latency.

/// What clients wait by default, librdkafka's and Java's.
const LINGER_MS: u32 = 5;
/// How long the sender sleeps at least.
const WAKE: Duration = Duration::from_millis(2);
/// Between two looks at the lanes' rows.
const LOOK: Duration = Duration::from_millis(2);

/// When what was seen: offset or batch of each partition up to which everything is there.
type Seen = Arc<Mutex<Vec<(Instant, Vec<(i64, i64)>)>>>;

/// Sends, watches, and prints percentiles in milliseconds.
pub async fn run(pace: Pace) -> anyhow::Result<()> {
    let seen = Seen::default();
    let done = Arc::new(AtomicBool::new(false));
    let looking =
        tokio::spawn(look(pace.database.clone(), pace.stream.partitions, Arc::clone(&seen), Arc::clone(&done)));
    let reader = {
        let (brokers, topic, partitions) = (pace.brokers.clone(), pace.balances.clone(), pace.stream.partitions);
        let events = pace.stream.events;
        thread::spawn(move || read(&brokers, &topic, partitions, events))
    };
    let sender = thread::spawn(move || send(&pace).map(|meant| (pace, meant)));
    let (pace, meant) = sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
    let arrived = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    done.store(true, Ordering::Relaxed);
    looking.await??;
    let seen = std::mem::take(&mut *seen.lock().map_err(|_| anyhow::anyhow!("the watch panicked"))?);

    let mut committed = Vec::new();
    let mut visible = Vec::new();
    let skip = pace.warm_up as usize;
    for (partition, meant) in meant.iter().enumerate() {
        let mut read = Reached::new(seen.iter().map(|(at, lanes)| (*at, lanes[partition].0)));
        for (offset, (number, at)) in meant.iter().enumerate() {
            let there = read.when(offset as i64 + 1).context("an event was never committed")?;
            if *number as usize > skip {
                committed.push(there.saturating_duration_since(*at));
            }
        }
        let mut written = Reached::new(seen.iter().map(|(at, lanes)| (*at, lanes[partition].1)));
        for (batch, at) in &arrived[partition] {
            let there = written.when(*batch).context("a batch was never committed")?;
            // What is read before the look that shows its batch was as fast as can be told.
            visible.push(at.saturating_duration_since(there));
        }
    }
    let told = serde_json::json!({
        "committed_ms": percentiles(&mut committed),
        "visible_ms": percentiles(&mut visible),
    });
    println!("{told}");
    Ok(())
}

/// The looks at one number that only grows; asked for rising values, it goes through them once.
struct Reached<Looks> {
    looks: Looks,
    last: Option<(Instant, i64)>,
}

impl<Looks: Iterator<Item = (Instant, i64)>> Reached<Looks> {
    const fn new(looks: Looks) -> Self {
        Self { looks, last: None }
    }

    /// The first look at which the number was there; `None` if none saw it.
    fn when(&mut self, value: i64) -> Option<Instant> {
        while self.last.is_none_or(|(_, reached)| reached < value) {
            self.last = Some(self.looks.next()?);
        }
        self.last.map(|(at, _)| at)
    }
}

/// Sends each event at its time; gives, for each partition, what was meant for when, in the order of its offsets.
fn send(pace: &Pace) -> anyhow::Result<Vec<Vec<(u64, Instant)>>> {
    let producer = feed::producer(&pace.brokers, LINGER_MS)?;
    let mut meant = vec![Vec::new(); pace.stream.partitions as usize];
    let begun = Instant::now();
    for movement in pace.stream.movements() {
        let at = begun + Duration::from_secs_f64((movement.number - 1) as f64 / pace.rate);
        while Instant::now() < at {
            producer.poll(Duration::ZERO);
            thread::sleep(WAKE.max(at.saturating_duration_since(Instant::now())));
        }
        let (key, value, headers) = pace.stream.record(&movement);
        feed::send(&producer, &pace.topic, &key, &value, headers)?;
        let partition = partition_of(key.as_bytes(), pace.stream.partitions);
        meant[partition as usize].push((movement.number, at));
    }
    rdkafka::producer::Producer::flush(&producer, Duration::from_secs(60))?;
    Ok(meant)
}

/// Looks at the lanes' rows.
async fn look(url: String, partitions: i32, seen: Seen, done: Arc<AtomicBool>) -> anyhow::Result<()> {
    let mut database = PgConnection::connect(&url).await?;
    let mut before = Vec::new();
    while !done.load(Ordering::Relaxed) {
        let select = "select \"partition\", \"next_offset\", \"batch\" from \"seriatim\".\"lane\"";
        let rows: Vec<(i64, i64, i64)> = sqlx::query_as(select).fetch_all(&mut database).await?;
        let at = Instant::now();
        let mut lanes = vec![(0, 0); partitions as usize];
        for (partition, offset, batch) in rows {
            lanes[partition as usize] = (offset, batch);
        }
        if lanes != before {
            before.clone_from(&lanes);
            seen.lock().map_err(|_| anyhow::anyhow!("the measurement panicked"))?.push((at, lanes));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Reads the messages as they come: for each sending lane, batches and when they could be read.
fn read(brokers: &str, topic: &str, partitions: i32, events: u64) -> anyhow::Result<Vec<Vec<(i64, Instant)>>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "pace")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "5")
        .create()?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let mut arrived = vec![Vec::new(); partitions as usize];
    let mut last = BTreeMap::new();
    for _ in 0..events {
        let message = consumer.poll(Duration::from_secs(60)).context("messages are missing")??;
        let headers = message.headers().context("a message without headers")?;
        let position = headers.iter().find(|header| header.key == "seriatim_position").and_then(|header| header.value);
        let position = std::str::from_utf8(position.context("a message without position")?)?;
        let mut parts = position.rsplit('/');
        let (_index, batch, lane) = (parts.next(), parts.next(), parts.next());
        let batch: i64 = batch.context("position")?.parse()?;
        let lane: i32 = lane.context("position")?.parse()?;
        ensure!(lane < partitions, "a message of another lane");
        // One look a batch and partition is enough: its messages come together.
        if last.insert((lane, message.partition()), batch) != Some(batch) {
            arrived[lane as usize].push((batch, Instant::now()));
        }
    }
    for batches in &mut arrived {
        batches.sort_by_key(|(batch, _)| *batch);
    }
    Ok(arrived)
}

fn percentiles(durations: &mut [Duration]) -> serde_json::Value {
    durations.sort_unstable();
    let at = |share: f64| {
        let place = ((durations.len() as f64 * share) as usize).min(durations.len().saturating_sub(1));
        durations.get(place).map(|duration| duration.as_secs_f64() * 1000.0)
    };
    serde_json::json!({ "p50": at(0.5), "p99": at(0.99), "max": at(1.0) })
}
