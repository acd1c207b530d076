//! What the tables say about records, for a page of them or for one whose lane stands still meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Error, Scan,
    account::{Case, Facts, Fate, held_as, judge, number_of},
    bits::Bits,
    lane_key,
    look::{LOOK_PAUSE, LOOKS_MAX, Look},
    read,
    records::{Lane, TWINS_MAX, entity_of},
    rows::{
        HELD, Held, JOURNAL, Journal, LETTER, Letter, PARKED, PASSED, Parked, Passed, SEEN, STRAY, Seen, Stray,
        WAITING, Waiting,
    },
};
use crate::core::{
    event::{Arrival, Event},
    marks::Marks,
    record::LaneId,
    table::{Key, Value},
};

pub(super) fn offset_key(lane: &LaneId, offset: i64) -> Key {
    let mut key = lane_key(lane);
    key.push(Value::Int(offset));
    key
}

pub(super) fn journal_key(lane: &Lane<'_>, arrival: &Arrival, event: &Event) -> Key {
    let texts = [lane.kind.name(), &event.entity_id, &event.source].map(Value::text);
    texts.into_iter().chain([Value::Int(number_of(arrival, event))]).collect()
}

/// What the tables say about these records, but for what is parked.
pub(super) async fn gather(look: &mut Look, lane: &Lane<'_>, page: &[&Arrival]) -> Result<Facts, Error> {
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
            None => seen.push(own(&[&event.entity_id, &event.source, &event.id])),
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
pub(super) async fn settle(look: &mut Look, lane: &Lane<'_>, case: &Case<'_>) -> Result<Option<Fate>, Error> {
    for _ in 0..LOOKS_MAX {
        let batch = look.batch(lane.id).await?;
        let facts = gather(look, lane, &[case.arrival]).await?;
        let parked = parked(look, lane, case.arrival).await?;
        let mut fate = judge(&Case { parked: &parked, ..*case }, &facts);
        if let (Fate::IfTwin, Ok(event)) = (&fate, &case.arrival.decoded)
            && (!case.whole || has_twin(look, lane, event).await?)
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
