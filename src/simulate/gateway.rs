//! A payment gateway: slow, silent the first time, doubled, or saying no; the same for a payment whenever it asks.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::json;
use seriatim::{
    core::{
        message::Message,
        record::{LaneId, Record},
    },
    shop::payment,
    simulation::{Dice, Outsider},
};

use crate::demo::wire::{self, Event};

/// Money that the gateway has moved, by payment: captured and given back.
pub type Books = Arc<Mutex<BTreeMap<String, (i64, i64)>>>;

/// The gateway of one world.
#[derive(Debug)]
pub struct Gateway {
    partitions: i32,
    seed: u64,
    /// How often it was asked, by payment and kind of request; it counts an id once.
    asked: BTreeMap<(String, bool), Vec<String>>,
    books: Books,
}

/// How it treats one request.
struct Temper {
    declines: bool,
    doubles: bool,
    /// It answers the request of this number; 0: none.
    answers_at: usize,
    pause: u64,
}

impl Gateway {
    pub fn new(seed: u64, partitions: i32, books: Books) -> Self {
        Self { partitions, seed, asked: BTreeMap::new(), books }
    }

    fn temper(&self, payment_id: &str, captures: bool) -> Temper {
        let name = payment_id.bytes().fold(u64::from(captures), |sum, byte| sum * 31 + u64::from(byte));
        let mut dice = Dice::new(self.seed).fork(name);
        Temper {
            declines: captures && dice.one_in(5),
            doubles: dice.one_in(4),
            // A refund that is never answered would leave its saga open for good.
            answers_at: if captures && dice.one_in(12) { 0 } else { 1 + dice.index(2) },
            pause: dice.below(60),
        }
    }
}

impl Outsider for Gateway {
    fn hear(&mut self, lane: &LaneId, record: &Record, dice: &mut Dice) -> Vec<(Duration, Message)> {
        if lane.topic != payment::REQUESTS {
            return Vec::new();
        }
        let Some(request) = wire::open(record) else { return Vec::new() };
        let captures = request.kind == "payment.capture_requested";
        let asked = self.asked.entry((request.key.clone(), captures)).or_default();
        let id = record.headers.text("ce_id").unwrap_or_default().to_owned();
        if asked.contains(&id) {
            return Vec::new();
        }
        asked.push(id);
        let count = asked.len();
        let temper = self.temper(&request.key, captures);
        if count != temper.answers_at {
            return Vec::new();
        }
        let amount = request.data["amount_minor"].as_i64().unwrap_or_default();
        let word = match (captures, temper.declines) {
            (true, true) => "declined",
            (true, false) => "captured",
            (false, _) => "refunded",
        };
        if !temper.declines {
            let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
            let (captured, refunded) = books.entry(request.key.clone()).or_default();
            *if captures { captured } else { refunded } += amount;
        }
        let data = if temper.declines {
            json!({ "payment_id": request.key, "code": "51", "message": "no money" })
        } else {
            json!({
                "payment_id": request.key, "amount_minor": amount, "currency": request.data["currency"],
                "provider_ref": format!("ref-{}", request.key),
            })
        };
        let kind = match word {
            "declined" => "payment.declined",
            "captured" => "payment.captured",
            _ => "payment.refunded",
        };
        let (id, key) = (format!("gw-{}-{word}", request.key), request.key);
        let answer = Event { topic: "payments", key, source: "/gateway", id, kind, sequence: None, data };
        let times = if temper.doubles { 2 } else { 1 };
        let mut pause = || Duration::from_millis(temper.pause + dice.below(20));
        (0..times).map(|_| (pause(), answer.binary(self.partitions))).collect()
    }
}
