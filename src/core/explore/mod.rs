//! Proves of a saga's definition, before it runs, that every path of it ends.
//!
//! First the rules that can be read off the table of steps; then every state that can be reached with up
//! to two branches a step, under every signal in any order: each reply, doubled, late, of a stranger,
//! cancel, timer, and a crash between any two.

mod rules;
mod world;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use super::{catalog::Catalog, kind::Nature, saga::Definition};
use world::World;

/// Branches a step at most: one shows all that a branch does, two all that they do to each other.
const BRANCHES_MAX: usize = 2;
/// With more steps than this not all fan-outs are tried with one another.
const STEPS_ALL_FAN_OUTS_MAX: usize = 4;

/// What is wrong with a definition, in words; nothing if it is proved.
#[must_use]
pub fn check(definition: &Definition) -> Vec<String> {
    let mut problems = rules::broken(definition);
    for fan_outs in fan_outs(definition.steps.len()) {
        problems.extend(World::new(definition, &fan_outs).explore());
    }
    problems.into_iter().collect()
}

/// What is wrong with the definitions of a catalog, and with how they fit its kinds.
#[must_use]
pub fn check_catalog(catalog: &Catalog) -> Vec<String> {
    let mut problems = Vec::new();
    let mut known = BTreeSet::new();
    for definition in catalog.definitions() {
        let mut found = check(definition);
        if !known.insert((definition.name, definition.version)) {
            found.push("this name and version stand twice".to_owned());
        }
        found.extend(misfits(definition, catalog));
        problems.extend(
            found.into_iter().map(|problem| format!("saga {} v{}: {problem}", definition.name, definition.version)),
        );
    }
    problems
}

fn misfits(definition: &Definition, catalog: &Catalog) -> Vec<String> {
    let mut problems = Vec::new();
    match catalog.at(&catalog.topic(definition.topic)) {
        None => problems.push(format!("no kind lives at its topic {}", definition.topic)),
        Some(home) => {
            let taken = home.events().iter().filter(|event| definition.knows_reply(event.name));
            problems
                .extend(taken.map(|event| format!("{} is an event of its home and one of its replies", event.name)));
        }
    }
    for step in &definition.steps {
        let Some(participant) = catalog.at(&catalog.topic(step.topic)) else {
            problems.push(format!("step {}: no kind lives at topic {}", step.name, step.topic));
            continue;
        };
        for command in [Some(step.command), step.undo.map(|undo| undo.command)].into_iter().flatten() {
            let takes = |event: &super::kind::EventType| event.name == command && event.nature == Nature::Command;
            if !participant.events().iter().any(takes) {
                problems.push(format!("step {}: {} takes no command {command}", step.name, participant.name()));
            }
        }
    }
    problems
}

/// How many branches each step has: every combination, or for long sagas each step's own beside ones.
fn fan_outs(steps: usize) -> BTreeSet<Vec<usize>> {
    if steps <= STEPS_ALL_FAN_OUTS_MAX {
        let mut all = vec![Vec::new()];
        for _ in 0..steps {
            let longer = |fan_out: &Vec<usize>| {
                (0..=BRANCHES_MAX).map(|more| [fan_out.as_slice(), &[more]].concat()).collect::<Vec<_>>()
            };
            all = all.iter().flat_map(longer).collect();
        }
        return all.into_iter().collect();
    }
    let one_differs = |at: usize| {
        (0..=BRANCHES_MAX).map(move |branches| {
            let mut fan_out = vec![1; steps];
            fan_out[at] = branches;
            fan_out
        })
    };
    (0..steps).flat_map(one_differs).collect()
}
