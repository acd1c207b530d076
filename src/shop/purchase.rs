//! Purchases: placed, perhaps cancelled, in the end completed or rejected by their checkout.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};

use super::{checkout, fields::Fields, money, payment, words::words};
use crate::core::{
    effect::{Effect, Effects, Objection},
    kind::{Entity, EventType, Invalid, Nature},
    rows::Rows,
    saga::{Ending, Instance},
    state::Address,
    table::Value,
};

/// Where the outcomes of purchases are told.
pub const OUTCOMES: &str = "purchase-outcomes";

const PLACED: &str = "purchase.placed";
const CANCELLED: &str = "purchase.cancelled";
const LINES_MAX: usize = 100;
/// The id of the purchase's payment, which is longer, must be an id too.
const PURCHASE_ID_BYTES_MAX: usize = 255 - payment::ID_PREFIX.len();

words! {
    /// Where a purchase stands.
    PurchaseStatus {
        /// Its checkout is under way.
        Pending = "pending",
        /// Paid and handed over.
        Completed = "completed",
        /// Undone; `reason` says why.
        Rejected = "rejected",
    }
}

crate::table! {
    /// A purchase.
    main Purchase in "shop"."purchase" {
        /// The purchase.
        key purchase_id: String;
        /// Who buys.
        customer_id: String,
        /// Where it stands.
        status: PurchaseStatus,
        /// Why it was rejected.
        reason: Option<String>,
        /// The sum of its lines.
        total_minor: i64,
        /// ISO 4217.
        currency: String,
        /// How it is paid, as the gateway understands it.
        payment_method: String,
    }
}

crate::table! {
    /// One item of a purchase.
    sub Line in "shop"."purchase_line" {
        /// The purchase.
        key purchase_id: String,
        /// The item.
        key sku: String;
        /// How many.
        quantity: i64,
        /// The price of one.
        unit_price_minor: i64,
    }
}

/// The kind.
#[derive(Debug)]
pub struct Purchases;

/// What happens to a purchase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// `purchase.placed`: the rows that it becomes.
    Placed(Purchase, Vec<Line>),
    /// `purchase.cancelled`.
    Cancelled,
}

impl Entity for Purchases {
    const KIND: &'static str = "purchase";
    const TOPIC: &'static str = "purchases";
    const KEY_FIELD: &'static str = "purchase_id";
    const EVENTS: &'static [EventType] =
        &[EventType { name: PLACED, nature: Nature::Request }, EventType { name: CANCELLED, nature: Nature::Request }];
    type Main = Purchase;
    type Event = Event;

    fn parse(event_type: &str, data: &Json) -> Result<Event, Invalid> {
        let fields = Fields::of(data);
        let purchase_id = fields.id_within("purchase_id", PURCHASE_ID_BYTES_MAX)?;
        if event_type == CANCELLED {
            fields.text("reason")?;
            return Ok(Event::Cancelled);
        }
        let lines = parse_lines(&fields, &purchase_id)?;
        let Some(total_minor) = money::total(lines.iter().map(|line| (line.quantity, line.unit_price_minor))) else {
            return Err(fields.invalid("lines", "their total must be within int64"));
        };
        let purchase = Purchase {
            purchase_id,
            customer_id: fields.id("customer_id")?,
            status: PurchaseStatus::Pending,
            reason: None,
            total_minor,
            currency: fields.currency("currency")?,
            payment_method: fields.id("payment_method")?,
        };
        Ok(Event::Placed(purchase, lines))
    }

    fn rows(entity_id: &str, event: &Event) -> Vec<Address> {
        let key = |sku: &str| vec![Value::Text(entity_id.to_owned()), Value::Text(sku.to_owned())];
        match event {
            Event::Placed(_, lines) => lines.iter().map(|line| Address::of::<Line>(key(&line.sku))).collect(),
            Event::Cancelled => Vec::new(),
        }
    }

    fn decide(&self, rows: &mut Rows<'_>, event: &Event, effects: &mut Effects) -> Result<(), Objection> {
        effects.correlate(rows.entity_id());
        match event {
            Event::Placed(purchase, lines) => place(rows, effects, purchase, lines),
            Event::Cancelled => cancel(rows, effects),
        }
    }
}

fn parse_lines(fields: &Fields<'_>, purchase_id: &str) -> Result<Vec<Line>, Invalid> {
    let mut skus = BTreeSet::new();
    let mut lines = Vec::new();
    for entry in fields.list("lines", 1, LINES_MAX)? {
        let line = Line {
            purchase_id: purchase_id.to_owned(),
            sku: entry.id("sku")?,
            quantity: entry.int_from("quantity", 1)?,
            unit_price_minor: entry.int_from("unit_price_minor", 0)?,
        };
        if !skus.insert(line.sku.clone()) {
            return Err(entry.invalid("sku", "stands in an earlier line"));
        }
        lines.push(line);
    }
    Ok(lines)
}

/// A second placing of a known purchase is refused and sends nothing.
fn place(rows: &mut Rows<'_>, effects: &mut Effects, purchase: &Purchase, lines: &[Line]) -> Result<(), Objection> {
    if rows.main::<Purchase>().is_some() {
        return Err(Objection::Refused("placed before".to_owned()));
    }
    rows.put(purchase.clone());
    for line in lines {
        rows.put(line.clone());
    }
    effects.push(Effect::BeginSaga { definition: checkout::NAME });
    Ok(())
}

/// What counts is what the purchase has learnt: a capture whose answer is on its way is undone.
fn cancel(rows: &Rows<'_>, effects: &mut Effects) -> Result<(), Objection> {
    let Some(purchase) = rows.main::<Purchase>() else { return Err(Objection::NotYet) };
    match purchase.status {
        PurchaseStatus::Completed | PurchaseStatus::Rejected => {
            Err(Objection::Refused(format!("{} already", purchase.status.as_str())))
        }
        PurchaseStatus::Pending if rows.saga().is_some_and(Instance::pivot_passed) => {
            Err(Objection::Refused("paid already".to_owned()))
        }
        PurchaseStatus::Pending => {
            effects.push(Effect::CancelSaga { definition: checkout::NAME, reason: "cancelled".to_owned() });
            Ok(())
        }
    }
}

/// The checkout has ended: the purchase keeps its outcome and tells it.
pub(super) fn end(rows: &mut Rows<'_>, ending: &Ending, effects: &mut Effects) {
    let mut purchase = rows.main::<Purchase>().expect("a checkout begins with the row of its purchase");
    let id = purchase.purchase_id.clone();
    effects.correlate(&id);
    match ending {
        Ending::Completed => {
            purchase.status = PurchaseStatus::Completed;
            let (total, currency) = (purchase.total_minor, &purchase.currency);
            let data = json!({ "purchase_id": id, "total_minor": total, "currency": currency });
            effects.send(OUTCOMES, &id, "purchase.completed", data);
        }
        Ending::Compensated { reason } => {
            purchase.status = PurchaseStatus::Rejected;
            purchase.reason = Some(reason.clone());
            effects.send(OUTCOMES, &id, "purchase.rejected", json!({ "purchase_id": id, "reason": reason }));
        }
    }
    rows.put(purchase);
}
