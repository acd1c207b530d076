//! What producers send to a small shop, with all that goes wrong on the way: repeats, disorder, gaps, contradictions,
//! bytes that mean nothing. Every event is told apart by its id, so that the model can follow it.

use std::time::Duration;

use serde_json::{Value as Json, json};
use seriatim::{
    core::message::Message,
    simulation::{Dice, Plan},
};

use crate::demo::wire::{self, Event};

/// What is sent, and when.
pub type Traffic = Vec<(Duration, Message)>;

/// What producers send events for, if it is not for all kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Purchases, with the stock that they need and the payments that come of them
    Purchases,
    /// A user's profile
    Profiles,
    /// Counters of activity
    Counters,
}

/// Makes the traffic of one world: of all kinds, or of one part alone.
pub fn traffic(only: Option<Part>, partitions: i32, dice: &mut Dice) -> Traffic {
    let mut maker = Maker { partitions, dice, sent: Vec::new() };
    let has = |part| only.is_none_or(|only| only == part);
    if has(Part::Purchases) {
        maker.stock();
        maker.purchases();
    }
    if has(Part::Profiles) {
        maker.profiles();
    }
    if has(Part::Counters) {
        maker.counters();
        if maker.dice.one_in(3) {
            maker.bad();
        }
    }
    if has(Part::Purchases) && maker.dice.one_in(3) {
        maker.contradictions();
    }
    maker.sent
}

struct Maker<'a> {
    partitions: i32,
    dice: &'a mut Dice,
    sent: Traffic,
}

impl Maker<'_> {
    fn send(&mut self, at: Duration, event: &Event) {
        let structured = self.dice.one_in(6);
        let message = if structured { event.structured(self.partitions) } else { event.binary(self.partitions) };
        self.sent.push((at, message));
    }

    /// Sends an event once, or now and then once more.
    fn send_soon(&mut self, event: &Event) {
        let at = Plan::moment(self.dice);
        self.send(at, event);
        if self.dice.one_in(6) {
            let again = Plan::moment(self.dice);
            self.send(again, event);
        }
    }

    fn stock(&mut self) {
        for sku in 0..2 {
            for delivery in 0..=self.dice.below(2) {
                let quantity = self.dice.between(1, 4);
                let data = json!({ "sku": sku_of(sku), "quantity": quantity });
                let id = format!("received-{sku}-{delivery}");
                let event = event("stock", sku_of(sku), "/warehouse", id, "stock.received", None, data);
                self.send_soon(&event);
            }
            if self.dice.one_in(3) {
                let delta = self.dice.between(-2, 2);
                let data = json!({ "sku": sku_of(sku), "delta": delta, "reason": "counted" });
                let id = format!("adjusted-{sku}");
                let event = event("stock", sku_of(sku), "/stocktaking", id, "stock.adjusted", None, data);
                self.send_soon(&event);
            }
        }
    }

    fn purchases(&mut self) {
        for number in 0..=self.dice.below(4) {
            let id = format!("p{number}");
            let first = self.dice.below(2);
            let mut lines = vec![(sku_of(first), self.dice.between(1, 3), self.dice.between(0, 9))];
            if self.dice.one_in(2) {
                lines.push((sku_of(1 - first), self.dice.between(1, 2), self.dice.between(0, 9)));
            }
            let placed = |suffix: &str, customer| {
                let data = wire::placed(&id, customer, &lines);
                let name = format!("placed-{id}{suffix}");
                event("purchases", id.clone(), "/checkout/web", name, "purchase.placed", None, data)
            };
            self.send_soon(&placed("", 1));
            if self.dice.one_in(8) {
                // The same purchase, placed by another event: refused.
                self.send_soon(&placed("-again", 1));
            }
            if self.dice.one_in(3) {
                let data = json!({ "purchase_id": id, "reason": "changed my mind" });
                let name = format!("cancelled-{id}");
                let event = event("purchases", id.clone(), "/checkout/web", name, "purchase.cancelled", None, data);
                self.send_soon(&event);
            }
        }
        if self.dice.one_in(6) {
            let data = json!({ "purchase_id": "nobody", "reason": "never placed" });
            let id = "cancelled-nobody".to_owned();
            let event = event("purchases", "nobody".to_owned(), "/checkout/web", id, "purchase.cancelled", None, data);
            self.send_soon(&event);
        }
    }

    fn profiles(&mut self) {
        let last = self.dice.between(2, 6);
        for number in 1..=last {
            let (kind, data) = if self.dice.one_in(2) {
                ("profile.email_changed", json!({ "user_id": "u0", "email": format!("{number}@example.org") }))
            } else {
                ("profile.password_changed", json!({ "user_id": "u0", "password_hash": format!("hash-{number}") }))
            };
            let id = format!("u0-{number}");
            let event = event("profiles", "u0".to_owned(), "/account", id, kind, Some(number), data);
            // Around its turn, and sometimes far from it.
            self.send_soon(&event);
        }
    }

    fn counters(&mut self) {
        for source in ["/edge/a", "/edge/b"] {
            let last = self.dice.between(1, 6);
            // A producer that was restored from a backup counts from one again, with other events.
            let restarts = self.dice.one_in(5);
            let lost = self.dice.one_in(6).then(|| self.dice.between(1, last));
            for number in (1..=last).filter(|number| Some(*number) != lost) {
                self.counted("c0", source, Some(number), number, "");
                if restarts && number < 3 {
                    self.counted("c0", source, Some(number), 100 + number, "-restored");
                }
            }
        }
        for number in 0..self.dice.between(1, 5) {
            self.counted("c1", "/edge/c", None, number, "");
            if self.dice.one_in(6) {
                self.counted("c1", "/edge/c", None, number + 50, "");
            }
        }
    }

    fn counted(&mut self, counter: &str, source: &'static str, sequence: Option<i64>, delta: i64, suffix: &str) {
        let number = sequence.unwrap_or(delta % 50);
        let id = format!("{counter}{source}-{number}{suffix}");
        let data = json!({ "counter": counter, "delta": delta });
        let event = event("activity", counter.to_owned(), source, id, "activity.counted", sequence, data);
        self.send_soon(&event);
    }

    fn bad(&mut self) {
        let good = |id: &str| {
            let data = json!({ "counter": "c2", "delta": 1 });
            event("activity", "c2".to_owned(), "/edge/broken", id.to_owned(), "activity.counted", None, data)
        };
        let cut = Message { value: Some(b"{\"counter\":".as_slice().into()), ..good("cut").binary(self.partitions) };
        let empty = Message { value: None, ..good("empty").binary(self.partitions) };
        let other = Event { kind: "activity.exploded", ..good("unknown") }.binary(self.partitions);
        // Names its entity and number: its successor does not wait for it.
        let spoilt =
            Event { sequence: Some(1), source: "/edge/spoilt", data: json!({ "counter": "c2" }), ..good("s1") };
        let after = Event { sequence: Some(2), source: "/edge/spoilt", ..good("s2") }.binary(self.partitions);
        for message in [cut, empty, other, spoilt.binary(self.partitions), after] {
            let at = Plan::moment(self.dice);
            self.sent.push((at, message));
        }
        if self.partitions > 1 {
            let mut astray = good("astray").binary(self.partitions);
            astray.to.partition = 1 - astray.to.partition;
            let at = Plan::moment(self.dice);
            self.sent.push((at, astray));
        }
    }

    /// Facts that cannot be: of a payment that nobody knows, and more money than was ever asked for.
    fn contradictions(&mut self) {
        for (purchase, amount) in [("unheard-of", 1), ("p0", 1_000_000)] {
            let data = json!({
                "payment_id": format!("pay-{purchase}"), "amount_minor": amount, "currency": "EUR", "provider_ref": "x",
            });
            let (key, id) = (format!("pay-{purchase}"), format!("contradiction-{purchase}"));
            let event = event("payments", key, "/bank", id, "payment.captured", None, data);
            self.send_soon(&event);
        }
    }
}

fn sku_of(number: u64) -> String {
    format!("s{number}")
}

fn event(
    topic: &'static str,
    key: String,
    source: &'static str,
    id: String,
    kind: &'static str,
    sequence: Option<i64>,
    data: Json,
) -> Event {
    Event { topic, key, source, id, kind, sequence, data }
}
