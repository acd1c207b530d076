//! A task that serves several lanes over one connection: gathers what has come in, decides, commits all of it
//! in one transaction, hands the messages to the relay. Lanes never share a row, so writers never wait for
//! each other.
//!
//! No store call stands under `select!` or a timeout: a call that was begun is finished.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::Instant,
};

use super::{
    ahead::Away,
    chance::Chance,
    clock::Clock,
    gather::Work,
    relay,
    settings::Settings,
    slot::{End, Slot},
};
use crate::{
    admin::Health,
    broker::Broker,
    core::{catalog::Catalog, lane::Input, limits::Limits, record::LaneId},
    store::{Error, Session, Store},
    telemetry::Metrics,
};

/// What all tasks of a worker share.
#[derive(Clone)]
pub struct Shared {
    pub(super) store: Arc<dyn Store>,
    pub(super) broker: Arc<dyn Broker>,
    pub(super) chance: Chance,
    pub(super) catalog: Arc<Catalog>,
    pub(super) limits: Arc<Limits>,
    pub(super) settings: Arc<Settings>,
    pub(super) metrics: Metrics,
    pub(super) health: Arc<Health>,
}

/// What the router tells a writer.
#[derive(Debug)]
pub(super) enum Order {
    /// Serve this lane.
    Open(Box<Slot>),
    /// Serve it no more.
    Close(LaneId),
    /// The end of its partition, as it was asked for; nothing, if the brokers did not tell.
    End(LaneId, Option<End>),
    /// Finish what is under way and end.
    Stop(Ending),
}

/// How a writer ends: what it has committed goes out first, so that the marks it leaves behind are the last ones.
#[derive(Debug)]
pub(super) struct Ending {
    /// Told once nothing is committed any more.
    pub(super) finished: oneshot::Sender<()>,
    /// Ends when all is sent, or there is no more time for it.
    pub(super) sent: oneshot::Receiver<()>,
}

/// What a writer tells the router.
#[derive(Debug)]
pub(super) enum Report {
    /// The end of this lane's partition is wanted; with the database's clock now.
    AskEnd(LaneId, i64),
    /// The lane was lost, in the opening that the slot came with. `at_once`: nobody else has it, its row went
    /// back in time or is to be read anew.
    Lost { lane: LaneId, opening: u64, at_once: bool },
    /// The process must end.
    Fatal(String),
}

/// A writer, from the outside.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    pub(super) orders: mpsc::UnboundedSender<Order>,
    /// Woken by the inboxes of its lanes.
    pub(super) waker: Arc<Notify>,
}

/// A writer.
pub(super) struct Writer {
    pub(super) shared: Shared,
    pub(super) session: Box<dyn Session>,
    pub(super) clock: Clock,
    pub(super) slots: BTreeMap<LaneId, Slot>,
    /// Those of the slots that are out while a batch is being committed.
    pub(super) away: Option<Away>,
    pub(super) relay: relay::Handle,
    reports: mpsc::UnboundedSender<Report>,
    orders: mpsc::UnboundedReceiver<Order>,
    waker: Arc<Notify>,
    pub(super) stopping: bool,
    ending: Option<Ending>,
    pub(super) commands_at: Instant,
    statements: u64,
    /// Failed calls in a row, outside of transactions.
    pub(super) failures: usize,
}

/// What a round was about.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    /// There is more, or as much came as fits well into a batch.
    Full,
    /// A few records, and that was all there was.
    Small,
    /// Nothing.
    Idle,
}

/// A batch with less than this part of what it may take is small: it costs nearly as much as a big one.
const SMALL: usize = 10;

/// A wait is never longer: what has no event of its own is looked at this often.
const WAIT_MAX: Duration = Duration::from_millis(500);

impl Writer {
    /// Starts a writer on a task of its own; it ends after [`Order::Stop`].
    pub(super) async fn start(
        shared: Shared,
        relay: relay::Handle,
        reports: mpsc::UnboundedSender<Report>,
    ) -> Result<(Handle, tokio::task::JoinHandle<()>), Error> {
        let (handle, writer) = Self::new(shared, relay, reports).await?;
        let dying = writer.reports.clone();
        let watched = async move {
            // A panic must not leave lanes behind that nobody serves and everybody takes for served.
            if tokio::spawn(writer.run()).await.is_err() {
                let _gone = dying.send(Report::Fatal("a writer has panicked".to_owned()));
            }
        };
        Ok((handle, tokio::spawn(watched)))
    }

    async fn new(
        shared: Shared,
        relay: relay::Handle,
        reports: mpsc::UnboundedSender<Report>,
    ) -> Result<(Handle, Self), Error> {
        let mut session = shared.store.session().await?;
        let mut clock = Clock::new(session.look(&[]).await?.1);
        // A second time, for one of the two may have been held up.
        let asked = Instant::now();
        clock.hear(asked, session.look(&[]).await?.1);
        let (orders, received) = mpsc::unbounded_channel();
        let handle = Handle { orders, waker: Arc::new(Notify::new()) };
        let writer = Self {
            shared,
            session,
            clock,
            slots: BTreeMap::new(),
            away: None,
            relay,
            reports,
            orders: received,
            waker: Arc::clone(&handle.waker),
            stopping: false,
            ending: None,
            commands_at: Instant::now(),
            statements: 0,
            failures: 0,
        };
        Ok((handle, writer))
    }

    async fn run(mut self) {
        while !self.stopping {
            self.take_orders();
            match self.turn().await {
                Ok(Turn::Full) => {}
                Ok(Turn::Small) => self.let_more_come().await,
                Ok(Turn::Idle) => self.wait().await,
                Err(error) => {
                    self.tell(Report::Fatal(error));
                    return;
                }
            }
        }
        for slot in self.slots.values() {
            slot.inbox.close();
        }
        if let Some(Ending { finished, sent }) = self.ending.take() {
            let _gone = finished.send(());
            // Told or dropped, it is the time.
            let _ended = sent.await;
            self.write_marks().await;
        }
    }

    /// Writes how far the brokers have acknowledged: the next owners send nothing of that again.
    async fn write_marks(&mut self) {
        let behind = self.slots.iter().filter(|(_, slot)| slot.shown.relayed() != slot.lane.relayed());
        let work: Vec<_> = behind.map(|(id, _)| (id.clone(), Vec::new())).collect();
        if !work.is_empty()
            && let Err(error) = self.transact(work).await
        {
            tracing::warn!(error = %error, "the last marks are not written: some messages are sent once more");
        }
    }

    /// One round. An error ends the process.
    async fn turn(&mut self) -> Result<Turn, String> {
        let work = self.gather().await?;
        let turn = self.judge(&work);
        if !work.is_empty() {
            self.transact(work).await?;
        }
        // Also while other lanes keep this writer busy.
        self.look_at_idle_lanes().await?;
        let statements = self.session.statements();
        self.shared.metrics.statements(statements.saturating_sub(self.statements));
        self.statements = statements;
        Ok(turn)
    }

    fn judge(&self, work: &[Work]) -> Turn {
        if work.is_empty() {
            return Turn::Idle;
        }
        let records = work.iter().map(|(_, inputs)| inputs.len()).sum::<usize>();
        let is_small = (1..self.shared.settings.records_max / SMALL).contains(&records);
        let only_records = || work.iter().flat_map(|(_, inputs)| inputs).all(|input| matches!(input, Input::Record(_)));
        let leaves_some = || self.slots.values().any(|slot| slot.has_records() || slot.lane.is_draining());
        if is_small && only_records() && !leaves_some() { Turn::Small } else { Turn::Full }
    }

    fn take_orders(&mut self) {
        while let Ok(order) = self.orders.try_recv() {
            self.obey(order);
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Open(slot) => {
                let id = slot.lane.id().clone();
                self.relay.open(slot.opening, &slot.lane, &slot.shown);
                if let Some(before) = self.slots.insert(id, *slot) {
                    before.inbox.close();
                }
            }
            Order::Close(lane) => self.drop_lane(&lane),
            Order::End(lane, end) => {
                let again = Instant::now() + self.shared.settings.retry_max;
                if let Some(slot) = self.slots.get_mut(&lane) {
                    slot.asking_end = false;
                    slot.ask_end_after = end.is_none().then_some(again);
                    slot.end = end.or(slot.end);
                }
            }
            Order::Stop(ending) => {
                self.stopping = true;
                self.ending = Some(ending);
            }
        }
    }

    /// Waits for a record, an order, or the next moment at which something is due.
    async fn wait(&mut self) {
        let now = self.clock.now();
        let timers = self.slots.values().filter(|slot| !slot.is_resting()).filter_map(|slot| slot.next_timer);
        // One that is due already waits for the end of its backlog, and what brings that wakes the writer.
        let next = timers
            .filter(|due| *due > now)
            .map(|due| Duration::from_micros(u64::try_from(due - now).unwrap_or(0)))
            .min();
        let pause = next.unwrap_or(WAIT_MAX).clamp(Duration::from_millis(1), WAIT_MAX);
        tokio::select! {
            biased;
            () = self.waker.notified() => self.let_more_come().await,
            order = self.orders.recv() => match order {
                Some(order) => self.obey(order),
                None => self.stopping = true,
            },
            () = tokio::time::sleep(pause) => {}
        }
    }

    /// A bigger batch costs less.
    async fn let_more_come(&mut self) {
        if !self.shared.settings.batch_wait.is_zero() {
            tokio::time::sleep(self.shared.settings.batch_wait).await;
        }
    }

    /// A call failed and nothing was written: pause, then the caller tries again. An error ends the process.
    pub(super) async fn note_failure(&mut self, error: &Error) -> Result<(), String> {
        match error {
            Error::Stop(text) => Err(text.clone()),
            Error::Retry(text) | Error::Unknown(text) | Error::Rejected(text) => {
                self.shared.health.store_answers(false);
                self.shared.metrics.retry();
                self.failures += 1;
                tracing::warn!(error = %text, attempt = self.failures, "the store did not answer; trying again");
                tokio::time::sleep(self.shared.backoff(self.failures)).await;
                Ok(())
            }
        }
    }

    /// Serves a lane no more and lets it be claimed again: at once, or after a pause.
    pub(super) fn give_up(&mut self, lane: &LaneId, at_once: bool) {
        let Some(opening) = self.slots.get(lane).map(|slot| slot.opening) else { return };
        self.drop_lane(lane);
        self.tell(Report::Lost { lane: lane.clone(), opening, at_once });
    }

    fn drop_lane(&mut self, lane: &LaneId) {
        if let Some(slot) = self.slots.remove(lane) {
            slot.inbox.close();
            self.relay.close(lane, &slot.shown);
        }
    }

    pub(super) fn tell(&self, report: Report) {
        // The router is gone only when the process ends.
        let _gone = self.reports.send(report);
    }

    /// Whether it is time to look for operators' orders.
    pub(super) fn is_time_for_commands(&self) -> bool {
        self.commands_at.elapsed() >= self.shared.settings.command_poll
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
