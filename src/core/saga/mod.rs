//! Sagas as data: ordered steps with commands, replies and undo.
//!
//! A definition says what is to be done; an [`Instance`] says how far one saga has come; the engine moves
//! the one along the other. All three are pure: commands, timers and endings are handed back as data, and
//! the lane writes them in the transaction that moves its offset.

mod engine;
mod instance;
mod signal;

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{effect::Effects, rows::Rows};

pub use self::{
    instance::{Instance, StepRow},
    signal::{Action, Reaction, Signal, ignored},
};

/// What a step's yes means for those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Can be undone.
    Compensatable,
    /// Once its yes is applied nothing is undone any more.
    Pivot,
    /// Comes after the pivot; must succeed in the end.
    Retriable,
}

/// How a step is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undo {
    /// The compensating command.
    pub command: &'static str,
    /// The reply that says it is undone.
    pub done: &'static str,
}

/// One command of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branch {
    /// The participant's entity id; unique within the step.
    pub key: String,
    /// The command's data, an object; the undo carries the same.
    pub data: Json,
}

/// One step of a definition.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its name.
    pub name: &'static str,
    /// What its yes means.
    pub class: Class,
    /// The command's `ce_type`.
    pub command: &'static str,
    /// The participants' home topic.
    pub topic: &'static str,
    /// The reply that means yes.
    pub yes: &'static str,
    /// The reply that means no; none for a retriable step.
    pub no: Option<&'static str>,
    /// How it is undone; none after the pivot.
    pub undo: Option<Undo>,
    /// How long the step may take.
    pub deadline: Duration,
    /// How long its undo may take before a person is called.
    pub undo_deadline: Duration,
    /// The commands of this step, from the rows that the beginning event loaded or wrote. Computed once,
    /// when the saga begins.
    pub branches: fn(&Rows<'_>) -> Vec<Branch>,
    /// The reason of the ending when this step's no ends the saga.
    pub no_reason: &'static str,
}

/// How a saga ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every step said yes.
    Completed,
    /// All is undone; why.
    Compensated {
        /// `no_reason` of the step, the cancel's reason, or `timeout`.
        reason: String,
    },
}

/// A saga, versioned; running instances keep the version that they began with.
#[derive(Clone, Debug)]
pub struct Definition {
    /// Its name.
    pub name: &'static str,
    /// Its version, from 1.
    pub version: i64,
    /// The home topic of the kind that it lives with; replies arrive there.
    pub topic: &'static str,
    /// Its steps, in order.
    pub steps: Vec<Step>,
    /// Tells the entity how it ended, in the same transaction. Only the main row is sure to be loaded.
    pub ended: fn(&mut Rows<'_>, &Ending, &mut Effects),
}

/// Where a saga stands as a whole; the words of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Going forward.
    Running,
    /// Undoing.
    Compensating,
    /// Every step said yes.
    Completed,
    /// All is undone.
    Compensated,
    /// Out of time after the pivot or while undoing: a person should look. A late reply still moves it.
    NeedsOperator,
}

impl Status {
    /// The word of the contract.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Compensating => "compensating",
            Self::Completed => "completed",
            Self::Compensated => "compensated",
            Self::NeedsOperator => "needs_operator",
        }
    }
}
