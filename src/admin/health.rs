//! What the worker knows of its own health: atomics that its tasks set and probes read.
//!
//! Liveness asks one thing: would a restart help? Readiness asks whether the worker is doing its whole job now.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use serde::Serialize;

/// Where this worker's lanes stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lanes {
    /// Lanes that the group gave to this worker.
    pub assigned: u16,
    /// Those of them that it has claimed.
    pub claimed: u16,
    /// Those of them that stand still with an alarm until a person decides: they are settled, though not well.
    pub halted: u16,
}

/// Whether the worker does its whole job, and if not, why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Whether it does.
    pub ready: bool,
    /// Every reason why not.
    pub reasons: Vec<String>,
    /// Where its lanes stand.
    pub lanes: Lanes,
    /// How many seconds messages have waited for the standby; none if they need not wait for one. No reason to be unready:
    /// a restart would wait as long, and what comes in is worked on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate_wait_seconds: Option<u64>,
}

/// The worker's health.
#[derive(Debug)]
pub struct Health {
    started: Instant,
    tick_deadline: Duration,
    /// Milliseconds from the start to the poll thread's last turn, plus one; 0 before the first turn.
    ticked: AtomicU64,
    fatal: OnceLock<String>,
    joined: AtomicBool,
    store_answers: AtomicBool,
    draining: AtomicBool,
    /// The three counts of [`Lanes`] in one word, so that a probe never sees two of them from before a change and one
    /// from after it.
    lanes: AtomicU64,
    /// Seconds that messages have waited for the standby, plus one; 0 without a gate.
    gate_wait: AtomicU64,
}

impl Health {
    /// A worker that starts. Its poll thread must turn at least once every `tick_deadline`, once it has begun.
    #[must_use]
    pub fn new(tick_deadline: Duration) -> Self {
        Self {
            started: Instant::now(),
            tick_deadline,
            ticked: AtomicU64::new(0),
            fatal: OnceLock::new(),
            joined: AtomicBool::new(false),
            store_answers: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            lanes: AtomicU64::new(0),
            gate_wait: AtomicU64::new(0),
        }
    }

    /// The poll thread has turned once more.
    pub fn tick(&self) {
        let since = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.ticked.store(since + 1, Relaxed);
    }

    /// Something happened that only a restart mends. The first one is kept.
    pub fn fatal(&self, why: &str) {
        drop(self.fatal.set(why.to_owned()));
    }

    /// Whether this worker is a member of the group with an assignment, be it an empty one.
    pub fn joined(&self, joined: bool) {
        self.joined.store(joined, Relaxed);
    }

    /// Whether the store answered the last time it was asked.
    pub fn store_answers(&self, answers: bool) {
        self.store_answers.store(answers, Relaxed);
    }

    /// The worker takes nothing new and finishes what it has.
    pub fn drain(&self) {
        self.draining.store(true, Relaxed);
    }

    /// Where the lanes stand now.
    pub fn lanes(&self, lanes: Lanes) {
        let Lanes { assigned, claimed, halted } = lanes;
        let word = u64::from(assigned) << 32 | u64::from(claimed) << 16 | u64::from(halted);
        self.lanes.store(word, Relaxed);
    }

    /// How long messages have waited for the standby; none without a gate.
    pub fn gate_waits(&self, waited: Option<Duration>) {
        self.gate_wait.store(waited.map_or(0, |waited| waited.as_secs().saturating_add(1)), Relaxed);
    }

    /// Whether a restart would not help.
    ///
    /// # Errors
    /// Why it would.
    pub fn liveness(&self) -> Result<(), String> {
        self.liveness_at(Instant::now())
    }

    fn liveness_at(&self, now: Instant) -> Result<(), String> {
        if let Some(why) = self.fatal.get() {
            return Err(format!("fatal: {why}"));
        }
        let ticked = self.ticked.load(Relaxed);
        if ticked == 0 {
            // Still starting, perhaps waiting for a service: a restart would only wait again.
            return Ok(());
        }
        let silent = now.saturating_duration_since(self.started + Duration::from_millis(ticked - 1));
        if silent > self.tick_deadline {
            return Err(format!("the poll thread has not turned for {} s", silent.as_secs()));
        }
        Ok(())
    }

    /// Whether the worker does its whole job.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let word = self.lanes.load(Relaxed);
        let part = |shift: u32| u16::try_from(word >> shift & 0xffff).unwrap_or(u16::MAX);
        let lanes = Lanes { assigned: part(32), claimed: part(16), halted: part(0) };
        let mut reasons = Vec::new();
        if let Err(why) = self.liveness() {
            reasons.push(why);
        }
        if self.draining.load(Relaxed) {
            reasons.push("the worker is draining".to_owned());
        }
        if !self.joined.load(Relaxed) {
            reasons.push("the group is not joined".to_owned());
        }
        if !self.store_answers.load(Relaxed) {
            reasons.push("the store does not answer".to_owned());
        }
        let settled = u32::from(lanes.claimed) + u32::from(lanes.halted);
        if settled < u32::from(lanes.assigned) {
            reasons.push(format!("{settled} of {} lanes are claimed or halted", lanes.assigned));
        }
        let gate_wait_seconds = self.gate_wait.load(Relaxed).checked_sub(1);
        Readiness { ready: reasons.is_empty(), reasons, lanes, gate_wait_seconds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_thread_that_has_begun_can_be_late() {
        let health = Health::new(Duration::from_secs(60));
        let later = Instant::now() + Duration::from_secs(3_600);
        assert_eq!(health.liveness_at(later), Ok(()));
        health.tick();
        assert_eq!(health.liveness(), Ok(()));
        assert!(health.liveness_at(later).unwrap_err().contains("poll thread"));
    }

    #[test]
    fn lanes_that_are_neither_claimed_nor_halted_keep_a_worker_unready() {
        let health = Health::new(Duration::from_secs(60));
        health.joined(true);
        health.store_answers(true);
        health.lanes(Lanes { assigned: 6, claimed: 4, halted: 1 });
        assert_eq!(health.readiness().reasons, ["5 of 6 lanes are claimed or halted"]);
        health.lanes(Lanes { assigned: 6, claimed: 5, halted: 1 });
        assert!(health.readiness().ready);
    }
}
