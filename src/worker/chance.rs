//! The only place that has a random source: tokens of claims, and pauses that spread.

use std::{fmt, sync::Arc, time::Duration};

use uuid::Uuid;

use super::writer::Shared;

/// A random source. Clones share it.
#[derive(Clone)]
pub struct Chance(Arc<dyn Fn() -> u128 + Send + Sync>);

impl Chance {
    /// The operating system's.
    #[must_use]
    pub fn system() -> Self {
        Self::new(|| Uuid::new_v4().as_u128())
    }

    /// One that a simulation drives from its seed.
    pub fn new(next: impl Fn() -> u128 + Send + Sync + 'static) -> Self {
        Self(Arc::new(next))
    }

    /// Names one claim of a lane; nobody else ever has the same.
    pub(super) fn token(&self) -> String {
        Uuid::from_u128((self.0)()).to_string()
    }

    /// Between half and the whole of a pause: those who failed together do not come back together.
    pub(super) fn jittered(&self, pause: Duration) -> Duration {
        let share = 500 + u32::try_from((self.0)() % 1000 / 2).unwrap_or(0);
        pause.saturating_mul(share) / 1000
    }
}

impl fmt::Debug for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chance")
    }
}

impl Shared {
    /// The pause before an attempt, doubling up to its bound, with jitter.
    pub(super) fn backoff(&self, attempt: usize) -> Duration {
        let doubled = self.settings.retry_min.saturating_mul(1 << attempt.clamp(1, 16).saturating_sub(1));
        self.chance.jittered(doubled.min(self.settings.retry_max))
    }
}
