//! `run`: the shipped worker, until it is asked to end.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use seriatim::{
    admin::{self, Health},
    config::{Config, Need},
    failure::{Exit, unreachable},
    shop, store, telemetry,
    worker::{self, Environment},
};
use tokio::{net::TcpListener, signal::unix::SignalKind, sync::watch};

use super::arguments::Settings;

/// A poll thread that has not turned for so long is dead.
const TICK_DEADLINE: Duration = Duration::from_secs(30);

/// Runs the worker; SIGTERM and SIGINT let it drain.
pub fn run(settings: &Settings) -> anyhow::Result<Exit> {
    let config = Config::load(&settings.sources(), Need::Kafka)?;
    #[cfg(feature = "faults")]
    if let Some((point, hit)) = seriatim::config::failpoint().map_err(anyhow::Error::msg)? {
        seriatim::failpoint::arm(point, hit);
    }
    let metrics = telemetry::Metrics::new();
    let flush = telemetry::start(&config.log, &metrics)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let ended = runtime.block_on(serve(&config, metrics));
    // What still hangs in a client or a socket must not keep the process: everything is in the store.
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop(flush);
    ended
}

async fn serve(config: &Config, metrics: telemetry::Metrics) -> anyhow::Result<Exit> {
    let store = open(config).await?;
    let health = Arc::new(Health::new(TICK_DEADLINE));
    let (stop, stopped) = watch::channel(false);
    if let Some(listen) = config.http.listen {
        let listener = TcpListener::bind(listen).await.with_context(|| format!("listening on {listen}"))?;
        tokio::spawn(admin::serve(listener, Arc::clone(&health), metrics.clone(), asked(stopped.clone())));
    }
    let catalog = shop::catalog(&shop::Settings::from(&config.saga), &config.topics.prefix);
    let mut terminate = tokio::signal::unix::signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            // Without a terminal there is no Ctrl-C to wait for.
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    let ended =
        worker::run(config, catalog, Environment { metrics, health, ..Environment::new(store) }, shutdown).await;
    // Nobody listens if there is no HTTP face.
    let _nobody = stop.send(true);
    ended.map(|()| Exit::Done)
}

async fn asked(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, which ends the process as well.
    let _gone = stopped.wait_for(|stopped| *stopped).await;
}

/// Opens the configured store for the shop.
pub async fn open(config: &Config) -> anyhow::Result<Arc<dyn store::Store>> {
    let schema = shop::schema::schema(config.database.backend);
    store::open::open(&config.database, &schema).await.map_err(unreachable)
}
