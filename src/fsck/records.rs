//! The records of one lane: each that the lane has passed has exactly one outcome; each message among them stands in
//! the order of its link.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sha2::{Digest as _, Sha256};

use super::{
    Class, Error, Finding, Fsck, Scan,
    account::{Case, Facts, Fate, held_as, judge, number_of},
    bits::Bits,
    lane_key,
    links::{Links, Place},
    look::Look,
    read,
    rows::{
        HELD, Held, JOURNAL, Journal, LETTER, Letter, PARKED, PASSED, Parked, Passed, SEEN, STRAY, Seen, Stray,
        WAITING, Waiting,
    },
};
use crate::core::{
    decode,
    event::{Arrival, Event},
    fence::{LaneRow, LastRecord},
    kind::AnyKind,
    marks::Marks,
    record::{LaneId, Record},
    table::{Key, Value},
};

/// Looks at one suspicion before it is left unsettled: a lane under load stands still between two batches.
const LOOKS_MAX: u32 = 300;
/// Pause between two of them: some commits of a busy lane.
const LOOK_PAUSE: std::time::Duration = std::time::Duration::from_millis(5);
/// Ids that are remembered while a lane is read, to know a duplicate's twin; what is older is looked for in the journal.
const TWINS_MAX: usize = 1_000_000;

/// Where records with an id stand, and whether that is a dead letter.
type Twins = HashMap<[u8; 16], (i64, bool)>;

/// What stays the same for all records of a lane.
struct Lane<'a> {
    id: &'a LaneId,
    row: LaneRow,
    kind: std::sync::Arc<dyn AnyKind>,
    /// The ranges in which ids are kept.
    ranges: Vec<i64>,
    /// Offsets that were parked when the lane was begun.
    parked: Bits,
    twins: Twins,
}

impl Fsck {
    /// Reads a lane's partition and accounts for all that the lane has passed.
    pub(super) async fn records(&mut self, id: &LaneId) -> Result<(), Error> {
        let (low, high) = self.ends_of(id).await?;
        self.ends.insert(id.clone(), high);
        let mut lane = match self.lanes.get(id).cloned() {
            Some(row) => {
                self.compare_ends(id, &row, low, high).await?;
                Some(self.open_lane(id, row).await?)
            }
            None => None,
        };
        let mut links = Links::new(low);
        let mut pages = self.log.read(id, low, high)?;
        while let Some(page) = pages.next().await? {
            let page: Vec<Arrival> = page.into_iter().map(|record| decode::open(&self.catalog, id, record)).collect();
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

    async fn open_lane<'a>(&mut self, id: &'a LaneId, row: LaneRow) -> Result<Lane<'a>, Error> {
        let kind = std::sync::Arc::clone(self.catalog.at(&id.topic).expect("a lane is of a home topic"));
        let mut ranges = Vec::new();
        let mut after = None;
        while let Some(row) = self.look.first_after(&SEEN, after.take()).await? {
            let row = read(Seen::read(&row), &SEEN)?;
            ranges.push(row.range);
            let mut key: Key = vec![Value::Int(row.range.saturating_add(1))];
            key.extend(std::iter::repeat_n(Value::text(""), SEEN.key - 1));
            after = Some(key);
        }
        let mut parked = Bits::default();
        let mut scan = Scan::new(&PARKED, lane_key(id));
        while let Some(row) = scan.next(&mut self.look).await? {
            let offset = read(Parked::read(&row), &PARKED)?.record_offset;
            offset.map(|offset| parked.add(offset));
        }
        Ok(Lane { id, row, kind, ranges, parked, twins: Twins::new() })
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
            journaled: self.kind.journaled(),
            anew: self.row.incarnation > 1,
            twin: twin_key.and_then(|key| self.twins.get(&key).copied()),
        }
    }
}

fn entity_of(arrival: &Arrival) -> Option<&str> {
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

fn offset_key(lane: &LaneId, offset: i64) -> Key {
    let mut key = lane_key(lane);
    key.push(Value::Int(offset));
    key
}

fn journal_key(lane: &Lane<'_>, arrival: &Arrival, event: &Event) -> Key {
    let texts = [lane.kind.name(), &event.entity_id, &event.source].map(Value::text);
    texts.into_iter().chain([Value::Int(number_of(arrival, event))]).collect()
}

/// What the tables say about these records, but for what is parked.
async fn gather(look: &mut Look, lane: &Lane<'_>, page: &[&Arrival]) -> Result<Facts, Error> {
    let mut facts = Facts::default();
    let kind = lane.kind.name();
    let own = |names: &[&str]| -> Key { [kind].iter().chain(names).map(|name| Value::text(name)).collect() };
    let (mut journal, mut letters, mut held, mut waiting) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut passed, mut seen, mut entities) = (Vec::new(), Vec::new(), BTreeSet::new());
    for arrival in page {
        let offset = arrival.record.offset;
        letters.push(offset_key(lane.id, offset));
        if let Some((link, (entity_id, source, number))) = held_as(arrival) {
            let texts = [link.as_str(), kind, &entity_id, &source].map(Value::text);
            held.push(lane_key(lane.id).into_iter().chain(texts).chain([Value::Int(number)]).collect());
        }
        let Ok(event) = &arrival.decoded else { continue };
        journal.push(journal_key(lane, arrival, event));
        waiting
            .push(lane_key(lane.id).into_iter().chain(own(&[&event.entity_id])).chain([Value::Int(offset)]).collect());
        match event.sequence {
            Some(_) => passed.push(journal_key(lane, arrival, event)),
            None if arrival.link.is_some() => {}
            None => seen.extend(lane.ranges.iter().map(|range| {
                let names = own(&[&event.entity_id, &event.source, &event.id]);
                [Value::Int(*range)].into_iter().chain(names).collect::<Key>()
            })),
        }
        if !lane.kind.journaled() {
            entities.insert(event.entity_id.clone());
        }
    }
    for row in look.keyed(&HELD, held).await? {
        let row = read(Held::read(&row), &HELD)?;
        facts.held.insert((row.link.clone(), (row.entity_id.clone(), row.source.clone(), row.sequence)), row);
    }
    for row in look.keyed(&WAITING, waiting).await? {
        facts.waiting.insert(read(Waiting::read(&row), &WAITING)?.record_offset);
    }
    for row in look.keyed(&JOURNAL, journal).await? {
        let row = read(Journal::read(&row), &JOURNAL)?;
        if row.topic == lane.id.topic && row.partition == i64::from(lane.id.partition) {
            // Whether a twin was replayed is asked for too.
            letters.push(offset_key(lane.id, row.record_offset));
        }
        facts.journal.entry((row.entity_id.clone(), row.source.clone(), row.number)).or_default().push(row);
    }
    for row in look.keyed(&LETTER, letters).await? {
        let row = read(Letter::read(&row), &LETTER)?;
        facts.letters.insert(row.record_offset, row);
    }
    for row in look.keyed(&PASSED, passed).await? {
        let row = read(Passed::read(&row), &PASSED)?;
        facts.passed.insert((row.entity_id, row.source, row.sequence), row.digest);
    }
    for row in look.keyed(&SEEN, seen).await? {
        let row = read(Seen::read(&row), &SEEN)?;
        facts.seen.insert((row.entity_id, row.source, row.event_id), row.digest);
    }
    facts.marks = marks(look, lane, entities).await?;
    Ok(facts)
}

/// The marks of entities, in their rows or before they have one.
async fn marks(look: &mut Look, lane: &Lane<'_>, ids: BTreeSet<String>) -> Result<BTreeMap<String, Marks>, Error> {
    let main = lane.kind.main();
    let at = main.version.ok_or(Error::Unfit(main.name))? + 2;
    let mut found = BTreeMap::new();
    let parse = |text: &str| serde_json::from_str::<Marks>(text).map_err(|_| Error::Unfit(main.name));
    let stray = ids.iter().map(|id| vec![Value::text(lane.kind.name()), Value::text(id)]).collect();
    for row in look.keyed(&STRAY, stray).await? {
        let row = read(Stray::read(&row), &STRAY)?;
        found.insert(row.entity_id, parse(&row.marks)?);
    }
    for row in look.keyed(main, ids.iter().map(|id| vec![Value::text(id)]).collect()).await? {
        if let (Value::Text(id), Value::Text(text)) = (&row[0], &row[at]) {
            found.insert(id.clone(), parse(text)?);
        }
    }
    Ok(found)
}

/// What became of one record, read while its lane stood still; nothing if it never did.
async fn settle(look: &mut Look, lane: &Lane<'_>, case: &Case<'_>) -> Result<Option<Fate>, Error> {
    for _ in 0..LOOKS_MAX {
        let batch = look.batch(lane.id).await?;
        let facts = gather(look, lane, &[case.arrival]).await?;
        let parked = parked(look, lane, case.arrival).await?;
        let mut fate = judge(&Case { parked: &parked, ..*case }, &facts);
        if let (Fate::IfTwin, Ok(event)) = (&fate, &case.arrival.decoded)
            && has_twin(look, lane, event).await?
        {
            fate = Fate::One("duplicate");
        }
        if matches!(fate, Fate::One(_)) || look.batch(lane.id).await? == batch {
            return Ok(Some(fate));
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    Ok(None)
}

/// The record's offset, if its entity has it parked.
async fn parked(look: &mut Look, lane: &Lane<'_>, arrival: &Arrival) -> Result<Bits, Error> {
    let mut found = Bits::default();
    let Some(entity_id) = entity_of(arrival) else { return Ok(found) };
    let names = [lane.kind.name(), entity_id].map(Value::text);
    let mut scan = Scan::new(&PARKED, lane_key(lane.id).into_iter().chain(names).collect());
    while let Some(row) = scan.next(look).await? {
        if read(Parked::read(&row), &PARKED)?.record_offset == Some(arrival.record.offset) {
            found.add(arrival.record.offset);
            break;
        }
    }
    Ok(found)
}

/// Whether the journal of an entity knows an event of this id from the same source.
async fn has_twin(look: &mut Look, lane: &Lane<'_>, event: &Event) -> Result<bool, Error> {
    let names = [lane.kind.name(), &event.entity_id, &event.source].map(Value::text);
    let mut scan = Scan::new(&JOURNAL, names.into());
    while let Some(row) = scan.next(look).await? {
        if read(Journal::read(&row), &JOURNAL)?.event_id == event.id {
            return Ok(true);
        }
    }
    // Those that had no row in the journal stand among the twins, unless there were too many to remember.
    Ok(lane.twins.len() >= TWINS_MAX)
}
