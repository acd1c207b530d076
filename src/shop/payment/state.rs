//! What a payment decides: a table of its status against each event, every pair in its place.

use serde_json::{Value as Json, json};

use super::{Amount, FAILED, Order, Payment, PaymentStatus as Status, Payments, REQUESTS, RETURNED, SUCCEEDED};
use crate::core::effect::{Effect, Effects, Objection};

/// The debt of money that is to be given back.
const DEBT: &str = "refund";
const CAPTURE_TIMER: &str = "capture";
const REFUND_TIMER: &str = "refund";

impl Payments {
    pub(super) fn charge(
        &self,
        known: Option<Payment>,
        id: &str,
        order: &Order,
        effects: &mut Effects,
    ) -> Result<Payment, Objection> {
        let Some(payment) = known else { return Ok(self.charge_new(Payment::new(id, order), effects)) };
        if payment.amount_minor != order.amount.minor || payment.currency != order.amount.currency {
            return contradiction("charged before with another amount");
        }
        match payment.status {
            // The same command again: the answer is given as far as it is known.
            Status::Requested => {}
            Status::Captured => effects.reply(SUCCEEDED, payment.names()),
            Status::Declined => effects.reply(FAILED, payment.names_with("declined")),
            Status::Cancelled | Status::Refunding | Status::Refunded => {
                effects.correlate(&payment.purchase_id);
                effects.reply(FAILED, payment.names_with("cancelled"));
                return Err(Objection::Refused("cancelled before".to_owned()));
            }
        }
        Ok(payment)
    }

    fn charge_new(&self, mut payment: Payment, effects: &mut Effects) -> Payment {
        if payment.amount_minor == 0 {
            // There is nothing to ask a gateway for.
            payment.status = Status::Captured;
            effects.reply(SUCCEEDED, payment.names());
        } else {
            payment.charge_asker = effects.asker().map(str::to_owned);
            self.ask_capture(&mut payment, 1, effects);
        }
        payment
    }

    /// The undo of a charge, which may not have come yet.
    pub(super) fn undo(
        &self,
        known: Option<Payment>,
        id: &str,
        order: &Order,
        effects: &mut Effects,
    ) -> Result<Payment, Objection> {
        let mut payment = known.unwrap_or_else(|| Payment { status: Status::Cancelled, ..Payment::new(id, order) });
        match payment.status {
            Status::Requested => {
                payment.status = Status::Cancelled;
                effects.reply(RETURNED, payment.names());
            }
            Status::Captured if payment.kept() == 0 => {
                payment.status = Status::Refunded;
                effects.reply(RETURNED, payment.names());
            }
            Status::Captured => {
                payment.refund_asker = effects.asker().map(str::to_owned);
                self.give_back(&mut payment, 1, effects);
            }
            Status::Refunding => {
                // Whoever asks last is answered: a saga that asks again hears no answer to what it asked before.
                payment.refund_asker = effects.asker().map(str::to_owned).or(payment.refund_asker);
            }
            Status::Declined | Status::Cancelled | Status::Refunded => effects.reply(RETURNED, payment.names()),
        }
        Ok(payment)
    }

    pub(super) fn captured(
        &self,
        mut payment: Payment,
        amount: &Amount,
        effects: &mut Effects,
    ) -> Result<Payment, Objection> {
        if amount.minor != payment.amount_minor || amount.currency != payment.currency {
            return contradiction("captured another amount than was asked for");
        }
        match payment.status {
            Status::Requested => {
                payment.status = Status::Captured;
                payment.captured_minor = amount.minor;
                if let Some(asker) = &payment.charge_asker {
                    effects.answer(asker, SUCCEEDED, payment.names());
                }
            }
            // Nobody wants this money any more: the payment itself gives it back.
            Status::Cancelled => {
                payment.captured_minor = amount.minor;
                self.give_back(&mut payment, 1, effects);
            }
            Status::Captured | Status::Refunding | Status::Refunded => return contradiction("captured before"),
            Status::Declined => return contradiction("declined before"),
        }
        Ok(payment)
    }

    pub(super) fn declined(mut payment: Payment, effects: &mut Effects) -> Result<Payment, Objection> {
        match payment.status {
            Status::Requested => {
                payment.status = Status::Declined;
                if let Some(asker) = &payment.charge_asker {
                    effects.answer(asker, FAILED, payment.names_with("declined"));
                }
            }
            Status::Declined | Status::Cancelled => {}
            Status::Captured | Status::Refunding | Status::Refunded => return contradiction("captured before"),
        }
        Ok(payment)
    }

    pub(super) fn refunded(mut payment: Payment, amount: &Amount, effects: &mut Effects) -> Result<Payment, Objection> {
        match payment.status {
            Status::Captured | Status::Refunding => {}
            Status::Requested | Status::Declined | Status::Cancelled | Status::Refunded => {
                return contradiction("there is nothing to be refunded");
            }
        }
        if amount.currency != payment.currency || amount.minor > payment.kept() || payment.kept() == 0 {
            return contradiction("refunded other money than was captured");
        }
        payment.refunded_minor += amount.minor;
        if payment.kept() > 0 {
            return Ok(payment);
        }
        if payment.status == Status::Refunding {
            effects.push(Effect::Settle { what: DEBT });
        }
        payment.status = Status::Refunded;
        if let Some(asker) = &payment.refund_asker {
            effects.answer(asker, RETURNED, payment.names());
        }
        Ok(payment)
    }

    /// A timer `<what>/<attempt>` is due; `None` if it no longer matters.
    pub(super) fn ask_again(&self, mut payment: Payment, timer: &str, effects: &mut Effects) -> Option<Payment> {
        let (what, attempt) = timer.split_once('/')?;
        let attempt =
            attempt.parse::<i64>().ok().filter(|attempt| Some(*attempt) == payment.attempts.checked_add(1))?;
        match payment.status {
            // Out of attempts nothing more is asked for: the saga's deadline decides.
            Status::Requested if what == CAPTURE_TIMER && attempt <= self.capture.attempts_max => {
                self.ask_capture(&mut payment, attempt, effects);
                Some(payment)
            }
            Status::Refunding if what == REFUND_TIMER && attempt <= self.refund.attempts_max => {
                self.ask_refund(&mut payment, attempt, effects);
                Some(payment)
            }
            Status::Refunding if what == REFUND_TIMER => {
                effects.push(Effect::NeedsOperator { what: DEBT });
                None
            }
            Status::Requested | Status::Refunding => None,
            // The answer came before the timer.
            Status::Captured | Status::Declined | Status::Cancelled | Status::Refunded => None,
        }
    }

    /// An operator lets the gateway be asked once more. A timer of the attempt before no longer matters then.
    pub(super) fn ask_once_more(&self, mut payment: Payment, effects: &mut Effects) -> Result<Payment, Objection> {
        let attempt = payment.attempts.saturating_add(1);
        match payment.status {
            Status::Requested => self.ask_capture(&mut payment, attempt, effects),
            Status::Refunding => self.give_back(&mut payment, attempt, effects),
            Status::Captured | Status::Declined | Status::Cancelled | Status::Refunded => {
                return Err(Objection::Refused(format!("it is {}: nothing is asked for", payment.status.as_str())));
            }
        }
        Ok(payment)
    }

    fn give_back(&self, payment: &mut Payment, attempt: i64, effects: &mut Effects) {
        payment.status = Status::Refunding;
        let (amount_minor, currency) = (payment.kept(), payment.currency.clone());
        effects.push(Effect::Owe { what: DEBT, amount_minor, currency });
        self.ask_refund(payment, attempt, effects);
    }

    fn ask_capture(&self, payment: &mut Payment, attempt: i64, effects: &mut Effects) {
        payment.attempts = attempt;
        let data = payment.request(payment.amount_minor, "method", &payment.method);
        effects.send(REQUESTS, &payment.payment_id, "payment.capture_requested", data);
        effects.wake(format!("{CAPTURE_TIMER}/{}", attempt + 1), self.capture.retry);
    }

    fn ask_refund(&self, payment: &mut Payment, attempt: i64, effects: &mut Effects) {
        payment.attempts = attempt;
        let reason = if payment.refund_asker.is_some() { "purchase_rejected" } else { "captured_after_cancellation" };
        let data = payment.request(payment.kept(), "reason", reason);
        effects.send(REQUESTS, &payment.payment_id, "payment.refund_requested", data);
        effects.wake(format!("{REFUND_TIMER}/{}", attempt + 1), self.refund.retry);
    }
}

impl Payment {
    fn new(id: &str, order: &Order) -> Self {
        Self {
            payment_id: id.to_owned(),
            purchase_id: order.purchase_id.clone(),
            amount_minor: order.amount.minor,
            captured_minor: 0,
            refunded_minor: 0,
            currency: order.amount.currency.clone(),
            status: Status::Requested,
            method: order.method.clone(),
            charge_asker: None,
            refund_asker: None,
            attempts: 0,
        }
    }

    /// What was captured and not given back.
    fn kept(&self) -> i64 {
        self.captured_minor - self.refunded_minor
    }

    fn names(&self) -> Json {
        json!({ "payment_id": self.payment_id, "purchase_id": self.purchase_id })
    }

    fn names_with(&self, reason: &str) -> Json {
        json!({ "payment_id": self.payment_id, "purchase_id": self.purchase_id, "reason": reason })
    }

    fn request(&self, amount_minor: i64, extra: &str, text: &str) -> Json {
        json!({
            "payment_id": self.payment_id,
            "purchase_id": self.purchase_id,
            "amount_minor": amount_minor,
            "currency": self.currency,
            extra: text,
        })
    }
}

fn contradiction(what: &str) -> Result<Payment, Objection> {
    Err(Objection::Contradiction(what.to_owned()))
}
