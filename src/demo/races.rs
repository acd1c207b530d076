//! Three classic races as events: two buyers of a last item, two devices of a user, four sensors of a counter.
//!
//! Both sides read these same records. Nothing is doubled, late or malformed here: what is lost, concurrency loses.

use serde_json::json;

use super::wire::{self, Event};

/// Names of the entities in the races begin so.
pub const PREFIX: &str = "race-";
/// Items of which one is left, each wanted by two.
pub const ITEMS: usize = 10;
/// Users who change their address on one device and their password on another.
pub const USERS: usize = 10;
/// Counters that four sensors raise.
pub const COUNTERS: usize = 5;
/// The sensors: as many tasks as the textbook consumer has.
pub const SENSORS: [&str; 4] = ["/sensor/north", "/sensor/east", "/sensor/south", "/sensor/west"];
/// How often each sensor raises each counter.
pub const COUNTS: i64 = 6;
/// How many records the races are.
pub const RECORDS: usize = ITEMS * 3 + USERS * 2 + COUNTERS * SENSORS.len() * COUNTS as usize;

pub fn item(at: usize) -> String {
    format!("{PREFIX}item-{at}")
}

pub fn user(at: usize) -> String {
    format!("{PREFIX}user-{at}")
}

pub fn counter(at: usize) -> String {
    format!("{PREFIX}counter-{at}")
}

pub fn email(at: usize) -> String {
    format!("new-{at}@example.org")
}

pub fn password_hash(at: usize) -> String {
    format!("argon2id-new-{at}")
}

/// One unit of each item.
pub fn stock() -> Vec<Event> {
    (0..ITEMS)
        .map(|at| Event {
            topic: "stock",
            key: item(at),
            source: "/warehouse/races",
            id: format!("{PREFIX}received-{at}"),
            kind: "stock.received",
            sequence: None,
            data: json!({ "sku": item(at), "quantity": 1 }),
        })
        .collect()
}

/// Everything that happens at once.
pub fn rivals() -> Vec<Event> {
    let mut events = Vec::with_capacity(RECORDS);
    for at in 0..ITEMS {
        events.extend(["a", "b"].map(|buyer| {
            let purchase_id = format!("{PREFIX}buy-{at}-{buyer}");
            Event {
                topic: "purchases",
                source: "/shop/races",
                id: format!("{purchase_id}-placed"),
                kind: "purchase.placed",
                sequence: None,
                data: wire::placed(&purchase_id, 0, &[(item(at), 1, 1_999)]),
                key: purchase_id,
            }
        }));
    }
    for at in 0..USERS {
        let change = |source, kind, name: &str, value: String| Event {
            topic: "profiles",
            key: user(at),
            source,
            id: format!("{PREFIX}{name}-{at}"),
            kind,
            sequence: Some(1),
            data: json!({ "user_id": user(at), name: value }),
        };
        events.push(change("/device/phone", "profile.email_changed", "email", email(at)));
        events.push(change("/device/laptop", "profile.password_changed", "password_hash", password_hash(at)));
    }
    for at in 0..COUNTERS {
        for turn in 1..=COUNTS {
            events.extend(SENSORS.map(|source| Event {
                topic: "activity",
                key: counter(at),
                source,
                id: format!("{source}-{at}-{turn}"),
                kind: "activity.counted",
                sequence: Some(turn),
                data: json!({ "counter": counter(at), "delta": 1 }),
            }));
        }
    }
    events
}

/// What went wrong in the three races, on one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Units sold beyond what was there.
    pub oversold: i64,
    /// Profile changes that are gone.
    pub updates: i64,
    /// Increments that are gone.
    pub increments: i64,
}

#[cfg(test)]
mod tests {
    use super::{RECORDS, rivals, stock};

    #[test]
    fn the_races_are_as_many_records_as_they_say() {
        assert_eq!(stock().len() + rivals().len(), RECORDS);
    }
}
