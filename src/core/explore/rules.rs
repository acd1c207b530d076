//! The rules that can be read off a definition's table of steps.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::saga::{Class, Definition, Step};

/// The rules that the definition breaks, in words.
pub(super) fn broken(definition: &Definition) -> BTreeSet<String> {
    let mut problems = BTreeSet::new();
    if definition.steps.is_empty() {
        problems.insert("it has no steps".to_owned());
    }
    if definition.version < 1 {
        problems.insert("its version is below 1".to_owned());
    }
    problems.extend(broken_order(&definition.steps));
    problems.extend(ambiguous_types(&definition.steps));
    let mut names = BTreeSet::new();
    for step in &definition.steps {
        let mut found = broken_step(step);
        if !names.insert(step.name) {
            found.push("its name stands twice");
        }
        problems.extend(found.into_iter().map(|problem| format!("step {}: {problem}", step.name)));
    }
    problems
}

/// At most one pivot; what can be undone before it, what must succeed after it.
fn broken_order(steps: &[Step]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut pivot: Option<&str> = None;
    for step in steps {
        let name = step.name;
        match (step.class, pivot) {
            (Class::Pivot, None) => pivot = Some(name),
            (Class::Compensatable, None) | (Class::Retriable, Some(_)) => {}
            (Class::Pivot, Some(first)) => problems.push(format!("step {name}: a second pivot after {first}")),
            (Class::Compensatable, Some(pivot)) => {
                problems.push(format!("step {name}: compensatable, but after the pivot {pivot} nothing is undone"));
            }
            (Class::Retriable, None) => problems.push(format!("step {name}: retriable, but no pivot comes before it")),
        }
    }
    problems
}

fn broken_step(step: &Step) -> Vec<&'static str> {
    let mut problems = Vec::new();
    match step.class {
        Class::Compensatable | Class::Pivot => {
            if step.undo.is_none() {
                problems.push("it has no undo");
            }
            if step.no.is_some() && step.no_reason.is_empty() {
                problems.push("its no has no reason");
            }
        }
        Class::Retriable => {
            if step.no.is_some() {
                problems.push("retriable, but it can be refused");
            }
            if step.undo.is_some() {
                problems.push("retriable, but it has an undo");
            }
        }
    }
    if step.deadline.is_zero() {
        problems.push("its deadline is zero");
    }
    if step.undo.is_some() && step.undo_deadline.is_zero() {
        problems.push("its undo deadline is zero");
    }
    problems
}

/// A type that says two things cannot be understood, by a participant or by the saga.
fn ambiguous_types(steps: &[Step]) -> Vec<String> {
    let mut meanings: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for step in steps {
        let undo = step.undo.map(|undo| [(undo.command, "an undo command"), (undo.done, "an undone")]);
        let own = [Some((step.command, "a command")), Some((step.yes, "a yes")), step.no.map(|no| (no, "a no"))];
        for (message_type, meaning) in own.into_iter().flatten().chain(undo.into_iter().flatten()) {
            meanings.entry(message_type).or_default().insert(meaning);
        }
    }
    let ambiguous = meanings.into_iter().filter(|(_, meanings)| meanings.len() > 1);
    let said = ambiguous.map(|(message_type, meanings)| {
        format!("ambiguous: {message_type} is {}", meanings.into_iter().collect::<Vec<_>>().join(" and "))
    });
    said.collect()
}
