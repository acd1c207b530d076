//! Lets a message go only when its commit is flushed on the standby that would take over: then nothing that was sent
//! can be lost with a failover.
//!
//! A look asks the store how far its log has come, and how far the standby has flushed. All that was queued before the
//! look lies below the first number, whether it was handed over or read from the table; it may go once the second one
//! has reached that. Numbers of two timelines do not compare: when the timeline has changed, what has not been let go
//! is thrown away and read from the table again, because it may not be there any more.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::relay::Relay;
use crate::{
    core::{
        fence::Position,
        record::LaneId,
        sabotage::{Safeguard, lacks},
    },
    store::{Error, Session, Standby},
};

/// The gate, if there is one.
#[derive(Debug)]
pub(super) struct Gate {
    standby: Standby,
    poll: Duration,
    /// The timeline of the last look, or of the relay's first connection.
    pub(super) timeline: i64,
    /// Number of the last look.
    look: u64,
    /// Looks whose messages wait.
    waiting: VecDeque<Look>,
    looked: Option<Instant>,
    /// Since when something has waited that no look has covered yet.
    uncovered: Option<Instant>,
}

/// A look whose messages wait.
#[derive(Debug)]
struct Look {
    number: u64,
    /// How far the log had come.
    committed: i64,
    /// Since when the first of them has waited.
    since: Instant,
}

impl Gate {
    pub(super) fn new(standby: Standby, poll: Duration, session: &dyn Session) -> Self {
        let timeline = session.timeline();
        Self { standby, poll, timeline, look: 0, waiting: VecDeque::new(), looked: None, uncovered: None }
    }

    /// How long the relay may wait before something is due here.
    pub(super) fn pause(&self) -> Option<Duration> {
        self.since().map(|_| self.poll)
    }

    /// How long the first that waits has waited.
    pub(super) fn waited(&self) -> Duration {
        self.since().map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn since(&self) -> Option<Instant> {
        self.waiting.front().map(|look| look.since).or(self.uncovered)
    }
}

impl Relay {
    /// Looks how far the standby is, if something waits for it and it is time. An error ends the process.
    pub(super) async fn look_at_standby(&mut self) -> Result<(), String> {
        let Some(gate) = &mut self.gate else { return Ok(()) };
        if self.lanes.values().all(|(_, outgoing)| outgoing.is_let_go()) {
            (gate.uncovered, gate.looked) = (None, None);
            gate.waiting.clear();
            // What waited may only be out of sight, to be read from the table again: no look that is remembered covers
            // it then.
            self.lanes.values_mut().for_each(|(_, outgoing)| outgoing.passage.forget());
            return Ok(());
        }
        let uncovered = *gate.uncovered.get_or_insert_with(Instant::now);
        if gate.looked.is_some_and(|looked| looked.elapsed() < gate.poll) {
            return Ok(());
        }
        gate.looked = Some(Instant::now());
        let found = match self.session.replicated(&gate.standby).await {
            Ok(found) => found,
            Err(Error::Stop(error)) => return Err(error),
            Err(error) => {
                tracing::warn!(error = %error, "the database does not say how far its standby is; messages wait");
                return Ok(());
            }
        };
        let timeline = self.session.timeline();
        if timeline != gate.timeline {
            tracing::warn!(before = gate.timeline, timeline, "another server has taken over; what waits is read again");
            gate.timeline = timeline;
            gate.waiting.clear();
            self.lanes.values_mut().for_each(|(_, outgoing)| outgoing.distrust());
            return Ok(());
        }
        // Nothing was queued while the answer was on its way: this task does one thing at a time.
        gate.look += 1;
        let look = gate.look;
        let covers = self.lanes.values_mut().fold(false, |covers, (_, outgoing)| outgoing.cover(look) | covers);
        if covers {
            gate.waiting.push_back(Look { number: look, committed: found.committed, since: uncovered });
        }
        gate.uncovered = None;
        let mut open = None;
        let is_safe = |look: &&Look| Some(look.committed) <= found.flushed || lacks(Safeguard::RelayGate);
        while let Some(look) = gate.waiting.front().filter(is_safe) {
            open = Some(look.number);
            gate.waiting.pop_front();
        }
        if let Some(look) = open {
            self.lanes.values_mut().for_each(|(_, outgoing)| outgoing.passage.let_go(look));
        }
        Ok(())
    }

    /// Whether the table that was read last is of a later timeline than a lane's opening. With a gate that opening goes
    /// on: nothing that it has sent is lost.
    pub(super) fn is_overtaken(&self, lane: &LaneId) -> bool {
        let opened = self.lanes.get(lane).map(|(_, outgoing)| outgoing.timeline);
        self.gate.is_none() && opened.is_some_and(|opened| opened < self.session.timeline())
    }

    /// Whether what was committed on a timeline may be taken as it is handed over: the relay's own connection must
    /// see the same history. Without a gate it must not see a later one: what the table held before these messages is
    /// not there any more, and they would be sent without it.
    pub(super) fn trusts(&self, timeline: i64) -> bool {
        match &self.gate {
            Some(gate) => gate.timeline == timeline,
            None => timeline >= self.session.timeline(),
        }
    }
}

/// How far one lane's messages are let go.
#[derive(Debug)]
pub(super) struct Passage {
    /// Up to here they may be sent.
    pub(super) upto: Position,
    /// What each look has covered: up to this position.
    covered: VecDeque<(Position, u64)>,
}

impl Passage {
    /// Without a gate all may go; with one, what was acknowledged before.
    pub(super) fn new(gated: bool, relayed: Position) -> Self {
        let all = Position { batch: i64::MAX, index: i64::MAX };
        Self { upto: if gated { relayed } else { all }, covered: VecDeque::new() }
    }

    /// A look covers what is queued, up to this position. Whether that is anything new.
    pub(super) fn cover(&mut self, queued: Position, look: u64) -> bool {
        let known = self.covered.back().map_or(self.upto, |(position, _)| *position);
        let news = queued > known;
        if news {
            self.covered.push_back((queued, look));
        }
        news
    }

    /// What this look and those before it have covered may go.
    pub(super) fn let_go(&mut self, look: u64) {
        while let Some((position, _)) = self.covered.front().filter(|(_, covered)| *covered <= look) {
            self.upto = *position;
            self.covered.pop_front();
        }
    }

    /// What was covered is covered no more.
    pub(super) fn forget(&mut self) {
        self.covered.clear();
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
