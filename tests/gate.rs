//! The relay's gate, on a PostgreSQL primary with an asynchronous standby of the test's own: nothing is sent that the
//! standby has not flushed, so a failover loses nothing that was sent.

#[path = "gate/cluster.rs"]
mod cluster;
#[path = "support/services.rs"]
mod services;
#[path = "fence/stage.rs"]
mod stage;

use std::{collections::BTreeMap, sync::Arc};

use cluster::{Server, Switch};
use seriatim::{
    config::Backend,
    core::{
        fence::{Fence, LaneCommit, LaneRow},
        record::LaneId,
    },
    postgres::{PostgresStore, Settings, migrate},
    shop,
    store::{Committed, Error, Standby, Store},
};
use services::wait_until;
use sqlx::Connection;
use stage::{Event, Running, STEP, Stage};

const GATE_WAIT: &str = "seriatim_relay_gate_wait_seconds";

fn gated(stage: &Stage) -> BTreeMap<String, String> {
    let mut settings = stage.settings("workers");
    settings.insert("RELAY__GATE".to_owned(), "standby".to_owned());
    settings.insert("RELAY__GATE_STANDBY".to_owned(), "heir".to_owned());
    settings.insert("LANES__CLAIM_PAUSE_MAX".to_owned(), "1s".to_owned());
    settings
}

/// Places purchases of what nobody has: each asks the stock and ends with an outcome.
async fn place(stage: &Stage, label: &str, count: usize) {
    stage.send("purchases", (0..count).map(|at| Event::placed(&format!("{label}-{at}"), "nothing")).collect()).await;
}

async fn wait_for_outcomes(stage: &Stage, count: i64) {
    wait_until(&format!("{count} outcomes are told"), STEP, || async {
        stage.count_records("purchase-outcomes") >= count
    })
    .await;
}

/// Waits until messages stand in the outbox and wait for the standby.
async fn wait_for_gate(stage: &Stage, worker: &Running, made: i64) {
    let asked = "select sum(sent)::bigint from seriatim.link_out where to_topic like '%stock'";
    wait_until("messages wait for the standby", STEP, || async {
        worker.expect_running();
        stage.database.number(asked).await == Some(made) && worker.metric(GATE_WAIT, "") > 1.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_that_the_standby_has_not_flushed() {
    let primary = Server::primary();
    let standby = primary.standby("heir");
    let stage = Stage::on(primary.url(), "gate-shut").await;
    let worker = stage.start(&gated(&stage)).await;
    worker.ready().await;
    place(&stage, "open", 20).await;
    wait_for_outcomes(&stage, 20).await;

    standby.kill();
    let before = stage.count_records("stock");
    place(&stage, "shut", 20).await;
    wait_for_gate(&stage, &worker, 40).await;
    assert_eq!(stage.count_records("stock"), before, "a message was sent that a failover would lose");
    assert!(worker.health.readiness().gate_wait_seconds >= Some(1));

    // Another worker finds the messages in the table, and must not send them either.
    worker.stop().await;
    let worker = stage.start(&gated(&stage)).await;
    wait_for_gate(&stage, &worker, 40).await;
    assert_eq!(stage.count_records("stock"), before, "a message was sent that a failover would lose");

    standby.start();
    wait_for_outcomes(&stage, 40).await;
    wait_until("nothing waits any more", STEP, || async { worker.metric(GATE_WAIT, "").abs() < f64::EPSILON }).await;
    worker.stop().await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_that_a_failover_loses_were_never_sent_and_their_work_is_done_again() {
    let primary = Server::primary();
    let standby = primary.standby("heir");
    let stage = Stage::on(primary.url(), "gate-over").await;
    let switch = Switch::to(&primary).await;
    let mut settings = gated(&stage);
    let name = stage.database.url.rsplit('/').next().expect("the URL names a database");
    let url = format!("postgres://postgres@127.0.0.1:{}/{name}", switch.port);
    settings.insert("DATABASE__URL".to_owned(), url);
    let worker = stage.start(&settings).await;
    worker.ready().await;
    place(&stage, "kept", 20).await;
    wait_for_outcomes(&stage, 20).await;
    wait_until("nothing waits any more", STEP, || async { worker.metric(GATE_WAIT, "").abs() < f64::EPSILON }).await;

    standby.kill();
    place(&stage, "lost", 20).await;
    wait_for_gate(&stage, &worker, 40).await;
    assert_eq!(stage.count_records("stock"), 20, "a message was sent that the failover loses");
    primary.kill();
    standby.start();
    standby.promote();
    let _next = standby.standby("heir");
    switch.turn(&standby);

    wait_for_outcomes(&stage, 40).await;
    worker.expect_running();
    assert_eq!(worker.health.readiness().lanes.halted, 0);
    worker.stop().await;
    let url = format!("postgres://postgres@127.0.0.1:{}/{name}", standby.port);
    let mut beside = sqlx::PgConnection::connect(&url).await.expect("connect to the new primary");
    let forks = "select count(*) from seriatim.link_in i join seriatim.link_out o on o.topic = i.from_topic and \
         o.partition = i.from_partition and o.to_topic = i.topic and o.to_partition = i.partition \
         where i.mark > o.sent or (i.mark = o.sent and i.digest is distinct from o.digest)";
    let forks: i64 = sqlx::query_scalar(forks).fetch_one(&mut beside).await.expect("compare the links");
    assert_eq!(forks, 0, "a receiver has taken what its sender knows nothing of");
    stage.topics.delete(&stage.brokers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_a_failover_makes_whole_again_commits_nothing_that_was_read_before() {
    let primary = Server::primary();
    let standby = primary.standby("heir");
    let database = services::Database::create_on(primary.url(), "gate-claim").await;
    let switch = Switch::to(&primary).await;
    let name = database.url.rsplit('/').next().expect("the URL names a database");
    let url = format!("postgres://postgres@127.0.0.1:{}/{name}", switch.port);
    let schema = shop::schema::schema(Backend::Postgres);
    migrate::up(&Settings::new(url.clone()), &schema).await.expect("migrate");
    let store = PostgresStore::open(Settings::new(url), &schema).await.expect("open the store");
    let (mut first, mut second) = (store.session().await.expect("connect"), store.session().await.expect("connect"));
    let lane = LaneId { topic: "stock".to_owned(), partition: 0 };
    let (claimed, _) = first.claim(&lane, "first", "first", 0).await.expect("a claim");
    let batch = |row: &LaneRow| LaneCommit {
        lane: row.lane.clone(),
        expected: row.fence.clone(),
        next_offset: row.fence.next_offset + 1,
        incarnation: row.incarnation,
        last: None,
        relayed: row.relayed,
        writes: Arc::default(),
    };
    assert!(matches!(first.commit(&[batch(&claimed)]).await, Ok(Committed::All { .. })));
    let (rows, _) = first.look(std::slice::from_ref(&lane)).await.expect("a look");
    let mine = rows.into_iter().next().expect("the lane's row");
    let named = Standby::Named("heir".to_owned());
    let follows =
        async { while first.replicated(&named).await.is_ok_and(|done| done.flushed < Some(done.committed)) {} };
    tokio::time::timeout(STEP, follows).await.expect("the standby has it");
    standby.kill();

    // Of these commits the first one may read what it likes.
    let (later, _) = second.claim(&lane, "second", "second", 0).await.expect("a claim");
    assert!(matches!(second.commit(&[batch(&later)]).await, Ok(Committed::All { .. })));
    primary.kill();
    standby.start();
    standby.promote();
    switch.turn(&standby);

    let answered = async {
        loop {
            let answer = first.commit(&[batch(&mine)]).await;
            if !matches!(answer, Err(Error::Retry(_))) {
                return answer;
            }
        }
    };
    let answer = tokio::time::timeout(STEP, answered).await.expect("an answer of the new primary");
    assert_eq!(answer, Ok(Committed::Fenced(vec![lane.clone()])));
    // It is the timeline alone that tells: the row is as it was.
    let (rows, _) = first.look(std::slice::from_ref(&lane)).await.expect("a look");
    let found = rows.into_iter().next().expect("the lane's row");
    assert_eq!(
        found,
        LaneRow { fence: Fence { timeline: found.fence.timeline, ..mine.fence.clone() }, ..mine.clone() }
    );
    assert!(found.fence.timeline > mine.fence.timeline);
    assert!(matches!(first.commit(&[batch(&found)]).await, Ok(Committed::All { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_synchronous_standbys_count_as_the_server_waits_for() {
    let primary = Server::primary();
    let _standby = primary.standby("heir");
    let stage = Stage::on(primary.url(), "gate-sync").await;
    stage
        .sql(
            "create role seeing login; grant pg_read_all_stats to seeing; create role blind login; \
             grant usage on schema seriatim to seeing, blind; \
             grant select on all tables in schema seriatim to seeing, blind",
        )
        .await;
    let schema = shop::schema::schema(Backend::Postgres);
    let session = async |role: &str| {
        let url = stage.database.url.replace("postgres@", &format!("{role}@"));
        let store = PostgresStore::open(Settings::new(url), &schema).await.expect("open the store");
        store.session().await.expect("connect")
    };
    let (mut seeing, mut blind) = (session("seeing").await, session("blind").await);
    for (names, counted) in
        [("", false), ("heir", true), ("FIRST 1 (heir, other)", true), ("ANY 2 (heir, other)", false)]
    {
        stage.sql(&format!("alter system set synchronous_standby_names = '{names}'")).await;
        stage.sql("select pg_reload_conf()").await;
        wait_until(&format!("standbys are `{names}`"), STEP, || async {
            let states = "select count(*) from pg_stat_replication where sync_state in ('sync', 'quorum') \
                 and current_setting('synchronous_standby_names') = ";
            let shown = stage.database.number(&format!("{states}'{names}'")).await;
            if names.is_empty() { shown.is_some() } else { shown == Some(1) }
        })
        .await;
        // Each session hears of a new setting by itself, one later than another.
        let heard = async {
            loop {
                let found = seeing.replicated(&Standby::Synchronous).await.expect("an answer");
                if found.waits_for == names {
                    return found.flushed.is_some();
                }
            }
        };
        assert_eq!(tokio::time::timeout(STEP, heard).await, Ok(counted), "{names}");
    }
    let named = seeing.replicated(&Standby::Named("heir".to_owned())).await.expect("an answer");
    assert!(named.flushed > Some(0) && named.committed > 0);
    let nobody = seeing.replicated(&Standby::Named("nobody".to_owned())).await.expect("an answer");
    assert_eq!(nobody.flushed, None);
    let refused = blind.replicated(&Standby::Synchronous).await;
    assert!(matches!(&refused, Err(Error::Stop(says)) if says.contains("pg_monitor")), "{refused:?}");
    stage.topics.delete(&stage.brokers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_for_a_standby_that_nobody_has_named_is_refused_at_start() {
    let stage = Stage::new("gate-none").await;
    let mut settings = gated(&stage);
    settings.remove("RELAY__GATE_STANDBY");
    let error = stage.start(&settings).await.ended().await;
    assert!(error.contains("synchronous_standby_names"), "{error}");
    stage.end().await;
}
