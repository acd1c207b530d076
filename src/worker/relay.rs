//! Sends what was committed: by hand-over in memory, within a bound; beyond it, and after every claim, from
//! the table. Nothing after a failed message of a link may land before it: on failure the producer is purged,
//! its reports are drained, and a new one goes on from the first message that is not acknowledged.
//!
//! How far the broker has acknowledged is written to the lane's row with its next transaction.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::Instant,
};

use super::{
    gate::Gate,
    link::{Flight, Outgoing},
    resend::{ASKS_MAX, Ends},
    slot::Shown,
    writer::Shared,
};
use crate::{
    broker::{Producer, Report},
    core::{
        fence::Position,
        lane::Lane,
        ledger::{OUTBOX, Outbox},
        message::Message,
        record::LaneId,
        table::{Value, Want},
    },
    store::{Error, Session},
};

/// What the writers and the router tell the relay.
#[derive(Debug)]
enum Order {
    /// Openings are numbered as the router makes them; writers tell of them as they come to it.
    /// It was claimed on this timeline.
    Open(u64, LaneId, Position, Arc<Shown>, i64),
    /// Messages of a batch that was committed on this timeline.
    Hand(LaneId, Arc<Shown>, Vec<Message>, i64),
    /// Messages up to here are committed, and were too many to be handed over.
    Leave(LaneId, Arc<Shown>, Position),
    Close(LaneId, Arc<Shown>),
    /// Answer when all that was handed over is acknowledged, then end.
    Finish(oneshot::Sender<()>),
}

/// The relay, from the outside.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    orders: mpsc::UnboundedSender<Order>,
    /// Bytes handed over and not yet taken, of all lanes: while the relay waits for a broker or for its producer
    /// to end, what is committed is left to the table.
    handed: Arc<AtomicUsize>,
    handed_max: usize,
}

impl Handle {
    /// A lane was claimed: what its table still holds goes first.
    pub(super) fn open(&self, opening: u64, lane: &Lane, shown: &Arc<Shown>) {
        let timeline = lane.fence().timeline;
        self.send(Order::Open(opening, lane.id().clone(), lane.relayed(), Arc::clone(shown), timeline));
    }

    /// A lane's batch is durable. `shown` says in which opening of the lane, `timeline` on which timeline of the store.
    pub(super) fn hand(&self, lane: &LaneId, shown: &Arc<Shown>, messages: Vec<Message>, timeline: i64) {
        let Some(last) = messages.last().map(|message| message.position) else { return };
        let bytes = bytes_of(&messages);
        if self.handed.fetch_add(bytes, Ordering::AcqRel) > self.handed_max {
            self.handed.fetch_sub(bytes, Ordering::AcqRel);
            return self.send(Order::Leave(lane.clone(), Arc::clone(shown), last));
        }
        self.send(Order::Hand(lane.clone(), Arc::clone(shown), messages, timeline));
    }

    /// This opening of the lane has ended: nothing more of it is sent.
    pub(super) fn close(&self, lane: &LaneId, shown: &Arc<Shown>) {
        self.send(Order::Close(lane.clone(), Arc::clone(shown)));
    }

    /// Waits until all that was handed over is acknowledged.
    pub(super) async fn finish(&self) {
        let (done, finished) = oneshot::channel();
        self.send(Order::Finish(done));
        // An error means that the relay has ended already.
        let _ended = finished.await;
    }

    fn send(&self, order: Order) {
        // The relay is gone only when the process ends.
        let _gone = self.orders.send(order);
    }
}

fn bytes_of(messages: &[Message]) -> usize {
    messages.iter().map(Message::bytes).sum()
}

pub(super) struct Relay {
    pub(super) shared: Shared,
    pub(super) session: Box<dyn Session>,
    pub(super) producer: Option<Box<dyn Producer>>,
    pub(super) reports: mpsc::UnboundedReceiver<Report>,
    reporting: mpsc::UnboundedSender<Report>,
    orders: mpsc::UnboundedReceiver<Order>,
    pub(super) lanes: BTreeMap<LaneId, (u64, Outgoing)>,
    pub(super) flights: BTreeMap<u64, Flight>,
    pub(super) next_tag: u64,
    handed: Arc<AtomicUsize>,
    failures: u32,
    finishing: Option<oneshot::Sender<()>>,
    /// A message was not acknowledged: nothing more goes through this producer.
    broken: bool,
    /// Partitions that did not take a message, until they take one: not before this are they tried again, each
    /// time later, one message at a time and with a producer of their own, so that they do not stop the others.
    pub(super) refusing: BTreeMap<LaneId, (Instant, Duration)>,
    pub(super) prober: Option<Box<dyn Producer>>,
    /// A message was refused again: nothing more goes through this prober.
    pub(super) prober_broken: bool,
    /// When the lanes' links are looked at again, and those that are left of this round.
    pub(super) look_at: Instant,
    pub(super) to_look: Vec<LaneId>,
    pub(super) ends: mpsc::UnboundedReceiver<Ends>,
    pub(super) answering: mpsc::UnboundedSender<Ends>,
    pub(super) asks: Arc<Semaphore>,
    pub(super) gate: Option<Gate>,
}

/// How long reports of a purged producer are waited for.
pub(super) const PURGE_DEADLINE: Duration = Duration::from_secs(10);
/// A wait is never longer: blocked links are tried again.
const WAIT_MAX: Duration = Duration::from_millis(200);

/// Starts the relay on a task of its own. The task ends with an error that ends the process.
pub(super) async fn start(shared: Shared) -> anyhow::Result<(Handle, tokio::task::JoinHandle<Result<(), String>>)> {
    let session = shared.store.session().await?;
    let (handle, mut relay) = Relay::new(shared, session);
    relay.producer = Some(relay.new_producer().map_err(anyhow::Error::msg)?);
    Ok((handle, tokio::spawn(relay.run())))
}

impl Relay {
    pub(super) fn new(shared: Shared, session: Box<dyn Session>) -> (Handle, Self) {
        let (orders, received) = mpsc::unbounded_channel();
        let (reporting, reports) = mpsc::unbounded_channel();
        let (answering, ends) = mpsc::unbounded_channel();
        let settings = &shared.settings;
        let gate = settings.gate.clone().map(|standby| Gate::new(standby, settings.gate_poll, &*session));
        let (handed, handed_max) = (Arc::new(AtomicUsize::new(0)), shared.settings.queue_bytes_max);
        let relay = Self {
            shared,
            session,
            producer: None,
            reports,
            reporting,
            orders: received,
            lanes: BTreeMap::new(),
            flights: BTreeMap::new(),
            next_tag: 0,
            handed: Arc::clone(&handed),
            failures: 0,
            finishing: None,
            broken: false,
            refusing: BTreeMap::new(),
            prober: None,
            prober_broken: false,
            look_at: Instant::now(),
            to_look: Vec::new(),
            ends,
            answering,
            asks: Arc::new(Semaphore::new(ASKS_MAX)),
            gate,
        };
        (Handle { orders, handed, handed_max }, relay)
    }

    async fn run(mut self) -> Result<(), String> {
        loop {
            self.hear();
            while let Ok(report) = self.reports.try_recv() {
                self.take_report(report);
            }
            if self.broken {
                self.restart().await?;
            }
            if self.prober_broken {
                self.replace_prober().await;
            }
            let read = self.read_tables().await? | self.look_for_losses().await?;
            self.look_at_standby().await?;
            let sent = match self.send_all() {
                Ok(sent) => sent,
                Err(error) => {
                    tracing::error!(error = %error, "the producer has stopped; a new one goes on");
                    self.restart().await?;
                    true
                }
            };
            self.show();
            if self.finishing.is_some() && self.lanes.values().all(|(_, outgoing)| outgoing.is_done()) {
                if let Some(done) = self.finishing.take() {
                    // The router may have given up waiting.
                    let _late = done.send(());
                }
                return Ok(());
            }
            if !read && !sent && !self.wait().await {
                return Ok(());
            }
        }
    }

    /// Takes the orders that have come.
    pub(super) fn hear(&mut self) {
        while let Ok(order) = self.orders.try_recv() {
            self.obey(order);
        }
    }

    /// Waits for an order, a report, or a moment. False: everybody else is gone.
    async fn wait(&mut self) -> bool {
        let pause = self.gate.as_ref().and_then(Gate::pause).unwrap_or(WAIT_MAX).min(WAIT_MAX);
        tokio::select! {
            biased;
            order = self.orders.recv() => match order {
                Some(order) => {
                    self.obey(order);
                    true
                }
                None => false,
            },
            report = self.reports.recv() => {
                report.into_iter().for_each(|report| self.take_report(report));
                true
            }
            () = tokio::time::sleep(pause) => true,
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Open(opening, lane, relayed, shown, timeline) => {
                // A writer that was busy tells of an opening that has long ended, and then of its end.
                if self.lanes.get(&lane).is_none_or(|(known, _)| *known < opening) {
                    let outgoing = Outgoing::new(relayed, shown, timeline, self.gate.is_some());
                    self.lanes.insert(lane, (opening, outgoing));
                }
            }
            // Another writer may have opened the lane meanwhile: what an earlier opening has committed was in the
            // table before that, and its end is not the end of the later one.
            Order::Leave(lane, shown, last) => {
                let outgoing = self.lanes.get_mut(&lane).map(|(_, outgoing)| outgoing);
                if let Some(outgoing) = outgoing.filter(|outgoing| Arc::ptr_eq(&outgoing.shown, &shown)) {
                    outgoing.leave(last);
                }
            }
            Order::Hand(lane, shown, messages, timeline) => {
                let trusted = self.trusts(timeline);
                self.handed.fetch_sub(bytes_of(&messages), Ordering::AcqRel);
                let outgoing = self.lanes.get_mut(&lane).map(|(_, outgoing)| outgoing);
                if let Some(outgoing) = outgoing.filter(|outgoing| Arc::ptr_eq(&outgoing.shown, &shown)) {
                    match messages.last().map(|message| message.position) {
                        Some(last) if !trusted => outgoing.leave(last),
                        _ => outgoing.hand(messages, self.shared.settings.queue_bytes_max),
                    }
                }
            }
            Order::Close(lane, shown) => {
                if self.lanes.get(&lane).is_some_and(|(_, outgoing)| Arc::ptr_eq(&outgoing.shown, &shown)) {
                    self.lanes.remove(&lane);
                }
            }
            Order::Finish(done) => self.finishing = Some(done),
        }
    }

    pub(super) fn take_report(&mut self, report: Report) {
        let Some(flight) = self.flights.remove(&report.tag) else { return };
        let (lane, to) = &*flight.route;
        let outgoing = self.lanes.get_mut(lane).filter(|(opening, _)| *opening == flight.opening);
        if let Some((_, outgoing)) = outgoing {
            outgoing.land(to, flight.bytes, flight.probe.then_some((flight.position, report.result.is_ok())));
            if report.result.is_ok() {
                outgoing.acknowledge(flight.position);
            }
        }
        match report.result {
            Ok(()) => {
                self.failures = 0;
                self.refusing.remove(to);
                self.shared.metrics.relay_acknowledged(&to.topic, 1);
            }
            Err(failure) => {
                // The first one tells where it fails; those after it go down with the producer.
                let broken = if flight.probe { &mut self.prober_broken } else { &mut self.broken };
                if !std::mem::replace(broken, true) {
                    tracing::warn!(to = %to, error = %failure.error, "a message was not acknowledged");
                    self.refuse(to.clone());
                }
            }
        }
    }

    /// Purges the producer, drains its reports, and begins again from the first unacknowledged of every lane.
    async fn restart(&mut self) -> Result<(), String> {
        if let Some(producer) = self.producer.take() {
            producer.purge(PURGE_DEADLINE).await;
        }
        while let Ok(report) = self.reports.try_recv() {
            self.take_report(report);
        }
        self.broken = false;
        // Reports that did not come in time are lost with the client; their tags are never used again.
        self.flights.retain(|_, flight| flight.probe);
        for (_, outgoing) in self.lanes.values_mut() {
            outgoing.restart();
        }
        let settings = &self.shared.settings;
        let pause = settings.relay_retry_min.saturating_mul(1 << self.failures.min(12)).min(settings.relay_retry_max);
        self.failures = self.failures.saturating_add(1);
        tokio::time::sleep(self.shared.chance.jittered(pause)).await;
        self.producer = Some(self.new_producer()?);
        Ok(())
    }

    /// A producer that reports here.
    pub(super) fn new_producer(&self) -> Result<Box<dyn Producer>, String> {
        let made = self.shared.broker.producer(self.reporting.clone());
        made.map_err(|error| format!("making a new producer: {error:#}"))
    }

    /// Reads the next page of every lane that is behind and has room. Whether there was anything new in them: if
    /// not, a lane that misses something asks again after a moment, not at once.
    async fn read_tables(&mut self) -> Result<bool, String> {
        let bytes_max = self.shared.settings.queue_bytes_max;
        let mut news = false;
        let behind = self.lanes.iter().filter(|(_, (_, outgoing))| outgoing.behind && outgoing.has_room(bytes_max));
        let behind: Vec<(LaneId, Position)> =
            behind.map(|(id, (_, outgoing))| (id.clone(), outgoing.read_after())).collect();
        for (id, after) in &behind {
            let prefix = vec![Value::text(&id.topic), Value::Int(id.partition.into())];
            let mut from = prefix.clone();
            from.extend([Value::Int(after.batch), Value::Int(after.index)]);
            let limit = self.shared.settings.page_rows;
            let want = Want::Scan { prefix, after: Some(from), limit };
            let rows = match self.session.load(&[(&OUTBOX, want)]).await {
                Ok(mut rows) => rows.pop().unwrap_or_default(),
                Err(Error::Stop(error)) => return Err(error),
                Err(error) => {
                    tracing::warn!(error = %error, "the outbox cannot be read; trying again");
                    tokio::time::sleep(self.shared.backoff(1)).await;
                    continue;
                }
            };
            if self.is_overtaken(id) {
                // What this opening has sent may not have been. Whoever claims the lane there sends all of it.
                self.lanes.remove(id);
                continue;
            }
            let whole = rows.len() < limit;
            let messages = rows.iter().filter_map(|row| Outbox::read(row)).map(Message::from_row).collect();
            if let Some((_, outgoing)) = self.lanes.get_mut(id) {
                news |= outgoing.read(messages, whole);
            }
        }
        Ok(news)
    }

    fn show(&self) {
        let bytes =
            self.lanes.values().flat_map(|(_, outgoing)| outgoing.links.values()).map(|link| link.bytes_in_flight);
        self.shared.metrics.relay_in_flight(bytes.sum());
        let oldest = self.lanes.values().map(|(_, outgoing)| outgoing.oldest()).max();
        self.shared.metrics.relay_oldest_unsent(oldest.unwrap_or_default());
        let waited = self.gate.as_ref().map(Gate::waited);
        self.shared.metrics.relay_gate_wait(waited.unwrap_or_default());
        self.shared.health.gate_waits(waited);
    }
}

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;
