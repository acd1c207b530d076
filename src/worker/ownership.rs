//! Whether a writer's lanes are still its own: what their rows say under lock, never what memory says.

use tokio::time::Instant;

use super::{
    claim,
    gather::Work,
    transact::{Batch, pause},
    writer::Writer,
};
use crate::core::{
    record::LaneId,
    sabotage::{Safeguard, lacks},
};

impl Writer {
    /// A lane's row as memory has it must be what the database has: else commits were lost, or the lane is.
    pub(super) async fn look_at_idle_lanes(&mut self) -> Result<(), String> {
        if lacks(Safeguard::IdleLook) {
            return Ok(());
        }
        let every = self.shared.settings.idle_look;
        let asked = Instant::now();
        let idle = self.slots.iter().filter(|(_, slot)| asked - slot.looked >= every).map(|(id, _)| id.clone());
        let idle: Vec<LaneId> = idle.collect();
        if idle.is_empty() {
            return Ok(());
        }
        let (rows, now) = match self.session.look(&idle).await {
            Ok(found) => found,
            Err(error) => return self.note_failure(&error).await,
        };
        self.clock.hear(asked, now);
        self.failures = 0;
        self.shared.health.store_answers(true);
        for id in idle {
            let Some(slot) = self.slots.get_mut(&id) else { continue };
            slot.looked = Instant::now();
            let row = rows.iter().find(|row| row.lane == id);
            if row.map(|row| &row.fence) != Some(slot.lane.fence()) {
                self.lose(&id, row.map(|row| row.fence.epoch));
            }
        }
        Ok(())
    }

    /// Rows are decided upon only on the timeline on which their lane was claimed. Where the session's connection is on
    /// another one, the older of the two gives way: a connection to a server that was replaced, or the lanes.
    pub(super) async fn agree_on_timeline(&mut self, work: &[Work]) -> Result<(), String> {
        let apart = |writer: &Self| -> Vec<(LaneId, i64)> {
            let here = writer.session.timeline();
            let lanes = work.iter().filter_map(|(id, _)| Some((id, writer.slots.get(id)?.lane.fence().timeline)));
            lanes.filter(|(_, timeline)| *timeline != here).map(|(id, timeline)| (id.clone(), timeline)).collect()
        };
        if lacks(Safeguard::Timeline) {
            return Ok(());
        }
        if apart(self).iter().any(|(_, timeline)| *timeline > self.session.timeline()) {
            match self.shared.store.session().await {
                Ok(session) => self.session = session,
                Err(error) => self.note_failure(&error).await?,
            }
        }
        let lanes: Vec<LaneId> = apart(self).into_iter().map(|(id, _)| id).collect();
        if lanes.is_empty() { Ok(()) } else { self.lose_fenced(&lanes).await }
    }

    /// Whether a commit without an answer was made: nothing, if the rows do not tell.
    pub(super) async fn resolve(&mut self, batches: &[Batch]) -> Result<Option<bool>, String> {
        let ids: Vec<LaneId> = batches.iter().map(|batch| batch.lane.clone()).collect();
        let mut attempt = 0;
        loop {
            let asked = Instant::now();
            let rows = match self.session.look(&ids).await {
                Ok((rows, now)) => {
                    self.clock.hear(asked, now);
                    rows
                }
                Err(error) => {
                    attempt += 1;
                    pause(&self.shared, &error, attempt).await?;
                    continue;
                }
            };
            let mine = |after: i64| {
                batches.iter().any(|batch| {
                    let expected = &batch.decided.commit.expected;
                    rows.iter().any(|row| {
                        row.lane == batch.lane
                            && (row.fence.token == expected.token || lacks(Safeguard::LostAnswer))
                            && row.fence.batch == expected.batch + after
                    })
                })
            };
            return Ok(match (mine(1), mine(0)) {
                (true, _) => Some(true),
                (false, true) => Some(false),
                (false, false) => None,
            });
        }
    }

    /// Throws away what a lane knows and what was decided of it, and reads it anew, under the same claim.
    pub(super) async fn reopen(&mut self, id: &LaneId) -> Result<(), String> {
        let mut attempt = 0;
        loop {
            match claim::reopen(&mut *self.session, &self.shared, id).await {
                Ok(found) => {
                    let Some(slot) = self.slots.get_mut(id) else { return Ok(()) };
                    let known = slot.throw_ahead_away();
                    let found = match found {
                        Some(lane) if *lane.fence() == known => {
                            if lacks(Safeguard::ReadAnew) {
                                slot.lane.go_back(known);
                            } else {
                                slot.lane = lane;
                            }
                            return Ok(());
                        }
                        found => found,
                    };
                    self.lose(id, found.map(|lane| lane.fence().epoch));
                    return Ok(());
                }
                Err(error) => {
                    attempt += 1;
                    pause(&self.shared, &error, attempt).await?;
                }
            }
        }
    }

    /// Lanes that failed the compare: what their rows say now decides who has them.
    pub(super) async fn lose_fenced(&mut self, lanes: &[LaneId]) -> Result<(), String> {
        let mut attempt = 0;
        let rows = loop {
            match self.session.look(lanes).await {
                Ok((rows, _)) => break rows,
                Err(error) => {
                    attempt += 1;
                    pause(&self.shared, &error, attempt).await?;
                }
            }
        };
        for lane in lanes {
            self.lose(lane, rows.iter().find(|row| row.lane == *lane).map(|row| row.fence.epoch));
        }
        Ok(())
    }

    /// Gives a lane up: its row is not what memory has. `epoch` is the row's now.
    pub(super) fn lose(&mut self, lane: &LaneId, epoch: Option<i64>) {
        let Some(slot) = self.slots.get(lane) else { return };
        let newer = epoch.is_some_and(|epoch| epoch > slot.lane.fence().epoch);
        self.shared.metrics.fenced(1);
        tracing::warn!(topic = %lane.topic, partition = lane.partition, newer_claim = newer, "the lane was lost");
        self.give_up(lane, !newer);
    }
}
