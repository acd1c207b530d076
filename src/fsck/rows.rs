//! The runtime's tables as far as a comparison needs them: without bytes, so that a page of rows stays small.
//!
//! A session reads a table by one declaration only; those that must compare bytes read on a session of their own.

use crate::core::{
    rows::{Cell, Json, Micros},
    state::Address,
    table::{Bytes, Column, Row, Table, Value},
};

crate::core::ledger::tables! {
    /// What became of events.
    JOURNAL Journal = "journal" (kind: String, entity_id: String, source: String, number: i64, batch: i64, idx: i64) {
        version: Option<i64>,
        outcome: String,
        event_id: String,
        event_type: String,
        topic: String,
        partition: i64,
        record_offset: i64,
        digest: Option<Bytes>,
    }
    /// Dead letters.
    LETTER Letter = "dead_letter" (topic: String, partition: i64, record_offset: i64) {
        status: String,
        reason: String,
        count: i64,
        failed_at: Micros,
    }
    /// The reorder buffer.
    HELD Held = "held" (topic: String, partition: i64, link: String, kind: String, entity_id: String, source: String, sequence: i64) {
        place: i64,
        record_offset: Option<i64>,
        digest: Option<Bytes>,
    }
    /// The unwell.
    QUARANTINE Quarantine = "quarantine" (topic: String, partition: i64, kind: String, entity_id: String) {
        status: String,
        first: i64,
        next: i64,
    }
    /// What they have not taken yet.
    PARKED Parked = "parked" (topic: String, partition: i64, kind: String, entity_id: String, place: i64) {
        what: String,
        name: Option<String>,
        record_offset: Option<i64>,
    }
    /// Records before their saga or entity.
    WAITING Waiting = "waiting" (topic: String, partition: i64, kind: String, entity_id: String, record_offset: i64) {
        source: String,
        sequence: Option<i64>,
    }
    /// What is to happen.
    TIMER Timer = "timer" (topic: String, partition: i64, due: Micros, purpose: String, kind: String, entity_id: String, name: String) {
        time: Micros,
    }
    /// Messages.
    OUTBOX Outbox = "outbox" (topic: String, partition: i64, batch: i64, idx: i64) {
        to_topic: String,
        to_partition: i64,
        link_sequence: Option<i64>,
    }
    /// Ids of unsequenced events.
    SEEN Seen = "seen" (kind: String, entity_id: String, source: String, event_id: String) {
        digest: Bytes,
    }
    /// Numbers that went past their entity without a journal row.
    PASSED Passed = "passed" (kind: String, entity_id: String, source: String, sequence: i64) {
        digest: Option<Bytes>,
    }
    /// Marks of entities without a row.
    STRAY Stray = "stray" (kind: String, entity_id: String) {
        marks: String,
    }
    /// How far links are taken.
    LINK_IN LinkIn = "link_in" (topic: String, partition: i64, from_topic: String, from_partition: i64) {
        mark: i64,
    }
    /// How far links are sent.
    LINK_OUT LinkOut = "link_out" (topic: String, partition: i64, to_topic: String, to_partition: i64) {
        sent: i64,
    }
    /// Sagas.
    SAGA Saga = "saga" (definition: String, saga_id: String) {
        status: String,
        step: String,
        state: Json,
        topic: String,
        partition: i64,
    }
    /// Debts.
    DEBT Debt = "debt" (kind: String, entity_id: String, what: String) {
        amount_minor: i64,
        currency: String,
        status: String,
        since: Micros,
    }
}

#[cfg(test)]
mod tests {
    use super::TABLES;
    use crate::core::ledger;

    #[test]
    fn what_is_compared_is_declared_by_the_runtime_too() {
        for table in TABLES {
            let declared =
                ledger::TABLES.iter().find(|declared| declared.name == table.name).expect("a runtime's table");
            assert_eq!(table.columns[..table.key], declared.columns[..declared.key], "{}", table.name);
            for column in table.columns {
                assert!(declared.columns.contains(column), "{}.{}", table.name, column.name);
            }
        }
    }
}
