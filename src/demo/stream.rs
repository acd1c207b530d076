//! The stream of a seed: a shop's events with all that goes wrong on the way to a worker.
//!
//! Everything that is meant to be told apart later is decided here, by the seed alone: which event comes twice, which
//! comes late, which never comes. Events that a count rests on are left alone by the other troubles.

use serde_json::json;
use seriatim::{core::message::Message, simulation::Dice};

use super::{
    bad, gateway, races,
    wire::{self, Event},
};

/// How far an event may come before or after its turn, in places of the stream.
const DISORDER: u64 = 60;
/// How far behind its original a repeat may come.
const REPEAT_WITHIN: u64 = 400;
/// A contradicting copy comes so far behind that its original is always first.
const CONFLICT_AFTER: u64 = 1_000;
/// Events of one profile or counter, numbered without a gap.
const RUN: i64 = 12;
/// Profiles, and counters, of which one event never comes.
const LOST: usize = 2;
/// Purchases of each scene that the gateway plays.
const SCENES: usize = 3;

/// An item's units at the beginning, from and to: enough for most of its buyers, not for all.
const GOODS: (i64, i64) = (80, 150);

/// What is fed, in three parts.
#[derive(Debug, Default)]
pub struct Stream {
    /// Goods that are there before anybody buys.
    pub opening: Vec<Message>,
    /// Everything else, with all its trouble.
    pub flood: Vec<Message>,
    /// Events whose successors have come long before.
    pub late: Vec<Message>,
    /// How many of each trouble were put in.
    pub troubles: Troubles,
}

/// How many of each trouble are in a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Troubles {
    pub repeated: usize,
    pub conflicting: usize,
    pub late: usize,
    pub missing: usize,
    pub bad: usize,
}

impl Stream {
    /// The stream of a seed, of `events` records.
    pub fn new(seed: u64, events: usize, partitions: i32) -> Self {
        let mut maker = Maker {
            dice: Dice::new(seed),
            partitions,
            stream: Self::default(),
            placed: Vec::with_capacity(events),
            place: 0,
            skus: u64::try_from((events / 100).clamp(5, 500)).unwrap_or(5),
        };
        maker.goods();
        maker.rivals();
        maker.scenes();
        // Of what is left, shares: a third bought, a third counted, the rest profiles, adjustments and junk.
        let budget = events.saturating_sub(maker.count());
        let (late, conflicts) = ((events / 400).clamp(2, 20), (events / 250).clamp(2, 50));
        for number in 0..(events / 1_500).clamp(1, 10) {
            maker.bad(number);
        }
        maker.runs(PROFILES, budget / 5, late, conflicts);
        maker.runs(COUNTERS, budget / 4, late, conflicts);
        maker.adjustments(budget / 25);
        maker.purchases(events);
        maker.finish()
    }

    pub fn len(&self) -> usize {
        self.opening.len() + self.flood.len() + self.late.len()
    }
}

/// A kind whose events come in numbered runs.
struct Sequenced {
    topic: &'static str,
    name: &'static str,
    source: &'static str,
    event: fn(&str, i64) -> (&'static str, serde_json::Value),
}

const PROFILES: Sequenced = Sequenced {
    topic: "profiles",
    name: "user",
    source: "/account/app",
    event: |user_id, number| {
        if number % 2 == 0 {
            ("profile.password_changed", json!({ "user_id": user_id, "password_hash": format!("argon2id-{number}") }))
        } else {
            ("profile.email_changed", json!({ "user_id": user_id, "email": format!("{user_id}.{number}@example.org") }))
        }
    },
};
const COUNTERS: Sequenced = Sequenced {
    topic: "activity",
    name: "counter",
    source: "/edge/collector",
    event: |counter, number| ("activity.counted", json!({ "counter": counter, "delta": number % 5 - 1 })),
};

struct Maker {
    dice: Dice,
    partitions: i32,
    stream: Stream,
    /// Messages of the flood with the place that they come at.
    placed: Vec<(u64, Message)>,
    place: u64,
    skus: u64,
}

impl Maker {
    fn count(&self) -> usize {
        self.stream.len() + self.placed.len()
    }

    fn encode(&mut self, event: &Event) -> Message {
        if self.dice.one_in(8) { event.structured(self.partitions) } else { event.binary(self.partitions) }
    }

    /// Puts an event into the flood near the next place; says where it stands.
    fn put(&mut self, event: &Event) -> u64 {
        self.place += 1;
        let at = self.place + self.dice.below(DISORDER);
        let message = self.encode(event);
        self.placed.push((at, message));
        at
    }

    /// The same again, perhaps; as a producer that has missed an acknowledgement sends it.
    fn repeat(&mut self, event: &Event, at: u64) {
        if self.dice.one_in(9) {
            let message = self.encode(event);
            let behind = self.dice.below(REPEAT_WITHIN);
            self.placed.push((at + behind, message));
            self.stream.troubles.repeated += 1;
        }
    }

    fn sku(&mut self) -> String {
        format!("sku-{:03}", self.dice.below(self.skus))
    }

    fn goods(&mut self) {
        for at in 0..self.skus {
            let event = received(format!("sku-{at:03}"), self.dice.between(GOODS.0, GOODS.1));
            let message = self.encode(&event);
            self.stream.opening.push(message);
        }
        let last_items = races::stock();
        let messages: Vec<Message> = last_items.iter().map(|event| event.binary(self.partitions)).collect();
        self.stream.opening.extend(messages);
    }

    fn rivals(&mut self) {
        for event in races::rivals() {
            let message = event.binary(self.partitions);
            self.placed.push((self.place, message));
        }
    }

    fn scenes(&mut self) {
        let numbers = gateway::SCENES.into_iter().flat_map(|scene| (0..SCENES).map(move |at| (scene, at)));
        for (scene, at) in numbers {
            // Of an item that nobody else buys, so that the capture is always asked for.
            let (sku, purchase_id) = (format!("{scene}item-{at}"), format!("{scene}{at}"));
            let goods = received(sku.clone(), 5);
            self.stream.opening.push(goods.binary(self.partitions));
            let event = placing(&purchase_id, "", wire::placed(&purchase_id, 7, &[(sku, 1, 4_200)]));
            self.put(&event);
        }
    }

    fn bad(&mut self, number: usize) {
        for message in bad::assortment(number, self.partitions) {
            self.place += 1;
            let at = self.dice.below(self.place.max(200));
            self.placed.push((at, message));
            self.stream.troubles.bad += 1;
        }
    }

    /// Entities with numbered events: of the first an event never comes, of the next it comes late, of the next a
    /// number comes again with other content.
    fn runs(&mut self, kind: Sequenced, events: usize, late: usize, conflicts: usize) {
        let entities = (events / usize::try_from(RUN).unwrap_or(1)).max(LOST + late + conflicts);
        for entity in 0..entities {
            let id = format!("{}-{entity:04}", kind.name);
            let trouble = Trouble::of(entity, late, conflicts);
            let odd = self.dice.between(2, RUN - 2);
            for number in 1..=RUN {
                let event = numbered(&kind, &id, number, number);
                match trouble {
                    Trouble::Lost if number == odd => self.stream.troubles.missing += 1,
                    Trouble::Late if number == odd => {
                        let message = self.encode(&event);
                        self.stream.late.push(message);
                        self.stream.troubles.late += 1;
                    }
                    Trouble::Conflict if number == odd => {
                        let at = self.put(&event);
                        let other = numbered(&kind, &id, number, number + 1_001);
                        let message = self.encode(&other);
                        self.placed.push((at + CONFLICT_AFTER, message));
                        self.stream.troubles.conflicting += 1;
                    }
                    Trouble::Lost | Trouble::Late | Trouble::Conflict => drop(self.put(&event)),
                    Trouble::Repeats => {
                        let at = self.put(&event);
                        self.repeat(&event, at);
                    }
                }
            }
        }
    }

    fn adjustments(&mut self, count: usize) {
        for at in 0..count {
            let sku = self.sku();
            // Now and then more is taken away than there is: a request that is refused.
            let delta = if self.dice.one_in(5) { -1_000_000 } else { self.dice.between(-2, 6) };
            let event = Event {
                topic: "stock",
                source: "/warehouse/count",
                id: format!("adjusted-{at}"),
                kind: "stock.adjusted",
                sequence: None,
                data: json!({ "sku": sku, "delta": delta, "reason": "stocktaking" }),
                key: sku,
            };
            let at = self.put(&event);
            self.repeat(&event, at);
        }
    }

    /// Purchases until the stream is as long as asked for.
    fn purchases(&mut self, events: usize) {
        let first = self.place;
        let mut number = 0;
        while self.count() < events {
            // All kinds of events come mixed.
            self.place = self.dice.below(first.max(1));
            let purchase_id = format!("p-{number:05}");
            number += 1;
            let event = self.purchase(&purchase_id);
            let at = self.put(&event);
            self.repeat(&event, at);
            if self.dice.one_in(15) {
                let event = cancelling(&purchase_id);
                // Now and then a customer's second thought is faster than the first.
                self.place = (at + self.dice.below(80)).saturating_sub(30);
                self.put(&event);
            }
            if self.dice.one_in(40) {
                let data = event.data.clone();
                self.put(&placing(&purchase_id, "-again", data));
            }
            if self.dice.one_in(200) {
                self.put(&cancelling(&format!("unheard-of-{number}")));
            }
        }
    }

    fn purchase(&mut self, purchase_id: &str) -> Event {
        let mut lines: Vec<(String, i64, i64)> = Vec::new();
        for _ in 0..self.dice.between(1, 3) {
            let sku = self.sku();
            if lines.iter().all(|(known, ..)| *known != sku) {
                lines.push((sku, self.dice.between(1, 3), self.dice.between(100, 9_999)));
            }
        }
        let customer = self.dice.between(1, 500);
        placing(purchase_id, "", wire::placed(purchase_id, customer, &lines))
    }

    fn finish(mut self) -> Stream {
        // Equal places keep the order in which they were put.
        self.placed.sort_by_key(|(at, _)| *at);
        self.stream.flood = self.placed.into_iter().map(|(_, message)| message).collect();
        self.stream
    }
}

/// What is wrong with a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Lost,
    Late,
    Conflict,
    Repeats,
}

impl Trouble {
    fn of(entity: usize, late: usize, conflicts: usize) -> Self {
        match entity {
            at if at < LOST => Self::Lost,
            at if at < LOST + late => Self::Late,
            at if at < LOST + late + conflicts => Self::Conflict,
            _ => Self::Repeats,
        }
    }
}

fn received(sku: String, quantity: i64) -> Event {
    Event {
        topic: "stock",
        source: "/warehouse/north",
        id: format!("received-{sku}"),
        kind: "stock.received",
        sequence: Some(1),
        data: json!({ "sku": sku, "quantity": quantity }),
        key: sku,
    }
}

fn numbered(kind: &Sequenced, id: &str, number: i64, content: i64) -> Event {
    let (name, data) = (kind.event)(id, content);
    Event {
        topic: kind.topic,
        key: id.to_owned(),
        source: kind.source,
        id: format!("{id}-{number}"),
        kind: name,
        sequence: Some(number),
        data,
    }
}

fn placing(purchase_id: &str, suffix: &str, data: serde_json::Value) -> Event {
    Event {
        topic: "purchases",
        key: purchase_id.to_owned(),
        source: "/shop/web",
        id: format!("{purchase_id}-placed{suffix}"),
        kind: "purchase.placed",
        sequence: None,
        data,
    }
}

/// A customer's second thought.
pub fn cancelling(purchase_id: &str) -> Event {
    let data = json!({ "purchase_id": purchase_id, "reason": "changed my mind" });
    let id = format!("{purchase_id}-cancelled");
    let key = purchase_id.to_owned();
    Event { topic: "purchases", key, source: "/shop/web", id, kind: "purchase.cancelled", sequence: None, data }
}

#[cfg(test)]
mod tests {
    use super::Stream;

    #[test]
    fn the_same_seed_makes_the_same_stream() {
        let stream = |seed| {
            let stream = Stream::new(seed, 1_000, 4);
            (stream.opening, stream.flood, stream.late)
        };
        assert_eq!(stream(5), stream(5));
        assert_ne!(stream(5), stream(6));
    }

    #[test]
    fn a_stream_is_as_long_as_asked_for_and_has_every_trouble() {
        for events in [500, 5_000, 20_000] {
            let stream = Stream::new(1, events, 4);
            assert!((events..events + 4).contains(&stream.len()), "{} of {events}", stream.len());
            let troubles = stream.troubles;
            for count in [troubles.repeated, troubles.conflicting, troubles.late, troubles.missing, troubles.bad] {
                assert!(count > 0, "{troubles:?}");
            }
        }
    }
}
