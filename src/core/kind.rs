//! What a team brings: a kind of entity, as one type that implements [`Entity`].
//!
//! The lane sees it through an object-safe face, so that it need not know any of the types behind.

use std::{any::Any, sync::Arc};

use super::{
    effect::{Effects, Objection},
    rows::{Row, Rows},
    state::Address,
    table::Table,
};

/// Whether an event may be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// From outside: it tells what has happened.
    Fact,
    /// From outside: it can be refused.
    Request,
    /// From a saga of ours, to a participant; only from a worker's own source.
    Command,
}

/// One `ce_type` that a home topic knows.
#[derive(Debug)]
pub struct EventType {
    /// The `ce_type`.
    pub name: &'static str,
    /// Whether it may be refused, and who may send it.
    pub nature: Nature,
}

/// What to do when a gap has outlived its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapPolicy {
    /// The entity is quarantined; a person decides.
    Quarantine,
    /// The missing range is given up; what arrives late in it is dead-lettered.
    Skip,
    /// What waits behind the gap is dead-lettered; the missing one may still come.
    DeadLetter,
}

/// Data that breaks the kind's table of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The field at fault, dotted.
    pub field: String,
    /// What is wrong with it; never the value itself.
    pub problem: String,
}

impl Invalid {
    /// The field is at fault because of `problem`.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// What to do with an event whose handler fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailurePolicy {
    /// The entity is quarantined, the event and its successors parked.
    Quarantine,
    /// The event is dead-lettered as `poison`, the entity goes on.
    DeadLetter,
}

/// A kind of entity: its mailbox, its events, its rows, its decisions.
///
/// `decide` and `timer` read no clock and no random source: the same rows and event give the same result.
pub trait Entity: Send + Sync + 'static {
    /// The kind's name, as in `seriatim.entity`.
    const KIND: &'static str;
    /// Its home topic.
    const TOPIC: &'static str;
    /// The JSON field of the data that must equal the record key.
    const KEY_FIELD: &'static str;
    /// Its events.
    const EVENTS: &'static [EventType];
    /// What a gap past its deadline does.
    const GAP: GapPolicy = GapPolicy::Quarantine;
    /// What a failing handler does.
    const ON_FAILURE: FailurePolicy = FailurePolicy::Quarantine;
    /// Whether each event leaves a journal row.
    const JOURNALED: bool = true;
    /// Whether a source's first number may be any; otherwise it is 1.
    const ADOPTS_FIRST_SEQUENCE: bool = false;
    /// Its main row.
    type Main: Row;
    /// A decoded event.
    type Event: Send + Sync + 'static;

    /// Decodes the data of an event whose type is one of `EVENTS`. `data` is a JSON object without NUL.
    ///
    /// # Errors
    /// The first field that breaks the kind's rules.
    fn parse(event_type: &str, data: &serde_json::Value) -> Result<Self::Event, Invalid>;

    /// The rows that the event touches beside the main row.
    fn rows(entity_id: &str, event: &Self::Event) -> Vec<Address> {
        let _ = (entity_id, event);
        Vec::new()
    }

    /// Decides on one event.
    ///
    /// # Errors
    /// An [`Objection`]; the rows are then as before.
    fn decide(&self, rows: &mut Rows<'_>, event: &Self::Event, effects: &mut Effects) -> Result<(), Objection>;

    /// A timer of this entity is due. Timers are never taken back: look at the rows whether it still matters.
    fn timer(&self, rows: &mut Rows<'_>, name: &str, effects: &mut Effects) {
        let _ = (rows, name, effects);
    }

    /// An operator lets this entity try again what it is out of attempts for. Of its rows only the main one is at hand.
    ///
    /// # Errors
    /// [`Objection::Refused`] if there is nothing to try; the operator reads why.
    fn retry(&self, rows: &mut Rows<'_>, effects: &mut Effects) -> Result<(), Objection> {
        let _ = (rows, effects);
        Err(Objection::Refused(format!("a {} tries nothing by itself", Self::KIND)))
    }
}

/// A decoded event, behind an object-safe face.
pub(crate) type Parsed = Arc<dyn Any + Send + Sync>;

/// [`Entity`] without its types.
pub(crate) trait AnyKind: Send + Sync {
    fn name(&self) -> &'static str;
    fn key_field(&self) -> &'static str;
    fn events(&self) -> &'static [EventType];
    fn gap(&self) -> GapPolicy;
    fn on_failure(&self) -> FailurePolicy;
    fn journaled(&self) -> bool;
    fn adopts_first_sequence(&self) -> bool;
    fn main(&self) -> &'static Table;
    fn parse(&self, event_type: &str, data: &serde_json::Value) -> Result<Parsed, Invalid>;
    fn rows(&self, entity_id: &str, event: &Parsed) -> Vec<Address>;
    fn decide(&self, rows: &mut Rows<'_>, event: &Parsed, effects: &mut Effects) -> Result<(), Objection>;
    fn timer(&self, rows: &mut Rows<'_>, name: &str, effects: &mut Effects);
    fn retry(&self, rows: &mut Rows<'_>, effects: &mut Effects) -> Result<(), Objection>;
}

impl<E: Entity> AnyKind for E {
    fn name(&self) -> &'static str {
        E::KIND
    }
    fn key_field(&self) -> &'static str {
        E::KEY_FIELD
    }
    fn events(&self) -> &'static [EventType] {
        E::EVENTS
    }
    fn gap(&self) -> GapPolicy {
        E::GAP
    }
    fn on_failure(&self) -> FailurePolicy {
        E::ON_FAILURE
    }
    fn journaled(&self) -> bool {
        E::JOURNALED
    }
    fn adopts_first_sequence(&self) -> bool {
        E::ADOPTS_FIRST_SEQUENCE
    }
    fn main(&self) -> &'static Table {
        E::Main::table()
    }
    fn parse(&self, event_type: &str, data: &serde_json::Value) -> Result<Parsed, Invalid> {
        Ok(Arc::new(E::parse(event_type, data)?))
    }
    fn rows(&self, entity_id: &str, event: &Parsed) -> Vec<Address> {
        E::rows(entity_id, own::<E>(event))
    }
    fn decide(&self, rows: &mut Rows<'_>, event: &Parsed, effects: &mut Effects) -> Result<(), Objection> {
        Entity::decide(self, rows, own::<E>(event), effects)
    }
    fn timer(&self, rows: &mut Rows<'_>, name: &str, effects: &mut Effects) {
        Entity::timer(self, rows, name, effects);
    }
    fn retry(&self, rows: &mut Rows<'_>, effects: &mut Effects) -> Result<(), Objection> {
        Entity::retry(self, rows, effects)
    }
}

fn own<E: Entity>(event: &Parsed) -> &E::Event {
    event.downcast_ref().expect("an event is parsed and decided by the same kind")
}
