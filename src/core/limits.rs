//! The bounds of a lane; each is a key of the configuration.

use std::time::Duration;

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

/// Ids are kept by ranges of arrival, each as long as the window: the current one and the one before it reach
/// back over the whole window, whenever the current one began.
pub(super) const SEEN_RANGES: usize = 2;

impl Limits {
    /// The range of `seen` for ids that arrive now; `now` in microseconds.
    #[must_use]
    pub fn seen_range(&self, now: i64) -> i64 {
        now / micros(self.dedupe_window).max(1)
    }

    /// The last range of `seen` that nobody asks for any more.
    #[must_use]
    pub fn seen_expired(&self, now: i64) -> i64 {
        self.seen_range(now) - i64::try_from(SEEN_RANGES).unwrap_or(i64::MAX)
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
            digests_kept: 8,
            failures_max: 10,
            drain_max: 10,
            message_bytes_max: 100_000,
            cached_rows_max: 10_000,
        }
    }
}
