//! Looks at what came of a story, and tells it in the words of stories.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use serde_json::Value as Json;
use seriatim::{
    core::{
        batch::Halt,
        ledger,
        message::Message,
        rows::Row,
        table::{Table, Value},
    },
    shop,
};

use super::{run::Run, tally};

impl Run<'_> {
    /// Compares with what is expected, a line each.
    pub(super) fn compare(&mut self, lines: &[(usize, String)]) -> Result<(), String> {
        let mut wrong = String::new();
        let mut named = BTreeSet::new();
        for (line, text) in lines {
            let (what, expected) = text.split_once(':').unwrap_or((text, ""));
            let (what, expected) = (what.trim(), expected.trim());
            named.insert(what.split_whitespace().next().unwrap_or_default().to_owned());
            let found = self.look(what, expected)?;
            if found != expected {
                let _ = writeln!(wrong, "  line {line}: {what}\n    expected: {expected}\n    found:    {found}");
            }
        }
        for quiet in ["held", "parked", "waiting", "letters", "alarms", "halted"] {
            let found = self.look(quiet, "")?;
            if !named.contains(quiet) && !found.is_empty() {
                let _ = writeln!(wrong, "  {quiet} is not expected, and there is: {found}");
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    /// What stands at `what`, in the words of a story.
    fn look(&mut self, what: &str, expected: &str) -> Result<String, String> {
        let words: Vec<&str> = what.split_whitespace().collect();
        let text = |words: &[&str]| words.join(" ");
        Ok(match words[..] {
            ["held"] => self.places(&ledger::HELD, 7 + 1),
            ["parked"] => self.places(&ledger::PARKED, 5 + 5),
            ["waiting"] => self.places(&ledger::WAITING, 4),
            ["places"] => {
                let rows = self.world.rows(&ledger::HELD, vec![]);
                let places = rows.iter().filter_map(|row| ledger::Held::read(row)).filter(|held| held.place == 1);
                places.map(|held| format!("{} {}", held.entity_id, held.sequence)).collect::<Vec<_>>().join(", ")
            }
            ["letters"] => {
                let rows = self.world.rows(&ledger::DEAD_LETTER, vec![]);
                let letters = rows.iter().filter_map(|row| ledger::DeadLetter::read(row)).map(|letter| {
                    format!("{} {} {} {}", letter.topic, letter.record_offset, letter.reason, letter.status)
                });
                letters.collect::<Vec<_>>().join(", ")
            }
            ["alarms"] => counted(self.world.told.alarms.iter().map(|alarm| alarm.kind.as_str())),
            ["outcomes"] => {
                let tally =
                    self.world.told.tally.iter().map(|(outcome, count)| format!("{} {count}", outcome.as_str()));
                tally.collect::<Vec<_>>().join(", ")
            }
            ["halted"] => {
                let halts =
                    self.world.told.halts.iter().map(|(lane, halt)| format!("{} {}", lane.topic, halt_of(halt)));
                halts.collect::<Vec<_>>().join(", ")
            }
            ["timers", topic] => {
                let rows = self.world.rows(&ledger::TIMER, vec![Value::text(topic)]);
                counted(rows.iter().filter_map(|row| ledger::Timer::read(row)).map(|timer| timer.purpose))
            }
            ["orders"] => {
                let rows = self.world.rows(&ledger::COMMAND_LOG, vec![]);
                let logs = rows.iter().filter_map(|row| ledger::CommandLog::read(row));
                logs.map(|log| if log.done == 1 { "done" } else { "refused" }).collect::<Vec<_>>().join(", ")
            }
            ["sent", topic] => {
                let sent = self.world.told.sent.iter().filter(|message| message.to.topic == topic);
                sent.map(message_text).collect::<Vec<_>>().join(", ")
            }
            ["entity", topic, id] => {
                let rows = self.world.rows(&ledger::QUARANTINE, vec![Value::text(topic)]);
                let rows = rows.iter().filter_map(|row| ledger::Quarantine::read(row));
                let row = rows.into_iter().find(|row| row.entity_id == id);
                row.map_or_else(|| "active".to_owned(), |row| format!("{} {}", row.status, row.cause))
            }
            ["journal", kind, id] => {
                let rows = self.world.rows(&ledger::JOURNAL, vec![Value::text(kind), Value::text(id)]);
                let mut rows: Vec<_> = rows.iter().filter_map(|row| ledger::Journal::read(row)).collect();
                rows.sort_by_key(|row| (row.batch, row.idx));
                let outside = |row: &ledger::Journal| row.note.as_ref().is_some_and(|note| note.starts_with("outside"));
                let word =
                    |row: &ledger::Journal| format!("{}{}", row.outcome, if outside(row) { "-outside" } else { "" });
                counted_in_order(rows.iter().map(word))
            }
            [name, ..] if name.contains('.') => self.look_at_row(name, &text(&words[1..]), expected)?,
            _ => return Err(format!("{what} cannot be looked at")),
        })
    }

    /// `topic offset` of each row that holds a record, in order; `source` column decides for parked timers.
    fn places(&mut self, table: &'static Table, offset_at: usize) -> String {
        let rows = self.world.rows(table, vec![]);
        let places = rows.iter().filter(|row| !(table.name == "held" && row[7] == Value::Int(1))).map(|row| {
            let Value::Text(topic) = &row[0] else { panic!("a row of {} has no topic", table.name) };
            match &row[offset_at] {
                Value::Int(offset) => format!("{topic} {offset}"),
                _ => format!("{topic} timer"),
            }
        });
        places.collect::<Vec<_>>().join(", ")
    }

    /// The columns of a row that are asked for; `absent` if there is none.
    fn look_at_row(&mut self, name: &str, key: &str, expected: &str) -> Result<String, String> {
        let table = tables().into_iter().find(|table| format!("{}.{}", table.schema, table.name) == name);
        let table = table.ok_or_else(|| format!("{name} is no table"))?;
        let prefix = key.split_whitespace().map(Value::text).collect();
        let rows = self.world.rows(table, prefix);
        let Some(row) = rows.first() else { return Ok("absent".to_owned()) };
        let asked = expected.split(", ").filter_map(|pair| pair.split_once('=')).map(|(column, _)| column);
        let asked: Vec<&str> = if expected == "absent" { vec![table.columns[0].name] } else { asked.collect() };
        let cells = asked.into_iter().map(|column| {
            let at = table.columns.iter().position(|known| known.name == column);
            at.map(|at| format!("{column}={}", cell_text(&row[at])))
        });
        let cells: Option<Vec<String>> = cells.collect();
        cells.map(|cells| cells.join(", ")).ok_or_else(|| format!("{name} has not all of these columns"))
    }
}

fn tables() -> Vec<&'static Table> {
    let shop: [&'static Table; 5] = [
        shop::stock::Item::table(),
        shop::stock::Reservation::table(),
        shop::purchase::Purchase::table(),
        shop::payment::Payment::table(),
        shop::counter::Counter::table(),
    ];
    ledger::TABLES.iter().copied().chain(shop).chain([tally::Tally::table(), tally::Count::table()]).collect()
}

fn cell_text(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Int(number) | Value::Time(number) => number.to_string(),
        Value::Text(text) | Value::Json(text) => text.clone(),
        Value::Bytes(bytes) => format!("{} bytes", bytes.len()),
    }
}

fn message_text(message: &Message) -> String {
    let header = |name| message.headers.get(name).map(|value| String::from_utf8_lossy(value).into_owned());
    let key = String::from_utf8_lossy(message.key.as_deref().unwrap_or_default()).into_owned();
    let data: Json = serde_json::from_slice(message.value.as_deref().unwrap_or_default()).unwrap_or_default();
    let reason = data.get("reason").and_then(Json::as_str).map(|reason| format!(" {reason}")).unwrap_or_default();
    let cut = header("dlq.cut").map(|length| format!(" cut from {length}")).unwrap_or_default();
    let kind = header("dlq.reason").or_else(|| header("ce_type")).unwrap_or_default();
    let number = header("ce_entityseq").filter(|_| header("dlq.reason").is_none());
    format!("{kind} {key}{reason}{cut}{}", number.map(|number| format!(" #{number}")).unwrap_or_default())
}

fn halt_of(halt: &Halt) -> &'static str {
    match halt {
        Halt::Newer(_) => "newer",
        Halt::Breaker(_) => "breaker",
        Halt::LinkGap(_) => "link gap",
        Halt::Fork(_) => "fork",
        Halt::Accepted => "accepted",
    }
}

fn counted<S: Ord + ToString>(words: impl Iterator<Item = S>) -> String {
    let mut counts: BTreeMap<S, usize> = BTreeMap::new();
    for word in words {
        *counts.entry(word).or_insert(0) += 1;
    }
    let counts = counts.into_iter().map(|(word, count)| format!("{} {count}", word.to_string()));
    counts.collect::<Vec<_>>().join(", ")
}

fn counted_in_order(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(" ")
}
