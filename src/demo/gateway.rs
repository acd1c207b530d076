//! A payment gateway as they are: it answers late, twice, with a no, only when asked again, or not at all.
//!
//! It reads `payment-requests` and answers on `payments`, and is idempotent as the contract asks: one answer, with one
//! id, for each payment and kind of request. How it treats a payment is decided by the seed and the payment alone.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use seriatim::shop::payment;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep_until};

use super::{
    feed::Feed,
    races,
    reader::Reader,
    stream,
    wire::{self, Event, Opened},
};

const CAPTURE: &str = "payment.capture_requested";
const REFUND: &str = "payment.refund_requested";
/// Purchases with such a name are captured twice: a fact that contradicts what is known.
pub const CONTRADICTED: &str = "contra-";
/// Their customer cancels while the capture is on its way: the money comes, and must go back.
pub const REGRETTED: &str = "regret-";
/// Their capture comes when the checkout has long given them up: the money must go back.
pub const OVERDUE: &str = "overdue-";
/// Their capture never gets an answer.
pub const UNANSWERED: &str = "unanswered-";
/// All purchases with a part to play.
pub const SCENES: [&str; 4] = [CONTRADICTED, REGRETTED, OVERDUE, UNANSWERED];
/// An ordinary answer.
const PROMPT: Duration = Duration::from_millis(20);
/// Longer than the worker waits before it asks again.
const SLOW: Duration = Duration::from_millis(1_600);
/// How long a second capture follows the first.
const TWICE_AFTER: Duration = Duration::from_millis(400);

/// How a payment is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Temper {
    declines: bool,
    doubles: bool,
    slow: bool,
    /// Which request for a capture is answered.
    captures_at: u32,
    /// Which request for a refund is answered.
    refunds_at: u32,
}

/// What others see of a gateway that is at work.
#[derive(Debug, Default)]
pub struct Seen {
    /// Requests read.
    pub requests: AtomicI64,
    /// Answers that are still to be sent.
    pub pending: AtomicI64,
}

pub struct Gateway {
    seed: u64,
    reader: Reader,
    feed: Feed,
    partitions: i32,
    far_too_late: Duration,
    asked: BTreeMap<(String, bool), u32>,
    answers: BinaryHeap<Reverse<(Instant, u64)>>,
    messages: BTreeMap<u64, Event>,
    number: u64,
    seen: Arc<Seen>,
}

impl Gateway {
    /// `charge_deadline`: when a checkout gives a charge up; some captures come only after that.
    pub fn new(seed: u64, reader: Reader, feed: Feed, partitions: i32, charge_deadline: Duration) -> Self {
        Self {
            seed,
            reader,
            feed,
            partitions,
            far_too_late: charge_deadline + Duration::from_millis(1_500),
            asked: BTreeMap::new(),
            answers: BinaryHeap::new(),
            messages: BTreeMap::new(),
            number: 0,
            seen: Arc::default(),
        }
    }

    pub fn seen(&self) -> Arc<Seen> {
        Arc::clone(&self.seen)
    }

    /// Answers until it is dropped; returns only with an error.
    pub async fn run(mut self) -> anyhow::Result<()> {
        loop {
            let next = self.answers.peek().map(|Reverse((due, _))| *due);
            let due = async {
                match next {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                records = self.reader.next() => for (_, record) in records? {
                    if let Some(request) = wire::open(&record) {
                        self.take(&request);
                    }
                    self.seen.requests.fetch_add(1, Ordering::SeqCst);
                },
                () = due => self.answer().await?,
            }
        }
    }

    fn take(&mut self, request: &Opened) {
        let temper = temper(self.seed, &request.key);
        let captures = request.kind == CAPTURE;
        if !captures && request.kind != REFUND {
            return;
        }
        let asked = self.asked.entry((request.key.clone(), captures)).or_default();
        *asked += 1;
        let answered = if captures { temper.captures_at } else { temper.refunds_at };
        // Answered once: a request made again, while the answer is on its way or done, changes nothing.
        if answered != *asked {
            return;
        }
        let wait = if temper.slow { SLOW } else { PROMPT };
        let answer = answer_to(request, captures, temper);
        if temper.doubles {
            self.push(wait + PROMPT, answer.clone());
        }
        match scene(&request.key).filter(|_| captures) {
            Some(UNANSWERED) => {}
            Some(OVERDUE) => self.push(self.far_too_late, answer),
            Some(REGRETTED) => {
                let purchase_id = request.data["purchase_id"].as_str().unwrap_or_default();
                self.push(Duration::ZERO, stream::cancelling(purchase_id));
                self.push(SLOW, answer);
            }
            Some(_) => {
                self.push(wait + TWICE_AFTER, Event { id: format!("{}-again", answer.id), ..answer.clone() });
                self.push(wait, answer);
            }
            None => self.push(wait, answer),
        }
    }

    fn push(&mut self, wait: Duration, answer: Event) {
        self.number += 1;
        self.messages.insert(self.number, answer);
        self.answers.push(Reverse((Instant::now() + wait, self.number)));
        self.seen.pending.fetch_add(1, Ordering::SeqCst);
    }

    /// Sends what is due, and counts it as answered once the broker has it.
    async fn answer(&mut self) -> anyhow::Result<()> {
        let mut answered = 0;
        while let Some(Reverse((due, number))) = self.answers.peek().copied() {
            if due > Instant::now() {
                break;
            }
            self.answers.pop();
            answered += 1;
            if let Some(answer) = self.messages.remove(&number) {
                let (structured, partitions) = (number.is_multiple_of(4), self.partitions);
                let message = if structured { answer.structured(partitions) } else { answer.binary(partitions) };
                self.feed.send(&message).await?;
            }
        }
        self.feed.acknowledged().await?;
        self.seen.pending.fetch_sub(answered, Ordering::SeqCst);
        Ok(())
    }
}

fn answer_to(request: &Opened, captures: bool, temper: Temper) -> Event {
    let payment_id = &request.key;
    let (kind, word) = match (captures, temper.declines) {
        (true, true) => ("payment.declined", "declined"),
        (true, false) => ("payment.captured", "captured"),
        (false, _) => ("payment.refunded", "refunded"),
    };
    let data = if kind == "payment.declined" {
        json!({ "payment_id": payment_id, "code": "51", "message": "insufficient funds" })
    } else {
        json!({
            "payment_id": payment_id,
            "amount_minor": request.data["amount_minor"],
            "currency": request.data["currency"],
            "provider_ref": format!("ref-{payment_id}-{word}"),
        })
    };
    let (id, key) = (format!("gw-{payment_id}-{word}"), payment_id.clone());
    Event { topic: "payments", key, source: "/gateway/acme", id, kind, sequence: None, data }
}

/// The scene that a payment's purchase is named after.
fn scene(payment_id: &str) -> Option<&'static str> {
    let purchase_id = payment_id.strip_prefix(payment::ID_PREFIX)?;
    SCENES.into_iter().find(|scene| purchase_id.starts_with(scene))
}

fn temper(seed: u64, payment_id: &str) -> Temper {
    let raced = payment_id.strip_prefix(payment::ID_PREFIX).is_some_and(|id| id.starts_with(races::PREFIX));
    if raced || scene(payment_id).is_some() {
        return Temper { declines: false, doubles: false, slow: false, captures_at: 1, refunds_at: 1 };
    }
    let dice = Sha256::new().chain_update(seed.to_be_bytes()).chain_update(payment_id).finalize();
    // Shares of 256.
    Temper {
        declines: dice[0] < 26,
        doubles: dice[1] < 50,
        slow: dice[2] < 30,
        captures_at: if dice[3] < 24 { 2 } else { 1 },
        refunds_at: if dice[4] < 40 { 2 } else { 1 },
    }
}

#[cfg(test)]
mod tests {
    use super::temper;

    #[test]
    fn a_payment_is_treated_the_same_whenever_it_asks() {
        let tempers = |seed| (0..50).map(|at| temper(seed, &format!("pay-p-{at}"))).collect::<Vec<_>>();
        assert_eq!(tempers(3), tempers(3));
        assert_ne!(tempers(3), tempers(4));
    }

    #[test]
    fn every_mood_occurs() {
        let tempers: Vec<_> = (0..2_000).map(|at| temper(1, &format!("pay-p-{at}"))).collect();
        for mood in [
            tempers.iter().any(|temper| temper.declines),
            tempers.iter().any(|temper| temper.doubles),
            tempers.iter().any(|temper| temper.slow),
            tempers.iter().any(|temper| temper.captures_at == 2),
            tempers.iter().any(|temper| temper.refunds_at == 2),
        ] {
            assert!(mood, "{tempers:?}");
        }
    }
}
