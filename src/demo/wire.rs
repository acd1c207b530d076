//! Events as a producer outside would send them, and what the demo reads of records.
//!
//! Written from the contract: CloudEvents in binary and structured mode, the entity's id as key, murmur2.

use serde_json::{Map, Value as Json, json};
use seriatim::core::{
    fence::Position,
    header::Headers,
    message::Message,
    partition::partition_of,
    record::{LaneId, Record},
};

/// An event of a producer outside.
#[derive(Clone, Debug)]
pub struct Event {
    pub topic: &'static str,
    pub key: String,
    pub source: &'static str,
    pub id: String,
    pub kind: &'static str,
    pub sequence: Option<i64>,
    pub data: Json,
}

impl Event {
    /// In binary mode: the attributes are headers.
    pub fn binary(&self, partitions: i32) -> Message {
        let mut headers = Headers::from_iter([("content-type", Some("application/json"))]);
        headers.extend(self.attributes().map(|(name, value)| (format!("ce_{name}"), Some(value))));
        self.message(partitions, headers, self.data.to_string())
    }

    /// In structured mode: the attributes stand around the data.
    pub fn structured(&self, partitions: i32) -> Message {
        let headers = Headers::from_iter([("content-type", Some("application/cloudevents+json"))]);
        let mut envelope: Map<String, Json> =
            self.attributes().map(|(name, value)| (name.to_owned(), value.into())).collect();
        envelope.insert("data".to_owned(), self.data.clone());
        self.message(partitions, headers, Json::Object(envelope).to_string())
    }

    fn attributes(&self) -> impl Iterator<Item = (&'static str, String)> {
        let fixed = [("id", self.id.as_str()), ("source", self.source), ("type", self.kind), ("specversion", "1.0")];
        let fixed = fixed.map(|(name, value)| (name, value.to_owned()));
        fixed.into_iter().chain(self.sequence.map(|number| ("entityseq", number.to_string())))
    }

    fn message(&self, partitions: i32, headers: Headers, value: String) -> Message {
        Message {
            position: Position::default(),
            to: LaneId { topic: self.topic.to_owned(), partition: partition_of(self.key.as_bytes(), partitions) },
            link_sequence: None,
            timestamp_ms: None,
            key: Some(self.key.as_bytes().into()),
            value: Some(value.into_bytes().into()),
            headers,
        }
    }
}

/// What the demo needs of a record that is a CloudEvent.
#[derive(Clone, Debug)]
pub struct Opened {
    pub key: String,
    pub id: String,
    pub kind: String,
    pub data: Json,
}

/// Reads a record; `None` if it is not a sound event.
pub fn open(record: &Record) -> Option<Opened> {
    let key = String::from_utf8(record.key.as_deref()?.to_vec()).ok()?;
    let header = |name: &str| record.headers.text(name).map(str::to_owned);
    let body: Json = serde_json::from_slice(record.value.as_deref()?).ok()?;
    if !header("content-type")?.starts_with("application/cloudevents") {
        return Some(Opened { key, id: header("ce_id")?, kind: header("ce_type")?, data: body });
    }
    let attribute = |name: &str| body.get(name).and_then(Json::as_str).map(str::to_owned);
    Some(Opened { key, id: attribute("id")?, kind: attribute("type")?, data: body.get("data")?.clone() })
}

/// A placed purchase's data.
pub fn placed(purchase_id: &str, customer: i64, lines: &[(String, i64, i64)]) -> Json {
    let line = |(sku, quantity, price): &(String, i64, i64)| json!({ "sku": sku, "quantity": quantity, "unit_price_minor": price });
    json!({
        "purchase_id": purchase_id,
        "customer_id": format!("customer-{customer}"),
        "currency": "EUR",
        "lines": lines.iter().map(line).collect::<Vec<_>>(),
        "payment_method": "card",
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use seriatim::core::{message::Message, record::Record};

    use super::{Event, open};

    fn record(message: Message) -> Record {
        let Message { key, value, headers, .. } = message;
        Record { offset: 0, timestamp_ms: 0, key, value, headers }
    }

    #[test]
    fn both_modes_say_the_same() {
        let event = Event {
            topic: "stock",
            key: "tea".to_owned(),
            source: "/warehouse",
            id: "1".to_owned(),
            kind: "stock.received",
            sequence: Some(1),
            data: json!({"sku": "tea", "quantity": 3}),
        };
        for message in [event.binary(4), event.structured(4)] {
            let opened = open(&record(message)).unwrap();
            assert_eq!((opened.key, opened.id, opened.kind, opened.data), {
                ("tea".to_owned(), "1".to_owned(), "stock.received".to_owned(), event.data.clone())
            });
        }
    }
}
