//! How far one saga has come: its stored form.
//!
//! The whole is one JSON document in `seriatim.saga`; the rows of `seriatim.saga_step` are told from it.
//! Later releases must read it: fields may be added with a default, none renamed or taken away.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{Definition, Status};

/// A saga under way, or ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    pub(super) definition: String,
    pub(super) definition_version: i64,
    pub(super) id: String,
    pub(super) status: Status,
    pub(super) heading: Heading,
    /// Index of the step that is being done or undone.
    pub(super) at: usize,
    pub(super) pivot_passed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    /// When the current step, or its undo, is out of time; none once that was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) deadline: Option<i64>,
    /// When the one lazy timer goes off; it may go off earlier than the deadline, never later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) wake: Option<i64>,
    pub(super) steps: Vec<StepState>,
}

/// Which way a saga goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Heading {
    Forward,
    Back,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StepState {
    pub(super) name: String,
    pub(super) branches: Vec<BranchState>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BranchState {
    pub(super) key: String,
    pub(super) data: Json,
    pub(super) standing: Standing,
    /// What the participant said to the command, be it too late to matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) answer: Option<Answer>,
    /// The reason that came with a no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<String>,
    #[serde(default)]
    pub(super) attempts: i64,
    #[serde(default)]
    pub(super) undo_attempts: i64,
    /// When the command, or after it the undo, was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sent_at: Option<i64>,
    /// When that was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) answered_at: Option<i64>,
}

/// Where a branch stands.
///
/// ```text
/// planned ─► waiting ─► yes ─┐
///    │          ├─► no       ├─► undoing ─► undone
///    ▼          └────────────┘
/// skipped
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Standing {
    /// Its command has not been sent yet.
    Planned,
    /// Its command is sent and not answered.
    Waiting,
    /// The participant has done it.
    Yes,
    /// The participant refuses: there is nothing to undo.
    No,
    /// The undo is sent and not answered.
    Undoing,
    /// The undo is done.
    Undone,
    /// The saga turned back before the command was sent.
    Skipped,
}

/// What a participant said to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    Yes,
    No,
}

/// What a row of `seriatim.saga_step` shows of a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRow<'a> {
    /// Name of the step.
    pub step: &'a str,
    /// The participant's id.
    pub branch: &'a str,
    /// `planned`, `waiting`, `yes`, `no`, `undoing`, `undone` or `skipped`.
    pub status: &'static str,
    /// How often it was asked.
    pub attempts: i64,
    /// How often it was asked to undo.
    pub undo_attempts: i64,
    /// When the command, or after it the undo, was sent; microseconds since the epoch.
    pub sent_at: Option<i64>,
    /// When that was answered.
    pub answered_at: Option<i64>,
}

impl Instance {
    /// Name of its definition.
    #[must_use]
    pub fn definition(&self) -> &str {
        &self.definition
    }

    /// The version of the definition that it began with and keeps.
    #[must_use]
    pub fn definition_version(&self) -> i64 {
        self.definition_version
    }

    /// The id of the entity that it lives with.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it stands as a whole.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// Whether it has ended: completed or compensated.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match self.status {
            Status::Completed | Status::Compensated => true,
            Status::Running | Status::Compensating | Status::NeedsOperator => false,
        }
    }

    /// Whether the pivot's yes is applied: nothing is undone any more.
    #[must_use]
    pub fn pivot_passed(&self) -> bool {
        self.pivot_passed
    }

    /// The step that is being done or undone; the last such one after the end.
    #[must_use]
    pub fn step(&self) -> &str {
        self.steps.get(self.at).map_or("", |step| &step.name)
    }

    /// Why it turned back, if it did.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// When the current step, or its undo, is out of time; microseconds since the epoch.
    #[must_use]
    pub fn deadline(&self) -> Option<i64> {
        self.deadline
    }

    /// When its timer is to go off: then, or earlier than its deadline, never later; microseconds since the epoch.
    #[must_use]
    pub fn wake(&self) -> Option<i64> {
        self.wake
    }

    /// One row a step and branch, in the order of the definition.
    #[must_use]
    pub fn steps(&self) -> Vec<StepRow<'_>> {
        let rows = self.steps.iter().flat_map(|step| step.branches.iter().map(|branch| branch.row(&step.name)));
        rows.collect()
    }

    /// The same without its times, and as if it had asked nobody more than once: what decides which moves are possible,
    /// but for the deadline.
    pub(crate) fn without_times(&self) -> Self {
        let mut timeless = Self { deadline: self.deadline.map(|_| 0), wake: self.wake.map(|_| 0), ..self.clone() };
        for branch in timeless.steps.iter_mut().flat_map(|step| &mut step.branches) {
            branch.sent_at = branch.sent_at.map(|_| 0);
            branch.answered_at = branch.answered_at.map(|_| 0);
            (branch.attempts, branch.undo_attempts) = (branch.attempts.min(1), branch.undo_attempts.min(1));
        }
        timeless
    }

    /// Whether it was begun by this definition, in this version.
    pub(super) fn is_of(&self, definition: &Definition) -> bool {
        self.definition == definition.name
            && self.definition_version == definition.version
            && self.steps.iter().map(|step| step.name.as_str()).eq(definition.steps.iter().map(|step| step.name))
    }
}

impl BranchState {
    fn row<'a>(&'a self, step: &'a str) -> StepRow<'a> {
        StepRow {
            step,
            branch: &self.key,
            status: self.standing.as_str(),
            attempts: self.attempts,
            undo_attempts: self.undo_attempts,
            sent_at: self.sent_at,
            answered_at: self.answered_at,
        }
    }
}

impl Standing {
    fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Waiting => "waiting",
            Self::Yes => "yes",
            Self::No => "no",
            Self::Undoing => "undoing",
            Self::Undone => "undone",
            Self::Skipped => "skipped",
        }
    }
}
