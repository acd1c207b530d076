//! Checkouts over several lanes, in any order of turns, with crashes and messages that arrive twice: at rest
//! all adds up.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use seriatim::{
    core::{
        ledger,
        message::Message,
        record::{LaneId, Record},
        rows::Row,
    },
    shop::{
        self,
        payment::{Payment, PaymentStatus},
        purchase::{Purchase, PurchaseStatus},
        stock::{Item, Reservation, ReservationStatus},
    },
};

use super::{
    lane_world::{self, Crash, MINUTE, World},
    told::{End, record},
};

const SKUS: [&str; 3] = ["tea", "cup", "pot"];

/// What the gateway says to a purchase's capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gateway {
    Captures,
    Declines,
    Silent,
}

#[derive(Clone, Debug)]
struct Order {
    lines: BTreeSet<&'static str>,
    gateway: Gateway,
    cancelled: bool,
}

#[derive(Clone, Copy, Debug)]
struct Turn {
    lane: prop::sample::Index,
    size: usize,
    end: End,
    twice: bool,
}

fn orders() -> impl Strategy<Value = Order> {
    let lines = prop::collection::btree_set(prop::sample::select(SKUS.to_vec()), 1..=3);
    let gateway = prop_oneof![3 => Just(Gateway::Captures), 1 => Just(Gateway::Declines), 1 => Just(Gateway::Silent)];
    (lines, gateway, prop::bool::weighted(0.3)).prop_map(|(lines, gateway, cancelled)| Order {
        lines,
        gateway,
        cancelled,
    })
}

fn turns() -> impl Strategy<Value = Turn> {
    let end = prop_oneof![5 => Just(End::Well), 1 => Just(End::LostBefore), 1 => Just(End::LostAfter)];
    (any::<prop::sample::Index>(), 1_usize..4, end, prop::bool::weighted(0.2))
        .prop_map(|(lane, size, end, twice)| Turn { lane, size, end, twice })
}

fn named(key: &str, id: &str, kind: &str, data: &Json) -> Record {
    let mut record = record(key, "/outside", None, kind, data);
    record.headers = record.headers.kept(usize::MAX, |name| name != "ce_id");
    record.headers.write("ce_id", id);
    record
}

fn purchase_number(key: &str) -> usize {
    key.rsplit('p').next().unwrap().parse().unwrap()
}

/// Answers what was asked since the last time. Whether there was anything.
fn answer(world: &mut World, orders: &[Order], read: &mut usize) -> bool {
    let asked: Vec<Message> = world.told.sent[*read..].to_vec();
    *read += asked.len();
    let mut did = false;
    for message in asked.iter().filter(|message| message.to.topic == "payment-requests") {
        let key = String::from_utf8(message.key.as_deref().unwrap().to_vec()).unwrap();
        let data: Json = serde_json::from_slice(message.value.as_deref().unwrap()).unwrap();
        let gateway = orders[purchase_number(&key)].gateway;
        let money =
            json!({ "payment_id": key, "amount_minor": data["amount_minor"], "currency": "EUR", "provider_ref": "r" });
        let refund = message.headers.get("ce_type") == Some(b"payment.refund_requested");
        let reply = match (refund, gateway) {
            (true, _) => named(&key, "refund", "payment.refunded", &money),
            (false, Gateway::Captures) => named(&key, "capture", "payment.captured", &money),
            (false, Gateway::Declines) => {
                let data = json!({ "payment_id": key, "code": "no", "message": "no" });
                named(&key, "capture", "payment.declined", &data)
            }
            (false, Gateway::Silent) => continue,
        };
        world.append("payments", reply);
        did = true;
    }
    did
}

fn rows<R: Row>(world: &mut World) -> Vec<R> {
    world.rows(R::table(), vec![]).iter().map(|row| R::from_cells(row).unwrap()).collect()
}

fn all_adds_up(world: &mut World, orders: &[Order], stocked: i64) -> Result<(), TestCaseError> {
    for table in [&ledger::HELD, &ledger::PARKED, &ledger::WAITING, &ledger::DEAD_LETTER, &ledger::DEBT] {
        let left = world.rows(table, vec![]);
        prop_assert!(left.is_empty(), "{} holds {left:?}", table.name);
    }
    let mut handed_over: BTreeMap<String, i64> = BTreeMap::new();
    for reservation in rows::<Reservation>(world) {
        prop_assert_ne!(reservation.status, ReservationStatus::Reserved);
        if reservation.status == ReservationStatus::Committed {
            *handed_over.entry(reservation.sku).or_insert(0) += reservation.quantity;
        }
    }
    for item in rows::<Item>(world).into_iter().filter(|item| item.on_hand > 0) {
        prop_assert_eq!(item.reserved, 0);
        prop_assert_eq!(item.on_hand, stocked - handed_over.get(&item.sku).copied().unwrap_or(0));
    }
    let payments: BTreeMap<String, Payment> =
        rows::<Payment>(world).into_iter().map(|payment| (payment.purchase_id.clone(), payment)).collect();
    let purchases = rows::<Purchase>(world);
    prop_assert_eq!(purchases.len(), orders.len());
    for purchase in purchases {
        let kept =
            payments.get(&purchase.purchase_id).map_or(0, |payment| payment.captured_minor - payment.refunded_minor);
        let (expected, completed) = match purchase.status {
            PurchaseStatus::Completed => (purchase.total_minor, true),
            PurchaseStatus::Rejected => (0, false),
            PurchaseStatus::Pending => return Err(TestCaseError::fail(format!("{purchase:?} is open"))),
        };
        prop_assert_eq!(kept, expected);
        let order = &orders[purchase_number(&purchase.purchase_id)];
        prop_assert!(!completed || order.gateway == Gateway::Captures);
        let outcomes = world.told.sent.iter().filter(|message| {
            message.to.topic == "purchase-outcomes" && message.key.as_deref() == Some(purchase.purchase_id.as_bytes())
        });
        prop_assert_eq!(outcomes.count(), 1);
    }
    let open =
        payments.values().find(|payment| matches!(payment.status, PaymentStatus::Requested | PaymentStatus::Refunding));
    prop_assert!(open.is_none(), "{:?} is open", open);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn checkouts_end_whole(
        orders in prop::collection::vec(orders(), 1..5),
        turns in prop::collection::vec(turns(), 0..60),
        stocked in 1_i64..4,
    ) {
        let mut world = World::new(shop::catalog(&shop::Settings::default(), ""), lane_world::limits(), 2);
        for sku in SKUS {
            world.append("stock", named(sku, "s", "stock.received", &json!({ "sku": sku, "quantity": stocked })));
        }
        for (number, order) in orders.iter().enumerate() {
            let id = format!("p{number}");
            let lines: Vec<Json> =
                order.lines.iter().map(|sku| json!({ "sku": sku, "quantity": 1, "unit_price_minor": 100 })).collect();
            let data = json!({
                "purchase_id": id, "customer_id": "c", "currency": "EUR", "payment_method": "card", "lines": lines,
            });
            world.append("purchases", named(&id, "placed", "purchase.placed", &data));
            if order.cancelled {
                let data = json!({ "purchase_id": id, "reason": "mind" });
                world.append("purchases", named(&id, "cancelled", "purchase.cancelled", &data));
            }
        }
        let lanes: Vec<LaneId> = ["purchases", "payments", "stock"]
            .iter()
            .flat_map(|topic| (0..2).map(|partition| LaneId { topic: (*topic).to_owned(), partition }))
            .collect();
        let mut read = 0;
        for turn in turns {
            let lane = turn.lane.get(&lanes).clone();
            world.batch_max = turn.size;
            let inputs = world.gather(&lane);
            let crash = match turn.end {
                End::LostBefore => Some(Crash::BeforeCommit),
                End::LostAfter => Some(Crash::AfterCommit),
                End::Well | End::Restart => None,
            };
            let done = world.turn(&lane, &inputs, crash);
            if turn.twice && crash != Some(Crash::BeforeCommit) {
                done.decided.messages.iter().for_each(|message| world.relay(message));
            }
            answer(&mut world, &orders, &mut read);
        }
        world.batch_max = 1000;
        for _ in 0..40 {
            world.run();
            while answer(&mut world, &orders, &mut read) {
                world.run();
            }
            world.pass_time(MINUTE);
        }
        all_adds_up(&mut world, &orders, stocked)?;
    }
}
