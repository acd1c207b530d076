//! Turns a checked run into rows: the entity's own, its saga's, its timers, its debts, its messages.

use std::borrow::Cow;

use super::{
    batch::AlarmKind,
    effect::Effect,
    emit::Origin,
    handle::Run,
    lane::Lane,
    ledger::{DEBT, Debt, SAGA, Saga, SagaStep},
    limits::micros,
    rows::{Json, Micros},
    saga::Instance,
    state::Address,
    table::Value,
};

/// Name of the timer that says that a saga has been over for long enough.
pub(super) const FORGET: &str = "forget";

impl Lane {
    /// Keeps all that a run wants.
    pub(super) fn apply(&mut self, entity_id: &str, run: Run, origin: Origin<'_>) {
        let origin = &Origin { correlation: run.correlation.map(Cow::Owned).or(origin.correlation), ..origin };
        for (address, cells) in run.changes {
            self.apply_row(entity_id, address, cells);
        }
        if let Some((before, after)) = &run.saga {
            self.apply_saga(entity_id, before.as_ref(), after);
        }
        for at in run.wakes {
            self.set_timer("saga", entity_id, "", at, origin.time + (at - self.now));
        }
        for text in run.alarms {
            let text = format!("{} {entity_id}: {text}", self.kind().name());
            self.batch.alarm(AlarmKind::NeedsOperator, entity_id, None, text);
        }
        for effect in run.effects {
            self.apply_effect(entity_id, effect, origin);
        }
        for draft in run.drafts {
            self.emit(entity_id, draft, origin);
        }
    }

    fn apply_row(&mut self, entity_id: &str, address: Address, cells: Option<Vec<Value>>) {
        let Some(at) = address.table.version else { return self.state.set(address, cells) };
        let mut row = cells.expect("a run that deletes its main row is not kept");
        let known = self.state.get(&address).flatten();
        let partition = known.map_or_else(|| Value::Int(self.id.partition.into()), |row| row[at + 1].clone());
        row.truncate(at);
        // Version and marks are put in once a batch, from the head.
        row.extend([Value::Null, partition, Value::Null]);
        self.state.set(address, Some(row));
        let head = self.batch.heads.get_mut(entity_id).expect("the head is loaded before its entity is changed");
        head.exists = true;
        head.changed = true;
    }

    fn apply_saga(&mut self, saga_id: &str, before: Option<&Instance>, after: &Instance) {
        let name = self.saga_name.expect("only an entity with a saga moves one");
        if before.map(Instance::status) != Some(after.status()) {
            *self.batch.sagas.entry((name, after.status())).or_insert(0) += 1;
            if after.is_over() {
                let due = self.now.saturating_add(micros(self.limits.saga_kept));
                self.set_timer("saga", saga_id, FORGET, due, due);
            }
        }
        let address = Address::new(&SAGA, vec![Value::text(name), Value::text(saga_id)]);
        let known = self.state.get(&address).flatten().and_then(|row| Saga::read(row));
        let row = Saga {
            definition: name.to_owned(),
            saga_id: saga_id.to_owned(),
            definition_version: after.definition_version(),
            status: after.status().as_str().to_owned(),
            step: after.step().to_owned(),
            reason: after.reason().map(str::to_owned),
            state: Json(serde_json::to_string(after).expect("an instance is plain data")),
            topic: self.id.topic.clone(),
            partition: self.id.partition.into(),
            begun_at: known.map_or(Micros(self.now), |known| known.begun_at),
            updated_at: Micros(self.now),
        };
        self.state.set(address, Some(row.into_row()));
        // The steps' rows are told from the instance, so what they were before is known without reading them.
        for step in before.map(|before| self.step_rows(name, saga_id, before)).unwrap_or_default() {
            let address = step.address();
            if self.state.get(&address).is_none() {
                self.state.admit(address, Some(step.into_row()));
            }
        }
        for step in self.step_rows(name, saga_id, after) {
            self.set_new(step.address(), step.into_row());
        }
    }

    /// Forgets a saga that is over. That there was one stays among the entity's marks.
    pub(super) fn forget_saga(&mut self, saga_id: &str) {
        let Some((saga, address)) = self.saga_of(saga_id).zip(self.saga_address(saga_id)) else { return };
        if !saga.is_over() {
            return;
        }
        for step in self.step_rows(saga.definition(), saga_id, &saga) {
            let address = step.address();
            if self.state.get(&address).is_none() {
                self.state.admit(address.clone(), Some(step.into_row()));
            }
            self.state.set(address, None);
        }
        self.state.set(address, None);
        let head = self.batch.heads.get_mut(saga_id).expect("its head was read by the caller");
        head.marks.forget_saga();
        head.changed = true;
    }

    fn step_rows(&self, definition: &str, saga_id: &str, instance: &Instance) -> Vec<SagaStep> {
        let steps = instance.steps().into_iter();
        let rows = steps.map(|step| SagaStep {
            definition: definition.to_owned(),
            saga_id: saga_id.to_owned(),
            step: step.step.to_owned(),
            branch: step.branch.to_owned(),
            status: step.status.to_owned(),
            attempts: step.attempts,
            undo_attempts: step.undo_attempts,
            sent_at: step.sent_at.map(Micros),
            answered_at: step.answered_at.map(Micros),
        });
        rows.collect()
    }

    /// Writes a row that is new by construction if it is not known.
    pub(super) fn set_new(&mut self, address: Address, row: Vec<Value>) {
        if self.state.get(&address).is_none() {
            self.state.admit(address.clone(), None);
        }
        self.state.set(address, Some(row));
    }

    fn apply_effect(&mut self, entity_id: &str, effect: Effect, origin: &Origin<'_>) {
        match effect {
            Effect::Wake { name, after } => {
                let after = micros(after);
                self.set_timer(
                    "entity",
                    entity_id,
                    &name,
                    self.now.saturating_add(after),
                    origin.time.saturating_add(after),
                );
            }
            Effect::Owe { what, amount_minor, currency } => {
                let Some(address) = self.debt_address(entity_id, what) else { return };
                let known = self.state.get(&address).flatten().and_then(|row| Debt::read(row));
                let row = Debt {
                    kind: self.kind().name().to_owned(),
                    entity_id: entity_id.to_owned(),
                    what: what.to_owned(),
                    amount_minor,
                    currency,
                    status: "owed".to_owned(),
                    since: known.map_or(Micros(self.now), |known| known.since),
                };
                self.state.set(address, Some(row.into_row()));
            }
            Effect::Settle { what } => {
                if let Some(address) = self.debt_address(entity_id, what) {
                    self.state.set(address, None);
                }
            }
            Effect::NeedsOperator { what } => {
                let text = format!("{} {entity_id}: {what} is still owed and out of retries", self.kind().name());
                self.batch.alarm(AlarmKind::NeedsOperator, entity_id, None, text);
                let Some(address) = self.debt_address(entity_id, what) else { return };
                if let Some(debt) = self.state.get(&address).flatten().and_then(|row| Debt::read(row)) {
                    let debt = Debt { status: "needs_operator".to_owned(), ..debt };
                    self.state.set(address, Some(debt.into_row()));
                }
            }
            // These are drafted and settled when the run is checked.
            Effect::Send { .. } | Effect::Reply { .. } | Effect::BeginSaga { .. } | Effect::CancelSaga { .. } => {}
        }
    }

    /// Where a debt stands, once that row is known.
    fn debt_address(&self, entity_id: &str, what: &str) -> Option<Address> {
        let key = vec![Value::text(self.kind().name()), Value::text(entity_id), Value::text(what)];
        let address = Address::new(&DEBT, key);
        // No handler reads it, so its entity goes on: all debts of a batch are asked for in one round.
        self.state.has(&address).then_some(address)
    }
}
