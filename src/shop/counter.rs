//! Counters of activity: the plainest kind. No journal, so a counted event leaves its one row and nothing else.

use serde_json::Value as Json;

use super::fields::Fields;
use crate::core::{
    effect::{Effects, Objection},
    kind::{Entity, EventType, Invalid, Nature},
    rows::Rows,
};

crate::table! {
    /// A counter.
    main Counter in "shop"."counter" {
        /// Its name.
        key counter: String;
        /// The sum of all deltas.
        value: i64,
    }
}

/// The kind.
#[derive(Debug)]
pub struct Counters;

/// `activity.counted`: the delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted(i64);

impl Entity for Counters {
    const KIND: &'static str = "counter";
    const TOPIC: &'static str = "activity";
    const KEY_FIELD: &'static str = "counter";
    const EVENTS: &'static [EventType] = &[EventType { name: "activity.counted", nature: Nature::Fact }];
    const JOURNALED: bool = false;
    type Main = Counter;
    type Event = Counted;

    fn parse(_event_type: &str, data: &Json) -> Result<Counted, Invalid> {
        let fields = Fields::of(data);
        fields.id("counter")?;
        Ok(Counted(fields.int("delta")?))
    }

    fn decide(&self, rows: &mut Rows<'_>, event: &Counted, _effects: &mut Effects) -> Result<(), Objection> {
        let before = rows.main::<Counter>().map_or(0, |counter| counter.value);
        let Some(value) = before.checked_add(event.0) else {
            return Err(Objection::Contradiction("the counter would leave int64".to_owned()));
        };
        rows.put(Counter { counter: rows.entity_id().to_owned(), value });
        Ok(())
    }
}
