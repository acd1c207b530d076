//! Dead letters: a row each and, in the topic for them, a copy for each time that the record was given up.
//!
//! A copy goes out like every message, after its row was committed: a copy that was read has a row. A row whose copy
//! was not read may have it in the outbox still, or in the topic by now, looked at in this order.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};

use super::{
    Class, Error, Finding, Fsck, Scan,
    bits::Bits,
    lane_key, lane_of, read,
    rows::{LETTER, Letter, OUTBOX, Outbox},
};
use crate::core::{
    catalog::Catalog,
    ledger,
    message::Message,
    record::{LaneId, Record},
    table::{Key, Value},
};

/// Rows of the outbox that are looked through for letters at once: they carry bytes.
const WHOLE_ROWS: usize = 64;

/// Letters without a copy that are settled together.
const MISSING_MAX: usize = 10_000;

/// What was read of one lane's letters.
#[derive(Debug, Default)]
struct Copies {
    offsets: Bits,
    /// How often those were given up that were so more than once.
    counts: BTreeMap<i64, i64>,
    /// When the first that is kept was given up; letters before it may have lost their copy.
    first_failed_at: Option<i64>,
}

/// What a copy says of itself.
struct Copy<'a> {
    lane: LaneId,
    offset: i64,
    count: i64,
    record: &'a Record,
}

fn text<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    let (_, value) = record.headers.iter().rev().find(|(known, _)| *known == name)?;
    std::str::from_utf8(value?).ok()
}

fn copy_of<'a>(topic: &str, record: &'a Record) -> Option<Copy<'a>> {
    let number = |name| text(record, name)?.parse::<i64>().ok();
    let lane = lane_of(text(record, "dlq.topic")?, number("dlq.partition")?);
    let copy = Copy { lane, offset: number("dlq.offset")?, count: number("dlq.count")?, record };
    (copy.lane.topic == topic).then_some(copy)
}

/// When a copy says that its record was given up, microseconds since the epoch.
fn failed_at(record: &Record) -> Option<i64> {
    let time = chrono::DateTime::parse_from_rfc3339(text(record, "dlq.failed_at")?).ok()?;
    Some(time.timestamp_micros())
}

fn letter_key(lane: &LaneId, offset: i64) -> Key {
    lane_key(lane).into_iter().chain([Value::Int(offset)]).collect()
}

fn show_letter(lane: &LaneId, offset: i64) -> String {
    format!("seriatim dlq show {} {} {offset}", lane.topic, lane.partition)
}

impl Fsck {
    /// The letters of one home topic.
    pub(super) async fn letters(&mut self, home: &str) -> Result<(), Error> {
        let topic = Catalog::dead_letter_topic(home);
        let mut copies: BTreeMap<LaneId, Copies> = BTreeMap::new();
        let (mut ends, mut whole) = (BTreeMap::new(), true);
        for at in self.partitions_of(&BTreeSet::from([topic])) {
            let (low, high) = self.ends_of(&at).await?;
            whole &= low == 0;
            self.read_copies(home, &at, (low, high), &mut copies).await?;
            ends.insert(at, high);
        }
        let mut missing = Vec::new();
        for lane in self.partitions_of(&BTreeSet::from([home.to_owned()])) {
            let known = copies.remove(&lane).unwrap_or_default();
            let mut scan = Scan::new(&LETTER, lane_key(&lane));
            while let Some(row) = scan.next(&mut self.look).await? {
                let letter = read(Letter::read(&row), &LETTER)?;
                if !known.has(&letter) && (whole || known.keeps(&letter)) {
                    missing.push((lane.clone(), letter));
                }
                // What cannot all be kept is looked at in parts.
                if missing.len() >= MISSING_MAX {
                    self.settle_letters(home, &mut ends, std::mem::take(&mut missing)).await?;
                }
            }
        }
        self.settle_letters(home, &mut ends, missing).await
    }

    /// Reads copies; each must have its row.
    async fn read_copies(
        &mut self,
        home: &str,
        at: &LaneId,
        (from, until): (i64, i64),
        copies: &mut BTreeMap<LaneId, Copies>,
    ) -> Result<(), Error> {
        let mut pages = self.log.read(at, from, until)?;
        while let Some(page) = pages.next().await? {
            let page: Vec<(i64, Option<Copy<'_>>)> =
                page.iter().map(|record| (record.offset, copy_of(home, record))).collect();
            let keys =
                page.iter().filter_map(|(_, copy)| copy.as_ref()).map(|copy| letter_key(&copy.lane, copy.offset));
            let mut rows = BTreeMap::new();
            for row in self.look.whole(&ledger::DEAD_LETTER, keys.collect()).await? {
                let letter = read(ledger::DeadLetter::read(&row), &ledger::DEAD_LETTER)?;
                rows.insert((lane_of(&letter.topic, letter.partition), letter.record_offset), letter);
            }
            for (offset, copy) in page {
                let Some(copy) = copy else {
                    let says = format!("the record at offset {offset} is no copy of a dead letter of {home}");
                    let mend = format!("seriatim dlq list --topic {home}");
                    self.report.find(Finding::new(Class::CopyWithoutLetter, at.to_string(), says, mend).at(at, offset));
                    continue;
                };
                let known = copies.entry(copy.lane.clone()).or_default();
                known.take(&copy);
                let row = rows.get(&(copy.lane.clone(), copy.offset));
                self.compare_copy(at, offset, &copy, row);
            }
        }
        Ok(())
    }

    fn compare_copy(&mut self, at: &LaneId, offset: i64, copy: &Copy<'_>, row: Option<&ledger::DeadLetter>) {
        let about = format!("{} offset {}", copy.lane, copy.offset);
        let find = |class, says: String| {
            let finding = Finding::new(class, about.as_str(), says, show_letter(&copy.lane, copy.offset));
            let finding = finding.at(&copy.lane, copy.offset).with("copy", format!("{at} offset {offset}"));
            finding.with("count", copy.count)
        };
        let Some(row) = row.filter(|row| copy.count <= row.count) else {
            // It may have been settled and forgotten since.
            if row.is_none() && failed_at(copy.record).is_some_and(|at| at < self.horizon.letters) {
                return;
            }
            let rows = row.map(|row| row.count);
            let finding = find(Class::CopyWithoutLetter, "a copy of it is in the topic and no row says so".to_owned());
            return self.report.find(finding.with("row_count", rows));
        };
        let differs = differences(copy.record, row);
        if !differs.is_empty() {
            let says = format!("its copy in the topic has other {}", differs.join(", "));
            self.report.find(find(Class::CopyOther, says).with("differs", differs));
        }
    }

    /// Letters without a copy: those in the outbox are on their way, and others may have come since.
    async fn settle_letters(
        &mut self,
        home: &str,
        ends: &mut BTreeMap<LaneId, i64>,
        missing: Vec<(LaneId, Letter)>,
    ) -> Result<(), Error> {
        if missing.is_empty() {
            return Ok(());
        }
        let lanes: BTreeSet<LaneId> = missing.iter().map(|(lane, _)| lane.clone()).collect();
        let mut pending = BTreeMap::new();
        for lane in &lanes {
            self.pending_copies(home, lane, &mut pending).await?;
        }
        let parts: Vec<LaneId> = ends.keys().cloned().collect();
        for at in parts {
            let (low, high) = self.ends_of(&at).await?;
            let from = ends.insert(at.clone(), high).unwrap_or(low).max(low);
            self.read_copies(home, &at, (from, high), &mut pending).await?;
        }
        for (lane, letter) in missing {
            if pending.get(&lane).is_some_and(|copies| copies.has(&letter)) {
                continue;
            }
            let offset = letter.record_offset;
            let says = "it has no copy in the topic for dead letters, nor one on its way".to_owned();
            let about = format!("{lane} offset {offset}");
            let finding = Finding::new(Class::LetterWithoutCopy, about, says, show_letter(&lane, offset));
            self.report.find(finding.at(&lane, offset).row(&LETTER, &letter.into_row()));
        }
        Ok(())
    }

    /// The copies in a lane's outbox.
    async fn pending_copies(
        &mut self,
        home: &str,
        lane: &LaneId,
        pending: &mut BTreeMap<LaneId, Copies>,
    ) -> Result<(), Error> {
        let mut scan = Scan::new(&OUTBOX, lane_key(lane));
        let mut keys = Vec::new();
        loop {
            let row = scan.next(&mut self.look).await?;
            let is_last = row.is_none();
            if let Some(row) = row
                && read(Outbox::read(&row), &OUTBOX)?.link_sequence.is_none()
            {
                keys.push(row[..OUTBOX.key].to_vec());
            }
            if keys.len() >= WHOLE_ROWS || is_last {
                for row in self.look.whole(&ledger::OUTBOX, std::mem::take(&mut keys)).await? {
                    let message = Message::from_row(read(ledger::Outbox::read(&row), &ledger::OUTBOX)?);
                    let Message { key, value, headers, .. } = message;
                    let record = Record { offset: -1, timestamp_ms: -1, key, value, headers };
                    if let Some(copy) = copy_of(home, &record) {
                        pending.entry(copy.lane.clone()).or_default().take(&copy);
                    }
                }
            }
            if is_last {
                return Ok(());
            }
        }
    }
}

impl Copies {
    fn take(&mut self, copy: &Copy<'_>) {
        self.offsets.add(copy.offset);
        if copy.count > 1 {
            let count = self.counts.entry(copy.offset).or_insert(copy.count);
            *count = (*count).max(copy.count);
        }
        if self.first_failed_at.is_none() {
            self.first_failed_at = failed_at(copy.record);
        }
    }

    fn has(&self, letter: &Letter) -> bool {
        let offset = letter.record_offset;
        self.offsets.has(offset) && self.counts.get(&offset).copied().unwrap_or(1) >= letter.count
    }

    /// Whether the letter's copy must be among those that the topic still keeps: they go out in the order of `failed_at`.
    fn keeps(&self, letter: &Letter) -> bool {
        self.first_failed_at.is_some_and(|first| letter.failed_at.0 > first)
    }
}

/// In what a copy differs from its row; of one that was cut, its beginning and its digest are compared.
fn differences(record: &Record, row: &ledger::DeadLetter) -> Vec<&'static str> {
    let mut differs = Vec::new();
    let value = row.value.as_deref().unwrap_or_default();
    let sent = record.value.as_deref().unwrap_or_default();
    match text(record, "dlq.sha256") {
        None => {
            differs.extend((record.key != row.key).then_some("key"));
            differs.extend((record.value != row.value).then_some("value"));
        }
        Some(sha256) => {
            let digest: String = Sha256::digest(value).iter().map(|byte| format!("{byte:02x}")).collect();
            differs.extend((digest != sha256 || !value.starts_with(sent)).then_some("value"));
        }
    }
    differs
}
