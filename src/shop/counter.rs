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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Counter, Counters};
    use crate::testing::given;

    const COUNTED: &str = "activity.counted";

    fn counter(value: i64) -> Counter {
        Counter { counter: "clicks".to_owned(), value }
    }

    #[test]
    fn deltas_add_up() {
        let first = given(Counters).when(COUNTED, json!({"counter": "clicks", "delta": 0})).then_applied();
        let second = first.then_row(counter(0)).and().when(COUNTED, json!({"counter": "clicks", "delta": -7}));
        second.then_applied().then_row(counter(-7)).then_effects(&[]);
    }

    #[test]
    fn a_counter_does_not_wrap() {
        let full = given(Counters).row(counter(i64::MAX));
        full.when(COUNTED, json!({"counter": "clicks", "delta": 1})).then_contradiction().then_row(counter(i64::MAX));
    }

    #[test]
    fn a_delta_is_an_integer() {
        given(Counters).when(COUNTED, json!({"counter": "clicks", "delta": "1"})).then_invalid("delta");
        given(Counters).when(COUNTED, json!({"counter": "clicks"})).then_invalid("delta");
    }
}
