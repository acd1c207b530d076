//! Links: a sending lane numbers its messages to a partition densely, and a running digest follows from all of
//! them. The receiver keeps how far it has come, and the digest there.
//!
//! A digest that does not follow from what was taken tells of a fork: the sender's history was lost after it had
//! been sent, and went on differently. Numbers alone would take one half of it for repeats and the other for news.
//! The lane halts before such a message; only an operator can accept it.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::{
    batch::{Halt, Outcome},
    emit::hex,
    event::{Arrival, Digest, Reason, Rejection},
    lane::Lane,
    ledger::{HELD, Held, LINK_IN, LinkIn},
    record::Record,
    reorder::record_bytes,
    sabotage::{Safeguard, lacks},
    state::Address,
    table::{Bytes, Key, Value},
};

/// What the headers of a message of one of our own lanes say of its link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Sending lane's topic.
    pub topic: String,
    /// Sending lane's partition.
    pub partition: i32,
    /// `seriatim_sequence`.
    pub sequence: i64,
    /// `seriatim_digest`; a release before it sent none.
    pub digest: Option<Digest>,
    /// `seriatim_timeline`; likewise.
    pub timeline: Option<i64>,
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// What identifies a message and makes it up, in this order: id, type, key, value. Not its place and not the
/// timeline: the same work done again after lost commits says the same.
pub type Parts<'a> = [&'a [u8]; 4];

/// The running digest of a link after a message: the first half of a SHA-256 over the digest before it (empty if
/// there is none) and the message's parts, each after its length as eight bytes, the highest first.
#[must_use]
pub fn chain(before: Option<&[u8]>, parts: Parts<'_>) -> Digest {
    let mut hash = Sha256::new();
    for part in std::iter::once(before.unwrap_or_default()).chain(parts) {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    let mut digest = [0; 16];
    digest.copy_from_slice(&hash.finalize()[..16]);
    digest
}

fn parts(record: &Record) -> Parts<'_> {
    let header = |name| record.headers.get(name).unwrap_or_default();
    [
        header("ce_id"),
        header("ce_type"),
        record.key.as_deref().unwrap_or_default(),
        record.value.as_deref().unwrap_or_default(),
    ]
}

/// So many bytes of a digest are kept of messages before the last one: enough to tell two versions apart.
const RECENT_BYTES: usize = 4;

/// A message that forks off from what was taken of its link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fork {
    /// `<topic>/<partition>` of the sending lane.
    pub(super) link: String,
    /// The message's number.
    pub(super) number: i64,
}

impl Lane {
    /// Compares, then takes, drops or holds a message of one of our own lanes.
    pub(super) fn take_link(&mut self, link: &Link, arrival: &Arrival) {
        let known = self.link_in(link);
        if let Some(expected) = forks(&known, link, &arrival.record) {
            return self.halt_at_fork(&known, link, &expected);
        }
        if link.sequence <= known.mark && !lacks(Safeguard::LinkRepeat) {
            self.count(Outcome::Duplicate);
        } else if link.sequence <= known.mark + 1 || lacks(Safeguard::LinkGap) {
            if !lacks(Safeguard::LinkMark) || self.is_handled_now(arrival) {
                self.pass_link(known, link);
            }
            self.enter(arrival);
            self.release_link(link);
        } else {
            self.hold_link(&known, link, arrival);
        }
    }

    /// What a link's mark must not ask: whatever becomes of a record, it was taken.
    fn is_handled_now(&self, arrival: &Arrival) -> bool {
        arrival.decoded.as_ref().is_ok_and(|event| !self.is_unwell(&event.entity_id))
    }

    fn link_in(&self, link: &Link) -> LinkIn {
        let address = Address::new(&LINK_IN, self.key([Value::text(&link.topic), Value::Int(link.partition.into())]));
        let known = self.state.get(&address).flatten().and_then(|row| LinkIn::read(row));
        known.unwrap_or_else(|| LinkIn {
            topic: self.id.topic.clone(),
            partition: self.id.partition.into(),
            from_topic: link.topic.clone(),
            from_partition: link.partition.into(),
            mark: 0,
            digest: None,
            timeline: None,
            recent: None,
        })
    }

    /// Moves the mark to a message, whatever becomes of it.
    fn pass_link(&mut self, known: LinkIn, link: &Link) {
        let recent = link.digest.filter(|_| self.limits.digests_kept > 0).map(|digest| {
            // After one without a digest the numbers of earlier ones would be off.
            let recent = known.digest.and(known.recent).unwrap_or_default();
            let over = (recent.len() + RECENT_BYTES).saturating_sub(self.limits.digests_kept * RECENT_BYTES);
            [&recent[over..], &digest[..RECENT_BYTES]].concat().into()
        });
        let (digest, timeline) = (link.digest.map(Bytes::from), link.timeline);
        let row = LinkIn { mark: link.sequence, digest, timeline, recent, ..known };
        self.state.set(row.address(), Some(row.into_row()));
    }

    fn halt_at_fork(&mut self, known: &LinkIn, link: &Link, expected: &[u8]) {
        let digest = link.digest.map(|digest| hex(&digest)).unwrap_or_default();
        let timeline =
            |timeline: Option<i64>| timeline.map_or_else(|| "none".to_owned(), |timeline| timeline.to_string());
        self.batch.halt = Some(Halt::Fork(format!(
            "message {} of link {link} has digest {digest}, where {} is expected after message {} was taken: the sender \
             has lost what it had sent and gone on differently (its timeline: {}, that of the last one taken: {}); \
             `seriatim lane accept-fork` takes what it sends now",
            link.sequence,
            hex(expected),
            known.mark,
            timeline(link.timeline),
            timeline(known.timeline),
        )));
        self.fork = Some(Fork { link: link.to_string(), number: link.sequence });
    }

    /// Holds a message that came before its predecessors.
    fn hold_link(&mut self, known: &LinkIn, link: &Link, arrival: &Arrival) {
        let name = link.to_string();
        let address = Address::new(&HELD, self.held_on_link(&name, [Value::Int(link.sequence)]));
        if let Some(Some(row)) = self.state.get(&address) {
            let digest = Held::read(row).and_then(|held| held.digest);
            return match (digest, link.digest) {
                (Some(held), Some(digest)) if *held != digest => self.halt_at_fork(known, link, &held),
                _ => self.count(Outcome::Duplicate),
            };
        }
        // What other links and entities hold is their affair: counted only when it could matter.
        let max = self.limits.held_per_lane_max;
        if self.state.count(&HELD) >= max && self.state.scan(&HELD, &self.held_on_link(&name, [])).count() >= max {
            let missing = known.mark + 1;
            self.batch.halt = Some(Halt::LinkGap(format!("message {missing} of link {name} is missing")));
            return;
        }
        let row = self.held_row(&arrival.record, &name, ("", &name, link.sequence), None);
        let row = Held { digest: link.digest.map(Bytes::from), ..row };
        self.batch.held_bytes += record_bytes(&arrival.record);
        self.state.set(address, Some(row.into_row()));
    }

    /// Takes up what was held behind a message that has now been taken.
    fn release_link(&mut self, link: &Link) {
        let name = link.to_string();
        while self.batch.halt.is_none() {
            let known = self.link_in(link);
            let address = Address::new(&HELD, self.held_on_link(&name, [Value::Int(known.mark + 1)]));
            let Some(held) = self.state.get(&address).flatten().and_then(|row| Held::read(row)) else { return };
            self.state.set(address, None);
            let arrival = self.reopen(&held);
            let held = Link { sequence: held.sequence, digest: None, timeline: None, ..link.clone() };
            let held = arrival.link.clone().unwrap_or(held);
            if let Some(expected) = forks(&known, &held, &arrival.record) {
                return self.halt_at_fork(&known, &held, &expected);
            }
            self.pass_link(known, &held);
            self.enter(&arrival);
        }
    }

    /// Lets a link that has forked go on with what comes: from `number` on it counts as not taken. What is held of
    /// it becomes dead letters, because which history it belongs to cannot be told.
    pub(super) fn accept_fork(&mut self, number: i64, known: LinkIn) {
        let name = format!("{}/{}", known.from_topic, known.from_partition);
        for held in self.held_of_link(&name) {
            let arrival = self.reopen(&held);
            let error = format!("message {} of link {name}: held when a fork of the link was accepted", held.sequence);
            let rejection =
                Rejection { reason: Reason::Operator, error, entity_id: None, source: None, sequence: None };
            self.dead_letter(&arrival.record, &rejection);
            self.state.set(held.address(), None);
        }
        let mark = known.mark.min(number - 1);
        let row = LinkIn { mark, digest: None, timeline: None, recent: None, ..known };
        self.state.set(row.address(), Some(row.into_row()));
    }

    /// How far the link of a fork is taken.
    pub(super) fn link_of_fork(&self, fork: &Fork) -> Option<LinkIn> {
        let (topic, partition) = fork.link.rsplit_once('/')?;
        let (topic, partition) = (topic.to_owned(), partition.parse().ok()?);
        Some(self.link_in(&Link { topic, partition, sequence: fork.number, digest: None, timeline: None }))
    }

    fn held_on_link(&self, name: &str, rest: impl IntoIterator<Item = Value>) -> Key {
        let fixed = [Value::text(name), Value::text(self.kind().name()), Value::text(""), Value::text(name)];
        self.key(fixed.into_iter().chain(rest))
    }

    fn held_of_link(&self, name: &str) -> Vec<Held> {
        let prefix = self.held_on_link(name, []);
        self.state.scan(&HELD, &prefix).filter_map(|(_, row)| Held::read(row)).collect()
    }
}

/// What the digest of a message would have to be, as far as it is known, if it is another.
fn forks(known: &LinkIn, link: &Link, record: &Record) -> Option<Bytes> {
    let digest = link.digest.filter(|_| !lacks(Safeguard::LinkDigest))?;
    let expected = if link.sequence == known.mark + 1 {
        // Before the first message there is nothing to know.
        (known.digest.is_some() || known.mark == 0).then(|| chain(known.digest.as_deref(), parts(record)).into())?
    } else if link.sequence == known.mark {
        known.digest.clone()?
    } else {
        recent(known, link.sequence)?.into()
    };
    (!digest.starts_with(&expected)).then_some(expected)
}

/// The beginning of the digest of an earlier message, if it is kept.
fn recent(known: &LinkIn, number: i64) -> Option<&[u8]> {
    let recent = known.recent.as_deref()?;
    let back = usize::try_from(known.mark.checked_sub(number)?).ok()?.checked_add(1)?;
    let from = recent.len().checked_sub(back.checked_mul(RECENT_BYTES)?)?;
    recent.get(from..from + RECENT_BYTES)
}
