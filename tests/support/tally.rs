//! A kind for tests: a tally keeps the words that it was told, in order, so that order and repeats show.
//!
//! Some words have a meaning: they make the handler refuse, contradict, fail, send, or set a timer. `broken`
//! makes it fail on every word until it is mended, as a handler with a bug would.

#![allow(dead_code, reason = "each test target uses its own part of it")]

use std::{
    marker::PhantomData,
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value as Json, json};
use seriatim::core::{
    catalog::Catalog,
    effect::{Effects, Objection},
    kind::{Entity, EventType, FailurePolicy, GapPolicy, Invalid, Nature},
    rows::Rows,
    state::Address,
    table::Value,
};

seriatim::table! {
    /// A tally.
    main Tally in "test"."tally" {
        /// Its name.
        key tally: String;
        /// Its words, in the order in which they were applied.
        words: String,
    }
}

seriatim::table! {
    /// How often a tally was told a word by `tally.counted`.
    sub Count in "test"."count" {
        /// The tally.
        key tally: String,
        /// The word.
        key word: String;
        /// How often.
        times: i64,
    }
}

/// What one kind of tally does differently.
pub trait Manner: Send + Sync + 'static {
    const KIND: &'static str;
    const GAP: GapPolicy = GapPolicy::Quarantine;
    const ON_FAILURE: FailurePolicy = FailurePolicy::Quarantine;
    const JOURNALED: bool = true;
    const ADOPTS: bool = false;
}

/// Quarantines on a gap and on failure.
pub struct Strict;
impl Manner for Strict {
    const KIND: &'static str = "strict";
}

/// Skips gaps; dead-letters what its handler fails on.
pub struct Easy;
impl Manner for Easy {
    const KIND: &'static str = "easy";
    const GAP: GapPolicy = GapPolicy::Skip;
    const ON_FAILURE: FailurePolicy = FailurePolicy::DeadLetter;
}

/// Keeps no journal; dead-letters what waits behind a gap.
pub struct Plain;
impl Manner for Plain {
    const KIND: &'static str = "plain";
    const GAP: GapPolicy = GapPolicy::DeadLetter;
    const ON_FAILURE: FailurePolicy = FailurePolicy::DeadLetter;
    const JOURNALED: bool = false;
}

/// Adopts the first number of a source.
pub struct Adopting;
impl Manner for Adopting {
    const KIND: &'static str = "adopting";
    const ADOPTS: bool = true;
}

/// The kind.
pub struct Tallies<M> {
    pub broken: Arc<AtomicBool>,
    manner: PhantomData<M>,
}

impl<M> Tallies<M> {
    pub fn new(broken: &Arc<AtomicBool>) -> Self {
        Self { broken: Arc::clone(broken), manner: PhantomData }
    }
}

/// An event of a tally.
pub enum Event {
    Noted(String),
    Counted(String),
    Ended(String),
}

impl<M: Manner> Entity for Tallies<M> {
    const KIND: &'static str = M::KIND;
    const TOPIC: &'static str = M::KIND;
    const KEY_FIELD: &'static str = "tally";
    const EVENTS: &'static [EventType] = &[
        EventType { name: "tally.noted", nature: Nature::Request },
        EventType { name: "tally.counted", nature: Nature::Request },
        EventType { name: "tally.ended", nature: Nature::Request },
    ];
    const GAP: GapPolicy = M::GAP;
    const ON_FAILURE: FailurePolicy = M::ON_FAILURE;
    const JOURNALED: bool = M::JOURNALED;
    const ADOPTS_FIRST_SEQUENCE: bool = M::ADOPTS;
    type Main = Tally;
    type Event = Event;

    fn parse(event_type: &str, data: &Json) -> Result<Event, Invalid> {
        let word = data.get("word").and_then(Json::as_str).ok_or_else(|| Invalid::new("word", "missing"))?.to_owned();
        Ok(match event_type {
            "tally.noted" => Event::Noted(word),
            "tally.counted" => Event::Counted(word),
            _ => Event::Ended(word),
        })
    }

    fn rows(entity_id: &str, event: &Event) -> Vec<Address> {
        match event {
            Event::Counted(word) => vec![Address::of::<Count>(count_key(entity_id, word))],
            Event::Noted(_) | Event::Ended(_) => Vec::new(),
        }
    }

    fn decide(&self, rows: &mut Rows<'_>, event: &Event, effects: &mut Effects) -> Result<(), Objection> {
        let known = rows.main::<Tally>();
        match event {
            Event::Ended(_) if known.is_none() => return Err(Objection::NotYet),
            Event::Noted(word) if word == "no" => return Err(Objection::Refused("told so".to_owned())),
            Event::Noted(word) if word == "contradict" => {
                return Err(Objection::Contradiction("cannot be".to_owned()));
            }
            Event::Noted(word) | Event::Ended(word) if word == "fail" && self.broken.load(Ordering::Relaxed) => {
                bug("a bug in the handler");
            }
            Event::Noted(word) if word == "tell" => {
                effects.send("tellings", rows.entity_id(), "tally.told", json!({ "tally": rows.entity_id() }));
            }
            Event::Noted(word) if word == "wake" => effects.wake("alarm".to_owned(), Duration::from_secs(60)),
            Event::Noted(word) if word == "wake and fail" => effects.wake("fail".to_owned(), Duration::from_secs(60)),
            Event::Counted(word) => {
                let key = count_key(rows.entity_id(), word);
                let times = rows.get::<Count>(key).map_or(0, |count| count.times) + 1;
                rows.put(Count { tally: rows.entity_id().to_owned(), word: word.clone(), times });
            }
            Event::Noted(_) | Event::Ended(_) => {}
        }
        let (Event::Noted(word) | Event::Counted(word) | Event::Ended(word)) = event;
        append(rows, known, word);
        Ok(())
    }

    fn timer(&self, rows: &mut Rows<'_>, name: &str, _effects: &mut Effects) {
        if name == "fail" && self.broken.load(Ordering::Relaxed) {
            bug("a bug in the timer");
        }
        let known = rows.main::<Tally>();
        append(rows, known, &format!("({name})"));
    }
}

/// A panic that the panic hook does not print: the lane catches it, and it is meant.
fn bug(text: &'static str) -> ! {
    resume_unwind(Box::new(text))
}

fn count_key(tally: &str, word: &str) -> Vec<Value> {
    vec![Value::Text(tally.to_owned()), Value::Text(word.to_owned())]
}

fn append(rows: &mut Rows<'_>, known: Option<Tally>, word: &str) {
    let words = known.map_or_else(|| word.to_owned(), |known| format!("{} {word}", known.words));
    rows.put(Tally { tally: rows.entity_id().to_owned(), words });
}

/// A catalog of all manners of tally; their handlers fail on the word `fail` while `broken`.
pub fn add_tallies(catalog: Catalog, broken: &Arc<AtomicBool>) -> Catalog {
    catalog
        .kind(Tallies::<Strict>::new(broken))
        .kind(Tallies::<Easy>::new(broken))
        .kind(Tallies::<Plain>::new(broken))
        .kind(Tallies::<Adopting>::new(broken))
        .destination("tellings", true)
}
