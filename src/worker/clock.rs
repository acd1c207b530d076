//! The database's clock, carried on between answers by the monotonic one. It never runs backwards.
//!
//! The only place that knows what time it is; a lane is told.

use tokio::time::Instant;

use crate::core::{
    limits::micros,
    sabotage::{Safeguard, lacks},
};

/// How far the clock of a worker that asks nobody is ahead, in microseconds.
const AHEAD: i64 = 3_000_000;

/// The database's clock as of an answer, plus what has passed since.
///
/// An answer was given at some moment between asking and hearing it; a process that is frozen meanwhile hears it long
/// after. So what is known may be older than an answer says by as much as it took, and no more: what was known before is
/// kept as long as it lies within that.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    database: i64,
    heard: Instant,
    shown: i64,
}

impl Clock {
    /// As of a first answer of the database, in microseconds since the epoch. How long it took is not known yet.
    #[must_use]
    pub fn new(database: i64) -> Self {
        Self { database, heard: Instant::now(), shown: database }
    }

    /// Takes in a newer answer to what was asked at `asked`.
    pub fn hear(&mut self, asked: Instant, database: i64) {
        let latest = database.saturating_add(micros(asked.elapsed()));
        self.database = self.carried().clamp(database, latest);
        self.heard = Instant::now();
    }

    /// Microseconds since the epoch.
    pub fn now(&mut self) -> i64 {
        let own = if lacks(Safeguard::DatabaseClock) { AHEAD } else { 0 };
        self.shown = self.shown.max(self.carried().saturating_add(own));
        self.shown
    }

    fn carried(&self) -> i64 {
        self.database.saturating_add(micros(self.heard.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, advance};

    use super::Clock;

    const NOW: i64 = 1_767_225_600_000_000;
    const SECOND: i64 = 1_000_000;

    #[tokio::test(start_paused = true)]
    async fn an_answer_heard_late_does_not_set_it_back() {
        let mut clock = Clock::new(NOW);
        let asked = Instant::now();
        advance(Duration::from_secs(3)).await;
        clock.hear(asked, NOW);
        assert_eq!(clock.now(), NOW + 3 * SECOND);
        advance(Duration::from_secs(1)).await;
        assert_eq!(clock.now(), NOW + 4 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_answer_heard_late_is_made_good_by_the_next_one() {
        let mut clock = Clock::new(NOW - 3 * SECOND);
        clock.hear(Instant::now(), NOW);
        assert_eq!(clock.now(), NOW);
    }

    #[tokio::test(start_paused = true)]
    async fn it_follows_a_database_that_is_set_and_never_runs_backwards() {
        let mut clock = Clock::new(NOW);
        clock.hear(Instant::now(), NOW + 60 * SECOND);
        assert_eq!(clock.now(), NOW + 60 * SECOND);
        clock.hear(Instant::now(), NOW);
        assert_eq!(clock.now(), NOW + 60 * SECOND);
        advance(Duration::from_secs(61)).await;
        assert_eq!(clock.now(), NOW + 61 * SECOND);
    }
}
