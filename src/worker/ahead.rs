//! Deciding a lane's next batch while the one before is being committed.
//!
//! Only where a full batch waits: a smaller one would have grown meanwhile. Only out of what the lane knows, what the
//! batch before does to it included: what lacks rows is decided again when they are loaded, which is after that commit.
//! The next batch is handed on and committed like any other, so never before its predecessor; and if that one is not
//! made as it was decided, the next is thrown away with all that the lane knows.

use tokio::task::JoinHandle;

use super::{slot::Slot, transact::Batch, writer::Writer};
use crate::core::{
    fence::Fence,
    lane::{Decided, Input, Step},
    record::LaneId,
};

/// A lane's next batch.
#[derive(Debug)]
pub(super) struct Ahead {
    pub(super) inputs: Vec<Input>,
    pub(super) step: Step,
    /// The lane's row as long as the batch before is not made.
    pub(super) before: Fence,
}

/// Lanes that are out to decide, and come back.
pub(super) type Away = JoinHandle<Vec<(LaneId, Slot)>>;

impl Writer {
    /// Begins to decide the next batches of those lanes that have enough for full ones.
    pub(super) fn look_ahead(&mut self, batches: &[Batch]) {
        if self.stopping || self.is_time_for_commands() {
            return;
        }
        let (now, (records, bytes)) = (self.clock.now(), self.share());
        let mut lanes = Vec::new();
        for Batch { lane, decided, .. } in batches {
            if self.slots.get(lane).is_some_and(|slot| slot.may_look_ahead(decided, records, bytes, now))
                && let Some((lane, mut slot)) = self.slots.remove_entry(lane)
            {
                let before = slot.lane.fence().clone();
                slot.lane.committed(decided);
                lanes.push((lane, slot, before));
            }
        }
        if lanes.is_empty() {
            return;
        }
        let decide = move |(lane, mut slot, before): (LaneId, Slot, Fence)| {
            slot.decide_ahead(before, records, bytes, now);
            (lane, slot)
        };
        // On a task of its own, for it keeps a core busy that the commit must not wait for.
        self.away = Some(tokio::spawn(async move { lanes.into_iter().map(decide).collect() }));
    }

    /// Waits for the lanes that are out.
    pub(super) async fn take_back(&mut self) {
        let Some(away) = self.away.take() else { return };
        match away.await {
            Ok(lanes) => self.slots.extend(lanes),
            // The lanes are gone with it: so is the writer.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

impl Slot {
    /// Whether nothing is in the way of the next batch, and it would be a full one.
    fn may_look_ahead(&self, decided: &Decided, records: usize, bytes: usize, now: i64) -> bool {
        let is_free = decided.halt.is_none() && self.verify.is_none() && self.ahead.is_none();
        let is_quiet = !self.is_resting() && !self.lane.is_draining();
        // Timers are read from their table, which the batch on its way may change.
        let due = self.next_timer.into_iter().chain(decided.next_timer).min();
        let is_full = self.pending.len() + self.inbox.len() >= records || self.inbox.bytes() >= bytes;
        is_free && is_quiet && due.is_none_or(|due| due > now) && is_full
    }

    fn decide_ahead(&mut self, before: Fence, records: usize, bytes: usize, now: i64) {
        self.take_in(records, bytes).expect("nothing is left to be verified");
        let inputs: Vec<Input> = self.next_records(records).collect();
        let step = self.lane.decide(&inputs, now, self.shown.relayed());
        self.ahead = Some(Ahead { inputs, step, before });
    }

    /// The batch before is not made as it was decided: what its successor took waits again. Gives the row that the lane
    /// has now; all else that the lane knows counts no more.
    pub(super) fn throw_ahead_away(&mut self) -> Fence {
        let Some(Ahead { inputs, before, .. }) = self.ahead.take() else { return self.lane.fence().clone() };
        self.put_back(inputs);
        before
    }
}
