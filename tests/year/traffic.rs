//! What one day brings, the same every year: no dice, but remainders.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use seriatim::{
    core::{
        header::Headers,
        ledger::{QUARANTINE, Quarantine},
        obey::action,
        record::{LaneId, Record},
        rows::Row as _,
    },
    shop::{
        self,
        purchase::{Purchase, PurchaseStatus},
    },
};

use super::{
    lane_world::{MINUTE, World},
    letters,
};

/// A day of the clock.
pub const DAY: i64 = 1440 * MINUTE;

const SKUS: [&str; 4] = ["tea", "cup", "pot", "tray"];
/// Parts of a day: in each of them everything happens once.
const PARTS: i64 = 2;

/// What the producers remember.
#[derive(Default)]
pub struct Traffic {
    numbers: BTreeMap<String, i64>,
    /// How far the gateway has read each partition of what it is asked.
    asked: BTreeMap<LaneId, usize>,
    sent: i64,
    purchases: usize,
}

impl Traffic {
    /// Fills the shelves.
    pub fn new(world: &mut World) -> Self {
        let mut traffic = Self::default();
        for sku in SKUS {
            traffic.send(world, "stock", sku, "stock.received", None, json!({ "sku": sku, "quantity": 1_000_000 }));
        }
        world.run();
        traffic
    }

    /// How many purchases were placed.
    pub fn purchases(&self) -> usize {
        self.purchases
    }

    /// Lets a day pass.
    pub fn day(&mut self, world: &mut World, day: i64) {
        for part in 0..PARTS {
            self.count(world);
            self.change_profiles(world);
            self.buy(world, day * PARTS + part);
            self.misbehave(world, day * PARTS + part);
            world.run();
            self.answer(world);
            world.run();
            // Past every deadline of a checkout, of a gap, of what waits.
            for _ in 0..4 {
                world.pass_time(20 * MINUTE);
                world.run();
                self.answer(world);
            }
            settle(world);
            world.run();
            world.forget();
            world.pass_time(DAY / PARTS - 4 * 20 * MINUTE);
            world.run();
        }
        world.told.sent.clear();
        world.told.alarms.clear();
    }

    /// Every checkout has come to an end, and is told by its purchase.
    pub fn every_purchase_has_ended(&self, world: &mut World) {
        let rows = world.rows(Purchase::table(), vec![]);
        let purchases: Vec<Purchase> = rows.iter().filter_map(|row| Purchase::from_cells(row)).collect();
        assert_eq!(purchases.len(), self.purchases);
        for status in [PurchaseStatus::Completed, PurchaseStatus::Rejected] {
            assert!(purchases.iter().filter(|purchase| purchase.status == status).count() > self.purchases / 10);
        }
        let pending = purchases.iter().filter(|purchase| purchase.status == PurchaseStatus::Pending).count();
        assert_eq!(pending, 0);
    }

    /// Events that are known by their ids, some of them sent twice.
    fn count(&mut self, world: &mut World) {
        for n in 0..40 {
            let counter = format!("c{}", n % 6);
            let data = json!({ "counter": counter, "delta": 1 });
            let record = self.send(world, "activity", &counter, "activity.counted", None, data);
            if n % 6 == 0 {
                world.append("activity", record);
            }
        }
    }

    /// Events that are known by their numbers, some of them sent twice, some in the wrong order.
    fn change_profiles(&mut self, world: &mut World) {
        let mut late = None;
        for n in 0..30 {
            let user = format!("u{}", n % 10);
            let number = self.next(&user);
            let data = json!({ "user_id": user, "email": format!("{user}-{number}@example.org") });
            let record = self.record(world, &user, "profile.email_changed", Some(number), &data);
            if n == 3 {
                late = Some(record);
                continue;
            }
            world.append("profiles", record.clone());
            if n % 7 == 0 {
                world.append("profiles", record);
            }
        }
        world.append("profiles", late.unwrap());
    }

    fn buy(&mut self, world: &mut World, part: i64) {
        for n in 0..4 {
            let id = format!("p{part}-{n}");
            let lines: Vec<Json> = SKUS[..1 + n % 2]
                .iter()
                .map(|sku| json!({ "sku": sku, "quantity": if n == 3 { 2_000_000_000_i64 } else { 1 }, "unit_price_minor": 100 }))
                .collect();
            let data = json!({ "purchase_id": id, "customer_id": "c", "currency": "EUR", "payment_method": "card", "lines": lines });
            let record = self.send(world, "purchases", &id, "purchase.placed", None, data.clone());
            self.purchases += 1;
            match n {
                0 => drop(world.append("purchases", record)),
                1 if part % 2 == 0 => {
                    let data = json!({ "purchase_id": id, "reason": "changed my mind" });
                    self.send(world, "purchases", &id, "purchase.cancelled", None, data);
                }
                // Placed again under another id: refused.
                2 => drop(self.send(world, "purchases", &id, "purchase.placed", None, data)),
                _ => {}
            }
        }
    }

    /// What cannot be read, what is about nothing, what fails, what leaves a gap.
    fn misbehave(&mut self, world: &mut World, part: i64) {
        let mut broken = self.record(world, "c0", "activity.counted", None, &json!({}));
        broken.value = Some(b"no json".as_slice().into());
        world.append("activity", broken);
        let payment = format!("unknown-{part}");
        let data = json!({ "payment_id": payment, "amount_minor": 1, "currency": "EUR", "provider_ref": "r" });
        self.send(world, "payments", &payment, "payment.captured", None, data);
        for (topic, word) in
            [("strict", "fine"), ("strict", "fail"), ("easy", "fail"), ("easy", "fine"), ("plain", "fine")]
        {
            let name = format!("{topic}-{}", part % 5);
            let mut number = self.next(&name);
            if topic == "easy" && word == "fine" {
                // The number before it never comes.
                number = self.next(&name);
            }
            let data = json!({ "tally": name, "word": word });
            let record = self.record(world, &name, "tally.noted", Some(number), &data);
            world.append(topic, record);
        }
    }

    /// The gateway: captures most, declines some, forgets a few; gives all back that it is asked for.
    fn answer(&mut self, world: &mut World) {
        let lanes: Vec<LaneId> =
            world.logs.keys().filter(|lane| lane.topic == shop::payment::REQUESTS).cloned().collect();
        for lane in lanes {
            let read = self.asked.entry(lane.clone()).or_insert(0);
            let requests = world.logs[&lane][*read..].to_vec();
            *read += requests.len();
            for request in requests {
                self.answer_one(world, &request);
            }
        }
        world.run();
    }

    fn answer_one(&mut self, world: &mut World, request: &Record) {
        let asked: Json = serde_json::from_slice(request.value.as_deref().unwrap()).unwrap();
        let id = asked["payment_id"].as_str().unwrap().to_owned();
        let money =
            json!({ "payment_id": id, "amount_minor": asked["amount_minor"], "currency": "EUR", "provider_ref": "r" });
        let (kind, data) = match (request.headers.get("ce_type"), id.bytes().map(usize::from).sum::<usize>() % 7) {
            (Some(b"payment.refund_requested"), _) => ("payment.refunded", money),
            (_, 0) => ("payment.declined", json!({ "payment_id": id, "code": "no", "message": "no funds" })),
            (_, 1) => return,
            _ => ("payment.captured", money),
        };
        let mut record = self.record(world, &id, kind, None, &data);
        // One answer for each request, however often it is made.
        record.headers = record.headers.kept(usize::MAX, |name| name != "ce_id");
        record.headers.write("ce_id", format_args!("{kind}-{id}"));
        world.append("payments", record);
    }

    fn next(&mut self, stream: &str) -> i64 {
        let number = self.numbers.entry(stream.to_owned()).or_insert(0);
        *number += 1;
        *number
    }

    fn send(&mut self, world: &mut World, topic: &str, key: &str, kind: &str, seq: Option<i64>, data: Json) -> Record {
        let record = self.record(world, key, kind, seq, &data);
        world.append(topic, record.clone());
        record
    }

    fn record(&mut self, world: &World, key: &str, kind: &str, number: Option<i64>, data: &Json) -> Record {
        self.sent += 1;
        let mut headers = Headers::default();
        headers.write("ce_specversion", "1.0");
        headers.write("ce_id", format_args!("e{}", self.sent));
        headers.write("ce_source", "/till");
        headers.write("ce_type", kind);
        headers.extend(number.map(|number| ("ce_entityseq", Some(number.to_string()))));
        let (key, value) = (Some(key.as_bytes().into()), Some(data.to_string().into_bytes().into()));
        Record { offset: 0, timestamp_ms: world.now() / 1000, key, value, headers }
    }
}

/// The operator: closes every letter, some after another try, and lets the quarantined pass over what fails.
fn settle(world: &mut World) {
    for letter in letters(world).into_iter().filter(|letter| letter.status == "replayable") {
        let lane = LaneId { topic: letter.topic, partition: i32::try_from(letter.partition).unwrap() };
        let again = letter.reason == "expired" && letter.count == 1;
        let order = if again { action::LETTER_REPLAY } else { action::LETTER_DISCARD };
        world.order(&lane, order, None, &json!({ "offset": letter.record_offset }).to_string());
    }
    let unwell = world.rows(&QUARANTINE, vec![]);
    for unwell in unwell.iter().filter_map(|row| Quarantine::read(row)) {
        let lane = LaneId { topic: unwell.topic, partition: i32::try_from(unwell.partition).unwrap() };
        world.order(&lane, action::ENTITY_SKIP, Some(&unwell.entity_id), "{}");
    }
}
