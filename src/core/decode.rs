//! Record to event: CloudEvents 1.0, binary and structured, then the kind's own rules.
//!
//! The order of checks decides the reason: what cannot be read is undecodable, then comes the place,
//! the type, and only then what the data says. Never panics, whatever the bytes.

use std::{borrow::Cow, str};

use chrono::DateTime;
use serde_json::{Map, Value as Json};
use sha2::{Digest as _, Sha256};

use super::{
    catalog::Catalog,
    event::{Arrival, Body, Digest, Event, Reason, Rejection, SagaRef},
    fence::Position,
    header::{DIGEST, POSITION, SEQUENCE, TIMELINE},
    kind::Nature,
    link::Link,
    partition::partition_of,
    record::{LaneId, Record},
    sabotage::{Safeguard, lacks},
};

/// Sources of the worker's own messages begin so.
pub const OWN_SOURCE: &str = "/seriatim/";
/// Ids are kept in index rows: longer ones are refused.
pub(super) const ID_BYTES_MAX: usize = 255;

/// A longer trace header is not passed on: every message of the event would carry it.
const TRACE_BYTES_MAX: usize = 1024;

/// Whether a text can stand in a key of the database.
pub(super) fn is_id(text: &str) -> bool {
    text.len() <= ID_BYTES_MAX && !text.contains('\0')
}

/// A text of a record, or one that had to be put together.
type Text<'a> = Cow<'a, str>;

/// CloudEvents attributes as they were found.
#[derive(Default)]
struct Attributes<'a> {
    id: Option<Text<'a>>,
    source: Option<Text<'a>>,
    event_type: Option<Text<'a>>,
    version: Option<Text<'a>>,
    time: Option<Text<'a>>,
    sequence: Option<Text<'a>>,
    correlation: Option<Text<'a>>,
}

impl<'a> Attributes<'a> {
    fn slot(&mut self, name: &str) -> Option<&mut Option<Text<'a>>> {
        Some(match name {
            "id" => &mut self.id,
            "source" => &mut self.source,
            "type" => &mut self.event_type,
            "specversion" => &mut self.version,
            "time" => &mut self.time,
            "entityseq" => &mut self.sequence,
            "correlationid" => &mut self.correlation,
            _ => return None,
        })
    }
}

type Problem = (Reason, String);

fn undecodable(error: impl Into<String>) -> Problem {
    (Reason::Undecodable, error.into())
}

fn invalid(error: impl Into<String>) -> Problem {
    (Reason::Invalid, error.into())
}

/// The link number of a record, from its headers alone: it moves whatever becomes of the record. An error
/// names the header at fault.
fn link_of(record: &Record, catalog: &Catalog) -> Result<Link, &'static str> {
    let position = "header seriatim_position: is not the place of a message of one of our lanes";
    let mut parts = record.headers.text(POSITION).ok_or(position)?.split('/');
    let mut part = || parts.next().ok_or(position);
    let (topic, partition) = (part()?, part()?.parse::<i32>().map_err(|_| position)?);
    for _ in ["batch", "index"] {
        part()?.parse::<u64>().map_err(|_| position)?;
    }
    let known = catalog.partitions_of(topic).is_some_and(|count| (0..count).contains(&partition));
    if parts.next().is_some() || catalog.at(topic).is_none() || !known {
        return Err(position);
    }
    let source = record.headers.text("ce_source").and_then(|source| source.strip_prefix(OWN_SOURCE));
    if source != Some(topic) {
        return Err("header seriatim_position: is of another lane than attribute source");
    }
    let sequence = record.headers.text(SEQUENCE).and_then(|text| text.parse::<i64>().ok());
    let sequence =
        sequence.filter(|sequence| *sequence >= 1).ok_or("header seriatim_sequence: is not a decimal from 1")?;
    let digest = match record.headers.text(DIGEST).map(read_digest) {
        Some(None) => return Err("header seriatim_digest: is not 32 hexadecimal digits"),
        digest => digest.flatten(),
    };
    let timeline = match record.headers.text(TIMELINE).map(|text| text.parse::<i64>().ok()) {
        Some(None) => return Err("header seriatim_timeline: is not a decimal"),
        timeline => timeline.flatten(),
    };
    Ok(Link { topic: topic.to_owned(), partition, sequence, digest, timeline })
}

fn read_digest(text: &str) -> Option<Digest> {
    let mut digest = Digest::default();
    if text.len() != 2 * digest.len() || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(digest)
}

/// Where a message of one of our lanes stood among those of its lane, as its headers say; none if they do not.
#[must_use]
pub fn position_of(record: &Record) -> Option<Position> {
    let mut parts = record.headers.text(POSITION)?.rsplit('/');
    let index = parts.next()?.parse().ok()?;
    Some(Position { batch: parts.next()?.parse().ok()?, index })
}

/// What names a record's place in the order, as far as it could be read.
#[derive(Default)]
struct Place<'a> {
    entity_id: Option<&'a str>,
    source: Option<Text<'a>>,
    sequence: Option<i64>,
}

/// Opens a record of a lane: its link, and its event or what is wrong with it, as far as it could be read.
#[must_use]
pub fn open(catalog: &Catalog, lane: &LaneId, record: Record) -> Arrival {
    let mut place = Place::default();
    let link = link_of(&record, catalog);
    let decoded = read(catalog, lane, &record, link.as_ref().err().copied(), &mut place);
    let decoded = decoded.map_err(|(reason, error)| Rejection {
        reason,
        error,
        entity_id: place.entity_id.map(str::to_owned),
        source: place.source.map(Cow::into_owned),
        sequence: place.sequence,
    });
    Arrival { record, link: link.ok(), decoded, condemned: None }
}

fn read<'a>(
    catalog: &Catalog,
    lane: &LaneId,
    record: &'a Record,
    unlinked: Option<&'static str>,
    place: &mut Place<'a>,
) -> Result<Event, Problem> {
    let key = read_key(record);
    place.entity_id = key.as_ref().ok().copied();
    let structured = record
        .headers
        .text("content-type")
        .is_some_and(|kind| kind.get(..23).is_some_and(|start| start.eq_ignore_ascii_case("application/cloudevents")));
    let (attributes, data) = if structured { read_structured(record)? } else { read_binary(record) };
    // What names the place in the order is noted first: a record that fails further on still takes its place.
    place.source = attributes.source.clone().filter(|source| !source.is_empty() && is_id(source));
    place.sequence = attributes.sequence.as_deref().and_then(|text| read_sequence(text).ok());
    let data = data?;
    let required = |name: &str, value: Option<Text<'a>>| {
        value.filter(|text| !text.is_empty()).ok_or_else(|| undecodable(format!("attribute {name} is missing")))
    };
    let id = required("id", attributes.id)?;
    let source = required("source", attributes.source)?;
    let event_type = required("type", attributes.event_type)?;
    if required("specversion", attributes.version)? != "1.0" {
        return Err(undecodable("attribute specversion is not 1.0"));
    }
    let sequence = attributes.sequence.as_deref().map(read_sequence).transpose()?;
    let time = read_time(attributes.time.as_deref(), record)?;
    let entity_id = key?;
    let count = catalog.partitions_of(&lane.topic).unwrap_or(1);
    if partition_of(entity_id.as_bytes(), count) != lane.partition && !lacks(Safeguard::HomePartition) {
        return Err((
            Reason::WrongPartition,
            format!("key belongs to partition {}", partition_of(entity_id.as_bytes(), count)),
        ));
    }
    for (name, text) in [("id", &id), ("source", &source), ("type", &event_type)] {
        if !is_id(text) {
            return Err(invalid(format!("attribute {name} is over {ID_BYTES_MAX} bytes or holds NUL")));
        }
    }
    let data = data.ok_or_else(|| invalid("value: empty"))?;
    let asked = Asked { event_type: &event_type, source: &source, entity_id, unlinked };
    let (body, saga) = read_body(catalog, lane, &asked, &data)?;
    if unlinked.is_none() && sequence.is_some() {
        return Err(invalid("attribute entityseq does not go with a link"));
    }
    Ok(Event {
        digest: digest_of(&event_type, &data),
        trace: read_trace(record),
        correlation: attributes.correlation.filter(|text| is_id(text)).map(Cow::into_owned),
        entity_id: entity_id.to_owned(),
        id: id.into_owned(),
        source: source.into_owned(),
        event_type: event_type.into_owned(),
        time,
        sequence,
        saga,
        body,
    })
}

fn read_key(record: &Record) -> Result<&str, Problem> {
    let bytes = record.key.as_deref().ok_or_else(|| invalid("key: null"))?;
    let key = str::from_utf8(bytes).map_err(|_| undecodable("key: not UTF-8"))?;
    if key.is_empty() || !is_id(key) {
        return Err(invalid(format!("key: empty, over {ID_BYTES_MAX} bytes, or holds NUL")));
    }
    Ok(key)
}

fn read_sequence(text: &str) -> Result<i64, Problem> {
    let number = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<i64>().ok()).flatten();
    number.filter(|number| *number >= 1).ok_or_else(|| invalid("attribute entityseq is not a decimal from 1 to 2^63-1"))
}

/// The headers of the W3C's trace context, where they are of a sound size.
fn read_trace(record: &Record) -> Vec<(&'static str, String)> {
    let sound =
        |name| record.headers.text(name).filter(|value| value.len() <= TRACE_BYTES_MAX && !value.contains('\0'));
    ["traceparent", "tracestate", "baggage"]
        .into_iter()
        .filter_map(|name| Some((name, sound(name)?.to_owned())))
        .collect()
}

fn read_time(time: Option<&str>, record: &Record) -> Result<i64, Problem> {
    let Some(text) = time else { return Ok(record.timestamp_ms.max(0).saturating_mul(1000)) };
    let time = DateTime::parse_from_rfc3339(text).map_err(|_| undecodable("attribute time is not RFC 3339"))?;
    Ok(time.timestamp_micros())
}

/// Attributes as far as they can be read, and the data or what is wrong with the record.
type Parts<'a> = (Attributes<'a>, Result<Option<Json>, Problem>);

fn read_binary(record: &Record) -> Parts<'_> {
    let mut attributes = Attributes::default();
    let mut problem = None;
    for (name, value) in record.headers.iter() {
        let Some(slot) = name.strip_prefix("ce_").and_then(|name| attributes.slot(name)) else { continue };
        match value.map(str::from_utf8).transpose() {
            Ok(text) => *slot = text.map(Cow::Borrowed),
            Err(_) => problem = Some(undecodable(format!("header {name}: not UTF-8"))),
        }
    }
    let data = match (problem, record.value.as_deref()) {
        (Some(problem), _) => Err(problem),
        (None, None | Some([])) => Ok(None),
        (None, Some(bytes)) => parse_json(bytes).map(Some),
    };
    (attributes, data)
}

fn read_structured(record: &Record) -> Result<Parts<'_>, Problem> {
    let bytes = record.value.as_deref().filter(|bytes| !bytes.is_empty()).ok_or_else(|| invalid("value: empty"))?;
    let Json::Object(mut envelope) = parse_json(bytes)? else { return Err(undecodable("envelope: not a JSON object")) };
    let mut attributes = Attributes::default();
    for (name, value) in &envelope {
        let Some(slot) = attributes.slot(name) else { continue };
        *slot = Some(match value {
            Json::String(text) => Cow::Owned(text.clone()),
            Json::Number(number) if name == "entityseq" => Cow::Owned(number.to_string()),
            Json::Null => continue,
            Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_) => {
                return Err(undecodable(format!("attribute {name} is not a string")));
            }
        });
    }
    Ok((attributes, Ok(envelope.remove("data"))))
}

fn parse_json(bytes: &[u8]) -> Result<Json, Problem> {
    let text = str::from_utf8(bytes).map_err(|_| undecodable("value: not UTF-8"))?;
    serde_json::from_str(text)
        .map_err(|error| undecodable(format!("value: not JSON at line {} column {}", error.line(), error.column())))
}

/// What is known of an event when its data is read.
struct Asked<'a> {
    event_type: &'a str,
    source: &'a str,
    entity_id: &'a str,
    /// Why it is no message of one of our lanes, if it is none.
    unlinked: Option<&'static str>,
}

fn read_body(
    catalog: &Catalog,
    lane: &LaneId,
    asked: &Asked<'_>,
    data: &Json,
) -> Result<(Body, Option<SagaRef>), Problem> {
    let Asked { event_type, source, entity_id, unlinked } = *asked;
    let kind = catalog.at(&lane.topic).ok_or_else(|| (Reason::UnknownType, "topic has no kind".to_owned()))?;
    let known = kind.events().iter().find(|known| known.name == event_type);
    let reply =
        catalog.definitions().any(|saga| saga.knows_reply(event_type) && catalog.topic(saga.topic) == lane.topic);
    let own = match known {
        Some(known) => known.nature == Nature::Command,
        None if reply => true,
        None => return Err((Reason::UnknownType, format!("attribute type: {} knows no such event", lane.topic))),
    };
    if own || source.starts_with(OWN_SOURCE) {
        if let Some(problem) = unlinked {
            return Err(invalid(format!("{problem}; a worker's own source or type needs the headers of its link")));
        }
        if !own {
            return Err(invalid("attribute type: a worker sends no such event"));
        }
    }
    let Json::Object(object) = data else { return Err(invalid("data: not an object")) };
    if let Some(field) = nul_in(data) {
        return Err(invalid(format!("{field}: a string holds NUL")));
    }
    match object.get(kind.key_field()) {
        Some(Json::String(id)) if id == entity_id => {}
        Some(Json::String(_)) => return Err(invalid(format!("{}: other than the record key", kind.key_field()))),
        _ => return Err(invalid(format!("{}: missing or not a string", kind.key_field()))),
    }
    let saga = own.then(|| read_saga(object)).flatten();
    if reply {
        let reason = object.get("reason").and_then(Json::as_str).map(str::to_owned);
        return Ok((Body::Reply(reason), saga));
    }
    let parsed =
        kind.parse(event_type, data).map_err(|error| invalid(format!("{}: {}", error.field, error.problem)))?;
    Ok((Body::Entity(parsed), saga))
}

fn read_saga(object: &Map<String, Json>) -> Option<SagaRef> {
    serde_json::from_value(object.get("saga")?.clone()).ok()
}

/// The first field that holds NUL, dotted: no store could keep it.
fn nul_in(json: &Json) -> Option<String> {
    match json {
        Json::String(text) => text.contains('\0').then(String::new),
        Json::Array(items) => {
            items.iter().enumerate().find_map(|(at, item)| Some(join(&format!("[{at}]"), &nul_in(item)?)))
        }
        Json::Object(members) => members.iter().find_map(|(name, value)| {
            if name.contains('\0') { Some("a field's name".to_owned()) } else { Some(join(name, &nul_in(value)?)) }
        }),
        Json::Null | Json::Bool(_) | Json::Number(_) => None,
    }
}

fn join(name: &str, rest: &str) -> String {
    if rest.is_empty() || rest.starts_with('[') { format!("{name}{rest}") } else { format!("{name}.{rest}") }
}

/// Room for most events' data, so that writing it asks for memory once.
const DATA_BYTES_USUAL: usize = 512;

/// Members of a JSON object are kept sorted, so the same data has the same digest whatever its layout.
fn digest_of(event_type: &str, data: &Json) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(event_type.as_bytes());
    hash.update([0]);
    let mut text = Vec::with_capacity(DATA_BYTES_USUAL);
    serde_json::to_writer(&mut text, data).expect("a document is written into memory");
    hash.update(&text);
    let mut digest = [0; 16];
    digest.copy_from_slice(&hash.finalize()[..16]);
    digest
}
