//! The consumer group of a simulated world, and what its members are given to read.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::sync::{Notify, mpsc::UnboundedSender};

use super::{dice::Dice, log::Log, process::Process};
use crate::{
    broker::{Event, Inbox},
    core::record::LaneId,
};

/// One opening of one lane by a member.
#[derive(Clone, Debug)]
struct Opening {
    inbox: Arc<Inbox>,
    /// The offset after the last record that was delivered.
    next: i64,
}

/// A member of the group, as it sees itself.
#[derive(Debug)]
struct Member {
    process: Arc<Process>,
    events: UnboundedSender<Event>,
    granted: BTreeSet<LaneId>,
    open: BTreeMap<LaneId, Opening>,
    /// Rung when there may be something to deliver.
    bell: Arc<Notify>,
    /// Rebalances that it has not heard of, because it stands still.
    owed: Option<BTreeSet<LaneId>>,
}

/// The group.
#[derive(Debug, Default)]
pub(super) struct Group {
    home: Vec<String>,
    members: BTreeMap<u64, Member>,
    next_member: u64,
    /// Offsets that were committed, with metadata.
    committed: BTreeMap<LaneId, (i64, String)>,
    /// It is about to give its lanes out anew: whoever comes or goes meanwhile is in it.
    rebalancing: bool,
}

impl Group {
    pub(super) fn new(home: Vec<String>) -> Self {
        Self { home, ..Self::default() }
    }

    pub(super) fn is_home(&self, topic: &str) -> bool {
        self.home.iter().any(|home| home == topic)
    }

    /// A new member; it is given nothing before the next rebalance.
    pub(super) fn join(&mut self, process: Arc<Process>, events: UnboundedSender<Event>, bell: Arc<Notify>) -> u64 {
        self.next_member += 1;
        let (granted, open) = (BTreeSet::new(), BTreeMap::new());
        self.members.insert(self.next_member, Member { process, events, granted, open, bell, owed: None });
        self.next_member
    }

    /// A member is gone.
    pub(super) fn leave(&mut self, member: u64) {
        if let Some(member) = self.members.remove(&member) {
            member.open.values().for_each(|opening| opening.inbox.close());
        }
    }

    /// Begins to give lanes out anew. False: that is under way already.
    pub(super) fn begin_rebalance(&mut self) -> bool {
        !std::mem::replace(&mut self.rebalancing, true)
    }

    /// Members whose process has died.
    pub(super) fn bury_dead(&mut self) {
        let dead: Vec<u64> =
            self.members.iter().filter(|(_, member)| member.process.is_dead()).map(|(id, _)| *id).collect();
        dead.into_iter().for_each(|id| self.leave(id));
    }

    /// Gives all lanes out anew, over the members that the group takes for living: one that stands still is not,
    /// and does not hear of it before it goes on.
    pub(super) fn rebalance(&mut self, log: &Log, dice: &mut Dice) {
        let alive: Vec<u64> = self
            .members
            .iter()
            .filter(|(_, member)| !member.process.is_dead() && member.process.frozen_until().is_none())
            .map(|(id, _)| *id)
            .collect();
        let mut shares: BTreeMap<u64, BTreeSet<LaneId>> = BTreeMap::new();
        let turn = dice.index(64);
        self.rebalancing = false;
        for (at, (lane, _)) in log.partitions().filter(|(lane, _)| self.is_home(&lane.topic)).enumerate() {
            if !alive.is_empty() {
                shares.entry(alive[(at + turn) % alive.len()]).or_default().insert(lane.clone());
            }
        }
        for (id, member) in &mut self.members {
            let share = shares.remove(id).unwrap_or_default();
            if member.process.frozen_until().is_some() {
                member.owed = Some(share);
            } else {
                member.hear(share);
            }
        }
    }

    /// Members that go on hear what they have missed.
    pub(super) fn catch_up(&mut self) {
        for member in self.members.values_mut().filter(|member| member.process.frozen_until().is_none()) {
            if let Some(share) = member.owed.take() {
                member.hear(share);
            }
        }
    }

    /// Gives a lane to one more member, without taking it from who has it.
    pub(super) fn split_brain(&mut self, lane: &LaneId) {
        let found = self.members.values_mut().find(|member| !member.granted.contains(lane));
        if let Some(member) = found.filter(|member| member.process.frozen_until().is_none()) {
            member.granted.insert(lane.clone());
            member.tell(Event::Assigned(vec![lane.clone()]));
        }
    }

    pub(super) fn open(&mut self, member: u64, lane: LaneId, offset: i64, inbox: Arc<Inbox>) {
        let Some(member) = self.members.get_mut(&member).filter(|member| member.granted.contains(&lane)) else {
            return inbox.close();
        };
        let bell = Arc::clone(&member.bell);
        inbox.attach(Arc::new(move || bell.notify_one()));
        if let Some(before) = member.open.insert(lane, Opening { inbox, next: offset }) {
            before.inbox.close();
        }
        member.bell.notify_one();
    }

    pub(super) fn close(&mut self, member: u64, lane: &LaneId) {
        if let Some(opening) = self.members.get_mut(&member).and_then(|member| member.open.remove(lane)) {
            opening.inbox.close();
        }
    }

    pub(super) fn commit(&mut self, offsets: Vec<(LaneId, i64)>, metadata: &str) {
        self.committed.extend(offsets.into_iter().map(|(lane, offset)| (lane, (offset, metadata.to_owned()))));
    }

    pub(super) fn committed(&self, lane: &LaneId) -> Option<(i64, String)> {
        self.committed.get(lane).cloned()
    }

    /// Lanes of which it knows that they were read.
    pub(super) fn committed_lanes(&self) -> BTreeSet<LaneId> {
        self.committed.iter().filter(|(_, (offset, _))| *offset > 0).map(|(lane, _)| lane.clone()).collect()
    }

    /// Wakes the members that read a lane.
    pub(super) fn wake_readers(&self, lane: &LaneId) {
        let readers = self.members.values().filter(|member| member.open.contains_key(lane));
        readers.for_each(|member| member.bell.notify_one());
    }

    /// Delivers to a member up to `most` records of each of its lanes. Whether there was more than that.
    pub(super) fn deliver(&mut self, member: u64, log: &Log, most: usize) -> bool {
        let Some(member) = self.members.get_mut(&member) else { return false };
        let mut more = false;
        for (lane, opening) in &mut member.open {
            let Some(partition) = log.partition(lane) else { continue };
            let waiting = partition.from(opening.next);
            let mut delivered = 0;
            for record in waiting.iter().take(most).take_while(|_| !opening.inbox.is_full()) {
                opening.next = record.offset + 1;
                opening.inbox.push(record.clone());
                delivered += 1;
            }
            opening.inbox.mark_held(opening.inbox.is_full());
            more |= delivered < waiting.len() && !opening.inbox.is_full();
            if delivered == waiting.len() {
                opening.inbox.set_tail(partition.end());
            }
        }
        more
    }
}

impl Member {
    /// Hears what it is to read from now on.
    fn hear(&mut self, share: BTreeSet<LaneId>) {
        let gone: Vec<LaneId> = self.granted.difference(&share).cloned().collect();
        let new: Vec<LaneId> = share.difference(&self.granted).cloned().collect();
        for lane in &gone {
            if let Some(opening) = self.open.remove(lane) {
                opening.inbox.close();
            }
        }
        self.granted = share;
        if !gone.is_empty() {
            self.tell(Event::Revoked(gone));
        }
        if !new.is_empty() {
            self.tell(Event::Assigned(new));
        }
    }

    fn tell(&self, event: Event) {
        // A process that has ended hears nothing.
        let _ended = self.events.send(event);
    }
}
