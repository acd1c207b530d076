//! A worker dies at each named point of its path, as SIGKILL would have it, and the next one ends where the model ends.
//!
//! On the real broker and PostgreSQL, one database and one set of topics a point, a few points at a time. All records
//! are there before the worker starts, so that where it dies decides nothing about what must come of them. That it
//! died where it was told to is proved by the name of the point, which it says before it dies, and by the signal that
//! ended it.
//!
//! `dev/test --features faults --test crash -- --nocapture` prints the table.

#[path = "support/outside.rs"]
mod outside;
#[path = "support/services.rs"]
mod services;

use std::{
    collections::BTreeMap,
    os::unix::process::ExitStatusExt as _,
    sync::Arc,
    time::{Duration, Instant},
};

use outside::{Outside, finished};
use seriatim::failpoint::Point;
use services::{Database, Process, Topics, Worker, kafka, logs, wait_until};
use tokio::{sync::Semaphore, task::JoinSet};

/// Bound on any one step.
const STEP: Duration = Duration::from_secs(90);
/// Some 700 records: a hundredth of it would have no saga that is undone.
const SCALE: &str = "0.03";
/// Points at a time: most of a run is waiting for deadlines and for the group.
const AT_A_TIME: usize = 4;
/// The signal of a process that ends itself: nothing of it runs after that.
const SIGABRT: i32 = 6;
/// Points that are passed many times, and another time at which to die there.
const LATER: [(Point, u32); 9] = [
    (Point::Claimed, 7),
    (Point::TimersRead, 2),
    (Point::Written, 3),
    (Point::CommitSent, 2),
    (Point::CommitSent, 3),
    (Point::CommitAnswered, 3),
    (Point::HandedOver, 3),
    (Point::Produced, 40),
    (Point::Acknowledged, 40),
];

/// What brings a worker to a point, beside its work.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Push {
    /// Nothing else is needed.
    None,
    /// Another worker joins and is given some of the lanes.
    Join,
    /// It is asked to end.
    Stop,
    /// Another one has died before and left messages that nobody has sent.
    Inherit,
}

fn push(point: Point) -> Push {
    match point {
        Point::Revoking => Push::Join,
        Point::Stopping | Point::WritersEnded | Point::Drained | Point::Leaving => Push::Stop,
        Point::OutboxRead => Push::Inherit,
        _ => Push::None,
    }
}

/// A row of the table that is printed.
struct Recovered {
    taken: i64,
    died_after: Duration,
    drained_after: Duration,
}

fn worker(topics: &Topics, database: &Database) -> Worker {
    Worker::new(&kafka(), topics, database)
        .with("KAFKA__COMMIT_INTERVAL", "100ms")
        .with("REORDER__GAP_DEADLINE", "2s")
        .with("REORDER__WAITING_DEADLINE", "2s")
        .with("SAGA__CAPTURE_RETRY", "1s")
        .with("SAGA__REFUND_RETRY", "1s")
        // Small batches, so that there are many.
        .with("BATCH__RECORDS_MAX", "20")
        .with("QUARANTINE__DRAIN_MAX", "20")
        .with("RETENTION__INTERVAL", "100ms")
}

/// Waits until the worker has died, and demands that it did so at the point and by itself.
async fn died(worker: &mut Process, point: Point) {
    let status = worker.ended(STEP).await;
    assert_eq!(status.signal(), Some(SIGABRT), "{}: {status}, {}", point.name(), worker.log_end());
    // Not its last words always: its other threads live until the signal is there.
    let words = format!("failpoint {}", point.name());
    assert!(worker.log().lines().any(|line| line == words), "{}", worker.log_end());
}

async fn dies_and_recovers(point: Point, hit: u32) -> Recovered {
    let label = format!("crash-{}-{hit}", point.name().replace('_', "-"));
    let database = Database::create(&label).await;
    let topics = Topics::create(&kafka(), &label).await;
    let logs = logs(topics.prefix.trim_end_matches('.'));
    let world = Outside::new(&topics, &logs, SCALE);
    let mut worker = worker(&topics, &database);
    if push(point) != Push::Join {
        // A member that comes again under its name takes its lanes at once: the group need not miss it first. Not
        // where lanes are on their way from one member to the other: who takes them waits until the dead one is missed.
        worker = worker.with("KAFKA__INSTANCE_ID", "worker");
    }
    worker.migrate();
    finished(world.produce(None), STEP).await;
    let mut gateway = world.gateway();

    let began = Instant::now();
    let armed = |at: String| worker.clone().with("FAILPOINT", &at);
    if push(point) == Push::Inherit {
        died(&mut armed("handing_over:3".to_owned()).start("earlier", &logs), Point::HandingOver).await;
    }
    let mut dying = armed(format!("{}:{hit}", point.name())).start("dying", &logs);
    let mut others = Vec::new();
    if matches!(push(point), Push::Join | Push::Stop) {
        wait_until("the worker has taken records", STEP, || async { database.taken().await > 0 }).await;
    }
    match push(point) {
        Push::None | Push::Inherit => {}
        Push::Join => others.push(worker.start("other", &logs)),
        Push::Stop => dying.terminate(),
    }
    died(&mut dying, point).await;
    let (taken, died_after) = (database.taken().await, began.elapsed());

    let began = Instant::now();
    others.push(worker.start("recovering", &logs));
    world.judge("drained", &database).await;
    let drained_after = began.elapsed();
    for other in others {
        other.expect_no_panic();
        other.stop(STEP).await;
    }
    gateway.expect_running();
    gateway.stop(STEP).await;
    world.judge("judge", &database).await;
    topics.delete(&kafka()).await;
    database.drop().await;
    Recovered { taken, died_after, drained_after }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_dies_at_any_point_is_followed_by_one_that_ends_where_the_model_ends() {
    let turns = Arc::new(Semaphore::new(AT_A_TIME));
    let mut runs = JoinSet::new();
    let all: Vec<(Point, u32)> = Point::ALL.into_iter().map(|point| (point, 1)).chain(LATER).collect();
    for (number, (point, hit)) in all.iter().copied().enumerate() {
        let turns = Arc::clone(&turns);
        runs.spawn(async move {
            let _turn = turns.acquire_owned().await.expect("nobody closes it");
            (number, dies_and_recovers(point, hit).await)
        });
    }
    let recovered: BTreeMap<usize, Recovered> = runs.join_all().await.into_iter().collect();
    println!("| point | hit | died after | records taken by then | drained after |");
    println!("|---|---|---|---|---|");
    for (number, (point, hit)) in all.iter().enumerate() {
        let Recovered { taken, died_after, drained_after } = &recovered[&number];
        let (died, drained) = (died_after.as_secs_f64(), drained_after.as_secs_f64());
        println!("| `{}` | {hit} | {died:.1} s | {taken} | {drained:.1} s |", point.name());
    }
}
