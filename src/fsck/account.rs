//! What became of one record, told by rows alone: exactly one outcome, or something is wrong. Pure.
//!
//! Most outcomes are rows that name the record's offset. A duplicate leaves none: it must have a twin that took its
//! number, its id or its place on the link. Kinds without a journal leave none either: their marks tell.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    bits::Bits,
    links::Place,
    rows::{Held, Journal, Letter},
};
use crate::core::{
    event::{Arrival, Event},
    marks::{Marks, Standing},
    record::LaneId,
    table::Bytes,
};

/// Entity, source and number or id.
pub(super) type Named<T> = (String, String, T);

/// What the tables say about some records of one lane.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) journal: BTreeMap<Named<i64>, Vec<Journal>>,
    pub(super) letters: BTreeMap<i64, Letter>,
    /// By link and what it is held as.
    pub(super) held: BTreeMap<(String, Named<i64>), Held>,
    pub(super) waiting: BTreeSet<i64>,
    pub(super) passed: BTreeMap<Named<i64>, Option<Bytes>>,
    pub(super) seen: BTreeMap<Named<String>, Bytes>,
    pub(super) marks: BTreeMap<String, Marks>,
}

/// What is known of a record beside the tables.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case<'a> {
    pub(super) lane: &'a LaneId,
    pub(super) arrival: &'a Arrival,
    /// How it stands to the messages of its link that were read before it; new, if it is no message of ours.
    pub(super) place: Place,
    /// Whether all records that the lane has ever read are there: else an original may be gone, and only its copy left.
    pub(super) whole: bool,
    /// Offsets that are parked.
    pub(super) parked: &'a Bits,
    /// Whether its kind keeps a journal.
    pub(super) journaled: bool,
    /// Whether the topic was accepted anew: rows of its offset may be of a record that was there before.
    pub(super) anew: bool,
    /// Where a record with its id stands that had an outcome, and whether that is a dead letter.
    pub(super) twin: Option<(i64, bool)>,
}

/// What became of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The word of the outcome.
    One(&'static str),
    /// It is a duplicate if a record with its id was applied before.
    IfTwin,
    /// Nothing accounts for it.
    Lost,
    /// It, or it and its twin, have taken effect more than once: the words.
    Twice(Vec<&'static str>),
    /// The journal speaks of another record at its place.
    Other,
}

/// Words for what cannot be told apart any further.
pub(super) const COUNTED: &str = "applied_or_duplicate";
const DUPLICATE: &str = "duplicate";

/// The number that an event's journal row has.
pub(super) fn number_of(arrival: &Arrival, event: &Event) -> i64 {
    event.sequence.unwrap_or(arrival.record.offset)
}

/// What became of a record.
pub(super) fn judge(case: &Case<'_>, facts: &Facts) -> Fate {
    let offset = case.arrival.record.offset;
    let letter = facts.letters.get(&offset);
    let is_replayed = letter.is_some_and(|letter| letter.status == "replayed");
    let mut outcomes = Vec::new();
    if let Ok(event) = &case.arrival.decoded {
        let (own, others) = journal_of(case, event, facts);
        let other = own.iter().any(|row| row.digest.as_deref().is_some_and(|digest| digest != event.digest));
        if other && !case.anew {
            return Fate::Other;
        }
        outcomes.extend(own.iter().map(|row| word(&row.outcome)));
        // A number is taken once; only an operator's replay runs outside of that.
        let replayed = |row: &Journal| facts.letters.get(&row.record_offset).is_some_and(|it| it.status == "replayed");
        let twin_took = others.iter().any(|row| row.record_offset < offset && !replayed(row))
            || case.twin.is_some_and(|(at, is_letter)| at < offset && !is_letter)
            || matches!(case.place, Place::Copy | Place::Other);
        if !own.is_empty() && twin_took && !is_replayed && !case.anew {
            return Fate::Twice(vec![DUPLICATE, outcomes[0]]);
        }
    }
    if letter.is_some() && !is_replayed {
        outcomes.push("dead_lettered");
    }
    if held_as(case.arrival)
        .and_then(|key| facts.held.get(&key))
        .is_some_and(|row| row.record_offset == Some(offset) && row.place == 0)
    {
        outcomes.push("held");
    }
    outcomes.extend(case.parked.has(offset).then_some("parked"));
    outcomes.extend(facts.waiting.contains(&offset).then_some("waiting"));
    match outcomes.as_slice() {
        [one] => Fate::One(one),
        [] => without_rows(case, facts, is_replayed),
        _ => Fate::Twice(outcomes),
    }
}

/// Journal rows of the record itself, and of others with its number.
fn journal_of<'a>(case: &Case<'_>, event: &Event, facts: &'a Facts) -> (Vec<&'a Journal>, Vec<&'a Journal>) {
    let key = (event.entity_id.clone(), event.source.clone(), number_of(case.arrival, event));
    let rows = facts.journal.get(&key).map(Vec::as_slice).unwrap_or_default().iter();
    let is_own = |row: &&Journal| {
        row.topic == case.lane.topic
            && row.partition == i64::from(case.lane.partition)
            && row.record_offset == case.arrival.record.offset
            && (!case.anew || row.digest.as_deref().is_none_or(|digest| digest == event.digest))
    };
    rows.partition(is_own)
}

fn word(outcome: &str) -> &'static str {
    match outcome {
        "refused" => "refused",
        "skipped" => "skipped",
        _ => "applied",
    }
}

/// Where a record is held, if it is: by its link, or by its entity's sequence.
pub(super) fn held_as(arrival: &Arrival) -> Option<(String, Named<i64>)> {
    if let Some(link) = &arrival.link {
        let name = link.to_string();
        return Some((name.clone(), (String::new(), name, link.sequence)));
    }
    let event = arrival.decoded.as_ref().ok()?;
    Some((String::new(), (event.entity_id.clone(), event.source.clone(), event.sequence?)))
}

/// No row names the record: a duplicate, or an event of a kind without a journal.
fn without_rows(case: &Case<'_>, facts: &Facts, is_replayed: bool) -> Fate {
    if matches!(case.place, Place::Copy | Place::Other | Place::Old) {
        return Fate::One(DUPLICATE);
    }
    let Ok(event) = &case.arrival.decoded else { return Fate::Lost };
    if case.arrival.link.is_some() {
        return match (case.journaled, case.whole) {
            (true, true) => Fate::Lost,
            (true, false) => Fate::One(DUPLICATE),
            (false, _) => Fate::One(COUNTED),
        };
    }
    if is_replayed && !case.journaled {
        return Fate::One(COUNTED);
    }
    match event.sequence {
        Some(number) => numbered(case, event, number, facts),
        None => identified(case, event, facts),
    }
}

/// An event with a number: who took the number, and with what content?
fn numbered(case: &Case<'_>, event: &Event, number: i64, facts: &Facts) -> Fate {
    let key = (event.entity_id.clone(), event.source.clone(), number);
    let same = |digest: &Option<Bytes>| digest.as_deref() == Some(event.digest.as_slice());
    let journal = facts.journal.get(&key).into_iter().flatten().any(|row| same(&row.digest));
    let passed = facts.passed.get(&key).is_some_and(same);
    let held = facts.held.get(&(String::new(), key)).is_some_and(|row| same(&row.digest));
    if journal || passed || held {
        return Fate::One(DUPLICATE);
    }
    if case.journaled {
        return Fate::Lost;
    }
    let marks = facts.marks.get(&event.entity_id);
    let taken = marks.is_some_and(|marks| {
        matches!(marks.standing(&event.source), Standing::Taken(taken) if number <= taken)
            && marks.had_digest(&event.source, number, &event.digest) != Some(false)
            && !marks.gave_up(&event.source, number)
    });
    if taken { Fate::One(COUNTED) } else { Fate::Lost }
}

/// An event with an id: it was seen, and if there is a journal, somebody with its id was applied.
fn identified(case: &Case<'_>, event: &Event, facts: &Facts) -> Fate {
    let key = (event.entity_id.clone(), event.source.clone(), event.id.clone());
    let seen = facts.seen.get(&key).is_some_and(|digest| **digest == event.digest);
    match (seen, case.journaled, case.twin) {
        (false, ..) => Fate::Lost,
        (true, false, _) => Fate::One(COUNTED),
        (true, true, Some(_)) => Fate::One(DUPLICATE),
        (true, true, None) => Fate::IfTwin,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::{catalog::Catalog, decode, header::Headers, record::Record},
        shop,
    };

    fn lane() -> LaneId {
        LaneId { topic: "profiles".to_owned(), partition: 0 }
    }

    fn catalog() -> Catalog {
        let catalog = shop::catalog(&shop::Settings::default(), "");
        let counts = catalog.all_topics().map(|topic| (topic, 1)).collect();
        catalog.with_partitions(counts)
    }

    fn arrival(offset: i64, sequence: &str, email: &str) -> Arrival {
        let mut headers = Headers::from_iter([
            ("ce_specversion", Some("1.0")),
            ("ce_id", Some("e")),
            ("ce_source", Some("/app")),
            ("ce_type", Some("profile.email_changed")),
        ]);
        headers.extend((!sequence.is_empty()).then_some(("ce_entityseq", Some(sequence))));
        let value = serde_json::json!({ "user_id": "u", "email": email }).to_string().into_bytes();
        let record =
            Record { offset, timestamp_ms: 0, key: Some(b"u".as_slice().into()), value: Some(value.into()), headers };
        decode::open(&catalog(), &lane(), record)
    }

    fn row(arrival: &Arrival, outcome: &str) -> Journal {
        let event = arrival.decoded.as_ref().unwrap();
        Journal {
            kind: "profile".to_owned(),
            entity_id: event.entity_id.clone(),
            source: event.source.clone(),
            number: number_of(arrival, event),
            batch: 1,
            idx: 0,
            version: Some(1),
            outcome: outcome.to_owned(),
            event_id: event.id.clone(),
            event_type: event.event_type.clone(),
            topic: lane().topic,
            partition: 0,
            record_offset: arrival.record.offset,
            digest: Some(event.digest.into()),
        }
    }

    fn facts(rows: &[Journal]) -> Facts {
        let mut facts = Facts::default();
        for row in rows {
            let key = (row.entity_id.clone(), row.source.clone(), row.number);
            facts.journal.entry(key).or_default().push(row.clone());
        }
        facts
    }

    fn fate(arrival: &Arrival, facts: &Facts, parked: &[i64]) -> Fate {
        let mut bits = Bits::default();
        parked.iter().for_each(|offset| assert!(bits.add(*offset)));
        let (lane, place) = (lane(), Place::New);
        let case =
            Case { lane: &lane, arrival, place, whole: true, parked: &bits, journaled: true, anew: false, twin: None };
        judge(&case, facts)
    }

    #[test]
    fn a_record_has_the_outcome_of_its_row() {
        let first = arrival(5, "1", "a");
        assert_eq!(fate(&first, &facts(&[row(&first, "applied")]), &[]), Fate::One("applied"));
        assert_eq!(fate(&first, &facts(&[row(&first, "skipped")]), &[]), Fate::One("skipped"));
        assert_eq!(fate(&first, &Facts::default(), &[5]), Fate::One("parked"));
        assert_eq!(fate(&first, &Facts::default(), &[]), Fate::Lost);
    }

    #[test]
    fn a_duplicate_has_a_twin_of_the_same_content() {
        let (first, again, other) = (arrival(5, "1", "a"), arrival(9, "1", "a"), arrival(9, "1", "b"));
        let facts = facts(&[row(&first, "applied")]);
        assert_eq!(fate(&again, &facts, &[]), Fate::One("duplicate"));
        assert_eq!(fate(&other, &facts, &[]), Fate::Lost, "a conflict is a dead letter");
    }

    #[test]
    fn what_takes_effect_twice_is_told() {
        let (first, again) = (arrival(5, "1", "a"), arrival(9, "1", "a"));
        let both = facts(&[row(&first, "applied"), row(&again, "applied")]);
        assert_eq!(fate(&again, &both, &[]), Fate::Twice(vec!["duplicate", "applied"]));
        assert_eq!(fate(&first, &both, &[]), Fate::One("applied"), "the first of them is right");
        assert_eq!(fate(&first, &facts(&[row(&first, "applied")]), &[5]), Fate::Twice(vec!["applied", "parked"]));
    }

    #[test]
    fn an_id_needs_a_twin_that_was_read() {
        let again = arrival(9, "", "a");
        let event = again.decoded.as_ref().unwrap();
        let mut facts = Facts::default();
        let key = (event.entity_id.clone(), event.source.clone(), event.id.clone());
        facts.seen.insert(key, event.digest.into());
        assert_eq!(fate(&again, &facts, &[]), Fate::IfTwin);
        assert_eq!(fate(&again, &Facts::default(), &[]), Fate::Lost);
    }
}
