//! Messages and timers as rows. Everything about a message follows from its cause, so that work done
//! twice says the same twice: its id, its time, its bytes. Its partition and its number on the link are
//! chosen here, with the commit, not when it is sent.

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use super::{
    decode::OWN_SOURCE,
    effect::Effect,
    event::{Arrival, Digest, Event, SagaRef},
    fence::Position,
    handle::Failure,
    header::{DIGEST, Headers, POSITION, SEQUENCE, TIMELINE},
    lane::Lane,
    ledger::{Command, LINK_OUT, LinkOut, OUTBOX, Timer},
    link::{Parts, chain},
    message::Message,
    partition::partition_of,
    record::LaneId,
    rows::Micros,
    sabotage::{Safeguard, lacks},
    saga::Action,
    state::Address,
    table::Value,
};

/// Room for most messages' values and headers, so that memory is asked for once.
const VALUE_BYTES_USUAL: usize = 256;
const HEADERS_USUAL: usize = 16;
const HEADER_BYTES_USUAL: usize = 512;

/// What a message or timer comes from.
#[derive(Clone, Debug)]
pub(super) struct Origin<'a> {
    /// The same on every replay, and no other cause's.
    pub(super) cause: String,
    /// `ce_causationid`.
    pub(super) causation: Cow<'a, str>,
    /// `ce_correlationid`.
    pub(super) correlation: Option<Cow<'a, str>>,
    /// `ce_time`, microseconds since the epoch.
    pub(super) time: i64,
    /// The cause's trace context, passed on with what it sends.
    pub(super) trace: &'a [(&'static str, String)],
}

impl<'a> Origin<'a> {
    pub(super) fn of_event(lane: &Lane, arrival: &Arrival, event: &'a Event) -> Self {
        let saga = event.saga.as_ref().map(|saga| saga.id.as_str());
        let own_saga = || lane.saga_name.map(|_| event.entity_id.as_str());
        Self {
            cause: format!("{}/{}/{}/{}", lane.id.topic, lane.incarnation, lane.id.partition, arrival.record.offset),
            causation: Cow::Borrowed(&event.id),
            correlation: saga.or_else(own_saga).or(event.correlation.as_deref()).map(Cow::Borrowed),
            time: event.time,
            trace: &event.trace,
        }
    }

    pub(super) fn of_timer(lane: &Lane, entity_id: &'a str, name: &str, time: i64) -> Self {
        Self::of_entity(lane, entity_id, &format!("timer/{name}"), time)
    }

    pub(super) fn of_order(lane: &Lane, entity_id: &'a str, order: &Command) -> Self {
        Self::of_entity(lane, entity_id, &format!("order/{}", order.id), order.ordered_at.0)
    }

    fn of_entity(lane: &Lane, entity_id: &'a str, what: &str, time: i64) -> Self {
        let cause = format!("{}/{entity_id}/{what}", lane.kind().name());
        Self {
            causation: Cow::Owned(id_of(&[&cause])),
            correlation: lane.saga_name.map(|_| Cow::Borrowed(entity_id)),
            cause,
            time,
            trace: &[],
        }
    }
}

/// A message that fits, before it has a place.
#[derive(Debug)]
pub(super) struct Draft {
    topic: String,
    key: String,
    message_type: &'static str,
    value: Vec<u8>,
    /// The saga that it belongs to, if it is a command or a reply.
    saga: Option<String>,
}

impl Lane {
    /// Drafts a message that a handler sends; its data goes into the draft.
    pub(super) fn draft(&self, effect: &mut Effect) -> Result<Draft, Failure> {
        match effect {
            Effect::Send { topic, key, message_type, data } => {
                let (key, data) = (std::mem::take(key), std::mem::take(data));
                self.draft_message(self.catalog.topic(topic), key, message_type, data, None)
            }
            Effect::Reply { asker, message_type, data } => {
                let reference: SagaRef = serde_json::from_str(asker)
                    .map_err(|_| Failure::Poison("handler answers with no saga reference".to_owned()))?;
                let definition = self.catalog.definition(&reference.definition, None).ok_or_else(|| {
                    Failure::Poison(format!("saga {} is not known to this release", reference.definition))
                })?;
                let (topic, key) = (self.catalog.topic(definition.topic), reference.id.clone());
                self.draft_message(topic, key, message_type, std::mem::take(data), Some(&reference))
            }
            Effect::Wake { .. }
            | Effect::BeginSaga { .. }
            | Effect::CancelSaga { .. }
            | Effect::Owe { .. }
            | Effect::Settle { .. }
            | Effect::NeedsOperator { .. } => Err(Failure::Poison("no message".to_owned())),
        }
    }

    /// Drafts a command of this lane's saga.
    pub(super) fn draft_command(&self, action: &Action) -> Result<Draft, Failure> {
        let Action::Send { topic, key, message_type, data, reference } = action else {
            return Err(Failure::Poison("no message".to_owned()));
        };
        self.draft_message(self.catalog.topic(topic), key.clone(), message_type, data.clone(), Some(reference))
    }

    fn draft_message(
        &self,
        topic: String,
        key: String,
        message_type: &'static str,
        data: Json,
        saga: Option<&SagaRef>,
    ) -> Result<Draft, Failure> {
        let Json::Object(mut data) = data else {
            return Err(Failure::Poison(format!("message {message_type}: data is not an object")));
        };
        if self.catalog.is_sequenced(&topic).is_none() || self.catalog.partitions_of(&topic).is_none() {
            return Err(Failure::Poison(format!("message {message_type}: topic {topic} is not declared")));
        }
        if key.is_empty() || key.len() > super::decode::ID_BYTES_MAX {
            return Err(Failure::Poison(format!("message {message_type}: key is empty or too long")));
        }
        if let Some(saga) = saga {
            if let Some(kind) = self.catalog.at(&topic) {
                data.insert(kind.key_field().to_owned(), Json::from(key.as_str()));
            }
            data.insert("saga".to_owned(), saga.to_json());
        }
        let mut value = Vec::with_capacity(VALUE_BYTES_USUAL);
        serde_json::to_writer(&mut value, &Json::Object(data)).expect("a document is written into memory");
        if value.len() > self.limits.message_bytes_max {
            return Err(Failure::Poison(format!("message {message_type}: {} bytes are too large", value.len())));
        }
        Ok(Draft { topic, key, message_type, value, saga: saga.map(|saga| saga.id.clone()) })
    }

    /// Gives a draft its place, its number and its headers.
    pub(super) fn emit(&mut self, entity_id: &str, draft: Draft, origin: &Origin<'_>) {
        let Draft { topic, key, message_type, value, saga } = draft;
        let count = self.catalog.partitions_of(&topic).expect("a draft's topic has a partition count");
        let to = LaneId { partition: partition_of(key.as_bytes(), count), topic };
        let (cause, ordinals) = &mut self.batch.ordinals;
        if *cause != origin.cause {
            cause.clone_from(&origin.cause);
            ordinals.clear();
        }
        let ordinal = ordinals.or_default((message_type, key.clone()));
        let mut id = id_of(&[&origin.cause, message_type, &to.topic, &key, &ordinal.to_string()]);
        if lacks(Safeguard::StableIds) {
            id = id_of(&[&id, &self.fence.token]);
        }
        *ordinal += 1;
        let mut headers = Headers::with_capacity(HEADERS_USUAL, HEADER_BYTES_USUAL);
        headers.push("ce_specversion", Some(b"1.0"));
        headers.push("ce_id", Some(id.as_bytes()));
        headers.write("ce_source", format_args!("{OWN_SOURCE}{}", self.id.topic));
        headers.push("ce_type", Some(message_type.as_bytes()));
        headers.write("ce_time", rfc3339(origin.time));
        headers.push("content-type", Some(b"application/json"));
        headers.push("ce_causationid", Some(origin.causation.as_bytes()));
        if let Some(correlation) = saga.as_deref().or(origin.correlation.as_deref()) {
            headers.push("ce_correlationid", Some(correlation.as_bytes()));
        }
        if self.catalog.is_sequenced(&to.topic) == Some(true) {
            let head = self.batch.heads.get_mut(entity_id).expect("the head is loaded before its entity sends");
            head.changed = true;
            headers.write("ce_entityseq", head.marks.send(&to.topic));
        }
        headers.extend(origin.trace.iter().map(|(name, value)| (*name, Some(value))));
        let parts = [id.as_bytes(), message_type.as_bytes(), key.as_bytes(), &value];
        let (sequence, digest) = self.next_on_link(&to, parts);
        let position = self.next_position();
        let (topic, partition, Position { batch, index }) = (&self.id.topic, self.id.partition, position);
        headers.write(POSITION, format_args!("{topic}/{partition}/{batch}/{index}"));
        headers.write(SEQUENCE, sequence);
        headers.write(DIGEST, hex(&digest));
        if self.fence.timeline > 0 {
            headers.write(TIMELINE, self.fence.timeline);
        }
        self.post(Message {
            position,
            to,
            link_sequence: Some(sequence),
            timestamp_ms: None,
            key: Some(key.into_bytes().into()),
            value: Some(value.into()),
            headers,
        });
    }

    /// The number of a message on its link, and the link's running digest with it.
    fn next_on_link(&mut self, to: &LaneId, parts: Parts<'_>) -> (i64, Digest) {
        if let Some((sent, digest)) = self.batch.links.get_mut(to) {
            *digest = chain(Some(digest), parts);
            *sent += 1;
            return (*sent, *digest);
        }
        let known = self.state.get(&self.link_out_address(to)).flatten().and_then(|row| LinkOut::read(row));
        let digest = chain(known.as_ref().and_then(|link| link.digest.as_deref()), parts);
        let sent = known.map_or(0, |link| link.sent) + 1;
        self.batch.links.insert(to.clone(), (sent, digest));
        (sent, digest)
    }

    fn link_out_address(&self, to: &LaneId) -> Address {
        Address::new(&LINK_OUT, self.key([Value::text(&to.topic), Value::Int(to.partition.into())]))
    }

    /// Writes how far the batch has taken its links: once a batch, not once a message.
    pub(super) fn settle_links(&mut self) {
        for (to, (sent, digest)) in std::mem::take(&mut self.batch.links) {
            let address = self.link_out_address(&to);
            let row = LinkOut {
                topic: self.id.topic.clone(),
                partition: self.id.partition.into(),
                to_topic: to.topic,
                to_partition: to.partition.into(),
                sent,
                digest: Some(digest.into()),
            };
            self.state.set(address, Some(row.into_row()));
        }
    }

    /// The place of the next message of this batch.
    pub(super) fn next_position(&self) -> Position {
        let index = i64::try_from(self.batch.messages.len()).unwrap_or(i64::MAX);
        Position { batch: self.fence.batch + 1, index }
    }

    /// Puts a message into the outbox and among those to be sent after the commit.
    pub(super) fn post(&mut self, message: Message) {
        self.state.append(&OUTBOX, message.to_row(&self.id).into_row());
        self.batch.messages.push(message);
    }

    /// Sets a timer of an entity. `time` is what it will call its time when it fires.
    pub(super) fn set_timer(&mut self, purpose: &str, entity_id: &str, name: &str, due: i64, time: i64) {
        // The batch in the name keeps two timers apart that are set for the same moment.
        let name = format!("{name}#{}.{}", self.fence.batch + 1, self.batch.timers);
        self.batch.timers += 1;
        let row = Timer {
            topic: self.id.topic.clone(),
            partition: self.id.partition.into(),
            due: Micros(due),
            purpose: purpose.to_owned(),
            kind: self.kind().name().to_owned(),
            entity_id: entity_id.to_owned(),
            name,
            time: Micros(time),
        };
        self.batch.next_timer = Some(self.batch.next_timer.map_or(due, |known| known.min(due)));
        self.set_new(row.address(), row.into_row());
    }
}

/// A UUID (version 8) that follows from its parts.
pub(super) fn id_of(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

/// Microseconds since the epoch as RFC 3339, UTC.
pub(super) fn rfc3339(micros: i64) -> String {
    DateTime::<Utc>::from_timestamp_micros(micros).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    push_hex(&mut text, bytes);
    text
}

pub(super) fn push_hex(text: &mut String, bytes: &[u8]) {
    let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or_default();
    text.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
}
