//! The worker end to end, on a real broker and a real PostgreSQL, against an outside world that is not ours.
//!
//! `end_to_end/` holds the world in Python, written from the contract page alone: a producer of a seeded stream
//! of shop events with every kind of trouble in it, a payment gateway, and a single-threaded model that judges
//! the tables and the topics once all is drained. This file only drives: it starts, kills, and lets judge.

#[path = "support/outside.rs"]
mod outside;
#[path = "support/services.rs"]
mod services;

use std::{path::Path, process::Command, time::Duration};

use outside::{Outside, finished};
use services::{Database, Process, Topics, Worker, kafka, logs, python, wait_until};

/// Bound on any one step of the run, a rebalance after a lost worker included.
const STEP: Duration = Duration::from_secs(90);
/// Records that the world produces in its first phase, at least; the workers' own messages come on top.
const FIRST_PHASE: i64 = 10_000;
/// How many of them are taken when a worker is killed: about a third.
const KILLED_AT: i64 = FIRST_PHASE / 3;

/// Names of the workers that hold lanes now.
async fn owners(database: &Database) -> Vec<String> {
    database.texts("select distinct owner from seriatim.lane where owner is not null order by 1").await
}

/// Waits until a worker holds lanes that did not when `before` was taken: the group has moved lanes to it.
async fn wait_for_new_owner(database: &Database, before: &[String], worker: &mut Process) {
    let name = worker.name.clone();
    wait_until(&format!("{name} holds lanes"), STEP, || {
        worker.expect_running();
        async { owners(database).await.iter().any(|owner| !before.contains(owner)) }
    })
    .await;
}

/// Starts `fsck`: beside workers at work, or after them.
fn compare(worker: &Worker, name: &str, logs: &Path) -> Process {
    Process::start(worker.command(&["fsck"]), name, logs)
}

/// It has found nothing.
async fn found_nothing(mut fsck: Process) {
    let status = fsck.ended(STEP).await;
    assert!(status.success(), "{} says {status}:\n{}", fsck.name, fsck.log());
    println!("{}:\n{}", fsck.name, fsck.log());
}

#[test]
fn the_model_passes_its_own_tests() {
    let mut command = Command::new(python());
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/end_to_end"));
    let done =
        command.env("PYTHONDONTWRITEBYTECODE", "1").args(["-m", "unittest"]).output().expect("run the model's tests");
    assert!(done.status.success(), "the model's own tests fail:\n{}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_and_topics_equal_the_model_after_a_kill_and_a_rebalance() {
    let brokers = kafka();
    let database = Database::create("end_to_end").await;
    let topics = Topics::create(&brokers, "end-to-end").await;
    let logs = logs(topics.prefix.trim_end_matches('.'));
    println!("logs in {}, database {}", logs.display(), database.url);
    let world = Outside::new(&topics, &logs, "1");
    // Gaps fill within the second or so in which a phase is produced; those that never do become due soon after.
    let worker = Worker::new(&brokers, &topics, &database)
        .with("REORDER__GAP_DEADLINE", "15s")
        .with("REORDER__WAITING_DEADLINE", "15s");
    worker.migrate();

    let (first, mut second) = (worker.start("worker-1", &logs), worker.start("worker-2", &logs));
    wait_until("both workers hold lanes", STEP, || {
        second.expect_running();
        async { owners(&database).await.len() >= 2 }
    })
    .await;
    let mut gateway = world.gateway();

    // One worker dies in the middle of its work and comes back while the next events arrive.
    let producer = world.produce(Some("0"));
    wait_until("a third of the first events is taken", STEP, || async { database.taken().await >= KILLED_AT }).await;
    let beside = compare(&worker, "fsck-beside-a-kill", &logs);
    first.kill();
    // Asked at once: the other worker goes on, and by the end of the phase this would prove nothing.
    let taken = database.taken().await;
    assert!(taken < FIRST_PHASE, "the worker was killed after its work: {taken} records are taken");
    finished(producer, STEP).await;
    found_nothing(beside).await;
    let before = owners(&database).await;
    let mut first = worker.start("worker-1-again", &logs);
    let producer = world.produce(Some("1"));
    let beside = compare(&worker, "fsck-beside-a-rebalance", &logs);
    wait_for_new_owner(&database, &before, &mut first).await;
    finished(producer, STEP).await;
    found_nothing(beside).await;

    // A third one joins while events arrive, takes lanes over, and leaves again in good order.
    let before = owners(&database).await;
    let mut third = worker.start("worker-3", &logs);
    let producer = world.produce(Some("2"));
    wait_for_new_owner(&database, &before, &mut third).await;
    third.expect_no_panic();
    third.stop(STEP).await;
    finished(producer, STEP).await;

    world.judge("drained", &database).await;
    for running in [&mut first, &mut second, &mut gateway] {
        running.expect_running();
    }
    for done in [first, second] {
        done.expect_no_panic();
        done.stop(STEP).await;
    }
    gateway.stop(STEP).await;
    world.judge("judge", &database).await;
    found_nothing(compare(&worker, "fsck-at-rest", &logs)).await;
    topics.delete(&brokers).await;
    database.drop().await;
}
