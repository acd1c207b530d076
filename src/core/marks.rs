//! How far an entity has taken each source, and how many messages it has sent: kept in its main row.
//!
//! A source is sequenced or not, for good. Kinds without a journal keep the last digests here, since
//! nothing else could tell a duplicate from a conflict.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    emit::{hex, push_hex},
    event::Digest,
};

/// Stands for "this source is not sequenced".
const UNSEQUENCED: i64 = -1;

/// The marks of one entity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    #[serde(rename = "in", default, skip_serializing_if = "BTreeMap::is_empty")]
    taken: BTreeMap<String, i64>,
    #[serde(rename = "out", default, skip_serializing_if = "BTreeMap::is_empty")]
    sent: BTreeMap<String, i64>,
    /// The first number whose digest is kept, and the digests from there on, a fixed number of digits each.
    #[serde(rename = "last", default, skip_serializing_if = "BTreeMap::is_empty")]
    digests: BTreeMap<String, (i64, String)>,
    #[serde(rename = "gaps", default, skip_serializing_if = "BTreeMap::is_empty")]
    given_up: BTreeMap<String, Vec<(i64, i64)>>,
    /// The entity's saga is over and was forgotten.
    #[serde(rename = "over", default, skip_serializing_if = "std::ops::Not::not")]
    saga_over: bool,
}

/// Ranges that were given up are remembered so far back; what comes later in an older one is `too_old`.
const GIVEN_UP_KEPT: usize = 16;

/// How a source stands with an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing of it was taken yet.
    New,
    /// Its events carry no sequence.
    Unsequenced,
    /// All up to this number are taken.
    Taken(i64),
}

impl Marks {
    /// How `source` stands.
    #[must_use]
    pub fn standing(&self, source: &str) -> Standing {
        match self.taken.get(source) {
            None => Standing::New,
            Some(&UNSEQUENCED) => Standing::Unsequenced,
            Some(&number) => Standing::Taken(number),
        }
    }

    /// All up to `number` are taken.
    pub fn take(&mut self, source: &str, number: i64) {
        match self.taken.get_mut(source) {
            Some(taken) => *taken = number,
            None => _ = self.taken.insert(source.to_owned(), number),
        }
    }

    /// The source sends without numbers.
    pub fn take_unsequenced(&mut self, source: &str) {
        self.taken.insert(source.to_owned(), UNSEQUENCED);
    }

    /// How many sources the entity has heard from.
    #[must_use]
    pub fn sources(&self) -> usize {
        self.taken.len()
    }

    /// The last number of `source` that was taken, 0 if none was.
    #[must_use]
    pub fn taken(&self, source: &str) -> i64 {
        self.taken.get(source).copied().unwrap_or(0).max(0)
    }

    /// Gives up the numbers after the last taken one, up to and including `last`.
    pub fn give_up(&mut self, source: &str, last: i64) {
        let first = self.taken(source).saturating_add(1);
        if first > last {
            return;
        }
        let ranges = self.given_up.entry(source.to_owned()).or_default();
        ranges.push((first, last));
        let over = ranges.len().saturating_sub(GIVEN_UP_KEPT);
        ranges.drain(..over);
        self.take(source, last);
    }

    /// Whether `number` lies in a range that was given up.
    #[must_use]
    pub fn gave_up(&self, source: &str, number: i64) -> bool {
        self.given_up
            .get(source)
            .is_some_and(|ranges| ranges.iter().any(|(first, last)| (*first..=*last).contains(&number)))
    }

    /// The entity's saga is over, and its rows go.
    pub fn forget_saga(&mut self) {
        self.saga_over = true;
    }

    /// Whether the entity had a saga that is over and was forgotten.
    #[must_use]
    pub fn had_saga(&self) -> bool {
        self.saga_over
    }

    /// Whether they hold what must be known for ever: numbers that were taken or sent.
    #[must_use]
    pub fn have_numbers(&self) -> bool {
        !self.sent.is_empty() || self.taken.values().any(|number| *number != UNSEQUENCED)
    }

    /// The next number of the entity's messages to a topic.
    pub fn send(&mut self, topic: &str) -> i64 {
        let sent = self.sent.entry(topic.to_owned()).or_insert(0);
        *sent = sent.saturating_add(1);
        *sent
    }

    /// How many messages the entity has sent to a topic.
    #[must_use]
    pub fn sent(&self, topic: &str) -> i64 {
        self.sent.get(topic).copied().unwrap_or(0)
    }

    /// Keeps the digest of a number, and those of the `kept` last numbers. Numbers that passed without a
    /// digest leave a hole.
    pub fn keep_digest(&mut self, source: &str, number: i64, digest: &Digest, kept: usize) {
        if kept == 0 {
            self.digests.remove(source);
            return;
        }
        let (first, digits) = self.digests.entry(source.to_owned()).or_insert_with(|| (number, String::new()));
        let after = first.saturating_add(i64::try_from(digits.len() / DIGEST_DIGITS).unwrap_or(i64::MAX));
        let holes = usize::try_from(number.saturating_sub(after)).unwrap_or(0);
        if number < after || holes > kept {
            (*first, *digits) = (number, String::new());
        } else {
            digits.push_str(&HOLE.repeat(holes));
        }
        let over = (digits.len() / DIGEST_DIGITS + 1).saturating_sub(kept);
        digits.drain(..over * DIGEST_DIGITS);
        *first = first.saturating_add(i64::try_from(over).unwrap_or(i64::MAX));
        push_hex(digits, &digest[..DIGEST_DIGITS / 2]);
    }

    /// Whether `number` had this digest; `None` if it is not kept.
    #[must_use]
    pub fn had_digest(&self, source: &str, number: i64, digest: &Digest) -> Option<bool> {
        let (first, digits) = self.digests.get(source)?;
        let at = usize::try_from(number.checked_sub(*first)?).ok()?.checked_mul(DIGEST_DIGITS)?;
        let known = digits.get(at..at.checked_add(DIGEST_DIGITS)?)?;
        (known != HOLE).then(|| known == hex(&digest[..DIGEST_DIGITS / 2]))
    }
}

/// Four bytes tell two versions of one number apart, and keep the row short.
const DIGEST_DIGITS: usize = 8;
/// Stands for a number whose digest is not known.
const HOLE: &str = "--------";

#[cfg(test)]
mod tests {
    use super::{Marks, Standing};

    #[test]
    fn a_digest_is_known_until_newer_ones_push_it_out() {
        let mut marks = Marks::default();
        for number in 1..=4_i64 {
            marks.take("till", number);
            marks.keep_digest("till", number, &[u8::try_from(number).unwrap(); 16], 3);
        }
        assert_eq!(marks.standing("till"), Standing::Taken(4));
        assert_eq!(marks.had_digest("till", 4, &[4; 16]), Some(true));
        assert_eq!(marks.had_digest("till", 2, &[9; 16]), Some(false));
        assert_eq!(marks.had_digest("till", 1, &[1; 16]), None);
    }

    #[test]
    fn a_number_that_passed_without_a_digest_shifts_no_other() {
        let mut marks = Marks::default();
        marks.keep_digest("till", 1, &[1; 16], 4);
        marks.keep_digest("till", 3, &[3; 16], 4);
        assert_eq!(marks.had_digest("till", 1, &[1; 16]), Some(true));
        assert_eq!(marks.had_digest("till", 2, &[2; 16]), None);
        assert_eq!(marks.had_digest("till", 3, &[3; 16]), Some(true));
        marks.keep_digest("till", 100, &[7; 16], 4);
        assert_eq!(marks.had_digest("till", 100, &[7; 16]), Some(true));
        assert_eq!(marks.had_digest("till", 3, &[3; 16]), None);
    }

    #[test]
    fn marks_read_as_they_were_written() {
        let mut marks = Marks::default();
        marks.take("till", 7);
        marks.give_up("till", 9);
        marks.send("requests");
        marks.keep_digest("till", 9, &[9; 16], 4);
        let text = serde_json::to_string(&marks).unwrap();
        assert_eq!(
            text,
            r#"{"in":{"till":9},"out":{"requests":1},"last":{"till":[9,"09090909"]},"gaps":{"till":[[8,9]]}}"#
        );
        assert_eq!(serde_json::from_str::<Marks>(&text).unwrap(), marks);
    }
}
