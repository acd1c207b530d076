//! Records that no worker should choke on: each kind of dead letter, made on purpose.

use serde_json::json;
use seriatim::core::message::Message;

use super::wire::{self, Event};

/// Far before any window in which ids are known: a day in 2017.
const LONG_AGO_MS: i64 = 1_500_000_000_000;

/// One of each sort, told apart by `number`. Some reasons have several.
pub fn assortment(number: usize, partitions: i32) -> Vec<Message> {
    let mut messages = undecodable(number, partitions);
    messages.extend(invalid(number, partitions));
    messages.extend(misplaced(number, partitions));
    messages
}

fn counted(key: String) -> Event {
    Event {
        topic: "activity",
        source: "/edge/broken",
        id: format!("id-{key}"),
        kind: "activity.counted",
        sequence: None,
        data: json!({ "counter": key, "delta": 1 }),
        key,
    }
}

/// No JSON, no UTF-8, no type, a broken envelope.
fn undecodable(number: usize, partitions: i32) -> Vec<Message> {
    let good = counted(format!("bad-bytes-{number}"));
    let cut = Message { value: Some(b"{\"counter\": \"bad".as_slice().into()), ..good.binary(partitions) };
    let latin = Message { value: Some(b"{\"counter\": \"caf\xe9\"}".as_slice().into()), ..good.binary(partitions) };
    let mut untyped = good.binary(partitions);
    untyped.headers = untyped.headers.kept(usize::MAX, |name| name != "ce_type");
    let broken = Message { value: Some(b"[]".as_slice().into()), ..good.structured(partitions) };
    vec![cut, latin, untyped, broken]
}

/// Data that breaks the table of its event, a key that does not fit, a worker's name on a stranger's record.
fn invalid(number: usize, partitions: i32) -> Vec<Message> {
    let id = |word: &str| format!("bad-{word}-{number}");
    let placed = |purchase_id: String, quantity: i64, price: i64| Event {
        topic: "purchases",
        source: "/shop/broken",
        id: format!("{purchase_id}-placed"),
        kind: "purchase.placed",
        sequence: None,
        data: wire::placed(&purchase_id, 1, &[("sku-000".to_owned(), quantity, price)]),
        key: purchase_id,
    };
    let negative = placed(id("price"), 1, -5).binary(partitions);
    let nothing = placed(id("quantity"), 0, 5).binary(partitions);
    let wide = Event { data: json!({ "counter": id("wide"), "delta": 1e30 }), ..counted(id("wide")) };
    let other = Event { data: json!({ "counter": "another", "delta": 1 }), ..counted(id("key")) };
    let keyless = Message { key: None, ..counted(id("keyless")).binary(partitions) };
    let empty = Message { value: Some([].into()), ..counted(id("empty")).binary(partitions) };
    let forged = Event { source: "/seriatim/purchases", ..counted(id("forged")) };
    vec![
        negative,
        nothing,
        wide.binary(partitions),
        other.binary(partitions),
        keyless,
        empty,
        forged.binary(partitions),
    ]
}

/// Sound in themselves, and wrong where or when they come.
fn misplaced(number: usize, partitions: i32) -> Vec<Message> {
    let id = |word: &str| format!("bad-{word}-{number}");
    let unknown = Event { kind: "activity.guessed", ..counted(id("type")) };
    let mut elsewhere = counted(id("partition")).binary(partitions);
    elsewhere.to.partition = (elsewhere.to.partition + 1) % partitions;
    let old = Message { timestamp_ms: Some(LONG_AGO_MS), ..counted(id("old")).binary(partitions) };
    let ahead = Event { sequence: Some(1_000_000), ..counted(id("ahead")) };
    let payment_id = id("payment");
    let orphan = Event {
        topic: "payments",
        source: "/gateway/other",
        id: format!("{payment_id}-declined"),
        kind: "payment.declined",
        sequence: None,
        data: json!({ "payment_id": payment_id, "code": "0", "message": "nobody asked" }),
        key: payment_id,
    };
    vec![unknown.binary(partitions), elsewhere, old, ahead.binary(partitions), orphan.structured(partitions)]
}
