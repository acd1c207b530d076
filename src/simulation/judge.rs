//! What holds for every worker, whatever its handlers do: judged over all that a world has left behind.

use std::collections::{BTreeMap, BTreeSet};

use super::{evidence::Evidence, world::World};
use crate::core::{
    catalog::Catalog,
    fence::{Fence, Position},
    header::{POSITION, SEQUENCE, TIMELINE},
    ledger::{
        COMMAND, COMMAND_LOG, Command, CommandLog, DEAD_LETTER, DEBT, DeadLetter, Debt, HELD, Held, JOURNAL, Journal,
        LINK_IN, LINK_OUT, LinkIn, LinkOut, OUTBOX, QUARANTINE, Quarantine, SAGA, Saga, WAITING,
    },
    record::{LaneId, Record},
    table::Value,
};

/// The messages of a link by their numbers, each with its place and as it stands first in the topic.
type Sent<'a> = BTreeMap<i64, (&'a str, &'a Record)>;
/// Key, value and headers.
type Content<'a> = (Option<&'a [u8]>, Option<&'a [u8]>, Vec<(&'a str, Option<&'a [u8]>)>);

/// What is not at rest yet, if anything.
pub(super) fn unrest(world: &World) -> Option<String> {
    let store = &world.store;
    let lanes: BTreeMap<LaneId, _> = store.lanes().into_iter().map(|row| (row.lane.clone(), row)).collect();
    let inner = world.inner();
    for (lane, partition) in inner.log.partitions().filter(|(lane, _)| inner.group.is_home(&lane.topic)) {
        let next = lanes.get(lane).map(|row| row.fence.next_offset);
        if next.is_none_or(|next| !partition.from(next).is_empty()) {
            return Some(format!("{lane} is read up to {next:?} of {}", partition.end()));
        }
    }
    drop(inner);
    let held = store.find(&HELD, |row| Held::read(row).filter(|held| held.place == 0));
    if let Some(held) = held {
        return Some(format!("{} {} of {} is held", held.entity_id, held.sequence, held.source));
    }
    if store.find(&WAITING, |_| Some(())).is_some() {
        return Some("a record waits for its entity".to_owned());
    }
    if let Some(order) = store.find(&COMMAND, Command::read) {
        return Some(format!("order {} of {}/{} is not carried out", order.action, order.topic, order.partition));
    }
    let open = ["running", "compensating"];
    if let Some(saga) = store.find(&SAGA, |row| Saga::read(row).filter(|saga| open.contains(&&*saga.status))) {
        return Some(format!("saga {} is {}", saga.saga_id, saga.status));
    }
    // Asked again and again: messages are told by their keys alone.
    let unsent = store.find(&OUTBOX, |row| {
        let [Value::Text(topic), Value::Int(partition), Value::Int(batch), Value::Int(index), ..] = row else {
            return None;
        };
        let of_lane = lanes.iter().find(|(lane, _)| lane.topic == *topic && i64::from(lane.partition) == *partition);
        let relayed = of_lane.map(|(_, row)| row.relayed);
        (relayed < Some(Position { batch: *batch, index: *index }))
            .then(|| format!("{topic}/{partition} has not sent {batch}/{index}"))
    });
    if unsent.is_some() {
        return unsent;
    }
    let unwell: Vec<Quarantine> = store.rows(&QUARANTINE).iter().filter_map(|row| Quarantine::read(row)).collect();
    let is_unwell = |debt: &Debt| unwell.iter().any(|row| (&row.kind, &row.entity_id) == (&debt.kind, &debt.entity_id));
    let owed = store.find(&DEBT, |row| Debt::read(row).filter(|debt| debt.status == "owed" && !is_unwell(debt)));
    if let Some(debt) = owed {
        return Some(format!("{} owes {}", debt.entity_id, debt.what));
    }
    unwell.iter().find(|row| row.status == "draining").map(|row| format!("{} drains", row.entity_id))
}

/// What does not hold.
pub(super) fn judge(evidence: &Evidence) -> Vec<String> {
    let mut findings = fences(evidence);
    findings.extend(journal(evidence));
    findings.extend(links(evidence));
    findings.extend(letters(evidence));
    findings.extend(orders(evidence));
    findings
}

/// Along a lane every batch builds on the one before, and is its last claimer's.
fn fences(evidence: &Evidence) -> Vec<String> {
    let mut last: BTreeMap<&LaneId, Fence> = BTreeMap::new();
    let mut findings = Vec::new();
    for made in &evidence.commits {
        let (lane, before) = (&made.lane, &made.before);
        if made.claims {
            let builds_on = last.get(lane).is_none_or(|last| {
                (last.batch, last.next_offset, last.epoch + 1) == (before.batch, before.next_offset, before.epoch)
            });
            findings.extend((!builds_on).then(|| format!("fence: {lane} is claimed as {before:?}")));
            last.insert(lane, before.clone());
            continue;
        }
        if last.get(lane) != Some(before) {
            let known = last.get(lane);
            findings.push(format!("fence: {lane} batch {} builds on {before:?}, not {known:?}", before.batch + 1));
        }
        if made.next_offset < before.next_offset {
            findings.push(format!("fence: {lane} goes back to offset {}", made.next_offset));
        }
        last.insert(lane, Fence { batch: before.batch + 1, next_offset: made.next_offset, ..before.clone() });
    }
    for (lane, fence) in last {
        let row = evidence.lanes.get(lane).map(|row| &row.fence);
        findings.extend((row != Some(&fence)).then(|| format!("fence: {lane} stands at {row:?} after {fence:?}")));
    }
    findings
}

/// Versions are dense, every event is journaled once, a source's numbers rise, and what is journaled was sent.
fn journal(evidence: &Evidence) -> Vec<String> {
    let rows = evidence.rows(&JOURNAL, Journal::read);
    let mut findings = Vec::new();
    let mut versions: BTreeMap<(&str, &str), Vec<(i64, &Journal)>> = BTreeMap::new();
    let mut places: BTreeSet<(&str, i64, i64)> = BTreeSet::new();
    for row in &rows {
        if let Some(version) = row.version.filter(|_| row.outcome == "applied") {
            versions.entry((&row.kind, &row.entity_id)).or_default().push((version, row));
        }
        if row.record_offset >= 0 && !places.insert((&row.topic, row.partition, row.record_offset)) {
            findings.push(format!("journal: {}/{} {} is journaled twice", row.topic, row.partition, row.record_offset));
        }
    }
    for ((kind, id), mut applied) in versions {
        applied.sort_by_key(|(version, _)| *version);
        if !applied.iter().map(|(version, _)| *version).eq(1..=i64::try_from(applied.len()).unwrap_or(i64::MAX)) {
            let versions: Vec<i64> = applied.iter().map(|(version, _)| *version).collect();
            findings.push(format!("journal: versions of {kind} {id} are {versions:?}"));
        }
        let mut numbers: BTreeMap<&str, i64> = BTreeMap::new();
        for (version, row) in applied {
            let Some(number) = row.sequence else { continue };
            // A replayed dead letter runs outside the sequence, and says so.
            if row.note.is_none() && numbers.insert(&row.source, number).is_some_and(|before| before >= number) {
                findings.push(format!("order: version {version} of {kind} {id} is number {number} of {}", row.source));
            }
        }
    }
    findings
}

/// What stands in the topics is what the lanes have sent: all of it, in order, equal however often it comes.
fn links(evidence: &Evidence) -> Vec<String> {
    let mut findings = Vec::new();
    let mut sent: BTreeMap<(String, &LaneId), Sent<'_>> = BTreeMap::new();
    let mut ids: BTreeMap<&str, (&LaneId, &str)> = BTreeMap::new();
    // Work done again after lost commits has the same ids and the same words, in other places.
    let again = evidence.plan.loses_what_was_sent();
    for (lane, records) in evidence.sent() {
        for record in records {
            let (Some(position), Some(number)) = (record.headers.text(POSITION), record.headers.text(SEQUENCE)) else {
                continue;
            };
            let Some(sender) = position.rsplitn(3, '/').nth(2) else { continue };
            let Ok(number) = number.parse::<i64>() else { continue };
            let link = sent.entry((sender.to_owned(), lane)).or_default();
            let next = i64::try_from(link.len()).unwrap_or(i64::MAX) + 1;
            match link.get(&number) {
                Some((before, known)) => {
                    if content(known, again) != content(record, again) {
                        findings
                            .push(format!("links: {sender} sends {number} to {lane} as {before} and as {position}"));
                    }
                }
                None => {
                    // What the brokers have lost comes later, and its receiver waits for it.
                    if number != next && evidence.plan.illness.lose == 0 {
                        findings.push(format!("links: {sender} sends {number} to {lane} where {next} is due"));
                    }
                    link.insert(number, (position, record));
                }
            }
            let id = record.headers.text("ce_id").unwrap_or_default();
            let place = if again { "" } else { position };
            if ids.insert(id, (lane, place)).is_some_and(|before| before != (lane, place)) {
                findings.push(format!("links: id {id} names two messages"));
            }
        }
    }
    let is_read: BTreeSet<&str> = evidence.lanes.keys().map(|lane| lane.topic.as_str()).collect();
    let marks = evidence.rows(&LINK_IN, LinkIn::read);
    for out in evidence.rows(&LINK_OUT, LinkOut::read) {
        let to = LaneId { topic: out.to_topic.clone(), partition: i32::try_from(out.to_partition).unwrap_or(-1) };
        let sender = format!("{}/{}", out.topic, out.partition);
        let landed = sent.get(&(sender.clone(), &to)).map_or(0, BTreeMap::len);
        if i64::try_from(landed).ok() != Some(out.sent) {
            findings.push(format!("links: {sender} has sent {} to {to}, {landed} stand there", out.sent));
        }
        let taken = marks.iter().find(|mark| {
            (&mark.topic, mark.partition, &mark.from_topic, mark.from_partition)
                == (&out.to_topic, out.to_partition, &out.topic, out.partition)
        });
        if is_read.contains(&*out.to_topic) && taken.map_or(0, |mark| mark.mark) != out.sent {
            findings.push(format!("links: {to} has not taken all {} of {sender}", out.sent));
        }
    }
    findings
}

/// What a record says. `again`: but for where and in which timeline its sender stood, and for when: what a timer causes
/// is as old as the timer, and a timer that is set again is due later.
pub(super) fn content(record: &Record, again: bool) -> Content<'_> {
    let headers = record.headers.iter().filter(|(name, _)| !again || ![POSITION, TIMELINE, "ce_time"].contains(name));
    (record.key.as_deref(), record.value.as_deref(), headers.collect())
}

/// Every dead letter is a record of its topic, with its bytes, and has its copy.
fn letters(evidence: &Evidence) -> Vec<String> {
    let mut findings = Vec::new();
    for letter in evidence.rows(&DEAD_LETTER, DeadLetter::read) {
        let lane = LaneId { topic: letter.topic.clone(), partition: i32::try_from(letter.partition).unwrap_or(-1) };
        let records = evidence.log.get(&lane).map(Vec::as_slice).unwrap_or_default();
        let original = records.iter().find(|record| record.offset == letter.record_offset);
        if original.map(|record| (&record.key, &record.value)) != Some((&letter.key, &letter.value)) {
            findings.push(format!("letters: {lane} {} is not what it was", letter.record_offset));
        }
        let copies = evidence.log.iter().filter(|(at, _)| at.topic == Catalog::dead_letter_topic(&letter.topic));
        let offset = letter.record_offset.to_string();
        let partition = letter.partition.to_string();
        let told = copies.flat_map(|(_, records)| records).any(|record| {
            record.headers.text("dlq.offset") == Some(&*offset)
                && record.headers.text("dlq.partition") == Some(&*partition)
        });
        if !told {
            findings.push(format!("letters: {lane} {offset} has no copy"));
        }
    }
    findings
}

/// Every order that the store has taken was answered.
fn orders(evidence: &Evidence) -> Vec<String> {
    let answered = evidence.rows(&COMMAND_LOG, CommandLog::read);
    let is_answered = |id: &&String| answered.iter().any(|row| row.id == **id);
    let silent = evidence.orders.iter().filter(|id| !is_answered(id));
    silent.map(|id| format!("orders: nobody has answered {id}")).collect()
}
