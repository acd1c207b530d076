//! One lane's messages on their way out: per destination partition in order, with a bound on what is under
//! way, and how far all of them are acknowledged.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{gate::Passage, resend::Watch, slot::Shown};
use crate::{
    core::{
        fence::Position,
        message::Message,
        record::LaneId,
        sabotage::{Safeguard, lacks},
    },
    failpoint::{self, Point},
};

/// The messages for one destination partition.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub(super) queue: VecDeque<Message>,
    pub(super) bytes_in_flight: usize,
    /// Its first message is under way by itself; it stays in the queue until it is acknowledged.
    pub(super) probing: bool,
}

/// A message under way.
#[derive(Debug)]
pub(super) struct Flight {
    /// The sending lane, and where to: shared by all that are sent in one go.
    pub(super) route: Arc<(LaneId, LaneId)>,
    pub(super) position: Position,
    pub(super) bytes: usize,
    /// Which opening of the lane sent it.
    pub(super) opening: u64,
    /// It went through the producer for partitions that refuse.
    pub(super) probe: bool,
}

/// A message that is not at the head of the acknowledged run yet.
#[derive(Debug)]
struct Queued {
    position: Position,
    done: bool,
    since: Instant,
}

/// What one lane sends.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) shown: Arc<Shown>,
    /// The lane was claimed on this timeline of the store.
    pub(super) timeline: i64,
    pub(super) links: BTreeMap<LaneId, Link>,
    /// Messages handed over or read and not yet at the head of the acknowledged run, in order.
    window: VecDeque<Queued>,
    /// Acknowledged before a restart, and behind one that was not: these are not sent again.
    acknowledged: BTreeSet<Position>,
    /// The last position that was queued here.
    queued: Position,
    /// The last position that is known to be committed.
    committed: Position,
    /// Rows of the table are to be read before anything that is handed over.
    pub(super) behind: bool,
    pub(super) queued_bytes: usize,
    /// Links to lanes of ours that have not moved lately.
    pub(super) watched: BTreeMap<LaneId, Watch>,
    /// What is sent again, though it was acknowledged before.
    pub(super) resent: BTreeSet<Position>,
    /// How far they may be sent.
    pub(super) passage: Passage,
}

/// Messages of one lane that wait behind one without acknowledgement, at most: small ones are bounded too.
const WINDOW_MAX: usize = 100_000;

impl Outgoing {
    /// From what the lane's row says is acknowledged; whatever stands in the table after that is sent first.
    pub(super) fn new(relayed: Position, shown: Arc<Shown>, timeline: i64, gated: bool) -> Self {
        Self {
            shown,
            timeline,
            links: BTreeMap::new(),
            window: VecDeque::new(),
            acknowledged: BTreeSet::new(),
            queued: relayed,
            committed: relayed,
            behind: true,
            queued_bytes: 0,
            watched: BTreeMap::new(),
            resent: BTreeSet::new(),
            passage: Passage::new(gated, relayed),
        }
    }

    /// Takes what a commit has made. Beyond the bound it is left to the table.
    pub(super) fn hand(&mut self, messages: Vec<Message>, bytes_max: usize) {
        let Some(last) = messages.last() else { return };
        self.committed = self.committed.max(last.position);
        let bytes: usize = messages.iter().map(Message::bytes).sum();
        let too_many = self.window.len() + messages.len() > WINDOW_MAX;
        if self.behind || too_many || (self.queued_bytes > 0 && self.queued_bytes + bytes > bytes_max) {
            self.behind = true;
            return;
        }
        // What was read from the table meanwhile, because it was committed before the order came, is queued already.
        let (queued, now) = (self.queued, Instant::now());
        messages.into_iter().filter(|message| message.position > queued).for_each(|message| self.queue(message, now));
    }

    /// Messages up to here are committed and stand in the table alone.
    pub(super) fn leave(&mut self, last: Position) {
        self.committed = self.committed.max(last);
        self.behind = true;
    }

    /// Takes a page of the table, read after [`Outgoing::read_after`]. `whole`: the table holds no more for now.
    /// Says whether there was anything new in it.
    pub(super) fn read(&mut self, mut messages: Vec<Message>, whole: bool) -> bool {
        if lacks(Safeguard::SendingOrder) {
            messages.reverse();
        }
        if !messages.is_empty() {
            failpoint::reach(Point::OutboxRead);
        }
        let (before, now) = (self.queued, Instant::now());
        for message in messages {
            if message.position > self.queued {
                self.queue(message, now);
            }
        }
        self.advance();
        if whole && self.queued >= self.committed {
            self.behind = false;
        }
        self.queued > before
    }

    /// Whether there is room for a page of the table.
    pub(super) fn has_room(&self, bytes_max: usize) -> bool {
        self.queued_bytes < bytes_max / 2 && self.window.len() < WINDOW_MAX / 2
    }

    /// Where the next page of the table begins.
    pub(super) fn read_after(&self) -> Position {
        self.queued
    }

    fn queue(&mut self, message: Message, since: Instant) {
        self.queued = message.position;
        let done = self.acknowledged.remove(&message.position);
        let marked = done || lacks(Safeguard::Acknowledged);
        self.window.push_back(Queued { position: message.position, done: marked, since });
        if !done {
            self.queued_bytes += message.bytes();
            match self.links.get_mut(&message.to) {
                Some(link) => link.queue.push_back(message),
                None => self.links.entry(message.to.clone()).or_default().queue.push_back(message),
            }
        }
    }

    /// Puts messages that were acknowledged once before all others of their link. How far the lane is acknowledged
    /// does not change by them. They are looked for anew once they are acknowledged again.
    pub(super) fn send_again(&mut self, to: &LaneId, messages: Vec<Message>) {
        self.watched.remove(to);
        let link = self.links.entry(to.clone()).or_default();
        for message in messages.into_iter().rev() {
            self.queued_bytes += message.bytes();
            self.resent.insert(message.position);
            link.queue.push_front(message);
        }
    }

    /// A message was acknowledged.
    pub(super) fn acknowledge(&mut self, position: Position) {
        if self.resent.remove(&position) {
            return;
        }
        let Ok(at) = self.window.binary_search_by(|known| known.position.cmp(&position)) else { return };
        failpoint::reach(Point::Acknowledged);
        self.window[at].done = true;
        self.advance();
        failpoint::reach(Point::Marked);
    }

    /// A message is not under way any more. `probe`: it was sent by itself; its position, and whether it was taken.
    pub(super) fn land(&mut self, to: &LaneId, bytes: usize, probe: Option<(Position, bool)>) {
        let Some(link) = self.links.get_mut(to) else { return };
        link.bytes_in_flight = link.bytes_in_flight.saturating_sub(bytes);
        let Some((position, taken)) = probe else { return };
        // After a restart the link is another one, and may have the message still to send.
        let first = link.queue.front().is_some_and(|message| message.position == position);
        if std::mem::replace(&mut link.probing, false) && taken && first {
            link.queue.pop_front();
            self.queued_bytes = self.queued_bytes.saturating_sub(bytes);
        }
    }

    /// Messages that were sent by themselves and have no answer are to be sent again.
    pub(super) fn end_probes(&mut self) {
        for link in self.links.values_mut().filter(|link| link.probing) {
            link.probing = false;
            link.bytes_in_flight = 0;
        }
    }

    fn advance(&mut self) {
        while let Some(Queued { position, done: true, .. }) = self.window.front() {
            self.shown.set_relayed(*position);
            self.window.pop_front();
        }
    }

    /// Begins again from the first message that is not acknowledged. Those behind it that are acknowledged went
    /// over other links: the producer lets nothing of a link pass a failed message of it.
    pub(super) fn restart(&mut self) {
        self.queued = self.shown.relayed();
        self.acknowledged.extend(self.window.iter().filter(|queued| queued.done).map(|queued| queued.position));
        self.window.clear();
        self.links.clear();
        self.queued_bytes = 0;
        self.behind = true;
        // They are found missing again.
        self.resent.clear();
    }

    /// A look at the standby covers what is queued now. Whether that is anything new.
    pub(super) fn cover(&mut self, look: u64) -> bool {
        self.passage.cover(self.queued, look)
    }

    /// Whether all that is queued may go.
    pub(super) fn is_let_go(&self) -> bool {
        self.queued <= self.passage.upto
    }

    /// Throws away what may not go yet: it is read from the table again, if it is there still.
    pub(super) fn distrust(&mut self) {
        let upto = self.passage.upto;
        self.passage.forget();
        self.window.retain(|queued| queued.position <= upto);
        for link in self.links.values_mut() {
            let gone = link.queue.iter().filter(|message| message.position > upto).map(Message::bytes).sum();
            self.queued_bytes = self.queued_bytes.saturating_sub(gone);
            link.queue.retain(|message| message.position <= upto);
        }
        self.queued = self.queued.min(upto);
        self.committed = self.queued;
        self.behind = true;
    }

    /// How long the oldest message here has waited for its acknowledgement.
    pub(super) fn oldest(&self) -> Duration {
        self.window.front().map_or(Duration::ZERO, |queued| queued.since.elapsed())
    }

    /// Whether everything that is known to be committed is acknowledged.
    pub(super) fn is_done(&self) -> bool {
        !self.behind && self.window.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Outgoing;
    use crate::{
        core::{fence::Position, message::Message, record::LaneId},
        worker::slot::Shown,
    };

    fn message(batch: i64, index: i64) -> Message {
        Message {
            position: Position { batch, index },
            to: LaneId { topic: "out".to_owned(), partition: 0 },
            link_sequence: Some(1),
            timestamp_ms: None,
            key: None,
            value: Some(vec![0; 100].into()),
            headers: Default::default(),
        }
    }

    fn outgoing() -> Outgoing {
        let mut outgoing = Outgoing::new(Position::default(), Arc::new(Shown::default()), 0, false);
        outgoing.read(Vec::new(), true);
        outgoing
    }

    #[test]
    fn the_mark_stops_before_the_first_message_without_acknowledgement() {
        let mut outgoing = outgoing();
        outgoing.hand(vec![message(1, 0), message(1, 1), message(2, 0)], 10_000);
        outgoing.acknowledge(Position { batch: 2, index: 0 });
        outgoing.acknowledge(Position { batch: 1, index: 0 });
        assert_eq!(outgoing.shown.relayed(), Position { batch: 1, index: 0 });
        outgoing.acknowledge(Position { batch: 1, index: 1 });
        assert_eq!(outgoing.shown.relayed(), Position { batch: 2, index: 0 });
        assert!(outgoing.is_done());
    }

    #[test]
    fn what_is_handed_over_while_behind_is_read_from_the_table() {
        let mut outgoing = Outgoing::new(Position::default(), Arc::new(Shown::default()), 0, false);
        outgoing.hand(vec![message(2, 0)], 10_000);
        assert!(outgoing.links.is_empty());
        assert!(outgoing.read(vec![message(1, 0)], true));
        assert!(outgoing.behind, "the page was read before the hand-over's commit could be in it");
        assert!(!outgoing.read(Vec::new(), true), "nothing new: the reader waits before it asks again");
        assert!(outgoing.read(vec![message(2, 0)], true));
        assert!(!outgoing.behind);
    }

    #[test]
    fn what_was_read_from_the_table_before_it_is_handed_over_is_queued_once() {
        let mut outgoing = outgoing();
        outgoing.restart();
        outgoing.read(vec![message(1, 0)], true);
        outgoing.hand(vec![message(1, 0), message(1, 1)], 10_000);
        assert_eq!(outgoing.links[&message(1, 0).to].queue.len(), 2);
        outgoing.acknowledge(Position { batch: 1, index: 0 });
        outgoing.acknowledge(Position { batch: 1, index: 1 });
        assert!(outgoing.is_done(), "the mark stands still for ever");
    }

    #[test]
    fn beyond_the_bound_messages_are_left_to_the_table() {
        let mut outgoing = outgoing();
        outgoing.hand(vec![message(1, 0)], 200);
        outgoing.hand(vec![message(2, 0)], 200);
        assert!(outgoing.behind);
        assert_eq!(outgoing.read_after(), Position { batch: 1, index: 0 });
    }

    #[test]
    fn a_restart_begins_after_the_last_acknowledged_message() {
        let mut outgoing = outgoing();
        outgoing.hand(vec![message(1, 0), message(1, 1)], 10_000);
        outgoing.acknowledge(Position { batch: 1, index: 0 });
        outgoing.restart();
        assert_eq!(outgoing.read_after(), Position { batch: 1, index: 0 });
        assert!(outgoing.behind);
    }

    #[test]
    fn what_was_acknowledged_behind_a_failure_is_not_sent_again() {
        let mut outgoing = outgoing();
        let elsewhere = Message { to: LaneId { topic: "other".to_owned(), partition: 0 }, ..message(1, 1) };
        outgoing.hand(vec![message(1, 0), elsewhere.clone(), message(1, 2)], 10_000);
        outgoing.acknowledge(elsewhere.position);
        outgoing.restart();
        outgoing.restart();
        outgoing.read(vec![message(1, 0), elsewhere.clone(), message(1, 2)], true);
        assert!(!outgoing.links.contains_key(&elsewhere.to));
        outgoing.acknowledge(Position { batch: 1, index: 0 });
        assert_eq!(outgoing.shown.relayed(), elsewhere.position);
    }

    #[test]
    fn small_messages_behind_a_blocked_one_are_bounded_too() {
        let mut outgoing = outgoing();
        let count = i64::try_from(super::WINDOW_MAX).unwrap();
        outgoing.hand((0..count).map(|index| message(1, index)).collect(), usize::MAX);
        outgoing.hand(vec![message(2, 0)], usize::MAX);
        assert!(outgoing.behind && !outgoing.has_room(usize::MAX));
    }
}
