//! Reading: the handle of a member of the consumer group, and what it tells.
//!
//! One thread polls the client, fills the inboxes and tells what the group does. It waits for nobody: no
//! database, no writer, no broker. What others want of it goes there as a command, what it has to say comes
//! back as an event; nothing here blocks.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use tokio::sync::{mpsc::UnboundedSender, oneshot};

use super::{
    Error, Settings,
    inbox::{Bell, Inbox},
    poll::Poller,
    rebalance::Context,
    watch::Positions,
};
use crate::core::record::LaneId;

/// What the poll thread tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The group grants these lanes. Nothing is read until they are opened.
    Assigned(Vec<LaneId>),
    /// The group takes these lanes away; their inboxes are closed.
    Revoked(Vec<LaneId>),
    /// No record lies between what was delivered and `offset`: what trails there are control records or
    /// aborted transactions.
    Tail {
        /// Of which lane.
        lane: LaneId,
        /// The offset that the next record cannot be below.
        offset: i64,
    },
    /// A lane's reading has ended and does not go on by itself. It stays granted; its inbox is closed.
    Lost {
        /// Which lane.
        lane: LaneId,
        /// Why.
        why: String,
    },
    /// A lane has records and delivers none, though it was assigned afresh.
    Stalled(LaneId),
    /// The client is past help: nothing is delivered any more, the process should end.
    Fatal(String),
}

/// How stopping ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The member has left the group and the client is gone.
    Closed,
    /// The client did not close in time. Its thread is left behind, the process can end.
    Abandoned,
}

/// What others want of the poll thread.
pub(super) enum Command {
    Open(LaneId, i64, Arc<Inbox>),
    Close(LaneId),
    Commit(Vec<(LaneId, i64)>, String),
    Stop,
}

/// What the thread shows to others.
#[derive(Default)]
pub(super) struct Shown {
    pub(super) polled_ms: AtomicU64,
    pub(super) stale: AtomicU64,
    pub(super) repeated: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) positions: Mutex<BTreeMap<LaneId, Positions>>,
}

/// Records that were dropped, and errors, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Of lanes that are not open any more.
    pub stale: u64,
    /// Delivered before in the same opening.
    pub repeated: u64,
    /// Told by the client: lost connections, brokers down.
    pub errors: u64,
}

/// A member of the consumer group.
pub struct Consumer {
    commands: mpsc::Sender<Command>,
    bell: Arc<Bell>,
    shown: Arc<Shown>,
    started: Instant,
    ended: oneshot::Receiver<()>,
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("last_poll", &self.last_poll()).field("counts", &self.counts()).finish()
    }
}

impl Consumer {
    /// Joins the group for the home topics, on a thread of its own.
    ///
    /// # Errors
    /// If the settings are not usable or the client cannot be made; not if no broker answers.
    pub fn start(settings: &Settings, topics: &[String], events: UnboundedSender<Event>) -> Result<Self, Error> {
        settings.check()?;
        let mut client: BaseConsumer<Context> = settings
            .consumer()
            .create_with_context(Context::new(events))
            .map_err(Error::client("making a consumer"))?;
        let bell = Arc::new(Bell::default());
        let rope = bell.clone();
        client.set_nonempty_callback(move || rope.ring());
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        client.subscribe(&names).map_err(Error::client("subscribing to the home topics"))?;

        let (commands, received) = mpsc::channel();
        let (end, ended) = oneshot::channel();
        let shown = Arc::new(Shown::default());
        let started = Instant::now();
        let poller = Poller::new(client, received, bell.clone(), shown.clone(), started, settings.stall_deadline);
        let name = "kafka-poll";
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                poller.run();
                // The receiver may have given up waiting.
                let _given_up = end.send(());
            })
            .map_err(|source| Error::Thread { name, source })?;
        Ok(Self { commands, bell, shown, started, ended })
    }

    /// Begins to read a granted lane at an offset, into an inbox that has served no other opening. If the lane
    /// is not granted any more, or the thread has ended, the inbox is closed instead.
    pub fn open(&self, lane: LaneId, offset: i64, inbox: Arc<Inbox>) {
        self.send(Command::Open(lane, offset, inbox));
    }

    /// Ends the reading of a lane; it stays granted and can be opened again.
    pub fn close(&self, lane: LaneId) {
        self.send(Command::Close(lane));
    }

    /// Commits offsets to Kafka, with metadata, some time soon or never: they are for lag tools.
    pub fn commit(&self, offsets: Vec<(LaneId, i64)>, metadata: String) {
        self.send(Command::Commit(offsets, metadata));
    }

    /// Where the open lanes stand, as of the last statistics.
    #[must_use]
    pub fn positions(&self) -> BTreeMap<LaneId, Positions> {
        self.shown.positions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How long ago the thread last came round. More than a few seconds means that it is dead.
    #[must_use]
    pub fn last_poll(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.shown.polled_ms.load(Ordering::Relaxed)))
    }

    /// What was dropped, and errors.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            stale: self.shown.stale.load(Ordering::Relaxed),
            repeated: self.shown.repeated.load(Ordering::Relaxed),
            errors: self.shown.errors.load(Ordering::Relaxed),
        }
    }

    /// Leaves the group and closes the client. Closing can hang for as long as brokers do not answer, and in
    /// some versions for ever; so it is waited for no longer than `deadline`.
    pub async fn stop(self, deadline: Duration) -> Stopped {
        self.send(Command::Stop);
        match tokio::time::timeout(deadline, self.ended).await {
            Ok(_) => Stopped::Closed,
            Err(_) => Stopped::Abandoned,
        }
    }

    fn send(&self, command: Command) {
        if let Err(mpsc::SendError(Command::Open(_, _, inbox))) = self.commands.send(command) {
            inbox.close();
        }
        self.bell.ring();
    }
}
