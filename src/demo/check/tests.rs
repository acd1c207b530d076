//! Each invariant fails on tables that break it, and only then.

use serde_json::json;
use seriatim::{
    core::{ledger::Journal, rows::Micros},
    shop::{
        payment::Payment,
        purchase::{Line, Purchase},
        stock::{Item, Reservation},
    },
};

use super::*;

/// One purchase of two units out of five received, completed, told and paid.
fn at_rest() -> (Tables, Topics, u64) {
    let text = |text: &str| text.to_owned();
    let lane = |topic: &str| LaneId { topic: topic.to_owned(), partition: 0 };
    let opened = |kind: &str, key: &str, data| Opened { key: text(key), id: text("m"), kind: text(kind), data };
    let received = opened("stock.received", "tea", json!({"sku": "tea", "quantity": 5}));
    let told = opened("purchase.completed", "p", json!({}));
    let mut tables = Tables {
        stock: vec![Item { sku: text("tea"), on_hand: 3, reserved: 0 }],
        purchases: vec![Purchase {
            purchase_id: text("p"),
            customer_id: text("c"),
            status: PurchaseStatus::Completed,
            reason: None,
            total_minor: 10,
            currency: text("EUR"),
            payment_method: text("card"),
        }],
        lines: vec![Line { purchase_id: text("p"), sku: text("tea"), quantity: 2, unit_price_minor: 5 }],
        payments: vec![paid()],
        journal: vec![journal(1)],
        ..Tables::default()
    };
    tables.reservations.push(reservation("tea", "p", ReservationStatus::Committed));
    win_the_races(&mut tables);
    let places = [((lane("stock"), 0), received), ((lane(crate::demo::world::OUTCOMES), 0), told)];
    (tables, Topics { records: 7, opened: places.into_iter().collect() }, 7)
}

fn reservation(sku: &str, purchase_id: &str, status: ReservationStatus) -> Reservation {
    Reservation { sku: sku.to_owned(), purchase_id: purchase_id.to_owned(), quantity: 2, status }
}

fn paid() -> Payment {
    Payment {
        payment_id: "pay-p".to_owned(),
        purchase_id: "p".to_owned(),
        amount_minor: 10,
        captured_minor: 10,
        refunded_minor: 0,
        currency: "EUR".to_owned(),
        status: PaymentStatus::Captured,
        method: "card".to_owned(),
        charge_asker: None,
        refund_asker: None,
        attempts: 1,
    }
}

fn journal(version: i64) -> Journal {
    Journal {
        kind: "stock".to_owned(),
        entity_id: "tea".to_owned(),
        source: "/warehouse".to_owned(),
        number: version,
        batch: 1,
        idx: 0,
        version: Some(version),
        outcome: "applied".to_owned(),
        event_id: "e".to_owned(),
        event_type: "stock.received".to_owned(),
        sequence: None,
        topic: "stock".to_owned(),
        partition: 0,
        record_offset: 0,
        epoch: 1,
        digest: None,
        note: None,
        at: Micros(0),
    }
}

fn win_the_races(tables: &mut Tables) {
    tables.profiles = (0..races::USERS)
        .map(|at| seriatim::shop::profile::Profile {
            user_id: races::user(at),
            email: Some(races::email(at)),
            password_hash: Some(races::password_hash(at)),
        })
        .collect();
    let value = i64::try_from(races::SENSORS.len()).unwrap() * races::COUNTS;
    tables.counters = (0..races::COUNTERS)
        .map(|at| seriatim::shop::counter::Counter { counter: races::counter(at), value })
        .collect();
}

/// The checks that a change makes fail.
fn failing(change: impl FnOnce(&mut Tables, &mut Topics)) -> Vec<&'static str> {
    let (mut tables, mut topics, ended) = at_rest();
    change(&mut tables, &mut topics);
    let checks = all(&tables, &topics, ended);
    let failing: Vec<_> = checks.iter().filter(|check| !check.holds()).map(|check| check.says).collect();
    assert_eq!(verdict(&checks) == Exit::Done, failing.is_empty());
    failing
}

#[test]
fn a_shop_at_rest_breaks_nothing() {
    assert_eq!(failing(|_, _| {}), [""; 0]);
}

#[test]
fn a_record_without_an_outcome_is_found() {
    assert_eq!(failing(|_, topics| topics.records += 1), ["every record has exactly one outcome"]);
}

#[test]
fn goods_that_are_gone_or_kept_are_found() {
    let on_hand = "on hand is what was received and adjusted less what was committed";
    assert_eq!(failing(|tables, _| tables.stock[0].on_hand = 2), [on_hand]);
    assert_eq!(failing(|tables, _| tables.stock[0].reserved = 1), ["nothing is reserved"]);
    let handed_over = "a completed purchase is handed over and paid in full";
    let released = |tables: &mut Tables| tables.reservations[0].status = ReservationStatus::Released;
    assert_eq!(failing(|tables, _| released(tables)), [on_hand, handed_over]);
}

#[test]
fn money_that_is_missing_or_kept_is_found() {
    let handed_over = "a completed purchase is handed over and paid in full";
    assert_eq!(failing(|tables, _| tables.payments[0].captured_minor = 9), [handed_over]);
    let under_way = "no payment is under way";
    assert_eq!(failing(|tables, _| tables.payments[0].status = PaymentStatus::Refunding), [under_way]);
    let rejected = |tables: &mut Tables, topics: &mut Topics| {
        tables.purchases[0].status = PurchaseStatus::Rejected;
        topics.opened.values_mut().for_each(|opened| opened.kind = "purchase.rejected".to_owned());
    };
    assert_eq!(failing(rejected), ["a rejected purchase keeps no goods and no money"]);
}

#[test]
fn an_outcome_that_is_missing_doubled_or_wrong_is_found() {
    let told = "every purchase has ended with one message that says so";
    assert_eq!(failing(|_, topics| topics.opened.retain(|(lane, _), _| lane.topic == "stock")), [told]);
    let again = |topics: &mut Topics| {
        let ((lane, _), opened) = topics.opened.first_key_value().map(|(at, one)| (at.clone(), one.clone())).unwrap();
        topics.opened.insert((lane, 9), Opened { id: "other".to_owned(), ..opened });
    };
    assert_eq!(failing(|_, topics| again(topics)), [told]);
    assert_eq!(failing(|tables, _| tables.purchases[0].status = PurchaseStatus::Pending).first(), Some(&told));
}

#[test]
fn a_repeated_or_missing_version_is_found() {
    let versions = "versions in the journal have no gap and no repeat";
    let found = failing(|tables, _| tables.journal.push(Journal { number: 3, ..journal(3) }));
    assert!(found.contains(&versions), "{found:?}");
    let found = failing(|tables, _| tables.journal.push(Journal { number: 2, ..journal(1) }));
    assert!(found.contains(&versions), "{found:?}");
}

#[test]
fn a_lost_race_is_found() {
    let lost = "the races have lost nothing";
    assert_eq!(failing(|tables, _| tables.counters[0].value -= 1), [lost]);
    assert_eq!(failing(|tables, _| tables.profiles[0].email = None), [lost]);
    let sold = |tables: &mut Tables| {
        let item = races::item(0);
        tables.stock.push(Item { sku: item.clone(), on_hand: -2, reserved: 0 });
        tables.reservations.push(reservation(&item, "p", ReservationStatus::Committed));
    };
    assert_eq!(failing(|tables, _| sold(tables)), [lost]);
}
