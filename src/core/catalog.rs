//! All that one worker knows: its kinds, its sagas, the topics and their partition counts.
//!
//! Kinds and handlers name topics as the team does; a prefix, if one is configured, stands before
//! every name that Kafka sees. Inside the lane a topic is always the whole name.

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::{
    kind::{AnyKind, Entity},
    saga::Definition,
    table::Table,
};

/// The kinds, sagas and topics of one worker.
#[derive(Clone, Default)]
pub struct Catalog {
    prefix: String,
    kinds: BTreeMap<String, Arc<dyn AnyKind>>,
    sagas: Vec<Arc<Definition>>,
    /// Topics that are sent to, with whether their messages carry `ce_entityseq`.
    destinations: BTreeMap<String, bool>,
    partitions: BTreeMap<String, i32>,
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalog").field("topics", &self.kinds.keys()).field("partitions", &self.partitions).finish()
    }
}

impl Catalog {
    /// An empty one, whose topics all begin with `prefix`; usually empty.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), ..Self::default() }
    }

    /// Adds a kind and its home topic.
    #[must_use]
    pub fn kind<E: Entity>(mut self, kind: E) -> Self {
        self.kinds.insert(self.topic(E::TOPIC), Arc::new(kind));
        self.destination(E::TOPIC, false)
    }

    /// Adds a saga definition.
    #[must_use]
    pub fn saga(mut self, definition: Definition) -> Self {
        self.sagas.push(Arc::new(definition));
        self
    }

    /// Adds a topic that is sent to. Sequenced: its messages carry `ce_entityseq`, dense per sending entity.
    #[must_use]
    pub fn destination(mut self, topic: &str, sequenced: bool) -> Self {
        self.destinations.insert(self.topic(topic), sequenced);
        self
    }

    /// Sets the partition count in force of every topic, by whole name.
    #[must_use]
    pub fn with_partitions(mut self, partitions: BTreeMap<String, i32>) -> Self {
        self.partitions = partitions;
        self
    }

    /// The whole name of a topic that a kind or saga names.
    #[must_use]
    pub fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The whole name of the dead-letter topic of a home topic.
    #[must_use]
    pub fn dead_letter_topic(topic: &str) -> String {
        format!("dlq.{topic}")
    }

    /// Whole names of the home topics, in their order.
    pub fn home_topics(&self) -> impl Iterator<Item = &str> {
        self.kinds.keys().map(String::as_str)
    }

    /// Whole names of all topics: home topics, destinations, dead-letter topics.
    pub fn all_topics(&self) -> impl Iterator<Item = String> {
        self.destinations.keys().cloned().chain(self.kinds.keys().map(|topic| Self::dead_letter_topic(topic)))
    }

    /// The saga definitions.
    pub fn definitions(&self) -> impl Iterator<Item = &Definition> {
        self.sagas.iter().map(AsRef::as_ref)
    }

    /// The newest definition of this name, or the one of this version.
    #[must_use]
    pub fn definition(&self, name: &str, version: Option<i64>) -> Option<&Arc<Definition>> {
        let known = self.sagas.iter().filter(|saga| saga.name == name);
        known.filter(|saga| version.is_none_or(|version| saga.version == version)).max_by_key(|saga| saga.version)
    }

    /// The saga that lives with the entities of a home topic, by whole name; any version of it.
    #[must_use]
    pub fn saga_at(&self, topic: &str) -> Option<&Definition> {
        self.definitions().find(|saga| self.topic(saga.topic) == topic)
    }

    /// Names of the kinds with their main tables, in the order of their topics.
    pub fn kinds(&self) -> impl Iterator<Item = (&'static str, &'static Table)> {
        self.kinds.values().map(|kind| (kind.name(), kind.main()))
    }

    /// Whole name of the home topic of a kind.
    #[must_use]
    pub fn home_of(&self, kind: &str) -> Option<&str> {
        self.kinds.iter().find(|(_, known)| known.name() == kind).map(|(topic, _)| topic.as_str())
    }

    /// The partition count in force of a topic, by whole name.
    #[must_use]
    pub fn partitions_of(&self, topic: &str) -> Option<i32> {
        self.partitions.get(topic).copied()
    }

    pub(crate) fn at(&self, topic: &str) -> Option<&Arc<dyn AnyKind>> {
        self.kinds.get(topic)
    }

    /// Whether the topic's messages carry `ce_entityseq`; `None` if it is not sent to.
    pub(crate) fn is_sequenced(&self, topic: &str) -> Option<bool> {
        self.destinations.get(topic).copied()
    }
}
