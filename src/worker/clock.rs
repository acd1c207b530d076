//! The database's clock, carried on between answers by the monotonic one. It never runs backwards.
//!
//! The only place that knows what time it is; a lane is told.

use tokio::time::Instant;

use crate::core::sabotage::{Safeguard, lacks};

/// How far the clock of a worker that asks nobody is ahead, in microseconds.
const AHEAD: i64 = 3_000_000;

/// The database's clock as of the last answer, plus what has passed since.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    database: i64,
    heard: Instant,
    shown: i64,
}

impl Clock {
    /// As of an answer of the database, in microseconds since the epoch.
    #[must_use]
    pub fn new(database: i64) -> Self {
        Self { database, heard: Instant::now(), shown: database }
    }

    /// Takes in a newer answer.
    pub fn hear(&mut self, database: i64) {
        self.database = database;
        self.heard = Instant::now();
    }

    /// Microseconds since the epoch.
    pub fn now(&mut self) -> i64 {
        let passed = i64::try_from(self.heard.elapsed().as_micros()).unwrap_or(i64::MAX);
        let own = if lacks(Safeguard::DatabaseClock) { AHEAD } else { 0 };
        self.shown = self.shown.max(self.database.saturating_add(passed).saturating_add(own));
        self.shown
    }
}
