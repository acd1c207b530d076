//! The numbers of links as they are read in one partition: dense from the first, copies allowed, each copy the same.
//!
//! A message that the broker has lost may come again behind later ones, so a gap counts only at the end of the reading.

use std::collections::{BTreeMap, VecDeque};

use sha2::{Digest as _, Sha256};

use crate::core::{
    fence::Position,
    record::{LaneId, Record},
};

/// Messages of a link that a copy is compared with. A relay sends again what was not acknowledged when it ended: a
/// few batches.
const RECENT_MAX: usize = 4_096;
/// Open gaps of one link; with more of them it is broken anyway.
const GAPS_MAX: usize = 1_024;

type Print = [u8; 16];

/// What was read of one link.
#[derive(Clone, Debug, Default)]
pub(super) struct Link {
    /// The first number.
    pub(super) first: i64,
    /// The last number.
    pub(super) last: i64,
    /// Numbers between them that were not read, by first: up to and including.
    pub(super) gaps: BTreeMap<i64, i64>,
    position: Position,
    recent: VecDeque<(i64, Position, Print)>,
}

/// How a message stands to those read before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The first of its number.
    New,
    /// A copy, the same as its original as far as that is still known.
    Copy,
    /// A copy of a message that stood before what is kept.
    Old,
    /// A copy with other bytes or another position than its original.
    Other,
    /// A later number with an earlier position.
    Behind(Position),
}

/// The links of one partition, by sender.
#[derive(Clone, Debug, Default)]
pub(super) struct Links {
    /// By sending lane.
    pub(super) links: BTreeMap<LaneId, Link>,
    /// Whether the partition keeps its records from its beginning on.
    pub(super) whole: bool,
}

impl Links {
    /// Of a partition whose first kept offset is `low`.
    pub(super) fn new(low: i64) -> Self {
        Self { links: BTreeMap::new(), whole: low == 0 }
    }

    /// Takes the next message.
    pub(super) fn take(&mut self, from: &LaneId, number: i64, position: Position, record: &Record) -> Place {
        let print = print_of(record);
        let Some(link) = self.links.get_mut(from) else {
            let mut link = Link { first: number, last: number, position, ..Link::default() };
            if self.whole && number > 1 {
                link.first = 1;
                link.gaps.insert(1, number - 1);
            }
            link.remember(number, position, print);
            self.links.insert(from.clone(), link);
            return Place::New;
        };
        if number < link.first && !self.whole {
            return Place::Old;
        }
        if number <= link.last {
            if link.fill(number) {
                link.remember(number, position, print);
                return Place::New;
            }
            let known = link.recent.iter().rev().find(|(known, ..)| *known == number);
            let same = known.is_none_or(|(_, at, known)| *at == position && *known == print);
            return if same { Place::Copy } else { Place::Other };
        }
        if number > link.last + 1 && link.gaps.len() < GAPS_MAX {
            link.gaps.insert(link.last + 1, number - 1);
        }
        let before = link.position;
        (link.last, link.position) = (number, position);
        link.remember(number, position, print);
        if position > before { Place::New } else { Place::Behind(before) }
    }

    /// Whether a message of this number was read, or stands before what is kept.
    pub(super) fn has(&self, from: &LaneId, number: i64) -> bool {
        let Some(link) = self.links.get(from) else { return !self.whole };
        let in_gap = link.gaps.range(..=number).next_back().is_some_and(|(_, last)| number <= *last);
        number <= link.last && !in_gap && (number >= link.first || !self.whole)
    }
}

impl Link {
    fn remember(&mut self, number: i64, position: Position, print: Print) {
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((number, position, print));
    }

    /// Closes the gap at a number. Whether there was one.
    fn fill(&mut self, number: i64) -> bool {
        let found = self.gaps.range(..=number).next_back().map(|(first, last)| (*first, *last));
        let Some((first, last)) = found.filter(|(_, last)| number <= *last) else { return false };
        self.gaps.remove(&first);
        if first < number {
            self.gaps.insert(first, number - 1);
        }
        if number < last {
            self.gaps.insert(number + 1, last);
        }
        true
    }
}

fn print_of(record: &Record) -> Print {
    let mut hash = Sha256::new();
    let mut part = |bytes: Option<&[u8]>| {
        let length = bytes.map_or(u64::MAX, |bytes| u64::try_from(bytes.len()).unwrap_or(u64::MAX - 1));
        hash.update(length.to_be_bytes());
        hash.update(bytes.unwrap_or_default());
    };
    part(record.key.as_deref());
    part(record.value.as_deref());
    for (name, value) in record.headers.iter() {
        part(Some(name.as_bytes()));
        part(value);
    }
    let mut print = [0; 16];
    print.copy_from_slice(&hash.finalize()[..16]);
    print
}

#[cfg(test)]
mod tests {
    use super::{Links, Place};
    use crate::core::{
        fence::Position,
        record::{LaneId, Record},
    };

    fn read(low: i64, messages: &[(i64, i64, &str)]) -> (Links, Vec<Place>) {
        let mut links = Links::new(low);
        let places = messages.iter().map(|(number, batch, value)| {
            let value = Some(value.as_bytes().into());
            let record = Record { offset: 0, timestamp_ms: 0, key: None, value, headers: Default::default() };
            links.take(&from(), *number, Position { batch: *batch, index: 0 }, &record)
        });
        let places = places.collect();
        (links, places)
    }

    fn from() -> LaneId {
        LaneId { topic: "stock".to_owned(), partition: 1 }
    }

    fn gaps(links: &Links) -> Vec<(i64, i64)> {
        links.links[&from()].gaps.iter().map(|(first, last)| (*first, *last)).collect()
    }

    #[test]
    fn a_copy_is_legal_and_another_message_in_its_place_is_not() {
        let (links, places) = read(0, &[(1, 1, "a"), (2, 2, "b"), (1, 1, "a"), (2, 2, "c"), (2, 9, "b")]);
        assert_eq!(places, [Place::New, Place::New, Place::Copy, Place::Other, Place::Other]);
        assert!(gaps(&links).is_empty() && links.has(&from(), 2) && !links.has(&from(), 3));
    }

    #[test]
    fn a_gap_stays_until_its_messages_come() {
        let (links, places) = read(0, &[(2, 2, "b"), (6, 6, "f"), (4, 4, "d"), (1, 1, "a")]);
        assert_eq!(places, [Place::New; 4]);
        assert_eq!(gaps(&links), [(3, 3), (5, 5)]);
        assert!(links.has(&from(), 4) && !links.has(&from(), 5));
    }

    #[test]
    fn what_is_not_kept_any_more_is_not_missing() {
        let (links, places) = read(9, &[(5, 5, "e"), (3, 3, "c"), (6, 6, "f")]);
        assert_eq!(places, [Place::New, Place::Old, Place::New]);
        assert!(gaps(&links).is_empty() && links.has(&from(), 4));
    }

    #[test]
    fn positions_rise_with_the_numbers() {
        let (_, places) = read(0, &[(1, 7, "a"), (2, 3, "b")]);
        assert_eq!(places[1], Place::Behind(Position { batch: 7, index: 0 }));
    }
}
