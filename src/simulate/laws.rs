//! The laws of a shop at rest, by the model, the gateway's books and the tables.

use std::collections::{BTreeMap, BTreeSet};

use seriatim::{
    core::{
        ledger::{
            COMMAND_LOG, CommandLog, DEAD_LETTER, DeadLetter, JOURNAL, Journal, PARKED, Parked, QUARANTINE, Quarantine,
        },
        obey::action,
        record::{LaneId, Record},
        rows::Row as _,
    },
    shop::{
        counter::Counter,
        payment::{self, Payment},
        profile::Profile,
        purchase::{self, Line, Purchase, PurchaseStatus},
        stock::{self, Item, Reservation, ReservationStatus},
    },
    simulation::Evidence,
};

use super::model::{self, Entity, Place, Predicted};
use crate::demo::wire;

/// What the tables say became of the records.
struct Found {
    outcomes: BTreeMap<Place, String>,
    /// In the order of an entity's versions.
    order: BTreeMap<(String, String), Vec<(i64, Place)>>,
    unwell: BTreeSet<(String, String)>,
    /// Entities of which an operator has passed something over, or taken it up again outside the order.
    steered: BTreeSet<(String, String)>,
    /// How often operators have let each saga ask again.
    retried: BTreeMap<String, usize>,
}

/// What does not hold.
pub fn judge(evidence: &Evidence, books: &BTreeMap<String, (i64, i64)>) -> Vec<String> {
    let model = model::predict(evidence);
    let found = found(evidence);
    let mut findings = outcomes(&model, &found);
    findings.extend(quarantines(&model, &found));
    findings.extend(counters(evidence, &model, &found));
    findings.extend(profiles(evidence, &model, &found));
    findings.extend(stock(evidence, &found));
    findings.extend(purchases(evidence, &model, &found));
    findings.extend(payments(evidence, books, &found));
    findings.extend(undos(evidence, &found));
    findings
}

fn found(evidence: &Evidence) -> Found {
    let place = |topic: String, partition: i64, offset: i64| {
        (LaneId { topic, partition: i32::try_from(partition).unwrap_or(-1) }, offset)
    };
    let mut outcomes = BTreeMap::new();
    let mut order: BTreeMap<(String, String), Vec<(i64, Place)>> = BTreeMap::new();
    for row in evidence.rows(&JOURNAL, Journal::read) {
        let at = place(row.topic, row.partition, row.record_offset);
        if let Some(version) = row.version {
            order.entry((row.kind, row.entity_id)).or_default().push((version, at.clone()));
        }
        outcomes.insert(at, row.outcome);
    }
    order.values_mut().for_each(|places| places.sort());
    let mut steered = BTreeSet::new();
    for row in evidence.rows(&DEAD_LETTER, DeadLetter::read) {
        if row.status == "replayed" {
            steered.extend(row.kind.zip(row.entity_id));
        }
        outcomes.insert(place(row.topic, row.partition, row.record_offset), row.reason);
    }
    for row in evidence.rows(&PARKED, Parked::read) {
        if let Some(offset) = row.record_offset {
            outcomes.insert(place(row.topic, row.partition, offset), "parked".to_owned());
        }
    }
    let unwell = evidence.rows(&QUARANTINE, Quarantine::read);
    let unwell = unwell.into_iter().map(|row| (row.kind, row.entity_id)).collect();
    let mut retried = BTreeMap::new();
    for row in evidence.rows(&COMMAND_LOG, CommandLog::read).into_iter().filter(|row| row.done == 1) {
        match row.action.as_str() {
            action::ENTITY_SKIP | action::ENTITY_DISCARD => steered.extend(row.kind.zip(row.entity_id)),
            action::SAGA_RETRY => *retried.entry(row.entity_id.unwrap_or_default()).or_insert(0) += 1,
            _ => {}
        }
    }
    Found { outcomes, order, unwell, steered, retried }
}

impl Found {
    fn is_unwell(&self, entity: &Entity) -> bool {
        self.unwell.contains(&(entity.0.to_owned(), entity.1.clone()))
    }

    /// Whether the entity went as the topics alone say: nothing keeps it, and nobody has decided for it.
    fn is_free(&self, entity: &Entity) -> bool {
        !self.is_unwell(entity) && !self.is_steered(entity)
    }

    /// What was applied to an entity, in the order of its versions.
    fn applied(&self, entity: &Entity) -> impl Iterator<Item = &Place> {
        let places = self.order.get(&(entity.0.to_owned(), entity.1.clone()));
        places.into_iter().flatten().map(|(_, place)| place)
    }

    fn is_steered(&self, entity: &Entity) -> bool {
        self.steered.contains(&(entity.0.to_owned(), entity.1.clone()))
    }
}

/// Every record from outside became what the model says; those of counters leave no trace unless they failed.
fn outcomes(model: &Predicted, found: &Found) -> Vec<String> {
    let mut findings = Vec::new();
    for (place, allowed) in &model.outcomes {
        let entity = model.entities.get(place);
        if entity.is_some_and(|entity| found.is_unwell(entity)) {
            // Parked from the moment on at which it fell ill, which the model does not know.
            continue;
        }
        let traceless = entity.is_some_and(|(kind, _)| *kind == "counter");
        let is_steered = entity.is_some_and(|entity| found.is_steered(entity));
        let fine = match found.outcomes.get(place) {
            Some(word) => allowed.contains(word) || is_steered,
            None => allowed.contains("duplicate") || (traceless && (allowed.contains("applied") || is_steered)),
        };
        if !fine {
            let became = found.outcomes.get(place).map_or("nothing", String::as_str);
            findings.push(format!("outcomes: {} {} became {became}, not {allowed:?}", place.0, place.1));
        }
    }
    // Counters keep no journal.
    for (entity, places) in model.order.iter().filter(|(entity, _)| entity.0 != "counter" && found.is_free(entity)) {
        let sure: BTreeSet<&Place> = places.iter().collect();
        let applied: Vec<&Place> = found.applied(entity).filter(|place| sure.contains(place)).collect();
        if !applied.iter().copied().eq(places) {
            findings.push(format!("order: {entity:?} was applied as {applied:?}, not {places:?}"));
        }
    }
    findings
}

/// Nobody is unwell without a reason, and who has a gap for good is.
fn quarantines(model: &Predicted, found: &Found) -> Vec<String> {
    let known: BTreeSet<(String, String)> =
        model.suspects.iter().map(|(kind, id)| ((*kind).to_owned(), id.clone())).collect();
    let strange = found.unwell.iter().filter(|entity| !known.contains(*entity) && entity.0 != "payment");
    let mut findings: Vec<String> = strange.map(|entity| format!("quarantine: {entity:?} is unwell")).collect();
    let missing = model.gaps.iter().filter(|entity| found.is_free(entity));
    findings.extend(missing.map(|entity| format!("quarantine: {entity:?} has a gap and is not unwell")));
    findings
}

fn counters(evidence: &Evidence, model: &Predicted, found: &Found) -> Vec<String> {
    let rows = evidence.rows(Counter::table(), Counter::from_cells);
    let mut findings = Vec::new();
    for (entity, places) in model.order.iter().filter(|(entity, _)| entity.0 == "counter" && found.is_free(entity)) {
        let expected: i64 = places.iter().filter_map(|place| model.events[place].data["delta"].as_i64()).sum();
        let value = rows.iter().find(|row| row.counter == entity.1).map_or(0, |row| row.value);
        if value != expected {
            findings.push(format!("counter {}: stands at {value}, not {expected}", entity.1));
        }
    }
    findings
}

fn profiles(evidence: &Evidence, model: &Predicted, found: &Found) -> Vec<String> {
    let rows = evidence.rows(Profile::table(), Profile::from_cells);
    let mut findings = Vec::new();
    for (entity, places) in model.order.iter().filter(|(entity, _)| entity.0 == "profile" && !found.is_unwell(entity)) {
        // What an operator has passed over or taken up again stands in the journal alone.
        let places: Vec<&Place> =
            if found.is_steered(entity) { found.applied(entity).collect() } else { places.iter().collect() };
        let last = |field: &str| {
            let said = places.iter().rev().find_map(|place| model.events[*place].data[field].as_str());
            said.map(str::to_owned)
        };
        let row = rows.iter().find(|row| row.user_id == entity.1);
        let has = row.map(|row| (row.email.clone(), row.password_hash.clone()));
        if has != (!places.is_empty()).then(|| (last("email"), last("password_hash"))) {
            findings.push(format!("profile {}: has {has:?}", entity.1));
        }
    }
    findings
}

/// On hand is what was received and adjusted less what was handed over, and nothing is reserved.
fn stock(evidence: &Evidence, found: &Found) -> Vec<String> {
    let reservations = evidence.rows(Reservation::table(), Reservation::from_cells);
    let stuck = |row: &&Reservation| !found.is_free(&("payment", payment::id_of(&row.purchase_id)));
    let journal = evidence.rows(&JOURNAL, Journal::read);
    let mut findings = Vec::new();
    for item in evidence.rows(Item::table(), Item::from_cells) {
        if !found.is_free(&("stock", item.sku.clone())) {
            continue;
        }
        let applied =
            journal.iter().filter(|row| row.kind == "stock" && row.entity_id == item.sku && row.version.is_some());
        let received: i64 = applied
            .filter_map(|row| {
                let lane = LaneId { topic: row.topic.clone(), partition: i32::try_from(row.partition).ok()? };
                let record = evidence.log.get(&lane)?.iter().find(|record| record.offset == row.record_offset)?;
                let data = wire::open(record)?.data;
                let field = if row.event_type == "stock.received" { "quantity" } else { "delta" };
                matches!(row.event_type.as_str(), "stock.received" | "stock.adjusted").then(|| data[field].as_i64())?
            })
            .sum();
        let own = || reservations.iter().filter(|row| row.sku == item.sku);
        // A payment that is unwell answers nobody: what its purchase has reserved stays so.
        let kept = own().filter(|row| row.status == ReservationStatus::Reserved).filter(stuck).map(|row| row.quantity);
        let kept: i64 = kept.sum();
        let gone: i64 = own().filter(|row| row.status == ReservationStatus::Committed).map(|row| row.quantity).sum();
        if item.on_hand != received - gone || item.reserved != kept || item.on_hand < 0 {
            let expected = received - gone;
            findings.push(format!(
                "stock {}: {} on hand, not {expected}, {} reserved",
                item.sku, item.on_hand, item.reserved
            ));
        }
    }
    findings
}

/// Every placed purchase has ended, once, and all that hangs on it says the same.
fn purchases(evidence: &Evidence, model: &Predicted, found: &Found) -> Vec<String> {
    let rows = evidence.rows(Purchase::table(), Purchase::from_cells);
    let lines = evidence.rows(Line::table(), Line::from_cells);
    let reservations = evidence.rows(Reservation::table(), Reservation::from_cells);
    let payments = evidence.rows(Payment::table(), Payment::from_cells);
    let mut told: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for (_, records) in evidence.log.iter().filter(|(lane, _)| lane.topic == purchase::OUTCOMES) {
        for opened in records.iter().filter_map(wire::open) {
            told.entry(opened.key).or_default().insert(opened.id, opened.kind);
        }
    }
    let mut findings = Vec::new();
    let placed: BTreeSet<&String> = model.placed.keys().collect();
    let strangers = rows.iter().filter(|row| !placed.contains(&row.purchase_id));
    findings.extend(strangers.map(|row| format!("purchase {}: was never placed", row.purchase_id)));
    for id in placed {
        let Some(row) = rows.iter().find(|row| row.purchase_id == *id) else {
            findings.push(format!("purchase {id}: is not there"));
            continue;
        };
        let payment = payments.iter().find(|payment| payment.purchase_id == *id);
        if payment.is_some_and(|payment| !found.is_free(&("payment", payment.payment_id.clone()))) {
            continue;
        }
        let said: Vec<&str> = told.get(id).into_iter().flat_map(|told| told.values().map(String::as_str)).collect();
        let kept = reservations.iter().filter(|kept| kept.purchase_id == *id);
        let money = payment.map_or((0, 0), |payment| (payment.captured_minor, payment.refunded_minor));
        let fine = match row.status {
            PurchaseStatus::Pending => false,
            PurchaseStatus::Completed => {
                let committed: BTreeMap<&str, i64> = kept
                    .filter(|kept| kept.status == ReservationStatus::Committed)
                    .map(|kept| (kept.sku.as_str(), kept.quantity))
                    .collect();
                let wanted = lines.iter().filter(|line| line.purchase_id == *id);
                let whole =
                    wanted.map(|line| (line.sku.as_str(), line.quantity)).collect::<BTreeMap<_, _>>() == committed;
                said == ["purchase.completed"] && whole && money == (row.total_minor, 0)
            }
            PurchaseStatus::Rejected => {
                let mut kept = kept;
                said == ["purchase.rejected"]
                    && kept.all(|kept| kept.status == ReservationStatus::Released)
                    && money.0 == money.1
            }
        };
        if !fine {
            findings.push(format!("purchase {id}: {:?} {:?}, told {said:?}, money {money:?}", row.status, row.reason));
        }
    }
    findings
}

/// A saga undoes each of its branches once, and once more at most whenever it is made to ask again.
fn undos(evidence: &Evidence, found: &Found) -> Vec<String> {
    let mut sent: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    let undoing = |record: &&Record| {
        record.headers.text("ce_type").is_some_and(|kind| [stock::RELEASE, payment::REFUND].contains(&kind))
    };
    for opened in evidence.log.values().flatten().filter(undoing).filter_map(wire::open) {
        let purchase = opened.data["purchase_id"].as_str().unwrap_or_default().to_owned();
        sent.entry((opened.key, purchase)).or_default().insert(opened.id);
    }
    let retried = |purchase: &String| found.retried.get(purchase).copied().unwrap_or(0);
    let twice = sent.into_iter().filter(|((_, purchase), ids)| ids.len() > 1 + retried(purchase));
    twice.map(|((key, purchase), _)| format!("undo: {purchase} undoes {key} more than once")).collect()
}

/// The gateway has moved what the tables say, and nobody is asked for more.
fn payments(evidence: &Evidence, books: &BTreeMap<String, (i64, i64)>, found: &Found) -> Vec<String> {
    let rows = evidence.rows(Payment::table(), Payment::from_cells);
    let mut findings = Vec::new();
    for row in rows.iter().filter(|row| found.is_free(&("payment", row.payment_id.clone()))) {
        let moved = books.get(&row.payment_id).copied().unwrap_or_default();
        // Nobody is asked to capture nothing.
        let captured = row.amount_minor == 0 || moved == (row.captured_minor, row.refunded_minor);
        let open = matches!(row.status, payment::PaymentStatus::Requested | payment::PaymentStatus::Refunding);
        if !captured || open {
            findings.push(format!("payment {}: {row:?}, the gateway has moved {moved:?}", row.payment_id));
        }
    }
    findings
}
