//! Payments: asks a gateway outside to capture and to refund, and owns what is still to be given back.
//!
//! ```text
//!           charge              captured            refund             refunded in full
//!   (none) ───────► requested ──────────► captured ────────► refunding ────────► refunded
//!     │               │   │ declined                             ▲
//!     │ refund        │   └────────► declined                    │
//!     └────► cancelled ◄─┘ refund                                │
//!                │ captured: nobody wants it any more            │
//!                └───────────────────────────────────────────────┘
//! ```
//! A gateway answers once per payment and kind of request, so asking again is safe.

mod state;

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde_json::Value as Json;

use super::{Settings, fields::Fields, words::words};
use crate::core::{
    effect::{Effects, Objection},
    kind::{Entity, EventType, Invalid, Nature},
    rows::Rows,
};

/// Where a gateway reads what it is asked for.
pub const REQUESTS: &str = "payment-requests";
/// The command to charge.
pub const CHARGE: &str = "payment.charge";
/// Its undo.
pub const REFUND: &str = "payment.refund";
/// The yes to [`CHARGE`].
pub const SUCCEEDED: &str = "payment.succeeded";
/// The no to [`CHARGE`].
pub const FAILED: &str = "payment.failed";
/// The answer to [`REFUND`].
pub const RETURNED: &str = "payment.returned";
/// What the id of a purchase's payment begins with.
pub const ID_PREFIX: &str = "pay-";

const CAPTURED: &str = "payment.captured";
const DECLINED: &str = "payment.declined";
const REFUNDED: &str = "payment.refunded";

words! {
    /// Where a payment stands.
    PaymentStatus {
        /// The capture is asked for.
        Requested = "requested",
        /// The money is here.
        Captured = "captured",
        /// The gateway said no.
        Declined = "declined",
        /// Undone before the money came; money that comes all the same is given back.
        Cancelled = "cancelled",
        /// The refund is asked for.
        Refunding = "refunding",
        /// All that was captured is given back.
        Refunded = "refunded",
    }
}

crate::table! {
    /// A payment.
    main Payment in "shop"."payment" {
        /// The payment.
        key payment_id: String;
        /// What it pays.
        purchase_id: String,
        /// What is asked for.
        amount_minor: i64,
        /// What has come.
        captured_minor: i64,
        /// What was given back.
        refunded_minor: i64,
        /// ISO 4217.
        currency: String,
        /// Where it stands.
        status: PaymentStatus,
        /// How it is paid, as the gateway understands it.
        method: String,
        /// The saga reference of the charge, for the answer that comes later.
        charge_asker: Option<String>,
        /// The saga reference of the refund, for the answer that comes later.
        refund_asker: Option<String>,
        /// How often the gateway was asked for what is asked for now.
        attempts: i64,
    }
}

/// The id of a purchase's payment.
#[must_use]
pub fn id_of(purchase_id: &str) -> String {
    format!("{ID_PREFIX}{purchase_id}")
}

/// The kind.
#[derive(Clone, Debug)]
pub struct Payments {
    capture: Patience,
    refund: Patience,
}

/// How a request to the gateway is repeated.
#[derive(Clone, Copy, Debug)]
struct Patience {
    retry: Duration,
    attempts_max: i64,
}

impl Payments {
    /// The kind, as patient as the settings say.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self {
            capture: Patience { retry: settings.capture_retry, attempts_max: settings.capture_attempts },
            refund: Patience { retry: settings.refund_retry, attempts_max: settings.refund_attempts },
        }
    }
}

/// What happens to a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// `payment.charge`.
    Charge(Order),
    /// `payment.refund`.
    Refund(Order),
    /// `payment.captured`.
    Captured(Amount),
    /// `payment.declined`.
    Declined,
    /// `payment.refunded`.
    Refunded(Amount),
}

/// What a saga asks to charge, or to give back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    purchase_id: String,
    amount: Amount,
    method: String,
}

/// Money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Amount {
    minor: i64,
    currency: String,
}

impl Entity for Payments {
    const KIND: &'static str = "payment";
    const TOPIC: &'static str = "payments";
    const KEY_FIELD: &'static str = "payment_id";
    const EVENTS: &'static [EventType] = &[
        EventType { name: CHARGE, nature: Nature::Command },
        EventType { name: REFUND, nature: Nature::Command },
        EventType { name: CAPTURED, nature: Nature::Fact },
        EventType { name: DECLINED, nature: Nature::Fact },
        EventType { name: REFUNDED, nature: Nature::Fact },
    ];
    type Main = Payment;
    type Event = Event;

    fn parse(event_type: &str, data: &Json) -> Result<Event, Invalid> {
        let fields = Fields::of(data);
        fields.id("payment_id")?;
        if event_type == DECLINED {
            fields.text("code")?;
            fields.text("message")?;
            return Ok(Event::Declined);
        }
        let amount = Amount { minor: fields.int_from("amount_minor", 0)?, currency: fields.currency("currency")? };
        if event_type == CHARGE || event_type == REFUND {
            let (purchase_id, method) = (fields.id("purchase_id")?, fields.id("method")?);
            let order = Order { purchase_id, amount, method };
            return Ok(if event_type == CHARGE { Event::Charge(order) } else { Event::Refund(order) });
        }
        fields.text("provider_ref")?;
        Ok(if event_type == CAPTURED { Event::Captured(amount) } else { Event::Refunded(amount) })
    }

    fn decide(&self, rows: &mut Rows<'_>, event: &Event, effects: &mut Effects) -> Result<(), Objection> {
        let known = rows.main::<Payment>();
        let payment = match (event, known) {
            (Event::Charge(order), known) => self.charge(known, rows.entity_id(), order, effects)?,
            (Event::Refund(order), known) => self.undo(known, rows.entity_id(), order, effects)?,
            (Event::Captured(amount), Some(payment)) => self.captured(payment, amount, effects)?,
            (Event::Declined, Some(payment)) => Self::declined(payment, effects)?,
            (Event::Refunded(amount), Some(payment)) => Self::refunded(payment, amount, effects)?,
            (Event::Captured(_) | Event::Declined | Event::Refunded(_), None) => return Err(Objection::NotYet),
        };
        effects.correlate(&payment.purchase_id);
        rows.put(payment);
        Ok(())
    }

    fn timer(&self, rows: &mut Rows<'_>, name: &str, effects: &mut Effects) {
        let Some(payment) = rows.main::<Payment>() else { return };
        effects.correlate(&payment.purchase_id);
        if let Some(payment) = self.ask_again(payment, name, effects) {
            rows.put(payment);
        }
    }

    fn retry(&self, rows: &mut Rows<'_>, effects: &mut Effects) -> Result<(), Objection> {
        let payment = rows.main::<Payment>().ok_or(Objection::NotYet)?;
        effects.correlate(&payment.purchase_id);
        rows.put(self.ask_once_more(payment, effects)?);
        Ok(())
    }
}
