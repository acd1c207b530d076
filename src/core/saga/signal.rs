//! What comes into the saga engine and what goes out of it.

use serde_json::Value as Json;

use super::Ending;
use crate::core::event::SagaRef;

/// Why a signal changed nothing: a closed list.
pub mod ignored {
    /// The saga has ended.
    pub const OVER: &str = "over";
    /// It came after the pivot's yes.
    pub const PIVOT_PASSED: &str = "pivot_passed";
    /// The saga is being undone already.
    pub const UNDOING: &str = "undoing";
    /// The timer went off before the deadline; it is set again.
    pub const EARLY: &str = "early";
    /// Nothing is waited for with a deadline any more.
    pub const NO_DEADLINE: &str = "no_deadline";
    /// The reply is about a step or branch that the saga does not have.
    pub const UNKNOWN_BRANCH: &str = "unknown_branch";
    /// The reply's type is not one that its step knows.
    pub const UNKNOWN_REPLY: &str = "unknown_reply";
    /// The reply answers what was never asked.
    pub const UNASKED: &str = "unasked";
    /// The reply belongs to another attempt.
    pub const OTHER_ATTEMPT: &str = "other_attempt";
    /// The same was said before.
    pub const DOUBLED: &str = "doubled";
    /// A yes from a participant that said no.
    pub const AFTER_NO: &str = "after_no";
    /// A no from a participant that said yes.
    pub const AFTER_YES: &str = "after_yes";
    /// The answer came when its undo was on the way; it is recorded.
    pub const LATE: &str = "late";
    /// The saga or definition is not the one that the signal is about.
    pub const OTHER_SAGA: &str = "other_saga";
}

/// What may happen to a saga.
#[derive(Clone, Copy, Debug)]
pub enum Signal<'a> {
    /// A reply; its reference tells step, branch, attempt, undo.
    Reply {
        /// The reference that the command carried.
        reference: &'a SagaRef,
        /// The reply's `ce_type`.
        message_type: &'a str,
        /// The reason that a no gives.
        reason: Option<&'a str>,
    },
    /// The entity wants it undone.
    Cancel {
        /// Why, as the ending tells it.
        reason: &'a str,
    },
    /// The saga's one lazy timer is due.
    Due,
    /// An operator lets it ask again what was not answered in time.
    Retry,
}

/// What the lane is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A command, or its undo, to a participant.
    Send {
        /// The participant's home topic, as the definition names it.
        topic: &'static str,
        /// The participant's id.
        key: String,
        /// `ce_type`.
        message_type: &'static str,
        /// The data, an object; the lane adds the saga reference.
        data: Json,
        /// What the reply must carry.
        reference: SagaRef,
    },
    /// Call again with [`Signal::Due`], not before this; microseconds since the epoch.
    WakeAt(i64),
    /// It has ended; said once.
    Ended(Ending),
    /// A person should look.
    Alarm(String),
}

/// What a signal did. The instance is to be kept in both cases: late answers are recorded in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// It moved the saga.
    Moved,
    /// It changed nothing that matters; why, out of [`ignored`].
    Ignored(&'static str),
}
