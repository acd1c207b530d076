//! What the worker lives through before its tables are tampered with: every outcome that a record can have.

use serde_json::json;

use crate::stage::{Event, Stage};

/// How many purchases each round of the load places.
const ROUND: usize = 150;
/// Rounds of load, each beside one look.
const ROUNDS: usize = 4;

/// A numbered change of a profile.
pub fn profile(user: &str, email: &str, sequence: i64) -> Event {
    let data = json!({ "user_id": user, "email": format!("{email}-{sequence}@example.org") });
    let id = format!("{user}-{email}-{sequence}");
    Event { id, key: user.to_owned(), event_type: "profile.email_changed", sequence: Some(sequence), data }
}

/// A change of a profile that is known by its id.
pub fn plain_profile(user: &str, id: &str) -> Event {
    Event { sequence: None, id: id.to_owned(), ..profile(user, id, 1) }
}

fn captured(purchase: &str) -> Event {
    let payment = format!("pay-{purchase}");
    let data = json!({ "payment_id": payment, "amount_minor": 100, "currency": "EUR", "provider_ref": "r" });
    Event { id: format!("{payment}-captured"), key: payment, event_type: "payment.captured", sequence: None, data }
}

fn adjusted(sku: &str, id: &str, delta: i64) -> Event {
    let data = json!({ "sku": sku, "delta": delta, "reason": "counted" });
    Event { event_type: "stock.adjusted", data, ..Event::received(sku, id, 1) }
}

/// What the outside world sends.
pub struct Story;

impl Story {
    /// Sends what each thing that is tampered with needs.
    pub async fn begin(stage: &Stage) -> Self {
        let skus = ["tea", "law", "bag"].map(|sku| Event::received(sku, format!("{sku}-in"), 100_000));
        stage.send("stock", skus.into()).await;
        // Asked for and never paid: their checkouts stay open.
        let open = ["overdue", "asleep", "stuck"].map(|id| Event::placed(id, "tea"));
        let done = ["told", "goods"].map(|id| Event::placed(id, "bag"));
        stage.send("purchases", open.into_iter().chain(done).collect()).await;
        stage.send("payments", ["told", "goods"].map(captured).into()).await;
        stage.send("stock", vec![adjusted("nothing", "less", -5), adjusted("nothing", "less-again", -6)]).await;
        let mut profiles =
            vec![plain_profile("u-twice", "a"), plain_profile("u-twice", "b"), plain_profile("u-twice", "a")];
        for user in ["u-lost", "u-other", "u-beyond", "u-missing", "u-version", "u-copied"] {
            profiles.extend((1..=3).map(|at| profile(user, "a", at)));
        }
        // The same number, the same and another content; a gap.
        profiles.extend([profile("u-version", "a", 2), profile("u-version", "b", 2), profile("u-gap", "a", 2)]);
        profiles.extend([profile("u-copied", "b", 2), profile("u-copied", "c", 3)]);
        stage.send("profiles", profiles).await;
        Self
    }

    /// More load: purchases and their payments, repeats and counts.
    pub async fn go_on(&self, stage: &Stage, round: usize) {
        if round > ROUNDS {
            return;
        }
        let ids: Vec<String> = (0..ROUND).map(|at| format!("p-{round}-{at}")).collect();
        let mut placed: Vec<Event> = ids.iter().map(|id| Event::placed(id, "tea")).collect();
        placed.extend(ids.iter().step_by(7).map(|id| Event::placed(id, "tea")));
        stage.send("purchases", placed).await;
        // Some come before their payment is known, and wait.
        stage.send("payments", ids.iter().map(|id| captured(id)).collect()).await;
        let counts = (0..2 * ROUND).map(|at| Event::counted(&format!("c-{}", at % 40), format!("{round}-{at}"), 1));
        stage.send("activity", counts.collect()).await;
    }

    /// Whether all that was sent has come to its end.
    pub async fn is_told(&self, stage: &Stage) -> bool {
        let ended = "select count(*) from shop.purchase where status = 'completed'";
        stage.database.number(ended).await == i64::try_from(2 + ROUNDS * ROUND).ok()
    }
}
