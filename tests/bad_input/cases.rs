//! The cases of bad input, as data: what is sent, and what the contract says becomes of it.
//!
//! Where the page leaves open which reason a record gets, several are allowed. Payloads carry a marker that no
//! error text may repeat.

use serde_json::{Value as Json, json};

/// Stands in payloads; an error text that holds it has repeated the payload.
pub const MARKER: &str = "do-not-repeat-me";

/// A record to produce.
#[derive(Clone, Debug)]
pub struct Sent {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Vec<u8>)>,
    /// Where not on the key's partition.
    pub partition: Option<i32>,
}

/// What becomes of the bad record.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// A dead letter, with one of these reasons; its error names the field, where one is to blame.
    DeadLetter { reasons: &'static [&'static str], field: &'static str },
    /// Not bad after all, only odd: the query must give 1.
    Taken(String),
    /// A dead letter or not: the contract leaves it open.
    Buried,
}

/// One kind of bad input.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: &'static str,
    /// Home topic, without prefix.
    pub topic: &'static str,
    /// Good records that come first.
    pub before: Vec<Sent>,
    pub bad: Sent,
    pub outcome: Outcome,
}

const UNDECODABLE: &[&str] = &["undecodable"];
const INVALID: &[&str] = &["invalid"];
const UNKNOWN: &[&str] = &["unknown_type"];
const EITHER: &[&str] = &["undecodable", "invalid"];
const ANY: &[&str] = &["undecodable", "invalid", "unknown_type"];

impl Sent {
    fn event(kind: &str, id: &str, key: &str, data: &Json) -> Self {
        let headers = [
            ("content-type", "application/json"),
            ("ce_id", id),
            ("ce_source", "/outside/test"),
            ("ce_type", kind),
            ("ce_specversion", "1.0"),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())).to_vec();
        let value = Some(data.to_string().into_bytes());
        Self { key: Some(key.as_bytes().to_vec()), value, headers, partition: None }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(at, _)| at != name);
        self.headers.push((name.to_owned(), value.as_bytes().to_vec()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(at, _)| at != name);
        self
    }

    fn saying(self, value: impl Into<Vec<u8>>) -> Self {
        Self { value: Some(value.into()), ..self }
    }
}

/// The good record that follows a bad one on a topic.
pub fn follower(topic: &str, key: &str) -> Sent {
    match topic {
        "activity" => Sent::event("activity.counted", key, key, &json!({ "counter": key, "delta": 1 })),
        "profiles" => {
            Sent::event("profile.email_changed", key, key, &json!({ "user_id": key, "email": "a@b.example" }))
        }
        "stock" => Sent::event("stock.received", key, key, &json!({ "sku": key, "quantity": 1 })),
        "payments" => Sent::event("payment.captured", key, key, &money(key)),
        _ => Sent::event("purchase.placed", key, key, &purchase(key, &json!([line("nowhere", 1, 1)]))),
    }
}

fn money(payment: &str) -> Json {
    json!({ "payment_id": payment, "amount_minor": 5, "currency": "EUR", "provider_ref": MARKER })
}

fn line(sku: &str, quantity: i64, price: i64) -> Json {
    json!({ "sku": sku, "quantity": quantity, "unit_price_minor": price })
}

fn purchase(id: &str, lines: &Json) -> Json {
    json!({ "purchase_id": id, "customer_id": MARKER, "currency": "EUR", "lines": lines, "payment_method": "card" })
}

fn counted(name: &str) -> Sent {
    Sent::event("activity.counted", name, name, &json!({ "counter": name, "delta": 1, "note": MARKER }))
}

/// A count whose data are changed in one field.
fn counted_as(name: &str, field: &str, value: Json) -> Sent {
    let mut data = json!({ "counter": name, "delta": 1, "note": MARKER });
    data[field] = value;
    Sent::event("activity.counted", name, name, &data)
}

fn placed(name: &str, lines: &Json) -> Sent {
    Sent::event("purchase.placed", name, name, &purchase(name, lines))
}

fn dead(
    name: &'static str,
    topic: &'static str,
    bad: Sent,
    reasons: &'static [&'static str],
    field: &'static str,
) -> Case {
    Case { name, topic, before: Vec::new(), bad, outcome: Outcome::DeadLetter { reasons, field } }
}

/// All of them, for topics under a prefix.
pub fn cases(prefix: &str) -> Vec<Case> {
    [
        unreadable(),
        broken_attributes(),
        wrong_fields(),
        out_of_range(),
        wrong_keys(),
        outsized(),
        forged(prefix),
        repeated(),
    ]
    .concat()
}

fn unreadable() -> Vec<Case> {
    let cut = format!(r#"{{"counter": "{MARKER}"#);
    let trailing = |name: &str| [counted(name).value.unwrap_or_default(), b" }".to_vec()].concat();
    let wrong_utf8 = |name: &str| {
        [br#"{"counter":""#.as_slice(), name.as_bytes(), b"\",\"delta\":1,\"note\":\"\xc3\x28\"}"].concat()
    };
    vec![
        dead("malformed-json", "activity", counted("malformed-json").saying(cut), UNDECODABLE, ""),
        dead(
            "trailing-bytes",
            "activity",
            counted("trailing-bytes").saying(trailing("trailing-bytes")),
            UNDECODABLE,
            "",
        ),
        dead("wrong-utf8", "activity", counted("wrong-utf8").saying(wrong_utf8("wrong-utf8")), UNDECODABLE, ""),
        dead(
            "not-a-number",
            "activity",
            counted("not-a-number").saying(r#"{"counter":"not-a-number","delta":NaN}"#),
            UNDECODABLE,
            "",
        ),
        dead("empty-value", "activity", counted("empty-value").saying(""), INVALID, ""),
        dead("null-value", "activity", Sent { value: None, ..counted("null-value") }, INVALID, ""),
        dead("data-is-a-list", "activity", counted("data-is-a-list").saying("[1]"), INVALID, ""),
    ]
}

fn broken_attributes() -> Vec<Case> {
    let structured = |envelope: &str| {
        counted("envelope").without("ce_id").with("content-type", "application/cloudevents+json").saying(envelope)
    };
    let no_id = r#"{"source":"/outside/test","type":"activity.counted","specversion":"1.0","data":{"counter":"envelope","delta":1}}"#;
    vec![
        dead("no-id", "activity", counted("no-id").without("ce_id"), UNDECODABLE, "id"),
        dead("no-source", "activity", counted("no-source").without("ce_source"), UNDECODABLE, "source"),
        dead("no-type", "activity", counted("no-type").without("ce_type"), UNDECODABLE, "type"),
        dead(
            "no-specversion",
            "activity",
            counted("no-specversion").without("ce_specversion"),
            UNDECODABLE,
            "specversion",
        ),
        dead("no-headers", "activity", Sent { headers: Vec::new(), ..counted("no-headers") }, UNDECODABLE, ""),
        dead("broken-envelope", "activity", structured("{"), UNDECODABLE, ""),
        dead("envelope-without-id", "activity", structured(no_id), UNDECODABLE, "id"),
        dead(
            "unknown-version",
            "activity",
            counted("unknown-version").with("ce_specversion", "9.9"),
            ANY,
            "specversion",
        ),
        dead("unknown-type", "activity", counted("unknown-type").with("ce_type", "activity.guessed"), UNKNOWN, ""),
        dead(
            "another-topics-type",
            "activity",
            counted("another-topics-type").with("ce_type", "stock.received"),
            UNKNOWN,
            "",
        ),
        dead(
            "sequence-is-a-word",
            "activity",
            counted("sequence-is-a-word").with("ce_entityseq", "first"),
            EITHER,
            "entityseq",
        ),
        dead("sequence-zero", "activity", counted("sequence-zero").with("ce_entityseq", "0"), EITHER, "entityseq"),
    ]
}

fn wrong_fields() -> Vec<Case> {
    let email = |name: &str, email: Json| {
        Sent::event("profile.email_changed", name, name, &json!({ "user_id": name, "email": email, "note": MARKER }))
    };
    let no_quantity = Sent::event("stock.received", "no-quantity", "no-quantity", &json!({ "sku": "no-quantity" }));
    vec![
        dead("text-for-number", "activity", counted_as("text-for-number", "delta", json!(MARKER)), INVALID, "delta"),
        dead("fraction", "activity", counted_as("fraction", "delta", json!(1.5)), INVALID, "delta"),
        dead("truth", "activity", counted_as("truth", "delta", json!(true)), INVALID, "delta"),
        dead("null-field", "profiles", email("null-field", Json::Null), INVALID, "email"),
        dead("number-for-text", "profiles", email("number-for-text", json!(7)), INVALID, "email"),
        dead("nul-in-text", "profiles", email("nul-in-text", json!("a\0b")), INVALID, "email"),
        dead("missing-field", "stock", no_quantity, INVALID, "quantity"),
        dead("lines-are-no-list", "purchases", placed("lines-are-no-list", &json!({})), INVALID, "lines"),
        dead("no-lines", "purchases", placed("no-lines", &json!([])), INVALID, "lines"),
        dead(
            "a-sku-twice",
            "purchases",
            placed("a-sku-twice", &json!([line("x", 1, 1), line("x", 1, 1)])),
            INVALID,
            "sku",
        ),
        dead(
            "no-quantity-in-line",
            "purchases",
            placed("no-quantity-in-line", &json!([line("x", 0, 1)])),
            INVALID,
            "quantity",
        ),
    ]
}

fn out_of_range() -> Vec<Case> {
    let past = |name: &str, number: &str| counted(name).saying(format!(r#"{{"counter":"{name}","delta":{number}}}"#));
    let capture = |name: &str, field: &str, value: Json| {
        let mut data = money(name);
        data[field] = value;
        Sent::event("payment.captured", name, name, &data)
    };
    let currency = |name: &str, code: &str| {
        let mut data = purchase(name, &json!([line("x", 1, 1)]));
        data["currency"] = json!(code);
        Sent::event("purchase.placed", name, name, &data)
    };
    let many: Vec<Json> = (0..101).map(|number| line(&format!("x-{number}"), 1, 1)).collect();
    let large = json!([line("x", 1 << 40, 1 << 40)]);
    vec![
        dead("past-int64", "activity", past("past-int64", "9223372036854775808"), INVALID, "delta"),
        dead("below-int64", "activity", past("below-int64", "-9223372036854775809"), INVALID, "delta"),
        dead("past-any-number", "activity", past("past-any-number", "1e999"), EITHER, ""),
        dead(
            "negative-price",
            "purchases",
            placed("negative-price", &json!([line("x", 1, -1)])),
            INVALID,
            "unit_price_minor",
        ),
        dead(
            "negative-capture",
            "payments",
            capture("negative-capture", "amount_minor", json!(-5)),
            INVALID,
            "amount_minor",
        ),
        dead(
            "lower-case-currency",
            "payments",
            capture("lower-case-currency", "currency", json!("eur")),
            INVALID,
            "currency",
        ),
        dead("unknown-currency", "purchases", currency("unknown-currency", "QQQ"), INVALID, "currency"),
        dead("total-past-int64", "purchases", placed("total-past-int64", &large), INVALID, ""),
        dead("too-many-lines", "purchases", placed("too-many-lines", &json!(many)), INVALID, "lines"),
    ]
}

fn wrong_keys() -> Vec<Case> {
    let long = "k".repeat(256);
    let stranger = counted_as("key-contradicts", "counter", json!("somebody-else"));
    let foreign = (seriatim::core::partition::partition_of(b"second-partition", 4) + 1) % 4;
    let strayed = Sent { partition: Some(foreign), ..counted("second-partition") }.with("ce_id", "second-partition-2");
    vec![
        dead("null-key", "activity", Sent { key: None, partition: Some(0), ..counted("null-key") }, INVALID, "key"),
        dead("empty-key", "activity", counted("").with("ce_id", "empty-key"), INVALID, ""),
        dead("long-key", "activity", counted(&long).with("ce_id", "long-key"), INVALID, ""),
        dead(
            "key-is-no-utf8",
            "activity",
            Sent { key: Some(vec![0xc3, 0x28]), ..counted("key-is-no-utf8") },
            EITHER,
            "key",
        ),
        dead("key-contradicts", "activity", stranger, INVALID, "counter"),
        Case {
            before: vec![counted("second-partition")],
            ..dead("second-partition", "activity", strayed, &["wrong_partition"], "partition")
        },
    ]
}

fn outsized() -> Vec<Case> {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let deep_field = format!(r#"{{"counter":"deep-field","delta":1,"note":{deep}}}"#);
    let padded = counted_as("large-but-good", "padding", json!("x".repeat(1_000_000)));
    let taken = "select count(*) from shop.counter where counter = 'large-but-good' and value = 1".to_owned();
    vec![
        dead("deep-value", "activity", counted("deep-value").saying(deep), EITHER, ""),
        dead("deep-field", "activity", counted("deep-field").saying(deep_field), EITHER, ""),
        dead("large-garbage", "activity", counted("large-garbage").saying(MARKER.repeat(65_000)), UNDECODABLE, ""),
        Case { outcome: Outcome::Taken(taken), ..dead("large-but-good", "activity", padded, &[], "") },
    ]
}

/// Records that claim to be the worker's.
fn forged(prefix: &str) -> Vec<Case> {
    let source = format!("/seriatim/{prefix}purchases");
    let position = format!("{prefix}purchases/0/1/0");
    let reserve = json!({ "sku": "forged", "purchase_id": "forged", "quantity": 1 });
    let reserve = |id: &str| Sent::event("stock.reserve", id, "forged", &reserve);
    let ours = |id: &str| reserve(id).with("ce_source", &source);
    let elsewhere = format!("{prefix}stock/0/1/0");
    vec![
        dead("workers-source", "activity", counted("workers-source").with("ce_source", &source), INVALID, ""),
        dead("workers-type", "stock", reserve("workers-type"), INVALID, ""),
        dead("no-link", "stock", ours("no-link"), INVALID, "seriatim_"),
        dead(
            "no-sequence",
            "stock",
            ours("no-sequence").with("seriatim_position", &position),
            INVALID,
            "seriatim_sequence",
        ),
        dead("no-position", "stock", ours("no-position").with("seriatim_sequence", "1"), INVALID, "seriatim_position"),
        dead(
            "broken-position",
            "stock",
            ours("broken-position").with("seriatim_position", "nonsense").with("seriatim_sequence", "1"),
            INVALID,
            "seriatim_position",
        ),
        dead(
            "another-topics-position",
            "stock",
            ours("another-topics-position").with("seriatim_position", &elsewhere).with("seriatim_sequence", "1"),
            INVALID,
            "seriatim_position",
        ),
    ]
}

/// What was said before, with other content; and what comes much too early.
fn repeated() -> Vec<Case> {
    let numbered = |name: &str, number: &str, delta: i64| {
        counted_as(name, "delta", json!(delta)).with("ce_source", "/outside/numbered").with("ce_entityseq", number)
    };
    let far = numbered("far-ahead", "4611686018427387904", 1);
    vec![
        Case {
            before: vec![counted("same-id")],
            ..dead("same-id", "activity", counted_as("same-id", "delta", json!(2)), &["conflict"], "")
        },
        Case {
            before: vec![numbered("same-sequence", "1", 1)],
            ..dead("same-sequence", "activity", numbered("same-sequence", "1", 2), &["conflict"], "")
        },
        Case {
            before: vec![numbered("far-ahead", "1", 1)],
            outcome: Outcome::Buried,
            ..dead("far-ahead", "activity", far, &[], "")
        },
    ]
}
