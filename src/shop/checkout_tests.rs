//! Purchases and their checkout: what is placed, what is refused, how it ends.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};

use super::{
    Settings, catalog, checkout,
    purchase::{Line, OUTCOMES, Purchase, PurchaseStatus, Purchases, end},
};
use crate::{
    core::{
        catalog::Catalog,
        effect::{Effect, Effects},
        event::SagaRef,
        explore,
        rows::{Row, Rows},
        saga::{Action, Ending, Instance, Signal, Status},
        state::{Address, State},
        table::Value,
    },
    testing::{Given, given},
};

const PLACED: &str = "purchase.placed";
const CANCELLED: &str = "purchase.cancelled";

fn order() -> Json {
    json!({
        "purchase_id": "p1", "customer_id": "c", "currency": "EUR", "payment_method": "card",
        "lines": [
            {"sku": "tea", "quantity": 2, "unit_price_minor": 150},
            {"sku": "cup", "quantity": 1, "unit_price_minor": 700},
        ],
    })
}

fn cancel() -> Json {
    json!({"purchase_id": "p1", "reason": "changed my mind"})
}

fn purchase(status: PurchaseStatus, reason: Option<&str>) -> Purchase {
    Purchase {
        purchase_id: "p1".to_owned(),
        customer_id: "c".to_owned(),
        status,
        reason: reason.map(str::to_owned),
        total_minor: 1000,
        currency: "EUR".to_owned(),
        payment_method: "card".to_owned(),
    }
}

fn placed() -> Given<Purchases> {
    given(Purchases).event(PLACED, order())
}

/// The checkout as placing the purchase begins it.
fn begun() -> (Instance, Vec<Action>) {
    let state = State::default();
    let mut rows = Rows::new(&state, "p1", None);
    rows.put(purchase(PurchaseStatus::Pending, None));
    for (sku, quantity, unit_price_minor) in [("tea", 2, 150), ("cup", 1, 700)] {
        rows.put(Line { purchase_id: "p1".to_owned(), sku: sku.to_owned(), quantity, unit_price_minor });
    }
    checkout::definition(&Settings::default()).begin("p1", &rows, 0)
}

fn answer(saga: &mut Instance, step: &str, branch: &str, message_type: &str) -> Vec<Action> {
    let reference = SagaRef {
        definition: checkout::NAME.to_owned(),
        id: "p1".to_owned(),
        step: step.to_owned(),
        branch: branch.to_owned(),
        attempt: 1,
        undo: false,
    };
    let signal = Signal::Reply { reference: &reference, message_type, reason: None };
    checkout::definition(&Settings::default()).advance(saga, &signal, 0).1
}

fn sent(actions: &[Action]) -> Vec<(&str, &str, &Json)> {
    let sent = actions.iter().filter_map(|action| match action {
        Action::Send { key, message_type, data, .. } => Some((key.as_str(), *message_type, data)),
        Action::WakeAt(_) | Action::Ended(_) | Action::Alarm(_) => None,
    });
    sent.collect()
}

#[test]
fn a_placed_purchase_is_kept_with_its_lines_and_begins_its_checkout() {
    let placed = given(Purchases).when(PLACED, order()).then_applied().then_correlated("p1");
    let placed = placed.then_effects(&[Effect::BeginSaga { definition: "checkout" }]);
    let placed = placed.then_row(purchase(PurchaseStatus::Pending, None));
    placed.then_row(Line { purchase_id: "p1".to_owned(), sku: "tea".to_owned(), quantity: 2, unit_price_minor: 150 });
}

#[test]
fn a_second_placing_is_refused_and_sends_nothing() {
    placed().when(PLACED, order()).then_refused().then_effects(&[]);
    let mut other = order();
    other["lines"] = json!([{"sku": "pot", "quantity": 1, "unit_price_minor": 1}]);
    let refused = placed().when(PLACED, other).then_refused().then_effects(&[]);
    refused.then_no_row::<Line>(vec![Value::Text("p1".to_owned()), Value::Text("pot".to_owned())]);
}

#[test]
fn a_cancel_waits_for_its_purchase_and_undoes_a_pending_one() {
    given(Purchases).when(CANCELLED, cancel()).then_waits();
    let cancelled = placed().saga(begun().0).when(CANCELLED, cancel()).then_applied();
    cancelled.then_effects(&[Effect::CancelSaga { definition: "checkout", reason: "cancelled".to_owned() }]);
}

#[test]
fn a_cancel_is_refused_once_the_purchase_has_learnt_of_the_capture() {
    let (mut saga, _) = begun();
    answer(&mut saga, "reserve", "tea", "stock.reserved");
    answer(&mut saga, "reserve", "cup", "stock.reserved");
    placed().saga(saga.clone()).when(CANCELLED, cancel()).then_applied();
    answer(&mut saga, "charge", "pay-p1", "payment.succeeded");
    placed().saga(saga).when(CANCELLED, cancel()).then_refused().then_effects(&[]);
}

#[test]
fn a_cancel_of_a_finished_purchase_is_refused() {
    for status in [PurchaseStatus::Completed, PurchaseStatus::Rejected] {
        given(Purchases).row(purchase(status, None)).when(CANCELLED, cancel()).then_refused().then_effects(&[]);
    }
}

#[test]
fn the_checkout_asks_each_participant_with_what_it_needs() {
    let (mut saga, first) = begun();
    let tea = json!({"sku": "tea", "purchase_id": "p1", "quantity": 2});
    let cup = json!({"sku": "cup", "purchase_id": "p1", "quantity": 1});
    assert_eq!(sent(&first), [("cup", "stock.reserve", &cup), ("tea", "stock.reserve", &tea)]);
    assert!(sent(&answer(&mut saga, "reserve", "tea", "stock.reserved")).is_empty());
    let charge = json!({
        "payment_id": "pay-p1", "purchase_id": "p1", "amount_minor": 1000, "currency": "EUR", "method": "card"
    });
    let second = answer(&mut saga, "reserve", "cup", "stock.reserved");
    assert_eq!(sent(&second), [("pay-p1", "payment.charge", &charge)]);
    let third = answer(&mut saga, "charge", "pay-p1", "payment.succeeded");
    assert_eq!(sent(&third), [("cup", "stock.commit", &cup), ("tea", "stock.commit", &tea)]);
    answer(&mut saga, "confirm", "cup", "stock.committed");
    assert!(answer(&mut saga, "confirm", "tea", "stock.committed").contains(&Action::Ended(Ending::Completed)));
    assert_eq!(saga.status(), Status::Completed);
}

#[test]
fn a_no_gives_the_reason_of_the_contract() {
    let (mut saga, _) = begun();
    let undo = answer(&mut saga, "reserve", "tea", "stock.refused");
    let cup = json!({"sku": "cup", "purchase_id": "p1", "quantity": 1});
    assert_eq!(sent(&undo), [("cup", "stock.release", &cup)]);
    assert_eq!(saga.reason(), Some("out_of_stock"));
    let (mut saga, _) = begun();
    answer(&mut saga, "reserve", "tea", "stock.reserved");
    answer(&mut saga, "reserve", "cup", "stock.reserved");
    answer(&mut saga, "charge", "pay-p1", "payment.failed");
    assert_eq!(saga.reason(), Some("payment_declined"));
}

#[test]
fn an_ending_is_kept_and_told() {
    let outcome = |ending: &Ending| {
        let mut state = State::default();
        let main = Address::of::<Purchase>(vec![Value::Text("p1".to_owned())]);
        state.admit(main, Some(purchase(PurchaseStatus::Pending, None).into_cells()));
        let mut rows = Rows::new(&state, "p1", None);
        let mut effects = Effects::default();
        end(&mut rows, ending, &mut effects);
        (rows.main::<Purchase>().unwrap(), effects.list().to_vec())
    };
    let told = |message_type, data| vec![Effect::Send { topic: OUTCOMES, key: "p1".to_owned(), message_type, data }];
    let (row, effects) = outcome(&Ending::Completed);
    assert_eq!(row, purchase(PurchaseStatus::Completed, None));
    let data = json!({"purchase_id": "p1", "total_minor": 1000, "currency": "EUR"});
    assert_eq!(effects, told("purchase.completed", data));
    let (row, effects) = outcome(&Ending::Compensated { reason: "timeout".to_owned() });
    assert_eq!(row, purchase(PurchaseStatus::Rejected, Some("timeout")));
    assert_eq!(effects, told("purchase.rejected", json!({"purchase_id": "p1", "reason": "timeout"})));
}

#[test]
fn what_is_placed_is_checked_field_by_field() {
    let long = "x".repeat(252);
    let (lines, line) = (vec![order()["lines"][0].clone(); 101], order()["lines"][0].clone());
    let cases = [
        ("/purchase_id", json!(long), "purchase_id"),
        ("/customer_id", json!(""), "customer_id"),
        ("/customer_id", Json::Null, "customer_id"),
        ("/currency", json!("eur"), "currency"),
        ("/payment_method", json!(7), "payment_method"),
        ("/lines", json!([]), "lines"),
        ("/lines", json!(lines), "lines"),
        ("/lines", json!({}), "lines"),
        ("/lines", json!([line, 1]), "lines[1]"),
        ("/lines", json!([line, line]), "lines[1].sku"),
        ("/lines/1/quantity", json!(0), "lines[1].quantity"),
        ("/lines/1/quantity", json!(1.0), "lines[1].quantity"),
        ("/lines/0/unit_price_minor", json!(-1), "lines[0].unit_price_minor"),
        ("/lines/0/unit_price_minor", json!("1"), "lines[0].unit_price_minor"),
        ("/lines/0/unit_price_minor", json!(i64::MAX), "lines"),
    ];
    for (pointer, value, field) in cases {
        let mut data = order();
        *data.pointer_mut(pointer).unwrap() = value;
        given(Purchases).when(PLACED, data).then_invalid(field);
    }
    let fits = "x".repeat(251);
    let mut data = order();
    data["purchase_id"] = json!(fits);
    data["unknown"] = json!({"ignored": true});
    given(Purchases).when(PLACED, data).then_applied();
    given(Purchases).when(CANCELLED, json!({"purchase_id": "p1"})).then_invalid("reason");
}

#[test]
fn the_shop_is_proved() {
    assert_eq!(explore::check_catalog(&catalog(&Settings::default(), "test.")), Vec::<String>::new());
}

#[test]
fn the_shop_has_the_topics_of_the_contract() {
    let topics: BTreeSet<String> = catalog(&Settings::default(), "").all_topics().collect();
    let expected = [
        "activity",
        "dlq.activity",
        "dlq.payments",
        "dlq.profiles",
        "dlq.purchases",
        "dlq.stock",
        "payment-requests",
        "payments",
        "profiles",
        "purchase-outcomes",
        "purchases",
        "stock",
    ];
    assert_eq!(topics, expected.map(str::to_owned).into());
}

#[test]
fn a_checkout_without_its_participants_is_not_proved() {
    let settings = Settings::default();
    let lonely = Catalog::new("").saga(checkout::definition(&settings)).kind(super::stock::Stock);
    let problems = explore::check_catalog(&lonely);
    let expected = [
        "saga checkout v1: no kind lives at its topic purchases",
        "saga checkout v1: step charge: no kind lives at topic payments",
    ];
    assert_eq!(problems, expected);
    let mut deaf = checkout::definition(&settings);
    deaf.steps[2].command = "stock.received";
    let problems = explore::check_catalog(&catalog(&settings, "").saga(deaf));
    let expected = [
        "saga checkout v1: this name and version stand twice",
        "saga checkout v1: step confirm: stock takes no command stock.received",
    ];
    assert_eq!(problems, expected);
}
