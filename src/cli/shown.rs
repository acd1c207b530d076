//! What the commands show of the runtime's tables: declarations with the columns that a person or program asks for.
//!
//! Narrower than the runtime's own on purpose: a list of a hundred parked records must not carry their bytes over the
//! wire. A session reads a table by one declaration only, since stores keep one text a table and verb.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value as Json, json};
use seriatim::core::table::{Column, Row, Table, Type, Value};

macro_rules! shown {
    ($($(#[$doc:meta])* $name:ident = $table:literal ($($key:ident $key_type:ident),+) $($column:ident $type:ident),*;)+) => {
        $($(#[$doc])*
        pub static $name: Table = Table {
            schema: "seriatim",
            name: $table,
            key: [$(stringify!($key)),+].len(),
            columns: &[
                $(Column { name: stringify!($key), kind: Type::$key_type },)+
                $(Column { name: stringify!($column), kind: Type::$type },)*
            ],
            version: None,
        };)+

        #[cfg(test)]
        static SHOWN: &[&Table] = &[$(&$name),+];
    };
}

shown! {
    /// How far each lane is.
    LANE = "lane" (topic Text, partition Int) next_offset Int, batch Int, epoch Int, incarnation Int, relayed_batch Int,
        relayed_index Int, owner Text;
    /// The partition counts in force.
    TOPIC = "topic" (name Text) partitions Int;
    /// The reorder buffer.
    HELD = "held" (topic Text, partition Int, link Text, kind Text, entity_id Text, source Text, sequence Int)
        place Int, record_offset Int, held_at Time;
    /// The unwell.
    QUARANTINE = "quarantine" (topic Text, partition Int, kind Text, entity_id Text)
        status Text, cause Text, error Text, attempts Int, first Int, next Int, since Time;
    /// What they have not taken yet.
    PARKED = "parked" (topic Text, partition Int, kind Text, entity_id Text, place Int)
        what Text, name Text, source Text, sequence Int, record_offset Int, parked_at Time;
    /// Records before their saga or entity.
    WAITING = "waiting" (topic Text, partition Int, kind Text, entity_id Text, record_offset Int)
        source Text, sequence Int, waiting_since Time;
    /// What was done to an entity.
    JOURNAL = "journal" (kind Text, entity_id Text, source Text, number Int, batch Int, idx Int)
        version Int, outcome Text, event_type Text, event_id Text, sequence Int, topic Text, partition Int,
        record_offset Int, note Text, at Time;
    /// Dead letters without their bytes.
    LETTER = "dead_letter" (topic Text, partition Int, record_offset Int)
        status Text, reason Text, error Text, kind Text, entity_id Text, source Text, sequence Int, count Int,
        failed_at Time;
    /// Sagas.
    SAGA = "saga" (definition Text, saga_id Text)
        definition_version Int, status Text, step Text, reason Text, state Json, topic Text, partition Int,
        begun_at Time, updated_at Time;
    /// Their steps and branches.
    SAGA_STEP = "saga_step" (definition Text, saga_id Text, step Text, branch Text)
        status Text, attempts Int, undo_attempts Int, sent_at Time, answered_at Time;
    /// What is still to be undone outside of a saga.
    DEBT = "debt" (kind Text, entity_id Text, what Text) amount_minor Int, currency Text, status Text, since Time;
    /// Orders that nobody has carried out yet.
    COMMAND = "command" (topic Text, partition Int, id Text)
        action Text, kind Text, entity_id Text, argument Text, actor Text, reason Text, ordered_at Time;
    /// Orders and what became of them.
    COMMAND_LOG = "command_log" (topic Text, partition Int, id Text)
        action Text, kind Text, entity_id Text, argument Text, actor Text, reason Text, ordered_at Time, done_at Time,
        done Int, result Text;
}

/// Names of a table's columns.
pub fn names(table: &Table) -> Vec<&'static str> {
    table.columns.iter().map(|column| column.name).collect()
}

/// A row as it is shown.
pub fn cells(table: &Table, row: &Row) -> Vec<Json> {
    table.columns.iter().zip(row).map(|(column, value)| cell(column, value)).collect()
}

/// A row as it is shown, by column.
pub fn fields(table: &Table, row: &Row) -> Vec<(&'static str, Json)> {
    names(table).into_iter().zip(cells(table, row)).collect()
}

/// The text in a column of a row; empty if there is none.
pub fn text<'a>(table: &Table, row: &'a Row, column: &str) -> &'a str {
    match at(table, row, column) {
        Some(Value::Text(text) | Value::Json(text)) => text,
        _ => "",
    }
}

/// The number in a column of a row, or the microseconds of a time.
pub fn number(table: &Table, row: &Row, column: &str) -> Option<i64> {
    match at(table, row, column) {
        Some(Value::Int(number) | Value::Time(number)) => Some(*number),
        _ => None,
    }
}

fn at<'a>(table: &Table, row: &'a Row, name: &str) -> Option<&'a Value> {
    table.columns.iter().zip(row).find(|(column, _)| column.name == name).map(|(_, value)| value)
}

fn cell(column: &Column, value: &Value) -> Json {
    if *value != Value::Null && column.name.contains("password") {
        return "(hidden)".into();
    }
    match value {
        Value::Null => Json::Null,
        Value::Int(number) => (*number).into(),
        Value::Time(micros) => time(*micros),
        Value::Text(text) => text.as_str().into(),
        Value::Json(text) => serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into()),
        Value::Bytes(bytes) => raw(bytes),
    }
}

/// A point in time, given in microseconds since the epoch.
pub fn time(micros: i64) -> Json {
    match DateTime::<Utc>::from_timestamp_micros(micros) {
        Some(time) => time.to_rfc3339_opts(SecondsFormat::Micros, true).into(),
        None => micros.into(),
    }
}

/// Bytes: as text where they are UTF-8, else as hexadecimal digits, as headers are kept too.
pub fn raw(bytes: &[u8]) -> Json {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() }),
    }
}

#[cfg(test)]
mod tests {
    use seriatim::core::ledger;

    use super::*;

    #[test]
    fn what_is_shown_is_declared_by_the_runtime_too() {
        for shown in SHOWN {
            let Some(declared) = ledger::TABLES.iter().find(|table| table.name == shown.name) else {
                // Tables of the stores' own: the tests of the commands read them.
                assert!(["lane", "topic"].contains(&shown.name), "{}", shown.name);
                continue;
            };
            assert_eq!(shown.columns[..shown.key], declared.columns[..declared.key], "{}", shown.name);
            for column in shown.columns {
                assert!(declared.columns.contains(column), "{}.{}", shown.name, column.name);
            }
        }
    }

    #[test]
    fn bytes_are_text_where_they_can_be() {
        assert_eq!(raw("tea ü".as_bytes()), json!("tea ü"));
        assert_eq!(raw(&[0xff, 0]), json!({"hex": "ff00"}));
    }

    #[test]
    fn a_password_is_never_shown() {
        let column = Column { name: "password_hash", kind: Type::Text };
        assert_eq!(cell(&column, &Value::text("canary")), json!("(hidden)"));
        assert_eq!(cell(&column, &Value::Null), Json::Null);
    }
}
