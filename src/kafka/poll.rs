//! The poll thread: commands in, records into the inboxes, events out.
//!
//! It waits for nobody. Each open lane has a queue of its own in the client; while its inbox is full that
//! queue is left alone, and the client stops fetching by itself when it is full too. Pausing would do the
//! same worse: it throws away what was fetched, and a resumed partition waits up to a second for the client's
//! thread to notice. Nothing is ever sought: near a rebalance the client loses and repeats records then.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, atomic::Ordering, mpsc},
    time::{Duration, Instant},
};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _, base_consumer::PartitionQueue},
    error::KafkaError,
    message::{BorrowedMessage, Message as _},
    types::RDKafkaErrorCode,
};

use super::{
    bell::Bell,
    consume::{Command, Shown},
    copy::record_of,
    rebalance::{Context, Opening, list_at, list_of},
    watch::{Verdict, Watch},
};
use crate::{
    broker::{Event, Inbox},
    core::record::LaneId,
    failpoint::{self, Point},
};

/// The longest that the thread sleeps; it is rung awake before, this only bounds a ring that was lost.
const NAP_MAX: Duration = Duration::from_millis(100);
/// Records taken from one queue before the next queue and the commands have their turn.
const TURN_MAX: usize = 256;
/// A commit whose answer has not come by then is given up.
const COMMIT_DEADLINE: Duration = Duration::from_secs(10);

/// Offsets on their way to Kafka; at most one request is under way, newer offsets replace waiting ones.
#[derive(Default)]
struct Commit {
    waiting: BTreeMap<LaneId, i64>,
    metadata: String,
    sent: Option<Instant>,
}

/// How one lane's turn ended.
enum Turn {
    /// The client has nothing more of it.
    Empty,
    /// The inbox has no room; taking from it rings.
    Full,
    /// Others had to have their turn.
    More,
    /// Reading cannot go on, and why.
    Ended(String),
}

/// The thread.
pub(super) struct Poller {
    client: Arc<BaseConsumer<Context>>,
    commands: mpsc::Receiver<Command>,
    bell: Arc<Bell>,
    shown: Arc<Shown>,
    started: Instant,
    stall_deadline: Duration,
    /// The client's queues of the open lanes, and for a while of lanes that were just revoked. They hold the
    /// client, so they are dropped before it.
    queues: BTreeMap<LaneId, PartitionQueue<Context>>,
    commit: Commit,
}

impl Poller {
    pub(super) fn new(
        client: BaseConsumer<Context>,
        commands: mpsc::Receiver<Command>,
        bell: Arc<Bell>,
        shown: Arc<Shown>,
        started: Instant,
        stall_deadline: Duration,
    ) -> Self {
        let (queues, commit) = (BTreeMap::new(), Commit::default());
        Self { client: Arc::new(client), commands, bell, shown, started, stall_deadline, queues, commit }
    }

    /// Polls until told to stop or until the handle is gone, then leaves the group.
    pub(super) fn run(mut self) {
        loop {
            let age = self.started.elapsed().as_millis();
            self.shown.polled_ms.store(u64::try_from(age).unwrap_or(u64::MAX), Ordering::Relaxed);
            self.shown.errors.store(self.client.context().errors(), Ordering::Relaxed);
            if !self.obey() {
                break;
            }
            self.forget_revoked();
            self.send_commit();
            self.watch();
            if self.deliver() {
                self.bell.wait(NAP_MAX);
            }
        }
        self.close_inboxes();
        // The last word on the offsets; the client sees it out before it closes.
        self.commit.sent = None;
        self.send_commit();
        self.queues.clear();
        failpoint::reach(Point::Leaving);
        // Dropping the client leaves the group; see `Consumer::stop` for why this has a thread to itself.
        drop(self.client);
    }

    /// Carries out what has been asked; false when it is time to end.
    fn obey(&mut self) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Open(lane, offset, inbox)) => self.open(&lane, offset, inbox),
                Ok(Command::Close(lane)) => self.close(&lane),
                Ok(Command::Commit(offsets, metadata)) => {
                    self.commit.waiting.extend(offsets);
                    self.commit.metadata = metadata;
                }
                Ok(Command::Stop) | Err(mpsc::TryRecvError::Disconnected) => return false,
                Err(mpsc::TryRecvError::Empty) => return true,
            }
        }
    }

    fn open(&mut self, lane: &LaneId, offset: i64, inbox: Arc<Inbox>) {
        self.close(lane);
        if self.client.context().has_failed() {
            inbox.close();
            return;
        }
        let mut lanes = self.client.context().lanes();
        let Some(place) = lanes.granted(lane) else {
            inbox.close();
            return;
        };
        let rope = self.bell.clone();
        inbox.attach(Arc::new(move || rope.ring()));
        *place = Some(Opening::new(offset, inbox));
        drop(lanes);
        // Before the partition is read: what comes earlier would go to the client's common queue.
        let Some(mut queue) = self.client.split_partition_queue(&lane.topic, lane.partition) else {
            self.client.context().fail(format!("making a queue for {lane}: the client refuses its name"));
            return;
        };
        let rope = self.bell.clone();
        queue.set_nonempty_callback(move || rope.ring());
        self.queues.insert(lane.clone(), queue);
        self.read_from(lane, offset);
    }

    /// Adds a lane to what is read. The offset is in the first assignment: a seek after it races with the
    /// client's own start.
    fn read_from(&self, lane: &LaneId, offset: i64) {
        let assigned =
            list_at(&lane.topic, lane.partition, offset).and_then(|list| self.client.incremental_assign(&list));
        if let Err(error) = assigned {
            self.client.context().fail(format!("reading {lane} from offset {offset}: {error}"));
        }
    }

    fn stop_reading(&self, lane: &LaneId) {
        if let Err(error) = self.client.incremental_unassign(&list_of(&lane.topic, lane.partition)) {
            self.client.context().fail(format!("ending the reading of {lane}: {error}"));
        }
    }

    fn close(&mut self, lane: &LaneId) {
        let opening = self.client.context().lanes().granted(lane).and_then(Option::take);
        if let Some(opening) = opening {
            opening.inbox.close();
            self.stop_reading(lane);
            self.queues.remove(lane);
        }
    }

    /// Drops the queues of lanes that the group has taken away.
    fn forget_revoked(&mut self) {
        let mut lanes = self.client.context().lanes();
        self.queues.retain(|lane, _| lanes.open(&lane.topic, lane.partition).is_some());
    }

    /// Delivers what the client has and the inboxes can take; true when there is nothing more to do.
    fn deliver(&mut self) -> bool {
        let mut idle = self.hear_group();
        let mut ended = Vec::new();
        for (lane, queue) in &self.queues {
            match self.fill(lane, queue) {
                Turn::Empty | Turn::Full => {}
                Turn::More => idle = false,
                Turn::Ended(why) => ended.push((lane.clone(), why)),
            }
        }
        for (lane, why) in ended {
            self.lose(lane, why);
        }
        idle
    }

    /// Serves the client's common queue: rebalances, statistics, errors. True when it is empty.
    fn hear_group(&self) -> bool {
        for _ in 0..TURN_MAX {
            match self.client.poll(Duration::ZERO) {
                Some(Ok(message)) => self.refuse(&message),
                Some(Err(error)) => self.hear(&error),
                None if self.client.context().take_served() => {}
                None => return true,
            }
        }
        false
    }

    /// A record outside its lane's queue. Of a lane that is not open any more it is a leftover; of an open one
    /// it would break the order.
    fn refuse(&self, message: &BorrowedMessage<'_>) {
        self.shown.stale.fetch_add(1, Ordering::Relaxed);
        let context = self.client.context();
        if context.lanes().open(message.topic(), message.partition()).is_some() {
            let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
            context.fail(format!("record {offset} of {topic}/{partition} came outside its lane's queue"));
        }
    }

    /// Moves records from a lane's queue into its inbox.
    fn fill(&self, lane: &LaneId, queue: &PartitionQueue<Context>) -> Turn {
        let context = self.client.context();
        let now = Instant::now();
        for _ in 0..TURN_MAX {
            {
                let mut lanes = context.lanes();
                let Some(opening) = lanes.open(&lane.topic, lane.partition) else { return Turn::Empty };
                if opening.hold_if_full() {
                    return Turn::Full;
                }
            }
            match queue.poll(Duration::ZERO) {
                Some(Ok(message)) => self.accept(&message, now),
                Some(Err(error)) => match error.rdkafka_error_code() {
                    Some(RDKafkaErrorCode::AutoOffsetReset) => {
                        return Turn::Ended("the offset to read from is not in the partition".to_owned());
                    }
                    // The client goes on behind a damaged batch: nothing after it may be used.
                    Some(RDKafkaErrorCode::BadMessage) => {
                        return Turn::Ended("a batch of records is damaged: its checksum is wrong".to_owned());
                    }
                    _ => self.hear(&error),
                },
                None if context.take_served() => {}
                None => {
                    if let Some(opening) = context.lanes().open(&lane.topic, lane.partition) {
                        opening.watch.drained();
                    }
                    return Turn::Empty;
                }
            }
        }
        Turn::More
    }

    /// Puts a record into its lane's inbox.
    fn accept(&self, message: &BorrowedMessage<'_>, now: Instant) {
        let context = self.client.context();
        if context.has_failed() {
            return;
        }
        let mut lanes = context.lanes();
        let Some(opening) = lanes.open(message.topic(), message.partition()) else {
            self.shown.stale.fetch_add(1, Ordering::Relaxed);
            return;
        };
        if message.offset() < opening.next {
            self.shown.repeated.fetch_add(1, Ordering::Relaxed);
            return;
        }
        opening.next = message.offset() + 1;
        opening.watch.delivered(now);
        opening.inbox.push(record_of(message));
    }

    fn lose(&mut self, lane: LaneId, why: String) {
        self.close(&lane);
        self.client.context().tell(Event::Lost { lane, why });
    }

    fn send_commit(&mut self) {
        if self.client.context().take_committed()
            || self.commit.sent.is_some_and(|sent| sent.elapsed() > COMMIT_DEADLINE)
        {
            self.commit.sent = None;
        }
        if self.commit.sent.is_some() || self.commit.waiting.is_empty() {
            return;
        }
        let mut list = TopicPartitionList::new();
        let mut lanes = self.client.context().lanes();
        for (lane, offset) in std::mem::take(&mut self.commit.waiting) {
            // Only what is ours; another member's offset must not be moved back.
            if lanes.granted(&lane).is_none() {
                continue;
            }
            let mut element = list.add_partition(&lane.topic, lane.partition);
            if element.set_offset(Offset::Offset(offset)).is_ok() && !self.commit.metadata.is_empty() {
                element.set_metadata(&self.commit.metadata);
            }
        }
        drop(lanes);
        if list.count() == 0 {
            return;
        }
        match self.client.commit(&list, CommitMode::Async) {
            Ok(()) => self.commit.sent = Some(Instant::now()),
            Err(error) => tracing::debug!(%error, "offsets were not committed to Kafka"),
        }
    }

    /// Judges every open lane when statistics have come.
    fn watch(&mut self) {
        let Some(statistics) = self.client.context().take_statistics() else { return };
        let now = Instant::now();
        let mut positions = BTreeMap::new();
        let mut verdicts = Vec::new();
        for (topic, partition, opening) in self.client.context().lanes().openings() {
            let Some(sight) = statistics.sight(topic, partition) else { continue };
            let lane = LaneId { topic: topic.to_owned(), partition };
            let verdict = opening.watch.judge(&sight, opening.next, opening.held, now, self.stall_deadline);
            positions.insert(lane.clone(), Watch::positions(&sight, opening.next));
            if verdict != Verdict::Well {
                verdicts.push((lane, opening.next, verdict));
            }
        }
        *self.shown.positions.lock().unwrap_or_else(PoisonError::into_inner) = positions;
        for (lane, next, verdict) in verdicts {
            self.act(lane, next, verdict);
        }
    }

    fn act(&mut self, lane: LaneId, next: i64, verdict: Verdict) {
        match verdict {
            Verdict::Well => {}
            Verdict::Tail(offset) => {
                if let Some(opening) = self.client.context().lanes().open(&lane.topic, lane.partition) {
                    opening.inbox.set_tail(offset);
                }
            }
            Verdict::Lost(why) => self.lose(lane, why),
            Verdict::Stuck => {
                tracing::warn!(%lane, next_offset = next, "no record came though there are some: assigning the lane afresh");
                if let Some(opening) = self.client.context().lanes().open(&lane.topic, lane.partition) {
                    opening.watch.unsettled(Instant::now());
                }
                self.stop_reading(&lane);
                self.read_from(&lane, next);
            }
            Verdict::Stalled => self.client.context().tell(Event::Stalled(lane)),
        }
    }

    /// Sorts the client's errors: most are weather.
    fn hear(&self, error: &KafkaError) {
        let context = self.client.context();
        context.take_served();
        match error {
            KafkaError::MessageConsumptionFatal(_) => {
                let why = self.client.client().fatal_error().map_or_else(|| error.to_string(), |(_, reason)| reason);
                context.fail(why);
            }
            KafkaError::MessageConsumption(code) => match code {
                RDKafkaErrorCode::PollExceeded => {
                    context.fail("the poll thread did not come round in time and has left the group".to_owned());
                }
                RDKafkaErrorCode::InconsistentGroupProtocol => {
                    context.fail("another member of the group does not know cooperative-sticky".to_owned());
                }
                RDKafkaErrorCode::Fatal => context.fail(error.to_string()),
                // Logged where the client tells it, at a bounded rate.
                _ => {}
            },
            _ => {}
        }
    }

    fn close_inboxes(&self) {
        self.client.context().lanes().openings().for_each(|(_, _, opening)| opening.inbox.close());
        // Commands that came too late, too: nobody will serve their inboxes.
        while let Ok(command) = self.commands.try_recv() {
            if let Command::Open(_, _, inbox) = command {
                inbox.close();
            }
        }
    }
}
