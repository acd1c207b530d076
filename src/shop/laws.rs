//! What must hold of the shop's rows, beyond what the runtime promises of any: goods and money are conserved.
//!
//! An entity is changed by its own lane alone, so laws of one entity are read with its version before and after. Laws
//! between entities follow the messages between their lanes: a purchase is completed after its stock has been handed
//! over, so the purchase is read first.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{
    payment::{self, Payment, PaymentStatus},
    purchase::{self, Line, Purchase, PurchaseStatus},
    stock::{self, Item, Reservation, ReservationStatus},
};
use crate::{
    core::{
        event::Event,
        marks::Marks,
        record::LaneId,
        rows::Row as _,
        table::{Key, Row, Table, Value},
    },
    fsck::{self, Class, Error, Finding, Law, Look, Report, Scan},
};

/// Looks at one row that keeps moving before it is left unsettled.
const LOOKS_MAX: u32 = 100;
/// Keys of one question.
const PAGE_KEYS: usize = 500;

/// The laws of the shop. `prefix` stands before every topic's name.
#[must_use]
pub fn laws(prefix: &str) -> Vec<Box<dyn Law>> {
    vec![
        Box::new(Goods { topic: format!("{prefix}stock"), on_hand: BTreeMap::new() }),
        Box::new(Purchases { outcomes: format!("{prefix}{}", purchase::OUTCOMES) }),
        Box::new(Money),
    ]
}

fn broken(kind: &str, id: &str, says: String) -> Finding {
    let mend = format!("seriatim entity show {kind} {id}");
    Finding::new(Class::Law, format!("{kind} {id}"), says, mend).of(kind, id)
}

fn fit<T>(row: Option<T>, table: &'static Table) -> Result<T, Error> {
    row.ok_or(Error::Unfit(table.name))
}

fn id_key(id: &str) -> Key {
    vec![Value::text(id)]
}

/// On hand is what was received and adjusted less what was committed; reserved is what reservations say.
struct Goods {
    topic: String,
    /// What the lane under way has received and adjusted, by item.
    on_hand: BTreeMap<String, i64>,
}

#[async_trait]
impl Law for Goods {
    fn applied(&mut self, lane: &LaneId, event: &Event) {
        if lane.topic != self.topic {
            return;
        }
        let change = match fsck::entity_event::<stock::Event>(event) {
            Some(stock::Event::Received(quantity)) => *quantity,
            Some(stock::Event::Adjusted(delta)) => *delta,
            Some(stock::Event::Reserve(_) | stock::Event::Release(_) | stock::Event::Commit(_)) | None => return,
        };
        let sum = self.on_hand.entry(event.entity_id.clone()).or_insert(0);
        *sum = sum.saturating_add(change);
    }

    async fn lane(&mut self, look: &mut Look, lane: &LaneId) -> Result<Vec<Finding>, Error> {
        let mut findings = Vec::new();
        if lane.topic != self.topic {
            return Ok(findings);
        }
        for (sku, sum) in std::mem::take(&mut self.on_hand) {
            let (_, committed) = reservations(look, &sku).await?;
            let row = look.one(Item::table(), id_key(&sku)).await?;
            let on_hand =
                row.map(|row| fit(Item::from_cells(&row), Item::table())).transpose()?.map(|item| item.on_hand);
            let expected = sum - committed;
            if on_hand != Some(expected) {
                let says = format!("on hand is {on_hand:?}: received and adjusted {sum} less committed {committed}");
                let finding = broken("stock", &sku, says).with("on_hand", on_hand).with("expected", expected);
                findings.push(finding.with("received_and_adjusted", sum).with("committed", committed));
            }
        }
        Ok(findings)
    }

    async fn rows(&mut self, look: &mut Look, report: &mut Report) -> Result<(), Error> {
        // Of a lane whose topic has lost its beginning nothing is known to compare with.
        self.on_hand.clear();
        let mut scan = Scan::new(Item::table(), Key::new());
        while let Some(row) = scan.next(look).await? {
            let item = fit(Item::from_cells(&row), Item::table())?;
            let mut row = Some(row);
            let mut settled = false;
            for _ in 0..LOOKS_MAX {
                let (reserved, _) = reservations(look, &item.sku).await?;
                let item = row.as_deref().and_then(Item::from_cells);
                if item.as_ref().is_some_and(|item| item.reserved == reserved && item.reserved <= item.on_hand) {
                    settled = true;
                    break;
                }
                let now = look.one(Item::table(), id_key(&scan_id(&row))).await?;
                if now == row {
                    report.find(overbooked(item.as_ref(), reserved));
                    settled = true;
                    break;
                }
                row = now;
            }
            report.unsettled += u64::from(!settled);
        }
        Ok(())
    }
}

fn scan_id(row: &Option<Row>) -> String {
    match row.as_deref().and_then(<[Value]>::first) {
        Some(Value::Text(id)) => id.clone(),
        _ => String::new(),
    }
}

fn overbooked(item: Option<&Item>, reserved: i64) -> Finding {
    let (sku, on_hand, said) = item.map_or(("", 0, 0), |item| (item.sku.as_str(), item.on_hand, item.reserved));
    let says = format!("reserved is {said} of {on_hand} on hand, and its reservations reserve {reserved}");
    broken("stock", sku, says).with("on_hand", on_hand).with("reserved", said).with("reservations", reserved)
}

/// How many of an item are reserved, and how many committed.
async fn reservations(look: &mut Look, sku: &str) -> Result<(i64, i64), Error> {
    let (mut reserved, mut committed) = (0_i64, 0_i64);
    let mut scan = Scan::new(Reservation::table(), id_key(sku));
    while let Some(row) = scan.next(look).await? {
        let row = fit(Reservation::from_cells(&row), Reservation::table())?;
        match row.status {
            ReservationStatus::Reserved => reserved = reserved.saturating_add(row.quantity),
            ReservationStatus::Committed => committed = committed.saturating_add(row.quantity),
            ReservationStatus::Released => {}
        }
    }
    Ok((reserved, committed))
}

/// A completed purchase is handed over and paid, a rejected one keeps nothing, a pending one has its checkout; one that
/// has ended has told so once.
struct Purchases {
    outcomes: String,
}

#[async_trait]
impl Law for Purchases {
    async fn rows(&mut self, look: &mut Look, report: &mut Report) -> Result<(), Error> {
        let mut scan = Scan::new(Purchase::table(), Key::new());
        loop {
            let page = scan.pages(look).await?;
            if page.is_empty() {
                return Ok(());
            }
            for page in page.chunks(PAGE_KEYS) {
                self.page(look, report, page).await?;
            }
        }
    }
}

impl Purchases {
    async fn page(&self, look: &mut Look, report: &mut Report, page: &[Row]) -> Result<(), Error> {
        let mut purchases = Vec::new();
        for row in page {
            let purchase = fit(Purchase::from_cells(row), Purchase::table())?;
            self.told(report, &purchase, row)?;
            if purchase.status == PurchaseStatus::Pending {
                checkout_runs(look, report, &purchase, row).await?;
            } else {
                purchases.push(purchase);
            }
        }
        // Read after the purchases: what ended them had happened before.
        let ids = || purchases.iter().map(|purchase| id_key(&purchase.purchase_id));
        let mut lines: BTreeMap<String, Vec<Line>> = BTreeMap::new();
        for row in look.keyed(Line::table(), ids().collect()).await? {
            let line = fit(Line::from_cells(&row), Line::table())?;
            lines.entry(line.purchase_id.clone()).or_default().push(line);
        }
        let keys = lines.values().flatten().map(|line| vec![Value::text(&line.sku), Value::text(&line.purchase_id)]);
        let mut kept = BTreeMap::new();
        for row in look.keyed(Reservation::table(), keys.collect()).await? {
            let row = fit(Reservation::from_cells(&row), Reservation::table())?;
            kept.insert((row.purchase_id.clone(), row.sku.clone()), row);
        }
        let keys = purchases.iter().map(|purchase| id_key(&payment::id_of(&purchase.purchase_id)));
        let mut payments = BTreeMap::new();
        for row in look.keyed(Payment::table(), keys.collect()).await? {
            let row = fit(Payment::from_cells(&row), Payment::table())?;
            payments.insert(row.purchase_id.clone(), row);
        }
        for purchase in &purchases {
            let id = &purchase.purchase_id;
            for line in lines.get(id).into_iter().flatten() {
                if let Some(says) = wrong_goods(purchase, line, kept.get(&(id.clone(), line.sku.clone()))) {
                    report.find(
                        broken("purchase", id, says).with("sku", line.sku.as_str()).with("quantity", line.quantity),
                    );
                }
            }
            if let Some(says) = wrong_money(purchase, payments.get(id)) {
                report.find(broken("purchase", id, says).with("total_minor", purchase.total_minor));
            }
            if !lines.contains_key(id) {
                report.find(broken("purchase", id, "it has no line".to_owned()));
            }
        }
        Ok(())
    }

    /// The purchase's own row counts what it has told.
    fn told(&self, report: &mut Report, purchase: &Purchase, row: &Row) -> Result<(), Error> {
        let at = Purchase::table().version.map_or(row.len(), |at| at + 2);
        let Some(Value::Text(marks)) = row.get(at) else { return Err(Error::Unfit(Purchase::table().name)) };
        let marks: Marks = serde_json::from_str(marks).map_err(|_| Error::Unfit(Purchase::table().name))?;
        let (told, expected) = (marks.sent(&self.outcomes), i64::from(purchase.status != PurchaseStatus::Pending));
        if told != expected {
            let status = purchase.status.as_str();
            let says = format!("it is {status} and has told {told} outcomes, not {expected}");
            report.find(broken("purchase", &purchase.purchase_id, says).with("status", status).with("told", told));
        }
        Ok(())
    }
}

/// A pending purchase has a checkout under way: read it, then its saga, then it again.
async fn checkout_runs(look: &mut Look, report: &mut Report, purchase: &Purchase, row: &Row) -> Result<(), Error> {
    let id = &purchase.purchase_id;
    if is_open(look, id).await? || look.one(Purchase::table(), id_key(id)).await?.as_ref() != Some(row) {
        return Ok(());
    }
    report.find(broken("purchase", id, "it is pending and no checkout is under way".to_owned()));
    Ok(())
}

async fn is_open(look: &mut Look, purchase_id: &str) -> Result<bool, Error> {
    Ok(look.saga("checkout", purchase_id).await?.is_some_and(|saga| !saga.is_over()))
}

fn wrong_goods(purchase: &Purchase, line: &Line, kept: Option<&Reservation>) -> Option<String> {
    let status = kept.map(|row| row.status);
    let found = status.map_or("none", ReservationStatus::as_str);
    match purchase.status {
        PurchaseStatus::Completed => {
            let whole =
                status == Some(ReservationStatus::Committed) && kept.is_some_and(|row| row.quantity == line.quantity);
            (!whole)
                .then(|| format!("it is completed and {} is not handed over in full: reservation {found}", line.sku))
        }
        PurchaseStatus::Rejected => {
            let keeps = matches!(status, Some(ReservationStatus::Reserved | ReservationStatus::Committed));
            keeps.then(|| format!("it is rejected and keeps {}: reservation {found}", line.sku))
        }
        PurchaseStatus::Pending => None,
    }
}

fn wrong_money(purchase: &Purchase, payment: Option<&Payment>) -> Option<String> {
    let (captured, refunded) = payment.map_or((0, 0), |row| (row.captured_minor, row.refunded_minor));
    match purchase.status {
        PurchaseStatus::Completed => {
            let paid = payment.is_some_and(|row| row.currency == purchase.currency)
                && captured == purchase.total_minor
                && refunded == 0;
            (!paid).then(|| {
                format!("it is completed, captured {captured}, refunded {refunded} of {}", purchase.total_minor)
            })
        }
        PurchaseStatus::Rejected => {
            // Money that came after all is being given back.
            let under_way = payment.is_some_and(|row| row.status == PaymentStatus::Refunding);
            (captured != refunded && !under_way)
                .then(|| format!("it is rejected, captured {captured}, refunded {refunded}"))
        }
        PurchaseStatus::Pending => None,
    }
}

/// A payment that waits is waited for: a capture by its checkout, a refund by the ledger of debts. Amounts stay within
/// each other.
struct Money;

#[async_trait]
impl Law for Money {
    async fn rows(&mut self, look: &mut Look, report: &mut Report) -> Result<(), Error> {
        let mut scan = Scan::new(Payment::table(), Key::new());
        while let Some(row) = scan.next(look).await? {
            let payment = fit(Payment::from_cells(&row), Payment::table())?;
            let amounts = [0, payment.refunded_minor, payment.captured_minor, payment.amount_minor];
            let id = &payment.payment_id;
            if !amounts.is_sorted() {
                let says = "its amounts are not in order: refunded, captured, asked for".to_owned();
                let finding = broken("payment", id, says).with("amount_minor", payment.amount_minor);
                let finding = finding.with("captured_minor", payment.captured_minor);
                report.find(finding.with("refunded_minor", payment.refunded_minor));
            }
            let (waits, says) = match payment.status {
                PaymentStatus::Requested => {
                    (!is_open(look, &payment.purchase_id).await?, "a capture is asked for and no checkout waits for it")
                }
                PaymentStatus::Refunding => {
                    (!look.owes("payment", id, "refund").await?, "a refund is asked for and the ledger owes none")
                }
                PaymentStatus::Captured
                | PaymentStatus::Declined
                | PaymentStatus::Cancelled
                | PaymentStatus::Refunded => continue,
            };
            // What it waits for ends after it, or with it.
            if waits && look.one(Payment::table(), id_key(id)).await?.as_ref() == Some(&row) {
                let finding = broken("payment", id, says.to_owned());
                report.find(finding.with("status", payment.status.as_str()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purchase(status: PurchaseStatus) -> Purchase {
        Purchase {
            purchase_id: "p".to_owned(),
            customer_id: "c".to_owned(),
            status,
            reason: None,
            total_minor: 100,
            currency: "EUR".to_owned(),
            payment_method: "card".to_owned(),
        }
    }

    fn line() -> Line {
        Line { purchase_id: "p".to_owned(), sku: "tea".to_owned(), quantity: 2, unit_price_minor: 50 }
    }

    fn kept(quantity: i64, status: ReservationStatus) -> Option<Reservation> {
        Some(Reservation { sku: "tea".to_owned(), purchase_id: "p".to_owned(), quantity, status })
    }

    #[test]
    fn a_completed_purchase_is_handed_over_in_full() {
        let wrong =
            |kept: Option<Reservation>| wrong_goods(&purchase(PurchaseStatus::Completed), &line(), kept.as_ref());
        assert_eq!(wrong(kept(2, ReservationStatus::Committed)), None);
        assert!(wrong(kept(1, ReservationStatus::Committed)).is_some());
        assert!(wrong(kept(2, ReservationStatus::Reserved)).is_some());
        assert!(wrong(None).is_some());
    }

    #[test]
    fn a_rejected_purchase_keeps_nothing() {
        let wrong =
            |kept: Option<Reservation>| wrong_goods(&purchase(PurchaseStatus::Rejected), &line(), kept.as_ref());
        assert_eq!((wrong(None), wrong(kept(2, ReservationStatus::Released))), (None, None));
        assert!(wrong(kept(2, ReservationStatus::Reserved)).is_some());
        assert_eq!(wrong_money(&purchase(PurchaseStatus::Rejected), None), None);
        assert!(wrong_money(&purchase(PurchaseStatus::Completed), None).is_some());
    }
}
