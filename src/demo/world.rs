//! Everything that the worker lives in, inside this process: a broker, a database in a folder of its own, its
//! configuration with deadlines short enough to watch.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use seriatim::{
    admin::Health,
    broker::Broker as _,
    config::{Config, Need, Sources},
    core::record::LaneId,
    kafka::{self, Cluster, MockBroker},
    shop,
    store::{self, Store},
    telemetry::Metrics,
    worker::{self, Environment, settings::kafka_settings},
};
use tokio::{sync::oneshot, task::JoinHandle};

pub const REQUESTS: &str = shop::payment::REQUESTS;
pub const OUTCOMES: &str = shop::purchase::OUTCOMES;

/// Events for which one partition is enough, the worker's own messages and the broker's bound included.
const EVENTS_PER_PARTITION: usize = 2_500;
/// A poll thread that has not turned for so long is dead.
const TICK_DEADLINE: Duration = Duration::from_secs(30);
/// How long the broker in this process may take to answer a question.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// Deadlines short enough to watch them pass, and long enough for a slow machine to work in between.
const SETTINGS: &[&str] = &[
    "log.level=off",
    "http.listen=none",
    // SQLite lets one connection write: two writers would only wait for each other, and cut batches in two.
    "writers.count=1",
    "batch.wait=20ms",
    "reorder.gap_deadline=6s",
    "reorder.waiting_deadline=6s",
    "saga.reserve_deadline=40s",
    "saga.charge_deadline=8s",
    "saga.confirm_deadline=40s",
    "saga.undo_deadline=40s",
    "saga.capture_retry=1s",
    "saga.refund_retry=1s",
    "saga.refund_attempts=10",
    "lanes.command_poll=200ms",
    // The in-process broker answers at once or, asked for a topic's configuration, never.
    "kafka.metadata_timeout=3s",
    "database.lock_timeout=2s",
    "shutdown.deadline=5s",
    // Whoever looks into the file afterwards finds all of it.
    "retention.interval=1d",
];

/// A world, and what is known of it.
pub struct World {
    pub config: Config,
    pub kafka: kafka::Settings,
    pub cluster: Cluster,
    pub partitions: i32,
    pub homes: Vec<String>,
    pub folder: PathBuf,
    pub metrics: Metrics,
    schema: store::schema::Schema,
    catalog: seriatim::core::catalog::Catalog,
    /// Last, so that it outlives its clients.
    _broker: MockBroker,
}

/// A worker that runs.
pub struct Running {
    pub task: JoinHandle<anyhow::Result<()>>,
    stop: oneshot::Sender<()>,
}

impl World {
    /// Makes a world in an empty folder. `given`: settings of the command line.
    pub async fn new(folder: PathBuf, events: usize, given: &Sources) -> anyhow::Result<Self> {
        let partitions = i32::try_from((events / EVENTS_PER_PARTITION).clamp(2, 16))?;
        // Which topics there are does not hang on any setting of the demo.
        let catalog = shop::catalog(&shop::Settings::default(), "");
        let homes: Vec<String> = catalog.home_topics().map(str::to_owned).collect();
        let counts: BTreeMap<String, i32> = catalog.all_topics().map(|topic| (topic, partitions)).collect();
        let broker = MockBroker::start(&counts)?;
        let config = configuration(&folder, &broker.brokers(), given)?;
        let kafka = kafka_settings(&config);
        let cluster = Cluster::new(&kafka)?;
        let schema = shop::schema::schema(config.database.backend);
        store::open::migrate(&config.database, &schema).await?;
        let catalog = shop::catalog(&shop::Settings::from(&config.saga), &config.topics.prefix);
        let metrics = Metrics::new();
        Ok(Self { config, kafka, cluster, partitions, homes, folder, metrics, schema, catalog, _broker: broker })
    }

    /// Opens the database, on a connection that the worker does not share.
    pub async fn open(&self) -> anyhow::Result<Arc<dyn Store>> {
        Ok(store::open::open(&self.config.database, &self.schema).await?)
    }

    /// Starts the worker, as `seriatim run` does.
    pub async fn start(&self) -> anyhow::Result<Running> {
        let store = self.open().await?;
        let environment = Environment {
            metrics: self.metrics.clone(),
            health: Arc::new(Health::new(TICK_DEADLINE)),
            ..Environment::new(store)
        };
        let (config, catalog) = (self.config.clone(), self.catalog.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move {
            // The sender is only dropped when the demo ends.
            let _ended = stopped.await;
        };
        let task = tokio::spawn(async move { worker::run(&config, catalog, environment, shutdown).await });
        Ok(Running { task, stop })
    }

    /// How many records a topic has. An error: its oldest are gone.
    pub async fn records(&self, topic: &str) -> anyhow::Result<i64> {
        let mut records = 0;
        for partition in 0..self.partitions {
            let lane = LaneId { topic: topic.to_owned(), partition };
            let (oldest, end) = self.cluster.watermarks(&lane, ANSWER_DEADLINE).await?;
            anyhow::ensure!(oldest == 0, "the in-process broker has dropped records of {lane}: ask for fewer events");
            records += end;
        }
        Ok(records)
    }
}

impl Running {
    pub async fn stop(self) -> anyhow::Result<()> {
        // A worker that has ended says why by its task.
        let _ended = self.stop.send(());
        self.task.await.map_err(|panic| anyhow!("the worker: {panic}"))?
    }
}

/// The demo's settings, over them those of the command line, over them where everything is: neither file nor
/// environment may lead it to a real broker or database.
fn configuration(folder: &Path, brokers: &str, given: &Sources) -> anyhow::Result<Config> {
    let database = database_url(folder);
    let fixed = [format!("kafka.brokers={brokers}"), format!("database.url={database}"), "topics.prefix=".to_owned()];
    let set = SETTINGS.iter().map(|setting| (*setting).to_owned()).chain(given.set.iter().cloned()).chain(fixed);
    let sources = Sources { file: None, set: set.collect(), insecure_dev: false };
    Ok(Config::read(&sources, std::iter::empty::<(OsString, OsString)>(), Need::Kafka)?)
}

/// Where the database of a folder is.
pub fn database_url(folder: &Path) -> String {
    format!("sqlite:{}", folder.join("seriatim.db").display())
}

/// Makes a folder that nobody else has.
pub fn make_folder() -> anyhow::Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("seriatim-demo-{}", uuid::Uuid::new_v4().simple()));
    std::fs::create_dir(&folder).with_context(|| format!("making the folder {}", folder.display()))?;
    Ok(folder)
}
