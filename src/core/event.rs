//! A decoded record, and why one cannot be.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{kind::Parsed, link::Link, record::Record};

/// First half of a SHA-256: tells whether two events say the same.
pub type Digest = [u8; 16];

/// Why a record is dead-lettered: `dlq.reason`, a closed list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Its bytes are no JSON, no UTF-8, or no CloudEvent.
    Undecodable,
    /// It breaks the table of its event.
    Invalid,
    /// Its topic does not know its type.
    UnknownType,
    /// Its entity lives in another partition.
    WrongPartition,
    /// Its id or sequence was used with other content.
    Conflict,
    /// Whether it was seen can no longer be told.
    TooOld,
    /// It came in, or behind, a range that was given up, or is further ahead than is held.
    SequenceGap,
    /// Its handler fails.
    Poison,
    /// What it waited for did not come.
    Expired,
    /// An operator said so.
    Operator,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Undecodable,
        Self::Invalid,
        Self::UnknownType,
        Self::WrongPartition,
        Self::Conflict,
        Self::TooOld,
        Self::SequenceGap,
        Self::Poison,
        Self::Expired,
        Self::Operator,
    ];

    /// The word of the contract.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Undecodable => "undecodable",
            Self::Invalid => "invalid",
            Self::UnknownType => "unknown_type",
            Self::WrongPartition => "wrong_partition",
            Self::Conflict => "conflict",
            Self::TooOld => "too_old",
            Self::SequenceGap => "sequence_gap",
            Self::Poison => "poison",
            Self::Expired => "expired",
            Self::Operator => "operator",
        }
    }
}

/// Why a record cannot be processed, and what is known of it all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Its class.
    pub reason: Reason,
    /// What is wrong and where; no payload.
    pub error: String,
    /// Entity, if the key tells it.
    pub entity_id: Option<String>,
    /// Source, if the attributes tell it.
    pub source: Option<String>,
    /// Sequence, if the attributes tell it.
    pub sequence: Option<i64>,
}

impl Rejection {
    /// Why an event that could be read is rejected.
    #[must_use]
    pub fn of(event: &Event, reason: Reason, error: &str) -> Self {
        Self {
            reason,
            error: error.to_owned(),
            entity_id: Some(event.entity_id.clone()),
            source: Some(event.source.clone()),
            sequence: event.sequence,
        }
    }
}

/// Which saga, step, branch and attempt a command or reply belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SagaRef {
    /// Name of the definition.
    pub definition: String,
    /// The saga: id of the entity that it lives with.
    pub id: String,
    /// Name of the step.
    pub step: String,
    /// The branch: the participant's id.
    pub branch: String,
    /// Which asking this is, from 1.
    pub attempt: i64,
    /// Whether it asks to undo.
    pub undo: bool,
}

impl SagaRef {
    /// As it stands in the data of commands and replies.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("a reference is plain texts and numbers")
    }

    /// As a participant keeps it.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.to_json().to_string()
    }
}

/// What an event asks for, once decoded.
#[derive(Clone)]
pub enum Body {
    /// For the kind's handler.
    Entity(Parsed),
    /// For the saga engine; with the reason that a no gives.
    Reply(Option<String>),
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Entity(_) => "Entity",
            Self::Reply(_) => "Reply",
        })
    }
}

/// A decoded event.
#[derive(Clone, Debug)]
pub struct Event {
    /// The entity: the record's key.
    pub entity_id: String,
    /// `ce_id`.
    pub id: String,
    /// `ce_source`.
    pub source: String,
    /// `ce_type`.
    pub event_type: String,
    /// `ce_time`, or the record's timestamp; microseconds since the epoch.
    pub time: i64,
    /// `ce_entityseq`.
    pub sequence: Option<i64>,
    /// `ce_correlationid`.
    pub correlation: Option<String>,
    /// The hop's trace context: `traceparent`, `tracestate` and `baggage`, those that are there.
    pub trace: Vec<(&'static str, String)>,
    /// Set on commands and replies.
    pub saga: Option<SagaRef>,
    /// Digest of type and canonical data.
    pub digest: Digest,
    /// The data.
    pub body: Body,
}

/// A record with all that could be read of it.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The record, bytes untouched.
    pub record: Record,
    /// Its number, if one of our own lanes sent it.
    pub link: Option<Link>,
    /// The event, or why there is none.
    pub decoded: Result<Event, Rejection>,
    /// Set when the database refuses what this event would write: it counts as failed.
    pub condemned: Option<String>,
}
