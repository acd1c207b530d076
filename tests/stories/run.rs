//! Runs a story in a world of lanes and compares.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Map, Value as Json, json};
use seriatim::{
    core::{
        backlog::Backlog,
        batch::Outcome,
        header::Headers,
        lane::Decided,
        limits::Limits,
        link,
        record::{LaneId, Record},
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

/// A story under way.
pub struct Run<'a> {
    pub(super) world: World,
    manner: Manner,
    broken: Arc<AtomicBool>,
    ids: u64,
    /// Running digests of links, by link, number and history.
    digests: BTreeMap<(String, i64, String), [u8; 16]>,
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
    let mut run = Run { world, manner, broken, ids: 0, digests: BTreeMap::new(), story };
    let mut expected = false;
    for (line, step) in &run.story.steps {
        expected = matches!(step, Step::Expect(_));
        run.step(step).map_err(|error| format!("  line {line}: {error}"))?;
    }
    if expected { Ok(()) } else { Err("  a story ends with what is expected".to_owned()) }
}

fn set_limit(limits: &mut Limits, name: &str, value: &str) -> Result<(), String> {
    let count = value.trim().parse::<usize>().map_err(|_| format!("{value} is no number"))?;
    let minutes = Duration::from_secs(60 * count as u64);
    match name {
        "held_per_entity_max" => limits.held_per_entity_max = count,
        "held_per_lane_max" => limits.held_per_lane_max = count,
        "ahead_max" => limits.ahead_max = i64::try_from(count).unwrap(),
        "waiting_per_lane_max" => limits.waiting_per_lane_max = count,
        "failures_max" => limits.failures_max = count,
        "drain_max" => limits.drain_max = count,
        "message_bytes_max" => limits.message_bytes_max = count,
        "dedupe_window_minutes" => limits.dedupe_window = minutes,
        "journal_minutes" => limits.journal_kept = minutes,
        "saga_minutes" => limits.saga_kept = minutes,
        "letter_minutes" => limits.letter_kept = minutes,
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
                let argument = match (about.parse::<i64>(), about.rsplit_once('/')) {
                    (Ok(offset), _) => json!({ "offset": offset }),
                    (_, Some((link, number))) => json!({ "link": link, "number": number.parse::<i64>().unwrap() }),
                    _ => json!({}),
                };
                self.world.order(&lane_of(topic), action, Some(about), &argument.to_string());
            }
            Step::Again { topic, offset } => {
                let lane = lane_of(topic);
                let again = self.world.logs[&lane][usize::try_from(*offset).unwrap()].clone();
                let input = self.world.lane(&lane).open(again);
                self.world.turn(&lane, &[input], None);
            }
            Step::Repair => self.broken.store(false, Ordering::Relaxed),
            Step::Restart => self.world.restart(),
            Step::Forget => self.world.forget(),
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
        let topic = cell("topic").ok_or_else(|| format!("line {}: a record needs a topic", told.line))?;
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
        let mut headers = Headers::default();
        headers.write("ce_specversion", "1.0");
        headers.write("ce_id", cell("id").unwrap_or_else(|| format!("e{}", self.ids)));
        headers.write("ce_source", cell("source").unwrap_or_else(|| "/till".to_owned()));
        let told = [
            ("type", "ce_type"),
            ("seq", "ce_entityseq"),
            ("time", "ce_time"),
            ("position", "seriatim_position"),
            ("number", "seriatim_sequence"),
            ("timeline", "seriatim_timeline"),
        ];
        headers.extend(told.into_iter().filter_map(|(name, header)| Some((header, Some(cell(name)?)))));
        let hours_ago: i64 = cell("hours_ago").map_or(Ok(0), |hours| hours.parse()).map_err(|_| "hours".to_owned())?;
        let value = cell("value").unwrap_or_else(|| Json::Object(data).to_string());
        let timestamp_ms = self.world.now() / 1000 - hours_ago * 3_600_000;
        let (key, value) = (Some(key.into_bytes().into()), Some(value.into_bytes().into()));
        let mut record = Record { offset: 0, timestamp_ms, key, value, headers };
        if let Some(history) = cell("history") {
            let digest = self.chain(&record, &history);
            record.headers.write("seriatim_digest", digest);
        }
        Ok((topic, record))
    }

    /// The running digest of a link after a message of one of its histories. A history that says nothing of the number
    /// before goes on from one that does; `elsewhere` follows from nothing that is told.
    fn chain(&mut self, record: &Record, history: &str) -> String {
        let header = |name| record.headers.text(name).expect("a header of its link");
        let link = header("seriatim_position").rsplitn(3, '/').last().unwrap().to_owned();
        let number: i64 = header("seriatim_sequence").parse().unwrap();
        let known = |history: &str| self.digests.get(&(link.clone(), number - 1, history.to_owned())).copied();
        let before = known(history).or_else(|| {
            let mut others = self.digests.iter().filter(|_| history != "elsewhere");
            others.find(|((of, at, _), _)| *of == link && *at == number - 1).map(|(_, digest)| *digest)
        });
        let (id, event_type) = (header("ce_id"), header("ce_type"));
        let (key, value) = (record.key.as_deref().unwrap(), record.value.as_deref().unwrap());
        let before = before.as_ref().map(<[u8; 16]>::as_slice);
        let digest = link::chain(before, [id.as_bytes(), event_type.as_bytes(), key, value]);
        self.digests.insert((link, number, history.to_owned()), digest);
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Names of cells that are no data.
const ATTRIBUTES: [&str; 14] = [
    "topic",
    "key",
    "type",
    "id",
    "source",
    "seq",
    "time",
    "position",
    "number",
    "timeline",
    "history",
    "hours_ago",
    "value",
    "becomes",
];

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
    lines.map(Json::from).ok_or_else(|| format!("{text} are no lines"))
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
