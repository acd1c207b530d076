//! One lane's messages on their way out: per destination partition in order, with a bound on what is under
//! way, and how far all of them are acknowledged.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Instant,
};

use super::slot::Shown;
use crate::core::{fence::Position, message::Message, record::LaneId};

/// The messages for one destination partition.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub(super) queue: VecDeque<Message>,
    pub(super) bytes_in_flight: usize,
    /// The producer refuses its first message; not before this is it tried again.
    pub(super) blocked_until: Option<Instant>,
}

/// What one lane sends.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) shown: Arc<Shown>,
    pub(super) links: BTreeMap<LaneId, Link>,
    /// Messages handed over or read and not yet at the head of the acknowledged run, in order.
    window: VecDeque<(Position, bool)>,
    /// The last position that was queued here.
    queued: Position,
    /// The last position that is known to be committed.
    committed: Position,
    /// Rows of the table are to be read before anything that is handed over.
    pub(super) behind: bool,
    pub(super) queued_bytes: usize,
}

impl Outgoing {
    /// From what the lane's row says is acknowledged; whatever stands in the table after that is sent first.
    pub(super) fn new(relayed: Position, shown: Arc<Shown>) -> Self {
        Self {
            shown,
            links: BTreeMap::new(),
            window: VecDeque::new(),
            queued: relayed,
            committed: relayed,
            behind: true,
            queued_bytes: 0,
        }
    }

    /// Takes what a commit has made. Beyond the bound it is left to the table.
    pub(super) fn hand(&mut self, messages: Vec<Message>, bytes_max: usize) {
        let Some(last) = messages.last() else { return };
        self.committed = self.committed.max(last.position);
        let bytes: usize = messages.iter().map(Message::bytes).sum();
        if self.behind || (self.queued_bytes > 0 && self.queued_bytes + bytes > bytes_max) {
            self.behind = true;
            return;
        }
        messages.into_iter().for_each(|message| self.queue(message));
    }

    /// Takes a page of the table, read after [`Outgoing::read_after`]. `whole`: the table holds no more for now.
    pub(super) fn read(&mut self, messages: Vec<Message>, whole: bool) {
        messages
            .into_iter()
            .filter(|message| message.position > self.queued)
            .collect::<Vec<_>>()
            .into_iter()
            .for_each(|message| self.queue(message));
        if whole && self.queued >= self.committed {
            self.behind = false;
        }
    }

    /// Where the next page of the table begins.
    pub(super) fn read_after(&self) -> Position {
        self.queued
    }

    fn queue(&mut self, message: Message) {
        self.queued = message.position;
        self.queued_bytes += message.bytes();
        self.window.push_back((message.position, false));
        self.links.entry(message.to.clone()).or_default().queue.push_back(message);
    }

    /// A message was acknowledged.
    pub(super) fn acknowledge(&mut self, position: Position) {
        let Ok(at) = self.window.binary_search_by(|(known, _)| known.cmp(&position)) else { return };
        self.window[at].1 = true;
        while let Some((position, true)) = self.window.front() {
            self.shown.set_relayed(*position);
            self.window.pop_front();
        }
    }

    /// Begins again from the first message that is not acknowledged.
    pub(super) fn restart(&mut self) {
        self.queued = self.shown.relayed();
        self.window.clear();
        self.links.clear();
        self.queued_bytes = 0;
        self.behind = true;
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
            value: Some(vec![0; 100]),
            headers: Vec::new(),
        }
    }

    fn outgoing() -> Outgoing {
        let mut outgoing = Outgoing::new(Position::default(), Arc::new(Shown::default()));
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
        let mut outgoing = Outgoing::new(Position::default(), Arc::new(Shown::default()));
        outgoing.hand(vec![message(2, 0)], 10_000);
        assert!(outgoing.links.is_empty());
        outgoing.read(vec![message(1, 0)], true);
        assert!(outgoing.behind, "the page was read before the hand-over's commit could be in it");
        outgoing.read(vec![message(2, 0)], true);
        assert!(!outgoing.behind);
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
}
