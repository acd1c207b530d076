//! Stories in plain text: what is told, in which order, and what must come of it.
//!
//! Each file of `stories/` holds several. Every story is run four times: a record a batch, all records of a
//! table in one batch, each batch followed by a restart, and each batch first lost in a crash. How records
//! are cut into batches must never show. What a story does not mention must not be there: records held,
//! parked or waiting, dead letters, alarms.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/lane_world.rs"]
mod lane_world;
#[path = "stories/look.rs"]
mod look;
#[path = "stories/run.rs"]
mod run;
#[path = "stories/script.rs"]
mod script;
#[path = "support/tally.rs"]
mod tally;

use std::{fs, path::Path};

use run::Manner;

fn tell(file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stories").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("reading {}: {error}", path.display()));
    let stories = script::parse(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
    assert!(!stories.is_empty(), "{file} tells no story");
    let mut wrong = Vec::new();
    for story in &stories {
        for manner in Manner::ALL {
            if let Err(error) = run::run(story, manner) {
                wrong.push(format!("{file} line {}: {} ({manner:?})\n{error}", story.line, story.title));
                break;
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn what_comes_twice_is_known() {
    tell("dedupe.txt");
}

#[test]
fn what_comes_early_is_held() {
    tell("reorder.txt");
}

#[test]
fn what_cannot_be_taken_is_a_dead_letter() {
    tell("letters.txt");
}

#[test]
fn what_is_unwell_is_parked_alone() {
    tell("quarantine.txt");
}

#[test]
fn what_is_about_nothing_yet_waits() {
    tell("waiting.txt");
}

#[test]
fn a_link_that_forks_is_not_followed() {
    tell("links.txt");
}

#[test]
fn what_is_forgotten_makes_no_wrong_answer() {
    tell("retention.txt");
}

#[test]
fn a_checkout_ends_whole() {
    tell("checkout.txt");
}
