//! The poll thread: commands in, records into the inboxes, events out.
//!
//! It waits for nobody. A partition whose inbox is full is paused, never sought: seeking near a rebalance is
//! where this client loses and repeats records.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, atomic::Ordering, mpsc},
    time::{Duration, Instant},
};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    error::KafkaError,
    message::{BorrowedMessage, Message as _},
    types::RDKafkaErrorCode,
};

use super::{
    consume::{Command, Event, Shown},
    copy::record_of,
    inbox::{Bell, Inbox},
    rebalance::{Context, Opening, list_at, list_of},
    watch::{Verdict, Watch},
};
use crate::core::record::LaneId;

/// The longest that the thread sleeps; it is rung awake before, this only bounds a ring that was lost.
const NAP_MAX: Duration = Duration::from_millis(100);
/// Records delivered before commands are looked at again.
const DELIVERIES_MAX: usize = 512;
/// A commit whose answer has not come by then is given up.
const COMMIT_DEADLINE: Duration = Duration::from_secs(10);

/// Offsets on their way to Kafka; at most one request is under way, newer offsets replace waiting ones.
#[derive(Default)]
struct Commit {
    waiting: BTreeMap<LaneId, i64>,
    metadata: String,
    sent: Option<Instant>,
}

/// The thread.
pub(super) struct Poller {
    client: BaseConsumer<Context>,
    commands: mpsc::Receiver<Command>,
    bell: Arc<Bell>,
    shown: Arc<Shown>,
    started: Instant,
    stall_deadline: Duration,
    /// What we have paused: resuming anything else replays it.
    paused: BTreeSet<LaneId>,
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
        let (paused, commit) = (BTreeSet::new(), Commit::default());
        Self { client, commands, bell, shown, started, stall_deadline, paused, commit }
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
            self.resume_drained();
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
        inbox.attach(self.bell.clone());
        *place = Some(Opening::new(offset, inbox));
        drop(lanes);
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

    fn stop_reading(&mut self, lane: &LaneId) {
        self.paused.remove(lane);
        if let Err(error) = self.client.incremental_unassign(&list_of(&lane.topic, lane.partition)) {
            self.client.context().fail(format!("ending the reading of {lane}: {error}"));
        }
    }

    fn close(&mut self, lane: &LaneId) {
        let opening = self.client.context().lanes().granted(lane).and_then(Option::take);
        if let Some(opening) = opening {
            opening.inbox.close();
            self.stop_reading(lane);
        }
    }

    /// Delivers what the client has; true when it has nothing more.
    fn deliver(&mut self) -> bool {
        for _ in 0..DELIVERIES_MAX {
            let mut full = None;
            match self.client.poll(Duration::ZERO) {
                Some(Ok(message)) => full = self.accept(&message),
                Some(Err(error)) => self.hear(&error),
                None if self.client.context().take_served() => {}
                None => {
                    self.client.context().lanes().openings().for_each(|(_, _, opening)| opening.watch.drained());
                    return true;
                }
            }
            if let Some(lane) = full {
                self.pause(lane);
            }
        }
        false
    }

    /// Puts a record into its lane's inbox; answers with the lane if that has filled it.
    fn accept(&self, message: &BorrowedMessage<'_>) -> Option<LaneId> {
        let context = self.client.context();
        if context.has_failed() {
            return None;
        }
        let mut lanes = context.lanes();
        let Some(opening) = lanes.open(message.topic(), message.partition()) else {
            self.shown.stale.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        if message.offset() < opening.next {
            self.shown.repeated.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        opening.next = message.offset() + 1;
        opening.watch.delivered(Instant::now());
        opening.inbox.push(record_of(message));
        let fills = !opening.paused && opening.inbox.is_full();
        fills.then(|| LaneId { topic: message.topic().to_owned(), partition: message.partition() })
    }

    fn pause(&mut self, lane: LaneId) {
        if let Err(error) = self.client.pause(&list_of(&lane.topic, lane.partition)) {
            self.client.context().fail(format!("pausing {lane}: {error}"));
            return;
        }
        if let Some(opening) = self.client.context().lanes().open(&lane.topic, lane.partition) {
            opening.paused = true;
            opening.inbox.mark_paused(true);
        }
        self.paused.insert(lane);
    }

    fn resume_drained(&mut self) {
        let mut lanes = self.client.context().lanes();
        let mut drained = Vec::new();
        self.paused.retain(|lane| {
            // A lane that was revoked or closed meanwhile is not ours to resume.
            let Some(opening) = lanes.open(&lane.topic, lane.partition).filter(|opening| opening.paused) else {
                return false;
            };
            if !opening.inbox.is_drained() {
                return true;
            }
            opening.paused = false;
            opening.inbox.mark_paused(false);
            opening.watch.resumed(Instant::now());
            drained.push(lane.clone());
            false
        });
        drop(lanes);
        for lane in drained {
            if let Err(error) = self.client.resume(&list_of(&lane.topic, lane.partition)) {
                self.client.context().fail(format!("resuming {lane}: {error}"));
            }
        }
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
            let verdict = opening.watch.judge(&sight, opening.next, opening.paused, now, self.stall_deadline);
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
            Verdict::Tail(offset) => self.client.context().tell(Event::Tail { lane, offset }),
            Verdict::Lost(why) => {
                self.close(&lane);
                self.client.context().tell(Event::Lost { lane, why });
            }
            Verdict::Stuck => {
                tracing::warn!(%lane, next_offset = next, "no record came though there are some: assigning the lane afresh");
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
                // Names no partition; the statistics show which one has stopped.
                RDKafkaErrorCode::AutoOffsetReset => {
                    context.lanes().openings().for_each(|(_, _, opening)| opening.watch.suspect());
                }
                RDKafkaErrorCode::PollExceeded => {
                    context.fail("the poll thread did not come round in time and has left the group".to_owned());
                }
                // The client goes on behind a damaged batch, and names no partition: nothing after it may be used.
                RDKafkaErrorCode::BadMessage => {
                    context.fail("a batch of records is damaged: its checksum is wrong".to_owned())
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
