//! A store on the other end of a bad line: each call may fail before or after it has done its work, be late, or
//! outlive the process that made it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;

use super::{
    brokers,
    process::Process,
    world::{GAP_MAX, World},
};
use crate::{
    core::{
        fence::{LaneCommit, LaneRow},
        ledger::{COMMAND_LOG, Command, JOURNAL, OUTBOX},
        record::LaneId,
        table::{Change, Row, Table, Value, Want},
    },
    store::{Committed, Error, Forgotten, Kept, Replicated, Session, Standby, Store},
};

/// The world's store as one process sees it.
#[derive(Debug)]
pub(super) struct FarStore {
    pub(super) world: World,
    pub(super) process: Arc<Process>,
}

#[async_trait]
impl Store for FarStore {
    async fn session(&self) -> Result<Box<dyn Session>, Error> {
        let line = Line { world: self.world.clone(), process: Arc::clone(&self.process) };
        line.go().await?;
        let near = self.world.store.session().await?;
        line.back().await;
        let timeline = near.timeline();
        Ok(Box::new(FarSession { line, near, timeline, lanes: BTreeSet::new() }))
    }
}

struct FarSession {
    line: Line,
    near: Box<dyn Session>,
    /// As of the last call: what was answered before a failover was said on the timeline before it.
    timeline: i64,
    /// Lanes whose batches it commits, as far as it knows.
    lanes: BTreeSet<LaneId>,
}

impl FarSession {
    /// Loses what another owner has done on a lane, if that is to be lost once it was read here.
    fn be_overtaken(&self) {
        let Line { world, process } = &self.line;
        if process.is_overtaken() && self.lanes.iter().any(|lane| world.lose_later_owner(lane, &process.name)) {
            process.set_overtaken(false);
        }
    }
}

/// What lies between a process and the store.
struct Line {
    world: World,
    process: Arc<Process>,
}

impl Line {
    /// A call on its way to the store. An error: it got lost, and did nothing.
    async fn go(&self) -> Result<(), Error> {
        self.process.alive().await;
        self.world.travel().await;
        let lost = self.world.throw(|dice, illness| dice.permille(illness.retry));
        // What a dying process has sent arrives, or does not.
        let died = self.process.is_dead() && self.world.throw(|dice, _| dice.one_in(2));
        if died {
            self.process.alive().await;
        }
        if lost || self.world.store_is_down() {
            self.world.count("store call lost");
            self.process.alive().await;
            return Err(Error::Retry("the simulated store does not answer".to_owned()));
        }
        Ok(())
    }

    /// Nothing may be written that lies in the database's future; a clock that jumps back may have shown it.
    fn check_times(&self, lanes: &[LaneCommit]) {
        let now = self.world.database_clock();
        let at = JOURNAL.columns.iter().position(|column| column.name == "at").unwrap_or_default();
        let rows = lanes.iter().flat_map(|lane| lane.writes.iter()).filter(|(table, _)| std::ptr::eq(*table, &JOURNAL));
        let rows = rows.flat_map(|(_, changes)| changes).filter_map(|change| match change {
            Change::Insert(row) => Some(row),
            Change::Update { .. } | Change::Delete(_) => None,
        });
        let ahead = rows.filter_map(|row| if let Value::Time(at) = row[at] { Some(at) } else { None }).max();
        if !self.world.jumps && ahead.is_some_and(|ahead| ahead > now) {
            self.world.find(format!(
                "time: {} writes what happens {} us from now",
                self.process,
                ahead.unwrap_or(0) - now
            ));
        }
    }

    /// What became of an order is said once.
    fn check_orders(&self, lanes: &[LaneCommit]) {
        let writes = lanes.iter().flat_map(|lane| lane.writes.iter());
        let mut answers =
            writes.filter(|(table, _)| std::ptr::eq(*table, &COMMAND_LOG)).flat_map(|(_, changes)| changes);
        if answers.any(|change| matches!(change, Change::Update { .. })) {
            self.world.find(format!("orders: {} answers what was answered before", self.process));
        }
    }

    /// Whether the store refuses this COMMIT. One of a single record it takes: what is refused alone is never taken.
    fn is_refused(&self, lanes: &[LaneCommit]) -> bool {
        self.world.throw(|dice, illness| {
            let single = if illness.gaps > 0 { 1 + GAP_MAX } else { 1 };
            let is_several = |lane: &LaneCommit| lane.next_offset - lane.expected.next_offset > single;
            (lanes.len() > 1 || lanes.iter().any(is_several)) && dice.permille(illness.refuse)
        })
    }

    /// Cuts the process off that makes this COMMIT, if it is to be and messages hang on it: whoever else has its lanes
    /// by the time it goes on, it must not take their work for its own. Whether it is.
    fn cut_off(&self, lanes: &[LaneCommit]) -> bool {
        let sends = lanes.iter().flat_map(|lane| lane.writes.iter()).any(|(table, _)| std::ptr::eq(*table, &OUTBOX));
        let Some(pause) = sends.then(|| self.process.take_cut_off()).flatten() else { return false };
        self.world.tell(|| format!("{} is cut off", self.process));
        brokers::stand_still(&self.world, &self.process, pause, Duration::ZERO);
        true
    }

    /// An answer on its way back.
    async fn back(&self) {
        self.world.travel().await;
        self.process.alive().await;
    }
}

#[async_trait]
impl Session for FarSession {
    async fn identity(&mut self) -> Result<String, Error> {
        self.line.go().await?;
        let answer = self.near.identity().await;
        self.line.back().await;
        answer
    }

    async fn partitions(&mut self, counts: &BTreeMap<String, i32>) -> Result<BTreeMap<String, i32>, Error> {
        self.line.go().await?;
        let answer = self.near.partitions(counts).await;
        self.line.back().await;
        answer
    }

    async fn claim(&mut self, lane: &LaneId, token: &str, owner: &str, start: i64) -> Result<(LaneRow, i64), Error> {
        self.line.go().await?;
        self.line.world.keep_snapshot();
        let answer = self.near.claim(lane, token, owner, start).await;
        self.timeline = self.near.timeline();
        if let Ok((row, _)) = &answer {
            self.line.world.note_claim(row);
        }
        self.line.world.tell(|| format!("{} claims {lane}: {answer:?}", self.line.process));
        self.line.back().await;
        answer
    }

    async fn peek(&mut self, lane: &LaneId) -> Result<Option<LaneRow>, Error> {
        self.line.go().await?;
        let answer = self.near.peek(lane).await;
        self.line.back().await;
        answer
    }

    async fn load(&mut self, wants: &[(&'static Table, Want)]) -> Result<Vec<Vec<Row>>, Error> {
        self.line.go().await?;
        let answer = self.near.load(wants).await;
        self.timeline = self.near.timeline();
        self.be_overtaken();
        self.line.back().await;
        answer
    }

    async fn commit(&mut self, lanes: &[LaneCommit]) -> Result<Committed, Error> {
        self.line.go().await?;
        let (unknown, made) = self.line.world.throw(|dice, illness| (dice.permille(illness.unknown), dice.one_in(2)));
        let cut_off = self.line.cut_off(lanes);
        let (unknown, made) = (unknown || cut_off, made && !cut_off);
        if unknown && !made {
            self.line.world.count("commit without an answer, not made");
            self.line.back().await;
            return Err(Error::Unknown("the simulated line was cut before COMMIT".to_owned()));
        }
        self.line.check_times(lanes);
        self.line.check_orders(lanes);
        if self.line.is_refused(lanes) {
            self.line.world.count("commit refused");
            self.line.back().await;
            return Err(Error::Rejected("the simulated store takes fewer records at once".to_owned()));
        }
        self.line.world.keep_snapshot();
        let answer = self.near.commit(lanes).await;
        self.timeline = self.near.timeline();
        match &answer {
            Ok(Committed::All { .. }) => {
                self.lanes.extend(lanes.iter().map(|commit| commit.lane.clone()));
                self.line.world.note_commit(lanes, &self.line.process);
            }
            Ok(Committed::Fenced(fenced)) => {
                self.lanes.retain(|lane| !fenced.contains(lane));
                self.line.world.count("fenced");
                self.line.world.tell(|| format!("{} is fenced on {fenced:?}", self.line.process));
            }
            Err(error @ (Error::Stop(_) | Error::Rejected(_))) => {
                self.line.world.find(format!("store: {} writes what it refuses: {error}", self.line.process));
            }
            Err(_) => {}
        }
        self.line.back().await;
        if unknown && matches!(answer, Ok(Committed::All { .. })) {
            self.line.world.count("commit without an answer, made");
            return Err(Error::Unknown("the simulated line was cut after COMMIT".to_owned()));
        }
        answer
    }

    async fn look(&mut self, lanes: &[LaneId]) -> Result<(Vec<LaneRow>, i64), Error> {
        self.line.go().await?;
        let answer = self.near.look(lanes).await;
        self.timeline = self.near.timeline();
        self.line.back().await;
        answer
    }

    async fn order(&mut self, command: Row) -> Result<(), Error> {
        self.line.go().await?;
        let id = Command::read(&command).map(|command| command.id);
        let answer = self.near.order(command).await;
        if answer.is_ok() {
            self.line.world.inner().orders.extend(id);
        }
        self.line.back().await;
        answer
    }

    async fn trim_outbox(&mut self, rows_max: i64) -> Result<u64, Error> {
        self.line.go().await?;
        let answer = self.near.trim_outbox(rows_max).await;
        self.line.back().await;
        answer
    }

    async fn forget(&mut self, table: &'static Table, kept: &Kept) -> Result<Forgotten, Error> {
        self.line.go().await?;
        let answer = self.near.forget(table, kept).await;
        self.line.back().await;
        answer
    }

    async fn replicated(&mut self, standby: &Standby) -> Result<Replicated, Error> {
        self.line.go().await?;
        let answer = self.near.replicated(standby).await;
        self.timeline = self.near.timeline();
        self.line.back().await;
        answer
    }

    fn timeline(&self) -> i64 {
        self.timeline
    }

    fn statements(&self) -> u64 {
        self.near.statements()
    }
}
