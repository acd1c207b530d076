//! Stock: what is on hand of one item, and what of it is reserved for purchases.
//!
//! ```text
//!            reserve            commit
//!   (none) ───────────► reserved ──────► committed
//!     │ release             │ release
//!     └──────► released ◄───┘            released refuses a reserve that comes later
//! ```

use serde_json::{Value as Json, json};

use super::{fields::Fields, words::words};
use crate::core::{
    effect::{Effects, Objection},
    kind::{Entity, EventType, Invalid, Nature},
    rows::Rows,
    state::Address,
    table::{Key, Value},
};

/// The command to reserve for a purchase.
pub const RESERVE: &str = "stock.reserve";
/// Its undo.
pub const RELEASE: &str = "stock.release";
/// The command to hand over what is reserved.
pub const COMMIT: &str = "stock.commit";
/// The yes to [`RESERVE`].
pub const RESERVED: &str = "stock.reserved";
/// The no to [`RESERVE`].
pub const REFUSED: &str = "stock.refused";
/// The answer to [`RELEASE`].
pub const RELEASED: &str = "stock.released";
/// The yes to [`COMMIT`].
pub const COMMITTED: &str = "stock.committed";

const RECEIVED: &str = "stock.received";
const ADJUSTED: &str = "stock.adjusted";

words! {
    /// Where a reservation stands.
    ReservationStatus {
        /// Kept for its purchase.
        Reserved = "reserved",
        /// Given back, or marked so before it ever was.
        Released = "released",
        /// Handed over.
        Committed = "committed",
    }
}

crate::table! {
    /// One item of stock.
    main Item in "shop"."stock" {
        /// The item.
        key sku: String;
        /// How many there are.
        on_hand: i64,
        /// How many of them are reserved.
        reserved: i64,
    }
}

crate::table! {
    /// What is kept of an item for one purchase.
    sub Reservation in "shop"."reservation" {
        /// The item.
        key sku: String,
        /// The purchase.
        key purchase_id: String;
        /// How many; 0 if it was released before it was reserved.
        quantity: i64,
        /// Where it stands.
        status: ReservationStatus,
    }
}

/// The kind.
#[derive(Debug)]
pub struct Stock;

/// What happens to an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// `stock.reserve`.
    Reserve(Share),
    /// `stock.release`.
    Release(Share),
    /// `stock.commit`.
    Commit(Share),
    /// `stock.received`: the quantity.
    Received(i64),
    /// `stock.adjusted`: the delta.
    Adjusted(i64),
}

/// A purchase's share of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    purchase_id: String,
    quantity: i64,
}

impl Entity for Stock {
    const KIND: &'static str = "stock";
    const TOPIC: &'static str = "stock";
    const KEY_FIELD: &'static str = "sku";
    const EVENTS: &'static [EventType] = &[
        EventType { name: RECEIVED, nature: Nature::Fact },
        EventType { name: ADJUSTED, nature: Nature::Request },
        EventType { name: RESERVE, nature: Nature::Command },
        EventType { name: RELEASE, nature: Nature::Command },
        EventType { name: COMMIT, nature: Nature::Command },
    ];
    type Main = Item;
    type Event = Event;

    fn parse(event_type: &str, data: &Json) -> Result<Event, Invalid> {
        let fields = Fields::of(data);
        fields.id("sku")?;
        if event_type == RECEIVED {
            return Ok(Event::Received(fields.int_from("quantity", 1)?));
        }
        if event_type == ADJUSTED {
            fields.text("reason")?;
            return Ok(Event::Adjusted(fields.int("delta")?));
        }
        let share = Share { purchase_id: fields.id("purchase_id")?, quantity: fields.int_from("quantity", 1)? };
        Ok(match event_type {
            RESERVE => Event::Reserve(share),
            RELEASE => Event::Release(share),
            _ => Event::Commit(share),
        })
    }

    fn rows(entity_id: &str, event: &Event) -> Vec<Address> {
        match event {
            Event::Reserve(share) | Event::Release(share) | Event::Commit(share) => {
                vec![Address::of::<Reservation>(reservation_key(entity_id, &share.purchase_id))]
            }
            Event::Received(_) | Event::Adjusted(_) => Vec::new(),
        }
    }

    fn decide(&self, rows: &mut Rows<'_>, event: &Event, effects: &mut Effects) -> Result<(), Objection> {
        let empty = || Item { sku: rows.entity_id().to_owned(), on_hand: 0, reserved: 0 };
        let item = rows.main::<Item>().unwrap_or_else(empty);
        match event {
            Event::Reserve(share) => reserve(rows, effects, item, share),
            Event::Release(share) => release(rows, effects, item, share),
            Event::Commit(share) => commit(rows, effects, item, share),
            Event::Received(quantity) => receive(rows, item, *quantity),
            Event::Adjusted(delta) => adjust(rows, item, *delta),
        }
    }
}

fn reserve(rows: &mut Rows<'_>, effects: &mut Effects, mut item: Item, share: &Share) -> Result<(), Objection> {
    match reservation(rows, share).map(|known| (known.status, known.quantity)) {
        Some((ReservationStatus::Released, _)) => return refuse(effects, &item, share, "released"),
        Some((ReservationStatus::Reserved | ReservationStatus::Committed, quantity)) if quantity != share.quantity => {
            return contradiction("reserved before with another quantity");
        }
        Some((ReservationStatus::Reserved | ReservationStatus::Committed, _)) => {}
        None if item.on_hand - item.reserved < share.quantity => {
            return refuse(effects, &item, share, "out_of_stock");
        }
        None => {
            item.reserved += share.quantity;
            keep(rows, &item.sku, share, share.quantity, ReservationStatus::Reserved);
        }
    }
    reply(effects, RESERVED, &item, share);
    rows.put(item);
    Ok(())
}

/// Undoing what never happened leaves the mark that refuses the command should it come later.
fn release(rows: &mut Rows<'_>, effects: &mut Effects, mut item: Item, share: &Share) -> Result<(), Objection> {
    match reservation(rows, share).map(|known| (known.status, known.quantity)) {
        Some((ReservationStatus::Committed, _)) => return contradiction("committed, cannot be released"),
        Some((ReservationStatus::Released, _)) => {}
        Some((ReservationStatus::Reserved, quantity)) => {
            item.reserved -= quantity;
            keep(rows, &item.sku, share, quantity, ReservationStatus::Released);
        }
        None => keep(rows, &item.sku, share, 0, ReservationStatus::Released),
    }
    reply(effects, RELEASED, &item, share);
    rows.put(item);
    Ok(())
}

fn commit(rows: &mut Rows<'_>, effects: &mut Effects, mut item: Item, share: &Share) -> Result<(), Objection> {
    match reservation(rows, share).map(|known| (known.status, known.quantity)) {
        Some((ReservationStatus::Committed, _)) => {}
        Some((ReservationStatus::Reserved, quantity)) => {
            item.on_hand -= quantity;
            item.reserved -= quantity;
            keep(rows, &item.sku, share, quantity, ReservationStatus::Committed);
        }
        Some((ReservationStatus::Released, _)) => return contradiction("released, cannot be committed"),
        None => return contradiction("never reserved, cannot be committed"),
    }
    reply(effects, COMMITTED, &item, share);
    rows.put(item);
    Ok(())
}

fn receive(rows: &mut Rows<'_>, mut item: Item, quantity: i64) -> Result<(), Objection> {
    let Some(on_hand) = item.on_hand.checked_add(quantity) else {
        return contradiction("more than int64 would be on hand");
    };
    item.on_hand = on_hand;
    rows.put(item);
    Ok(())
}

fn adjust(rows: &mut Rows<'_>, mut item: Item, delta: i64) -> Result<(), Objection> {
    let Some(on_hand) = item.on_hand.checked_add(delta) else {
        return Err(Objection::Refused("on hand would leave int64".to_owned()));
    };
    if on_hand < item.reserved {
        return Err(Objection::Refused("on hand would fall below what is reserved".to_owned()));
    }
    item.on_hand = on_hand;
    rows.put(item);
    Ok(())
}

fn reservation_key(sku: &str, purchase_id: &str) -> Key {
    vec![Value::Text(sku.to_owned()), Value::Text(purchase_id.to_owned())]
}

fn reservation(rows: &Rows<'_>, share: &Share) -> Option<Reservation> {
    rows.get(reservation_key(rows.entity_id(), &share.purchase_id))
}

fn keep(rows: &mut Rows<'_>, sku: &str, share: &Share, quantity: i64, status: ReservationStatus) {
    let purchase_id = share.purchase_id.clone();
    rows.put(Reservation { sku: sku.to_owned(), purchase_id, quantity, status });
}

fn reply(effects: &mut Effects, message_type: &'static str, item: &Item, share: &Share) {
    effects.correlate(&share.purchase_id);
    effects.reply(message_type, json!({ "sku": item.sku, "purchase_id": share.purchase_id }));
}

fn refuse(effects: &mut Effects, item: &Item, share: &Share, reason: &str) -> Result<(), Objection> {
    effects.correlate(&share.purchase_id);
    effects.reply(REFUSED, json!({ "sku": item.sku, "purchase_id": share.purchase_id, "reason": reason }));
    Err(Objection::Refused(reason.to_owned()))
}

fn contradiction(what: &str) -> Result<(), Objection> {
    Err(Objection::Contradiction(what.to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::{
        ADJUSTED, COMMIT, COMMITTED, Item, RECEIVED, REFUSED, RELEASE, RELEASED, RESERVE, RESERVED, Reservation,
        ReservationStatus, Stock,
    };
    use crate::{
        core::effect::Effect,
        testing::{Given, given},
    };

    fn share(quantity: i64) -> Json {
        json!({"sku": "tea", "purchase_id": "p1", "quantity": quantity})
    }

    fn item(on_hand: i64, reserved: i64) -> Item {
        Item { sku: "tea".to_owned(), on_hand, reserved }
    }

    fn reservation(quantity: i64, status: ReservationStatus) -> Reservation {
        Reservation { sku: "tea".to_owned(), purchase_id: "p1".to_owned(), quantity, status }
    }

    fn adjust(delta: i64) -> Json {
        json!({"sku": "tea", "delta": delta, "reason": "count"})
    }

    fn reply(message_type: &'static str) -> [Effect; 1] {
        let data = json!({"sku": "tea", "purchase_id": "p1"});
        [Effect::Reply { asker: "saga".to_owned(), message_type, data }]
    }

    fn refusal(reason: &str) -> [Effect; 1] {
        let data = json!({"sku": "tea", "purchase_id": "p1", "reason": reason});
        [Effect::Reply { asker: "saga".to_owned(), message_type: REFUSED, data }]
    }

    fn asked() -> Given<Stock> {
        given(Stock).row(item(5, 0)).asked_by("saga")
    }

    fn reserved() -> Given<Stock> {
        asked().event(RESERVE, share(3)).asked_by("saga")
    }

    #[test]
    fn what_is_there_is_reserved() {
        let reserved = asked().when(RESERVE, share(5)).then_applied().then_effects(&reply(RESERVED));
        let reserved = reserved.then_row(item(5, 5)).then_row(reservation(5, ReservationStatus::Reserved));
        reserved.then_correlated("p1");
    }

    #[test]
    fn more_than_is_free_is_refused_and_changes_nothing() {
        let other = json!({"sku": "tea", "purchase_id": "p2", "quantity": 3});
        asked().when(RESERVE, share(6)).then_refused().then_effects(&refusal("out_of_stock")).then_row(item(5, 0));
        let refused = reserved().when(RESERVE, other).then_refused().then_row(item(5, 3)).then_correlated("p2");
        assert_eq!(refused.effects().len(), 1);
        given(Stock).asked_by("saga").when(RESERVE, share(1)).then_refused().then_effects(&refusal("out_of_stock"));
    }

    #[test]
    fn a_second_reserve_answers_the_same_and_reserves_no_more() {
        reserved().when(RESERVE, share(3)).then_applied().then_effects(&reply(RESERVED)).then_row(item(5, 3));
        reserved().when(RESERVE, share(2)).then_contradiction();
    }

    #[test]
    fn a_release_gives_back_once() {
        let released = reserved().when(RELEASE, share(3)).then_applied().then_effects(&reply(RELEASED));
        let released = released.then_row(item(5, 0)).then_row(reservation(3, ReservationStatus::Released));
        let again = released.and().asked_by("saga").when(RELEASE, share(3)).then_applied();
        again.then_effects(&reply(RELEASED)).then_row(item(5, 0));
    }

    #[test]
    fn a_release_before_its_reserve_leaves_a_mark_that_refuses_it() {
        let mark = given(Stock).asked_by("saga").when(RELEASE, share(3)).then_applied();
        let mark = mark.then_effects(&reply(RELEASED)).then_row(item(0, 0));
        let mark = mark.then_row(reservation(0, ReservationStatus::Released)).and();
        let stocked = mark.event(RECEIVED, json!({"sku": "tea", "quantity": 9})).asked_by("saga");
        stocked.when(RESERVE, share(3)).then_refused().then_effects(&refusal("released")).then_row(item(9, 0));
    }

    #[test]
    fn a_commit_takes_what_is_reserved_once() {
        let committed = reserved().when(COMMIT, share(3)).then_applied().then_effects(&reply(COMMITTED));
        let committed = committed.then_row(item(2, 0)).then_row(reservation(3, ReservationStatus::Committed));
        let again = committed.and().asked_by("saga").when(COMMIT, share(3)).then_applied();
        let again = again.then_effects(&reply(COMMITTED)).then_row(item(2, 0)).and();
        again.when(RELEASE, share(3)).then_contradiction();
    }

    #[test]
    fn only_what_is_reserved_can_be_committed() {
        asked().when(COMMIT, share(3)).then_contradiction();
        reserved().event(RELEASE, share(3)).when(COMMIT, share(3)).then_contradiction();
    }

    #[test]
    fn what_is_received_is_on_hand() {
        given(Stock).when(RECEIVED, json!({"sku": "tea", "quantity": 2})).then_applied().then_row(item(2, 0));
        let full = given(Stock).row(item(i64::MAX, 0));
        full.when(RECEIVED, json!({"sku": "tea", "quantity": 1})).then_contradiction();
    }

    #[test]
    fn an_adjustment_may_reach_what_is_reserved_and_not_pass_it() {
        reserved().when(ADJUSTED, adjust(-2)).then_applied().then_row(item(3, 3));
        reserved().when(ADJUSTED, adjust(-3)).then_refused().then_row(item(5, 3));
        given(Stock).when(ADJUSTED, adjust(0)).then_applied().then_row(item(0, 0));
        given(Stock).when(ADJUSTED, adjust(-1)).then_refused();
        given(Stock).row(item(1, 0)).when(ADJUSTED, adjust(i64::MAX)).then_refused();
        given(Stock).row(item(0, 0)).when(ADJUSTED, adjust(i64::MIN)).then_refused();
    }

    #[test]
    fn what_is_read_is_checked() {
        given(Stock).when(RECEIVED, json!({"sku": "tea", "quantity": 0})).then_invalid("quantity");
        given(Stock).when(RECEIVED, json!({"sku": "", "quantity": 1})).then_invalid("sku");
        given(Stock).when(ADJUSTED, json!({"sku": "tea", "delta": 1.5, "reason": "r"})).then_invalid("delta");
        given(Stock).when(RESERVE, share(0)).then_invalid("quantity");
    }
}
