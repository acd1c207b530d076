//! Each safeguard of a definition, removed once: the check names what is missing.

use std::time::Duration;

use super::check;
use crate::core::saga::{Class, Definition, Step, Undo};

const MINUTE: Duration = Duration::from_secs(60);

fn step(name: &'static str, class: Class, types: [&'static str; 5]) -> Step {
    let [command, yes, no, undo, done] = types;
    let can_be_undone = class != Class::Retriable;
    Step {
        name,
        class,
        command,
        topic: "things",
        yes,
        no: can_be_undone.then_some(no),
        undo: can_be_undone.then_some(Undo { command: undo, done }),
        deadline: MINUTE,
        undo_deadline: MINUTE,
        branches: |_| Vec::new(),
        no_reason: "refused",
    }
}

fn first() -> Step {
    step("first", Class::Compensatable, ["one.do", "one.done", "one.refused", "one.undo", "one.undone"])
}

fn pivot() -> Step {
    step("pivot", Class::Pivot, ["two.do", "two.done", "two.refused", "two.undo", "two.undone"])
}

fn last() -> Step {
    step("last", Class::Retriable, ["three.do", "three.done", "", "", ""])
}

fn saga(steps: Vec<Step>) -> Definition {
    Definition { name: "saga", version: 1, topic: "things", steps, ended: |_, _, _| {} }
}

fn assert_problem(definition: &Definition, named: &str) {
    let problems = check(definition);
    assert!(problems.iter().any(|problem| problem.contains(named)), "{named:?} is not among {problems:#?}");
}

#[test]
fn a_sound_definition_is_proved() {
    assert_eq!(check(&saga(vec![first(), pivot(), last()])), Vec::<String>::new());
}

#[test]
fn definitions_of_every_sound_shape_are_proved() {
    let nothing = Vec::<String>::new();
    assert_eq!(check(&saga(vec![first()])), nothing);
    assert_eq!(check(&saga(vec![pivot()])), nothing);
    assert_eq!(check(&saga(vec![pivot(), last()])), nothing);
    let again = Step { name: "again", ..first() };
    assert_eq!(check(&saga(vec![first(), again])), nothing);
}

#[test]
fn a_long_saga_is_explored_too() {
    let again = |name| Step { name, ..first() };
    let mut steps = vec![first(), again("second"), again("third"), pivot(), last()];
    assert_eq!(check(&saga(steps.clone())), Vec::<String>::new());
    steps[4].no = Some("three.refused");
    assert_problem(&saga(steps), "stuck at step last");
}

#[test]
fn a_step_that_can_be_undone_may_not_follow_the_pivot() {
    let broken = saga(vec![pivot(), first()]);
    assert_problem(&broken, "step first: compensatable, but after the pivot pivot nothing is undone");
    assert_problem(&broken, "stuck at step first");
}

#[test]
fn a_second_pivot_is_found() {
    assert_problem(&saga(vec![pivot(), Step { name: "other", ..pivot() }]), "step other: a second pivot after pivot");
}

#[test]
fn a_retriable_step_may_not_say_no() {
    let broken = saga(vec![first(), pivot(), Step { no: Some("three.refused"), ..last() }]);
    assert_problem(&broken, "step last: retriable, but it can be refused");
    assert_problem(&broken, "stuck at step last");
}

#[test]
fn a_retriable_step_has_no_undo() {
    let undo = Some(Undo { command: "three.undo", done: "three.undone" });
    assert_problem(&saga(vec![pivot(), Step { undo, ..last() }]), "step last: retriable, but it has an undo");
}

#[test]
fn a_retriable_step_before_the_pivot_is_found() {
    let broken = saga(vec![last(), pivot()]);
    assert_problem(&broken, "step last: retriable, but no pivot comes before it");
    assert_problem(&broken, "step last: the saga ends compensated, but this step is not undone");
}

#[test]
fn a_missing_undo_is_found_by_the_rules_and_by_exploring() {
    let broken = saga(vec![Step { undo: None, ..first() }, pivot()]);
    assert_problem(&broken, "step first: it has no undo");
    assert_problem(&broken, "step first: the saga ends compensated, but this step is not undone");
}

#[test]
fn a_reply_that_says_two_things_is_ambiguous() {
    let same = saga(vec![Step { no: Some("one.done"), ..first() }]);
    assert_problem(&same, "ambiguous: one.done is a no and a yes");
    let across = saga(vec![first(), Step { yes: "one.refused", ..pivot() }]);
    assert_problem(&across, "ambiguous: one.refused is a no and a yes");
    let undo = Some(Undo { command: "one.do", done: "one.undone" });
    assert_problem(&saga(vec![Step { undo, ..first() }]), "ambiguous: one.do is a command and an undo command");
}

#[test]
fn names_deadlines_and_reasons_are_checked() {
    assert_problem(&saga(vec![]), "it has no steps");
    assert_problem(&Definition { version: 0, ..saga(vec![first()]) }, "its version is below 1");
    assert_problem(&saga(vec![first(), first()]), "step first: its name stands twice");
    assert_problem(&saga(vec![Step { deadline: Duration::ZERO, ..first() }]), "step first: its deadline is zero");
    assert_problem(
        &saga(vec![Step { undo_deadline: Duration::ZERO, ..first() }]),
        "step first: its undo deadline is zero",
    );
    assert_problem(&saga(vec![Step { no_reason: "", ..first() }]), "step first: its no has no reason");
}
