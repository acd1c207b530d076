//! What a writer's lanes have to do now: records, timers that are due, operators' orders, drains.

use tokio::time::Instant;

use super::writer::{Report, Writer};
use crate::{
    core::{
        batch::AlarmKind,
        lane::Input,
        ledger::{COMMAND, TIMER, Timer},
        record::LaneId,
        sabotage::{Safeguard, lacks},
        table::{Row, Table, Value, Want},
    },
    failpoint::{self, Point},
};

/// The inputs of one lane in one transaction.
pub(super) type Work = (LaneId, Vec<Input>);

impl Writer {
    /// Gathers the inputs of all lanes that have something to do.
    pub(super) async fn gather(&mut self) -> Result<Vec<Work>, String> {
        let mut work: Vec<Work> = Vec::new();
        let orders = self.gather_commands().await?;
        let timers = self.gather_timers().await?;
        let (records, bytes) = self.share();
        let settings = &self.shared.settings;
        for (id, slot) in &mut self.slots {
            if let Some(ahead) = &mut slot.ahead {
                work.push((id.clone(), std::mem::take(&mut ahead.inputs)));
                continue;
            }
            if let Err(error) = slot.take_in(records, bytes) {
                tracing::error!(topic = %id.topic, partition = id.partition, error = %error, "the lane has halted");
                self.shared.metrics.alarm(AlarmKind::Halt.as_str());
                slot.halt(error, None);
            }
            let mut inputs: Vec<Input> = Vec::new();
            if !slot.is_resting() {
                inputs.extend(slot.next_records(records));
                inputs.extend(timers.iter().filter(|row| is_of(row, id)).map(|row| Input::Timer(row.clone(), None)));
            }
            inputs.extend(orders.iter().filter(|row| is_of(row, id)).map(|row| Input::Command(row.clone(), None)));
            let flush = slot.shown.relayed() != slot.lane.relayed() && slot.looked.elapsed() >= settings.idle_look;
            if !inputs.is_empty() || flush || (slot.lane.is_draining() && !slot.is_resting()) {
                work.push((id.clone(), inputs));
            }
        }
        Ok(work)
    }

    /// Records and bytes of one lane in one transaction. Every lane that has records gets its share, so that a full one
    /// does not starve the others of the transaction, and a single one fills it.
    pub(super) fn share(&self) -> (usize, usize) {
        let settings = &self.shared.settings;
        let lanes = self.slots.values().filter(|slot| slot.has_records()).count().max(1);
        ((settings.records_max / lanes).max(1), (settings.bytes_max / lanes).max(1))
    }

    /// Orders for any of the lanes, in one statement.
    async fn gather_commands(&mut self) -> Result<Vec<Row>, String> {
        // A batch that is decided takes nothing in; when it is time, none is decided ahead.
        let any_ahead = self.slots.values().any(|slot| slot.ahead.is_some());
        if self.slots.is_empty() || any_ahead || !self.is_time_for_commands() {
            return Ok(Vec::new());
        }
        self.commands_at = Instant::now();
        let keys = self.slots.keys().map(|id| vec![Value::text(&id.topic), Value::Int(id.partition.into())]);
        self.load_one(&COMMAND, Want::Keys(keys.collect())).await
    }

    /// Timers that are due in lanes that have read as far as their partitions went when they came due.
    async fn gather_timers(&mut self) -> Result<Vec<Row>, String> {
        let now = self.clock.now();
        let mut rows = Vec::new();
        let due: Vec<LaneId> = self
            .slots
            .iter()
            .filter(|(_, slot)| !slot.is_resting() && slot.ahead.is_none())
            .filter(|(_, slot)| slot.next_timer.is_some_and(|due| due <= now))
            .map(|(id, _)| id.clone())
            .collect();
        for id in due {
            let slot = self.slots.get_mut(&id).expect("taken from the slots above");
            let first = slot.next_timer.unwrap_or(now);
            if lacks(Safeguard::TimerBacklog) {
                rows.extend(self.load_due(&id, now).await?);
                continue;
            }
            let Some(end) = slot.end.filter(|end| end.asked_at >= first) else {
                if !slot.asking_end && slot.ask_end_after.is_none_or(|after| Instant::now() >= after) {
                    slot.asking_end = true;
                    self.tell(Report::AskEnd(id, now));
                }
                continue;
            };
            if slot.has_read_up_to(end) {
                rows.extend(self.load_due(&id, end.asked_at).await?);
            }
        }
        Ok(rows)
    }

    async fn load_due(&mut self, id: &LaneId, until: i64) -> Result<Vec<Row>, String> {
        let limit = self.shared.settings.timers_per_batch_max;
        let prefix = vec![Value::text(&id.topic), Value::Int(id.partition.into())];
        let want = Want::Scan { prefix, after: None, limit: limit + 1 };
        let mut rows = match self.session.load(&[(&TIMER, want)]).await {
            Ok(mut rows) => rows.pop().unwrap_or_default(),
            // The timer stays due, and is looked for again in the next round.
            Err(error) => return self.note_failure(&error).await.map(|()| Vec::new()),
        };
        let due = |row: &Row| Timer::read(row).map_or(i64::MAX, |timer| timer.due.0);
        let count = rows.iter().take(limit).take_while(|row| due(row) <= until).count();
        let slot = self.slots.get_mut(id).expect("the lane is served by this writer");
        slot.next_timer = rows.get(count).map(due);
        rows.truncate(count);
        failpoint::reach(Point::TimersRead);
        Ok(rows)
    }

    async fn load_one(&mut self, table: &'static Table, want: Want) -> Result<Vec<Row>, String> {
        match self.session.load(&[(table, want)]).await {
            Ok(mut rows) => {
                self.failures = 0;
                Ok(rows.pop().unwrap_or_default())
            }
            // They will still be there in the next round.
            Err(error) => self.note_failure(&error).await.map(|()| Vec::new()),
        }
    }
}

fn is_of(row: &Row, id: &LaneId) -> bool {
    row[0] == Value::text(&id.topic) && row[1] == Value::Int(id.partition.into())
}
