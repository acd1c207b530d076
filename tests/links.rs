//! Links between lanes when the database loses commits whose messages had been sent: the same work done again says
//! the same and nobody notices; what goes on differently is a fork, and halts who would have taken it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/lane_world.rs"]
mod lane_world;

use lane_world::World;
use serde_json::json;
use seriatim::{
    core::{
        batch::{Halt, Outcome},
        ledger::{LINK_IN, LINK_OUT, LinkIn, LinkOut},
        link,
        message::Message,
        record::{LaneId, Record},
        table::Value,
    },
    shop,
};

fn world() -> World {
    World::new(shop::catalog(&shop::Settings::default(), ""), lane_world::limits(), 1)
}

fn lane(topic: &str) -> LaneId {
    LaneId { topic: topic.to_owned(), partition: 0 }
}

fn placed(purchase: &str, sku: &str) -> Record {
    let data = json!({
        "purchase_id": purchase, "customer_id": "c", "currency": "EUR", "payment_method": "card",
        "lines": [{ "sku": sku, "quantity": 1, "unit_price_minor": 100 }],
    });
    let headers = [("specversion", "1.0"), ("id", purchase), ("source", "/shop"), ("type", "purchase.placed")];
    Record {
        offset: 0,
        timestamp_ms: lane_world::BEGIN / 1000,
        key: Some(purchase.as_bytes().into()),
        value: Some(data.to_string().into_bytes().into()),
        headers: headers.iter().map(|(name, text)| (format!("ce_{name}"), Some(text))).collect(),
    }
}

/// A world that has sold once, then lost what it did for a second purchase: its messages had been sent.
fn after_lost_commits(second: &str) -> World {
    let mut world = world();
    world.append("purchases", placed("first", "tea"));
    world.run();
    let standby = world.store.snapshot();
    world.append("purchases", placed("second", second));
    world.run();
    world.store.restore(standby);
    world.restart();
    world
}

fn header<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    message.headers.text(name)
}

/// Each link's count and digest at its sender, and at its receiver, where that is a lane of ours.
fn compare_ends(world: &mut World) {
    let received: Vec<LinkIn> = world.rows(&LINK_IN, vec![]).iter().filter_map(|row| LinkIn::read(row)).collect();
    assert!(!received.is_empty());
    for link in received {
        let key = vec![Value::text(&link.from_topic), Value::Int(0), Value::text(&link.topic), Value::Int(0)];
        let sent = LinkOut::read(&world.rows(&LINK_OUT, key)[0]).unwrap();
        assert_eq!((sent.sent, &sent.digest), (link.mark, &link.digest), "{} to {}", link.from_topic, link.topic);
        assert!(link.digest.is_some());
    }
}

#[test]
fn a_message_carries_the_running_digest_of_its_link_and_the_timeline() {
    let mut world = world();
    world.append("purchases", placed("first", "nothing"));
    world.append("purchases", placed("second", "nothing"));
    world.run();
    compare_ends(&mut world);
    let mut before = None;
    for message in world.told.sent.iter().filter(|message| message.to == lane("stock")) {
        let text = |name| header(message, name).unwrap().as_bytes();
        let parts =
            [text("ce_id"), text("ce_type"), message.key.as_deref().unwrap(), message.value.as_deref().unwrap()];
        let digest = link::chain(before.as_ref().map(<[u8; 16]>::as_slice), parts);
        let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(header(message, "seriatim_digest"), Some(digits.as_str()));
        assert_eq!(header(message, "seriatim_timeline"), Some("1"));
        before = Some(digest);
    }
    assert!(before.is_some());
}

#[test]
fn the_same_work_done_again_after_lost_commits_is_no_fork() {
    let mut world = after_lost_commits("tea");
    let sent = world.told.sent.len();
    world.run();
    assert!(world.told.halts.is_empty(), "{:?}", world.told.halts);
    assert!(world.told.sent[sent..].iter().all(|message| header(message, "seriatim_timeline") == Some("2")));
    assert!(world.told.sent.len() > sent, "the work was not done again");
    assert!(world.told.tally[&Outcome::Duplicate] > 0);
    compare_ends(&mut world);
}

#[test]
fn what_goes_on_differently_after_lost_commits_halts_its_receiver() {
    let mut world = after_lost_commits("tea");
    // The brokers have lost the record as well, and another has its place.
    let log = world.logs.get_mut(&lane("purchases")).unwrap();
    let lost = log.iter().position(|record| record.key.as_deref() == Some(b"second")).unwrap();
    log[lost] = Record { offset: log[lost].offset, ..placed("other", "tea") };
    world.run();
    let Some(Halt::Fork(why)) = world.told.halts.get(&lane("stock")) else {
        panic!("the fork is passed in silence: {:?}", world.told.halts)
    };
    assert!(
        why.contains("link purchases/0") && why.contains("its timeline: 2, that of the last one taken: 1"),
        "{why}"
    );
}
