//! How far an entity has taken each source, and how many messages it has sent: kept in its main row.
//!
//! A source is sequenced or not, for good. Kinds without a journal keep the last digests here, since
//! nothing else could tell a duplicate from a conflict.

use serde::{Deserialize, Serialize};

use super::event::Digest;

/// Stands for "this source is not sequenced".
const UNSEQUENCED: i64 = -1;

/// The marks of one entity. It hears from few sources and sends to few topics: lists are shorter than maps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    #[serde(rename = "in", default, skip_serializing_if = "Vec::is_empty", with = "by_name")]
    sources: Vec<(String, Source)>,
    #[serde(rename = "out", default, skip_serializing_if = "Vec::is_empty", with = "by_name")]
    sent: Vec<(String, i64)>,
    /// The entity's saga is over and was forgotten.
    #[serde(rename = "over", default, skip_serializing_if = "std::ops::Not::not")]
    saga_over: bool,
}

/// How far one source has come with the entity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Source {
    /// The last number that was taken.
    #[serde(rename = "at", default)]
    taken: i64,
    /// The first number whose digest is kept, and the digests from there on.
    #[serde(rename = "last", default, skip_serializing_if = "Option::is_none")]
    digests: Option<(i64, String)>,
    #[serde(rename = "gaps", default, skip_serializing_if = "Vec::is_empty")]
    given_up: Vec<(i64, i64)>,
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
    fn source(&self, name: &str) -> Option<&Source> {
        find(&self.sources, name).ok().map(|at| &self.sources[at].1)
    }

    /// How `source` stands.
    #[must_use]
    pub fn standing(&self, source: &str) -> Standing {
        match self.source(source).map(|source| source.taken) {
            None => Standing::New,
            Some(UNSEQUENCED) => Standing::Unsequenced,
            Some(number) => Standing::Taken(number),
        }
    }

    /// All up to `number` are taken.
    pub fn take(&mut self, source: &str, number: i64) {
        entry(&mut self.sources, source).taken = number;
    }

    /// The source sends without numbers.
    pub fn take_unsequenced(&mut self, source: &str) {
        self.take(source, UNSEQUENCED);
    }

    /// How many sources the entity has heard from.
    #[must_use]
    pub fn sources(&self) -> usize {
        self.sources.len()
    }

    /// The last number of `source` that was taken, 0 if none was.
    #[must_use]
    pub fn taken(&self, source: &str) -> i64 {
        self.source(source).map_or(0, |source| source.taken).max(0)
    }

    /// Gives up the numbers after the last taken one, up to and including `last`.
    pub fn give_up(&mut self, source: &str, last: i64) {
        let first = self.taken(source).saturating_add(1);
        if first > last {
            return;
        }
        let source = entry(&mut self.sources, source);
        source.given_up.push((first, last));
        let over = source.given_up.len().saturating_sub(GIVEN_UP_KEPT);
        source.given_up.drain(..over);
        source.taken = last;
    }

    /// Whether `number` lies in a range that was given up.
    #[must_use]
    pub fn gave_up(&self, source: &str, number: i64) -> bool {
        let ranges = self.source(source).map(|source| &source.given_up);
        ranges.is_some_and(|ranges| ranges.iter().any(|(first, last)| (*first..=*last).contains(&number)))
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
        !self.sent.is_empty() || self.sources.iter().any(|(_, source)| source.taken != UNSEQUENCED)
    }

    /// The next number of the entity's messages to a topic.
    pub fn send(&mut self, topic: &str) -> i64 {
        let sent = entry(&mut self.sent, topic);
        *sent = sent.saturating_add(1);
        *sent
    }

    /// How many messages the entity has sent to a topic.
    #[must_use]
    pub fn sent(&self, topic: &str) -> i64 {
        find(&self.sent, topic).map_or(0, |at| self.sent[at].1)
    }

    /// Keeps the digest of a number that was taken, and those of the `kept` last numbers. Numbers that passed without
    /// a digest leave a hole.
    pub fn keep_digest(&mut self, source: &str, number: i64, digest: &Digest, kept: usize) {
        let source = entry(&mut self.sources, source);
        if kept == 0 {
            source.digests = None;
            return;
        }
        let (first, digits) = source.digests.get_or_insert_with(|| (number, String::new()));
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
        digits.extend(beginning(digest));
    }

    /// Whether `number` had this digest; `None` if it is not kept.
    #[must_use]
    pub fn had_digest(&self, source: &str, number: i64, digest: &Digest) -> Option<bool> {
        let (first, digits) = self.source(source)?.digests.as_ref()?;
        let at = usize::try_from(number.checked_sub(*first)?).ok()?.checked_mul(DIGEST_DIGITS)?;
        let known = digits.get(at..at.checked_add(DIGEST_DIGITS)?)?;
        (known != HOLE).then(|| known.chars().eq(beginning(digest)))
    }
}

/// Where a name stands in a list that is sorted by name, or where it would.
fn find<T>(list: &[(String, T)], name: &str) -> Result<usize, usize> {
    list.binary_search_by(|(known, _)| known.as_str().cmp(name))
}

fn entry<'a, T: Default>(list: &'a mut Vec<(String, T)>, name: &str) -> &'a mut T {
    let at = find(list, name).unwrap_or_else(|at| {
        list.insert(at, (name.to_owned(), T::default()));
        at
    });
    &mut list[at].1
}

/// A list that is sorted by name is written as a map.
mod by_name {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(list: &[(String, T)], to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(list.iter().map(|(name, value)| (name, value)))
    }

    pub(super) fn deserialize<'de, T, D>(from: D) -> Result<Vec<(String, T)>, D::Error>
    where
        T: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        BTreeMap::deserialize(from).map(|map| map.into_iter().collect())
    }
}

/// Digits that JSON does not have to escape.
const ALPHABET: &[u8; 85] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";
/// Four bytes tell two versions of one number apart, and in base 85 they keep the row short.
const DIGEST_DIGITS: usize = 5;
/// Stands for a number whose digest is not known.
const HOLE: &str = "     ";

/// The first four bytes of a digest, the last digit first.
fn beginning(digest: &Digest) -> impl Iterator<Item = char> {
    let mut rest = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]) as usize;
    (0..DIGEST_DIGITS).map(move |_| {
        let digit = ALPHABET[rest % ALPHABET.len()];
        rest /= ALPHABET.len();
        char::from(digit)
    })
}

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
        assert_eq!(text, r#"{"in":{"till":{"at":9,"last":[9,"A[*)2"],"gaps":[[8,9]]}},"out":{"requests":1}}"#);
        assert_eq!(serde_json::from_str::<Marks>(&text).unwrap(), marks);
    }
}
