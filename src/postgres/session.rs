//! One session: lends its connection to each call and takes it back only if the call went well.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;

use super::{Address, claim, commit, connection::Open, forget, load, register, replicated, sql::Statements, trim};
use crate::{
    core::{
        fence::{LaneCommit, LaneRow},
        record::LaneId,
        table::{Row, Table, Want},
    },
    store::{Committed, Error, Forgotten, Kept, Replicated, Session, Standby},
};

/// A connection of its own, made anew after every error.
#[derive(Debug)]
pub(super) struct PostgresSession {
    address: Arc<Address>,
    open: Option<Open>,
    statements: Statements,
    /// Statements that connections which are gone have sent.
    sent: u64,
    /// The timeline that the last connection met.
    timeline: i64,
    /// Whether a commit has found no range for its rows.
    lacks_room: bool,
}

/// Runs one call. While it runs the session has no connection: if the call fails or is dropped, so is the
/// connection, and the next call makes a new one.
macro_rules! lend {
    ($session:ident, |$open:ident| $call:expr) => {{
        let mut lent = match $session.open.take() {
            Some(open) if open.timeline > 0 => open,
            // None yet; or the server was a standby then, and may have been promoted since.
            gone => {
                $session.sent += gone.map_or(0, |open| open.sent);
                Open::new(&$session.address).await?
            }
        };
        $session.timeline = lent.timeline;
        let $open = &mut lent;
        let answer = $call.await;
        if answer.is_ok() {
            $session.open = Some(lent);
        } else {
            $session.sent += lent.sent;
            $session.lacks_room |= lent.lacks_room;
        }
        answer
    }};
}

impl PostgresSession {
    pub(super) async fn new(address: Arc<Address>) -> Result<Self, Error> {
        let open = Open::new(&address).await?;
        let timeline = open.timeline;
        Ok(Self { address, open: Some(open), statements: Statements::default(), sent: 0, timeline, lacks_room: false })
    }
}

#[async_trait]
impl Session for PostgresSession {
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
        if std::mem::take(&mut self.lacks_room) {
            lend!(self, |open| forget::make_room_everywhere(open))?;
        }
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
        lend!(self, |open| forget::forget(open, table, kept))
    }

    async fn replicated(&mut self, standby: &Standby) -> Result<Replicated, Error> {
        lend!(self, |open| replicated::replicated(open, standby))
    }

    fn timeline(&self) -> i64 {
        self.timeline
    }

    fn statements(&self) -> u64 {
        self.sent + self.open.as_ref().map_or(0, |open| open.sent)
    }
}
