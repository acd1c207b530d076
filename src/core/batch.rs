//! What the batch under way has gathered beside rows. It is thrown away when the batch is decided again.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    event::{Digest, Reason},
    lookup::Lookup,
    marks::Marks,
    message::Message,
    record::LaneId,
    saga::Status,
};

/// What became of an event; the words of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Applied.
    Applied,
    /// Refused by the domain.
    Refused,
    /// Known already.
    Duplicate,
    /// Passed over, by policy or by an operator.
    Skipped,
    /// A row of `dead_letter`.
    DeadLettered,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Applied, Self::Refused, Self::Duplicate, Self::Skipped, Self::DeadLettered];

    /// The word of the contract.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Refused => "refused",
            Self::Duplicate => "duplicate",
            Self::Skipped => "skipped",
            Self::DeadLettered => "dead_lettered",
        }
    }
}

/// Something that a person should look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// From a closed set: a label of the metric.
    pub kind: AlarmKind,
    /// The entity that it is about.
    pub entity_id: String,
    /// The event that raised it, by its id and its record's offset; none for a timer.
    pub event: Option<(String, i64)>,
    /// A sentence for the log; no payload.
    pub text: String,
}

/// The kinds of alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlarmKind {
    /// The same id or sequence came with other content.
    Conflict,
    /// An entity was quarantined.
    Quarantine,
    /// A saga or a debt needs a person.
    NeedsOperator,
    /// A lane has halted.
    Halt,
}

impl AlarmKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Conflict, Self::Quarantine, Self::NeedsOperator, Self::Halt];

    /// Its label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Quarantine => "quarantine",
            Self::NeedsOperator => "needs_operator",
            Self::Halt => "halt",
        }
    }
}

/// Why a lane may not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    /// A message of ours has a type that this release does not know: a newer worker must take it.
    Newer(String),
    /// Too many entities failed at once: a bug, not poison.
    Breaker(String),
    /// A link misses a message and no more can be held behind it.
    LinkGap(String),
    /// A link's sender has lost what it had sent and gone on differently: nothing of that is taken.
    Fork(String),
    /// An operator accepted a new topic, or the other history of a link: the lane is to be claimed again.
    Accepted,
}

/// An entity as the batch sees it: what its main row keeps for the runtime.
#[derive(Clone, Debug, Default)]
pub(super) struct Head {
    pub(super) marks: Marks,
    pub(super) version: i64,
    pub(super) exists: bool,
    /// Its marks may stand in `stray`: it had no row of its own when the batch began.
    pub(super) strayed: bool,
    pub(super) changed: bool,
    /// Numbers taken in this batch, by source, where the journal is to know them and does not yet.
    pub(super) taken: Lookup<(i64, String), Digest>,
}

/// The batch under way.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) next_offset: i64,
    pub(super) incarnation: i64,
    /// The topic was accepted anew: the last record is forgotten.
    pub(super) reset: bool,
    /// An order was carried out after which the lane is to be claimed again.
    pub(super) accepted: bool,
    pub(super) messages: Vec<Message>,
    pub(super) tally: BTreeMap<Outcome, u64>,
    pub(super) letters: BTreeMap<Reason, u64>,
    pub(super) alarms: Vec<Alarm>,
    pub(super) sagas: BTreeMap<(&'static str, Status), u64>,
    pub(super) next_timer: Option<i64>,
    pub(super) halt: Option<Halt>,
    pub(super) heads: Lookup<String, Head>,
    /// Entities that lack a row: their later events only say what they will need.
    pub(super) stalled: BTreeSet<String>,
    pub(super) journal: i64,
    pub(super) timers: i64,
    /// Entities quarantined, each with whether it was for a gap.
    pub(super) quarantined: Vec<bool>,
    /// When the gap timers that this batch has set are due, by entity and source: one is enough.
    pub(super) gaps: BTreeMap<(String, String), i64>,
    /// Entities and sources whose held events have been asked what they will need.
    pub(super) foreseen: BTreeSet<(String, String)>,
    /// Bytes that held and waiting records have grown by.
    pub(super) held_bytes: i64,
    /// How far the links have come that this batch sends on: the number and the running digest of the last message.
    pub(super) links: BTreeMap<LaneId, (i64, Digest)>,
    /// The cause that sends just now, and how many messages it has sent of a type to a key: part of their ids. A cause
    /// sends all that it does before the next one does anything.
    pub(super) ordinals: (String, Lookup<(&'static str, String), u64>),
}

impl Batch {
    pub(super) fn alarm(&mut self, kind: AlarmKind, entity_id: &str, event: Option<(String, i64)>, text: String) {
        self.alarms.push(Alarm { kind, entity_id: entity_id.to_owned(), event, text });
    }
}
