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
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep_until};

use super::{
    feed::Feed,
    races,
    reader::Reader,
    wire::{self, Event, Opened},
};

const CAPTURE: &str = "payment.capture_requested";
const REFUND: &str = "payment.refund_requested";
/// Payments of purchases with such a name are captured twice: a fact that contradicts what is known.
pub const CONTRADICTED: &str = "contra-";
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
    /// Which request for a capture is answered; none: it never is.
    captures_at: Option<u32>,
    /// Which request for a refund is answered.
    refunds_at: u32,
    /// The capture comes when nobody waits for it any more.
    far_too_late: bool,
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
                () = due => self.answer()?,
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
        let answered = if captures { temper.captures_at } else { Some(temper.refunds_at) };
        // Answered once: a request made again, while the answer is on its way or done, changes nothing.
        if answered != Some(*asked) {
            return;
        }
        let wait = match (captures && temper.far_too_late, temper.slow) {
            (true, _) => self.far_too_late,
            (false, true) => SLOW,
            (false, false) => PROMPT,
        };
        let answer = answer_to(request, captures, temper);
        if temper.doubles {
            self.push(wait + PROMPT, answer.clone());
        }
        if captures && request.key.starts_with(&format!("pay-{CONTRADICTED}")) {
            self.push(wait + TWICE_AFTER, Event { id: format!("{}-again", answer.id), ..answer.clone() });
        }
        self.push(wait, answer);
    }

    fn push(&mut self, wait: Duration, answer: Event) {
        self.number += 1;
        self.messages.insert(self.number, answer);
        self.answers.push(Reverse((Instant::now() + wait, self.number)));
        self.seen.pending.fetch_add(1, Ordering::SeqCst);
    }

    /// Sends what is due.
    fn answer(&mut self) -> anyhow::Result<()> {
        while let Some(Reverse((due, number))) = self.answers.peek().copied() {
            if due > Instant::now() {
                break;
            }
            self.answers.pop();
            if let Some(answer) = self.messages.remove(&number) {
                let structured = number.is_multiple_of(4);
                let partitions = self.partitions;
                self.feed.send(if structured { answer.structured(partitions) } else { answer.binary(partitions) })?;
            }
            self.seen.pending.fetch_sub(1, Ordering::SeqCst);
        }
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

fn temper(seed: u64, payment_id: &str) -> Temper {
    let calm = payment_id.starts_with(&format!("pay-{}", races::PREFIX))
        || payment_id.starts_with(&format!("pay-{CONTRADICTED}"));
    let dice = Sha256::new().chain_update(seed.to_be_bytes()).chain_update(payment_id).finalize();
    // Shares of 256.
    Temper {
        declines: !calm && dice[0] < 26,
        doubles: !calm && dice[1] < 50,
        slow: !calm && dice[2] < 30,
        captures_at: match dice[3] {
            0..2 if !calm => None,
            2..24 if !calm => Some(2),
            _ => Some(1),
        },
        refunds_at: if !calm && dice[4] < 40 { 2 } else { 1 },
        far_too_late: !calm && dice[5] < 3,
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
            tempers.iter().any(|temper| temper.captures_at == Some(2)),
            tempers.iter().any(|temper| temper.captures_at.is_none()),
            tempers.iter().any(|temper| temper.refunds_at == 2),
            tempers.iter().any(|temper| temper.far_too_late),
        ] {
            assert!(mood, "{tempers:?}");
        }
    }
}
