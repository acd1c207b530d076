//! What lost commits leave behind where messages were sent before their commits were safe.

use std::collections::{BTreeMap, BTreeSet};

use super::{evidence::Evidence, judge::content};
use crate::core::{
    header::{POSITION, SEQUENCE},
    ledger::{LINK_OUT, LinkOut, SAGA, Saga},
    record::{LaneId, Record},
};

/// A history that went on differently after its messages were sent.
#[derive(Debug)]
pub(super) enum Fork {
    /// Two messages of a link between lanes bear one number: its receiver must halt.
    Inside(String),
    /// The same on a link to readers outside, who see it by the digest.
    Outside,
    /// A saga has heard the answer to a command that it had not given any more, and does not hear it again when it gives
    /// it anew: it waits for an operator, with an alarm.
    Deaf,
    /// A message stands in a topic that its sender has never sent, as far as the store knows, and none came after it
    /// that would tell. Only a comparison of store and topics sees that.
    Phantom,
}

impl Fork {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Inside(_) => "fork between lanes",
            Self::Outside => "fork outside",
            Self::Deaf => "saga that waits for an operator after lost commits",
            Self::Phantom => "phantom at a link's end",
        }
    }

    /// What nobody has noticed. `at_rest`: every lane goes on.
    pub(super) fn unnoticed(&self, at_rest: bool) -> Option<String> {
        match self {
            Self::Inside(fork) if at_rest => Some(format!("fork: nobody has noticed {fork}")),
            Self::Inside(_) | Self::Outside | Self::Deaf | Self::Phantom => None,
        }
    }
}

/// The same cause says the same thing under the same id, however often its work is done again. Each that does not.
pub(super) fn renamed(evidence: &Evidence) -> Vec<String> {
    let mut known: BTreeMap<[&str; 4], &str> = BTreeMap::new();
    let mut findings = Vec::new();
    for record in evidence.sent().flat_map(|(_, records)| records) {
        let said = ["ce_source", "ce_causationid", "ce_type", "ce_correlationid"].map(|name| record.headers.text(name));
        let ([Some(source), Some(cause), Some(kind), Some(_)], Some(id)) = (said, record.headers.text("ce_id")) else {
            continue;
        };
        let key = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok()).unwrap_or_default();
        if *known.entry([source, cause, kind, key]).or_insert(id) != id {
            findings.push(format!("ids: {source} names what {cause} causes anew: {kind} of {key}"));
        }
    }
    findings
}

/// A fork, if there is one; the worst of them.
pub(super) fn forked(evidence: &Evidence) -> Option<Fork> {
    let home: BTreeSet<&str> = evidence.lanes.keys().map(|lane| lane.topic.as_str()).collect();
    let mut known: BTreeMap<(&str, &LaneId, i64), &Record> = BTreeMap::new();
    let mut outside = None;
    for (lane, records) in evidence.sent() {
        for record in records {
            let (Some(position), Some(number)) = (record.headers.text(POSITION), record.headers.text(SEQUENCE)) else {
                continue;
            };
            let (Some(sender), Ok(number)) = (position.rsplitn(3, '/').nth(2), number.parse()) else { continue };
            let before = *known.entry((sender, lane, number)).or_insert(record);
            if content(before, true) != content(record, true) {
                let fork = format!("{sender} to {lane} number {number}");
                if home.contains(&*lane.topic) {
                    return Some(Fork::Inside(fork));
                }
                outside = Some(Fork::Outside);
            }
        }
    }
    if evidence.rows(&SAGA, Saga::read).iter().any(|saga| saga.status == "needs_operator") {
        return Some(Fork::Deaf);
    }
    let sent: BTreeMap<(String, LaneId), i64> = evidence
        .rows(&LINK_OUT, LinkOut::read)
        .into_iter()
        .map(|out| {
            let to = LaneId { topic: out.to_topic, partition: i32::try_from(out.to_partition).unwrap_or(-1) };
            ((format!("{}/{}", out.topic, out.partition), to), out.sent)
        })
        .collect();
    let beyond = known.keys().any(|(sender, lane, number)| {
        sent.get(&((*sender).to_owned(), (*lane).clone())).is_none_or(|sent| number > sent)
    });
    outside.or_else(|| beyond.then_some(Fork::Phantom))
}
