//! One worker process of a simulated world: it may die or stand still at any of its calls.

use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// A process. What it has not sent when it dies is never sent.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) name: String,
    dead: AtomicBool,
    thaws: Mutex<Option<Instant>>,
    /// Its next COMMIT with messages has no answer, and it stands still for so long then.
    cut_off: Mutex<Option<Duration>>,
    /// The store loses what another has done on a lane of its own when it has read that.
    overtaken: AtomicBool,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Process {
    pub(super) fn new(number: usize) -> Self {
        Self {
            name: format!("w{number}"),
            dead: AtomicBool::new(false),
            thaws: Mutex::new(None),
            cut_off: Mutex::new(None),
            overtaken: AtomicBool::new(false),
        }
    }

    pub(super) fn die(&self) {
        self.dead.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Stands still from now on, for so long.
    pub(super) fn freeze(&self, pause: Duration) {
        *self.thaws.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + pause);
    }

    /// Nothing keeps it any more, and nothing will.
    pub(super) fn thaw(&self) {
        *self.thaws.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.cut_off(None);
        self.set_overtaken(false);
    }

    /// Its next COMMIT with messages has no answer, and it stands still for so long then.
    pub(super) fn cut_off(&self, pause: Option<Duration>) {
        *self.cut_off.lock().unwrap_or_else(PoisonError::into_inner) = pause;
    }

    /// For how long it stands still after the COMMIT that it makes now, if that one is to have no answer.
    pub(super) fn take_cut_off(&self) -> Option<Duration> {
        self.cut_off.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether the store is to lose what another has done on a lane of its own when it has read that.
    pub(super) fn set_overtaken(&self, overtaken: bool) {
        self.overtaken.store(overtaken, Ordering::SeqCst);
    }

    pub(super) fn is_overtaken(&self) -> bool {
        self.overtaken.load(Ordering::SeqCst)
    }

    /// Until when it stands still, if it does.
    pub(super) fn frozen_until(&self) -> Option<Instant> {
        let thaws = *self.thaws.lock().unwrap_or_else(PoisonError::into_inner);
        thaws.filter(|until| Instant::now() < *until)
    }

    /// Goes on when the process does: never, if it is dead.
    pub(super) async fn alive(&self) {
        while let Some(until) = self.frozen_until() {
            tokio::time::sleep_until(until).await;
        }
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
    }
}
