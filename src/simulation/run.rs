//! Runs one world: the whole worker, several times over, on one thread whose time is a number.
//!
//! The runtime's clock stands still while anything can go on and jumps to the next timer when nothing can, so a world
//! of seconds takes milliseconds, and the same plan runs the same way every time.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc, watch},
    time::Instant,
};

use super::{
    Outcome, Scenario, brokers,
    brokers::FarBrokers,
    dice::Dice,
    evidence::Evidence,
    fork, judge, operator,
    plan::{Blow, Plan},
    process::Process,
    settings,
    store::FarStore,
    world::World,
};
use crate::{
    admin::Health,
    config::Config,
    core::{catalog::Catalog, record::LaneId},
    telemetry::Metrics,
    worker::{self, Chance, Environment},
};

/// For so long a healed world may take until everything is at rest.
const DRAIN_MAX: Duration = Duration::from_secs(120);
/// When a healed world in which sent messages were lost is asked whether that is why it does not come to rest.
const FORK_LOOK: Duration = Duration::from_secs(6);
/// So long lanes have for beginning again in a store that was made anew, which they must not.
const WIPED_LOOK: Duration = Duration::from_secs(1);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(50);
/// A process that has ended starts again after so many milliseconds at most.
const RESTART_MAX: u64 = 100;
/// A process that has died is missed by the group after so many milliseconds at most.
const MISSED_MAX: u64 = 400;

/// What the driver and the processes share.
struct Stage {
    world: World,
    config: Config,
    catalog: Catalog,
    metrics: Metrics,
    dice: std::sync::Mutex<Dice>,
    slots: std::sync::Mutex<Vec<Slot>>,
    started: AtomicUsize,
    over: AtomicBool,
}

/// A place in which processes follow one another.
#[derive(Clone)]
struct Slot {
    process: Arc<Process>,
    killed: Arc<Notify>,
    stop: watch::Sender<bool>,
    /// It is not started again.
    last: bool,
}

/// Runs a world to its end and judges it.
pub(super) fn run(scenario: &dyn Scenario, plan: &Plan, metrics: &Metrics, traced: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without threads and sockets needs nothing");
    let played = panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(play(scenario, plan, metrics, traced))));
    played
        .unwrap_or_else(|_| Outcome { findings: vec!["the simulation has panicked".to_owned()], ..Outcome::default() })
}

async fn play(scenario: &dyn Scenario, plan: &Plan, metrics: &Metrics, traced: bool) -> Outcome {
    let catalog = scenario.catalog();
    let counts = catalog.all_topics().map(|topic| (topic, plan.partitions)).collect();
    let home = catalog.home_topics().map(str::to_owned).collect();
    let (outside, heard) = mpsc::unbounded_channel();
    let world = World::new(plan, counts, home, outside, traced);
    let dice = Dice::new(plan.seed);
    let stage = Arc::new(Stage {
        config: settings::config(scenario, plan),
        world: world.clone(),
        catalog,
        metrics: metrics.clone(),
        dice: std::sync::Mutex::new(dice.fork(3)),
        slots: std::sync::Mutex::default(),
        started: AtomicUsize::new(0),
        over: AtomicBool::new(false),
    });
    let pending = Arc::new(AtomicUsize::new(0));
    tokio::spawn(answer(
        world.clone(),
        scenario.outsider(plan.seed, plan.partitions),
        heard,
        Arc::clone(&pending),
        dice.fork(4),
    ));
    if plan.gate {
        tokio::spawn(replicate(world.clone(), dice.fork(6)));
    }
    for _ in 0..plan.workers {
        stage.start(false);
    }
    let sending = tokio::spawn(send(world.clone(), plan.traffic.clone()));
    for strike in &plan.strikes {
        tokio::time::sleep_until(world.began + strike.at).await;
        world.tell(|| format!("STRIKE {:?}", strike.what));
        world.count(strike.what.name());
        stage.strike(strike.what);
    }
    // A task that only sleeps and writes does not fail.
    let _sent = sending.await;
    stage.heal();
    if plan.wipes() {
        return after_wipe(&world).await;
    }
    let rest = drain(plan, &world, &pending).await;
    stage.over.store(true, Ordering::SeqCst);
    let evidence = Evidence::take(plan, &world);
    let mut findings = std::mem::take(&mut world.inner().findings);
    // What lost commits leave behind depends on who believed what was sent of them. It must be seen, and that is all.
    let forked = if plan.loses_what_was_sent() { fork::forked(&evidence) } else { None };
    match &forked {
        Some(fork) => {
            world.count(fork.name());
            findings.extend(fork.unnoticed(rest.is_none()));
        }
        None => findings.extend(rest),
    }
    findings.extend(fork::renamed(&evidence));
    if findings.is_empty() && forked.is_none() {
        findings.extend(judge::judge(&evidence));
        findings.extend(scenario.judge(&evidence));
    }
    let records = evidence.log.values().map(Vec::len).sum();
    let counts = world.inner().counts.clone();
    Outcome { findings, records, took: world.began.elapsed(), counts, trace: world.take_trace() }
}

/// Nothing will be at rest: lanes stand still until somebody brings the first store back.
async fn after_wipe(world: &World) -> Outcome {
    tokio::time::sleep(WIPED_LOOK).await;
    let findings = world.begun_again();
    let trace = world.take_trace();
    let inner = world.inner();
    let records = inner.log.partitions().map(|(_, partition)| partition.records().len()).sum();
    Outcome { findings, records, took: world.began.elapsed(), counts: inner.counts.clone(), trace }
}

/// A standby that follows, somewhat late.
async fn replicate(world: World, mut dice: Dice) {
    loop {
        world.replicate();
        tokio::time::sleep(Duration::from_millis(1 + dice.below(40))).await;
    }
}

/// Producers.
async fn send(world: World, mut traffic: Vec<(Duration, crate::core::message::Message)>) {
    traffic.sort_by_key(|(at, _)| *at);
    for (at, message) in traffic {
        tokio::time::sleep_until(world.began + at).await;
        world.append(&message);
    }
}

/// Whoever answers what leaves the worker.
async fn answer(
    world: World,
    mut outsider: Box<dyn super::Outsider>,
    mut heard: mpsc::UnboundedReceiver<(LaneId, crate::core::record::Record)>,
    pending: Arc<AtomicUsize>,
    mut dice: Dice,
) {
    while let Some((lane, record)) = heard.recv().await {
        for (pause, message) in outsider.hear(&lane, &record, &mut dice) {
            let (world, pending) = (world.clone(), Arc::clone(&pending));
            pending.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                world.append(&message);
                pending.fetch_sub(1, Ordering::SeqCst);
            });
        }
    }
}

/// Waits until everything is at rest. What is not, if it takes too long.
async fn drain(plan: &Plan, world: &World, pending: &AtomicUsize) -> Option<String> {
    let (until, mut before) = (Instant::now() + DRAIN_MAX, usize::MAX);
    // Who meets a fork stands still for good: once that is known, nothing is learnt by waiting.
    let mut look_for_fork = plan.loses_what_was_sent().then(|| Instant::now() + FORK_LOOK);
    loop {
        tokio::time::sleep(LOOK).await;
        let commits = world.inner().commits.len();
        let busy = if pending.load(Ordering::SeqCst) > 0 {
            Some("answers are on their way".to_owned())
        } else {
            judge::unrest(world)
        };
        if busy.is_none() && commits == before {
            return None;
        }
        before = commits;
        if look_for_fork.is_some_and(|at| Instant::now() > at) {
            look_for_fork = None;
            if let Some(fork::Fork::Inside(fork)) = fork::forked(&Evidence::gather(plan, world)) {
                return Some(format!("liveness: {fork} has forked"));
            }
        }
        if Instant::now() > until {
            let what = busy.unwrap_or_else(|| "the lanes commit on and on".to_owned());
            return Some(format!("liveness: not at rest {} s after all was well: {what}", DRAIN_MAX.as_secs()));
        }
    }
}

impl Stage {
    fn below(&self, bound: u64) -> u64 {
        self.dice.lock().unwrap_or_else(std::sync::PoisonError::into_inner).below(bound)
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Starts a process in a slot of its own; another follows whenever one ends.
    fn start(self: &Arc<Self>, last: bool) {
        let at = {
            let mut slots = self.slots();
            slots.push(self.new_slot(last));
            slots.len() - 1
        };
        tokio::spawn(supervise(Arc::clone(self), at));
    }

    fn new_slot(&self, last: bool) -> Slot {
        let number = self.started.fetch_add(1, Ordering::SeqCst) + 1;
        let process = Arc::new(Process::new(number));
        Slot { process, killed: Arc::new(Notify::new()), stop: watch::channel(false).0, last }
    }

    /// The slot that a number means; none if nobody runs.
    fn slot(&self, number: usize) -> Option<Slot> {
        let slots = self.slots();
        let running: Vec<&Slot> = slots.iter().filter(|slot| !slot.process.is_dead()).collect();
        (!running.is_empty()).then(|| running[number % running.len()].clone())
    }

    fn lane(&self, number: usize, home: bool) -> Option<LaneId> {
        let inner = self.world.inner();
        let lanes = inner.log.partitions().map(|(lane, _)| lane);
        let lanes: Vec<&LaneId> = lanes.filter(|lane| !home || inner.group.is_home(&lane.topic)).collect();
        (!lanes.is_empty()).then(|| lanes[number % lanes.len()].clone())
    }

    fn strike(self: &Arc<Self>, blow: Blow) {
        let millis = Duration::from_millis;
        match blow {
            Blow::Kill(who) => {
                let Some(slot) = self.slot(who) else { return };
                slot.process.die();
                slot.killed.notify_one();
                self.missed();
            }
            Blow::Terminate(who) => {
                let Some(slot) = self.slot(who) else { return };
                slot.stop.send_replace(true);
            }
            Blow::Freeze(who, pause) => {
                let Some(slot) = self.slot(who) else { return };
                brokers::stand_still(&self.world, &slot.process, millis(pause), millis(self.below(MISSED_MAX)));
            }
            Blow::CutOff(who, pause) => {
                let Some(slot) = self.slot(who) else { return };
                slot.process.cut_off(Some(millis(pause)));
            }
            Blow::Overtaken(who) => {
                let Some(slot) = self.slot(who) else { return };
                slot.process.set_overtaken(true);
            }
            Blow::Visitor(stay) => {
                self.start(true);
                let slot = self.slots().last().cloned();
                tokio::spawn(async move {
                    tokio::time::sleep(millis(stay)).await;
                    slot.map(|slot| slot.stop.send_replace(true))
                });
            }
            Blow::Rebalance => drop(tokio::spawn(brokers::rebalance_soon(self.world.clone()))),
            Blow::SplitBrain(lane) => {
                if let Some(lane) = self.lane(lane, true) {
                    self.world.inner().group.split_brain(&lane);
                }
            }
            Blow::StoreDown(pause) => self.world.break_store(millis(pause)),
            Blow::BrokersDown(pause) => self.world.break_brokers(millis(pause)),
            Blow::Leaderless(lane, pause) => {
                if let Some(lane) = self.lane(lane, false) {
                    self.world.break_partition(lane, millis(pause));
                }
            }
            Blow::ClockJump(by) => self.world.move_clock(by),
            Blow::Failover(lost) => self.world.fail_over(millis(lost)),
            Blow::Wipe => self.world.wipe(),
            Blow::Order(number) => drop(tokio::spawn(operator::order(self.world.clone(), number))),
        }
    }

    /// The group misses a member after a while.
    fn missed(&self) {
        let pause = Duration::from_millis(self.below(MISSED_MAX));
        let world = self.world.clone();
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            brokers::rebalance_soon(world).await;
        });
    }

    /// Nothing strikes any more: what stands still goes on, what is broken is whole.
    fn heal(&self) {
        self.world.tell(|| "all is well from here on".to_owned());
        self.world.heal();
        self.slots().iter().for_each(|slot| slot.process.thaw());
        self.world.inner().group.catch_up();
        tokio::spawn(brokers::rebalance_soon(self.world.clone()));
    }
}

/// Runs one process after another in a slot.
async fn supervise(stage: Arc<Stage>, at: usize) {
    loop {
        let slot = stage.slots()[at].clone();
        let (process, world) = (Arc::clone(&slot.process), stage.world.clone());
        let dice = std::sync::Mutex::new(Dice::new(stage.below(u64::MAX)));
        let throw = move || {
            let mut dice = dice.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            (u128::from(dice.throw()) << 64) | u128::from(dice.throw())
        };
        let environment = Environment {
            metrics: stage.metrics.clone(),
            owner: process.name.clone(),
            chance: Chance::new(throw),
            store: Arc::new(FarStore { world: world.clone(), process: Arc::clone(&process) }),
            health: Arc::new(Health::new(DRAIN_MAX)),
        };
        let retention = stage.config.dedupe.window;
        let brokers = Arc::new(FarBrokers { world: world.clone(), process: Arc::clone(&process), retention });
        let mut stop = slot.stop.subscribe();
        let shutdown = async move {
            // The sender lives as long as the slot.
            let _gone = stop.wait_for(|stop| *stop).await;
        };
        let running = worker::run_on(brokers, &stage.config, stage.catalog.clone(), environment, shutdown);
        let running = Box::pin(running);
        tokio::select! {
            biased;
            () = slot.killed.notified() => world.tell(|| format!("{process} is dead")),
            ended = running => {
                world.tell(|| match &ended {
                    Ok(()) => format!("{process} has ended"),
                    Err(error) => format!("{process} has ended: {error:#}"),
                });
                process.die();
                if let Err(error) = ended
                    && !format!("{error:#}").contains("simulated")
                {
                    world.find(format!("process: {process} has ended by itself: {error:#}"));
                }
                stage.missed();
            }
        }
        if slot.last || stage.over.load(Ordering::SeqCst) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(stage.below(RESTART_MAX))).await;
        let next = stage.new_slot(false);
        stage.slots()[at] = next;
    }
}
