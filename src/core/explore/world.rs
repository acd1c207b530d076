//! Every state that a saga can reach, and what must hold in each of them.
//!
//! The world keeps its own account of what was asked and answered and compares it with what the engine
//! does: the engine is not asked whether it is right.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use serde_json::Value as Json;

use crate::core::{
    event::SagaRef,
    saga::{Action, Branch, Definition, Ending, Instance, Reaction, Signal, Status},
};

/// Name of the saga in the exploration.
const SAGA: &str = "saga";

/// A definition with a number of branches for each step.
pub(super) struct World<'a> {
    definition: &'a Definition,
    fan_outs: &'a [usize],
}

/// A state of the saga and what the world knows of it.
#[derive(Clone, PartialEq, Eq)]
struct Node {
    instance: Instance,
    now: i64,
    /// Timers that were asked for and have not gone off.
    timers: BTreeSet<i64>,
    past: BTreeMap<Place, Past>,
    endings: usize,
}

/// Step and branch, by index.
type Place = (usize, usize);

/// What happened to one branch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Past {
    asked: bool,
    said: Option<Say>,
    undo_asked: bool,
    undone: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Say {
    Yes,
    No,
    Done,
}

/// One thing that can happen to the saga.
#[derive(Clone, Copy, Debug)]
enum Event {
    Reply(Place, Say),
    Cancel,
    /// The earliest timer goes off.
    Timer,
    /// The timer goes off although none is due.
    StrayTimer,
    /// An operator lets it ask again.
    Retry,
}

/// How a reply can be not for this saga, or not for this time.
#[derive(Clone, Copy, Debug)]
enum Strange {
    Attempt,
    Branch,
    Step,
    Saga,
}

impl<'a> World<'a> {
    pub(super) fn new(definition: &'a Definition, fan_outs: &'a [usize]) -> Self {
        Self { definition, fan_outs }
    }

    /// Visits every reachable state; the problems of the first state that has any.
    pub(super) fn explore(&self) -> Vec<String> {
        match self.explore_all() {
            Ok(()) => Vec::new(),
            Err(problem) => vec![problem],
        }
    }

    fn explore_all(&self) -> Result<(), String> {
        let branch = |number: usize| Branch { key: number.to_string(), data: Json::Null };
        let branches = self.fan_outs.iter().map(|count| (0..*count).map(branch).collect()).collect();
        let (instance, actions) = self.definition.begin_with(SAGA, branches, 0);
        let (timers, past) = (BTreeSet::new(), self.places().map(|place| (place, Past::default())).collect());
        let mut first = Node { instance, now: 0, timers, past, endings: 0 };
        self.account(&mut first, actions, false)?;
        let mut seen = BTreeSet::from([first.fingerprint()]);
        let mut open = vec![first];
        while let Some(node) = open.pop() {
            let node = node.crash()?;
            self.must_not_be_stuck(&node)?;
            self.must_ignore_strangers(&node)?;
            for event in self.events(&node) {
                let next = self.step(&node, event)?;
                // Most of what comes changes nothing.
                if next != node && seen.insert(next.fingerprint()) {
                    open.push(next);
                }
            }
        }
        Ok(())
    }

    fn places(&self) -> impl Iterator<Item = Place> {
        self.fan_outs.iter().enumerate().flat_map(|(step, count)| (0..*count).map(move |branch| (step, branch)))
    }

    fn says(&self, place: Place) -> impl Iterator<Item = Say> {
        let step = &self.definition.steps[place.0];
        [Some(Say::Yes), step.no.map(|_| Say::No), step.undo.map(|_| Say::Done)].into_iter().flatten()
    }

    fn events(&self, node: &Node) -> Vec<Event> {
        let mut events = vec![Event::Cancel, Event::StrayTimer];
        if !node.timers.is_empty() {
            events.push(Event::Timer);
        }
        if node.instance.status() == Status::NeedsOperator {
            events.push(Event::Retry);
        }
        for place in self.places() {
            for say in self.says(place) {
                events.push(Event::Reply(place, say));
            }
        }
        events
    }

    /// What happens, and whether it was right.
    fn step(&self, node: &Node, event: Event) -> Result<Node, String> {
        let mut next = node.clone();
        let (reaction, actions) = match event {
            Event::Cancel => {
                self.definition.advance(&mut next.instance, &Signal::Cancel { reason: "cancelled" }, node.now)
            }
            Event::StrayTimer => self.definition.advance(&mut next.instance, &Signal::Due, node.now),
            Event::Timer => {
                let due = next.timers.pop_first().unwrap_or(node.now);
                next.now = node.now.max(due);
                self.definition.advance(&mut next.instance, &Signal::Due, next.now)
            }
            Event::Retry => self.definition.advance(&mut next.instance, &Signal::Retry, node.now),
            Event::Reply(place, say) => self.reply(&mut next.instance, place, say, None, node.now),
        };
        let moved = reaction == Reaction::Moved;
        if let Event::Reply(place, say) = event {
            let past = next.past.entry(place).or_default();
            let was_asked = if say == Say::Done { past.undo_asked } else { past.asked };
            if moved && !was_asked {
                return Err(self.problem(place.0, "an answer to what was never asked moves the saga"));
            }
            match say {
                Say::Done => past.undone |= moved,
                Say::Yes | Say::No if moved => past.said = past.said.or(Some(say)),
                Say::Yes | Say::No => {}
            }
        }
        if node.endings > 0 && (moved || !actions.is_empty()) {
            return Err("the saga moves after its end".to_owned());
        }
        let again = matches!(event, Event::Retry);
        if again && !actions.iter().any(|action| matches!(action, Action::Send { .. })) {
            return Err(format!("step {}: nobody is asked again", node.instance.step()));
        }
        self.account(&mut next, actions, again)?;
        if again {
            // But for the count of attempts it is where it was before it ran out of time: it is not visited again.
            self.must_not_be_stuck(&next)?;
            self.must_ignore_strangers(&next)?;
        }
        Ok(next)
    }

    fn reply(
        &self,
        instance: &mut Instance,
        place: Place,
        say: Say,
        strange: Option<Strange>,
        now: i64,
    ) -> (Reaction, Vec<Action>) {
        let step = &self.definition.steps[place.0];
        let mut reference = SagaRef {
            definition: self.definition.name.to_owned(),
            id: SAGA.to_owned(),
            step: step.name.to_owned(),
            branch: place.1.to_string(),
            attempt: 1,
            undo: say == Say::Done,
        };
        if let Some(row) = instance.steps().iter().find(|row| row.step == step.name && row.branch == reference.branch) {
            reference.attempt = if reference.undo { row.undo_attempts } else { row.attempts }.max(1);
        }
        match strange {
            Some(Strange::Attempt) => reference.attempt += 1,
            Some(Strange::Branch) => reference.branch = "stranger".to_owned(),
            Some(Strange::Step) => reference.step = "stranger".to_owned(),
            Some(Strange::Saga) => reference.id = "stranger".to_owned(),
            None => {}
        }
        let message_type = match say {
            Say::Yes => step.yes,
            Say::No => step.no.unwrap_or_default(),
            Say::Done => step.undo.map_or("", |undo| undo.done),
        };
        let signal = Signal::Reply { reference: &reference, message_type, reason: None };
        self.definition.advance(instance, &signal, now)
    }

    /// Enters the actions into the account; says which rule one of them breaks. `again`: an operator has asked for them.
    fn account(&self, node: &mut Node, actions: Vec<Action>, again: bool) -> Result<(), String> {
        for action in actions {
            match action {
                Action::Send { reference, message_type, .. } => {
                    self.account_send(node, &reference, message_type, again)?;
                }
                Action::WakeAt(at) => {
                    node.timers.insert(at);
                }
                Action::Ended(ending) => self.account_ending(node, &ending)?,
                Action::Alarm(_) => {}
            }
        }
        if node.instance.is_over() != (node.endings == 1) {
            return Err("the end is not told exactly once".to_owned());
        }
        let in_time = |deadline: i64| node.timers.first().is_some_and(|first| *first <= deadline);
        if !node.instance.deadline().is_none_or(in_time) {
            return Err("a deadline has no timer".to_owned());
        }
        Ok(())
    }

    fn account_send(
        &self,
        node: &mut Node,
        reference: &SagaRef,
        message_type: &str,
        again: bool,
    ) -> Result<(), String> {
        let step_at = self.definition.steps.iter().position(|step| step.name == reference.step);
        let place = step_at.zip(reference.branch.parse().ok()).filter(|place| node.past.contains_key(place));
        let Some(place) = place else { return Err("a command goes to nobody".to_owned()) };
        let step = &self.definition.steps[place.0];
        let expected = if reference.undo { step.undo.map_or("", |undo| undo.command) } else { step.command };
        let past = node.past[&place];
        let problem = match (reference.undo, past) {
            _ if message_type != expected => Some("another command is sent than the definition names"),
            (undo, past) if again => (!past.is_open(undo)).then_some("what was answered is asked again"),
            (false, Past { asked: true, .. }) => Some("a command is sent twice"),
            (false, _) if node.instance.reason().is_some() => Some("a command is sent while undoing"),
            (false, _) if node.any(|at, past| at.0 < place.0 && past.said != Some(Say::Yes)) => {
                Some("a command is sent before the steps before it said yes")
            }
            (true, Past { asked: false, .. }) => Some("what was never asked is undone"),
            (true, Past { said: Some(Say::No), .. }) => Some("what was refused is undone"),
            (true, Past { undo_asked: true, .. }) => Some("an undo is sent twice"),
            (true, _) if node.instance.pivot_passed() => Some("an undo is sent after the pivot"),
            (true, _) if node.any(|at, past| at.0 > place.0 && past.is_owed()) => Some("an undo is sent out of order"),
            (false | true, _) => None,
        };
        if let Some(problem) = problem {
            return Err(self.problem(place.0, problem));
        }
        let past = node.past.entry(place).or_default();
        if reference.undo {
            past.undo_asked = true;
        } else {
            past.asked = true;
        }
        Ok(())
    }

    fn account_ending(&self, node: &mut Node, ending: &Ending) -> Result<(), String> {
        node.endings += 1;
        match ending {
            Ending::Completed => {
                let undone = |(place, past): (&Place, &Past)| {
                    (past.said != Some(Say::Yes) || past.undo_asked).then_some(place.0)
                };
                match node.past.iter().find_map(undone) {
                    Some(step) => Err(self.problem(step, "the saga completes without its yes")),
                    None => Ok(()),
                }
            }
            Ending::Compensated { .. } => {
                match node.past.iter().find_map(|(place, past)| past.is_owed().then_some(place.0)) {
                    Some(step) => Err(self.problem(step, "the saga ends compensated, but this step is not undone")),
                    None if node.instance.pivot_passed() => Err("the saga is compensated after the pivot".to_owned()),
                    None => Ok(()),
                }
            }
        }
    }

    /// Whoever has not answered yet can bring the saga on, whatever the answer. Since every command is sent at most once,
    /// or once more for each time that an operator says so, a saga that is never stuck ends as soon as all that it asks is
    /// answered.
    fn must_not_be_stuck(&self, node: &Node) -> Result<(), String> {
        if node.endings > 0 {
            return Ok(());
        }
        let mut waits = false;
        for (&place, past) in &node.past {
            for say in self.says(place) {
                if !past.is_open(say == Say::Done) {
                    continue;
                }
                waits = true;
                let (reaction, _) = self.reply(&mut node.instance.clone(), place, say, None, node.now);
                if reaction != Reaction::Moved {
                    return Err(self.problem(place.0, "an answer that is waited for changes nothing"));
                }
            }
        }
        if waits {
            Ok(())
        } else {
            Err(format!("stuck at step {}: no answer is awaited and it has not ended", node.instance.step()))
        }
    }

    /// A reply of another attempt, or of a branch, step or saga that is not this one's, leaves no trace.
    fn must_ignore_strangers(&self, node: &Node) -> Result<(), String> {
        let mut instance = node.instance.clone();
        for place in self.places() {
            for say in self.says(place) {
                for strange in [Strange::Attempt, Strange::Branch, Strange::Step, Strange::Saga] {
                    let (reaction, actions) = self.reply(&mut instance, place, say, Some(strange), node.now);
                    if reaction == Reaction::Moved || !actions.is_empty() {
                        return Err(self.problem(place.0, "a reply that is not for it moves the saga"));
                    }
                }
            }
            if instance != node.instance {
                return Err(self.problem(place.0, "a reply that is not for it leaves a trace"));
            }
        }
        Ok(())
    }

    fn problem(&self, step: usize, problem: &str) -> String {
        format!("step {}: {problem}", self.definition.steps[step].name)
    }
}

impl Node {
    fn any(&self, test: impl Fn(&Place, &Past) -> bool) -> bool {
        self.past.iter().any(|(place, past)| test(place, past))
    }

    /// The worker dies and reads the instance back.
    fn crash(self) -> Result<Self, String> {
        let text = serde_json::to_string(&self.instance).map_err(|error| format!("storing the saga: {error}"))?;
        let instance: Instance = serde_json::from_str(&text).map_err(|error| format!("reading the saga: {error}"))?;
        if instance != self.instance {
            return Err("the saga does not come back from its stored form".to_owned());
        }
        Ok(Self { instance, ..self })
    }

    /// What tells this state from others: all but the very times.
    fn fingerprint(&self) -> String {
        let mut text = serde_json::to_string(&self.instance.without_times()).unwrap_or_default();
        let is_early = |deadline: i64| self.timers.first().is_some_and(|first| *first < deadline);
        let early = self.instance.deadline().map(is_early);
        let past: Vec<&Past> = self.past.values().collect();
        // Writing to a string cannot fail.
        let _ = write!(text, "{early:?}{}{}{past:?}", self.timers.len(), self.endings);
        text
    }
}

impl Past {
    /// Whether it is asked to do, or to undo, and has not answered.
    fn is_open(&self, undo: bool) -> bool {
        if undo { self.undo_asked && !self.undone } else { self.asked && self.said.is_none() && !self.undo_asked }
    }

    /// Whether something may have happened that is not undone.
    fn is_owed(&self) -> bool {
        self.asked && self.said != Some(Say::No) && !self.undone
    }
}
