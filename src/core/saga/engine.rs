//! Moves a saga along its definition: a signal comes in, actions go out, time is an argument.
//!
//! Two tables hold every legal move: phase × signal in [`Definition::advance`], and answer × standing of
//! a branch in `Run::reply`. Both are total, without a catch-all: whatever may come twice, late, out of
//! order or after the end has its place, and what is ignored says why.
//!
//! Commands to our own entities are sent once, because links lose nothing, and again only when an operator says so:
//! answers to an earlier attempt count no more. There is one lazy timer: it may go off before the deadline (it was set
//! for an earlier step) and is then set again.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Branch, Class, Definition, Ending, Instance, Status, Step,
    instance::{Answer, BranchState, Heading, Standing, StepState},
    signal::{Action, Reaction, Signal, ignored},
};
use crate::core::{
    event::SagaRef,
    rows::Rows,
    sabotage::{Safeguard, lacks},
};

/// A note of a participant is cut to this many characters: it is shown, never acted on.
const NOTE_CHARACTERS_MAX: usize = 255;

impl Definition {
    /// Begins a saga: works out the branches of all steps and sends the first commands.
    ///
    /// # Panics
    /// If a step's branches do not have unique keys: a bug in the definition's `branches`.
    #[must_use]
    pub fn begin(&self, saga_id: &str, rows: &Rows<'_>, now: i64) -> (Instance, Vec<Action>) {
        self.begin_with(saga_id, self.steps.iter().map(|step| (step.branches)(rows)).collect(), now)
    }

    /// Begins a saga with these branches, one list a step.
    pub(crate) fn begin_with(&self, saga_id: &str, branches: Vec<Vec<Branch>>, now: i64) -> (Instance, Vec<Action>) {
        let steps = self.steps.iter().zip(branches).map(|(step, branches)| StepState::planned(step, branches));
        let mut instance = Instance {
            definition: self.name.to_owned(),
            definition_version: self.version,
            id: saga_id.to_owned(),
            status: Status::Running,
            heading: Heading::Forward,
            at: 0,
            pivot_passed: false,
            reason: None,
            deadline: None,
            wake: None,
            steps: steps.collect(),
        };
        let mut run = Run { definition: self, instance: &mut instance, now, actions: Vec::new() };
        run.go_on();
        let actions = run.actions;
        (instance, actions)
    }

    /// Moves a saga by one signal. `now` is in microseconds since the epoch.
    #[must_use]
    pub fn advance(&self, instance: &mut Instance, signal: &Signal<'_>, now: i64) -> (Reaction, Vec<Action>) {
        if !instance.is_of(self) {
            return (Reaction::Ignored(ignored::OTHER_SAGA), Vec::new());
        }
        let phase = Phase::of(instance);
        let mut run = Run { definition: self, instance, now, actions: Vec::new() };
        let reaction = match (phase, *signal) {
            (Phase::Open, Signal::Cancel { reason }) => run.turn_back(reason),
            (Phase::Bound, Signal::Cancel { .. }) => Reaction::Ignored(ignored::PIVOT_PASSED),
            (Phase::Undoing, Signal::Cancel { .. }) => Reaction::Ignored(ignored::UNDOING),
            (Phase::Open | Phase::Bound | Phase::Undoing, Signal::Due) => run.due(phase),
            (Phase::Open | Phase::Bound | Phase::Undoing, Signal::Reply { reference, message_type, reason }) => {
                run.reply(phase, reference, message_type, reason)
            }
            (Phase::Open | Phase::Bound | Phase::Undoing, Signal::Retry) => run.retry(phase),
            (Phase::Over, Signal::Reply { .. } | Signal::Cancel { .. } | Signal::Due | Signal::Retry) => {
                Reaction::Ignored(ignored::OVER)
            }
        };
        (reaction, run.actions)
    }

    /// Whether a `ce_type` is a reply to one of its commands.
    #[must_use]
    pub fn knows_reply(&self, message_type: &str) -> bool {
        self.steps.iter().any(|step| step.said(message_type).is_some())
    }
}

/// What a saga may still do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Going forward, and it may turn back.
    Open,
    /// Past the pivot: it can only go on.
    Bound,
    /// Undoing.
    Undoing,
    /// Ended.
    Over,
}

impl Phase {
    fn of(instance: &Instance) -> Self {
        match (instance.is_over(), instance.heading, instance.pivot_passed) {
            (true, Heading::Forward | Heading::Back, true | false) => Self::Over,
            (false, Heading::Forward, false) => Self::Open,
            (false, Heading::Forward, true) => Self::Bound,
            (false, Heading::Back, true | false) => Self::Undoing,
        }
    }
}

/// What a reply says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Yes,
    No,
    Done,
}

impl Step {
    fn said(&self, message_type: &str) -> Option<Said> {
        if message_type == self.yes {
            Some(Said::Yes)
        } else if self.no == Some(message_type) {
            Some(Said::No)
        } else if self.undo.is_some_and(|undo| undo.done == message_type) {
            Some(Said::Done)
        } else {
            None
        }
    }
}

impl StepState {
    fn planned(step: &Step, branches: Vec<Branch>) -> Self {
        let keys: BTreeSet<&str> = branches.iter().map(|branch| branch.key.as_str()).collect();
        assert_eq!(keys.len(), branches.len(), "branches of step {} must have unique keys", step.name);
        let branches = branches.into_iter().map(|Branch { key, data }| BranchState {
            key,
            data,
            standing: Standing::Planned,
            answer: None,
            note: None,
            attempts: 0,
            undo_attempts: 0,
            sent_at: None,
            answered_at: None,
        });
        Self { name: step.name.to_owned(), branches: branches.collect() }
    }
}

/// One move under way.
struct Run<'a> {
    definition: &'a Definition,
    instance: &'a mut Instance,
    now: i64,
    actions: Vec<Action>,
}

impl Run<'_> {
    /// Goes on as far as all branches have said yes, and sends the commands of the step where it stops.
    fn go_on(&mut self) {
        while let Some(step) = self.definition.steps.get(self.instance.at) {
            let branches = &self.instance.steps[self.instance.at].branches;
            if branches.iter().any(|branch| branch.standing != Standing::Yes) {
                if branches.iter().any(|branch| branch.standing == Standing::Planned) {
                    self.ask(step.command, &[Standing::Planned], Standing::Waiting);
                }
                return;
            }
            // A step without branches has nothing to wait for: it is passed at once, the pivot too.
            self.instance.pivot_passed |= step.class == Class::Pivot;
            if self.instance.at + 1 == self.definition.steps.len() {
                break;
            }
            self.instance.at += 1;
        }
        self.end(Status::Completed, Ending::Completed);
    }

    /// Begins to undo: at once all that was asked in the current step, also what is not answered yet.
    fn turn_back(&mut self, reason: &str) -> Reaction {
        self.instance.heading = Heading::Back;
        self.instance.reason = Some(reason.to_owned());
        for branch in self.instance.steps.iter_mut().flat_map(|step| &mut step.branches) {
            if branch.standing == Standing::Planned {
                branch.standing = Standing::Skipped;
            }
        }
        self.go_back();
        Reaction::Moved
    }

    /// Goes back as far as all is undone, and sends the undo commands of the step where it stops.
    fn go_back(&mut self) {
        loop {
            let step = &self.definition.steps[self.instance.at];
            let branches = &self.instance.steps[self.instance.at].branches;
            if branches.iter().any(|branch| branch.standing == Standing::Undoing) {
                return;
            }
            let has_asked = |branch: &BranchState| matches!(branch.standing, Standing::Waiting | Standing::Yes);
            if let Some(undo) = step.undo
                && branches.iter().any(has_asked)
            {
                self.ask(undo.command, &[Standing::Waiting, Standing::Yes], Standing::Undoing);
                return;
            }
            let Some(before) = self.instance.at.checked_sub(1) else { break };
            self.instance.at = before;
        }
        let reason = self.instance.reason.clone().unwrap_or_default();
        self.end(Status::Compensated, Ending::Compensated { reason });
    }

    /// Sends the command to every branch of the current step that stands at one of `from`, and waits for answers.
    fn ask(&mut self, message_type: &'static str, from: &[Standing], to: Standing) {
        let step = &self.definition.steps[self.instance.at];
        let undo = to == Standing::Undoing;
        for branch in &mut self.instance.steps[self.instance.at].branches {
            if !from.contains(&branch.standing) {
                continue;
            }
            let attempts = if undo { &mut branch.undo_attempts } else { &mut branch.attempts };
            *attempts += 1;
            let reference = SagaRef {
                definition: self.definition.name.to_owned(),
                id: self.instance.id.clone(),
                step: step.name.to_owned(),
                branch: branch.key.clone(),
                attempt: *attempts,
                undo,
            };
            branch.standing = to;
            branch.sent_at = Some(self.now);
            branch.answered_at = None;
            let (key, data) = (branch.key.clone(), branch.data.clone());
            self.actions.push(Action::Send { topic: step.topic, key, message_type, data, reference });
        }
        self.instance.status = if undo { Status::Compensating } else { Status::Running };
        self.watch(if undo { step.undo_deadline } else { step.deadline });
    }

    /// Sets the deadline, and the timer unless one goes off before it anyway.
    fn watch(&mut self, after: Duration) {
        let deadline = self.now.saturating_add(i64::try_from(after.as_micros()).unwrap_or(i64::MAX));
        self.instance.deadline = Some(deadline);
        if self.instance.wake.is_none_or(|wake| wake > deadline) {
            self.wake_at(deadline);
        }
    }

    fn wake_at(&mut self, at: i64) {
        self.instance.wake = Some(at);
        self.actions.push(Action::WakeAt(at));
    }

    fn end(&mut self, status: Status, ending: Ending) {
        self.instance.status = status;
        self.instance.deadline = None;
        self.actions.push(Action::Ended(ending));
    }

    fn due(&mut self, phase: Phase) -> Reaction {
        self.instance.wake = None;
        let Some(deadline) = self.instance.deadline else { return Reaction::Ignored(ignored::NO_DEADLINE) };
        if self.now < deadline {
            self.wake_at(deadline);
            return Reaction::Ignored(ignored::EARLY);
        }
        match phase {
            Phase::Open => self.turn_back("timeout"),
            Phase::Bound => self.call_operator("has not been done in time, and can no longer be undone"),
            Phase::Undoing => self.call_operator("has not been undone in time"),
            Phase::Over => Reaction::Ignored(ignored::OVER),
        }
    }

    /// Stands still in the open: a late answer still moves it.
    fn call_operator(&mut self, what: &str) -> Reaction {
        self.instance.status = Status::NeedsOperator;
        self.instance.deadline = None;
        let Instance { definition, id, .. } = &*self.instance;
        self.actions.push(Action::Alarm(format!("saga {definition} {id}: step {} {what}", self.instance.step())));
        Reaction::Moved
    }

    /// Asks again where no answer came in time. A saga that has not run out of time is looked at as if its timer had
    /// gone off, which also mends one without a timer.
    fn retry(&mut self, phase: Phase) -> Reaction {
        if self.instance.status != Status::NeedsOperator {
            return self.due(phase);
        }
        let step = &self.definition.steps[self.instance.at];
        match (self.instance.heading, step.undo) {
            (Heading::Forward, _) => self.ask(step.command, &[Standing::Waiting, Standing::No], Standing::Waiting),
            (Heading::Back, Some(undo)) => self.ask(undo.command, &[Standing::Undoing], Standing::Undoing),
            // It waits for nothing where nothing can be undone; `check` does not let such a definition pass.
            (Heading::Back, None) => return Reaction::Ignored(ignored::UNASKED),
        }
        Reaction::Moved
    }

    fn reply(&mut self, phase: Phase, reference: &SagaRef, message_type: &str, reason: Option<&str>) -> Reaction {
        if reference.definition != self.instance.definition || reference.id != self.instance.id {
            return Reaction::Ignored(ignored::OTHER_SAGA);
        }
        let place = self.instance.steps.iter().position(|step| step.name == reference.step);
        let found = place.and_then(|at| {
            let branches = &mut self.instance.steps[at].branches;
            Some((&self.definition.steps[at], branches.iter_mut().find(|branch| branch.key == reference.branch)?))
        });
        let Some((step, branch)) = found else { return Reaction::Ignored(ignored::UNKNOWN_BRANCH) };
        let Some(said) = step.said(message_type).filter(|said| (*said == Said::Done) == reference.undo) else {
            return Reaction::Ignored(ignored::UNKNOWN_REPLY);
        };
        let asked = if reference.undo { branch.undo_attempts } else { branch.attempts };
        if asked > 0 && reference.attempt != asked {
            return Reaction::Ignored(ignored::OTHER_ATTEMPT);
        }
        match (said, branch.standing) {
            (Said::Yes, Standing::Waiting) => {
                branch.take(Answer::Yes, Standing::Yes, self.now);
                self.after_yes(phase);
            }
            (Said::No, Standing::Waiting) => {
                branch.take(Answer::No, Standing::No, self.now);
                branch.note = reason.map(|reason| reason.chars().take(NOTE_CHARACTERS_MAX).collect());
                self.after_no(phase, step.no_reason);
            }
            (Said::Done, Standing::Undoing) => {
                let again = lacks(Safeguard::UndoOnce) && branch.undo_attempts < 2;
                branch.standing = if again { Standing::Yes } else { Standing::Undone };
                branch.answered_at = Some(self.now);
                self.go_back();
            }
            (Said::Yes, Standing::Undoing | Standing::Undone) => return branch.take_late(Answer::Yes),
            (Said::No, Standing::Undoing | Standing::Undone) => return branch.take_late(Answer::No),
            (Said::Yes, Standing::Yes) | (Said::No, Standing::No) | (Said::Done, Standing::Undone) => {
                return Reaction::Ignored(ignored::DOUBLED);
            }
            (Said::Yes, Standing::No) => return Reaction::Ignored(ignored::AFTER_NO),
            (Said::No, Standing::Yes) => return Reaction::Ignored(ignored::AFTER_YES),
            (Said::Yes | Said::No | Said::Done, Standing::Planned | Standing::Skipped)
            | (Said::Done, Standing::Waiting | Standing::Yes | Standing::No) => {
                return Reaction::Ignored(ignored::UNASKED);
            }
        }
        Reaction::Moved
    }

    fn after_yes(&mut self, phase: Phase) {
        match phase {
            Phase::Open | Phase::Bound => self.go_on(),
            // Without an undo the branch was left waiting; `check` does not let such a definition pass.
            Phase::Undoing | Phase::Over => {}
        }
    }

    fn after_no(&mut self, phase: Phase, no_reason: &str) {
        match phase {
            Phase::Open => {
                self.turn_back(no_reason);
            }
            // `check` does not let a definition pass that has a no after the pivot.
            Phase::Bound => {
                self.call_operator("was refused, and can no longer be undone");
            }
            Phase::Undoing | Phase::Over => {}
        }
    }
}

impl BranchState {
    fn take(&mut self, answer: Answer, standing: Standing, now: i64) {
        self.answer = Some(answer);
        self.standing = standing;
        self.answered_at = Some(now);
    }

    /// The undo is on the way or done: it decides, whatever the participant says now.
    fn take_late(&mut self, answer: Answer) -> Reaction {
        if self.answer.is_some() {
            return Reaction::Ignored(ignored::DOUBLED);
        }
        self.answer = Some(answer);
        Reaction::Ignored(ignored::LATE)
    }
}
