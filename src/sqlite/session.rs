//! One session: waits for its turn with the process's connection, call by call.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;

use super::{Shared, claim, commit, connection::Open, load, register, sql::Statements, trim};
use crate::{
    core::{
        fence::{LaneCommit, LaneRow},
        record::LaneId,
        table::{Row, Table, Want},
    },
    store::{Committed, Error, Forgotten, Kept, Replicated, Session, Standby},
};

/// A session. What it keeps is its statements' texts and their number; the connection is everyone's.
#[derive(Debug)]
pub(super) struct SqliteSession {
    shared: Arc<Shared>,
    statements: Statements,
    sent: u64,
}

/// Runs one call. While it runs the connection's place is empty: a call that is dropped half-way takes the
/// connection along, and the next call makes a new one. A call that fails is rolled back first.
macro_rules! lend {
    ($session:ident, |$open:ident| $call:expr) => {{
        let mut place = $session.shared.place.lock().await;
        let mut lent = match place.take() {
            Some(open) => open,
            None => Open::new(&$session.shared.options).await?,
        };
        let before = lent.sent;
        let $open = &mut lent;
        let answer = $call.await;
        $session.sent += lent.sent - before;
        *place = if answer.is_ok() { Some(lent) } else { lent.mended().await };
        answer
    }};
}

impl SqliteSession {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, statements: Statements::default(), sent: 0 }
    }
}

#[async_trait]
impl Session for SqliteSession {
    async fn identity(&mut self) -> Result<String, Error> {
        lend!(self, |open| register::identity(open))
    }

    async fn partitions(&mut self, counts: &BTreeMap<String, i32>) -> Result<BTreeMap<String, i32>, Error> {
        lend!(self, |open| register::partitions(open, counts))
    }

    async fn claim(&mut self, lane: &LaneId, token: &str, owner: &str, start: i64) -> Result<(LaneRow, i64), Error> {
        lend!(self, |open| claim::claim(open, lane, token, owner, start))
    }

    async fn peek(&mut self, lane: &LaneId) -> Result<Option<LaneRow>, Error> {
        lend!(self, |open| claim::peek(open, lane))
    }

    async fn load(&mut self, wants: &[(&'static Table, Want)]) -> Result<Vec<Vec<Row>>, Error> {
        lend!(self, |open| load::load(open, &mut self.statements, wants))
    }

    async fn commit(&mut self, lanes: &[LaneCommit]) -> Result<Committed, Error> {
        lend!(self, |open| commit::commit(open, &mut self.statements, lanes))
    }

    async fn look(&mut self, lanes: &[LaneId]) -> Result<(Vec<LaneRow>, i64), Error> {
        lend!(self, |open| claim::look(open, lanes))
    }

    async fn order(&mut self, command: Row) -> Result<(), Error> {
        lend!(self, |open| register::order(open, &mut self.statements, &command))
    }

    async fn trim_outbox(&mut self, rows_max: i64) -> Result<u64, Error> {
        lend!(self, |open| trim::trim_outbox(open, rows_max))
    }

    async fn forget(&mut self, table: &'static Table, kept: &Kept) -> Result<Forgotten, Error> {
        lend!(self, |open| trim::forget(open, &mut self.statements, table, kept))
    }

    async fn replicated(&mut self, _standby: &Standby) -> Result<Replicated, Error> {
        // A file has no standby: whoever waits for one waits for ever, and the configuration refuses it.
        Ok(Replicated { committed: 0, flushed: None, waits_for: String::new() })
    }

    fn timeline(&self) -> i64 {
        claim::TIMELINE
    }

    fn statements(&self) -> u64 {
        self.sent
    }
}
