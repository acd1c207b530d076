//! Connections that end at the worst moment, rows that the database refuses, and the number of statements.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use seriatim::{
    core::{
        fence::{LaneCommit, LaneRow},
        record::LaneId,
        table::{Row, Table, Want},
    },
    shop,
    store::{self, Committed, Error, Forgotten, Kept, Replicated, Session, Standby, Store},
};

use super::{
    proxy::{Cut, Proxy},
    services::wait_until,
    stage::{Event, STEP, Stage, config, key_on, start},
};

fn counts(label: &str, count: usize) -> Vec<Event> {
    (0..count).map(|at| Event::counted(&format!("counter-{}", at % 40), format!("{label}-{at}"), 5)).collect()
}

/// The database's address behind a proxy.
fn through(url: &str, proxy: &Proxy) -> String {
    let (front, rest) = url.split_once('@').expect("the URL names a user");
    let (_, name) = rest.split_once('/').expect("the URL names a database");
    format!("{front}@{}/{name}?sslmode=disable", proxy.address())
}

fn server(url: &str) -> String {
    let (_, rest) = url.split_once('@').expect("the URL names a user");
    rest.split('/').next().expect("the URL names a server").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_applied_once_though_connections_are_killed_at_random_moments() {
    let stage = Stage::new("killed").await;
    let mut settings = stage.settings("workers");
    settings.insert("BATCH__RECORDS_MAX".to_owned(), "200".to_owned());
    let worker = stage.start(&settings).await;
    worker.ready().await;
    let (mut sent, mut kills) = (0, 0);
    while kills < 40 {
        stage.send("activity", counts(&format!("killed-{sent}"), 1_000)).await;
        sent += 1_000;
        let before = stage.counted().await;
        wait_until("more is counted", STEP, || async { before == sent || stage.counted().await > before }).await;
        let killed = stage
            .database
            .number(
                "select count(pg_terminate_backend(pid)) from pg_stat_activity \
                 where datname = current_database() and application_name = 'seriatim'",
            )
            .await;
        kills += killed.unwrap_or(0);
        worker.expect_running();
    }
    stage.wait_for_counted(sent).await;
    assert_eq!(stage.sum().await, 5 * sent);
    worker.stop().await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_applied_once_though_commits_are_lost_or_their_answers_are() {
    let stage = Stage::new("cut").await;
    let proxy = Proxy::postgres(&server(&stage.database.url)).await;
    let mut settings = stage.settings("workers");
    settings.insert("DATABASE__URL".to_owned(), through(&stage.database.url, &proxy));
    settings.insert("BATCH__RECORDS_MAX".to_owned(), "200".to_owned());
    let worker = stage.start(&settings).await;
    worker.ready().await;
    for (round, cut) in [Cut::Before, Cut::After, Cut::Before, Cut::After].into_iter().enumerate() {
        let unknown = worker.metric("seriatim_commits_unknown_total", "");
        let made = proxy.cuts_made();
        proxy.plan([cut, cut, Cut::Not, cut, Cut::Not, Cut::Not, cut]);
        let round = i64::try_from(round).expect("few rounds");
        stage.send("activity", counts(&format!("round-{round}"), 5_000)).await;
        stage.wait_for_counted(5_000 * (round + 1)).await;
        assert_eq!(proxy.cuts_made(), made + 4, "connections were cut");
        // A COMMIT without an answer is unknown to the worker whether it was executed or not.
        assert_eq!(worker.metric("seriatim_commits_unknown_total", ""), unknown + 4.0);
        worker.expect_running();
    }
    assert_eq!(stage.sum().await, 100_000);
    worker.stop().await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_entities_whose_rows_the_database_refuses_are_quarantined() {
    let stage = Stage::new("refused").await;
    stage.sql("alter table shop.counter add constraint unlucky check (value <> 13)").await;
    let mut settings = stage.settings("workers");
    // All lanes in one transaction, and everything that is sent in one batch.
    settings.insert("WRITERS__COUNT".to_owned(), "1".to_owned());
    settings.insert("BATCH__WAIT".to_owned(), "500ms".to_owned());
    let worker = stage.start(&settings).await;
    worker.ready().await;
    let (mut events, mut guilty) = (Vec::new(), Vec::new());
    for at in 0..64_i32 {
        let partition = at % 2;
        let bad = [0, 1, 2, 14, 33, 62].contains(&at);
        let key = key_on(&format!("{}-{at}", if bad { "bad" } else { "good" }), partition);
        events.push(Event::counted(&key, format!("first-{at}"), if bad { 13 } else { 2 }));
        if bad {
            guilty.push(key);
        }
    }
    let good = 64 - i64::try_from(guilty.len()).expect("few");
    guilty.sort();
    stage.send("activity", events).await;
    stage.wait_for_counted(good).await;
    wait_until("the guilty are quarantined", STEP, || async {
        worker.expect_running();
        stage.database.texts("select entity_id from seriatim.quarantine order by 1").await == guilty
    })
    .await;
    assert_eq!(stage.sum().await, 2 * good);

    // What comes later for them waits behind; the others go on.
    let later = guilty.iter().map(|key| Event::counted(key, format!("later-{key}"), 1));
    stage.send("activity", later.chain(counts("others", 100)).collect()).await;
    stage.wait_for_counted(good + 100).await;
    wait_until("the later ones are parked", STEP, || async {
        stage.database.number("select count(*) from seriatim.parked").await == Some(12)
    })
    .await;
    worker.stop().await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entity_whose_drain_the_database_refuses_goes_back_into_quarantine_alone() {
    let stage = Stage::new("refused-drain").await;
    stage.sql("alter table shop.counter add constraint unlucky check (value <> 13)").await;
    let mut settings = stage.settings("workers");
    settings.insert("QUARANTINE__DRAIN_MAX".to_owned(), "1".to_owned());
    let worker = stage.start(&settings).await;
    worker.ready().await;
    let (bad, good) = (key_on("bad", 0), key_on("good", 0));
    let count = |key: &str, id: &str, delta| Event::counted(key, format!("{key}-{id}"), delta);
    let parked = async |count: i64| {
        let seen = || async { stage.database.number("select count(*) from seriatim.parked").await == Some(count) };
        wait_until("they are parked", STEP, seen).await;
    };
    stage.send("activity", vec![count(&bad, "1", 13), count(&good, "1", 1)]).await;
    parked(1).await;
    stage.send("activity", vec![count(&bad, "2", 1), count(&bad, "3", 1)]).await;
    parked(3).await;
    // The first of the parked passes now, the second, which is drained without any input, does not.
    stage.sql("alter table shop.counter drop constraint unlucky, add constraint unlucky check (value <> 14)").await;
    stage.order("activity", 0, "entity.release", Some(&bad)).await;
    wait_until("it failed again", STEP, || async {
        worker.expect_running();
        stage.database.number("select attempts from seriatim.quarantine where status = 'quarantined'").await == Some(2)
    })
    .await;
    assert_eq!(stage.sum().await, 14);
    stage.send("activity", vec![count(&good, "2", 1)]).await;
    stage.wait_for_counted(3).await;
    assert_eq!(worker.health.readiness().lanes.halted, 0, "a lane has halted for one entity");
    stage.sql("alter table shop.counter drop constraint unlucky").await;
    stage.order("activity", 0, "entity.release", Some(&bad)).await;
    stage.wait_for_counted(5).await;
    worker.stop().await;
    stage.end().await;
}

/// One commit as a session saw it: records of the batch, and statements since the commit before.
type Seen = Arc<Mutex<Vec<(i64, u64)>>>;

/// A store whose sessions tell what each commit took.
struct Counting(Arc<dyn Store>, Seen);

struct CountingSession {
    inner: Box<dyn Session>,
    seen: Seen,
    before: u64,
}

#[async_trait]
impl Store for Counting {
    async fn session(&self) -> Result<Box<dyn Session>, Error> {
        let inner = self.0.session().await?;
        let before = inner.statements();
        Ok(Box::new(CountingSession { inner, seen: Arc::clone(&self.1), before }))
    }
}

#[async_trait]
impl Session for CountingSession {
    async fn identity(&mut self) -> Result<String, Error> {
        self.inner.identity().await
    }
    async fn partitions(&mut self, counts: &BTreeMap<String, i32>) -> Result<BTreeMap<String, i32>, Error> {
        self.inner.partitions(counts).await
    }
    async fn claim(&mut self, lane: &LaneId, token: &str, owner: &str, start: i64) -> Result<(LaneRow, i64), Error> {
        self.inner.claim(lane, token, owner, start).await
    }
    async fn peek(&mut self, lane: &LaneId) -> Result<Option<LaneRow>, Error> {
        self.inner.peek(lane).await
    }
    async fn load(&mut self, wants: &[(&'static Table, Want)]) -> Result<Vec<Vec<Row>>, Error> {
        self.inner.load(wants).await
    }
    async fn commit(&mut self, lanes: &[LaneCommit]) -> Result<Committed, Error> {
        let committed = self.inner.commit(lanes).await;
        let statements = self.inner.statements();
        let records = lanes.iter().map(|lane| lane.next_offset - lane.expected.next_offset).sum();
        self.seen.lock().expect("no test panics with it in hand").push((records, statements - self.before));
        self.before = statements;
        committed
    }
    async fn look(&mut self, lanes: &[LaneId]) -> Result<(Vec<LaneRow>, i64), Error> {
        self.inner.look(lanes).await
    }
    async fn order(&mut self, command: Row) -> Result<(), Error> {
        self.inner.order(command).await
    }
    async fn trim_outbox(&mut self, rows_max: i64) -> Result<u64, Error> {
        self.inner.trim_outbox(rows_max).await
    }
    async fn forget(&mut self, table: &'static Table, kept: &Kept) -> Result<Forgotten, Error> {
        self.inner.forget(table, kept).await
    }
    async fn replicated(&mut self, standby: &Standby) -> Result<Replicated, Error> {
        self.inner.replicated(standby).await
    }

    fn timeline(&self) -> i64 {
        self.inner.timeline()
    }

    fn statements(&self) -> u64 {
        self.inner.statements()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_panics_ends_the_worker_instead_of_leaving_its_lanes_unserved() {
    let stage = Stage::new("panic").await;
    let config = config(&stage.settings("workers"));
    let schema = shop::schema::schema(config.database.backend);
    let store = store::open::open(&config.database, &schema).await.expect("open the store");
    // Whoever takes the lock with this in hand panics: so does the next commit.
    let seen = Seen::default();
    let poison = Arc::clone(&seen);
    let _panicked = std::thread::spawn(move || {
        let _held = poison.lock().expect("whole");
        panic!("on purpose");
    })
    .join();
    let worker = start(config, Arc::new(Counting(store, seen)));
    worker.ready().await;
    stage.send("activity", counts("panic", 1)).await;
    let error = worker.ended().await;
    assert!(error.contains("a writer has panicked"), "{error}");
    stage.end().await;
}

/// Every shape of record: new, known by id, new by number, known by number, ahead of its turn, of new entities and old.
fn shapes(label: &str, rounds: usize) -> Vec<Event> {
    let numbered = |key: &str, number: i64| Event::counted(key, format!("{key}-{number}"), 1).at(number);
    let mut events = Vec::new();
    for at in 0..rounds {
        let key = |kind: &str| key_on(&format!("{kind}-{label}-{at}"), 0);
        let (plain, first, ahead) = (key("plain"), key("numbered"), key("ahead"));
        let once = Event::counted(&plain, format!("id-{label}-{at}"), 1);
        events.extend([once.clone(), once, Event::counted(&plain, format!("other-{label}-{at}"), 1)]);
        events.extend([numbered(&first, 1), numbered(&first, 1), numbered(&first, 2), numbered(&first, 1)]);
        // Held, and released in the same batch; and held for good.
        events.extend([numbered(&ahead, 2), numbered(&ahead, 1), numbered(&ahead, 5)]);
    }
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_takes_as_many_statements_for_two_thousand_records_as_for_ten() {
    let stage = Stage::new("statements").await;
    let mut settings = stage.settings("workers");
    // Nothing but batches is to send statements, and all that is sent at once is to be one batch.
    for (name, value) in [
        ("WRITERS__COUNT", "1"),
        ("LANES__IDLE_LOOK", "1m"),
        ("LANES__COMMAND_POLL", "1m"),
        ("RETENTION__INTERVAL", "1d"),
        ("BATCH__WAIT", "1s"),
        ("BATCH__RECORDS_MAX", "20000"),
    ] {
        settings.insert(name.to_owned(), value.to_owned());
    }
    let config = config(&settings);
    let schema = shop::schema::schema(config.database.backend);
    let seen = Seen::default();
    let store = store::open::open(&config.database, &schema).await.expect("open the store");
    let worker = start(config, Arc::new(Counting(store, Arc::clone(&seen))));
    worker.ready().await;
    let taken = |seen: &Seen| seen.lock().expect("whole").iter().map(|(records, _)| *records).sum::<i64>();
    let mut batches = Vec::new();
    // The first one pays for what its session did before.
    for (label, rounds) in [("first", 1), ("small", 1), ("large", 200)] {
        seen.lock().expect("whole").clear();
        let events = shapes(label, rounds);
        let count = i64::try_from(events.len()).expect("few");
        stage.send("activity", events).await;
        wait_until("all are taken", STEP, || async { taken(&seen) == count }).await;
        batches.push(seen.lock().expect("whole").clone());
    }
    let (small, large) = (&batches[1], &batches[2]);
    assert_eq!((small.len(), small[0].0), (1, 10), "the small batch: {small:?}");
    let most = large.iter().max().copied().expect("there was a batch");
    assert!(most.0 >= 1_000, "the large batch is large: {large:?}");
    assert_eq!(most.1, small[0].1, "statements of {} records and of 10", most.0);
    worker.stop().await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_the_database_ends_and_the_work_goes_on() {
    let stage = Stage::new("outage").await;
    let worker = stage.start(&stage.settings("workers")).await;
    worker.ready().await;
    stage.allow_connections(false).await;
    stage
        .database
        .number(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity \
             where datname = current_database() and application_name = 'seriatim'",
        )
        .await;
    stage.send("activity", counts("outage", 1_000)).await;
    wait_until("the worker has tried in vain", STEP, || async { worker.metric("seriatim_retries_total", "") >= 5.0 })
        .await;
    stage.allow_connections(true).await;
    stage.wait_for_counted(1_000).await;
    assert_eq!(stage.sum().await, 5_000);
    worker.stop().await;
    stage.end().await;
}
