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

use async_trait::async_trait;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use tokio::sync::{mpsc::UnboundedSender, oneshot};

use super::{Error, Settings, bell::Bell, poll::Poller, rebalance::Context};
use crate::{
    broker::{self, Event, Inbox, Positions, Stopped},
    core::record::LaneId,
};

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
        f.debug_struct("Consumer").field("counts", &self.counts()).finish_non_exhaustive()
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

    /// What was dropped, and errors.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            stale: self.shown.stale.load(Ordering::Relaxed),
            repeated: self.shown.repeated.load(Ordering::Relaxed),
            errors: self.shown.errors.load(Ordering::Relaxed),
        }
    }

    fn send(&self, command: Command) {
        if let Err(mpsc::SendError(Command::Open(_, _, inbox))) = self.commands.send(command) {
            inbox.close();
        }
        self.bell.ring();
    }
}

#[async_trait]
impl broker::Consumer for Consumer {
    fn open(&self, lane: LaneId, offset: i64, inbox: Arc<Inbox>) {
        self.send(Command::Open(lane, offset, inbox));
    }

    fn close(&self, lane: LaneId) {
        self.send(Command::Close(lane));
    }

    fn commit(&self, offsets: Vec<(LaneId, i64)>, metadata: String) {
        self.send(Command::Commit(offsets, metadata));
    }

    fn positions(&self) -> BTreeMap<LaneId, Positions> {
        self.shown.positions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn last_poll(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.shown.polled_ms.load(Ordering::Relaxed)))
    }

    async fn stop(self: Box<Self>, deadline: Duration) -> Stopped {
        // Closing can hang for as long as brokers do not answer, and in some versions for ever.
        self.send(Command::Stop);
        match tokio::time::timeout(deadline, self.ended).await {
            Ok(_) => Stopped::Closed,
            Err(_) => Stopped::Abandoned,
        }
    }
}
