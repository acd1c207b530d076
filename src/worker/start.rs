//! Starts a worker, and ends it: what must hold before the first record is read, and who stops in which order.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use super::{
    chance::Chance,
    forget, relay,
    router::Router,
    settings::{self, Settings},
    writer::{Ending, Handle, Order, Shared, Writer},
};
use crate::{
    admin::Health,
    broker::{Broker, Stopped},
    config::Config,
    core::{catalog::Catalog, explore},
    failpoint::{self, Point},
    failure::{Unreachable, unreachable},
    kafka::Cluster,
    store::{Session, Standby, Store},
    telemetry::Metrics,
};

/// What a worker is given by its process.
#[derive(Clone)]
pub struct Environment {
    /// Where everything is kept.
    pub store: Arc<dyn Store>,
    /// Numbers for Prometheus.
    pub metrics: Metrics,
    /// What the probes ask.
    pub health: Arc<Health>,
    /// Names the process in the lanes' rows.
    pub owner: String,
    /// Tokens of claims, and pauses that spread.
    pub chance: Chance,
}

impl Environment {
    /// Numbers and probes of its own, for a process that shows neither.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            metrics: Metrics::new(),
            health: Arc::new(Health::new(Duration::from_secs(30))),
            owner: settings::owner(),
            chance: Chance::system(),
        }
    }
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment").finish_non_exhaustive()
    }
}

/// Runs a worker until `shutdown` ends; then it drains within the configured deadline.
///
/// # Errors
/// If it cannot start (a definition that `check` refuses, a missing topic, another partition count, a service
/// out of reach) or something happens that only a new process mends.
pub async fn run(
    config: &Config,
    catalog: Catalog,
    environment: Environment,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let problems: Vec<String> = catalog.definitions().flat_map(explore::check).collect();
    if !problems.is_empty() {
        bail!("saga definitions are broken:\n{}", problems.join("\n"));
    }
    let broker = Arc::new(Cluster::new(&settings::kafka_settings(config))?);
    run_on(broker, config, catalog, environment, shutdown).await
}

/// Like [`run`] with brokers of the caller's choice, and without exploring the saga definitions first.
///
/// # Errors
/// As [`run`].
pub async fn run_on(
    broker: Arc<dyn Broker>,
    config: &Config,
    catalog: Catalog,
    environment: Environment,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let settings = Arc::new(Settings::of(config, environment.owner));
    let mut session = environment.store.session().await.map_err(unreachable).context("opening the store")?;
    let identity = session.identity().await.map_err(unreachable)?;
    if let Some(standby) = &settings.gate {
        check_gate(&mut *session, standby).await?;
    }
    let catalog = count_partitions(catalog, &*broker, &mut *session, settings.metadata_timeout).await?;
    drop(session);
    compare_retention(&catalog, &*broker, config.dedupe.window, settings.metadata_timeout).await?;
    let shared = Shared {
        store: environment.store,
        broker,
        chance: environment.chance,
        catalog: Arc::new(catalog),
        limits: Arc::new(settings::limits(config)),
        settings,
        metrics: environment.metrics,
        health: environment.health,
    };
    tracing::info!(store = %identity, group = %config.kafka.group_id, "the worker starts");
    serve(shared, identity, shutdown).await
}

/// Says what the relay waits for before it sends.
async fn check_gate(session: &mut dyn Session, standby: &Standby) -> anyhow::Result<()> {
    let found = session.replicated(standby).await.context("asking how far the standby is")?;
    let connected = found.flushed.is_some();
    match standby {
        Standby::Synchronous if found.waits_for.is_empty() => bail!(
            "relay.gate is standby and names none, and the database waits for none: set its synchronous_standby_names, or \
             relay.gate_standby"
        ),
        Standby::Synchronous => {
            tracing::info!(standbys = %found.waits_for, connected, "messages wait until the synchronous standbys have flushed their commit");
        }
        Standby::Named(name) => {
            tracing::info!(standby = %name, connected, "messages wait until the standby has flushed their commit");
        }
    }
    Ok(())
}

async fn serve(shared: Shared, identity: String, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let (relay, relay_task) = relay::start(shared.clone()).await?;
    let (reporting, reports) = mpsc::unbounded_channel();
    let mut writers = Vec::new();
    let mut tasks = Vec::new();
    for _ in 0..shared.settings.writers {
        let (handle, task) = Writer::start(shared.clone(), relay.clone(), reporting.clone()).await?;
        writers.push(handle);
        tasks.push(task);
    }
    let (forgetting, end) = watch::channel(());
    tasks.push(tokio::spawn(forget::run(shared.clone(), end)));
    let topics: Vec<String> = shared.catalog.home_topics().map(str::to_owned).collect();
    let (event_sender, events) = mpsc::unbounded_channel();
    let consumer = shared.broker.join(&topics, event_sender)?;
    let deadline = shared.settings.shutdown_deadline;
    let health = Arc::clone(&shared.health);
    let mut router = Router::new(shared, consumer, identity, writers.clone(), events, reports);
    let mut relay_task = relay_task;
    let ended = tokio::select! {
        biased;
        ended = router.run(shutdown) => ended,
        relay = &mut relay_task => Err(relay.map_or_else(|error| error.to_string(), |ended| ended.err().unwrap_or_default())),
    };
    if let Err(error) = ended {
        health.fatal(&error);
        return Err(anyhow!(error));
    }
    health.drain();
    drop(forgetting);
    stop(router, writers, tasks, &relay, deadline).await;
    Ok(())
}

/// What is left of the deadline for ending the runtime and the clients' threads.
const ENDING: Duration = Duration::from_millis(1500);

/// Finishes what is under way, as far as the deadline allows: everything that is not finished is in the store.
async fn stop(
    router: Router,
    writers: Vec<Handle>,
    tasks: Vec<JoinHandle<()>>,
    relay: &relay::Handle,
    deadline: Duration,
) {
    failpoint::reach(Point::Stopping);
    tracing::info!("the worker drains");
    let (mut finished, mut waiting) = (Vec::new(), Vec::new());
    for writer in &writers {
        let (finishes, has_finished) = oneshot::channel();
        let (sends, sent) = oneshot::channel::<()>();
        // A writer that has ended needs no order.
        let _ended = writer.orders.send(Order::Stop(Ending { finished: finishes, sent }));
        finished.push(has_finished);
        waiting.push(sends);
    }
    let drained = async {
        for finished in finished {
            // A writer that has panicked has nothing to finish.
            let _panicked = finished.await;
        }
        failpoint::reach(Point::WritersEnded);
        relay.finish().await;
    };
    // Two thirds for our own work, a twelfth for the last marks, a quarter for leaving the group, and before all what
    // the process itself needs to end. The store's calls may be cut here: the process ends, and with it their
    // connections.
    let deadline = deadline.saturating_sub(ENDING.min(deadline / 4));
    if tokio::time::timeout(deadline * 2 / 3, drained).await.is_err() {
        tracing::warn!("not everything was sent before the deadline; it is in the outbox");
    }
    drop(waiting);
    let ended = async {
        for task in tasks {
            let _panicked = task.await;
        }
    };
    if tokio::time::timeout(deadline / 12, ended).await.is_err() {
        tracing::warn!("the last marks were not written before the deadline: some messages are sent once more");
    }
    failpoint::reach(Point::Drained);
    router.commit_offsets();
    match router.consumer.stop(deadline / 4).await {
        Stopped::Closed => tracing::info!("the worker has left the group"),
        Stopped::Abandoned => tracing::warn!("the brokers did not answer in time; leaving without a word"),
    }
}

/// The partition counts of all topics; those of home topics must be the ones in force.
async fn count_partitions(
    catalog: Catalog,
    broker: &dyn Broker,
    session: &mut dyn Session,
    timeout: Duration,
) -> anyhow::Result<Catalog> {
    let topics: Vec<String> = catalog.all_topics().collect();
    let found = broker
        .partitions(&topics, timeout)
        .await
        .map_err(|error| Unreachable { service: "Kafka".to_owned(), source: error.into() })?;
    let missing: Vec<&str> =
        found.iter().filter(|(_, count)| count.is_none()).map(|(topic, _)| topic.as_str()).collect();
    if !missing.is_empty() {
        bail!("topics are missing: {}; create them with `seriatim topics apply`", missing.join(", "));
    }
    let counts: BTreeMap<String, i32> = found.into_iter().filter_map(|(topic, count)| Some((topic, count?))).collect();
    let home: BTreeMap<String, i32> =
        catalog.home_topics().filter_map(|topic| Some((topic.to_owned(), *counts.get(topic)?))).collect();
    let in_force = session.partitions(&home).await?;
    let other: Vec<String> = home
        .iter()
        .filter_map(|(topic, count)| {
            let known = in_force.get(topic).copied().unwrap_or(*count);
            (known != *count).then(|| format!("{topic} has {count} partitions where {known} are in force"))
        })
        .collect();
    if !other.is_empty() {
        bail!(
            "partition counts have changed: {}; an entity's home would move: restore the count, or rehome the \
             topic into a new one",
            other.join(", ")
        );
    }
    Ok(catalog.with_partitions(counts))
}

/// A broker that says nothing about its configuration delays no start for longer.
const RETENTION_TIMEOUT_MAX: Duration = Duration::from_secs(3);

/// Ids of unsequenced events must be known for as long as a topic can bring them again.
async fn compare_retention(
    catalog: &Catalog,
    broker: &dyn Broker,
    window: Duration,
    timeout: Duration,
) -> anyhow::Result<()> {
    let topics: Vec<String> = catalog.home_topics().map(str::to_owned).collect();
    let retention = match broker.retention(&topics, timeout.min(RETENTION_TIMEOUT_MAX)).await {
        Ok(retention) => retention,
        Err(error) => {
            // A broker may hide its configuration from workers; what is seen later is a `too_old` letter.
            tracing::warn!(error = %error, "the topics' retention is not known and not compared with dedupe.window");
            return Ok(());
        }
    };
    let longer: Vec<String> = retention
        .iter()
        .filter(|(_, kept)| kept.is_none_or(|kept| kept > window))
        .map(|(topic, kept)| match kept {
            Some(kept) => format!("{topic} keeps {}", humantime::format_duration(*kept)),
            None => format!("{topic} keeps its records for ever"),
        })
        .collect();
    if !longer.is_empty() {
        bail!(
            "dedupe.window is {}, but {}: a record that comes again after the window would count as new; \
             raise the window or lower the topics' retention.ms",
            humantime::format_duration(window),
            longer.join(", ")
        );
    }
    Ok(())
}
