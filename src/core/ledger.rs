//! The runtime's own tables, as data. The migrations hold the same columns; the contract suite compares.
//!
//! Every key begins with the lane or the entity that owns the row: no row is ever written by two lanes.

use super::table::{Column, Table, Type};

macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident = $table:literal key($($key:literal $key_type:ident),+) ($($column:literal $type:ident),*);)+) => {
        $($(#[$doc])*
        pub static $name: Table = Table {
            schema: "seriatim",
            name: $table,
            key: [$($key),+].len(),
            columns: &[
                $(Column { name: $key, kind: Type::$key_type },)+
                $(Column { name: $column, kind: Type::$type },)*
            ],
            version: None,
        };)+

        /// All of them.
        pub static TABLES: &[&Table] = &[$(&$name),+];
    };
}

tables! {
    /// How far a lane has taken the messages of another lane. `digest` is null until links are digested.
    LINK_IN = "link_in" key("topic" Text, "partition" Int, "from_topic" Text, "from_partition" Int)
        ("mark" Int, "digest" Bytes);
    /// How many messages a lane has sent to a partition.
    LINK_OUT = "link_out" key("topic" Text, "partition" Int, "to_topic" Text, "to_partition" Int)
        ("sent" Int, "digest" Bytes);
    /// The reorder buffer. `link` is empty, or `<topic>/<partition>` of the sending lane where the number is
    /// a link's. A row with `place` 1 holds no record: it keeps the place of a dead letter. `digest` is null for links.
    HELD = "held" key("topic" Text, "partition" Int, "link" Text, "kind" Text, "entity_id" Text, "source" Text, "sequence" Int)
        ("place" Int, "record_offset" Int, "timestamp_ms" Int, "key" Bytes, "value" Bytes, "headers" Text, "digest" Bytes, "held_at" Time);
    /// The entities that are unwell. `status` is `quarantined` or `draining`; `cause` is `failure`, `gap` or
    /// `contradiction`; parked rows stand at `first` up to before `next`.
    QUARANTINE = "quarantine" key("topic" Text, "partition" Int, "kind" Text, "entity_id" Text)
        ("status" Text, "cause" Text, "error" Text, "attempts" Int, "first" Int, "next" Int, "since" Time);
    /// What a quarantined entity has not taken yet, in order. `what` is `record` or `timer`; a timer has `name` and no record.
    PARKED = "parked" key("topic" Text, "partition" Int, "kind" Text, "entity_id" Text, "place" Int)
        ("what" Text, "name" Text, "time" Time, "source" Text, "sequence" Int, "record_offset" Int, "timestamp_ms" Int,
         "key" Bytes, "value" Bytes, "headers" Text, "parked_at" Time);
    /// Records whose saga or entity does not exist yet.
    WAITING = "waiting" key("topic" Text, "partition" Int, "kind" Text, "entity_id" Text, "record_offset" Int)
        ("source" Text, "sequence" Int, "timestamp_ms" Int, "key" Bytes, "value" Bytes, "headers" Text, "waiting_since" Time);
    /// What is to happen at `due`. `purpose` is `entity`, `saga`, `gap` or `waiting`; `time` is the nominal time,
    /// counted from the cause's, so that a replay says the same.
    TIMER = "timer" key("topic" Text, "partition" Int, "due" Time, "purpose" Text, "kind" Text, "entity_id" Text, "name" Text)
        ("time" Time);
    /// Messages, in the order in which they are sent. `link_sequence` is null for dead letters.
    /// `headers` is a JSON array of `[name, value]`.
    OUTBOX = "outbox" key("topic" Text, "partition" Int, "batch" Int, "idx" Int)
        ("to_topic" Text, "to_partition" Int, "link_sequence" Int, "timestamp_ms" Int, "key" Bytes, "value" Bytes, "headers" Text);
    /// One row an applied, refused or skipped event. `number` is the sequence, or the record's offset where there is none.
    JOURNAL = "journal" key("kind" Text, "entity_id" Text, "source" Text, "number" Int, "batch" Int, "idx" Int)
        ("version" Int, "outcome" Text, "event_id" Text, "event_type" Text, "sequence" Int, "topic" Text, "partition" Int,
         "record_offset" Int, "epoch" Int, "digest" Bytes, "note" Text, "at" Time);
    /// Ids of unsequenced events. `range` counts steps of arrival time: the oldest is dropped whole.
    SEEN = "seen" key("range" Int, "kind" Text, "entity_id" Text, "source" Text, "event_id" Text)
        ("digest" Bytes, "at" Time);
    /// Numbers that went past their entity without a journal row: dead letters and what waits.
    PASSED = "passed" key("kind" Text, "entity_id" Text, "source" Text, "sequence" Int)
        ("digest" Bytes, "at" Time);
    /// Marks of entities that have no row of their own yet.
    STRAY = "stray" key("kind" Text, "entity_id" Text)
        ("marks" Text);
    /// Dead letters, with their bytes. `status` is `replayable`, `replayed` or `discarded`.
    DEAD_LETTER = "dead_letter" key("topic" Text, "partition" Int, "record_offset" Int)
        ("status" Text, "reason" Text, "error" Text, "kind" Text, "entity_id" Text, "source" Text, "sequence" Int,
         "timestamp_ms" Int, "key" Bytes, "value" Bytes, "headers" Text, "attempts" Int, "count" Int,
         "first_failed_at" Time, "failed_at" Time);
    /// Sagas. `state` is the whole instance as JSON; the other columns and `saga_step` are told from it.
    SAGA = "saga" key("definition" Text, "saga_id" Text)
        ("definition_version" Int, "status" Text, "step" Text, "reason" Text, "state" Json, "topic" Text, "partition" Int,
         "begun_at" Time, "updated_at" Time);
    /// One row a step and branch.
    SAGA_STEP = "saga_step" key("definition" Text, "saga_id" Text, "step" Text, "branch" Text)
        ("status" Text, "attempts" Int, "undo_attempts" Int, "sent_at" Time, "answered_at" Time);
    /// What is still to be undone outside of a saga. `status` is `owed` or `needs_operator`.
    DEBT = "debt" key("kind" Text, "entity_id" Text, "what" Text)
        ("amount_minor" Int, "currency" Text, "status" Text, "since" Time);
    /// Operators' orders, picked up by the lane's owner. `argument` is a JSON object.
    COMMAND = "command" key("topic" Text, "partition" Int, "id" Text)
        ("action" Text, "kind" Text, "entity_id" Text, "argument" Text, "actor" Text, "reason" Text, "ordered_at" Time);
    /// What became of them.
    COMMAND_LOG = "command_log" key("topic" Text, "partition" Int, "id" Text)
        ("action" Text, "kind" Text, "entity_id" Text, "argument" Text, "actor" Text, "reason" Text, "ordered_at" Time,
         "done_at" Time, "done" Int, "result" Text);
}
