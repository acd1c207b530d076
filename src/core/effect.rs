//! What a handler can cause beyond its rows: a closed list, handed back as data.
//!
//! Nothing here acts. The lane turns effects into rows of the same transaction; the relay acts after it.

use std::time::Duration;

use serde_json::Value as Json;

/// One thing that a handler wants to happen.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// A message to a topic, keyed by `key`.
    Send {
        /// Destination topic, declared in the catalog.
        topic: &'static str,
        /// Record key: the id of the entity it is for.
        key: String,
        /// `ce_type`.
        message_type: &'static str,
        /// The data, an object.
        data: Json,
    },
    /// The answer to a saga that asked for something, now or earlier.
    Reply {
        /// The reference that came with the command; see [`Effects::asker`].
        asker: String,
        /// `ce_type`.
        message_type: &'static str,
        /// The data, an object; the saga reference and the key are added to it.
        data: Json,
    },
    /// The entity wants its `timer` called, not before `after` has passed.
    Wake {
        /// Unique for the entity among all timers it ever sets (count attempts in it).
        name: String,
        /// How long from now.
        after: Duration,
    },
    /// Begins the saga that lives with this entity.
    BeginSaga {
        /// Name of its definition.
        definition: &'static str,
    },
    /// Undoes the saga if its pivot is not passed.
    CancelSaga {
        /// Name of its definition.
        definition: &'static str,
        /// Why, as the ending is told.
        reason: String,
    },
    /// Writes a debt into the ledger of what is still to be undone.
    Owe {
        /// What is owed, once per entity.
        what: &'static str,
        /// How much, in the currency's minor unit.
        amount_minor: i64,
        /// ISO 4217.
        currency: String,
    },
    /// Strikes the debt from the ledger.
    Settle {
        /// What was owed.
        what: &'static str,
    },
    /// Marks the debt as one that only a person can settle, and raises the alarm.
    NeedsOperator {
        /// What is owed.
        what: &'static str,
    },
}

/// Collects the effects of one event.
#[derive(Debug, Default)]
pub struct Effects {
    pub(crate) list: Vec<Effect>,
    pub(crate) correlation: Option<String>,
    asker: Option<String>,
}

impl Effects {
    /// For an event that came with this saga reference.
    #[must_use]
    pub fn asked_by(asker: Option<String>) -> Self {
        Self { asker, ..Self::default() }
    }
    /// The reference of the saga whose command is being handled: a text to be kept with the entity if the
    /// answer comes later than in this event.
    #[must_use]
    pub fn asker(&self) -> Option<&str> {
        self.asker.as_deref()
    }
    /// What has been collected.
    #[must_use]
    pub fn list(&self) -> &[Effect] {
        &self.list
    }
    /// Sends a message. See [`Effect::Send`].
    pub fn send(&mut self, topic: &'static str, key: &str, message_type: &'static str, data: Json) {
        self.list.push(Effect::Send { topic, key: key.to_owned(), message_type, data });
    }
    /// Answers the saga whose command is being handled. Without one nothing is sent.
    pub fn reply(&mut self, message_type: &'static str, data: Json) {
        if let Some(asker) = self.asker.clone() {
            self.answer(&asker, message_type, data);
        }
    }
    /// Answers a saga that asked earlier.
    pub fn answer(&mut self, asker: &str, message_type: &'static str, data: Json) {
        self.list.push(Effect::Reply { asker: asker.to_owned(), message_type, data });
    }
    /// Sets a timer. See [`Effect::Wake`].
    pub fn wake(&mut self, name: String, after: Duration) {
        self.list.push(Effect::Wake { name, after });
    }
    /// Adds any other effect.
    pub fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }
    /// Sets the correlation of what is sent, where the event itself does not know it.
    pub fn correlate(&mut self, id: &str) {
        self.correlation = Some(id.to_owned());
    }
}

/// Why a handler does not apply an event. Its rows are dropped, in every case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Objection {
    /// The domain says no to a request: an answer, not an error. What it sent is kept.
    Refused(String),
    /// A fact contradicts what is known: the entity goes into quarantine. Facts cannot be refused.
    Contradiction(String),
    /// What it is about does not exist yet: the event waits, with a deadline.
    NotYet,
}
