//! Two owners of one lane, a database that went back in time, an owner that froze.

use std::time::{Duration, Instant};

use super::{
    services::{Worker, logs, wait_until},
    stage::{Event, STEP, Stage},
};

/// Counts of delta `delta` on 40 counters, with ids that no other label has.
fn counts(label: &str, count: usize, delta: i64) -> Vec<Event> {
    (0..count).map(|at| Event::counted(&format!("counter-{}", at % 40), format!("{label}-{at}"), delta)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_forced_onto_the_same_lanes_apply_nothing_twice_and_let_each_other_be() {
    let stage = Stage::new("split-brain").await;
    let began = Instant::now();
    let pause_min = Duration::from_millis(100);
    let settings = |group: &str| {
        let mut settings = stage.settings(group);
        settings.insert("LANES__CLAIM_PAUSE_MIN".to_owned(), "100ms".to_owned());
        settings.insert("LANES__CLAIM_PAUSE_MAX".to_owned(), "5s".to_owned());
        settings
    };
    // Each is alone in its group, so each is given every partition.
    let (left, right) = (stage.start(&settings("left")).await, stage.start(&settings("right")).await);
    let fenced = || left.metric("seriatim_fenced_total", "") + right.metric("seriatim_fenced_total", "");
    let mut sent = 0;
    for round in 0.. {
        stage.send("activity", counts(&format!("round-{round}"), 400, 3)).await;
        sent += 400;
        stage.wait_for_counted(sent).await;
        left.expect_running();
        right.expect_running();
        if round >= 5 && fenced() >= 40.0 {
            break;
        }
    }
    assert_eq!(stage.sum().await, 3 * sent);

    // A lane's k-th claim by one worker comes after pauses of which each is at least half of twice the last.
    let epochs = stage.database.number("select max(epoch) from seriatim.lane").await.expect("lanes were claimed");
    let pauses = began.elapsed().as_secs_f64() / (pause_min.as_secs_f64() / 2.0);
    let bound = 2.0 * ((pauses + 1.0).log2() + 2.0 + began.elapsed().as_secs_f64() / 2.5);
    #[allow(clippy::cast_precision_loss, reason = "small numbers")]
    let claimed = epochs as f64;
    assert!(claimed <= bound, "a lane was claimed {claimed} times, where growing pauses allow {bound}");

    left.stop().await;
    stage.send("activity", counts("alone", 400, 3)).await;
    stage.wait_for_counted(sent + 400).await;
    assert_eq!(stage.sum().await, 3 * (sent + 400));
    right.stop().await;
    stage.end().await;
}

/// Everything in the database, put aside or put back in one transaction: what a failover that lost commits does.
async fn rewind(stage: &Stage, when: &str) {
    let tables = stage
        .database
        .texts(
            // A table that is kept by ranges is copied as one.
            "select relnamespace::regnamespace || '.' || relname from pg_class where relkind in ('r', 'p') \
             and not relispartition and relnamespace::regnamespace::text in ('seriatim', 'shop') order by 1",
        )
        .await;
    let aside = |table: &str| format!("aside.{}", table.replace('.', "_"));
    let sql = match when {
        "save" => {
            let copies = tables.iter().map(|table| format!("create table {} as table {table};", aside(table)));
            format!(
                "begin isolation level repeatable read; create schema aside; {} commit;",
                copies.collect::<String>()
            )
        }
        _ => {
            let copies = tables.iter().map(|table| format!("insert into {table} select * from {};", aside(table)));
            format!("begin; truncate {}; {} commit;", tables.join(", "), copies.collect::<String>())
        }
    };
    stage.sql(&sql).await;
}

async fn shop(stage: &Stage) -> Vec<String> {
    let mut rows = Vec::new();
    for table in ["counter", "stock", "reservation", "purchase", "purchase_line", "payment"] {
        rows.extend(stage.database.texts(&format!("select t::text from shop.{table} t order by 1")).await);
    }
    rows
}

fn sales(label: &str, count: usize) -> Vec<Event> {
    (0..count).map(|at| Event::placed(&format!("{label}-{at}"), "book")).collect()
}

async fn wait_for_requests(stage: &Stage, count: i64) {
    wait_until("the payments are asked for", STEP, || async {
        stage.database.number("select count(*) from shop.payment where status = 'requested'").await == Some(count)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_lanes_notice_a_database_that_went_back_in_time_and_do_the_lost_work_again() {
    let stage = Stage::new("rewind").await;
    let worker = stage.start(&stage.settings("workers")).await;
    stage.send("stock", vec![Event::received("book", "first", 100)]).await;
    stage.send("activity", counts("kept", 200, 1)).await;
    stage.send("purchases", sales("kept", 5)).await;
    stage.wait_for_counted(200).await;
    wait_for_requests(&stage, 5).await;
    rewind(&stage, "save").await;
    stage.send("activity", counts("lost", 300, 1)).await;
    stage.send("purchases", sales("lost", 5)).await;
    stage.wait_for_counted(500).await;
    wait_for_requests(&stage, 10).await;
    let before = shop(&stage).await;

    rewind(&stage, "restore").await;
    // No traffic: only the look at idle lanes can tell.
    stage.wait_for_counted(500).await;
    wait_for_requests(&stage, 10).await;
    wait_until("the tables are as they were", STEP, || async { shop(&stage).await == before }).await;
    assert!(worker.metric("seriatim_fenced_total", "") >= 1.0);
    worker.stop().await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rewound_idle_lane_is_noticed_also_while_its_writer_is_busy_with_another() {
    let stage = Stage::new("rewind-busy").await;
    let mut settings = stage.settings("workers");
    settings.insert("WRITERS__COUNT".to_owned(), "1".to_owned());
    // Small batches that each take a while: the writer is never without work for as long as records come.
    settings.insert("BATCH__RECORDS_MAX".to_owned(), "20".to_owned());
    settings.insert("QUARANTINE__DRAIN_MAX".to_owned(), "20".to_owned());
    let worker = stage.start(&settings).await;
    stage.send("profiles", vec![email("idle", "first")]).await;
    let mail = "select count(*) from shop.profile where email = 'second@example.com'";
    wait_until("the first address is known", STEP, || async {
        stage.database.number("select count(*) from shop.profile").await == Some(1)
    })
    .await;
    rewind(&stage, "save").await;
    stage.send("profiles", vec![email("idle", "second")]).await;
    wait_until("the second address is known", STEP, || async { stage.database.number(mail).await == Some(1) }).await;
    // Only the lanes of profiles go back.
    let undo = "begin; \
        update seriatim.lane l set next_offset = a.next_offset, batch = a.batch, last_offset = a.last_offset, \
        last_timestamp_ms = a.last_timestamp_ms, last_digest = a.last_digest from aside.seriatim_lane a \
        where a.topic = l.topic and a.partition = l.partition and l.topic like '%profiles'; \
        truncate shop.profile, seriatim.journal, seriatim.seen; insert into shop.profile select * from aside.shop_profile; \
        insert into seriatim.journal select * from aside.seriatim_journal; commit;";
    stage.send("activity", counts("busy", 60_000, 1)).await;
    stage.sql(undo).await;
    wait_until("the second address is known again", STEP, || async { stage.database.number(mail).await == Some(1) })
        .await;
    assert!(stage.counted().await < 60_000, "the writer was idle: this proves nothing");
    worker.stop().await;
    stage.end().await;
}

fn email(user: &str, name: &str) -> Event {
    let data = serde_json::json!({ "user_id": user, "email": format!("{name}@example.com") });
    let (id, key) = (format!("{user}-{name}"), user.to_owned());
    Event { id, key, event_type: "profile.email_changed", sequence: None, data }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_owner_is_replaced_and_gives_its_lanes_up_when_it_wakes() {
    let stage = Stage::new("frozen").await;
    let logs = logs(stage.topics.prefix.trim_end_matches('.'));
    let worker = Worker::new(&stage.brokers, &stage.topics, &stage.database)
        .with("DATABASE__IDLE_IN_TRANSACTION_TIMEOUT", "2s")
        .with("LANES__IDLE_LOOK", "200ms")
        // Small batches: it is most likely inside a transaction when it freezes.
        .with("BATCH__RECORDS_MAX", "100")
        .with("QUARANTINE__DRAIN_MAX", "100");
    let (mut first, mut second) = (worker.start("first", &logs), worker.start("second", &logs));
    let owners = "select count(distinct owner) from seriatim.lane where epoch > 0";
    wait_until("both hold lanes", STEP, || async {
        stage.database.number(owners).await == Some(2)
            && stage.database.number("select count(*) from seriatim.lane").await == Some(20)
    })
    .await;

    stage.send("activity", counts("before", 10_000, 2)).await;
    wait_until("some are counted", STEP, || async { stage.counted().await > 500 }).await;
    first.signal("STOP");
    let frozen = stage.counted().await;
    assert!(frozen < 10_000, "the worker froze after its work");
    // The group takes the lanes from it, and the other one finishes.
    stage.wait_for_counted(10_000).await;
    stage.send("activity", counts("meanwhile", 2_000, 2)).await;
    stage.wait_for_counted(12_000).await;
    wait_until("one holds all lanes", STEP, || async { stage.database.number(owners).await == Some(1) }).await;

    first.signal("CONT");
    stage.send("activity", counts("after", 2_000, 2)).await;
    wait_until("both hold lanes again", STEP, || {
        first.expect_running();
        second.expect_running();
        async { stage.database.number(owners).await == Some(2) }
    })
    .await;
    stage.send("activity", counts("at last", 2_000, 2)).await;
    stage.wait_for_counted(16_000).await;
    assert_eq!(stage.sum().await, 32_000);
    for done in [first, second] {
        done.expect_no_panic();
        done.stop(STEP).await;
    }
    stage.end().await;
}
