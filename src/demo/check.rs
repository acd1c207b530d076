//! The invariants of a shop at rest, one by one, judged by tables and topics alone.
//!
//! What an entity in quarantine still has to hear of cannot be at rest; checks that speak of single entities leave
//! those out, and nothing else.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use seriatim::{
    core::record::LaneId,
    failure::Exit,
    shop::{
        payment::{self, PaymentStatus},
        purchase::PurchaseStatus,
        stock::ReservationStatus,
    },
};

use super::{
    races::{self, Losses},
    tables::Tables,
    wire::Opened,
};

/// What stands in topics, read by somebody who is not the worker.
#[derive(Clone, Debug, Default)]
pub struct Topics {
    /// Records of the home topics, all of them.
    pub records: i64,
    /// The sound ones, by place.
    pub opened: BTreeMap<(LaneId, i64), Opened>,
}

/// An invariant and whether it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub says: &'static str,
    /// The first things that break it; none if it holds.
    pub broken: Vec<String>,
}

/// Findings shown of one check.
const FINDINGS_MAX: usize = 3;

/// Every invariant. `ended`: how many records the worker says have ended.
pub fn all(tables: &Tables, topics: &Topics, ended: u64) -> Vec<Check> {
    let check = |says, broken: Vec<String>| Check { says, broken };
    vec![
        check("every record has exactly one outcome", outcomes(tables, topics, ended)),
        check("every saga has completed or is compensated", sagas(tables)),
        check("nothing is held or waiting", standing(tables)),
        check("nothing is reserved", reserved(tables)),
        check("on hand is what was received and adjusted less what was committed", on_hand(tables, topics)),
        check("every purchase has ended with one message that says so", messages(tables, topics)),
        check("a completed purchase is handed over and paid in full", completed(tables)),
        check("a rejected purchase keeps no goods and no money", rejected(tables)),
        check("no payment is under way", payments(tables)),
        check("versions in the journal have no gap and no repeat", versions(tables)),
        check("the races have lost nothing", raced(tables)),
    ]
}

fn outcomes(tables: &Tables, topics: &Topics, ended: u64) -> Vec<String> {
    let parked = tables.under_way.parked.iter().filter(|row| row.what == "record").count();
    let standing = tables.under_way.held.len() + tables.under_way.waiting.len() + parked;
    let told = i64::try_from(ended).unwrap_or(i64::MAX) + i64::try_from(standing).unwrap_or(i64::MAX);
    if told == topics.records { Vec::new() } else { vec![format!("{} records, {told} outcomes", topics.records)] }
}

fn sagas(tables: &Tables) -> Vec<String> {
    let open = tables.under_way.sagas.iter().filter(|saga| saga.status != "completed" && saga.status != "compensated");
    open.map(|saga| format!("{} is {}", saga.saga_id, saga.status)).collect()
}

fn standing(tables: &Tables) -> Vec<String> {
    let held = tables.under_way.held.iter().map(|row| format!("{} {} is held", row.entity_id, row.sequence));
    held.chain(tables.under_way.waiting.iter().map(|row| format!("{} waits", row.entity_id))).collect()
}

fn reserved(tables: &Tables) -> Vec<String> {
    let unwell = tables.under_way.unwell();
    let kept = tables.stock.iter().filter(|item| item.reserved != 0 && !unwell.contains(&("stock", &*item.sku)));
    kept.map(|item| format!("{} has {} reserved", item.sku, item.reserved)).collect()
}

/// The journal says which records were applied, the topic what they said.
fn on_hand(tables: &Tables, topics: &Topics) -> Vec<String> {
    let mut expected: BTreeMap<&str, i64> = BTreeMap::new();
    let mut broken = Vec::new();
    for row in tables.journal.iter().filter(|row| row.kind == "stock" && row.outcome == "applied") {
        let field = match row.event_type.as_str() {
            "stock.received" => "quantity",
            "stock.adjusted" => "delta",
            _ => continue,
        };
        let lane = LaneId { topic: row.topic.clone(), partition: i32::try_from(row.partition).unwrap_or_default() };
        let said = topics.opened.get(&(lane, row.record_offset)).and_then(|opened| opened.data[field].as_i64());
        match said {
            Some(quantity) => *expected.entry(&row.entity_id).or_default() += quantity,
            None => broken.push(format!("the journal names offset {} of {}", row.record_offset, row.topic)),
        }
    }
    for row in tables.reservations.iter().filter(|row| row.status == ReservationStatus::Committed) {
        *expected.entry(&row.sku).or_default() -= row.quantity;
    }
    let unwell = tables.under_way.unwell();
    let items = tables.stock.iter().filter(|item| !unwell.contains(&("stock", &*item.sku)));
    broken.extend(items.filter_map(|item| {
        let expected = expected.get(&*item.sku).copied().unwrap_or_default();
        (item.on_hand != expected).then(|| format!("{} has {} on hand, not {expected}", item.sku, item.on_hand))
    }));
    broken
}

/// Repeats of a message bear its id and count as one.
fn messages(tables: &Tables, topics: &Topics) -> Vec<String> {
    let mut said: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for ((lane, _), opened) in &topics.opened {
        if lane.topic == super::world::OUTCOMES {
            said.entry(&opened.key).or_default().insert(&opened.id, &opened.kind);
        }
    }
    let unwell = tables.under_way.unwell();
    let purchases = tables.purchases.iter().filter(|row| !unwell.contains(&("purchase", &*row.purchase_id)));
    let mut broken: Vec<String> = purchases
        .filter_map(|purchase| {
            let expected = match purchase.status {
                PurchaseStatus::Completed => "purchase.completed",
                PurchaseStatus::Rejected => "purchase.rejected",
                PurchaseStatus::Pending => return Some(format!("{} is pending", purchase.purchase_id)),
            };
            let messages: Vec<&str> =
                said.get(&*purchase.purchase_id).into_iter().flat_map(|messages| messages.values().copied()).collect();
            (messages != [expected]).then(|| format!("{}: {expected}, told {messages:?}", purchase.purchase_id))
        })
        .collect();
    let known: BTreeSet<&str> = tables.purchases.iter().map(|row| &*row.purchase_id).collect();
    broken
        .extend(said.keys().filter(|key| !known.contains(*key)).map(|key| format!("{key} was told of and is unknown")));
    broken
}

fn completed(tables: &Tables) -> Vec<String> {
    let taken = reservations(tables);
    let paid: BTreeMap<&str, &payment::Payment> =
        tables.payments.iter().map(|payment| (&*payment.payment_id, payment)).collect();
    let is_completed = |id: &str| {
        let found = tables.purchases.binary_search_by(|row| row.purchase_id.as_str().cmp(id));
        found.is_ok_and(|at| tables.purchases[at].status == PurchaseStatus::Completed)
    };
    let lines = tables.lines.iter().filter(|line| is_completed(&line.purchase_id)).filter_map(|line| {
        let kept = taken.get(&(&*line.purchase_id, &*line.sku));
        let whole = kept == Some(&(line.quantity, ReservationStatus::Committed));
        (!whole).then(|| format!("{} of {} was not handed over", line.sku, line.purchase_id))
    });
    let completed = tables.purchases.iter().filter(|row| row.status == PurchaseStatus::Completed);
    let unpaid = completed.filter_map(|purchase| {
        let id = payment::id_of(&purchase.purchase_id);
        let whole = paid.get(&*id).is_some_and(|payment| {
            payment.captured_minor == purchase.total_minor
                && payment.refunded_minor == 0
                && payment.currency == purchase.currency
        });
        (!whole).then(|| format!("{} is not paid in full", purchase.purchase_id))
    });
    lines.chain(unpaid).collect()
}

fn rejected(tables: &Tables) -> Vec<String> {
    let rejected: BTreeSet<&str> = tables
        .purchases
        .iter()
        .filter(|row| row.status == PurchaseStatus::Rejected)
        .map(|row| row.purchase_id.as_str())
        .collect();
    let goods = tables.reservations.iter().filter(|row| rejected.contains(&*row.purchase_id));
    let goods = goods.filter(|row| row.status != ReservationStatus::Released);
    let money = tables.payments.iter().filter(|row| rejected.contains(&*row.purchase_id));
    let money = money.filter(|row| row.captured_minor != row.refunded_minor);
    let goods = goods.map(|row| format!("{} keeps {}", row.purchase_id, row.sku));
    goods.chain(money.map(|row| format!("{} keeps money", row.payment_id))).collect()
}

fn payments(tables: &Tables) -> Vec<String> {
    let unwell = tables.under_way.unwell();
    let open = tables.payments.iter().filter(|row| {
        matches!(row.status, PaymentStatus::Requested | PaymentStatus::Refunding)
            && !unwell.contains(&("payment", &*row.payment_id))
    });
    open.map(|row| format!("{} is {}", row.payment_id, row.status.as_str())).collect()
}

fn versions(tables: &Tables) -> Vec<String> {
    let mut applied: BTreeMap<(&str, &str), Vec<i64>> = BTreeMap::new();
    for row in tables.journal.iter().filter(|row| row.outcome == "applied") {
        applied.entry((&row.kind, &row.entity_id)).or_default().push(row.version.unwrap_or_default());
    }
    let mut broken = Vec::new();
    for ((kind, id), mut versions) in applied {
        versions.sort_unstable();
        if !versions.iter().copied().eq(1..=i64::try_from(versions.len()).unwrap_or(i64::MAX)) {
            broken.push(format!("{kind} {id}: {versions:?}"));
        }
    }
    broken
}

fn raced(tables: &Tables) -> Vec<String> {
    let losses = losses(tables);
    if losses == Losses::default() { Vec::new() } else { vec![format!("{losses:?}")] }
}

/// What the worker has lost in the races.
pub fn losses(tables: &Tables) -> Losses {
    let mut losses = Losses::default();
    for at in 0..races::ITEMS {
        let sku = races::item(at);
        let sold = tables.reservations.iter().filter(|row| row.sku == sku);
        let sold: i64 = sold.filter(|row| row.status == ReservationStatus::Committed).map(|row| row.quantity).sum();
        losses.oversold += (sold - 1).max(0);
    }
    for at in 0..races::USERS {
        let user = tables.profiles.iter().find(|row| row.user_id == races::user(at));
        let email = user.and_then(|user| user.email.clone());
        let password_hash = user.and_then(|user| user.password_hash.clone());
        losses.updates += i64::from(email != Some(races::email(at)));
        losses.updates += i64::from(password_hash != Some(races::password_hash(at)));
    }
    let counted = i64::try_from(races::SENSORS.len()).unwrap_or_default() * races::COUNTS;
    for at in 0..races::COUNTERS {
        let counter = tables.counters.iter().find(|row| row.counter == races::counter(at));
        losses.increments += counted - counter.map_or(0, |counter| counter.value);
    }
    losses
}

fn reservations(tables: &Tables) -> BTreeMap<(&str, &str), (i64, ReservationStatus)> {
    let rows = tables.reservations.iter();
    rows.map(|row| ((&*row.purchase_id, &*row.sku), (row.quantity, row.status))).collect()
}

/// How the process ends: not well, if one does not hold.
pub fn verdict(checks: &[Check]) -> Exit {
    if checks.iter().all(Check::holds) { Exit::Done } else { Exit::Failed }
}

impl Check {
    pub fn holds(&self) -> bool {
        self.broken.is_empty()
    }

    /// A line, and one for each of the first findings.
    pub fn lines(&self) -> Vec<String> {
        let mark = if self.holds() { "ok    " } else { "FAILED" };
        let mut lines = vec![format!("  {mark}  {}", self.says)];
        lines.extend(self.broken.iter().take(FINDINGS_MAX).map(|finding| format!("            {finding}")));
        if self.broken.len() > FINDINGS_MAX {
            lines.push(format!("            and {} more", self.broken.len() - FINDINGS_MAX));
        }
        lines
    }
}
