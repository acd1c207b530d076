//! One story: a worker runs, entities fall ill, records are dead-lettered, and commands set it right.
//!
//! On SQLite the command is a second process on the worker's file; on PostgreSQL a second client.

use std::{path::Path, time::Duration};

use rdkafka::{
    ClientConfig,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use serde_json::{Value as Json, json};
use seriatim::core::partition::partition_of;

use crate::{
    Folder, Said,
    services::{Database, PARTITIONS, Process, Topics, Worker, kafka, logs, wait_until},
};

/// Bound on each step, starting a worker and claiming its lanes included.
const STEP: Duration = Duration::from_secs(60);

struct World {
    producer: FutureProducer,
    topics: Topics,
    worker: Worker,
}

/// An event as its producer writes it; the source of all is one shop.
struct Event<'a> {
    topic: &'a str,
    key: &'a str,
    kind: &'a str,
    sequence: u32,
    data: Json,
}

impl World {
    fn say(&self, line: &str) -> Said {
        let words: Vec<&str> = line.split(' ').collect();
        Said::by(self.worker.command(&words))
    }

    /// Sends an event; says its partition and offset.
    async fn send(&self, event: Event<'_>) -> (i32, i64) {
        let topic = self.topics.name(event.topic);
        let sequence = event.sequence.to_string();
        let id = format!("{}-{}-{sequence}", event.key, event.kind);
        let headers = [
            ("content-type", "application/json"),
            ("ce_specversion", "1.0"),
            ("ce_id", &id),
            ("ce_source", "/shop"),
            ("ce_type", event.kind),
            ("ce_entityseq", &sequence),
        ];
        let headers = headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(*value) }));
        let value = event.data.to_string();
        let record = FutureRecord::to(&topic)
            .key(event.key)
            .payload(&value)
            .headers(headers)
            .partition(partition_of(event.key.as_bytes(), PARTITIONS));
        let delivery = self.producer.send(record, STEP).await.unwrap_or_else(|(error, _)| panic!("{topic}: {error}"));
        (delivery.partition, delivery.offset)
    }

    async fn capture(&self, purchase: &str, sequence: u32, amount: i64) -> (i32, i64) {
        let key = format!("pay-{purchase}");
        let data = json!({"payment_id": key, "amount_minor": amount, "currency": "EUR", "provider_ref": "r"});
        self.send(Event { topic: "payments", key: &key, kind: "payment.captured", sequence, data }).await
    }

    async fn receive(&self, sku: &str, sequence: u32, quantity: i64) -> (i32, i64) {
        let data = json!({"sku": sku, "quantity": quantity});
        self.send(Event { topic: "stock", key: sku, kind: "stock.received", sequence, data }).await
    }

    async fn place(&self, purchase: &str) {
        self.place_one_of("tea", purchase).await;
    }

    async fn place_one_of(&self, sku: &str, purchase: &str) {
        let data = json!({
            "purchase_id": purchase, "customer_id": "c", "currency": "EUR", "payment_method": "card",
            "lines": [{"sku": sku, "quantity": 1, "unit_price_minor": 500}],
        });
        let kind = "purchase.placed";
        self.send(Event { topic: "purchases", key: purchase, kind, sequence: 1, data }).await;
    }

    async fn cancel(&self, purchase: &str) {
        let data = json!({"purchase_id": purchase, "reason": "changed my mind"});
        let kind = "purchase.cancelled";
        self.send(Event { topic: "purchases", key: purchase, kind, sequence: 2, data }).await;
    }

    fn show(&self, entity: &str) -> Json {
        let said = self.say(&format!("entity show {entity} -o json"));
        match said.code {
            Some(0) => said.json(),
            _ => {
                said.ends(1).says("nothing is known");
                Json::Null
            }
        }
    }

    /// Waits until the entity is shown so.
    async fn shown(&self, entity: &str, what: &str, holds: impl Fn(&Json) -> bool) -> Json {
        wait_until(&format!("{entity}: {what}"), STEP, || async { holds(&self.show(entity)) }).await;
        self.show(entity)
    }

    /// Waits for the dead letter of a record.
    async fn letter(&self, topic: &str, (partition, offset): (i32, i64)) -> Json {
        let line = format!("dlq show {topic} {partition} {offset} -o json");
        wait_until(&line, STEP, || async { self.say(&line).code == Some(0) }).await;
        self.say(&line).json()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_set_right_by_commands_on_postgresql() {
    let database = Database::create("operator").await;
    story("operator", &database.url).await;
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_set_right_by_commands_beside_a_worker_on_one_sqlite_file() {
    let folder = Folder::new();
    story("operator-sqlite", &format!("sqlite:{}/worker.db", folder.path())).await;
}

async fn story(label: &str, url: &str) {
    let brokers = kafka();
    let topics = Topics::create(&brokers, label).await;
    let logs = logs(topics.prefix.trim_end_matches('.'));
    println!("logs in {}, database {url}", logs.display());
    let worker = Worker::at(&brokers, &topics, url).with("REORDER__WAITING_DEADLINE", "1s");
    worker.migrate();
    let producer = ClientConfig::new().set("bootstrap.servers", &brokers).set("linger.ms", "0").create().unwrap();
    let world = World { producer, topics: topics.clone(), worker };
    let mut process = world.worker.start("worker", &logs);

    a_purchase_is_shown_with_its_saga(&world).await;
    a_quarantine_is_shown_and_skipped(&world).await;
    what_fails_again_is_discarded(&world).await;
    a_conflict_is_listed_shown_and_closed(&world).await;
    an_expired_letter_is_replayed(&world).await;
    a_long_journal_shows_its_end_and_a_gap_what_it_holds(&world).await;
    a_saga_that_cannot_turn_back_shows_what_is_to_be_undone(&world).await;
    an_accepted_lane_counts_nothing_twice(&world).await;
    process.expect_running();
    an_order_without_a_worker_stays_until_one_comes(&world, process, &logs).await;
    topics.delete(&brokers).await;
}

async fn a_purchase_is_shown_with_its_saga(world: &World) {
    world.receive("tea", 1, 100).await;
    world.place("p-1").await;
    world.shown("payment pay-p-1", "asked for", |shown| shown["row"]["status"] == "requested").await;
    let asked = world.shown("purchase p-1", "charging", |shown| shown["saga"]["step"] == "charge").await;
    assert!(asked["saga"]["deadline"].is_string(), "{asked}");
    world.say("saga list --status running").ends(0).says("p-1");
    world.capture("p-1", 1, 500).await;
    let done = world.shown("purchase p-1", "completed", |shown| shown["saga"]["status"] == "completed").await;
    assert_eq!(done["row"]["status"], "completed", "{done}");
    assert_eq!(done["purchase_line"][0]["sku"], "tea", "{done}");
    assert_eq!(done["journal"][0]["event_type"], "purchase.placed", "{done}");
    assert_eq!((&done["status"], &done["quarantine"]), (&json!("active"), &Json::Null), "{done}");
    let saga = world.say("saga show p-1 -o json").ends(0).json();
    let steps: Vec<&str> = saga["steps"].as_array().unwrap().iter().filter_map(|step| step["step"].as_str()).collect();
    assert_eq!(steps, ["charge", "confirm", "reserve"], "{saga}");
    world.say("saga show p-1").ends(0).says("reserve");
    world.say("saga show nobody").ends(1).says("there is no saga");
    world.say("saga retry p-1 --dry-run").ends(0).says("would order saga.retry of purchase \"p-1\"");
    world.say("saga retry p-1 --reason late").ends(1).says("refused: it is completed");
    world.say("saga retry nobody").ends(1).says("there is no saga");
    let running = world.say("saga list --status running -o json").ends(0).json();
    assert_eq!(running, json!([]));
    let stock = world.shown("stock tea", "committed", |shown| shown["row"]["on_hand"] == 99).await;
    assert_eq!(stock["reservation"][0]["status"], "committed", "{stock}");
    world.say("entity show payment nobody").ends(1).says("nothing is known");
}

async fn a_quarantine_is_shown_and_skipped(world: &World) {
    let payment = "payment pay-p-1";
    world.say(&format!("entity skip {payment}")).ends(1).says("is not quarantined");
    let (partition, offset) = world.capture("p-1", 2, 500).await;
    let ill = world.shown(payment, "quarantined", |shown| shown["status"] == "quarantined").await;
    assert_eq!(ill["quarantine"]["cause"], "contradiction", "{ill}");
    assert_eq!((&ill["partition"], &ill["parked"][0]["record_offset"]), (&json!(partition), &json!(offset)), "{ill}");
    assert_eq!((&ill["parked"][0]["source"], &ill["parked"][0]["sequence"]), (&json!("/shop"), &json!(2)), "{ill}");
    world.say(&format!("entity show {payment}")).ends(0).says("contradiction");

    world.say(&format!("entity skip {payment} --dry-run")).ends(0).says("would order entity.skip");
    let still = world.show(payment);
    assert_eq!((&still["status"], &still["orders"]), (&json!("quarantined"), &json!([])), "{still}");
    world
        .say(&format!("entity skip {payment} --reason twice --actor me"))
        .ends(0)
        .says(&format!("done: offset {offset} is skipped"));
    let well = world.shown(payment, "active", |shown| shown["status"] == "active").await;
    let skipped = well["journal"].as_array().unwrap().iter().find(|row| row["outcome"] == "skipped").unwrap();
    assert_eq!((&skipped["note"], &skipped["record_offset"]), (&json!("twice"), &json!(offset)), "{well}");
    let order = &well["past_orders"][0];
    assert_eq!((&order["actor"], &order["action"], &order["done"]), (&json!("me"), &json!("entity.skip"), &json!(1)));
    assert_eq!(well["row"]["captured_minor"], 500, "{well}");
    world.say(&format!("entity retry {payment}")).ends(1).says("refused: it is captured: nothing is asked for");
    world.say("entity retry payment nobody").ends(1).says("there is no payment");
}

async fn what_fails_again_is_discarded(world: &World) {
    let payment = "payment pay-p-1";
    let place = world.capture("p-1", 3, 500).await;
    world.shown(payment, "quarantined again", |shown| shown["status"] == "quarantined").await;
    world.say(&format!("entity release {payment} --reason try")).ends(0).says("done: the entity drains");
    let failed_twice = |shown: &Json| shown["status"] == "quarantined" && shown["quarantine"]["attempts"] == 2;
    world.shown(payment, "failed again", failed_twice).await;
    world.say(&format!("entity discard {payment} --reason known")).ends(0).says("done: all records that were parked");
    world.shown(payment, "active", |shown| shown["status"] == "active").await;
    let letter = world.letter("payments", place).await;
    assert_eq!((&letter["reason"], &letter["entity_id"]), (&json!("operator"), &json!("pay-p-1")), "{letter}");
}

async fn a_conflict_is_listed_shown_and_closed(world: &World) {
    let (partition, offset) = world.receive("tea", 1, 77).await;
    let letter = world.letter("stock", (partition, offset)).await;
    assert_eq!((&letter["reason"], &letter["status"]), (&json!("conflict"), &json!("replayable")), "{letter}");
    assert_eq!(letter["value"], json!({"sku": "tea", "quantity": 77}).to_string());
    assert_eq!(letter["key"], "tea");
    let headers = letter["headers"].as_array().unwrap();
    assert!(headers.contains(&json!({"name": "ce_type", "value": "stock.received"})), "{letter}");
    let listed = |line: &str| world.say(line).ends(0).json().as_array().unwrap().len();
    assert_eq!(listed("dlq list --topic stock --status replayable -o json"), 1);
    assert_eq!(listed("dlq list --limit 1 -o json"), 1);
    world.say("dlq list").ends(0).says("conflict");

    let letter = format!("stock {partition} {offset}");
    world.say(&format!("dlq discard {letter} --dry-run")).ends(0).says("would order letter.discard");
    world.say(&format!("dlq discard {letter} --reason known")).ends(0).says("done: the letter is closed");
    world.say(&format!("dlq discard {letter}")).ends(1).says("is discarded already");
    world.say(&format!("dlq replay {letter}")).ends(1).says("is discarded already");
    assert_eq!(listed("dlq list --topic stock --status replayable -o json"), 0);
    assert_eq!(listed("dlq list --topic stock --status discarded -o json"), 1);
    world.say(&format!("dlq replay stock {partition} 999999")).ends(1).says("there is no dead letter");
}

async fn an_expired_letter_is_replayed(world: &World) {
    let place = world.capture("p-2", 1, 500).await;
    let letter = world.letter("payments", place).await;
    assert_eq!(letter["reason"], "expired", "{letter}");
    world.place("p-2").await;
    world.shown("payment pay-p-2", "asked for", |shown| shown["row"]["status"] == "requested").await;
    let (partition, offset) = place;
    world.say(&format!("dlq replay payments {partition} {offset} --reason late")).ends(0).says("done: it is taken up");
    world.shown("payment pay-p-2", "captured", |shown| shown["row"]["status"] == "captured").await;
    world.shown("purchase p-2", "completed", |shown| shown["row"]["status"] == "completed").await;
    assert_eq!(world.letter("payments", place).await["status"], "replayed");
}

async fn a_saga_that_cannot_turn_back_shows_what_is_to_be_undone(world: &World) {
    world.receive("milk", 1, 10).await;
    world.place_one_of("milk", "p-4").await;
    world.shown("payment pay-p-4", "asked for", |shown| shown["row"]["status"] == "requested").await;
    // More than can be counted: the stock is unwell, and what the saga asks of it is parked.
    world.receive("milk", 2, i64::MAX).await;
    world.shown("stock milk", "quarantined", |shown| shown["status"] == "quarantined").await;
    world.cancel("p-4").await;
    world.shown("stock milk", "asked to release", |shown| shown["parked"][1]["what"] == "record").await;
    let saga = world.say("saga show p-4 -o json").ends(0).json();
    assert_eq!(
        (&saga["status"], &saga["to_be_undone"][0]["branch"]),
        (&json!("compensating"), &json!("milk")),
        "{saga}"
    );
    world.say("saga list --status compensating").ends(0).says("p-4");
    world.say("saga retry p-4").ends(0).says("nothing is asked: early");
    world.say("entity skip stock milk --reason nonsense").ends(0).says("done");
    let undone = world.shown("purchase p-4", "undone", |shown| shown["saga"]["status"] == "compensated").await;
    assert_eq!(
        (&undone["row"]["status"], &undone["saga"]["to_be_undone"]),
        (&json!("rejected"), &json!([])),
        "{undone}"
    );
    // Money that comes after all is owed back.
    world.capture("p-4", 1, 500).await;
    let owing = world.shown("payment pay-p-4", "owing", |shown| shown["debts"][0]["amount_minor"] == 500).await;
    assert_eq!(
        (&owing["debts"][0]["status"], &owing["row"]["status"]),
        (&json!("owed"), &json!("refunding")),
        "{owing}"
    );
}

async fn an_accepted_lane_counts_nothing_twice(world: &World) {
    let data = json!({"counter": "visits", "delta": 5});
    let event = Event { topic: "activity", key: "visits", kind: "activity.counted", sequence: 1, data };
    let (partition, _) = world.send(event).await;
    world.shown("counter visits", "counted", |shown| shown["row"]["value"] == 5).await;
    let lane = || {
        let lanes = world.say("lane list --topic activity -o json").ends(0).json();
        let mut lanes = lanes.as_array().unwrap().iter();
        lanes.find(|lane| lane["partition"] == partition).unwrap().clone()
    };
    assert_eq!((&lane()["incarnation"], &lane()["next_offset"]), (&json!(1), &json!(1)));
    world.say(&format!("lane accept activity {partition}")).ends(2).says("give --yes");
    world.say(&format!("lane accept activity {partition} --dry-run")).ends(0).says("would order lane.accept");
    world.say(&format!("lane accept activity {partition} --yes")).ends(0).says("done: the topic is read from");
    let read_again = || async { lane()["incarnation"] == 2 && lane()["next_offset"] == 1 };
    wait_until("the lane has read its topic again", STEP, read_again).await;
    assert_eq!(world.show("counter visits")["row"]["value"], 5);
    world.say("lane list").ends(0).says("NEXT_OFFSET");
    world.say("lane accept activity 99 --yes").ends(1).says("no worker has ever held lane");
    let fork = format!("lane accept-fork activity {partition} --link purchases/0 --number 2");
    world.say(&fork).ends(2).says("give --yes");
    world.say(&format!("{fork} --dry-run")).ends(0).says("would order link.accept");
    world.say(&format!("{fork} --yes")).ends(1).says("refused: the lane does not stand before a fork at message 2");
}

async fn a_long_journal_shows_its_end_and_a_gap_what_it_holds(world: &World) {
    // More than are read in one window from the beginning.
    for sequence in 1..=1600 {
        world.receive("cup", sequence, 1).await;
    }
    let (_, offset) = world.receive("cup", 1610, 1).await;
    let shown = world.shown("stock cup", "holding", |shown| shown["held"][0]["sequence"] == 1610).await;
    assert_eq!((&shown["held"][0]["record_offset"], &shown["version"]), (&json!(offset), &json!(1600)), "{shown}");
    let journal = shown["journal"].as_array().unwrap();
    let sequences: Vec<i64> = journal.iter().filter_map(|row| row["sequence"].as_i64()).collect();
    assert_eq!(sequences, (1581..=1600).collect::<Vec<_>>());
}

async fn an_order_without_a_worker_stays_until_one_comes(world: &World, process: Process, logs: &Path) {
    let payment = "payment pay-p-1";
    world.capture("p-1", 4, 500).await;
    world.shown(payment, "quarantined", |shown| shown["status"] == "quarantined").await;
    process.stop(STEP).await;
    let said = world.say(&format!("entity skip {payment} --wait 1s --reason later")).ends(1);
    said.says("no worker has carried it out within 1s; the order stays");
    let shown = world.show(payment);
    assert_eq!((&shown["status"], &shown["orders"][0]["reason"]), (&json!("quarantined"), &json!("later")), "{shown}");

    let patient = world.worker.clone().with("REORDER__WAITING_DEADLINE", "1h");
    let process = patient.start("worker-again", logs);
    let shown = world.shown(payment, "active", |shown| shown["status"] == "active").await;
    assert_eq!((&shown["orders"], &shown["past_orders"][4]["reason"]), (&json!([]), &json!("later")), "{shown}");
    let (_, offset) = world.capture("p-3", 1, 500).await;
    let shown = world.shown("payment pay-p-3", "waiting", |shown| shown["waiting"][0].is_object()).await;
    assert_eq!((&shown["waiting"][0]["record_offset"], &shown["row"]), (&json!(offset), &Json::Null), "{shown}");
    world.say("entity show payment pay-p-3").ends(0).says("WAITING_SINCE");
    process.stop(STEP).await;
}
