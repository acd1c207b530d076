//! The rules of a payment, each as a claim; and random histories that may not break its sums.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{
    CAPTURED, CHARGE, DECLINED, FAILED, Payment, PaymentStatus, Payments, REFUND, REFUNDED, REQUESTS, RETURNED,
    SUCCEEDED,
};
use crate::{
    core::{effect::Effect, table::Value},
    shop::Settings,
    testing::{Given, given},
};

const ID: &str = "pay-p1";

fn payments() -> Given<Payments> {
    given(Payments::new(&settings()))
}

fn settings() -> Settings {
    Settings { capture_attempts: 2, refund_attempts: 2, ..Settings::default() }
}

fn order(amount: i64) -> Json {
    json!({"payment_id": ID, "purchase_id": "p1", "amount_minor": amount, "currency": "EUR", "method": "card"})
}

fn money(amount: i64) -> Json {
    json!({"payment_id": ID, "amount_minor": amount, "currency": "EUR", "provider_ref": "r"})
}

fn decline() -> Json {
    json!({"payment_id": ID, "code": "51", "message": "no funds"})
}

fn requested() -> Given<Payments> {
    payments().asked_by("charge").event(CHARGE, order(100))
}

fn captured() -> Given<Payments> {
    requested().event(CAPTURED, money(100))
}

fn cancelled() -> Given<Payments> {
    requested().asked_by("refund").event(REFUND, order(100))
}

fn refunding() -> Given<Payments> {
    captured().asked_by("refund").event(REFUND, order(100))
}

fn row(status: PaymentStatus, captured_minor: i64, refunded_minor: i64, attempts: i64) -> Payment {
    Payment {
        payment_id: ID.to_owned(),
        purchase_id: "p1".to_owned(),
        amount_minor: 100,
        captured_minor,
        refunded_minor,
        currency: "EUR".to_owned(),
        status,
        method: "card".to_owned(),
        charge_asker: Some("charge".to_owned()),
        refund_asker: None,
        attempts,
    }
}

fn capture_requested() -> Effect {
    Effect::Send { topic: REQUESTS, key: ID.to_owned(), message_type: "payment.capture_requested", data: order(100) }
}

fn refund_requested(amount: i64, reason: &str) -> Effect {
    let data =
        json!({"payment_id": ID, "purchase_id": "p1", "amount_minor": amount, "currency": "EUR", "reason": reason});
    Effect::Send { topic: REQUESTS, key: ID.to_owned(), message_type: "payment.refund_requested", data }
}

fn wake(name: &str) -> Effect {
    Effect::Wake { name: name.to_owned(), after: settings().capture_retry }
}

fn owe() -> Effect {
    Effect::Owe { what: "refund", amount_minor: 100, currency: "EUR".to_owned() }
}

fn settle() -> Effect {
    Effect::Settle { what: "refund" }
}

fn answer(asker: &str, message_type: &'static str) -> Effect {
    let data = json!({"payment_id": ID, "purchase_id": "p1"});
    Effect::Reply { asker: asker.to_owned(), message_type, data }
}

fn failed(asker: &str, reason: &str) -> Effect {
    let data = json!({"payment_id": ID, "purchase_id": "p1", "reason": reason});
    Effect::Reply { asker: asker.to_owned(), message_type: FAILED, data }
}

#[test]
fn a_charge_asks_the_gateway_and_keeps_who_asked() {
    let charged = payments().asked_by("charge").when(CHARGE, order(100)).then_applied().then_correlated("p1");
    charged.then_effects(&[capture_requested(), wake("capture/2")]).then_row(row(PaymentStatus::Requested, 0, 0, 1));
}

#[test]
fn a_second_charge_asks_for_nothing_more() {
    requested().asked_by("charge").when(CHARGE, order(100)).then_applied().then_effects(&[]);
    captured().asked_by("charge").when(CHARGE, order(100)).then_effects(&[answer("charge", SUCCEEDED)]);
    requested().when(CHARGE, order(99)).then_contradiction();
}

#[test]
fn a_charge_of_nothing_succeeds_without_a_gateway() {
    let free = payments().asked_by("charge").when(CHARGE, order(0)).then_applied();
    let free = free.then_effects(&[answer("charge", SUCCEEDED)]).and();
    let undone = free.asked_by("refund").when(REFUND, order(0)).then_applied();
    undone.then_effects(&[answer("refund", RETURNED)]).and().when(CAPTURED, money(0)).then_contradiction();
}

#[test]
fn a_capture_of_what_was_asked_for_answers_the_charge() {
    let captured = requested().when(CAPTURED, money(100)).then_applied().then_correlated("p1");
    captured.then_effects(&[answer("charge", SUCCEEDED)]).then_row(row(PaymentStatus::Captured, 100, 0, 1));
}

#[test]
fn a_capture_of_other_money_contradicts() {
    requested().when(CAPTURED, money(101)).then_contradiction();
    requested().when(CAPTURED, money(99)).then_contradiction();
    let mut dollars = money(100);
    dollars["currency"] = json!("USD");
    requested().when(CAPTURED, dollars).then_contradiction();
}

#[test]
fn a_second_capture_contradicts_in_every_state_that_has_one() {
    captured().when(CAPTURED, money(100)).then_contradiction();
    refunding().when(CAPTURED, money(100)).then_contradiction();
    refunding().event(REFUNDED, money(100)).when(CAPTURED, money(100)).then_contradiction();
    requested().event(DECLINED, decline()).when(CAPTURED, money(100)).then_contradiction();
}

#[test]
fn facts_about_an_unknown_payment_wait() {
    payments().when(CAPTURED, money(100)).then_waits();
    payments().when(DECLINED, decline()).then_waits();
    payments().when(REFUNDED, money(100)).then_waits();
}

#[test]
fn a_decline_answers_the_charge_once() {
    let declined = requested().when(DECLINED, decline()).then_applied();
    let declined =
        declined.then_effects(&[failed("charge", "declined")]).then_row(row(PaymentStatus::Declined, 0, 0, 1));
    let again = declined.and().when(DECLINED, decline()).then_applied().then_effects(&[]);
    again.and().asked_by("refund").when(REFUND, order(100)).then_effects(&[answer("refund", RETURNED)]);
    cancelled().when(DECLINED, decline()).then_applied().then_effects(&[]);
    captured().when(DECLINED, decline()).then_contradiction();
    refunding().when(DECLINED, decline()).then_contradiction();
}

#[test]
fn an_undo_before_the_charge_leaves_a_mark_that_refuses_it() {
    let undone = payments().asked_by("refund").when(REFUND, order(100)).then_applied();
    let undone = undone.then_effects(&[answer("refund", RETURNED)]);
    let marked = Payment { charge_asker: None, ..row(PaymentStatus::Cancelled, 0, 0, 0) };
    let late = undone.then_row(marked.clone()).and().asked_by("charge").when(CHARGE, order(100)).then_refused();
    late.then_effects(&[failed("charge", "cancelled")]).then_correlated("p1").then_row(marked);
}

#[test]
fn money_that_comes_after_the_undo_is_given_back_by_the_payment_itself() {
    let undone = requested().asked_by("refund").when(REFUND, order(100)).then_applied();
    let undone = undone.then_effects(&[answer("refund", RETURNED)]).then_row(row(PaymentStatus::Cancelled, 0, 0, 1));
    let late = undone.and().when(CAPTURED, money(100)).then_applied().then_correlated("p1");
    let late = late.then_effects(&[owe(), refund_requested(100, "captured_after_cancellation"), wake("refund/2")]);
    let late = late.then_row(row(PaymentStatus::Refunding, 100, 0, 1));
    let back = late.and().when(REFUNDED, money(100)).then_applied().then_effects(&[settle()]);
    back.then_row(row(PaymentStatus::Refunded, 100, 100, 1));
}

#[test]
fn other_money_after_the_undo_contradicts() {
    cancelled().when(CAPTURED, money(99)).then_contradiction();
}

#[test]
fn an_undo_of_captured_money_is_answered_when_all_of_it_is_back() {
    let undone = captured().asked_by("refund").when(REFUND, order(100)).then_applied();
    let undone = undone.then_effects(&[owe(), refund_requested(100, "purchase_rejected"), wake("refund/2")]);
    let partly = undone.and().when(REFUNDED, money(40)).then_applied().then_effects(&[]);
    let full =
        partly.and().when(REFUNDED, money(60)).then_applied().then_effects(&[settle(), answer("refund", RETURNED)]);
    let again = full.and().asked_by("refund").when(REFUND, order(100)).then_effects(&[answer("refund", RETURNED)]);
    again.and().when(REFUNDED, money(1)).then_contradiction();
}

#[test]
fn a_refund_above_the_capture_contradicts() {
    captured().when(REFUNDED, money(101)).then_contradiction();
    refunding().event(REFUNDED, money(40)).when(REFUNDED, money(61)).then_contradiction();
    requested().when(REFUNDED, money(1)).then_contradiction();
    cancelled().when(REFUNDED, money(1)).then_contradiction();
    requested().event(DECLINED, decline()).when(REFUNDED, money(1)).then_contradiction();
}

#[test]
fn an_unasked_refund_counts() {
    let partly = captured().when(REFUNDED, money(40)).then_applied().then_effects(&[]);
    let partly = partly.then_row(row(PaymentStatus::Captured, 100, 40, 1));
    let full = partly.and().when(REFUNDED, money(60)).then_applied().then_effects(&[]);
    full.then_row(row(PaymentStatus::Refunded, 100, 100, 1));
}

#[test]
fn a_capture_without_an_answer_is_asked_for_again_up_to_its_bound() {
    let again = requested().when_due(ID, "capture/2").then_effects(&[capture_requested(), wake("capture/3")]);
    let again = again.then_correlated("p1").then_row(row(PaymentStatus::Requested, 0, 0, 2));
    again.and().when_due(ID, "capture/3").then_effects(&[]).then_row(row(PaymentStatus::Requested, 0, 0, 2));
}

#[test]
fn a_refund_without_an_answer_is_asked_for_again_and_then_needs_an_operator() {
    let again = refunding().when_due(ID, "refund/2");
    let again = again.then_effects(&[refund_requested(100, "purchase_rejected"), wake("refund/3")]);
    let over = again.and().when_due(ID, "refund/3").then_effects(&[Effect::NeedsOperator { what: "refund" }]);
    let late = over.and().when(REFUNDED, money(100)).then_applied();
    late.then_effects(&[settle(), answer("refund", RETURNED)]);
}

#[test]
fn an_operator_has_a_gateway_asked_once_more() {
    let again =
        refunding().when_due(ID, "refund/2").and().when_due(ID, "refund/3").and().when_retried(ID).then_applied();
    let again = again.then_effects(&[owe(), refund_requested(100, "purchase_rejected"), wake("refund/4")]);
    let again = again.then_correlated("p1").and().when_due(ID, "refund/3").then_effects(&[]);
    again.and().when_due(ID, "refund/4").then_effects(&[Effect::NeedsOperator { what: "refund" }]);
    requested().when_retried(ID).then_effects(&[capture_requested(), wake("capture/3")]);
    captured().when_retried(ID).then_refused().then_effects(&[]);
    payments().when_retried(ID).then_waits();
}

#[test]
fn a_refund_answers_who_has_asked_last() {
    let again = refunding().asked_by("refund again").when(REFUND, order(100)).then_applied().then_effects(&[]);
    let back = again.and().when(REFUNDED, money(100)).then_applied();
    back.then_effects(&[settle(), answer("refund again", RETURNED)]);
}

#[test]
fn a_timer_that_no_longer_matters_does_nothing() {
    captured().when_due(ID, "capture/2").then_effects(&[]);
    refunding().when_due(ID, "capture/2").then_effects(&[]);
    refunding().event(REFUNDED, money(100)).when_due(ID, "refund/2").then_effects(&[]);
    requested().when_due(ID, "capture/3").then_effects(&[]);
    requested().when_due(ID, "nonsense").then_effects(&[]);
    payments().when_due(ID, "capture/2").then_effects(&[]);
}

#[test]
fn what_is_read_is_checked() {
    let mut data = order(100);
    data["currency"] = json!("eur");
    payments().when(CHARGE, data).then_invalid("currency");
    payments().when(CAPTURED, money(-1)).then_invalid("amount_minor");
    payments().when(DECLINED, json!({"payment_id": ID, "code": "1"})).then_invalid("message");
    payments()
        .when(REFUNDED, json!({"payment_id": ID, "amount_minor": 1, "currency": "EUR"}))
        .then_invalid("provider_ref");
}

#[derive(Clone, Debug)]
enum Move {
    Event(&'static str, Json),
    Timer(String),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let amount = prop_oneof![Just(100_i64), Just(100), 0..=120_i64];
    let one = prop_oneof![
        Just(Move::Event(CHARGE, order(100))),
        Just(Move::Event(REFUND, order(100))),
        Just(Move::Event(DECLINED, decline())),
        amount.clone().prop_map(|amount| Move::Event(CAPTURED, money(amount))),
        amount.prop_map(|amount| Move::Event(REFUNDED, money(amount))),
        (1..4_i64).prop_map(|attempt| Move::Timer(format!("capture/{attempt}"))),
        (1..4_i64).prop_map(|attempt| Move::Timer(format!("refund/{attempt}"))),
    ];
    prop::collection::vec(one, 0..20)
}

proptest! {
    #[test]
    fn no_history_gives_back_more_than_came_or_rests_with_money_owed(moves in moves()) {
        let mut payments = payments();
        let (mut debts, mut captures) = (0, 0);
        for step in moves {
            let then = match &step {
                Move::Event(event_type, data) => payments.asked_by("saga").when(event_type, data.clone()),
                Move::Timer(name) => payments.when_due(ID, name),
            };
            if then.is_applied() {
                captures += i32::from(matches!(step, Move::Event(CAPTURED, _)));
                debts += then.effects().iter().map(|effect| match effect {
                    Effect::Owe { .. } => 1,
                    Effect::Settle { .. } => -1,
                    _ => 0,
                }).sum::<i32>();
            }
            if let Some(payment) = then.row::<Payment>(vec![Value::Text(ID.to_owned())]) {
                prop_assert!(0 <= payment.refunded_minor && payment.refunded_minor <= payment.captured_minor);
                prop_assert!(payment.captured_minor <= payment.amount_minor);
                prop_assert_eq!(debts, i32::from(payment.status == PaymentStatus::Refunding));
                let kept = payment.captured_minor - payment.refunded_minor;
                match payment.status {
                    PaymentStatus::Requested | PaymentStatus::Declined | PaymentStatus::Cancelled => {
                        prop_assert_eq!(payment.captured_minor, 0);
                    }
                    PaymentStatus::Refunded => prop_assert_eq!(kept, 0),
                    PaymentStatus::Captured | PaymentStatus::Refunding => prop_assert!(kept > 0),
                }
            }
            prop_assert!(captures <= 1);
            payments = then.and();
        }
    }
}
