//! The engine's moves, each as a claim. That every path ends is proved by [`crate::core::explore`].

use std::time::Duration;

use serde_json::json;

use super::{Action, Branch, Class, Definition, Ending, Instance, Reaction, Signal, Status, Step, Undo, ignored};
use crate::core::event::SagaRef;

const SECOND: i64 = 1_000_000;

fn step(name: &'static str, class: Class, seconds: u64) -> Step {
    let open = class != Class::Retriable;
    Step {
        name,
        class,
        command: "do",
        topic: "things",
        yes: "yes",
        no: open.then_some("no"),
        undo: open.then_some(Undo { command: "undo", done: "done" }),
        deadline: Duration::from_secs(seconds),
        undo_deadline: Duration::from_secs(5),
        branches: |_| Vec::new(),
        no_reason: "refused",
    }
}

/// Three steps with two, one and one branches.
fn definition() -> Definition {
    let steps = vec![step("a", Class::Compensatable, 10), step("b", Class::Pivot, 20), step("c", Class::Retriable, 30)];
    Definition { name: "saga", version: 3, topic: "homes", steps, ended: |_, _, _| {} }
}

fn branches(counts: [usize; 3]) -> Vec<Vec<Branch>> {
    let branch = |number: usize| Branch { key: format!("k{number}"), data: json!({ "n": number }) };
    counts.map(|count| (0..count).map(branch).collect()).into()
}

struct Test {
    definition: Definition,
    instance: Instance,
    actions: Vec<Action>,
}

fn begun(counts: [usize; 3]) -> Test {
    let definition = definition();
    let (instance, actions) = definition.begin_with("s", branches(counts), 0);
    Test { definition, instance, actions }
}

impl Test {
    fn signal(&mut self, signal: &Signal<'_>, now: i64) -> Reaction {
        let (reaction, actions) = self.definition.advance(&mut self.instance, signal, now);
        self.actions = actions;
        reaction
    }

    fn reply(&mut self, step: &str, branch: &str, message_type: &str) -> Reaction {
        let reference = reference(step, branch, message_type == "done");
        self.signal(&Signal::Reply { reference: &reference, message_type, reason: Some("why") }, SECOND)
    }

    fn due(&mut self, now: i64) -> Reaction {
        self.signal(&Signal::Due, now)
    }

    /// What was sent, as `command step/branch`.
    fn sent(&self) -> Vec<String> {
        let line = |action: &Action| match action {
            Action::Send { message_type, reference, .. } => {
                Some(format!("{message_type} {}/{}", reference.step, reference.branch))
            }
            Action::WakeAt(_) | Action::Ended(_) | Action::Alarm(_) => None,
        };
        self.actions.iter().filter_map(line).collect()
    }

    fn ended(&self) -> Option<Ending> {
        self.actions
            .iter()
            .find_map(|action| if let Action::Ended(ending) = action { Some(ending.clone()) } else { None })
    }

    fn has_alarm(&self) -> bool {
        self.actions.iter().any(|action| matches!(action, Action::Alarm(_)))
    }
}

fn reference(step: &str, branch: &str, undo: bool) -> SagaRef {
    let (step, branch) = (step.to_owned(), branch.to_owned());
    SagaRef { definition: "saga".to_owned(), id: "s".to_owned(), step, branch, attempt: 1, undo }
}

fn compensated(reason: &str) -> Option<Ending> {
    Some(Ending::Compensated { reason: reason.to_owned() })
}

#[test]
fn a_saga_goes_on_when_all_branches_said_yes() {
    let mut test = begun([2, 1, 1]);
    assert_eq!(test.sent(), ["do a/k0", "do a/k1"]);
    let Some(Action::Send { topic, key, data, reference: sent, .. }) = test.actions.first() else { panic!() };
    assert_eq!((*topic, key.as_str(), data, sent), ("things", "k0", &json!({"n": 0}), &reference("a", "k0", false)));
    assert_eq!(test.reply("a", "k1", "yes"), Reaction::Moved);
    assert!(test.actions.is_empty());
    test.reply("a", "k0", "yes");
    assert_eq!(test.sent(), ["do b/k0"]);
    assert!(!test.instance.pivot_passed());
    test.reply("b", "k0", "yes");
    assert!(test.instance.pivot_passed());
    assert_eq!((test.sent(), test.instance.step()), (vec!["do c/k0".to_owned()], "c"));
    test.reply("c", "k0", "yes");
    assert_eq!((test.ended(), test.instance.status()), (Some(Ending::Completed), Status::Completed));
}

#[test]
fn a_step_without_branches_is_passed_at_once() {
    assert_eq!(begun([0, 1, 0]).sent(), ["do b/k0"]);
    let test = begun([0, 0, 0]);
    assert_eq!(test.actions, [Action::Ended(Ending::Completed)]);
    assert!(test.instance.pivot_passed());
}

#[test]
fn a_no_undoes_the_other_branches_without_waiting_for_their_answers() {
    let mut test = begun([2, 1, 1]);
    test.reply("a", "k0", "no");
    assert_eq!(test.sent(), ["undo a/k1"]);
    assert_eq!(test.instance.status(), Status::Compensating);
    assert_eq!(test.reply("a", "k1", "yes"), Reaction::Ignored(ignored::LATE));
    assert_eq!(test.reply("a", "k1", "yes"), Reaction::Ignored(ignored::DOUBLED));
    test.reply("a", "k1", "done");
    assert_eq!((test.ended(), test.instance.status()), (compensated("refused"), Status::Compensated));
    let statuses: Vec<_> = test.instance.steps().iter().map(|row| row.status).collect();
    assert_eq!(statuses, ["no", "undone", "skipped", "skipped"]);
}

#[test]
fn a_saga_with_nothing_to_undo_ends_at_once() {
    let mut test = begun([1, 1, 1]);
    test.reply("a", "k0", "no");
    assert_eq!((test.sent(), test.ended()), (vec![], compensated("refused")));
}

#[test]
fn undoing_goes_back_step_by_step() {
    let mut test = begun([2, 1, 1]);
    test.reply("a", "k0", "yes");
    test.reply("a", "k1", "yes");
    test.reply("b", "k0", "no");
    assert_eq!(test.sent(), ["undo a/k0", "undo a/k1"]);
    assert_eq!(test.reply("b", "k0", "yes"), Reaction::Ignored(ignored::AFTER_NO));
    test.reply("a", "k1", "done");
    assert_eq!(test.ended(), None);
    test.reply("a", "k0", "done");
    assert_eq!(test.ended(), compensated("refused"));
}

#[test]
fn a_cancel_undoes_the_step_under_way_first_and_then_those_before_it() {
    let mut test = begun([1, 1, 1]);
    test.reply("a", "k0", "yes");
    assert_eq!(test.signal(&Signal::Cancel { reason: "cancelled" }, 0), Reaction::Moved);
    assert_eq!(test.sent(), ["undo b/k0"]);
    assert_eq!(test.signal(&Signal::Cancel { reason: "again" }, 0), Reaction::Ignored(ignored::UNDOING));
    test.reply("b", "k0", "done");
    assert_eq!(test.sent(), ["undo a/k0"]);
    test.reply("a", "k0", "done");
    assert_eq!(test.ended(), compensated("cancelled"));
    assert_eq!(test.signal(&Signal::Cancel { reason: "late" }, 0), Reaction::Ignored(ignored::OVER));
}

#[test]
fn nothing_is_undone_after_the_pivot() {
    let mut test = begun([0, 1, 1]);
    test.reply("b", "k0", "yes");
    assert_eq!(test.signal(&Signal::Cancel { reason: "cancelled" }, 0), Reaction::Ignored(ignored::PIVOT_PASSED));
    assert_eq!(test.due(31 * SECOND), Reaction::Moved);
    assert_eq!((test.sent(), test.has_alarm()), (vec![], true));
    assert_eq!(test.instance.status(), Status::NeedsOperator);
    assert_eq!(test.due(99 * SECOND), Reaction::Ignored(ignored::NO_DEADLINE));
    test.reply("c", "k0", "yes");
    assert_eq!(test.ended(), Some(Ending::Completed));
}

#[test]
fn a_deadline_before_the_pivot_undoes() {
    let mut test = begun([1, 1, 1]);
    assert_eq!(test.due(10 * SECOND), Reaction::Moved);
    assert_eq!(test.sent(), ["undo a/k0"]);
    test.reply("a", "k0", "done");
    assert_eq!(test.ended(), compensated("timeout"));
}

#[test]
fn an_undo_out_of_time_calls_an_operator_and_still_ends_when_it_is_answered() {
    let mut test = begun([1, 1, 1]);
    test.reply("a", "k0", "yes");
    test.signal(&Signal::Cancel { reason: "cancelled" }, 2 * SECOND);
    assert_eq!(test.due(7 * SECOND), Reaction::Moved);
    assert_eq!((test.has_alarm(), test.instance.status()), (true, Status::NeedsOperator));
    test.reply("b", "k0", "done");
    assert_eq!((test.sent(), test.instance.status()), (vec!["undo a/k0".to_owned()], Status::Compensating));
    test.reply("a", "k0", "done");
    assert_eq!(test.ended(), compensated("cancelled"));
}

#[test]
fn an_operator_has_it_asked_again_and_only_the_last_answer_counts() {
    let mut test = begun([2, 1, 1]);
    test.reply("a", "k0", "yes");
    test.signal(&Signal::Cancel { reason: "cancelled" }, 2 * SECOND);
    test.reply("a", "k1", "done");
    assert_eq!(test.due(7 * SECOND), Reaction::Moved);
    assert_eq!(test.signal(&Signal::Retry, 9 * SECOND), Reaction::Moved);
    assert_eq!((test.sent(), test.instance.status()), (vec!["undo a/k0".to_owned()], Status::Compensating));
    assert!(test.actions.contains(&Action::WakeAt(14 * SECOND)), "it has as long as before");
    assert_eq!(test.reply("a", "k0", "done"), Reaction::Ignored(ignored::OTHER_ATTEMPT));
    let last = SagaRef { attempt: 2, ..reference("a", "k0", true) };
    let said = Signal::Reply { reference: &last, message_type: "done", reason: None };
    assert_eq!(test.signal(&said, 10 * SECOND), Reaction::Moved);
    assert_eq!(test.ended(), compensated("cancelled"));
    assert_eq!(test.signal(&Signal::Retry, 11 * SECOND), Reaction::Ignored(ignored::OVER));
}

#[test]
fn a_saga_past_its_pivot_is_asked_again_for_what_it_has_left_to_do() {
    let mut test = begun([1, 1, 1]);
    test.reply("a", "k0", "yes");
    test.reply("b", "k0", "yes");
    assert_eq!(test.due(31 * SECOND), Reaction::Moved);
    assert_eq!(test.instance.status(), Status::NeedsOperator);
    assert_eq!(test.signal(&Signal::Retry, 40 * SECOND), Reaction::Moved);
    assert_eq!((test.sent(), test.instance.status()), (vec!["do c/k0".to_owned()], Status::Running));
}

#[test]
fn a_saga_that_is_on_time_only_gets_its_timer_again() {
    let mut test = begun([1, 1, 1]);
    assert_eq!(test.signal(&Signal::Retry, SECOND), Reaction::Ignored(ignored::EARLY));
    assert_eq!(test.actions, [Action::WakeAt(10 * SECOND)]);
    assert_eq!(test.signal(&Signal::Retry, 10 * SECOND), Reaction::Moved);
    assert_eq!(test.sent(), ["undo a/k0"], "it is overdue");
}

#[test]
fn one_lazy_timer_serves_all_deadlines() {
    let mut test = begun([1, 1, 1]);
    assert!(test.actions.contains(&Action::WakeAt(10 * SECOND)));
    test.reply("a", "k0", "yes");
    let sets_none = |test: &Test| !test.actions.iter().any(|action| matches!(action, Action::WakeAt(_)));
    assert!(sets_none(&test), "the timer at 10 s comes before the deadline at 21 s");
    assert_eq!(test.due(10 * SECOND), Reaction::Ignored(ignored::EARLY));
    assert_eq!(test.actions, [Action::WakeAt(21 * SECOND)]);
    test.signal(&Signal::Cancel { reason: "cancelled" }, 12 * SECOND);
    assert!(test.actions.contains(&Action::WakeAt(17 * SECOND)), "an earlier deadline needs an earlier timer");
}

#[test]
fn what_does_not_fit_is_ignored_and_says_why() {
    let mut test = begun([1, 1, 1]);
    assert_eq!(test.reply("a", "k0", "done"), Reaction::Ignored(ignored::UNASKED));
    assert_eq!(test.reply("b", "k0", "yes"), Reaction::Ignored(ignored::UNASKED));
    assert_eq!(test.reply("a", "other", "yes"), Reaction::Ignored(ignored::UNKNOWN_BRANCH));
    assert_eq!(test.reply("other", "k0", "yes"), Reaction::Ignored(ignored::UNKNOWN_BRANCH));
    assert_eq!(test.reply("a", "k0", "other"), Reaction::Ignored(ignored::UNKNOWN_REPLY));
    let strange = [
        (SagaRef { attempt: 2, ..reference("a", "k0", false) }, ignored::OTHER_ATTEMPT),
        (SagaRef { id: "other".to_owned(), ..reference("a", "k0", false) }, ignored::OTHER_SAGA),
        (reference("a", "k0", true), ignored::UNKNOWN_REPLY),
    ];
    for (reference, why) in strange {
        let signal = Signal::Reply { reference: &reference, message_type: "yes", reason: None };
        assert_eq!(test.signal(&signal, 0), Reaction::Ignored(why));
    }
    test.reply("a", "k0", "yes");
    assert_eq!(test.reply("a", "k0", "yes"), Reaction::Ignored(ignored::DOUBLED));
    assert_eq!(test.reply("a", "k0", "no"), Reaction::Ignored(ignored::AFTER_YES));
    test.definition.version = 4;
    assert_eq!(test.due(0), Reaction::Ignored(ignored::OTHER_SAGA));
}

#[test]
fn a_reply_is_known_by_its_type() {
    let definition = definition();
    assert!(["yes", "no", "done"].iter().all(|reply| definition.knows_reply(reply)));
    assert!(!definition.knows_reply("do"));
}

#[test]
#[should_panic(expected = "branches of step a must have unique keys")]
fn branches_that_cannot_be_told_apart_are_a_bug() {
    let twice = Branch { key: "k".to_owned(), data: json!({}) };
    let _ = definition().begin_with("s", vec![vec![twice.clone(), twice], vec![], vec![]], 0);
}

/// Sagas outlive releases: this text was written by one and is read by every later one. Never change it;
/// add another beside it.
const STORED: &str = r#"{
  "definition": "saga", "definition_version": 3, "id": "s", "status": "compensating", "heading": "back",
  "at": 0, "pivot_passed": false, "reason": "refused", "deadline": 6000000, "wake": 6000000,
  "steps": [
    {"name": "a", "branches": [
      {"key": "k0", "data": {"n": 0}, "standing": "no", "answer": "no", "note": "why",
       "attempts": 1, "undo_attempts": 0, "sent_at": 0, "answered_at": 1000000},
      {"key": "k1", "data": {"n": 1}, "standing": "undoing",
       "attempts": 1, "undo_attempts": 1, "sent_at": 1000000}
    ]},
    {"name": "b", "branches": [
      {"key": "k0", "data": {"n": 0}, "standing": "skipped",
       "attempts": 0, "undo_attempts": 0}
    ]},
    {"name": "c", "branches": [
      {"key": "k0", "data": {"n": 0}, "standing": "skipped",
       "attempts": 0, "undo_attempts": 0}
    ]}
  ]
}"#;

#[test]
fn the_stored_form_is_read_and_written_as_ever() {
    let mut test = begun([2, 1, 1]);
    test.reply("a", "k0", "no");
    let stored: serde_json::Value = serde_json::from_str(STORED).unwrap();
    assert_eq!(serde_json::to_value(&test.instance).unwrap(), stored);
    test.instance = serde_json::from_str(STORED).unwrap();
    assert_eq!(test.instance.steps()[1].undo_attempts, 1);
    test.reply("a", "k1", "done");
    assert_eq!(test.ended(), compensated("refused"));
}
