//! Forgets what is old, on a task and a connection of its own, so that no lane ever waits for it.
//!
//! What is forgotten here is only what no lane counts on being there still (ids, journal, log). What lanes keep in
//! memory goes through the lanes, by timers. A call to the store that was begun is finished; one that fails is tried
//! again in the next round.

use tokio::sync::watch;

use super::writer::Shared;
use crate::{
    core::{
        ledger::{KEPT_FOR_A_TIME, SEEN},
        table::Table,
    },
    store::{Error, Forgotten, Kept, Session},
};

/// How far the clocks of two workers may lie apart, in microseconds: what one of them still counts on must not be
/// forgotten by the other. Both follow the database's.
const CLOCKS_APART: i64 = 60_000_000;
/// Into so many ranges the time is cut that a table is kept: one of them at most is kept for longer.
const RANGES: i64 = 4;

/// Goes round until the other end of `end` is dropped.
pub(super) async fn run(shared: Shared, mut end: watch::Receiver<()>) {
    while end.has_changed().is_ok() {
        if let Err(error) = round(&shared, &end).await {
            tracing::warn!(error = %error, "forgetting what is old has failed; it is tried again later");
        }
        tokio::select! {
            _ended = end.changed() => {}
            () = tokio::time::sleep(shared.settings.trim_interval) => {}
        }
    }
}

/// Takes every table as far as it goes. A connection is only held meanwhile.
async fn round(shared: &Shared, end: &watch::Receiver<()>) -> Result<(), Error> {
    let mut session = shared.store.session().await?;
    for (table, _) in KEPT_FOR_A_TIME {
        while end.has_changed().is_ok() && step(shared, &mut *session, table).await? == Forgotten::Part {}
    }
    Ok(())
}

async fn step(shared: &Shared, session: &mut dyn Session, table: &'static Table) -> Result<Forgotten, Error> {
    let (_, now) = session.look(&[]).await?;
    session.forget(table, &kept(shared, table, now)).await
}

/// What stays of a table at this time.
fn kept(shared: &Shared, table: &'static Table, now: i64) -> Kept {
    let (time, settings) = (shared.limits.kept(table), &shared.settings);
    Kept {
        since: now.saturating_sub(time).saturating_sub(CLOCKS_APART),
        // Each new id is looked for in every range, so there they are few and long.
        range: if std::ptr::eq(table, &SEEN) { time } else { time / RANGES },
        rows_max: settings.trim_rows,
        lock_wait: settings.forget_lock_wait,
    }
}
