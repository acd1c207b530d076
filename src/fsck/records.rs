//! The records of one lane: each that the lane has passed has exactly one outcome; each message among them stands in
//! the order of its link.

use std::collections::HashMap;

use sha2::{Digest as _, Sha256};

use super::{
    Class, Error, Finding, Fsck, Scan,
    account::{Case, Fate, judge},
    bits::Bits,
    gather::{gather, journal_key, offset_key, settle},
    lane_key,
    links::{Links, Place},
    read,
    rows::{JOURNAL, LETTER, PARKED, Parked},
};
use crate::core::{
    decode,
    event::Arrival,
    fence::{LaneRow, LastRecord},
    kind::AnyKind,
    record::{LaneId, Record},
};

/// Ids that are remembered while a lane is read, to know a duplicate's twin; what is older is looked for in the journal.
pub(super) const TWINS_MAX: usize = 1_000_000;

/// Where records with an id stand, and whether that is a dead letter.
pub(super) type Twins = HashMap<[u8; 16], (i64, bool)>;

/// What stays the same for all records of a lane.
pub(super) struct Lane<'a> {
    pub(super) id: &'a LaneId,
    row: LaneRow,
    /// Whether its topic keeps its records from its beginning on.
    pub(super) whole: bool,
    pub(super) kind: std::sync::Arc<dyn AnyKind>,
    /// Offsets that were parked when the lane was begun.
    parked: Bits,
    pub(super) twins: Twins,
}

impl Fsck {
    /// Reads a lane's partition and accounts for all that the lane has passed.
    pub(super) async fn records(&mut self, id: &LaneId) -> Result<(), Error> {
        let (low, high) = self.ends_of(id).await?;
        self.ends.insert(id.clone(), high);
        let mut lane = match self.lanes.get(id).cloned() {
            Some(row) => {
                self.compare_ends(id, &row, low, high).await?;
                Some(self.open_lane(id, row, low == 0).await?)
            }
            None => None,
        };
        let mut links = Links::new(low);
        let mut pages = self.log.read(id, low, high)?;
        while let Some(page) = pages.next().await? {
            let page: Vec<Arrival> = page.into_iter().map(|record| decode::open(&self.catalog, id, record)).collect();
            if low == 0 && page.first().is_some_and(|first| first.record.offset == 0) {
                let begun = page[0].record.timestamp_ms;
                self.young.extend((begun >= self.horizon.journal_ms).then(|| id.clone()));
            }
            let mut places = Vec::with_capacity(page.len());
            for arrival in &page {
                places.push(self.place(id, arrival, &mut links));
            }
            self.compare_messages(id, &page).await?;
            if let Some(lane) = &mut lane {
                self.account_page(lane, &page, &places).await?;
            }
        }
        self.read.insert(id.clone(), links);
        if let Some(lane) = lane
            && low == 0
            && lane.row.incarnation == 1
        {
            self.laws_of_lane(id, lane.row.fence.batch).await?;
        }
        Ok(())
    }

    async fn open_lane<'a>(&mut self, id: &'a LaneId, row: LaneRow, whole: bool) -> Result<Lane<'a>, Error> {
        let kind = std::sync::Arc::clone(self.catalog.at(&id.topic).expect("a lane is of a home topic"));
        let mut parked = Bits::default();
        let mut scan = Scan::new(&PARKED, lane_key(id));
        while let Some(row) = scan.next(&mut self.look).await? {
            let offset = read(Parked::read(&row), &PARKED)?.record_offset;
            offset.map(|offset| parked.add(offset));
        }
        Ok(Lane { id, row, whole, kind, parked, twins: Twins::new() })
    }

    /// The lane's next offset lies within its topic.
    async fn compare_ends(&mut self, id: &LaneId, row: &LaneRow, low: i64, high: i64) -> Result<(), Error> {
        let next = row.fence.next_offset;
        let accept = format!("seriatim lane accept {} {}", id.topic, id.partition);
        let finding = |class, says: String| {
            let finding = Finding::new(class, id.to_string(), says, accept.as_str()).at(id, next);
            finding.with("oldest", low).with("end", high).with("owner", row.owner.as_str())
        };
        if next > high {
            let says = format!("the lane is to read offset {next} and its topic ends at {high}");
            self.report.find(finding(Class::LaneBeyondTopic, says));
        }
        // The topic may have let go what the lane has read in between.
        if low > next && row.last.is_some() && self.look.lane(id).await?.is_some_and(|now| low > now.fence.next_offset)
        {
            let says = format!("the lane is to read offset {next} and its topic keeps {low} and later ones only");
            self.report.find(finding(Class::LaneBehindTopic, says));
        }
        Ok(())
    }

    async fn account_page(&mut self, lane: &mut Lane<'_>, page: &[Arrival], places: &[Place]) -> Result<(), Error> {
        let passed = |arrival: &Arrival| arrival.record.offset < lane.row.fence.next_offset;
        let page: Vec<(&Arrival, Place)> =
            page.iter().zip(places.iter().copied()).filter(|(arrival, _)| passed(arrival)).collect();
        let arrivals: Vec<&Arrival> = page.iter().map(|(arrival, _)| *arrival).collect();
        let facts = gather(&mut self.look, lane, &arrivals).await?;
        for (arrival, place) in page {
            self.compare_last(lane, &arrival.record);
            let twin_key = twin_key(arrival);
            let case = lane.case(arrival, place, twin_key);
            let mut fate = judge(&case, &facts);
            if !matches!(fate, Fate::One(_)) {
                let Some(settled) = settle(&mut self.look, lane, &case).await? else {
                    self.report.unsettled += 1;
                    continue;
                };
                fate = settled;
            }
            match fate {
                Fate::One(outcome) => {
                    self.report.count(outcome);
                    if let Ok(event) = &arrival.decoded
                        && outcome == "applied"
                    {
                        self.laws.iter_mut().for_each(|law| law.applied(lane.id, event));
                    }
                    if let Some(key) = twin_key
                        && outcome != "duplicate"
                        && lane.twins.len() < TWINS_MAX
                    {
                        lane.twins.entry(key).or_insert((arrival.record.offset, outcome == "dead_lettered"));
                    }
                }
                // What became of it may have been forgotten since.
                Fate::IfTwin | Fate::Lost if arrival.record.timestamp_ms < self.horizon.records_ms => {
                    self.report.count("forgotten");
                }
                Fate::IfTwin | Fate::Lost => self.find_lost(lane, arrival),
                Fate::Twice(outcomes) => self.find_twice(lane, arrival, &outcomes).await?,
                Fate::Other => self.find_other(lane, arrival).await?,
            }
        }
        Ok(())
    }

    fn compare_last(&mut self, lane: &Lane<'_>, record: &Record) {
        let Some(last) = lane.row.last.as_ref().filter(|last| last.offset == record.offset) else { return };
        if *last != LastRecord::of(record) {
            let accept = format!("seriatim lane accept {} {}", lane.id.topic, lane.id.partition);
            let says = format!("the record at offset {} is not the one that the lane has read there", record.offset);
            self.report.find(
                Finding::new(Class::LaneOtherTopic, lane.id.to_string(), says, accept)
                    .at(lane.id, record.offset)
                    .with("read_timestamp_ms", last.timestamp_ms)
                    .with("found_timestamp_ms", record.timestamp_ms),
            );
        }
    }

    fn find_lost(&mut self, lane: &Lane<'_>, arrival: &Arrival) {
        let (topic, partition, offset) = (&lane.id.topic, lane.id.partition, arrival.record.offset);
        let mend = format!("seriatim lane accept {topic} {partition}");
        let says = "the lane has passed it and no row tells what became of it".to_owned();
        let finding = Finding::new(Class::RecordLost, format!("{} offset {offset}", lane.id), says, mend);
        let finding = finding.at(lane.id, offset).with("next_offset", lane.row.fence.next_offset);
        self.report.find(named(finding, lane, arrival));
    }

    async fn find_twice(&mut self, lane: &Lane<'_>, arrival: &Arrival, outcomes: &[&str]) -> Result<(), Error> {
        let (kind, offset) = (lane.kind.name(), arrival.record.offset);
        let entity_id = entity_of(arrival).unwrap_or_default();
        let says = format!("it has more than one outcome: {}", outcomes.join(", "));
        let mend = format!("seriatim entity show {kind} {entity_id}");
        let finding = Finding::new(Class::RecordTwice, format!("{} offset {offset}", lane.id), says, mend);
        let finding = named(finding.at(lane.id, offset).with("outcomes", outcomes), lane, arrival);
        let finding = self.with_rows(lane, arrival, finding).await?;
        self.report.find(finding);
        Ok(())
    }

    async fn find_other(&mut self, lane: &Lane<'_>, arrival: &Arrival) -> Result<(), Error> {
        let (kind, offset) = (lane.kind.name(), arrival.record.offset);
        let entity_id = entity_of(arrival).unwrap_or_default();
        let says = "its journal row has the digest of another record".to_owned();
        let mend = format!("seriatim entity show {kind} {entity_id}");
        let finding = Finding::new(Class::RecordOther, format!("{} offset {offset}", lane.id), says, mend);
        let finding = self.with_rows(lane, arrival, named(finding.at(lane.id, offset), lane, arrival)).await?;
        self.report.find(finding);
        Ok(())
    }

    /// The rows that speak of a record.
    async fn with_rows(&mut self, lane: &Lane<'_>, arrival: &Arrival, finding: Finding) -> Result<Finding, Error> {
        let mut finding = finding;
        if let Ok(event) = &arrival.decoded {
            for row in self.look.keyed(&JOURNAL, vec![journal_key(lane, arrival, event)]).await? {
                finding = finding.row(&JOURNAL, &row);
            }
        }
        if let Some(row) = self.look.one(&LETTER, offset_key(lane.id, arrival.record.offset)).await? {
            finding = finding.row(&LETTER, &row);
        }
        Ok(finding)
    }

    async fn laws_of_lane(&mut self, id: &LaneId, batch: i64) -> Result<(), Error> {
        let mut laws = std::mem::take(&mut self.laws);
        for law in &mut laws {
            let findings = law.lane(&mut self.look, id).await?;
            if findings.is_empty() {
                continue;
            }
            if self.look.batch(id).await? == batch {
                findings.into_iter().for_each(|finding| self.report.find(finding));
            } else {
                self.report.not_at_rest += 1;
            }
        }
        self.laws = laws;
        Ok(())
    }
}

impl Lane<'_> {
    fn case<'a>(&'a self, arrival: &'a Arrival, place: Place, twin_key: Option<[u8; 16]>) -> Case<'a> {
        Case {
            lane: self.id,
            arrival,
            place,
            parked: &self.parked,
            whole: self.whole && self.row.incarnation == 1,
            journaled: self.kind.journaled(),
            anew: self.row.incarnation > 1,
            twin: twin_key.and_then(|key| self.twins.get(&key).copied()),
        }
    }
}

pub(super) fn entity_of(arrival: &Arrival) -> Option<&str> {
    match &arrival.decoded {
        Ok(event) => Some(&event.entity_id),
        Err(rejection) => rejection.entity_id.as_deref(),
    }
}

/// Adds what names an event, if it can be read, or why it cannot.
fn named(finding: Finding, lane: &Lane<'_>, arrival: &Arrival) -> Finding {
    let finding = match entity_of(arrival) {
        Some(entity_id) => finding.of(lane.kind.name(), entity_id),
        None => finding,
    };
    let finding = match &arrival.link {
        Some(link) => finding.with("link", link.to_string()).with("link_sequence", link.sequence),
        None => finding,
    };
    match &arrival.decoded {
        Ok(event) => finding
            .with("event_id", event.id.as_str())
            .with("source", event.source.as_str())
            .with("event_type", event.event_type.as_str())
            .with("sequence", event.sequence),
        Err(rejection) => finding.with("undecoded", rejection.error.as_str()),
    }
}

/// Names an event by its id, if that is what tells its duplicates.
fn twin_key(arrival: &Arrival) -> Option<[u8; 16]> {
    let event = arrival.decoded.as_ref().ok().filter(|event| event.sequence.is_none() && arrival.link.is_none())?;
    let mut hash = Sha256::new();
    for part in [&event.entity_id, &event.source, &event.id] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let mut key = [0; 16];
    key.copy_from_slice(&hash.finalize()[..16]);
    Some(key)
}
