//! Decides and commits what was gathered: all lanes in one transaction, each lane's batch whole in itself.
//!
//! What fails is cut: first by lane, then a lane's inputs in halves, down to the one whose writes the database
//! refuses; that one counts as failed and its entity is quarantined. A lane that fails the compare is dropped,
//! nobody else. A COMMIT without an answer is judged by the lanes' rows under lock, never guessed.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{gather::Work, load, writer::Writer};
use crate::{
    core::{
        batch::{AlarmKind, Halt},
        lane::{Decided, Input, Lane, Step},
        record::LaneId,
        sabotage::{Safeguard, lacks},
    },
    failpoint::{self, Point},
    store::{Committed, Error},
};

/// A lane's inputs with what was decided on them.
pub(super) struct Batch {
    pub(super) lane: LaneId,
    pub(super) inputs: Vec<Input>,
    pub(super) decided: Box<Decided>,
}

/// How a transaction went.
enum Outcome {
    Committed,
    /// Nothing was written, and trying the same again cannot help.
    Rejected(Vec<Batch>, String),
}

/// What is known of a piece of a batch that was refused.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tried {
    Not,
    /// The database refuses it as a whole.
    Refused,
    /// It is a single input, decided upon as a failure.
    Condemned,
}

/// A batch that needs more rounds of loading than this does not settle: a bug.
const ROUNDS_MAX: usize = 64;

impl Writer {
    /// Commits the work of several lanes. An error ends the process.
    pub(super) async fn transact(&mut self, work: Vec<Work>) -> Result<(), String> {
        let batches = self.decide(work).await?;
        self.look_ahead(&batches);
        let Outcome::Rejected(batches, error) = self.commit(batches).await? else { return Ok(()) };
        let alone = batches.len() == 1;
        for batch in batches {
            if alone {
                self.isolate(batch, error.clone()).await?;
            } else if let Outcome::Rejected(rejected, error) = self.commit(vec![batch]).await? {
                for batch in rejected {
                    self.isolate(batch, error.clone()).await?;
                }
            }
        }
        Ok(())
    }

    /// Decides for every lane, loading what they lack in few statements for all of them.
    async fn decide(&mut self, work: Vec<Work>) -> Result<Vec<Batch>, String> {
        let mut open: Vec<Work> = work;
        let mut done = Vec::new();
        for _ in 0..ROUNDS_MAX {
            self.agree_on_timeline(&open).await?;
            // Told anew for each round: what was loaded late may lack what had grown old by then, and by an older clock
            // that would count as never known.
            let now = self.clock.now();
            let mut lacking = Vec::new();
            let mut rest: Vec<Work> = Vec::new();
            for (id, inputs) in open {
                let Some(slot) = self.slots.get_mut(&id) else { continue };
                let ahead = slot.ahead.take().map(|ahead| ahead.step);
                match ahead.unwrap_or_else(|| slot.lane.decide(&inputs, now, slot.shown.relayed())) {
                    Step::Decided(decided) => done.push(Batch { lane: id, inputs, decided }),
                    Step::Short(needs) => {
                        lacking.push((rest.len(), needs));
                        rest.push((id, inputs));
                    }
                }
            }
            if rest.is_empty() {
                return Ok(done);
            }
            self.fill(lacking, &rest).await?;
            open = rest;
        }
        Err(format!("a batch did not settle within {ROUNDS_MAX} rounds of loading"))
    }

    /// Loads what lanes lack. If the store does not answer, the lanes decide as before and ask again.
    async fn fill(&mut self, lacking: load::Lacking, work: &[Work]) -> Result<(), String> {
        let order: Vec<&LaneId> = work.iter().map(|(id, _)| id).collect();
        let mut lanes: Vec<(usize, &mut Lane)> = self
            .slots
            .iter_mut()
            .filter_map(|(id, slot)| Some((order.iter().position(|wanted| *wanted == id)?, &mut slot.lane)))
            .collect();
        lanes.sort_by_key(|(at, _)| *at);
        let mut lanes: Vec<&mut Lane> = lanes.into_iter().map(|(_, lane)| lane).collect();
        let mut attempt = 0;
        let mut loaded = Err(Error::Retry(String::new()));
        while loaded.is_err() {
            loaded = load::ask(&mut *self.session, &lacking).await;
            if let Err(error) = &loaded {
                attempt += 1;
                pause(&self.shared, error, attempt).await?;
            }
        }
        load::answer(lacking, loaded.unwrap_or_default(), &mut lanes);
        Ok(())
    }

    /// Commits batches in one transaction, again and again while the world is unwell.
    async fn commit(&mut self, mut batches: Vec<Batch>) -> Result<Outcome, String> {
        let mut attempt = 0;
        let begun = Instant::now();
        while !batches.is_empty() {
            let commits: Vec<_> = batches.iter().map(|batch| batch.decided.commit.clone()).collect();
            if lacks(Safeguard::HandOver) {
                self.hand_over(&batches);
            }
            failpoint::reach(Point::Decided);
            let asked = Instant::now();
            let answer = self.session.commit(&commits).await;
            let took = begun.elapsed();
            if let Ok(Committed::All { now }) = answer {
                self.clock.hear(asked, now);
            }
            self.take_back().await;
            match answer {
                Ok(Committed::All { .. }) => {
                    self.finish(batches, took);
                    return Ok(Outcome::Committed);
                }
                Ok(Committed::Fenced(lanes)) => {
                    let ids: Vec<LaneId> = lanes.clone();
                    batches.retain(|batch| !lanes.contains(&batch.lane));
                    self.lose_fenced(&ids).await?;
                }
                Err(Error::Rejected(error)) => return Ok(Outcome::Rejected(batches, error)),
                Err(Error::Unknown(error)) => {
                    self.shared.metrics.commit_unknown();
                    tracing::warn!(error = %error, "a commit had no answer; looking at the lanes' rows");
                    match self.resolve(&batches).await? {
                        Some(true) => {
                            self.finish(batches, begun.elapsed());
                            return Ok(Outcome::Committed);
                        }
                        Some(false) => {
                            attempt += 1;
                            tokio::time::sleep(self.shared.backoff(attempt)).await;
                        }
                        None => {
                            let ids: Vec<LaneId> = batches.into_iter().map(|batch| batch.lane).collect();
                            self.lose_fenced(&ids).await?;
                            return Ok(Outcome::Committed);
                        }
                    }
                }
                Err(Error::Retry(_)) if lacks(Safeguard::CommitError) => {
                    self.finish(batches, took);
                    return Ok(Outcome::Committed);
                }
                Err(error) => {
                    attempt += 1;
                    pause(&self.shared, &error, attempt).await?;
                    if attempt % self.shared.settings.attempts_before_cut == 0 && batches.len() > 1 {
                        let error = format!("failed {attempt} times, the last with: {error}");
                        return Ok(Outcome::Rejected(batches, error));
                    }
                }
            }
        }
        Ok(Outcome::Committed)
    }

    /// What must not be done before the commit is answered.
    fn hand_over(&self, batches: &[Batch]) {
        for batch in batches {
            if let Some(slot) = self.slots.get(&batch.lane) {
                let timeline = self.session.timeline();
                self.relay.hand(&batch.lane, &slot.shown, batch.decided.messages.clone(), timeline);
            }
        }
    }

    /// Cuts a rejected batch in halves until only what the database refuses is left, and lets that one fail.
    /// What drains is tried by itself first: it would spoil every piece.
    async fn isolate(&mut self, batch: Batch, mut error: String) -> Result<(), String> {
        let id = batch.lane;
        tracing::error!(topic = %id.topic, partition = id.partition, error = %error, "a batch was refused; cutting it");
        let mut pieces = VecDeque::from([(batch.inputs, Tried::Refused)]);
        self.reopen(&id).await?;
        if self.slots.get(&id).is_some_and(|slot| slot.lane.is_draining()) {
            pieces.push_front((Vec::new(), Tried::Not));
        }
        while let Some((mut inputs, mut tried)) = pieces.pop_front() {
            if tried == Tried::Refused && inputs.len() > 1 {
                pieces.push_front((inputs.split_off(inputs.len() / 2), Tried::Not));
                tried = Tried::Not;
            } else if tried == Tried::Refused {
                tried = Tried::Condemned;
                self.condemn(&id, inputs.first_mut(), &error);
            }
            let takes_records = !inputs.iter().all(|input| matches!(input, Input::Command(..)));
            if self.slots.get(&id).is_none_or(|slot| takes_records && slot.is_resting()) {
                self.put_back(&id, inputs.into_iter().chain(pieces.into_iter().flat_map(|(inputs, _)| inputs)));
                return Ok(());
            }
            let batches = self.decide(vec![(id.clone(), inputs)]).await?;
            if let Outcome::Rejected(batches, again) = self.commit(batches).await? {
                error = again;
                self.reopen(&id).await?;
                let inputs = batches.into_iter().flat_map(|batch| batch.inputs);
                if tried == Tried::Condemned {
                    self.put_back(&id, inputs.chain(pieces.into_iter().flat_map(|(inputs, _)| inputs)));
                    self.halt(&id, format!("the database refuses even a quarantine: {error}"));
                    return Ok(());
                }
                pieces.push_front((inputs.collect(), Tried::Refused));
            }
        }
        Ok(())
    }

    /// Marks one input as refused by the database, or what drains where there is no input.
    fn condemn(&mut self, id: &LaneId, input: Option<&mut Input>, error: &str) {
        match (input, self.slots.get_mut(id)) {
            (Some(input), _) => input.condemn(error.to_owned()),
            (None, Some(slot)) => slot.lane.condemn_drain(error.to_owned()),
            (None, None) => {}
        }
    }

    fn put_back(&mut self, id: &LaneId, inputs: impl IntoIterator<Item = Input>) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.put_back(inputs);
        }
    }

    /// The batches are durable: only now may anything be told to the outside.
    fn finish(&mut self, batches: Vec<Batch>, took: Duration) {
        self.shared.health.store_answers(true);
        let events = batches.iter().map(|batch| batch.inputs.len()).sum();
        self.shared.metrics.batch(events, took);
        for batch in batches {
            self.finish_lane(batch);
        }
    }

    fn finish_lane(&mut self, batch: Batch) {
        let Batch { lane: id, mut inputs, decided } = batch;
        let Some(slot) = self.slots.get_mut(&id) else { return };
        // The next batch, where there is one, was decided on what this one leaves.
        if slot.ahead.is_none() {
            slot.lane.committed(&decided);
        }
        slot.looked = Instant::now();
        slot.shown.show(&slot.lane);
        if let Some(due) = decided.next_timer {
            slot.next_timer = Some(slot.next_timer.map_or(due, |known| known.min(due)));
        }
        let rest = inputs.split_off(decided.taken);
        let halt = decided.halt.clone();
        // A lane that rests takes orders all the same; that it has obeyed one does not settle why it rests.
        if halt.is_none() && !slot.is_resting() {
            slot.resume();
        }
        super::tell::tell(&self.shared, &id, &decided);
        if !decided.messages.is_empty() {
            failpoint::reach(Point::HandingOver);
            self.relay.hand(&id, &slot.shown, decided.messages, self.session.timeline());
            failpoint::reach(Point::HandedOver);
        }
        match halt {
            None => {}
            // It begins anew, nobody else has it.
            Some(Halt::Accepted) => self.give_up(&id, true),
            Some(Halt::Newer(why) | Halt::Breaker(why) | Halt::LinkGap(why) | Halt::Fork(why)) => {
                self.put_back(&id, rest);
                self.halt(&id, why);
            }
        }
    }

    fn halt(&mut self, id: &LaneId, why: String) {
        tracing::error!(topic = %id.topic, partition = id.partition, error = %why, "the lane has halted");
        self.shared.metrics.alarm(AlarmKind::Halt.as_str());
        if let Some(slot) = self.slots.get_mut(id) {
            slot.halt(why, Some(self.shared.settings.halt_pause));
        }
    }
}

/// Waits before the next attempt, longer each time. An error ends the process.
pub(super) async fn pause(shared: &super::writer::Shared, error: &Error, attempt: usize) -> Result<(), String> {
    if let Error::Stop(text) = error {
        return Err(text.clone());
    }
    shared.health.store_answers(false);
    shared.metrics.retry();
    tracing::warn!(error = %error, attempt, "the store did not answer; trying again");
    tokio::time::sleep(shared.backoff(attempt)).await;
    Ok(())
}
