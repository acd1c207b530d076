//! Takes away what nobody needs any more, on a task and a connection of its own, so that no lane ever waits for it:
//! messages that have arrived, and what is old.
//!
//! What is forgotten here is only what no lane counts on being there still (ids, journal, log). What lanes keep in
//! memory goes through the lanes, by timers. A call to the store that was begun is finished; one that fails is tried
//! again in the next round.

use tokio::{sync::watch, time::Instant};

use super::writer::Shared;
use crate::{
    core::{
        ledger::{KEPT_FOR_A_TIME, SEEN},
        table::Table,
    },
    failpoint::{self, Point},
    store::{Error, Forgotten, Kept, Session},
};

/// How far the clocks of two workers may lie apart, in microseconds: what one of them still counts on must not be
/// forgotten by the other. Both follow the database's.
const CLOCKS_APART: i64 = 60_000_000;
/// Into so many ranges the time is cut that a table is kept: one of them at most is kept for longer.
const RANGES: i64 = 4;

/// Goes round until the other end of `end` is dropped.
pub(super) async fn run(shared: Shared, mut end: watch::Receiver<()>) {
    let (trim, forget) = (shared.settings.trim_interval, shared.settings.forget_interval);
    let mut forgetting = Instant::now();
    while end.has_changed().is_ok() {
        if let Err(error) = trim_outbox(&shared, &end).await {
            tracing::debug!(error = %error, "trimming the outbox has failed; it is tried again later");
        }
        if forgetting <= Instant::now() {
            forgetting = Instant::now() + forget;
            if let Err(error) = round(&shared, &end).await {
                tracing::warn!(error = %error, "forgetting what is old has failed; it is tried again later");
            }
        }
        tokio::select! {
            _ended = end.changed() => {}
            () = tokio::time::sleep(trim.min(forget)) => {}
        }
    }
}

/// Takes away all messages that may go.
async fn trim_outbox(shared: &Shared, end: &watch::Receiver<()>) -> Result<(), Error> {
    let mut session = shared.store.session().await?;
    while end.has_changed().is_ok() && session.trim_outbox(shared.settings.step_rows).await? > 0 {
        failpoint::reach(Point::Trimmed);
    }
    Ok(())
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
        rows_max: settings.step_rows,
        lock_wait: settings.forget_lock_wait,
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::sync::watch;

    use super::{CLOCKS_APART, round, run};
    use crate::{
        core::{
            fence::{LaneCommit, Position},
            ledger::SEEN,
            limits::micros,
            record::LaneId,
            table::{Change, Value, Want},
        },
        memory::MemoryStore,
        store::{Session, Store},
        worker::testing,
    };

    const NOW: i64 = 1_767_225_600_000_000;
    /// More than two steps of rows.
    const OLD: i64 = 11_000;

    async fn seen(session: &mut dyn Session) -> usize {
        let want = Want::Scan { prefix: vec![], after: None, limit: usize::MAX };
        session.load(&[(&SEEN, want)]).await.unwrap()[0].len()
    }

    #[tokio::test]
    async fn a_round_goes_as_far_as_it_can_and_no_further() {
        let store = MemoryStore::new("m", || NOW);
        let shared = testing::shared(Arc::new(store.clone()));
        let mut session = store.session().await.unwrap();
        let lane = LaneId { topic: "profiles".to_owned(), partition: 0 };
        let (row, _) = session.claim(&lane, "t", "o", 0).await.unwrap();
        let edge = NOW - micros(shared.limits.dedupe_window) - CLOCKS_APART;
        let id = |n: i64| ["profile", "u", "s", &n.to_string()].map(Value::text);
        let digest = |at| [Value::Bytes([1].into()), Value::Time(at)];
        let rows = (0..=OLD).map(|n| id(n).into_iter().chain(digest(edge - i64::from(n < OLD))).collect());
        let commit = LaneCommit {
            lane,
            expected: row.fence,
            next_offset: 1,
            incarnation: 1,
            last: None,
            relayed: Position::default(),
            writes: Arc::new(vec![(&SEEN, rows.map(Change::Insert).collect())]),
        };
        session.commit(&[commit]).await.unwrap();
        let (ending, end) = watch::channel(());
        round(&shared, &end).await.unwrap();
        assert_eq!(seen(&mut *session).await, 1, "what is just as old as may be stays");
        drop(ending);
        run(shared, end).await;
    }

    #[tokio::test]
    async fn it_ends_when_it_is_told_in_the_middle_of_a_pause() {
        let mut shared = testing::shared(Arc::new(MemoryStore::new("m", || NOW)));
        let mut settings = (*shared.settings).clone();
        settings.trim_interval = Duration::from_secs(86_400);
        settings.forget_interval = Duration::from_secs(86_400);
        shared.settings = Arc::new(settings);
        let (ending, end) = watch::channel(());
        let running = tokio::spawn(run(shared, end));
        tokio::task::yield_now().await;
        drop(ending);
        running.await.unwrap();
    }
}
