//! Bad input on the real path: a real broker, one worker, a real PostgreSQL.
//!
//! Each bad record must end as the contract says, with its bytes, place and field in the dead letter, in the
//! table and in the topic; and the good record behind it on the same partition must be taken. The cases are
//! data, in `bad_input/cases.rs`; this file produces them, waits until all is taken, and looks.

#[path = "bad_input/cases.rs"]
mod cases;
#[path = "support/services.rs"]
mod services;

use std::{collections::HashMap, time::Duration};

use cases::{Case, Outcome, Sent, cases, follower};
use rdkafka::{
    ClientConfig, Message, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    message::{Header, Headers, OwnedHeaders, OwnedMessage},
    producer::{FutureProducer, FutureRecord},
    topic_partition_list::Offset,
};
use seriatim::core::partition::partition_of;
use services::{Database, HOME_TOPICS, PARTITIONS, Topics, Worker, kafka, logs, wait_until};
use sqlx::Row;

/// Bound on taking a few hundred records, a claim of all lanes included.
const STEP: Duration = Duration::from_secs(90);

/// Where a record came to stand: full topic name, partition, offset.
type Place = (String, i32, i64);

/// What the table says of a dead letter.
struct Letter {
    reason: String,
    error: String,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
}

struct Produced {
    case: Case,
    bad: Place,
    follower: (String, Place),
}

async fn send(producer: &FutureProducer, topics: &Topics, plain: &str, sent: &Sent) -> Place {
    let topic = topics.name(plain);
    let partition = sent.partition.unwrap_or_else(|| partition_of(sent.key.as_deref().unwrap_or_default(), PARTITIONS));
    let headers = sent.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
        headers.insert(Header { key, value: Some(value.as_slice()) })
    });
    let mut record = FutureRecord::<[u8], [u8]>::to(&topic).partition(partition).headers(headers);
    record.key = sent.key.as_deref();
    record.payload = sent.value.as_deref();
    let sent = producer.send(record, Duration::from_secs(30)).await;
    let delivery = sent.unwrap_or_else(|(error, _)| panic!("producing to {topic}: {error}"));
    (topic, delivery.partition, delivery.offset)
}

/// Produces what comes before a bad record, the bad record, and a good one behind it on the same partition.
async fn produce(brokers: &str, topics: &Topics) -> Vec<Produced> {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("message.max.bytes", "1048588")
        .set("linger.ms", "0")
        .create()
        .expect("make a producer");
    let mut produced = Vec::new();
    for case in cases(&topics.prefix) {
        for before in &case.before {
            send(&producer, topics, case.topic, before).await;
        }
        let bad = send(&producer, topics, case.topic, &case.bad).await;
        let keys = (0..).map(|number| format!("after-{}-{number}", case.name));
        let mut keys = keys.filter(|key| partition_of(key.as_bytes(), PARTITIONS) == bad.1);
        let key = keys.next().expect("one key in a few lies on any partition");
        let place = send(&producer, topics, case.topic, &follower(case.topic, &key)).await;
        produced.push(Produced { case, bad, follower: (key, place) });
    }
    produced
}

async fn letters_in_table(database: &Database) -> HashMap<Place, Letter> {
    let sql = "select topic, partition::int4, record_offset::int8, reason, error, key, value from seriatim.dead_letter";
    let rows = sqlx::query(sql).fetch_all(&database.pool).await.expect("read the dead letters");
    let letter = |row: &sqlx::postgres::PgRow| {
        let error: Option<String> = row.get("error");
        let place = (row.get("topic"), row.get("partition"), row.get("record_offset"));
        let error = error.unwrap_or_default();
        (place, Letter { reason: row.get("reason"), error, key: row.get("key"), value: row.get("value") })
    };
    rows.iter().map(letter).collect()
}

fn header<'a>(letter: &'a OwnedMessage, name: &str) -> Option<&'a str> {
    let headers = letter.headers()?;
    let found = headers.iter().find(|header| header.key == name)?;
    std::str::from_utf8(found.value?).ok()
}

/// All letters of the topics for dead letters, by the place that their headers name.
fn letters_in_topics(brokers: &str, topics: &Topics) -> HashMap<Place, OwnedMessage> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "bad-input-reader")
        .set("enable.auto.commit", "false")
        .create()
        .expect("make a consumer");
    let mut from = TopicPartitionList::new();
    let mut left = 0;
    for (plain, partition) in HOME_TOPICS.iter().flat_map(|plain| (0..PARTITIONS).map(move |at| (plain, at))) {
        let topic = topics.dead_letters(plain);
        let (_, end) = consumer.fetch_watermarks(&topic, partition, STEP).expect("ask for the end of a partition");
        left += end;
        from.add_partition_offset(&topic, partition, Offset::Beginning).expect("name a partition once");
    }
    consumer.assign(&from).expect("assign the topics for dead letters");
    let mut found = HashMap::new();
    while left > 0 {
        let letter =
            consumer.poll(STEP).expect("a letter before the end of its topic").expect("a readable letter").detach();
        let number = |name| header(&letter, name).and_then(|text| text.parse::<i64>().ok()).unwrap_or(-1);
        let partition = i32::try_from(number("dlq.partition")).expect("a partition's number");
        let topic = header(&letter, "dlq.topic").unwrap_or_default().to_owned();
        found.insert((topic, partition, number("dlq.offset")), letter);
        left -= 1;
    }
    found
}

/// Looks at one dead letter in the table; gives what is wrong with it.
fn row_flaws(case: &Case, letter: &Letter) -> Vec<String> {
    let mut flaws = Vec::new();
    let Outcome::DeadLetter { reasons, field } = case.outcome else { return flaws };
    if !reasons.contains(&letter.reason.as_str()) {
        flaws.push(format!("reason {} is none of {reasons:?} ({})", letter.reason, letter.error));
    }
    if !letter.error.contains(field) {
        flaws.push(format!("the error does not name {field}: {}", letter.error));
    }
    if letter.error.contains(cases::MARKER) {
        flaws.push(format!("the error repeats the payload: {}", letter.error));
    }
    if letter.key != case.bad.key || letter.value != case.bad.value {
        flaws.push("the row does not hold the original bytes".to_owned());
    }
    flaws
}

/// Looks at the same letter in its topic.
fn topic_flaws(case: &Case, row: &Letter, letter: &OwnedMessage) -> Vec<String> {
    let mut flaws = Vec::new();
    if header(letter, "dlq.reason") != Some(row.reason.as_str()) {
        flaws.push(format!("dlq.reason is {:?}, the row says {}", header(letter, "dlq.reason"), row.reason));
    }
    if header(letter, "dlq.error").unwrap_or_default() != row.error {
        flaws.push(format!("dlq.error is {:?}, the row says {}", header(letter, "dlq.error"), row.error));
    }
    let original = case.bad.value.as_deref().unwrap_or_default();
    let value = letter.payload().unwrap_or_default();
    let whole = value == original;
    let cut = header(letter, "dlq.cut") == Some(original.len().to_string().as_str()) && original.starts_with(value);
    if letter.key() != case.bad.key.as_deref() || !(whole || cut) {
        flaws.push("the letter does not hold the original bytes".to_owned());
    }
    for (name, text) in &case.bad.headers {
        if std::str::from_utf8(text).is_ok_and(|text| header(letter, name) != Some(text)) {
            flaws.push(format!("the letter lost the header {name}"));
        }
    }
    flaws
}

/// Whether the good record behind a bad one was taken for what it is.
async fn follower_taken(database: &Database, topic: &str, key: &str, place: &Place) -> bool {
    let at = format!("topic = '{}' and partition = {} and record_offset = {}", place.0, place.1, place.2);
    let sql = match topic {
        "activity" => format!("select count(*) from shop.counter where counter = '{key}' and value = 1"),
        // A fact about a payment that nobody asked for waits, and that is what its partition owes it.
        "payments" => format!("select count(*) from seriatim.waiting where {at}"),
        _ => format!("select count(*) from seriatim.journal where outcome = 'applied' and {at}"),
    };
    database.number(&sql).await == Some(1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_records_are_dead_lettered_whole_and_block_nobody() {
    let brokers = kafka();
    let database = Database::create("bad_input").await;
    let topics = Topics::create(&brokers, "bad-input").await;
    let folder = logs(topics.prefix.trim_end_matches('.'));
    println!("logs in {}, database {}", folder.display(), database.url);
    // Nothing becomes due while the test looks: what waits must be seen waiting.
    let settings = Worker::new(&brokers, &topics, &database)
        .with("REORDER__WAITING_DEADLINE", "1h")
        .with("REORDER__GAP_DEADLINE", "1h");
    settings.migrate();
    let mut worker = settings.start("worker", &folder);
    let produced = produce(&brokers, &topics).await;

    let mut ends: HashMap<(String, i32), i64> = HashMap::new();
    for (topic, partition, offset) in produced.iter().map(|one| &one.follower.1) {
        let end = ends.entry((topic.clone(), *partition)).or_default();
        *end = (*end).max(offset + 1);
    }
    for ((topic, partition), end) in &ends {
        let sql = format!("select next_offset from seriatim.lane where topic = '{topic}' and partition = {partition}");
        wait_until(&format!("{topic}/{partition} is taken up to {end}"), STEP, || {
            worker.expect_running();
            async { database.number(&sql).await.unwrap_or(0) >= *end }
        })
        .await;
    }
    let rows = letters_in_table(&database).await;
    wait_until("every dead letter is in its topic", STEP, || async {
        letters_in_topics(&brokers, &topics).len() >= rows.len()
    })
    .await;
    let letters = letters_in_topics(&brokers, &topics);

    let mut flaws = Vec::new();
    for Produced { case, bad, follower: (key, place) } in &produced {
        let mut found = match (&case.outcome, rows.get(bad), letters.get(bad)) {
            (Outcome::Taken(sql), None, _) => {
                let taken = database.number(sql).await == Some(1);
                if taken { Vec::new() } else { vec![format!("not taken as it should be: {sql}")] }
            }
            (Outcome::Taken(_), Some(row), _) => vec![format!("dead-lettered: {} {}", row.reason, row.error)],
            (Outcome::DeadLetter { .. } | Outcome::Buried, Some(row), Some(letter)) => {
                [row_flaws(case, row), topic_flaws(case, row, letter)].concat()
            }
            // Too far ahead to wait for: buried at once, or held until its deadline.
            (Outcome::Buried, None, _) => Vec::new(),
            (_, row, letter) => vec![format!("row: {}, letter: {}", row.is_some(), letter.is_some())],
        };
        if !follower_taken(&database, case.topic, key, place).await {
            found.push(format!("the good record behind it, {place:?}, is not taken"));
        }
        flaws.extend(found.into_iter().map(|flaw| format!("{} at {bad:?}: {flaw}", case.name)));
    }
    assert!(flaws.is_empty(), "{} flaws in {} cases:\n{}", flaws.len(), produced.len(), flaws.join("\n"));
    worker.expect_running();
    worker.expect_no_panic();
    worker.stop(STEP).await;
    topics.delete(&brokers).await;
    database.drop().await;
}
