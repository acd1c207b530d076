//! Sagas have ended or are on time; debts can be settled without a person.
//!
//! A saga under way waits for one timer, named in its state. It is read, then its timer, then it again: unchanged, and
//! without its timer before and after, nothing would ever wake it.

use super::{
    Class, Error, Finding, Fsck, Scan, lane_of, read,
    rows::{DEBT, Debt, QUARANTINE, SAGA, Saga, TIMER},
};
use crate::core::{
    limits::micros,
    saga::Instance,
    table::{Key, Row, Value},
};

impl Fsck {
    pub(super) async fn sagas(&mut self) -> Result<(), Error> {
        let late = self.look.now().await?.saturating_sub(micros(self.settings.slack));
        let mut scan = Scan::new(&SAGA, Key::new());
        while let Some(row) = scan.next(&mut self.look).await? {
            let saga = read(Saga::read(&row), &SAGA)?;
            match saga.status.as_str() {
                "completed" | "compensated" => {}
                "needs_operator" => {
                    let says = format!("it is out of time at step {} and cannot go on by itself", saga.step);
                    self.find_saga(Class::SagaNeedsOperator, &saga, says, &row);
                }
                _ => self.open_saga(&saga, &row, late).await?,
            }
        }
        self.debts().await
    }

    async fn open_saga(&mut self, saga: &Saga, row: &Row, late: i64) -> Result<(), Error> {
        let instance = serde_json::from_str::<Instance>(&saga.state.0).map_err(|_| Error::Unfit(SAGA.name))?;
        let overdue = instance.deadline().is_some_and(|deadline| deadline < late);
        let asleep = !self.has_timer(saga, instance.wake()).await?;
        if !overdue && !asleep {
            return Ok(());
        }
        let key = row[..SAGA.key].to_vec();
        // It may have moved on since it was read.
        if self.look.one(&SAGA, key).await?.as_ref() != Some(row) {
            return Ok(());
        }
        if overdue {
            let says = format!("the deadline of step {} has passed and it has not moved", saga.step);
            self.find_saga(Class::SagaOverdue, saga, says, row);
        }
        if asleep {
            let says = format!("it waits at step {} and no timer will wake it", saga.step);
            self.find_saga(Class::SagaWithoutTimer, saga, says, row);
        }
        Ok(())
    }

    /// Whether something wakes a saga: its timer, or what its entity has parked.
    async fn has_timer(&mut self, saga: &Saga, wake: Option<i64>) -> Result<bool, Error> {
        let lane = lane_of(&saga.topic, saga.partition);
        let Some(kind) = self.catalog.at(&saga.topic).map(|kind| kind.name()) else { return Ok(false) };
        let names = [Value::text(kind), Value::text(&saga.saga_id)];
        if let Some(wake) = wake {
            let due = [Value::Time(wake), Value::text("saga")];
            let key = super::lane_key(&lane).into_iter().chain(due).chain(names.clone()).collect();
            if !self.look.keyed(&TIMER, vec![key]).await?.is_empty() {
                return Ok(true);
            }
        }
        let key = super::lane_key(&lane).into_iter().chain(names).collect();
        Ok(self.look.one(&QUARANTINE, key).await?.is_some())
    }

    fn find_saga(&mut self, class: Class, saga: &Saga, says: String, row: &Row) {
        let about = format!("{} {}", saga.definition, saga.saga_id);
        let mend = format!("seriatim saga retry {} --definition {}", saga.saga_id, saga.definition);
        self.report.find(Finding::new(class, about, says, mend).row(&SAGA, row));
    }

    async fn debts(&mut self) -> Result<(), Error> {
        let mut scan = Scan::new(&DEBT, Key::new());
        while let Some(row) = scan.next(&mut self.look).await? {
            let debt = read(Debt::read(&row), &DEBT)?;
            if debt.status == "needs_operator" {
                let (kind, entity_id) = (&debt.kind, &debt.entity_id);
                let says =
                    format!("{} {} of {} are owed and out of retries", debt.amount_minor, debt.currency, debt.what);
                let mend = format!("seriatim entity retry {kind} {entity_id}");
                let finding = Finding::new(Class::DebtNeedsOperator, format!("{kind} {entity_id}"), says, mend);
                self.report.find(finding.of(kind, entity_id).row(&DEBT, &row));
            }
        }
        Ok(())
    }
}
