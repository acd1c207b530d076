//! What all parts of a simulated world share: the log, the group, the store, the dice, and what is broken now.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::mpsc::UnboundedSender, time::Instant};

use super::{
    dice::Dice,
    group::Group,
    log::Log,
    plan::{Illness, Plan},
    process::Process,
};
use crate::{
    core::{
        fence::{Fence, LaneCommit, LaneRow},
        message::Message,
        record::{LaneId, Record},
    },
    memory::{MemoryStore, Snapshot},
};

/// A world begins at this moment, in microseconds since the epoch.
const BEGINNING: i64 = 1_700_000_000_000_000;

/// So many offsets are left out before a record at most.
pub(super) const GAP_MAX: i64 = 3;

/// One lane's part in a transaction that was made.
#[derive(Clone, Debug)]
pub(super) struct Committed {
    pub(super) lane: LaneId,
    /// What the row held before; after it, for a claim.
    pub(super) before: Fence,
    pub(super) next_offset: i64,
    /// It is a claim, and no batch.
    pub(super) claims: bool,
}

/// What is broken, and until when.
#[derive(Debug, Default)]
struct Outages {
    store: Option<Instant>,
    brokers: Option<Instant>,
    partitions: BTreeMap<LaneId, Instant>,
    /// The database's clock is so many microseconds off.
    skew: i64,
}

/// Everything that changes.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) log: Log,
    pub(super) group: Group,
    pub(super) commits: Vec<Committed>,
    /// Earlier states of the store, with when they were and how many commits there were.
    snapshots: Vec<(Instant, usize, Snapshot)>,
    illness: Illness,
    outages: Outages,
    dice: Dice,
    trace: Option<Vec<String>>,
    /// Lanes of which Kafka knew that they had been read when the store was made anew.
    wiped: BTreeSet<LaneId>,
    /// Ids of the operator's orders that the store has taken, since it last went back.
    pub(super) orders: BTreeSet<String>,
    /// What must never be, as it was seen.
    pub(super) findings: Vec<String>,
    /// How often things happened.
    pub(super) counts: BTreeMap<&'static str, u64>,
}

/// A simulated world. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct World {
    inner: Arc<Mutex<Inner>>,
    pub(super) store: MemoryStore,
    pub(super) began: Instant,
    /// Every record that is written outside of the home topics is told here, for who answers it.
    outside: UnboundedSender<(LaneId, Record)>,
    keeps_snapshots: bool,
    traced: bool,
    /// Only a standby's state is gone back to, and nothing is sent before that one has it.
    gate: bool,
    /// The database's clock jumps at some time.
    pub(super) jumps: bool,
}

impl World {
    pub(super) fn new(
        plan: &Plan,
        counts: BTreeMap<String, i32>,
        home: Vec<String>,
        outside: UnboundedSender<(LaneId, Record)>,
        traced: bool,
    ) -> Self {
        let inner = Arc::new(Mutex::new(Inner {
            log: Log::new(counts),
            group: Group::new(home),
            commits: Vec::new(),
            snapshots: Vec::new(),
            illness: plan.illness.clone(),
            outages: Outages::default(),
            dice: Dice::new(plan.seed).fork(2),
            trace: traced.then(Vec::new),
            wiped: BTreeSet::new(),
            orders: BTreeSet::new(),
            findings: Vec::new(),
            counts: BTreeMap::new(),
        }));
        let began = Instant::now();
        let clock = Arc::clone(&inner);
        let store = MemoryStore::new("simulated", move || micros(began) + lock(&clock).outages.skew);
        let keeps_snapshots = plan.strikes.iter().any(|strike| matches!(strike.what, super::plan::Blow::Failover(_)));
        Self { inner, store, began, outside, keeps_snapshots, traced, jumps: plan.jumps(), gate: plan.gate }
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// A line of the trace, if one is kept.
    pub(super) fn tell(&self, line: impl FnOnce() -> String) {
        if !self.traced {
            return;
        }
        let mut inner = self.inner();
        if let Some(trace) = &mut inner.trace {
            trace.push(format!("{:>6} ms  {}", self.began.elapsed().as_millis(), line()));
        }
    }

    pub(super) fn take_trace(&self) -> Vec<String> {
        self.inner().trace.take().unwrap_or_default()
    }

    pub(super) fn count(&self, what: &'static str) {
        *self.inner().counts.entry(what).or_insert(0) += 1;
    }

    /// Something that must never be.
    pub(super) fn find(&self, what: String) {
        self.tell(|| format!("FINDING {what}"));
        self.inner().findings.push(what);
    }

    /// Throws the world's dice.
    pub(super) fn throw<T>(&self, throw: impl FnOnce(&mut Dice, &Illness) -> T) -> T {
        let inner = &mut *self.inner();
        throw(&mut inner.dice, &inner.illness)
    }

    /// Waits as long as a call takes on one of its ways.
    pub(super) async fn travel(&self) {
        let way = self.throw(|dice, illness| dice.below(illness.latency_max + 1));
        if way > 0 {
            tokio::time::sleep(Duration::from_millis(way)).await;
        }
    }

    /// Nothing fails any more, and everything that was broken is mended.
    pub(super) fn heal(&self) {
        let mut inner = self.inner();
        inner.illness = Illness { latency_max: inner.illness.latency_max.min(1), ..Illness::default() };
        let skew = inner.outages.skew;
        inner.outages = Outages { skew, ..Outages::default() };
    }

    pub(super) fn break_store(&self, pause: Duration) {
        self.inner().outages.store = Some(Instant::now() + pause);
    }

    pub(super) fn break_brokers(&self, pause: Duration) {
        self.inner().outages.brokers = Some(Instant::now() + pause);
    }

    pub(super) fn break_partition(&self, lane: LaneId, pause: Duration) {
        self.inner().outages.partitions.insert(lane, Instant::now() + pause);
    }

    /// The database's clock, in microseconds since the epoch.
    pub(super) fn database_clock(&self) -> i64 {
        micros(self.began) + self.inner().outages.skew
    }

    /// Moves the database's clock, in milliseconds.
    pub(super) fn move_clock(&self, by: i64) {
        self.inner().outages.skew += by * 1000;
    }

    pub(super) fn store_is_down(&self) -> bool {
        self.inner().outages.store.is_some_and(|until| Instant::now() < until)
    }

    pub(super) fn brokers_are_down(&self) -> bool {
        self.inner().outages.brokers.is_some_and(|until| Instant::now() < until)
    }

    /// When a partition takes records again, if it takes none now.
    pub(super) fn partition_is_down(&self, lane: &LaneId) -> Option<Instant> {
        let inner = self.inner();
        let until = inner.outages.partitions.get(lane).copied().max(inner.outages.brokers);
        until.filter(|until| Instant::now() < *until)
    }

    /// Writes a message to the log and wakes who reads there.
    pub(super) fn append(&self, message: &Message) {
        let mut inner = self.inner();
        let illness = inner.illness.gaps;
        let gap = if inner.dice.permille(illness) { inner.dice.between(1, GAP_MAX) } else { 0 };
        let now_ms = micros(self.began) / 1000;
        let Some(offset) = inner.log.append(message, now_ms, gap) else { return };
        if inner.group.is_home(&message.to.topic) {
            inner.group.wake_readers(&message.to);
        } else if let Some(record) = inner.log.partition(&message.to).and_then(|part| part.from(offset).first()) {
            // Nobody listens once the world has ended.
            let _ended = self.outside.send((message.to.clone(), record.clone()));
        }
        drop(inner);
        self.tell(|| format!("{} gets offset {offset}: {}", message.to, describe(message)));
    }

    /// Whether the brokers lose a message that they acknowledge: one for our own lanes, for nobody keeps the others.
    pub(super) fn loses(&self, to: &LaneId) -> bool {
        let inner = &mut *self.inner();
        let home = inner.group.is_home(&to.topic);
        home && inner.dice.permille(inner.illness.lose)
    }

    /// Keeps a state of the store to go back to, if this world ever does.
    pub(super) fn keep_snapshot(&self) {
        if self.keeps_snapshots && !self.gate {
            let snapshot = self.store.snapshot();
            let inner = &mut *self.inner();
            inner.snapshots.push((Instant::now(), inner.commits.len(), snapshot));
        }
    }

    /// The standby has all that is committed now.
    pub(super) fn replicate(&self) {
        self.store.replicate(true);
        let snapshot = self.store.snapshot();
        let inner = &mut *self.inner();
        inner.snapshots = vec![(Instant::now(), inner.commits.len(), snapshot)];
    }

    /// The store loses the commits of so long; or, where a standby takes over, what that one has not got.
    pub(super) fn fail_over(&self, lost: Duration) {
        let inner = &mut *self.inner();
        let lost = if self.gate { Duration::ZERO } else { lost };
        let Some(earliest) = Instant::now().checked_sub(lost) else { return };
        let at = inner.snapshots.partition_point(|(when, ..)| *when <= earliest);
        self.go_back(inner, at);
    }

    /// The store loses all that was done since a lane's earlier owner had it, if another has committed there. Whether
    /// it has.
    pub(super) fn lose_later_owner(&self, lane: &LaneId, owner: &str) -> bool {
        let inner = &mut *self.inner();
        let Some(now) = self.store.lanes().into_iter().find(|row| row.lane == *lane) else { return false };
        let builds_on = |row: &LaneRow| row.owner == owner && row.fence.batch < now.fence.batch;
        let earlier = |(.., snapshot): &(Instant, usize, Snapshot)| snapshot.lane(lane).is_some_and(builds_on);
        let at = inner.snapshots.iter().rposition(earlier).filter(|_| now.owner != owner);
        if let Some(at) = at {
            self.go_back(inner, at + 1);
        }
        at.is_some()
    }

    /// Goes back to the last of the first so many states.
    fn go_back(&self, inner: &mut Inner, states: usize) {
        let Some((_, commits, snapshot)) = states.checked_sub(1).and_then(|at| inner.snapshots.get(at)) else { return };
        self.store.restore(snapshot.clone());
        inner.commits.truncate(*commits);
        // Which of them are lost as well is nobody's to know.
        inner.orders.clear();
        // The standby is what it is until it has more.
        inner.snapshots.truncate(if self.gate { 1 } else { states });
    }

    /// Another store stands in the place of the first.
    pub(super) fn wipe(&self) {
        self.store.wipe("simulated anew");
        let inner = &mut *self.inner();
        inner.wiped = inner.group.committed_lanes();
    }

    /// Lanes that read again what they had read before the store was made anew, as far as Kafka knew.
    pub(super) fn begun_again(&self) -> Vec<String> {
        let inner = self.inner();
        let rows = self.store.lanes().into_iter();
        let again = rows.filter(|row| inner.wiped.contains(&row.lane) && row.fence.next_offset > 0);
        let again = again.map(|row| format!("wiped: {} is read again, up to {}", row.lane, row.fence.next_offset));
        again.chain(inner.findings.iter().cloned()).collect()
    }

    /// A lane was claimed.
    pub(super) fn note_claim(&self, row: &LaneRow) {
        let (lane, before, next_offset) = (row.lane.clone(), row.fence.clone(), row.fence.next_offset);
        self.inner().commits.push(Committed { lane, before, next_offset, claims: true });
    }

    /// A transaction was made.
    pub(super) fn note_commit(&self, lanes: &[LaneCommit], by: &Process) {
        let made = lanes.iter().map(|commit| Committed {
            lane: commit.lane.clone(),
            before: commit.expected.clone(),
            next_offset: commit.next_offset,
            claims: false,
        });
        self.inner().commits.extend(made);
        self.tell(|| {
            let lanes = lanes.iter().map(|commit| {
                format!("{} batch {} up to {}", commit.lane, commit.expected.batch + 1, commit.next_offset)
            });
            format!("{by} commits {}", lanes.collect::<Vec<_>>().join(", "))
        });
    }
}

/// Microseconds since the epoch in a world that began then.
fn micros(began: Instant) -> i64 {
    BEGINNING + i64::try_from(began.elapsed().as_micros()).unwrap_or(i64::MAX - BEGINNING)
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A message in a few words.
fn describe(message: &Message) -> String {
    let text =
        |bytes: Option<&[u8]>| bytes.map_or_else(String::new, |bytes| String::from_utf8_lossy(bytes).into_owned());
    let header = |name: &str| text(message.headers.get(name));
    let sequence = message.link_sequence.map_or_else(|| header("ce_entityseq"), |number| format!("link {number}"));
    format!("{} {} {sequence} id {}", text(message.key.as_deref()), header("ce_type"), header("ce_id"))
}
