//! The checkout of a purchase: reserve the stock, charge the payment, hand the stock over.
//!
//! Until the purchase has learnt of the capture, a no, a cancel or a deadline undoes it; after that it can
//! only go on.

use serde_json::json;

use super::{
    Settings, payment,
    purchase::{self, Line, Purchase},
    stock,
};
use crate::core::{
    rows::Rows,
    saga::{Branch, Class, Definition, Step, Undo},
};

/// Its name.
pub const NAME: &str = "checkout";

/// The definition in force.
#[must_use]
pub fn definition(settings: &Settings) -> Definition {
    let reserve = Step {
        name: "reserve",
        class: Class::Compensatable,
        command: stock::RESERVE,
        topic: "stock",
        yes: stock::RESERVED,
        no: Some(stock::REFUSED),
        undo: Some(Undo { command: stock::RELEASE, done: stock::RELEASED }),
        deadline: settings.reserve_deadline,
        undo_deadline: settings.undo_deadline,
        branches: shares,
        no_reason: "out_of_stock",
    };
    let charge = Step {
        name: "charge",
        class: Class::Pivot,
        command: payment::CHARGE,
        topic: "payments",
        yes: payment::SUCCEEDED,
        no: Some(payment::FAILED),
        undo: Some(Undo { command: payment::REFUND, done: payment::RETURNED }),
        deadline: settings.charge_deadline,
        undo_deadline: settings.undo_deadline,
        branches: charges,
        no_reason: "payment_declined",
    };
    let confirm = Step {
        name: "confirm",
        class: Class::Retriable,
        command: stock::COMMIT,
        topic: "stock",
        yes: stock::COMMITTED,
        no: None,
        undo: None,
        deadline: settings.confirm_deadline,
        undo_deadline: settings.undo_deadline,
        branches: shares,
        no_reason: "",
    };
    Definition {
        name: NAME,
        version: 1,
        topic: "purchases",
        steps: vec![reserve, charge, confirm],
        ended: purchase::end,
    }
}

/// One command a line: the placing event has just written the lines.
fn shares(rows: &Rows<'_>) -> Vec<Branch> {
    let share = |line: Line| Branch {
        data: json!({ "sku": line.sku, "purchase_id": line.purchase_id, "quantity": line.quantity }),
        key: line.sku,
    };
    rows.written::<Line>().map(share).collect()
}

fn charges(rows: &Rows<'_>) -> Vec<Branch> {
    let charge = |purchase: Purchase| {
        let payment_id = payment::id_of(&purchase.purchase_id);
        let data = json!({
            "payment_id": payment_id,
            "purchase_id": purchase.purchase_id,
            "amount_minor": purchase.total_minor,
            "currency": purchase.currency,
            "method": purchase.payment_method,
        });
        Branch { key: payment_id, data }
    };
    rows.main::<Purchase>().map(charge).into_iter().collect()
}
