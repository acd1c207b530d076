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
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Process {
    pub(super) fn new(number: usize) -> Self {
        Self { name: format!("w{number}"), dead: AtomicBool::new(false), thaws: Mutex::new(None) }
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

    pub(super) fn thaw(&self) {
        *self.thaws.lock().unwrap_or_else(PoisonError::into_inner) = None;
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
