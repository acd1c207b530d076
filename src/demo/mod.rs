//! `demo`: the shop's worker on a broker inside this process and a SQLite file, with all that can go wrong.
//!
//! The worker is the real one, run as `seriatim run` does; what is played is the world around it: producers, a payment
//! gateway, an operator. At the end its tables are judged, and the same races are run by a textbook consumer.

mod bad;
mod check;
mod feed;
mod gateway;
mod operator;
mod races;
mod reader;
mod report;
mod screen;
mod stream;
mod tables;
mod textbook;
mod watch;
pub mod wire;
mod witness;
mod world;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail};
use seriatim::{config::Sources, failure::Exit, telemetry};
use tokio::sync::oneshot;

use self::{
    feed::Feed, gateway::Gateway, reader::Reader, report::Report, screen::Screen, stream::Stream, tables::Tables,
    watch::Watch, world::World,
};

/// How long reading what is there already may take.
const WITNESS_DEADLINE: Duration = Duration::from_secs(30);

/// Plays the demo. `given`: what the command line says about the configuration.
pub fn run(seed: u64, events: u32, given: &Sources) -> anyhow::Result<Exit> {
    if given.file.is_some() {
        bail!("the demo brings its own configuration and reads no file; single values can be given with --set");
    }
    let events = usize::try_from(events)?;
    let folder = world::make_folder()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let played = runtime.block_on(play(seed, events, folder, given));
    // Clients that still close must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    played
}

async fn play(seed: u64, events: usize, folder: PathBuf, given: &Sources) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let mut screen = Screen::new();
    screen.say(&format!("seriatim demo: seed {seed}, {events} events, an in-process broker, and SQLite in"));
    screen.say(&format!("  {}", folder.display()));
    let world = World::new(folder, events, given).await?;
    let _flush = telemetry::start(&world.config.log, &world.metrics)?;
    let stream = Stream::new(seed, events, world.partitions);
    report::stream(&mut screen, &stream);
    let (tables, topics) = work(&world, seed, &stream, &mut screen, started).await?;
    let raced = witness::races(&topics);
    let textbook = textbook::run(&world.folder.join("textbook.db"), &raced).await?;
    let report = Report { world: &world, tables: &tables, topics: &topics, textbook };
    let exit = report.show(&mut screen);
    screen.say(&format!("\nTook {:.0} s.", started.elapsed().as_secs_f64()));
    Ok(exit)
}

/// Lets the worker work through the stream, and says what its tables and topics hold in the end.
async fn work(
    world: &World,
    seed: u64,
    stream: &Stream,
    screen: &mut Screen,
    started: Instant,
) -> anyhow::Result<(Tables, check::Topics)> {
    let running = world.start().await?;
    let mut producers = Feed::start(&world.kafka, "demo-producers")?;
    let gateway = Gateway::new(
        seed,
        Reader::start(&world.kafka, "demo-gateway", &[world::REQUESTS])?,
        Feed::start(&world.kafka, "demo-gateway")?,
        world.partitions,
        world.config.saga.charge_deadline,
    );
    let mut watch = Watch { world, session: world.open().await?.session().await?, gateway: gateway.seen(), started };
    let watched: Vec<&str> = world.homes.iter().map(String::as_str).chain([world::OUTCOMES]).collect();
    let reader = Reader::start(&world.kafka, "demo-witness", &watched)?;
    let (tell, told) = oneshot::channel();
    let witness = tokio::spawn(witness::run(reader, told));
    let gateway = tokio::spawn(gateway.run());

    producers.send_all(&stream.opening).await?;
    producers.send_all(&stream.flood).await?;
    // The late ones come when their successors wait for them.
    let held = stream.late.len();
    watch.until(screen, &running, "records to be held", |under_way| under_way.held.len() >= held).await?;
    producers.send_all(&stream.late).await?;
    let drained = watch.drained(screen, &running, 0).await;
    still_there(gateway.is_finished() || witness.is_finished(), drained)?;
    let orders = operator::order(world, &mut *watch.session, screen).await?;
    let drained = watch.drained(screen, &running, orders).await;
    still_there(gateway.is_finished() || witness.is_finished(), drained)?;
    gateway.abort();
    running.stop().await?;
    // A witness that has ended says why by its task.
    let _ended = tell.send(expected(world, &watched).await?);
    let topics = tokio::time::timeout(WITNESS_DEADLINE, witness).await.context("the witness reads no further")?;
    let topics = topics.map_err(|panic| anyhow!("the witness: {panic}"))??;
    Ok((Tables::load(&mut *watch.session).await?, topics))
}

async fn expected(world: &World, topics: &[&str]) -> anyhow::Result<i64> {
    let mut expected = 0;
    for topic in topics {
        expected += world.records(topic).await?;
    }
    Ok(expected)
}

/// A gateway or a witness that has failed is why the rest does not go on.
fn still_there(gone: bool, drained: anyhow::Result<()>) -> anyhow::Result<()> {
    if gone { Err(anyhow!("the world around the worker has ended")) } else { drained }
}
