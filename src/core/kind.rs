//! What a team brings: a kind of entity, as one type that implements [`Entity`].
//!
//! The catalog holds the kinds, the saga definitions and the topics of one worker, behind object-safe
//! faces, so that the lane need not know any of them.

use std::{any::Any, collections::BTreeMap, fmt, sync::Arc};

use super::{
    effect::{Effects, Objection},
    rows::{Row, Rows},
    saga::Definition,
    table::{Key, Table},
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

/// A row that an event touches beside its entity's main row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowKey {
    pub(super) table: &'static Table,
    pub(super) key: Key,
}

impl RowKey {
    /// The row of `R` with this key; the key begins with the entity's id.
    #[must_use]
    pub fn of<R: Row>(key: Key) -> Self {
        Self { table: R::table(), key }
    }
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
    /// Whether each event leaves a journal row.
    const JOURNALED: bool = true;
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
    fn rows(entity_id: &str, event: &Self::Event) -> Vec<RowKey> {
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
}

/// A decoded event, behind an object-safe face.
pub(super) type Parsed = Arc<dyn Any + Send + Sync>;

/// [`Entity`] without its types.
pub(super) trait AnyKind: Send + Sync {
    fn name(&self) -> &'static str;
    fn topic(&self) -> &'static str;
    fn key_field(&self) -> &'static str;
    fn events(&self) -> &'static [EventType];
    fn gap(&self) -> GapPolicy;
    fn journaled(&self) -> bool;
    fn main(&self) -> &'static Table;
    fn parse(&self, event_type: &str, data: &serde_json::Value) -> Result<Parsed, Invalid>;
    fn rows(&self, entity_id: &str, event: &Parsed) -> Vec<RowKey>;
    fn decide(&self, rows: &mut Rows<'_>, event: &Parsed, effects: &mut Effects) -> Result<(), Objection>;
    fn timer(&self, rows: &mut Rows<'_>, name: &str, effects: &mut Effects);
}

impl<E: Entity> AnyKind for E {
    fn name(&self) -> &'static str {
        E::KIND
    }
    fn topic(&self) -> &'static str {
        E::TOPIC
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
    fn journaled(&self) -> bool {
        E::JOURNALED
    }
    fn main(&self) -> &'static Table {
        E::Main::table()
    }
    fn parse(&self, event_type: &str, data: &serde_json::Value) -> Result<Parsed, Invalid> {
        Ok(Arc::new(E::parse(event_type, data)?))
    }
    fn rows(&self, entity_id: &str, event: &Parsed) -> Vec<RowKey> {
        E::rows(entity_id, own::<E>(event))
    }
    fn decide(&self, rows: &mut Rows<'_>, event: &Parsed, effects: &mut Effects) -> Result<(), Objection> {
        Entity::decide(self, rows, own::<E>(event), effects)
    }
    fn timer(&self, rows: &mut Rows<'_>, name: &str, effects: &mut Effects) {
        Entity::timer(self, rows, name, effects);
    }
}

fn own<E: Entity>(event: &Parsed) -> &E::Event {
    event.downcast_ref().expect("an event is parsed and decided by the same kind")
}

/// A topic that the worker sends to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Its name.
    pub topic: String,
    /// Whether its messages carry `ce_entityseq`, dense per sending entity.
    pub sequenced: bool,
}

/// All that one worker knows: kinds, sagas, topics and their partition counts.
#[derive(Default)]
pub struct Catalog {
    kinds: BTreeMap<&'static str, Arc<dyn AnyKind>>,
    pub(super) sagas: Vec<Arc<Definition>>,
    pub(super) destinations: BTreeMap<String, Destination>,
    pub(super) partitions: BTreeMap<String, i32>,
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalog").field("topics", &self.kinds.keys()).field("partitions", &self.partitions).finish()
    }
}

impl Catalog {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a kind and its home topic.
    #[must_use]
    pub fn kind<E: Entity>(mut self, kind: E) -> Self {
        self.kinds.insert(E::TOPIC, Arc::new(kind));
        self.destination(E::TOPIC, false)
    }

    /// Adds a saga definition.
    #[must_use]
    pub fn saga(mut self, definition: Definition) -> Self {
        self.sagas.push(Arc::new(definition));
        self
    }

    /// Adds a topic that is only written to.
    #[must_use]
    pub fn destination(mut self, topic: &str, sequenced: bool) -> Self {
        self.destinations.insert(topic.to_owned(), Destination { topic: topic.to_owned(), sequenced });
        self
    }

    /// Sets the partition count in force of every topic.
    #[must_use]
    pub fn with_partitions(mut self, partitions: BTreeMap<String, i32>) -> Self {
        self.partitions = partitions;
        self
    }

    /// The home topics, in the order of their names.
    pub fn home_topics(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.kinds.keys().copied()
    }

    /// Every topic that is sent to, the dead-letter topics among them.
    pub fn sent_topics(&self) -> impl Iterator<Item = String> + '_ {
        self.destinations.keys().cloned().chain(self.kinds.keys().map(|topic| format!("dlq.{topic}")))
    }

    /// The saga definitions.
    pub fn definitions(&self) -> impl Iterator<Item = &Definition> {
        self.sagas.iter().map(AsRef::as_ref)
    }

    pub(super) fn at(&self, topic: &str) -> Option<&Arc<dyn AnyKind>> {
        self.kinds.get(topic)
    }

    /// The table that holds the main rows of a kind.
    #[must_use]
    pub fn main_table(&self, kind: &str) -> Option<&'static Table> {
        self.kinds.values().find(|known| known.name() == kind).map(|known| known.main())
    }

    /// The home topic of a kind.
    #[must_use]
    pub fn home_of(&self, kind: &str) -> Option<&'static str> {
        self.kinds.values().find(|known| known.name() == kind).map(|known| known.topic())
    }
}
