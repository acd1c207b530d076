//! Record to event: CloudEvents 1.0, binary and structured, then the kind's own rules.
//!
//! The order of checks decides the reason: what cannot be read is undecodable, then comes the place,
//! the type, and only then what the data says. Never panics, whatever the bytes.

use std::str;

use chrono::DateTime;
use serde_json::{Map, Value as Json};
use sha2::{Digest as _, Sha256};

use super::{
    catalog::Catalog,
    event::{Arrival, Body, Event, Link, Reason, Rejection, SagaRef},
    kind::Nature,
    partition::partition_of,
    record::{LaneId, Record},
};

/// Sources of the worker's own messages begin so.
pub const OWN_SOURCE: &str = "/seriatim/";
/// Ids are kept in index rows: longer ones are refused.
pub(super) const ID_BYTES_MAX: usize = 255;

/// Whether a text can stand in a key of the database.
pub(super) fn is_id(text: &str) -> bool {
    text.len() <= ID_BYTES_MAX && !text.contains('\0')
}

/// CloudEvents attributes as they were found.
#[derive(Default)]
struct Attributes {
    id: Option<String>,
    source: Option<String>,
    event_type: Option<String>,
    version: Option<String>,
    time: Option<String>,
    sequence: Option<String>,
    correlation: Option<String>,
}

impl Attributes {
    fn slot(&mut self, name: &str) -> Option<&mut Option<String>> {
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

/// Text of a header, if it is there and UTF-8.
fn header<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    let found = record.headers.iter().find(|(known, _)| known == name)?;
    str::from_utf8(found.1.as_deref()?).ok()
}

/// The link number of a record, from its headers alone: it moves whatever becomes of the record.
fn link_of(record: &Record, catalog: &Catalog) -> Option<Link> {
    let mut parts = header(record, "seriatim_position")?.split('/');
    let (topic, partition) = (parts.next()?, parts.next()?.parse::<i32>().ok()?);
    let (_batch, _index) = (parts.next()?.parse::<u64>().ok()?, parts.next()?.parse::<u64>().ok()?);
    let sequence = header(record, "seriatim_sequence")?.parse::<i64>().ok()?;
    let own = header(record, "ce_source")?.strip_prefix(OWN_SOURCE)? == topic;
    let known = catalog.at(topic).is_some() && (0..catalog.partitions_of(topic)?).contains(&partition);
    (parts.next().is_none() && own && known && sequence >= 1).then(|| Link {
        topic: topic.to_owned(),
        partition,
        sequence,
    })
}

/// Opens a record of a lane: its link, and its event or what is wrong with it, as far as it could be read.
#[must_use]
pub fn open(catalog: &Catalog, lane: &LaneId, record: Record) -> Arrival {
    let mut known =
        Rejection { reason: Reason::Undecodable, error: String::new(), entity_id: None, source: None, sequence: None };
    let link = link_of(&record, catalog);
    let decoded = read(catalog, lane, &record, link.is_some(), &mut known).map_err(|(reason, error)| Rejection {
        reason,
        error,
        ..known
    });
    Arrival { record, link, decoded, condemned: None }
}

fn read(
    catalog: &Catalog,
    lane: &LaneId,
    record: &Record,
    linked: bool,
    known: &mut Rejection,
) -> Result<Event, Problem> {
    let key = read_key(record, known);
    let structured = header(record, "content-type")
        .is_some_and(|kind| kind.get(..23).is_some_and(|start| start.eq_ignore_ascii_case("application/cloudevents")));
    let (attributes, data) = if structured { read_structured(record)? } else { read_binary(record)? };
    // Whatever is wrong with the rest: a record that names its source and number takes its place in the order.
    known.source = attributes.source.clone().filter(|source| !source.is_empty());
    known.sequence = attributes.sequence.as_deref().and_then(|text| read_sequence(text).ok());
    let required = |name: &str, value: &Option<String>| {
        value.clone().filter(|text| !text.is_empty()).ok_or_else(|| undecodable(format!("attribute {name} is missing")))
    };
    let id = required("id", &attributes.id)?;
    let source = required("source", &attributes.source)?;
    let event_type = required("type", &attributes.event_type)?;
    if required("specversion", &attributes.version)? != "1.0" {
        return Err(undecodable("attribute specversion is not 1.0"));
    }
    let data = data.transpose()?;
    let sequence = attributes.sequence.as_deref().map(read_sequence).transpose()?;
    let time = match &attributes.time {
        Some(text) => DateTime::parse_from_rfc3339(text)
            .map_err(|_| undecodable("attribute time is not RFC 3339"))?
            .timestamp_micros(),
        None => record.timestamp_ms.max(0).saturating_mul(1000),
    };
    let entity_id = key?;
    let count = catalog.partitions_of(&lane.topic).unwrap_or(1);
    if partition_of(entity_id.as_bytes(), count) != lane.partition {
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
    let asked = Asked { event_type: &event_type, source: &source, entity_id: &entity_id, linked };
    let (body, saga) = read_body(catalog, lane, &asked, &data)?;
    if linked && sequence.is_some() {
        return Err(invalid("attribute entityseq does not go with a link"));
    }
    Ok(Event {
        digest: digest_of(&event_type, &data),
        trace: header(record, "traceparent").filter(|text| text.len() <= ID_BYTES_MAX).map(str::to_owned),
        correlation: attributes.correlation.filter(|text| text.len() <= ID_BYTES_MAX && !text.contains('\0')),
        entity_id,
        id,
        source,
        event_type,
        time,
        sequence,
        saga,
        body,
    })
}

fn read_key(record: &Record, known: &mut Rejection) -> Result<String, Problem> {
    let bytes = record.key.as_deref().ok_or_else(|| invalid("key: null"))?;
    let key = str::from_utf8(bytes).map_err(|_| undecodable("key: not UTF-8"))?;
    if key.is_empty() || key.len() > ID_BYTES_MAX || key.contains('\0') {
        return Err(invalid(format!("key: empty, over {ID_BYTES_MAX} bytes, or holds NUL")));
    }
    known.entity_id = Some(key.to_owned());
    Ok(key.to_owned())
}

fn read_sequence(text: &str) -> Result<i64, Problem> {
    let number = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<i64>().ok()).flatten();
    number.filter(|number| *number >= 1).ok_or_else(|| invalid("attribute entityseq is not a decimal from 1 to 2^63-1"))
}

type Parts = (Attributes, Option<Result<Json, Problem>>);

fn read_binary(record: &Record) -> Result<Parts, Problem> {
    let mut attributes = Attributes::default();
    for (name, value) in &record.headers {
        let Some(slot) = name.strip_prefix("ce_").and_then(|name| attributes.slot(name)) else { continue };
        let text = value
            .as_deref()
            .map(str::from_utf8)
            .transpose()
            .map_err(|_| undecodable(format!("header {name}: not UTF-8")))?;
        *slot = text.map(str::to_owned);
    }
    let data = match record.value.as_deref() {
        None | Some([]) => None,
        Some(bytes) => Some(parse_json(bytes)),
    };
    Ok((attributes, data))
}

fn read_structured(record: &Record) -> Result<Parts, Problem> {
    let bytes = record.value.as_deref().filter(|bytes| !bytes.is_empty()).ok_or_else(|| invalid("value: empty"))?;
    let Json::Object(mut envelope) = parse_json(bytes)? else { return Err(undecodable("envelope: not a JSON object")) };
    let mut attributes = Attributes::default();
    for (name, value) in &envelope {
        let Some(slot) = attributes.slot(name) else { continue };
        *slot = Some(match value {
            Json::String(text) => text.clone(),
            Json::Number(number) if name == "entityseq" => number.to_string(),
            Json::Null => continue,
            Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_) => {
                return Err(undecodable(format!("attribute {name} is not a string")));
            }
        });
    }
    Ok((attributes, envelope.remove("data").map(Ok)))
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
    linked: bool,
}

fn read_body(
    catalog: &Catalog,
    lane: &LaneId,
    asked: &Asked<'_>,
    data: &Json,
) -> Result<(Body, Option<SagaRef>), Problem> {
    let Asked { event_type, source, entity_id, linked } = *asked;
    let kind = catalog.at(&lane.topic).ok_or_else(|| (Reason::UnknownType, "topic has no kind".to_owned()))?;
    let known = kind.events().iter().find(|known| known.name == event_type);
    let reply =
        catalog.definitions().any(|saga| catalog.topic(saga.topic) == lane.topic && saga.knows_reply(event_type));
    let own = match known {
        Some(known) => known.nature == Nature::Command,
        None if reply => true,
        None => return Err((Reason::UnknownType, format!("attribute type: {} knows no such event", lane.topic))),
    };
    if linked != (own || source.starts_with(OWN_SOURCE)) || linked != own {
        return Err(invalid("attribute source: a worker's own source or type without the headers of its link"));
    }
    let Json::Object(object) = data else { return Err(invalid("data: not an object")) };
    if holds_nul(data) {
        return Err(invalid("data: a string holds NUL"));
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

fn holds_nul(json: &Json) -> bool {
    match json {
        Json::String(text) => text.contains('\0'),
        Json::Array(items) => items.iter().any(holds_nul),
        Json::Object(members) => members.iter().any(|(name, value)| name.contains('\0') || holds_nul(value)),
        Json::Null | Json::Bool(_) | Json::Number(_) => false,
    }
}

/// Members of a JSON object are kept sorted, so the same data has the same digest whatever its layout.
fn digest_of(event_type: &str, data: &Json) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(event_type.as_bytes());
    hash.update([0]);
    hash.update(data.to_string().as_bytes());
    let mut digest = [0; 16];
    digest.copy_from_slice(&hash.finalize()[..16]);
    digest
}
