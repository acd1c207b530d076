//! The bounds of a lane; each is a key of the configuration.

use std::time::Duration;

use super::{ledger, table::Table};

/// One minute in microseconds: the breaker counts over it.
pub(super) const MINUTE: i64 = 60_000_000;

/// The bounds of a lane.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Consumer group, told in dead letters.
    pub group: String,
    /// Held records of one entity.
    pub held_per_entity_max: usize,
    /// Held records of the lane.
    pub held_per_lane_max: usize,
    /// Bytes of the lane's held and waiting records.
    pub held_bytes_per_lane_max: usize,
    /// How far ahead of its entity a sequence may be.
    pub ahead_max: i64,
    /// How long a gap may stay open.
    pub gap_deadline: Duration,
    /// How long an event may wait for what it is about.
    pub waiting_deadline: Duration,
    /// Waiting records of the lane.
    pub waiting_per_lane_max: usize,
    /// How long ids of unsequenced events are known.
    pub dedupe_window: Duration,
    /// How long the journal is kept, and what is known of numbers that passed without a row in it.
    pub journal_kept: Duration,
    /// How long it is known what became of operators' orders.
    pub command_log_kept: Duration,
    /// How long a saga that has ended is kept.
    pub saga_kept: Duration,
    /// How long a dead letter that is settled is kept.
    pub letter_kept: Duration,
    /// Digests kept per source by kinds without a journal.
    pub digests_kept: usize,
    /// Entities that may be quarantined in a minute before the lane halts.
    pub failures_max: usize,
    /// Parked records that one batch takes up again.
    pub drain_max: usize,
    /// Largest value of an outgoing message, in bytes.
    pub message_bytes_max: usize,
    /// Rows cached per lane.
    pub cached_rows_max: usize,
}

impl Limits {
    /// How long rows of a table of [`ledger::KEPT_FOR_A_TIME`] stay at least, in microseconds.
    ///
    /// # Panics
    /// For any other table.
    #[must_use]
    pub fn kept(&self, table: &Table) -> i64 {
        let is = |other: &Table| std::ptr::eq(table, other);
        let kept = if is(&ledger::SEEN) {
            self.dedupe_window
        } else if is(&ledger::JOURNAL) || is(&ledger::PASSED) {
            self.journal_kept
        } else {
            assert!(is(&ledger::COMMAND_LOG), "{} is not kept for a time", table.name);
            self.command_log_kept
        };
        micros(kept)
    }
}

/// A duration as the core counts time.
#[must_use]
pub fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
impl Default for Limits {
    fn default() -> Self {
        let minutes = |count: u64| Duration::from_secs(60 * count);
        Self {
            group: "test".to_owned(),
            held_per_entity_max: 100,
            held_per_lane_max: 1000,
            held_bytes_per_lane_max: 1 << 20,
            ahead_max: 1000,
            gap_deadline: minutes(5),
            waiting_deadline: minutes(5),
            waiting_per_lane_max: 100,
            dedupe_window: minutes(60 * 24),
            journal_kept: minutes(60 * 24 * 4),
            command_log_kept: minutes(60 * 24),
            saga_kept: minutes(60 * 24),
            letter_kept: minutes(60 * 24),
            digests_kept: 8,
            failures_max: 10,
            drain_max: 10,
            message_bytes_max: 100_000,
            cached_rows_max: 10_000,
        }
    }
}
