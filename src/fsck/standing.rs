//! What has not ended: parked rows stand where their quarantine says, every row belongs to a lane that exists, and no
//! row names a record that its lane has not reached.

use std::collections::BTreeSet;

use super::{
    Class, Error, Finding, Fsck, Scan, lane_key,
    look::{LOOK_PAUSE, LOOKS_MAX, Look},
    messages::show_lane,
    read,
    rows::{
        HELD, Held, LETTER, LINK_IN, LINK_OUT, Letter, OUTBOX, PARKED, Parked, QUARANTINE, Quarantine, TIMER, Timer,
        WAITING, Waiting,
    },
};
use crate::core::{
    record::LaneId,
    table::{Key, Row, Table, Value},
};

/// The offset that a row names, if its record has one; nothing if the row does not fit.
type OffsetOf = fn(&[Value]) -> Option<Option<i64>>;

/// How the parked rows of an entity stand: its quarantine, and the places that have rows.
#[derive(Debug, Default)]
struct Parking {
    quarantine: Option<Quarantine>,
    first: Option<i64>,
    last: Option<i64>,
    count: i64,
}

impl Parking {
    fn add(&mut self, place: i64) {
        self.first.get_or_insert(place);
        self.last = Some(place);
        self.count += 1;
    }

    /// What is wrong with it, if something is.
    fn problem(&self) -> Option<String> {
        match (&self.quarantine, self.first, self.last) {
            (None, None, _) | (None, _, None) => None,
            (None, Some(_), Some(_)) => Some(format!("{} rows are parked and it is not in quarantine", self.count)),
            (Some(row), first, last) => {
                let expected = row.next - row.first;
                let fits = self.count == expected
                    && first.is_none_or(|first| first == row.first)
                    && last.is_none_or(|last| last == row.next - 1);
                (!fits).then(|| {
                    let (from, to, count) = (row.first, row.next, self.count);
                    format!(
                        "its quarantine says that places {from} to before {to} are parked, and there are {count} rows"
                    )
                })
            }
        }
    }
}

impl Fsck {
    /// What a lane keeps for later.
    pub(super) async fn standing(&mut self, lane: &LaneId) -> Result<(), Error> {
        self.parking(lane).await?;
        self.reached(lane).await?;
        self.timers(lane).await
    }

    /// Merges quarantine and parked rows, both by kind and entity.
    async fn parking(&mut self, lane: &LaneId) -> Result<(), Error> {
        let mut suspects: Vec<(String, String)> = Vec::new();
        let (mut unwell, mut parked) = (Scan::new(&QUARANTINE, lane_key(lane)), Scan::new(&PARKED, lane_key(lane)));
        let mut next_unwell = next_quarantine(&mut unwell, &mut self.look).await?;
        let mut next_parked = next_parked(&mut parked, &mut self.look).await?;
        loop {
            let of_unwell = next_unwell.as_ref().map(|row| (row.kind.clone(), row.entity_id.clone()));
            let of_parked = next_parked.as_ref().map(|row| (row.kind.clone(), row.entity_id.clone()));
            let Some(entity) = of_unwell.iter().chain(&of_parked).min().cloned() else { break };
            let mut parking = Parking::default();
            if of_unwell.as_ref() == Some(&entity) {
                parking.quarantine = next_unwell;
                next_unwell = next_quarantine(&mut unwell, &mut self.look).await?;
            }
            while let Some(row) = next_parked
                .take_if(|row| (row.kind.as_str(), row.entity_id.as_str()) == (entity.0.as_str(), entity.1.as_str()))
            {
                parking.add(row.place);
                next_parked = self::next_parked(&mut parked, &mut self.look).await?;
            }
            if parking.problem().is_some() {
                suspects.push(entity);
            }
        }
        for (kind, entity_id) in suspects {
            self.settle_parking(lane, &kind, &entity_id).await?;
        }
        Ok(())
    }

    async fn settle_parking(&mut self, lane: &LaneId, kind: &str, entity_id: &str) -> Result<(), Error> {
        let key: Key = lane_key(lane).into_iter().chain([Value::text(kind), Value::text(entity_id)]).collect();
        for _ in 0..LOOKS_MAX {
            let batch = self.look.batch(lane).await?;
            let row = self.look.one(&QUARANTINE, key.clone()).await?;
            let quarantine = row.as_ref().map(|row| read(Quarantine::read(row), &QUARANTINE)).transpose()?;
            let mut parking = Parking { quarantine, ..Parking::default() };
            let mut scan = Scan::new(&PARKED, key.clone());
            while let Some(row) = next_parked(&mut scan, &mut self.look).await? {
                parking.add(row.place);
            }
            let Some(problem) = parking.problem() else { return Ok(()) };
            if self.look.batch(lane).await? != batch {
                tokio::time::sleep(LOOK_PAUSE).await;
                continue;
            }
            let mend = format!("seriatim entity show {kind} {entity_id}");
            let finding = Finding::new(Class::QuarantineBroken, format!("{kind} {entity_id}"), problem, mend);
            let finding =
                finding.of(kind, entity_id).with("topic", lane.topic.as_str()).with("partition", lane.partition);
            let finding = finding.with("first_parked", parking.first).with("last_parked", parking.last);
            let finding = finding.with("parked", parking.count);
            self.report.find(match row {
                Some(row) => finding.row(&QUARANTINE, &row),
                None => finding,
            });
            return Ok(());
        }
        self.report.unsettled += 1;
        Ok(())
    }

    /// Rows that name an offset which the lane has not reached. The lane's row is read after them: it only grows.
    async fn reached(&mut self, lane: &LaneId) -> Result<(), Error> {
        let offsets: [(&'static Table, OffsetOf); 4] = [
            (&HELD, |row| Held::read(row).map(|row| row.record_offset)),
            (&PARKED, |row| Parked::read(row).map(|row| row.record_offset)),
            (&WAITING, |row| Waiting::read(row).map(|row| Some(row.record_offset))),
            (&LETTER, |row| Letter::read(row).map(|row| Some(row.record_offset))),
        ];
        for (table, offset_of) in offsets {
            let mut scan = Scan::new(table, lane_key(lane));
            loop {
                let page = scan.pages(&mut self.look).await?;
                if page.is_empty() {
                    break;
                }
                let now = self.look.lane(lane).await?;
                for row in &page {
                    let Some(offset) = read(offset_of(row), table)? else { continue };
                    // Of a topic that was accepted anew the offsets begin again.
                    let Some(now) = now.as_ref().filter(|now| now.incarnation == 1) else { continue };
                    if offset >= now.fence.next_offset {
                        self.find_beyond(lane, table, row, offset, now.fence.next_offset);
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn find_beyond(&mut self, lane: &LaneId, table: &Table, row: &Row, offset: i64, next: i64) {
        let says = format!("a row of {} names it, and the lane has read up to before {next}", table.name);
        let finding = Finding::new(Class::RowBeyondLane, format!("{lane} offset {offset}"), says, show_lane(lane));
        self.report.find(finding.at(lane, offset).with("next_offset", next).row(table, row));
    }

    /// Timers of entities and sagas: an entity's row is never deleted, so it must be there.
    async fn timers(&mut self, lane: &LaneId) -> Result<(), Error> {
        let Some(kind) = self.catalog.at(&lane.topic).cloned() else { return Ok(()) };
        let mut scan = Scan::new(&TIMER, lane_key(lane));
        loop {
            let page = scan.pages(&mut self.look).await?;
            if page.is_empty() {
                return Ok(());
            }
            let mut timers = Vec::new();
            for row in page {
                let timer = read(Timer::read(&row), &TIMER)?;
                if timer.kind != kind.name() || ["entity", "saga"].contains(&timer.purpose.as_str()) {
                    timers.push((timer, row));
                }
            }
            // The row of the entity was written with its timer, or before.
            let ids: BTreeSet<&String> = timers.iter().map(|(timer, _)| &timer.entity_id).collect();
            let keys = ids.iter().map(|id| vec![Value::text(id)]).collect();
            let main = self.look.keyed(kind.main(), keys).await?;
            let known: BTreeSet<&Value> = main.iter().map(|row| &row[0]).collect();
            for (timer, row) in &timers {
                if timer.kind == kind.name() && known.contains(&Value::text(&timer.entity_id)) {
                    continue;
                }
                let (kind, entity_id) = (&timer.kind, &timer.entity_id);
                let mend = format!("seriatim entity show {kind} {entity_id}");
                let says = format!("a timer of purpose {} is set and the entity has no row in {lane}", timer.purpose);
                let finding = Finding::new(Class::TimerWithoutEntity, format!("{kind} {entity_id}"), says, mend);
                self.report.find(finding.of(kind, entity_id).row(&TIMER, row));
            }
        }
    }

    /// Rows of lanes that are none: no lane has its row, or no topic of the catalog its name.
    pub(super) async fn strangers(&mut self) -> Result<(), Error> {
        let tables = [&HELD, &PARKED, &WAITING, &QUARANTINE, &TIMER, &OUTBOX, &LETTER, &LINK_IN, &LINK_OUT];
        for table in tables {
            for lane in self.look.lanes_of(table).await? {
                if self.look.lane(&lane).await?.is_some() {
                    continue;
                }
                let says = format!("{} holds rows of it and it has no row in lane", table.name);
                let finding = Finding::new(Class::RowWithoutLane, lane.to_string(), says, show_lane(&lane));
                let finding = finding.with("topic", lane.topic.as_str()).with("partition", lane.partition);
                let row = Scan::new(table, lane_key(&lane)).next(&mut self.look).await?;
                self.report.find(match row {
                    Some(row) => finding.row(table, &row),
                    None => finding,
                });
            }
        }
        Ok(())
    }
}

async fn next_quarantine(scan: &mut Scan, look: &mut Look) -> Result<Option<Quarantine>, Error> {
    scan.next(look).await?.map(|row| read(Quarantine::read(&row), &QUARANTINE)).transpose()
}

async fn next_parked(scan: &mut Scan, look: &mut Look) -> Result<Option<Parked>, Error> {
    scan.next(look).await?.map(|row| read(Parked::read(&row), &PARKED)).transpose()
}
