//! The brokers of a simulated world as one process sees them.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::bail;
use async_trait::async_trait;
use tokio::sync::{Notify, mpsc::UnboundedSender};

use super::{process::Process, world::World};
use crate::{
    broker::{Broker, Consumer, Event, Failure, Inbox, Positions, Producer, Purged, Report, SendError, Stopped},
    core::{message::Message, record::LaneId},
};

/// The brokers, from one process.
#[derive(Clone, Debug)]
pub(super) struct FarBrokers {
    pub(super) world: World,
    pub(super) process: Arc<Process>,
    pub(super) retention: Duration,
}

impl FarBrokers {
    /// A question and its answer, if there is one.
    async fn ask<T>(&self, answer: impl FnOnce(&World) -> T) -> anyhow::Result<T> {
        self.process.alive().await;
        self.world.travel().await;
        let silent = self.world.throw(|dice, illness| dice.permille(illness.silent));
        let answer = answer(&self.world);
        self.world.travel().await;
        self.process.alive().await;
        if silent || self.world.brokers_are_down() {
            bail!("the simulated brokers do not answer");
        }
        Ok(answer)
    }
}

#[async_trait]
impl Broker for FarBrokers {
    fn join(&self, _: &[String], events: UnboundedSender<Event>) -> anyhow::Result<Box<dyn Consumer>> {
        let bell = Arc::new(Notify::new());
        let (world, process) = (self.world.clone(), Arc::clone(&self.process));
        let member = world.inner().group.join(Arc::clone(&process), events, Arc::clone(&bell));
        tokio::spawn(deliver(world.clone(), Arc::clone(&process), member, bell));
        tokio::spawn(rebalance_soon(world.clone()));
        Ok(Box::new(FarConsumer { world, process, member }))
    }

    fn producer(&self, reports: UnboundedSender<Report>) -> anyhow::Result<Box<dyn Producer>> {
        let shared = Arc::new(Line {
            world: self.world.clone(),
            process: Arc::clone(&self.process),
            reports,
            broken: AtomicBool::new(false),
            under_way: AtomicUsize::new(0),
            partitions: Mutex::default(),
            drained: Notify::new(),
        });
        Ok(Box::new(FarProducer(shared)))
    }

    async fn partitions(&self, topics: &[String], _: Duration) -> anyhow::Result<BTreeMap<String, Option<i32>>> {
        self.ask(|world| {
            let inner = world.inner();
            topics.iter().map(|topic| (topic.clone(), inner.log.counts().get(topic).copied())).collect()
        })
        .await
    }

    async fn watermarks(&self, lane: &LaneId, _: Duration) -> anyhow::Result<(i64, i64)> {
        self.ask(|world| (0, world.inner().log.partition(lane).map_or(0, super::log::Partition::end))).await
    }

    async fn committed(&self, lanes: &[LaneId], _: Duration) -> anyhow::Result<Vec<(LaneId, Option<(i64, String)>)>> {
        self.ask(|world| {
            let inner = world.inner();
            lanes.iter().map(|lane| (lane.clone(), inner.group.committed(lane))).collect()
        })
        .await
    }

    async fn retention(&self, topics: &[String], _: Duration) -> anyhow::Result<BTreeMap<String, Option<Duration>>> {
        self.ask(|_| topics.iter().map(|topic| (topic.clone(), Some(self.retention))).collect()).await
    }
}

/// The group gives its lanes out anew, a moment after somebody came or went.
pub(super) async fn rebalance_soon(world: World) {
    if !world.inner().group.begin_rebalance() {
        return;
    }
    let pause = world.throw(|dice, _| dice.below(50));
    tokio::time::sleep(Duration::from_millis(pause)).await;
    let inner = &mut *world.inner();
    inner.group.bury_dead();
    let mut dice = super::dice::Dice::new(pause).fork(inner.commits.len() as u64);
    inner.group.rebalance(&inner.log, &mut dice);
}

/// A process stands still. The group misses it after a while, and hears of it again when it goes on.
pub(super) fn stand_still(world: &World, process: &Process, pause: Duration, missed_after: Duration) {
    process.freeze(pause);
    let missing = world.clone();
    tokio::spawn(async move {
        tokio::time::sleep(missed_after).await;
        rebalance_soon(missing).await;
    });
    let back = world.clone();
    tokio::spawn(async move {
        tokio::time::sleep(pause + Duration::from_millis(1)).await;
        back.inner().group.catch_up();
        rebalance_soon(back).await;
    });
}

/// Brings records to a member, some at a time, whenever there may be some.
async fn deliver(world: World, process: Arc<Process>, member: u64, bell: Arc<Notify>) {
    loop {
        bell.notified().await;
        loop {
            process.alive().await;
            world.travel().await;
            process.alive().await;
            let most = world.throw(|dice, _| 1 + dice.index(20));
            let inner = &mut *world.inner();
            if !inner.group.deliver(member, &inner.log, most) {
                break;
            }
        }
    }
}

#[derive(Debug)]
struct FarConsumer {
    world: World,
    process: Arc<Process>,
    member: u64,
}

#[async_trait]
impl Consumer for FarConsumer {
    fn open(&self, lane: LaneId, offset: i64, inbox: Arc<Inbox>) {
        if !self.process.is_dead() {
            self.world.inner().group.open(self.member, lane, offset, inbox);
        }
    }

    fn close(&self, lane: LaneId) {
        self.world.inner().group.close(self.member, &lane);
    }

    fn commit(&self, offsets: Vec<(LaneId, i64)>, metadata: String) {
        if !self.process.is_dead() && !self.world.brokers_are_down() {
            self.world.inner().group.commit(offsets, &metadata);
        }
    }

    fn positions(&self) -> BTreeMap<LaneId, Positions> {
        BTreeMap::new()
    }

    fn last_poll(&self) -> Duration {
        Duration::ZERO
    }

    async fn stop(self: Box<Self>, _: Duration) -> Stopped {
        self.process.alive().await;
        self.world.inner().group.leave(self.member);
        tokio::spawn(rebalance_soon(self.world.clone()));
        Stopped::Closed
    }
}

/// How a producer stands with a partition.
#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<(Message, u64)>,
    /// A message was acknowledged: more than one may be under way.
    opened: bool,
}

/// What a producer and its senders share.
#[derive(Debug)]
struct Line {
    world: World,
    process: Arc<Process>,
    reports: UnboundedSender<Report>,
    /// A message has failed, or the owner has given up: what is not written yet is not written any more.
    broken: AtomicBool,
    /// Messages without a report.
    under_way: AtomicUsize,
    partitions: Mutex<BTreeMap<LaneId, Queue>>,
    drained: Notify,
}

#[derive(Debug)]
struct FarProducer(Arc<Line>);

/// Messages that a producer takes before it wants to hear of some.
const UNDER_WAY_MAX: usize = 50;

#[async_trait]
impl Producer for FarProducer {
    fn send(&self, message: &Message, tag: u64) -> Result<(), SendError> {
        let line = &self.0;
        if line.process.is_dead() {
            // What is left of it runs on in memory, and reaches nobody.
            return Err(SendError::Full);
        }
        if line.broken.load(Ordering::SeqCst) {
            return Err(SendError::Fatal("a message has failed".to_owned()));
        }
        if line.under_way.load(Ordering::SeqCst) >= UNDER_WAY_MAX {
            return Err(SendError::Full);
        }
        let mut partitions = line.partitions();
        let queue = partitions.entry(message.to.clone()).or_default();
        if !queue.opened && !queue.waiting.is_empty() {
            return Err(SendError::Opening);
        }
        line.under_way.fetch_add(1, Ordering::SeqCst);
        queue.waiting.push_back((message.clone(), tag));
        if queue.waiting.len() == 1 {
            tokio::spawn(write(Arc::clone(line), message.to.clone()));
        }
        Ok(())
    }

    async fn purge(self: Box<Self>, _: Duration) -> Purged {
        self.0.broken.store(true, Ordering::SeqCst);
        while self.0.under_way.load(Ordering::SeqCst) > 0 {
            self.0.drained.notified().await;
        }
        Purged::Drained
    }
}

/// Writes what waits for a partition, in order. After one that was not written none is.
async fn write(line: Arc<Line>, to: LaneId) {
    let mut whole = true;
    let mut next = line.first(&to);
    while let Some((message, tag)) = next {
        line.world.travel().await;
        while let Some(until) = line.world.partition_is_down(&to).filter(|_| !line.broken.load(Ordering::SeqCst)) {
            tokio::time::sleep_until(until).await;
        }
        let fails = line.world.throw(|dice, illness| dice.permille(illness.produce));
        let ends = fails || line.process.is_dead() || line.broken.load(Ordering::SeqCst);
        // What fails, or is under way when its sender ends, was written or was not.
        whole &= !ends || line.world.throw(|dice, _| dice.one_in(2));
        if whole && !ends && line.world.loses(&to) {
            line.world.count("acknowledged message lost");
        } else if whole {
            line.world.append(&message);
        }
        if fails {
            line.world.count("message failed");
            line.broken.store(true, Ordering::SeqCst);
        }
        line.world.travel().await;
        let acknowledged = whole && !ends;
        line.report(tag, acknowledged).await;
        next = line.done(&to, acknowledged);
    }
}

impl Line {
    fn partitions(&self) -> MutexGuard<'_, BTreeMap<LaneId, Queue>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be written to a partition first.
    fn first(&self, to: &LaneId) -> Option<(Message, u64)> {
        self.partitions().get(to)?.waiting.front().cloned()
    }

    /// The first message of a partition has its report; what comes after it.
    fn done(&self, to: &LaneId, acknowledged: bool) -> Option<(Message, u64)> {
        let mut partitions = self.partitions();
        let queue = partitions.get_mut(to)?;
        queue.waiting.pop_front();
        queue.opened |= acknowledged;
        queue.waiting.front().cloned()
    }

    async fn report(&self, tag: u64, acknowledged: bool) {
        self.process.alive().await;
        let failure = || Failure { fatal: true, error: "the simulated brokers have not taken it".to_owned() };
        let result = if acknowledged { Ok(()) } else { Err(failure()) };
        // A process that has ended hears nothing.
        let _ended = self.reports.send(Report { tag, result });
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        self.drained.notify_one();
    }
}
