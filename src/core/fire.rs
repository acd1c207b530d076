//! Due timers enter the lane's own batch as inputs like any other. A timer is never taken back: who is
//! called looks whether it still matters.

use super::{lane::Lane, ledger::Timer, table::Row};

impl Lane {
    /// Takes a due row of `timer`. `condemned`: the database refuses what it would write.
    pub(super) fn fire(&mut self, row: &Row, condemned: Option<&str>) {
        let timer = Timer::read(row).expect("a timer is read as the runtime wrote it");
        let address = timer.address();
        if self.state.get(&address).is_none() {
            self.state.admit(address.clone(), Some(row.clone()));
        }
        self.state.set(address, None);
        let name = timer.name.rsplit_once('#').map_or(timer.name.as_str(), |(name, _)| name);
        let (entity_id, unwell) = (timer.entity_id.as_str(), self.is_unwell(&timer.entity_id));
        match (timer.purpose.as_str(), condemned) {
            // What an unwell entity held is parked: it is held anew, with a new deadline, when it drains.
            ("gap", _) => {
                if !unwell {
                    self.gap_due(entity_id, name);
                }
            }
            ("waiting", _) => self.waiting_due(entity_id, name.parse().unwrap_or(-1)),
            (purpose, _) if unwell => self.park_timer(entity_id, purpose, name, timer.time.0),
            (purpose, Some(error)) => {
                self.quarantine(entity_id, "failure", &format!("timer {name}: {error}"));
                self.park_timer(entity_id, purpose, name, timer.time.0);
            }
            (purpose, None) => {
                if !self.run_timer(entity_id, purpose, name, timer.time.0) {
                    self.park_timer(entity_id, purpose, name, timer.time.0);
                }
            }
        }
    }
}
