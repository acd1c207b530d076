//! The demo as a user runs it: one command, no other program, everything judged at the end.
//!
//! What is compared between runs does not hang on the order in which tasks happen to run: dead letters, races, and what
//! stays parked. How many purchases found goods, and how often the gateway was asked, may differ.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{Command, Output},
};

/// Few enough to be quick, enough for every kind of trouble.
const EVENTS: &str = "1000";

/// What a run has said.
struct Demo {
    text: String,
    folder: PathBuf,
}

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seriatim"));
    command.args(arguments).output().expect("the binary starts")
}

impl Demo {
    fn play(seed: &str) -> Self {
        let output = run(&["demo", "--seed", seed, "--events", EVENTS]);
        let text = String::from_utf8(output.stdout).expect("the demo speaks UTF-8");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}\n{text}\n{error}", output.status);
        let folder = text.lines().nth(1).expect("the folder stands in the second line").trim();
        Self { folder: folder.into(), text }
    }

    /// The lines of a part, up to the empty line behind it.
    fn part(&self, head: &str) -> Vec<&str> {
        let lines = self.text.lines().skip_while(|line| !line.starts_with(head)).skip(1);
        let lines: Vec<&str> = lines.take_while(|line| !line.is_empty()).collect();
        assert!(!lines.is_empty(), "no part {head}:\n{}", self.text);
        lines
    }

    /// The numbers of a part by their name.
    fn numbers(&self, head: &str) -> BTreeMap<String, Vec<i64>> {
        let rows = self.part(head).into_iter().map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let name = words.iter().take_while(|word| word.parse::<i64>().is_err()).copied().collect::<Vec<_>>();
            let numbers = words.iter().filter_map(|word| word.parse().ok()).collect();
            (name.join(" "), numbers)
        });
        rows.collect()
    }

    fn letters(&self) -> BTreeMap<String, Vec<i64>> {
        self.numbers("Dead letters")
    }

    /// Kind and id of what is left in quarantine; the offset that is told behind them hangs on when answers come.
    fn unwell(&self) -> Vec<&str> {
        let lines = self.part("What became of").into_iter();
        let lines = lines.filter_map(|line| line.trim().strip_prefix("in quarantine: ")?.split(": ").next());
        let mut lines: Vec<&str> = lines.collect();
        lines.sort_unstable();
        lines
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Left behind where it cannot be removed; nothing reads it again.
        let _left = std::fs::remove_dir_all(&self.folder);
    }
}

fn holds(demo: &Demo) {
    let invariants = demo.part("Invariants at rest");
    assert!(invariants.len() >= 10, "{invariants:?}");
    for line in invariants {
        assert!(line.trim_start().starts_with("ok"), "{line}\n{}", demo.text);
    }
    let outcomes = demo.numbers("What became of");
    for outcome in ["applied", "refused", "duplicate", "skipped", "dead_lettered", "parked"] {
        assert!(outcomes[outcome][0] > 0, "{outcome}:\n{}", demo.text);
    }
    assert_eq!((outcomes["held"][0], outcomes["waiting"][0]), (0, 0), "{}", demo.text);
    let letters = demo.letters();
    for (reason, count) in &letters {
        // Nothing that the shop's handlers meet makes them fail.
        assert_eq!(count[0] > 0, reason != "poison", "{reason}:\n{}", demo.text);
    }
    assert_eq!(letters.len(), 10, "{letters:?}");
    let checkouts = demo.numbers("Checkouts");
    assert!(checkouts["completed"][0] > 0 && checkouts["compensated"][0] > 0, "{}", demo.text);
    assert_eq!(checkouts["needs_operator"][0], 0, "{}", demo.text);
    races(demo);
}

/// Ten items, ten users with one of two changes lost, five counters of which each round of four keeps one.
fn races(demo: &Demo) {
    let races = demo.numbers("The same races");
    let numbers: Vec<(&str, &[i64])> = races.iter().map(|(name, numbers)| (&**name, &**numbers)).collect();
    let expected: [(&str, &[i64]); 4] = [
        ("increments lost by concurrent counters", &[90, 0]),
        ("profile updates lost between two devices", &[10, 0]),
        ("textbook seriatim", &[]),
        ("units oversold when two buyers want the last one", &[10, 0]),
    ];
    assert_eq!(numbers, expected);
}

#[test]
fn the_demo_ends_well_and_the_same_seed_ends_the_same() {
    let (first, again) = (Demo::play("1"), Demo::play("1"));
    holds(&first);
    holds(&again);
    assert_eq!(first.letters(), again.letters());
    assert_eq!(first.unwell(), again.unwell());
}

#[test]
fn another_seed_ends_well_too_and_what_it_proposes_next_works() {
    let demo = Demo::play("20250");
    holds(&demo);
    let proposed = demo.part("Look around").into_iter().filter_map(|line| line.trim().strip_prefix("seriatim "));
    let proposed: Vec<&str> = proposed.collect();
    assert_eq!(proposed.len(), 5, "{proposed:?}");
    for line in proposed {
        let output = run(&line.split(' ').collect::<Vec<_>>());
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(!output.stdout.is_empty(), "{line}");
    }
}

#[test]
fn the_demo_takes_no_file_that_could_lead_it_elsewhere() {
    let output = run(&["demo", "--config", "production.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("reads no file"));
}
