//! Given, when, then: tests for handlers, with no Kafka and no database.
//!
//! What the kind's `rows` does not name is not there, as in the worker: a handler that touches it fails
//! the test. Every step panics with a sentence if it is not as expected.
//!
//! ```
//! use seriatim::{shop::counter::{Counter, Counters}, testing::given};
//! use serde_json::json;
//!
//! given(Counters)
//!     .row(Counter { counter: "clicks".to_owned(), value: 2 })
//!     .when("activity.counted", json!({"counter": "clicks", "delta": 3}))
//!     .then_applied()
//!     .then_row(Counter { counter: "clicks".to_owned(), value: 5 });
//! ```

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::core::{
    effect::{Effect, Effects, Objection},
    kind::Entity,
    rows::{Row, Rows},
    saga::Instance,
    state::{Address, State},
    table::{Key, Table, Value},
};

/// Begins a test of `kind`, with nothing there yet.
#[must_use]
pub fn given<E: Entity>(kind: E) -> Given<E> {
    Given { kind, rows: BTreeMap::new(), asker: None, saga: None }
}

/// What is there before the event.
#[derive(Debug)]
pub struct Given<E> {
    kind: E,
    rows: BTreeMap<Address, Vec<Value>>,
    asker: Option<String>,
    saga: Option<Instance>,
}

impl<E: Entity> Given<E> {
    /// A row is there.
    #[must_use]
    pub fn row<R: Row>(mut self, row: R) -> Self {
        let cells = row.into_cells();
        let key = cells[..R::table().key].to_vec();
        self.rows.insert(Address::of::<R>(key), cells);
        self
    }

    /// An event was applied before; its effects are done with.
    ///
    /// # Panics
    /// If it is not applied.
    #[must_use]
    #[track_caller]
    pub fn event(self, event_type: &str, data: Json) -> Self {
        self.when(event_type, data).then_applied().and()
    }

    /// The saga that lives with the entity.
    #[must_use]
    pub fn saga(mut self, saga: Instance) -> Self {
        self.saga = Some(saga);
        self
    }

    /// What comes is the command of a saga, with this reference.
    #[must_use]
    pub fn asked_by(mut self, reference: &str) -> Self {
        self.asker = Some(reference.to_owned());
        self
    }

    /// An event comes. Its entity is the one that the kind's key field names.
    ///
    /// # Panics
    /// If the kind does not know the type, or its handler writes a row that `rows` does not name.
    #[track_caller]
    pub fn when(self, event_type: &str, data: Json) -> Then<E> {
        assert!(E::EVENTS.iter().any(|known| known.name == event_type), "{} knows no {event_type}", E::KIND);
        let id = data.get(E::KEY_FIELD).and_then(Json::as_str).unwrap_or_default().to_owned();
        match E::parse(event_type, &data) {
            Err(invalid) => Then { given: self, outcome: Outcome::Invalid(invalid.field), effects: Effects::default() },
            Ok(event) => {
                let named = E::rows(&id, &event);
                self.decide(&id, named, |kind, rows, effects| kind.decide(rows, &event, effects))
            }
        }
    }

    /// A timer of the entity goes off.
    ///
    /// # Panics
    /// If the handler writes another row than the main one.
    #[track_caller]
    pub fn when_due(mut self, entity_id: &str, timer: &str) -> Then<E> {
        self.asker = None;
        self.decide(entity_id, Vec::new(), |kind, rows, effects| {
            kind.timer(rows, timer, effects);
            Ok(())
        })
    }

    /// An operator lets the entity try again.
    ///
    /// # Panics
    /// If the handler writes another row than the main one.
    #[track_caller]
    pub fn when_retried(mut self, entity_id: &str) -> Then<E> {
        self.asker = None;
        self.decide(entity_id, Vec::new(), |kind, rows, effects| kind.retry(rows, effects))
    }

    #[track_caller]
    fn decide(
        mut self,
        entity_id: &str,
        named: Vec<Address>,
        decide: impl FnOnce(&E, &mut Rows<'_>, &mut Effects) -> Result<(), Objection>,
    ) -> Then<E> {
        let mut state = State::default();
        let main = Address::of::<E::Main>(vec![Value::Text(entity_id.to_owned())]);
        for address in named.into_iter().chain([main]) {
            let row = self.rows.get(&address).cloned();
            state.admit(address, row);
        }
        let mut rows = Rows::new(&state, entity_id, self.saga.as_ref());
        let mut effects = Effects::asked_by(self.asker.take());
        let decided = decide(&self.kind, &mut rows, &mut effects);
        let changes = std::mem::take(&mut rows.changes);
        if let Some(address) = changes.keys().find(|address| state.get(address).is_none()) {
            panic!("the handler writes a row of {} that the kind's rows does not name", table_of(address).name);
        }
        let outcome = match decided {
            Ok(()) => {
                for (address, cells) in changes {
                    match cells {
                        Some(cells) => self.rows.insert(address, cells),
                        None => self.rows.remove(&address),
                    };
                }
                Outcome::Applied
            }
            Err(objection) => Outcome::Objected(objection),
        };
        Then { given: self, outcome, effects }
    }
}

fn table_of(address: &Address) -> &'static Table {
    address.table
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Applied,
    Objected(Objection),
    Invalid(String),
}

/// What came of the event.
#[derive(Debug)]
pub struct Then<E> {
    given: Given<E>,
    outcome: Outcome,
    effects: Effects,
}

impl<E: Entity> Then<E> {
    /// The event was applied.
    ///
    /// # Panics
    /// If it was not.
    #[track_caller]
    pub fn then_applied(self) -> Self {
        assert_eq!(self.outcome, Outcome::Applied, "the event should be applied");
        self
    }

    /// The event was refused.
    ///
    /// # Panics
    /// If it was not.
    #[track_caller]
    pub fn then_refused(self) -> Self {
        let is_refused = matches!(self.outcome, Outcome::Objected(Objection::Refused(_)));
        assert!(is_refused, "the event should be refused, but: {:?}", self.outcome);
        self
    }

    /// The event contradicts what is known.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn then_contradiction(self) -> Self {
        let contradicts = matches!(self.outcome, Outcome::Objected(Objection::Contradiction(_)));
        assert!(contradicts, "the event should be a contradiction, but: {:?}", self.outcome);
        self
    }

    /// The event waits for what it is about.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn then_waits(self) -> Self {
        assert_eq!(self.outcome, Outcome::Objected(Objection::NotYet), "the event should wait");
        self
    }

    /// The event's data is invalid at `field`.
    ///
    /// # Panics
    /// If it is valid, or another field is at fault.
    #[track_caller]
    pub fn then_invalid(self, field: &str) -> Self {
        assert_eq!(self.outcome, Outcome::Invalid(field.to_owned()), "{field} should be invalid");
        self
    }

    /// These are its effects, all of them, in order.
    ///
    /// # Panics
    /// If there are others.
    #[track_caller]
    pub fn then_effects(self, expected: &[Effect]) -> Self {
        assert_eq!(self.effects.list(), expected, "the effects differ");
        self
    }

    /// What it sends is correlated with `id`.
    ///
    /// # Panics
    /// If it is not.
    #[track_caller]
    pub fn then_correlated(self, id: &str) -> Self {
        assert_eq!(self.effects.correlation.as_deref(), Some(id), "the correlation differs");
        self
    }

    /// The row is there, exactly so.
    ///
    /// # Panics
    /// If it is not.
    #[track_caller]
    pub fn then_row<R: Row + std::fmt::Debug + PartialEq>(self, expected: R) -> Self {
        let cells = expected.into_cells();
        let found = self.row::<R>(cells[..R::table().key].to_vec());
        assert_eq!(found, R::from_cells(&cells), "the row of {} differs", R::table().name);
        self
    }

    /// No row has this key.
    ///
    /// # Panics
    /// If there is one.
    #[track_caller]
    pub fn then_no_row<R: Row + std::fmt::Debug>(self, key: Key) -> Self {
        if let Some(row) = self.row::<R>(key) {
            panic!("there should be no such row: {row:?}");
        }
        self
    }

    /// The row with this key, if it is there.
    #[must_use]
    pub fn row<R: Row>(&self, key: Key) -> Option<R> {
        R::from_cells(self.given.rows.get(&Address::of::<R>(key))?)
    }

    /// Its effects.
    #[must_use]
    pub fn effects(&self) -> &[Effect] {
        self.effects.list()
    }

    /// Whether it was applied.
    #[must_use]
    pub fn is_applied(&self) -> bool {
        self.outcome == Outcome::Applied
    }

    /// Goes on from here.
    #[must_use]
    pub fn and(self) -> Given<E> {
        self.given
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::given;
    use crate::core::{
        effect::{Effects, Objection},
        kind::{Entity, EventType, Invalid, Nature},
        rows::Rows,
        state::Address,
        table::Value,
    };

    crate::table! {
        main Thing in "test"."thing" { key id: String; count: i64, }
    }
    crate::table! {
        sub Part in "test"."part" { key id: String, key name: String; size: i64, }
    }

    /// Names the part `known` and touches the part that the event says.
    struct Things;

    impl Entity for Things {
        const KIND: &'static str = "thing";
        const TOPIC: &'static str = "things";
        const KEY_FIELD: &'static str = "id";
        const EVENTS: &'static [EventType] = &[EventType { name: "thing.changed", nature: Nature::Request }];
        type Main = Thing;
        type Event = String;

        fn parse(_event_type: &str, data: &Json) -> Result<String, Invalid> {
            data["part"].as_str().map(str::to_owned).ok_or_else(|| Invalid::new("part", "must be a string"))
        }

        fn rows(entity_id: &str, _event: &String) -> Vec<Address> {
            vec![Address::of::<Part>(vec![Value::Text(entity_id.to_owned()), Value::Text("known".to_owned())])]
        }

        fn decide(&self, rows: &mut Rows<'_>, part: &String, _effects: &mut Effects) -> Result<(), Objection> {
            let count = rows.main::<Thing>().map_or(0, |thing| thing.count) + 1;
            rows.put(Thing { id: rows.entity_id().to_owned(), count });
            rows.put(Part { id: rows.entity_id().to_owned(), name: part.clone(), size: count });
            if count > 2 { Err(Objection::Refused("enough".to_owned())) } else { Ok(()) }
        }
    }

    fn change(part: &str) -> Json {
        json!({"id": "t", "part": part})
    }

    #[test]
    fn applied_events_build_on_each_other_and_a_refused_one_leaves_no_trace() {
        let twice = given(Things).event("thing.changed", change("known")).event("thing.changed", change("known"));
        let third = twice.when("thing.changed", change("known")).then_refused().then_effects(&[]);
        third.then_row(Thing { id: "t".to_owned(), count: 2 });
    }

    #[test]
    #[should_panic(expected = "writes a row of part that the kind's rows does not name")]
    fn a_row_that_the_kind_does_not_name_fails_the_test() {
        given(Things).when("thing.changed", change("other")).then_applied();
    }

    #[test]
    #[should_panic(expected = "thing knows no thing.vanished")]
    fn an_event_that_the_kind_does_not_know_fails_the_test() {
        given(Things).when("thing.vanished", change("known")).then_applied();
    }

    #[test]
    #[should_panic(expected = "the event should be applied")]
    fn a_claim_that_does_not_hold_fails_the_test() {
        given(Things).when("thing.changed", json!({"id": "t"})).then_applied();
    }
}
