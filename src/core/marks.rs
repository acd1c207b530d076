//! How far an entity has taken each source, and how many messages it has sent: kept in its main row.
//!
//! A source is sequenced or not, for good. Kinds without a journal keep the last digests here, since
//! nothing else could tell a duplicate from a conflict.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::event::Digest;

/// Stands for "this source is not sequenced".
const UNSEQUENCED: i64 = -1;

/// The marks of one entity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    #[serde(rename = "in", default, skip_serializing_if = "BTreeMap::is_empty")]
    taken: BTreeMap<String, i64>,
    #[serde(rename = "out", default, skip_serializing_if = "BTreeMap::is_empty")]
    sent: BTreeMap<String, i64>,
    #[serde(rename = "last", default, skip_serializing_if = "BTreeMap::is_empty")]
    digests: BTreeMap<String, Vec<(i64, String)>>,
    #[serde(rename = "gaps", default, skip_serializing_if = "BTreeMap::is_empty")]
    given_up: BTreeMap<String, Vec<(i64, i64)>>,
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
        self.taken.insert(source.to_owned(), number);
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

    /// The next number of the entity's messages to a topic.
    pub fn send(&mut self, topic: &str) -> i64 {
        let sent = self.sent.entry(topic.to_owned()).or_insert(0);
        *sent = sent.saturating_add(1);
        *sent
    }

    /// Keeps the digest of the number just taken, and the `kept` last ones. Each has its number: some numbers
    /// pass without a digest.
    pub fn keep_digest(&mut self, source: &str, digest: &Digest, kept: usize) {
        let taken = self.taken(source);
        let digests = self.digests.entry(source.to_owned()).or_default();
        digests.push((taken, short(digest)));
        let over = digests.len().saturating_sub(kept);
        digests.drain(..over);
    }

    /// Whether `number` had this digest; `None` if it is no longer kept.
    #[must_use]
    pub fn had_digest(&self, source: &str, number: i64, digest: &Digest) -> Option<bool> {
        let known = self.digests.get(source)?.iter().find(|(of, _)| *of == number)?;
        Some(known.1 == short(digest))
    }
}

/// Eight bytes are enough to tell two versions of one number apart.
fn short(digest: &Digest) -> String {
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::{Marks, Standing};

    #[test]
    fn a_digest_is_known_until_newer_ones_push_it_out() {
        let mut marks = Marks::default();
        for number in 1..=4_i64 {
            marks.take("till", number);
            marks.keep_digest("till", &[u8::try_from(number).unwrap(); 16], 3);
        }
        assert_eq!(marks.standing("till"), Standing::Taken(4));
        assert_eq!(marks.had_digest("till", 4, &[4; 16]), Some(true));
        assert_eq!(marks.had_digest("till", 2, &[9; 16]), Some(false));
        assert_eq!(marks.had_digest("till", 1, &[1; 16]), None);
    }

    #[test]
    fn a_number_without_a_digest_does_not_shift_the_others() {
        let mut marks = Marks::default();
        marks.take("till", 1);
        marks.keep_digest("till", &[1; 16], 3);
        marks.take("till", 2);
        marks.take("till", 3);
        marks.keep_digest("till", &[3; 16], 3);
        assert_eq!(marks.had_digest("till", 1, &[1; 16]), Some(true));
        assert_eq!(marks.had_digest("till", 2, &[2; 16]), None);
        assert_eq!(marks.had_digest("till", 3, &[3; 16]), Some(true));
    }
}
