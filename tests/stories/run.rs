//! Runs a story in a world of lanes and compares.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Map, Value as Json, json};
use seriatim::{
    core::{
        batch::{Halt, Outcome},
        lane::{Backlog, Decided},
        ledger,
        limits::Limits,
        record::{LaneId, Record},
        rows::Row,
        table::{Table, Type, Value},
    },
    shop,
};

use super::{
    lane_world::{self, Crash, World},
    script::{Step, Story, Told},
    tally,
};

/// How a story is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    OneByOne,
    AllAtOnce,
    Restarting,
    Crashing,
}

impl Manner {
    pub const ALL: [Self; 4] = [Self::OneByOne, Self::AllAtOnce, Self::Restarting, Self::Crashing];
}

struct Run<'a> {
    world: World,
    manner: Manner,
    broken: Arc<AtomicBool>,
    ids: u64,
    story: &'a Story,
}

/// Tells a story in a new world.
pub fn run(story: &Story, manner: Manner) -> Result<(), String> {
    let mut limits = lane_world::limits();
    for (_, step) in &story.steps {
        if let Step::Limits(list) = step {
            list.iter().try_for_each(|(name, value)| set_limit(&mut limits, name, value))?;
        }
    }
    let broken = Arc::new(AtomicBool::new(true));
    let catalog = tally::add_tallies(shop::catalog(&shop::Settings::default(), ""), &broken);
    let world = World::new(catalog, limits, 1);
    let mut run = Run { world, manner, broken, ids: 0, story };
    let mut expected = false;
    for (line, step) in &run.story.steps {
        expected = matches!(step, Step::Expect(_));
        run.step(step).map_err(|error| format!("  line {line}: {error}"))?;
    }
    if expected { Ok(()) } else { Err("  a story ends with what is expected".to_owned()) }
}

fn set_limit(limits: &mut Limits, name: &str, value: &str) -> Result<(), String> {
    let count = value.trim().parse::<usize>().map_err(|_| format!("{value} is no number"))?;
    match name {
        "held_per_entity_max" => limits.held_per_entity_max = count,
        "held_per_lane_max" => limits.held_per_lane_max = count,
        "ahead_max" => limits.ahead_max = i64::try_from(count).unwrap(),
        "waiting_per_lane_max" => limits.waiting_per_lane_max = count,
        "failures_max" => limits.failures_max = count,
        "drain_max" => limits.drain_max = count,
        "message_bytes_max" => limits.message_bytes_max = count,
        "dedupe_window_minutes" => limits.dedupe_window = Duration::from_secs(60 * count as u64),
        _ => return Err(format!("{name} is no limit")),
    }
    Ok(())
}

fn lane_of(topic: &str) -> LaneId {
    LaneId { topic: topic.to_owned(), partition: 0 }
}

impl Run<'_> {
    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Limits(_) => return Ok(()),
            Step::Records(records) => return self.take(records),
            Step::Wait(micros) => {
                self.world.run();
                self.world.pass_time(*micros);
            }
            Step::Order { action, topic, about } => {
                let argument =
                    about.parse::<i64>().map_or("{}".to_owned(), |offset| json!({ "offset": offset }).to_string());
                self.world.order(&lane_of(topic), action, Some(about), &argument);
            }
            Step::Again { topic, offset } => {
                let lane = lane_of(topic);
                let again = self.world.logs[&lane][usize::try_from(*offset).unwrap()].clone();
                let input = self.world.lane(&lane).open(again);
                self.world.turn(&lane, &[input], None);
            }
            Step::Repair => self.broken.store(false, Ordering::Relaxed),
            Step::Restart => self.world.restart(),
            Step::Resume => self.world.resume(),
            Step::Expect(lines) => {
                self.world.run();
                return self.compare(lines);
            }
        }
        self.world.run();
        Ok(())
    }

    fn take(&mut self, records: &[Told]) -> Result<(), String> {
        if self.manner == Manner::AllAtOnce {
            for told in records {
                let (topic, record) = self.record(told)?;
                self.world.append(&topic, record);
            }
            self.world.run();
            return Ok(());
        }
        for told in records {
            let (topic, record) = self.record(told)?;
            let (lane, offset) = self.world.append(&topic, record);
            // Only this one: messages of its own saga may be unread behind it.
            let before = self.world.lane(&lane).backlog();
            let input = |world: &mut World| {
                let record = world.logs[&lane][usize::try_from(offset).unwrap()].clone();
                world.lane(&lane).open(record)
            };
            if self.manner == Manner::Crashing {
                let lost = input(&mut self.world);
                self.world.turn(&lane, &[lost], Some(Crash::BeforeCommit));
            }
            let input = input(&mut self.world);
            let crash = (self.manner == Manner::Crashing).then_some(Crash::AfterCommit);
            let turn = self.world.turn(&lane, &[input], crash);
            let after = self.world.lane(&lane).backlog();
            if let Some(expected) = told.cells.get("becomes")
                && self.manner == Manner::OneByOne
            {
                let found = became(&turn.decided, before, after);
                if found != *expected {
                    return Err(format!("the record of line {} became: {found}", told.line));
                }
            }
            if self.manner == Manner::Restarting {
                let halts = std::mem::take(&mut self.world.told.halts);
                self.world.restart();
                self.world.told.halts = halts;
            }
            self.world.run();
        }
        Ok(())
    }

    fn record(&mut self, told: &Told) -> Result<(String, Record), String> {
        self.ids += 1;
        let cell = |name: &str| told.cells.get(name).cloned();
        let topic = cell("topic").ok_or(format!("line {}: a record needs a topic", told.line))?;
        let key = cell("key").unwrap_or_default();
        let mut data = Map::new();
        data.insert(key_field(&topic).to_owned(), Json::from(key.as_str()));
        for (name, value) in &told.cells {
            if name == "lines" {
                data.insert("lines".to_owned(), lines_of(value)?);
            } else if name == "pad" {
                let length = value.parse().map_err(|_| format!("{value} is no length"))?;
                data.insert("pad".to_owned(), Json::from("x".repeat(length)));
            } else if !ATTRIBUTES.contains(&name.as_str()) {
                data.insert(name.clone(), serde_json::from_str(value).unwrap_or_else(|_| Json::from(value.as_str())));
            }
        }
        let header = |name: &str, value: String| (name.to_owned(), Some(value.into_bytes()));
        let mut headers = vec![
            header("ce_specversion", "1.0".to_owned()),
            header("ce_id", cell("id").unwrap_or(format!("e{}", self.ids))),
            header("ce_source", cell("source").unwrap_or("/till".to_owned())),
        ];
        headers.extend(cell("type").map(|text| header("ce_type", text)));
        headers.extend(cell("seq").map(|text| header("ce_entityseq", text)));
        headers.extend(cell("time").map(|text| header("ce_time", text)));
        headers.extend(cell("position").map(|text| header("seriatim_position", text)));
        headers.extend(cell("number").map(|text| header("seriatim_sequence", text)));
        let hours_ago: i64 = cell("hours_ago").map_or(Ok(0), |hours| hours.parse()).map_err(|_| "hours".to_owned())?;
        let value = cell("value").unwrap_or_else(|| Json::Object(data).to_string());
        let timestamp_ms = self.world.now() / 1000 - hours_ago * 3_600_000;
        let record =
            Record { offset: 0, timestamp_ms, key: Some(key.into_bytes()), value: Some(value.into_bytes()), headers };
        Ok((topic, record))
    }

    fn compare(&mut self, lines: &[(usize, String)]) -> Result<(), String> {
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
                row.map_or("active".to_owned(), |row| format!("{} {}", row.status, row.cause))
            }
            ["journal", kind, id] => {
                let rows = self.world.rows(&ledger::JOURNAL, vec![Value::text(kind), Value::text(id)]);
                let mut rows: Vec<_> = rows.iter().filter_map(|row| ledger::Journal::read(row)).collect();
                rows.sort_by_key(|row| (row.batch, row.idx));
                counted_in_order(rows.iter().map(|row| row.outcome.clone()))
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
        let table = table.ok_or(format!("{name} is no table"))?;
        let prefix = key.split_whitespace().map(Value::text).collect();
        let rows = self.world.rows(table, prefix);
        let Some(row) = rows.first() else { return Ok("absent".to_owned()) };
        let asked = expected.split(", ").filter_map(|pair| pair.split_once('=')).map(|(column, _)| column);
        let asked: Vec<&str> = if expected == "absent" { vec![table.columns[0].name] } else { asked.collect() };
        let cells = asked.into_iter().map(|column| {
            let at = table.columns.iter().position(|known| known.name == column);
            at.map(|at| format!("{column}={}", cell_text(&row[at], table.columns[at].kind)))
        });
        let cells: Option<Vec<String>> = cells.collect();
        cells.map(|cells| cells.join(", ")).ok_or(format!("{name} has not all of these columns"))
    }
}

/// Names of cells that are no data.
const ATTRIBUTES: [&str; 12] =
    ["topic", "key", "type", "id", "source", "seq", "time", "position", "number", "hours_ago", "value", "becomes"];

fn key_field(topic: &str) -> &'static str {
    match topic {
        "purchases" => "purchase_id",
        "payments" => "payment_id",
        "stock" => "sku",
        "profiles" => "user_id",
        "activity" => "counter",
        _ => "tally",
    }
}

/// `2 tea at 500 and 1 cup at 100`
fn lines_of(text: &str) -> Result<Json, String> {
    let line = |part: &str| {
        let words: Vec<&str> = part.split_whitespace().collect();
        let [quantity, sku, "at", price] = words[..] else { return None };
        let (quantity, price) = (quantity.parse::<i64>().ok()?, price.parse::<i64>().ok()?);
        Some(json!({ "sku": sku, "quantity": quantity, "unit_price_minor": price }))
    };
    let lines: Option<Vec<Json>> = text.split(" and ").map(line).collect();
    lines.map(Json::from).ok_or(format!("{text} are no lines"))
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

fn cell_text(value: &Value, _kind: Type) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Int(number) | Value::Time(number) => number.to_string(),
        Value::Text(text) | Value::Json(text) => text.clone(),
        Value::Bytes(bytes) => format!("{} bytes", bytes.len()),
    }
}

fn message_text(message: &seriatim::core::message::Message) -> String {
    let header = |wanted: &str| {
        let found = message.headers.iter().find(|(name, _)| name == wanted).and_then(|(_, value)| value.clone());
        found.map(|value| String::from_utf8_lossy(&value).into_owned())
    };
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

/// What a record became, and what it set free.
fn became(decided: &Decided, before: Backlog, after: Backlog) -> String {
    let mut words: Vec<String> = Vec::new();
    for outcome in Outcome::ALL {
        match decided.tally.get(&outcome) {
            None => {}
            Some(1) => words.push(outcome.as_str().to_owned()),
            Some(count) => words.push(format!("{} {count}", outcome.as_str())),
        }
    }
    words.extend(decided.letters.keys().map(|reason| reason.as_str().to_owned()));
    if after.held > before.held {
        words.push("held".to_owned());
    }
    if after.parked > before.parked {
        words.push("parked".to_owned());
    }
    if after.waiting > before.waiting {
        words.push("waiting".to_owned());
    }
    if decided.taken == 0 {
        words.push("not taken".to_owned());
    }
    if words.is_empty() { "nothing".to_owned() } else { words.join(" ") }
}
