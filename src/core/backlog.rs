//! What a lane keeps for later, counted.

use super::{
    lane::Lane,
    ledger::{HELD, Held, QUARANTINE, Quarantine, WAITING},
};

/// What a lane keeps for later: records, and entities that are unwell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Records whose predecessors are missing.
    pub held: usize,
    /// Records and timers of quarantined entities.
    pub parked: i64,
    /// Records whose saga or entity does not exist yet.
    pub waiting: usize,
    /// Entities that are unwell.
    pub quarantined: usize,
}

impl Lane {
    /// Whether a quarantine is draining: the lane has work without any input.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        let prefix = self.key([]);
        let mut rows = self.state.scan(&QUARANTINE, &prefix).filter_map(|(_, row)| Quarantine::read(row));
        rows.any(|row| row.status == "draining")
    }

    /// Records held, parked and waiting, for the gauges.
    #[must_use]
    pub fn backlog(&self) -> Backlog {
        let prefix = self.key([]);
        let unwell = || self.state.scan(&QUARANTINE, &prefix).filter_map(|(_, row)| Quarantine::read(row));
        let held = self.state.scan(&HELD, &prefix).filter_map(|(_, row)| Held::read(row));
        Backlog {
            held: held.filter(|held| held.place == 0).count(),
            waiting: self.state.count(&WAITING),
            quarantined: unwell().count(),
            parked: unwell().map(|row| row.next - row.first).sum(),
        }
    }
}
