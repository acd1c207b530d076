//! The runtime's own tables, as data. The migrations hold the same columns; the contract suite compares.
//!
//! Every key begins with the lane or the entity that owns the row: no row is ever written by two lanes.

use super::{
    rows::{Cell, Json, Micros},
    state::Address,
    table::{Bytes, Column, Row, Table, Value},
};

macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident $row:ident = $table:literal
        ($($key:ident: $key_type:ty),+) { $($column:ident: $type:ty,)* })+) => {
        $($(#[$doc])*
        pub static $name: Table = Table {
            schema: "seriatim",
            name: $table,
            key: [$(stringify!($key)),+].len(),
            columns: &[
                $(Column { name: stringify!($key), kind: <$key_type as Cell>::TYPE },)+
                $(Column { name: stringify!($column), kind: <$type as Cell>::TYPE },)*
            ],
            version: None,
        };

        /// A row of this table; the fields are its columns.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the table says it")]
        pub struct $row {
            $(pub $key: $key_type,)+
            $(pub $column: $type,)*
        }

        impl $row {
            /// Reads a row; `None` if the cells are not of this table.
            #[must_use]
            pub fn read(cells: &[Value]) -> Option<Self> {
                let mut cells = cells.iter();
                Some(Self {
                    $($key: Cell::from_value(cells.next()?)?,)+
                    $($column: Cell::from_value(cells.next()?)?,)*
                })
            }

            /// The cells of the row.
            #[must_use]
            pub fn into_row(self) -> Row {
                vec![$(self.$key.into_value(),)+ $(self.$column.into_value(),)*]
            }

            /// Where the row stands.
            #[must_use]
            pub fn address(&self) -> Address {
                Address::new(&$name, vec![$(self.$key.clone().into_value()),+])
            }
        })+

        /// All of them.
        pub static TABLES: &[&Table] = &[$(&$name),+];
    };
}

pub(crate) use tables;

tables! {
    /// How far a lane has taken the messages of another lane: the number, digest and timeline of the last one, and the
    /// beginnings of the last digests. They are null after a message that carried none.
    LINK_IN LinkIn = "link_in" (topic: String, partition: i64, from_topic: String, from_partition: i64) {
        mark: i64,
        digest: Option<Bytes>,
        timeline: Option<i64>,
        recent: Option<Bytes>,
    }
    /// How many messages a lane has sent to a partition, and their running digest.
    LINK_OUT LinkOut = "link_out" (topic: String, partition: i64, to_topic: String, to_partition: i64) {
        sent: i64,
        digest: Option<Bytes>,
    }
    /// The reorder buffer. `link` is empty, or `<topic>/<partition>` of the sending lane where the number is
    /// a link's. A row with `place` 1 holds no record: it keeps the place of a dead letter. `digest` is the event's, or
    /// the link's.
    HELD Held = "held" (topic: String, partition: i64, link: String, kind: String, entity_id: String, source: String, sequence: i64) {
        place: i64,
        record_offset: Option<i64>,
        timestamp_ms: Option<i64>,
        key: Option<Bytes>,
        value: Option<Bytes>,
        headers: Option<String>,
        digest: Option<Bytes>,
        held_at: Micros,
    }
    /// The entities that are unwell. `status` is `quarantined` or `draining`; `cause` is `failure`, `gap` or
    /// `contradiction`; parked rows stand at `first` up to before `next`.
    QUARANTINE Quarantine = "quarantine" (topic: String, partition: i64, kind: String, entity_id: String) {
        status: String,
        cause: String,
        error: String,
        attempts: i64,
        first: i64,
        next: i64,
        since: Micros,
    }
    /// What a quarantined entity has not taken yet, in order. `what` is `record` or `timer`; a timer has `name` and no
    /// record. A record with the name `outside` has had its number or id taken before: it waited, or was replayed.
    PARKED Parked = "parked" (topic: String, partition: i64, kind: String, entity_id: String, place: i64) {
        what: String,
        name: Option<String>,
        time: Option<Micros>,
        source: Option<String>,
        sequence: Option<i64>,
        record_offset: Option<i64>,
        timestamp_ms: Option<i64>,
        key: Option<Bytes>,
        value: Option<Bytes>,
        headers: Option<String>,
        parked_at: Micros,
    }
    /// Records whose saga or entity does not exist yet.
    WAITING Waiting = "waiting" (topic: String, partition: i64, kind: String, entity_id: String, record_offset: i64) {
        source: String,
        sequence: Option<i64>,
        timestamp_ms: i64,
        key: Option<Bytes>,
        value: Option<Bytes>,
        headers: String,
        waiting_since: Micros,
    }
    /// What is to happen at `due`. `purpose` is `entity`, `saga`, `gap`, `waiting` or `letter`; `time` is the nominal
    /// time, counted from the cause's, so that a replay says the same.
    TIMER Timer = "timer" (topic: String, partition: i64, due: Micros, purpose: String, kind: String, entity_id: String, name: String) {
        time: Micros,
    }
    /// Messages, in the order in which they are sent. `link_sequence` is null for dead letters.
    /// `headers` is a JSON array of `[name, value]`.
    OUTBOX Outbox = "outbox" (topic: String, partition: i64, batch: i64, idx: i64) {
        to_topic: String,
        to_partition: i64,
        link_sequence: Option<i64>,
        timestamp_ms: Option<i64>,
        key: Option<Bytes>,
        value: Option<Bytes>,
        headers: String,
    }
    /// One row an applied, refused or skipped event. `number` is the sequence, or the record's offset where there is none.
    JOURNAL Journal = "journal" (kind: String, entity_id: String, source: String, number: i64, batch: i64, idx: i64) {
        version: Option<i64>,
        outcome: String,
        event_id: String,
        event_type: String,
        sequence: Option<i64>,
        topic: String,
        partition: i64,
        record_offset: i64,
        epoch: i64,
        digest: Option<Bytes>,
        note: Option<String>,
        at: Micros,
    }
    /// Ids of unsequenced events.
    SEEN Seen = "seen" (kind: String, entity_id: String, source: String, event_id: String) {
        digest: Bytes,
        at: Micros,
    }
    /// Numbers that went past their entity without a journal row: dead letters and what waits.
    PASSED Passed = "passed" (kind: String, entity_id: String, source: String, sequence: i64) {
        digest: Option<Bytes>,
        at: Micros,
    }
    /// Marks of entities that have no row of their own yet.
    STRAY Stray = "stray" (kind: String, entity_id: String) {
        marks: String,
    }
    /// Dead letters, with their bytes. `status` is `replayable`, `replayed` or `discarded`.
    DEAD_LETTER DeadLetter = "dead_letter" (topic: String, partition: i64, record_offset: i64) {
        status: String,
        reason: String,
        error: String,
        kind: Option<String>,
        entity_id: Option<String>,
        source: Option<String>,
        sequence: Option<i64>,
        timestamp_ms: i64,
        key: Option<Bytes>,
        value: Option<Bytes>,
        headers: String,
        attempts: i64,
        count: i64,
        first_failed_at: Micros,
        failed_at: Micros,
    }
    /// Sagas. `state` is the whole instance as JSON; the other columns and `saga_step` are told from it.
    SAGA Saga = "saga" (definition: String, saga_id: String) {
        definition_version: i64,
        status: String,
        step: String,
        reason: Option<String>,
        state: Json,
        topic: String,
        partition: i64,
        begun_at: Micros,
        updated_at: Micros,
    }
    /// One row a step and branch.
    SAGA_STEP SagaStep = "saga_step" (definition: String, saga_id: String, step: String, branch: String) {
        status: String,
        attempts: i64,
        undo_attempts: i64,
        sent_at: Option<Micros>,
        answered_at: Option<Micros>,
    }
    /// What is still to be undone outside of a saga. `status` is `owed` or `needs_operator`.
    DEBT Debt = "debt" (kind: String, entity_id: String, what: String) {
        amount_minor: i64,
        currency: String,
        status: String,
        since: Micros,
    }
    /// Operators' orders, picked up by the lane's owner. `argument` is a JSON object.
    COMMAND Command = "command" (topic: String, partition: i64, id: String) {
        action: String,
        kind: Option<String>,
        entity_id: Option<String>,
        argument: String,
        actor: String,
        reason: Option<String>,
        ordered_at: Micros,
    }
    /// What became of them.
    COMMAND_LOG CommandLog = "command_log" (topic: String, partition: i64, id: String) {
        action: String,
        kind: Option<String>,
        entity_id: Option<String>,
        argument: String,
        actor: String,
        reason: Option<String>,
        ordered_at: Micros,
        done_at: Micros,
        done: i64,
        result: String,
    }
}

/// The tables that are only added to and kept for a time, each with the column that says since when. No lane counts on
/// a row of theirs being there still, so [`crate::store::Session::forget`] takes them without asking the lanes.
pub static KEPT_FOR_A_TIME: [(&Table, &str); 4] =
    [(&SEEN, "at"), (&PASSED, "at"), (&JOURNAL, "at"), (&COMMAND_LOG, "done_at")];

/// The column that says since when a row of a table is kept; `None` unless that is only for a time.
#[must_use]
pub fn kept_since(table: &Table) -> Option<&'static str> {
    KEPT_FOR_A_TIME.iter().find(|(kept, _)| std::ptr::eq(*kept, table)).map(|(_, since)| *since)
}
