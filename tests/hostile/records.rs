//! Records: decoded to an event or to a rejection with its reason, the same whenever it is asked, in memory that is in
//! proportion to the record.

use std::{fs, path::Path, sync::OnceLock};

use serde_json::{Value as Json, json};
use seriatim::{
    core::{
        catalog::Catalog,
        decode,
        event::{Arrival, Reason},
        header,
        partition::partition_of,
        record::{LaneId, Record},
    },
    shop,
};

use crate::{MEMORY, dice::Dice, mutate};

/// Partitions of every topic.
pub const PARTITIONS: i32 = 3;
/// A tree of small values takes many times the bytes of its text: this many, while its lists grow.
const TIMES_MAX: usize = 128;
/// What any record may take.
const BYTES_MAX: usize = 256 << 10;

/// All that the shop knows.
pub fn catalog() -> &'static Catalog {
    static CATALOG: OnceLock<Catalog> = OnceLock::new();
    CATALOG.get_or_init(|| {
        let catalog = shop::catalog(&shop::Settings::default(), "");
        let counts = catalog.all_topics().map(|topic| (topic, PARTITIONS)).collect();
        catalog.with_partitions(counts)
    })
}

/// A sound event of each type: topic, key, type, data.
fn sound(dice: &mut Dice) -> (&'static str, String, &'static str, Json) {
    let id = ["a", "b", "tea", "pay-a", "p-1", "ü"][dice.below(6)];
    let (topic, key, event_type, data) = match dice.below(10) {
        0 => (
            "purchases",
            id,
            "purchase.placed",
            json!({"purchase_id": id, "customer_id": "c", "currency": "EUR",
            "payment_method": "card", "lines": [{"sku": "tea", "quantity": 2, "unit_price_minor": 150},
            {"sku": "cup", "quantity": 1, "unit_price_minor": 0}]}),
        ),
        1 => ("purchases", id, "purchase.cancelled", json!({"purchase_id": id, "reason": "r"})),
        2 => (
            "payments",
            id,
            "payment.captured",
            json!({"payment_id": id, "amount_minor": 300, "currency": "EUR",
            "provider_ref": "r"}),
        ),
        3 => ("payments", id, "payment.declined", json!({"payment_id": id, "code": "c", "message": "m"})),
        4 => (
            "payments",
            id,
            "payment.refunded",
            json!({"payment_id": id, "amount_minor": 1, "currency": "EUR",
            "provider_ref": "r"}),
        ),
        5 => ("stock", id, "stock.received", json!({"sku": id, "quantity": 5})),
        6 => ("stock", id, "stock.adjusted", json!({"sku": id, "delta": -1, "reason": "r"})),
        7 => ("profiles", id, "profile.email_changed", json!({"user_id": id, "email": "a@example.org"})),
        8 => (
            "stock",
            id,
            "stock.reserve",
            json!({"sku": id, "purchase_id": "p", "quantity": 1, "saga":
            {"definition": "checkout", "id": "p", "step": "reserve", "branch": "tea", "attempt": 1, "undo": false}}),
        ),
        _ => ("activity", id, "activity.counted", json!({"counter": id, "delta": 1})),
    };
    (topic, key.to_owned(), event_type, data)
}

/// A record of a home topic, more or less broken.
pub fn record(dice: &mut Dice) -> (&'static str, Record) {
    let (topic, key, event_type, data) = sound(dice);
    let source = dice.of_these(&["/outside", "/other", "/seriatim/purchases", ""]);
    let mut attributes = vec![
        ("specversion", "1.0".to_owned()),
        ("id", format!("e-{}", dice.below(40))),
        ("source", source.to_owned()),
        ("type", event_type.to_owned()),
    ];
    let time = dice.of_these(&["2026-01-01T00:00:00Z", "9999-12-31T23:59:60+14:00", "now", "0000-00-00"]);
    attributes.extend(dice.one_in(4).then(|| ("time", time.to_owned())));
    let numbers = ["1", "2", "3", "9223372036854775807", "9223372036854775808", "0", "-1", "1e3", " 1"];
    attributes.extend(dice.one_in(2).then(|| ("entityseq", dice.of_these(&numbers).to_owned())));
    let mut headers: Vec<(header::Name, Option<Vec<u8>>)> = Vec::new();
    let mut value = if dice.one_in(3) {
        headers.push(("content-type".into(), Some(b"application/cloudevents+json; charset=utf-8".to_vec())));
        let mut envelope = serde_json::Map::new();
        for (name, text) in &attributes {
            envelope.insert((*name).to_owned(), text.as_str().into());
        }
        envelope.insert("data".to_owned(), data);
        Json::Object(envelope).to_string().into_bytes()
    } else {
        headers
            .extend(attributes.into_iter().map(|(name, text)| (format!("ce_{name}").into(), Some(text.into_bytes()))));
        data.to_string().into_bytes()
    };
    if source.starts_with("/seriatim/") {
        let positions = ["purchases/0/1/0", "purchases/1/9/9", "purchases/9/1/0", "stock/0/1", "purchases/0/-1/0"];
        headers.push(("seriatim_position".into(), Some(dice.of_these(&positions).into())));
        let number = dice.of_these(&["1", "2", "3", "9223372036854775807", "0", "x"]);
        headers.push(("seriatim_sequence".into(), Some(number.into())));
    }
    let mut key = key.into_bytes();
    if !dice.one_in(8) {
        mutate::bytes(dice, &mut value);
    }
    if dice.one_in(10) {
        mutate::bytes(dice, &mut key);
    }
    break_headers(dice, &mut headers);
    let key = (!dice.one_in(50)).then(|| key.into());
    let value = (!dice.one_in(50)).then(|| value.into());
    let headers = headers.into_iter().collect();
    (topic, Record { offset: 0, timestamp_ms: 1_767_225_600_000, key, value, headers })
}

fn break_headers(dice: &mut Dice, headers: &mut Vec<(header::Name, Option<Vec<u8>>)>) {
    if dice.one_in(4) {
        let at = dice.below(headers.len());
        if let Some(bytes) = headers.get_mut(at).and_then(|header| header.1.as_mut()) {
            mutate::bytes(dice, bytes);
        }
    }
    if dice.one_in(10) {
        let header = headers[dice.below(headers.len())].clone();
        headers.push(header);
    }
    if dice.one_in(20) {
        headers.remove(dice.below(headers.len()));
    }
    if dice.one_in(2_000) {
        headers
            .extend((0..100_000).map(|at| (format!("h{}", at % 7).into(), (at % 3 > 0).then(|| vec![b'x'; at % 11]))));
    }
}

/// The lane that a record belongs to, or now and then another.
pub fn lane(dice: &mut Dice, topic: &str, record: &Record) -> LaneId {
    let own = partition_of(record.key.as_deref().unwrap_or_default(), PARTITIONS);
    let partition = if dice.one_in(20) { (own + 1) % PARTITIONS } else { own };
    LaneId { topic: topic.to_owned(), partition }
}

/// Decodes a record, twice.
pub fn decoded(dice: &mut Dice) -> Result<(), String> {
    let (topic, record) = record(dice);
    let lane = lane(dice, topic, &record);
    judge(&lane, &record)
        .map_err(|error| format!("{error}\nkeep it as a file of tests/regressions:\n{}", written(&lane, &record)))
}

fn judge(lane: &LaneId, record: &Record) -> Result<(), String> {
    let copy = record.clone();
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let arrival = decode::open(catalog(), lane, copy);
    let taken = MEMORY.peak_usage().saturating_sub(before);
    let allowed = TIMES_MAX * record.bytes() + BYTES_MAX;
    if taken > allowed {
        return Err(format!("{taken} bytes of memory for a record of {}", record.bytes()));
    }
    let again = decode::open(catalog(), lane, record.clone());
    if told(&arrival) != told(&again) {
        return Err(format!("not the same twice: {:?} and {:?}", told(&arrival), told(&again)));
    }
    match &arrival.decoded {
        Err(rejection) => {
            let known = Reason::ALL.contains(&rejection.reason);
            if !known || rejection.error.is_empty() {
                Err(format!("a rejection that says nothing: {rejection:?}"))
            } else {
                Ok(())
            }
        }
        Ok(event) => {
            let laid_out = laid_out_anew(record).ok_or("an event whose value is no JSON")?;
            let anew = decode::open(catalog(), lane, laid_out);
            match &anew.decoded {
                Ok(anew) if anew.digest == event.digest && anew.id == event.id => Ok(()),
                other => Err(format!("another event with its value laid out anew: {event:?} and {other:?}")),
            }
        }
    }
}

/// What is said of a record.
fn told(arrival: &Arrival) -> String {
    format!("{:?} {:?}", arrival.link, arrival.decoded)
}

/// The same record with its JSON laid out for people.
fn laid_out_anew(record: &Record) -> Option<Record> {
    let json: Json = serde_json::from_slice(record.value.as_deref()?).ok()?;
    Some(Record { value: Some(format!(" {json:#}\n").into_bytes().into()), ..record.clone() })
}

/// Headers come out of their text as they went in, and nothing breaks what reads them.
pub fn kept(dice: &mut Dice) -> Result<(), String> {
    let (_, record) = record(dice);
    let text = header::to_text(&record.headers);
    let back = header::from_text(&text);
    if header::to_text(&back) != text {
        return Err(format!("headers change on their way: {:?}", record.headers));
    }
    let mut bytes = text.into_bytes();
    mutate::bytes(dice, &mut bytes);
    let _whatever = header::from_text(&String::from_utf8_lossy(&bytes));
    Ok(())
}

/// A record as a regression keeps it.
fn written(lane: &LaneId, record: &Record) -> String {
    let hex =
        |bytes: Option<&[u8]>| bytes.map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    let headers: Vec<Json> = record.headers.iter().take(100).map(|(name, value)| json!([name, hex(value)])).collect();
    let record = json!({"topic": lane.topic, "partition": lane.partition, "key": hex(record.key.as_deref()), "value": hex(record.value.as_deref()), "headers": headers});
    format!("{record:#}")
}

fn unhex(json: &Json) -> Option<Vec<u8>> {
    let text = json.as_str()?;
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()).collect()
}

/// Tries what was found once.
pub fn replay() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/regressions");
    let files = fs::read_dir(folder).expect("the regressions are a folder").map(|entry| entry.expect("a file").path());
    let mut count = 0;
    for file in files.filter(|file| file.extension().is_some_and(|ending| ending == "json")) {
        let kept: Json = serde_json::from_slice(&fs::read(&file).expect("a regression")).expect("a regression is JSON");
        let header = |header: &Json| (header::name(header[0].as_str().unwrap_or_default()), unhex(&header[1]));
        let headers = kept["headers"].as_array().into_iter().flatten().map(header).collect();
        let (key, value) = (unhex(&kept["key"]).map(Into::into), unhex(&kept["value"]).map(Into::into));
        let partition = kept["partition"].as_i64().and_then(|partition| i32::try_from(partition).ok()).unwrap_or(0);
        let lane = LaneId { topic: kept["topic"].as_str().unwrap_or_default().to_owned(), partition };
        let record = Record { offset: 0, timestamp_ms: 0, key, value, headers };
        judge(&lane, &record).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        count += 1;
    }
    assert!(count > 0, "no regression is kept");
    println!("| regressions | {count} | 0.0 | 0 | 0 |");
}
