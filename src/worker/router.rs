//! Joins the sides: what the group gives is claimed and handed to a writer; what is lost is given up, and
//! claimed again later if the group still gives it. The group is a hint: two workers that both believe to have
//! a lane disturb each other less and less, and the fence lets one of them make progress.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Semaphore, mpsc},
    time::Instant,
};

use super::{
    claim::{self, Claimed, Failure},
    slot::{End, Shown, Slot},
    writer::{self, Order, Report, Shared},
};
use crate::{
    admin::Lanes,
    broker::{Consumer, Event, Inbox},
    core::{batch::AlarmKind, record::LaneId},
    failpoint::{self, Point},
    telemetry::LaneGauges,
};

/// What a lane that the group gives is doing here.
enum Standing {
    /// It is being claimed.
    Claiming,
    /// A writer serves it.
    Open { writer: usize, shown: Arc<Shown>, since: Instant },
    /// It is not claimed until its pause is over.
    Resting,
    /// An operator must look.
    Refused,
}

/// A lane that the group gives.
struct Given {
    standing: Standing,
    /// One claim and what comes of it: whatever is told of an earlier one does not count.
    opening: u64,
    /// The pause before the next claim.
    pause: Duration,
    /// False once the group has taken the lane away: a claim that still waits for its turn is not made.
    held: Arc<AtomicBool>,
}

/// Answers of the tasks that the router starts.
enum Answer {
    Claimed(LaneId, u64, Box<Result<Claimed, Failure>>),
    ClaimAgain(LaneId, u64),
    End(LaneId, Option<End>),
}

/// What the router works with.
pub(super) struct Router {
    pub(super) shared: Shared,
    pub(super) consumer: Box<dyn Consumer>,
    pub(super) identity: String,
    pub(super) writers: Vec<writer::Handle>,
    pub(super) events: mpsc::UnboundedReceiver<Event>,
    pub(super) reports: mpsc::UnboundedReceiver<Report>,
    given: BTreeMap<LaneId, Given>,
    openings: u64,
    /// Lanes with a claim under way. Never two of one lane: the one that is made first would be answered last,
    /// and its lane be opened with a token that the other has replaced.
    claiming: BTreeSet<LaneId>,
    answers: mpsc::UnboundedReceiver<Answer>,
    answering: mpsc::UnboundedSender<Answer>,
    /// Claims made at once; each has a connection of its own.
    claims: Arc<Semaphore>,
}

/// Claims made at the same time.
const CLAIMS_MAX: usize = 4;
/// How often health and gauges are brought up to date.
const TICK: Duration = Duration::from_millis(500);

impl Router {
    pub(super) fn new(
        shared: Shared,
        consumer: Box<dyn Consumer>,
        identity: String,
        writers: Vec<writer::Handle>,
        events: mpsc::UnboundedReceiver<Event>,
        reports: mpsc::UnboundedReceiver<Report>,
    ) -> Self {
        let (answering, answers) = mpsc::unbounded_channel();
        Self {
            shared,
            consumer,
            identity,
            writers,
            events,
            reports,
            given: BTreeMap::new(),
            openings: 0,
            claiming: BTreeSet::new(),
            answers,
            answering,
            claims: Arc::new(Semaphore::new(CLAIMS_MAX)),
        }
    }

    /// Runs until `shutdown` ends, or until something happens that ends the process.
    pub(super) async fn run(&mut self, shutdown: impl Future<Output = ()>) -> Result<(), String> {
        tokio::pin!(shutdown);
        let mut tick = tokio::time::interval(TICK);
        let mut commit_at = Instant::now() + self.shared.settings.commit_interval;
        loop {
            // In this order: the tick is rare, and must not starve behind events that are not.
            tokio::select! {
                biased;
                () = &mut shutdown => return Ok(()),
                _ = tick.tick() => {
                    self.show();
                    if Instant::now() >= commit_at {
                        self.commit_offsets();
                        commit_at = Instant::now() + self.shared.settings.commit_interval;
                    }
                }
                Some(event) = self.events.recv() => self.take_event(event)?,
                Some(report) = self.reports.recv() => self.take_report(report)?,
                Some(answer) = self.answers.recv() => self.take_answer(answer)?,
            }
        }
    }

    fn take_event(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Assigned(lanes) => {
                self.shared.health.joined(true);
                self.shared.metrics.rebalance();
                lanes.into_iter().for_each(|lane| self.give(lane));
            }
            Event::Revoked(lanes) => {
                self.shared.metrics.rebalance();
                lanes.iter().for_each(|lane| self.take_away(lane));
            }
            Event::Lost { lane, why } => {
                tracing::error!(topic = %lane.topic, partition = lane.partition, error = %why, "reading has failed");
                // One that is being claimed, or rests, reads nothing: that was its last opening.
                if let Some(Given { standing: Standing::Open { .. }, .. }) = self.given.get(&lane) {
                    self.reclaim(&lane, false);
                }
            }
            Event::Stalled(lane) => {
                self.shared.metrics.stall();
                return Err(format!("{lane}: records are there and none is delivered"));
            }
            Event::Fatal(error) => return Err(format!("the Kafka client has ended: {error}")),
        }
        Ok(())
    }

    fn give(&mut self, lane: LaneId) {
        let known = self.shared.catalog.partitions_of(&lane.topic).is_some_and(|count| lane.partition < count);
        tracing::info!(topic = %lane.topic, partition = lane.partition, "the group gives a lane");
        let standing = if known { Standing::Claiming } else { Standing::Refused };
        let (opening, pause) = (self.next_opening(), self.shared.settings.claim_pause_min);
        let given = Given { standing, opening, pause, held: Arc::new(AtomicBool::new(true)) };
        self.given.insert(lane.clone(), given);
        if known {
            self.claim(&lane);
        } else {
            let topic = &lane.topic;
            tracing::error!(topic = %topic, partition = lane.partition, "the topic has more partitions than are in force");
            self.shared.metrics.alarm(AlarmKind::Halt.as_str());
        }
    }

    fn take_away(&mut self, lane: &LaneId) {
        tracing::info!(topic = %lane.topic, partition = lane.partition, "the group takes a lane away");
        self.order(lane, Order::Close(lane.clone()));
        if let Some(given) = self.given.remove(lane) {
            given.held.store(false, Ordering::SeqCst);
        }
        self.shared.metrics.lane_gone(&lane.topic, lane.partition);
    }

    fn next_opening(&mut self) -> u64 {
        self.openings += 1;
        self.openings
    }

    /// Claims a lane, if no claim of it is under way; the answer to that one starts the next.
    fn claim(&mut self, lane: &LaneId) {
        let Some(given) = self.given.get(lane) else { return };
        let (opening, held) = (given.opening, Arc::clone(&given.held));
        if !self.claiming.insert(lane.clone()) {
            return;
        }
        let (shared, identity) = (self.shared.clone(), self.identity.clone());
        let (claims, answering, lane) = (Arc::clone(&self.claims), self.answering.clone(), lane.clone());
        tokio::spawn(async move {
            let claimed = tokio::spawn({
                let lane = lane.clone();
                async move {
                    // Never closed, so a permit is always given in the end.
                    let _permit = claims.acquire_owned().await;
                    claim::claim(&shared, &lane, &identity, &held).await
                }
            });
            let claimed = claimed.await.unwrap_or_else(|_| Err(Failure::Stop(format!("claiming {lane} has panicked"))));
            let _gone = answering.send(Answer::Claimed(lane, opening, Box::new(claimed)));
        });
    }

    fn take_answer(&mut self, answer: Answer) -> Result<(), String> {
        match answer {
            Answer::Claimed(lane, opening, claimed) => {
                self.claiming.remove(&lane);
                match self.given.get(&lane) {
                    Some(given) if given.opening == opening => return self.take_claim(lane, *claimed),
                    // Taken away and given again meanwhile: that claim was not for this giving.
                    Some(Given { standing: Standing::Claiming, .. }) => self.claim(&lane),
                    Some(_) | None => {}
                }
            }
            Answer::ClaimAgain(lane, opening) => {
                if let Some(given) = self.given.get_mut(&lane).filter(|given| given.opening == opening) {
                    given.standing = Standing::Claiming;
                    self.claim(&lane);
                }
            }
            Answer::End(lane, end) => self.order(&lane, Order::End(lane.clone(), end)),
        }
        Ok(())
    }

    fn take_claim(&mut self, lane: LaneId, claimed: Result<Claimed, Failure>) -> Result<(), String> {
        match claimed {
            Ok(claimed) => {
                self.shared.metrics.claim("claimed");
                self.shared.health.store_answers(true);
                self.open(lane, claimed);
            }
            Err(Failure::Later(error)) => {
                self.shared.metrics.claim("failed");
                tracing::warn!(topic = %lane.topic, partition = lane.partition, error = %error, "a claim has failed");
                self.reclaim(&lane, false);
            }
            Err(Failure::Refused(error)) => {
                self.shared.metrics.claim("refused");
                self.shared.metrics.alarm(AlarmKind::Halt.as_str());
                tracing::error!(topic = %lane.topic, partition = lane.partition, error = %error, "a lane is not claimed");
                if let Some(given) = self.given.get_mut(&lane) {
                    given.standing = Standing::Refused;
                }
            }
            Err(Failure::Stop(error)) => return Err(error),
        }
        Ok(())
    }

    fn open(&mut self, lane: LaneId, claimed: Claimed) {
        let Some(opening) = self.given.get(&lane).map(|given| given.opening) else { return };
        let writer = self.least_busy();
        let settings = &self.shared.settings;
        let waker = Arc::clone(&self.writers[writer].waker);
        let inbox = Inbox::new(settings.inbox_records, settings.inbox_bytes, waker);
        let mut slot = Slot::new(opening, claimed.lane, Arc::clone(&inbox), claimed.verify, claimed.next_timer);
        let shown = Arc::clone(&slot.shown);
        tracing::info!(
            topic = %lane.topic,
            partition = lane.partition,
            offset = slot.lane.fence().next_offset,
            epoch = slot.lane.fence().epoch,
            "a lane is claimed"
        );
        if let Some(why) = claimed.halted {
            tracing::error!(topic = %lane.topic, partition = lane.partition, error = %why, "the lane has halted");
            self.shared.metrics.alarm(AlarmKind::Halt.as_str());
            slot.halt(why, None);
        } else {
            self.consumer.open(lane.clone(), claimed.read_from, inbox);
        }
        if let Some(given) = self.given.get_mut(&lane) {
            given.standing = Standing::Open { writer, shown, since: Instant::now() };
        }
        let _ended = self.writers[writer].orders.send(Order::Open(Box::new(slot)));
    }

    fn least_busy(&self) -> usize {
        let mut lanes = vec![0_usize; self.writers.len()];
        for given in self.given.values() {
            if let Standing::Open { writer, .. } = given.standing {
                lanes[writer] += 1;
            }
        }
        lanes.iter().enumerate().min_by_key(|(_, count)| **count).map_or(0, |(at, _)| at)
    }

    fn take_report(&mut self, report: Report) -> Result<(), String> {
        match report {
            Report::Fatal(error) => return Err(error),
            Report::Lost { lane, opening, at_once } => {
                if self.given.get(&lane).is_some_and(|given| given.opening == opening) {
                    self.consumer.close(lane.clone());
                    self.reclaim(&lane, at_once);
                }
            }
            Report::AskEnd(lane, asked_at) => {
                let (broker, answering) = (Arc::clone(&self.shared.broker), self.answering.clone());
                let timeout = self.shared.settings.metadata_timeout;
                tokio::spawn(async move {
                    let end = broker.watermarks(&lane, timeout).await;
                    let end = end.ok().map(|(_, offset)| End { asked_at, offset });
                    let _gone = answering.send(Answer::End(lane, end));
                });
            }
        }
        Ok(())
    }

    /// Claims a lane again: at once, or after a pause that grows until the lane was held for long.
    fn reclaim(&mut self, lane: &LaneId, at_once: bool) {
        self.order(lane, Order::Close(lane.clone()));
        let opening = self.next_opening();
        let settings = Arc::clone(&self.shared.settings);
        let Some(given) = self.given.get_mut(lane) else { return };
        if let Standing::Open { since, .. } = given.standing
            && since.elapsed() >= settings.claim_pause_max
        {
            // Nobody fights for it any more; what was long ago must not delay what comes now.
            given.pause = settings.claim_pause_min;
        }
        given.opening = opening;
        if at_once {
            given.standing = Standing::Claiming;
            return self.claim(lane);
        }
        given.standing = Standing::Resting;
        let pause = self.shared.chance.jittered(given.pause);
        given.pause = given.pause.saturating_mul(2).min(settings.claim_pause_max);
        let (answering, lane) = (self.answering.clone(), lane.clone());
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            let _gone = answering.send(Answer::ClaimAgain(lane, opening));
        });
    }

    /// Tells the writer of a lane, if one serves it.
    fn order(&self, lane: &LaneId, order: Order) {
        if let Some(Given { standing: Standing::Open { writer, .. }, .. }) = self.given.get(lane) {
            let _ended = self.writers[*writer].orders.send(order);
        }
    }

    /// Offsets for lag tools, late and best effort, with the store's id beside them.
    pub(super) fn commit_offsets(&self) {
        let open = self.given.iter().filter_map(|(lane, given)| match &given.standing {
            Standing::Open { shown, .. } => Some((lane.clone(), shown.next_offset())),
            Standing::Claiming | Standing::Resting | Standing::Refused => None,
        });
        let offsets: Vec<_> = open.collect();
        if !offsets.is_empty() {
            self.consumer.commit(offsets, self.identity.clone());
            failpoint::reach(Point::OffsetsCommitted);
        }
    }

    fn show(&self) {
        if self.consumer.last_poll() < 2 * TICK {
            self.shared.health.tick();
        }
        let positions = self.consumer.positions();
        let (mut claimed, mut halted) = (0, 0);
        for (lane, given) in &self.given {
            let Standing::Open { shown, .. } = &given.standing else { continue };
            claimed += 1;
            halted += u16::from(shown.halted().is_some());
            let end = positions.get(lane).map_or(0, |position| position.end);
            let backlog = shown.backlog();
            let gauges = LaneGauges {
                lag: (end - shown.next_offset()).max(0),
                held: i64::try_from(backlog.held).unwrap_or(i64::MAX),
                parked: backlog.parked,
                waiting: i64::try_from(backlog.waiting).unwrap_or(i64::MAX),
                quarantined: i64::try_from(backlog.quarantined).unwrap_or(i64::MAX),
            };
            self.shared.metrics.lane(&lane.topic, lane.partition, gauges);
        }
        let assigned = u16::try_from(self.given.len()).unwrap_or(u16::MAX);
        self.shared.health.lanes(Lanes { assigned, claimed, halted });
    }
}

#[cfg(test)]
#[path = "router_tests.rs"]
mod tests;
