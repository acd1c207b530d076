//! A test's own database and topics, with workers inside this process whose store and numbers can be watched.
//!
//! Workers that must be killed or frozen are processes instead; see `services`.

#![allow(dead_code, reason = "each test takes what it needs of this file")]

use std::{
    collections::BTreeMap,
    ffi::OsString,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use serde_json::{Value as Json, json};
use seriatim::{
    admin::Health,
    config::{Config, Need, Sources},
    core::partition::partition_of,
    shop,
    store::{self, Store},
    telemetry::Metrics,
    worker::{self, Environment},
};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::{sync::oneshot, task::JoinHandle};

use super::services::{Database, PARTITIONS, Topics, Worker, kafka, postgres, wait_until};

/// Bound on any one thing that is waited for.
pub const STEP: Duration = Duration::from_secs(90);

/// Where a test plays.
pub struct Stage {
    pub brokers: String,
    pub database: Database,
    pub topics: Topics,
    pub producer: FutureProducer,
}

/// How a store is looked at, or disturbed, on its way to the worker.
pub type Wrap = fn(Arc<dyn Store>) -> Arc<dyn Store>;

impl Stage {
    /// A fresh one, migrated.
    pub async fn new(label: &str) -> Self {
        Self::on(postgres(), label).await
    }

    /// A fresh one on a database server of the test's own, migrated.
    pub async fn on(server: String, label: &str) -> Self {
        // What workers in this process say; RUST_LOG chooses. The first stage of a test program sets it for all.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _set_before = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let brokers = kafka();
        let database = Database::create_on(server, label).await;
        let topics = Topics::create(&brokers, label).await;
        Worker::new(&brokers, &topics, &database).migrate();
        let producer = producer(&brokers);
        Self { brokers, database, topics, producer }
    }

    /// Settings of a worker by the ends of their environment names.
    pub fn settings(&self, group: &str) -> BTreeMap<String, String> {
        let settings = [
            ("KAFKA__BROKERS", self.brokers.as_str()),
            ("KAFKA__GROUP_ID", &format!("{}{group}", self.topics.prefix)),
            ("KAFKA__SESSION_TIMEOUT", "6s"),
            ("DATABASE__IDLE_IN_TRANSACTION_TIMEOUT", "2s"),
            ("TOPICS__PREFIX", &self.topics.prefix),
            ("DATABASE__URL", &self.database.url),
            ("HTTP__LISTEN", "none"),
            ("LANES__IDLE_LOOK", "200ms"),
            ("LANES__COMMAND_POLL", "100ms"),
            ("WRITERS__COUNT", "2"),
        ];
        settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    /// Starts a worker in this process.
    pub async fn start(&self, settings: &BTreeMap<String, String>) -> Running {
        let config = config(settings);
        let schema = shop::schema::schema(config.database.backend);
        let store = store::open::open(&config.database, &schema).await.expect("open the store");
        start(config, store)
    }

    /// Partition of a key.
    pub fn partition(key: &str) -> i32 {
        partition_of(key.as_bytes(), PARTITIONS)
    }

    /// Sends events to a home topic and returns when all are acknowledged.
    pub async fn send(&self, topic: &str, events: Vec<Event>) {
        let topic = self.topics.name(topic);
        let mut sent = Vec::new();
        for event in events {
            let headers = event.headers();
            let partition = partition_of(event.key.as_bytes(), PARTITIONS);
            let value = event.data.to_string();
            let record = FutureRecord::to(&topic).partition(partition).key(&event.key).payload(&value).headers(headers);
            sent.push(self.producer.send_result(record).map_err(|(error, _)| error).expect("queue a record"));
        }
        for delivery in sent {
            delivery.await.expect("the producer lives").map_err(|(error, _)| error).expect("deliver a record");
        }
    }

    /// Waits until the sum of all counters' versions, which count applied events, is `count`.
    pub async fn wait_for_counted(&self, count: i64) {
        wait_until(&format!("{count} counted events are applied"), STEP, || async {
            let seen = self.counted().await;
            assert!(seen <= count, "{seen} events were applied where {count} were sent: some twice");
            seen == count
        })
        .await;
    }

    /// How many counted events were applied.
    pub async fn counted(&self) -> i64 {
        self.database.number("select sum(version)::bigint from shop.counter").await.unwrap_or(0)
    }

    /// The sum of all counters.
    pub async fn sum(&self) -> i64 {
        self.database.number("select sum(value)::bigint from shop.counter").await.unwrap_or(0)
    }

    /// Runs a statement by hand.
    pub async fn sql(&self, sql: &str) {
        let mut connection = self.database.pool.acquire().await.expect("connect to the test's database");
        let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut *connection).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// Gives a lane an operator's order, as the command line does: a row of `command`.
    pub async fn order(&self, topic: &str, partition: i32, action: &str, entity: Option<&str>) -> String {
        let id = uuid::Uuid::new_v4().to_string();
        let sql = "insert into seriatim.command (topic, partition, id, action, kind, entity_id, argument, actor, \
             reason, ordered_at) values ($1, $2, $3, $4, 'counter', $5, '{}', 'test', 'test', now())";
        let row = sqlx::query(sql).bind(self.topics.name(topic)).bind(i64::from(partition)).bind(&id).bind(action);
        row.bind(entity).execute(&self.database.pool).await.expect("order a command");
        id
    }

    /// Waits until an order was taken, and says what came of it.
    pub async fn obeyed(&self, id: &str) -> String {
        let sql = format!("select done || ': ' || result from seriatim.command_log where id = '{id}'");
        wait_until("an order is taken", STEP, || async { !self.database.texts(&sql).await.is_empty() }).await;
        self.database.texts(&sql).await.remove(0)
    }

    /// How many records a topic holds, if none was ever deleted or aborted.
    pub fn count_records(&self, topic: &str) -> i64 {
        let client: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", &self.brokers).create().expect("make a client");
        let topic = self.topics.name(topic);
        let end = |partition| client.fetch_watermarks(&topic, partition, STEP).expect("ask for an end").1;
        (0..PARTITIONS).map(end).sum()
    }

    /// Lets new connections to the database come, or not; those that are open stay.
    pub async fn allow_connections(&self, allow: bool) {
        let name = self.database.url.rsplit('/').next().expect("the URL names a database");
        let mut connection = PgConnection::connect(&postgres()).await.expect("connect to PostgreSQL");
        let sql = format!("alter database {name} allow_connections {allow}");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.expect("alter the database");
    }

    /// Takes it down. A failed test leaves it to be looked at.
    pub async fn end(self) {
        self.topics.delete(&self.brokers).await;
        self.database.drop().await;
    }
}

/// A checked configuration out of settings.
pub fn config(settings: &BTreeMap<String, String>) -> Config {
    let pairs = settings.iter().map(|(name, value)| (format!("SERIATIM_{name}").into(), OsString::from(value)));
    Config::read(&Sources::default(), pairs, Need::Kafka).unwrap_or_else(|problems| panic!("{problems}"))
}

/// Starts a worker on a store.
pub fn start(config: Config, store: Arc<dyn Store>) -> Running {
    let metrics = Metrics::new();
    let health = Arc::new(Health::new(Duration::from_secs(30)));
    let environment = Environment { metrics: metrics.clone(), health: Arc::clone(&health), ..Environment::new(store) };
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        let catalog = shop::catalog(&shop::Settings::from(&config.saga), &config.topics.prefix);
        let shutdown = async {
            // The test has gone: the same as being told.
            let _gone = stopped.await;
        };
        worker::run(&config, catalog, environment, shutdown).await
    });
    Running { metrics, health, stop, task }
}

/// A worker inside this process.
pub struct Running {
    pub metrics: Metrics,
    pub health: Arc<Health>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    /// The sum of a metric over all labels that contain `label`.
    pub fn metric(&self, name: &str, label: &str) -> f64 {
        let text = self.metrics.render().expect("render the metrics");
        let of = |line: &&str| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(label)
        };
        text.lines().filter(of).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Fails the test if the worker has ended by itself.
    pub fn expect_running(&self) {
        assert!(!self.task.is_finished(), "a worker has ended by itself");
    }

    /// Waits until every lane that the group gives is claimed or halted.
    pub async fn ready(&self) {
        wait_until("the worker is ready", STEP, || async {
            self.expect_running();
            let readiness = self.health.readiness();
            readiness.ready && readiness.lanes.assigned > 0
        })
        .await;
    }

    /// Lets it drain and demands that it ends well.
    pub async fn stop(self) {
        self.expect_running();
        let _told = self.stop.send(());
        let ended = tokio::time::timeout(STEP, self.task).await.expect("the worker ends in time");
        ended.expect("the worker does not panic").expect("the worker ends without an error");
    }

    /// Waits until it ends by itself; the error that it ends with.
    pub async fn ended(self) -> String {
        let ended = tokio::time::timeout(STEP, self.task).await.expect("the worker ends in time");
        let error = ended.expect("the worker does not panic").expect_err("the worker ends with an error");
        format!("{error:#}")
    }
}

/// An event of an outside producer.
#[derive(Clone, Debug)]
pub struct Event {
    pub id: String,
    pub key: String,
    pub event_type: &'static str,
    pub sequence: Option<i64>,
    pub data: Json,
}

impl Event {
    /// A count, known by its id.
    pub fn counted(counter: &str, id: impl Into<String>, delta: i64) -> Self {
        let data = json!({ "counter": counter, "delta": delta });
        Self { id: id.into(), key: counter.to_owned(), event_type: "activity.counted", sequence: None, data }
    }

    /// Stock that has come in.
    pub fn received(sku: &str, id: impl Into<String>, quantity: i64) -> Self {
        let data = json!({ "sku": sku, "quantity": quantity });
        Self { id: id.into(), key: sku.to_owned(), event_type: "stock.received", sequence: None, data }
    }

    /// A purchase of one piece of one item.
    pub fn placed(purchase: &str, sku: &str) -> Self {
        let lines = json!([{ "sku": sku, "quantity": 1, "unit_price_minor": 100 }]);
        let data = json!({
            "purchase_id": purchase, "customer_id": "c", "currency": "EUR", "lines": lines, "payment_method": "card",
        });
        Self { id: purchase.to_owned(), key: purchase.to_owned(), event_type: "purchase.placed", sequence: None, data }
    }

    /// The same, known by a number of its entity.
    #[must_use]
    pub fn at(self, sequence: i64) -> Self {
        Self { sequence: Some(sequence), ..self }
    }

    fn headers(&self) -> OwnedHeaders {
        // A source sends a kind's events all with or all without a number.
        let source = if self.sequence.is_some() { "/outside/numbered" } else { "/outside/plain" };
        let sequence = self.sequence.map(|number| number.to_string());
        let fixed = [
            ("content-type", "application/json"),
            ("ce_specversion", "1.0"),
            ("ce_id", &self.id),
            ("ce_source", source),
            ("ce_type", self.event_type),
        ];
        let all = fixed.into_iter().chain(sequence.as_deref().map(|number| ("ce_entityseq", number)));
        all.fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }))
    }
}

/// A producer of the outside world.
pub fn producer(brokers: &str) -> FutureProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("linger.ms", "2").set("queue.buffering.max.messages", "0");
    config.create().expect("make a producer")
}

/// The first of `label-0`, `label-1`, … that lies on a partition.
pub fn key_on(label: &str, partition: i32) -> String {
    let mut keys = (0..).map(|number| format!("{label}-{number}"));
    keys.find(|key| Stage::partition(key) == partition).expect("one key in a few lies on any partition")
}

/// Seconds since the epoch, for names that sort.
pub fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
