//! Due timers enter the lane's own batch as inputs like any other. A timer is never taken back: who is
//! called looks whether it still matters.

use super::{handle::Failure, lane::Lane, ledger::Timer, table::Row};

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
            ("gap", _) => self.gap_due(entity_id, name),
            ("letter", _) => self.letter_due(name),
            ("waiting", _) => self.waiting_due(entity_id, name.parse().unwrap_or(-1)),
            (purpose, _) if unwell => self.park_timer(entity_id, purpose, name, timer.time.0),
            (purpose, Some(error)) => {
                let failure = Failure::Poison(error.to_owned());
                self.quarantine_timer(entity_id, (purpose, name, timer.time.0), &failure);
            }
            (purpose, None) => self.run_timer(entity_id, purpose, name, timer.time.0),
        }
    }
}
