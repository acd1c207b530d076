//! What the group grants and takes away, and the one table of lanes that the poll thread keeps.
//!
//! A granted lane is not read yet: its start offset comes from the store, by a claim off the poll thread. So
//! the group's step is answered at once with nothing to read, and each lane joins what is read when it is
//! opened, with its offset: the client never looks for committed offsets of its own.
//!
//! ```text
//! (not ours) --assign--> granted --open--> open --close--> granted
//!      ^                    |                |
//!      +------revoke--------+----------------+
//! ```

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol},
    error::{KafkaError, KafkaResult},
    types::RDKafkaRespErr,
};
use tokio::sync::mpsc::UnboundedSender;

use super::{
    log_line,
    watch::{Statistics, Watch},
};
use crate::{
    broker::{Event, Inbox},
    core::record::LaneId,
    failpoint::{self, Point},
};

/// One opening of one lane: from an offset, into an inbox.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) inbox: Arc<Inbox>,
    /// The offset after the last delivered record.
    pub(super) next: i64,
    /// Nothing is delivered because the inbox is full.
    pub(super) held: bool,
    pub(super) watch: Watch,
}

impl Opening {
    pub(super) fn new(offset: i64, inbox: Arc<Inbox>) -> Self {
        Self { inbox, next: offset, held: false, watch: Watch::new(Instant::now()) }
    }

    /// Whether the inbox has no room. From then on delivery waits until half of it is free.
    pub(super) fn hold_if_full(&mut self) -> bool {
        let full = if self.held { !self.inbox.is_drained() } else { self.inbox.is_full() };
        if full != self.held {
            self.held = full;
            self.inbox.mark_held(full);
            self.watch.resumed(Instant::now());
        }
        // Taken from before the mark was seen: then nobody rings.
        full && !self.inbox.is_drained()
    }
}

/// The granted lanes, and for the open ones their opening. By topic first, so that a record finds its lane
/// without a copy of its topic's name.
#[derive(Debug, Default)]
pub(super) struct Lanes(BTreeMap<String, BTreeMap<i32, Option<Opening>>>);

impl Lanes {
    fn grant(&mut self, lane: &LaneId) {
        self.0.entry(lane.topic.clone()).or_default().entry(lane.partition).or_default();
    }

    fn take_away(&mut self, lane: &LaneId) -> Option<Opening> {
        self.0.get_mut(&lane.topic)?.remove(&lane.partition).flatten()
    }

    /// The place of a granted lane's opening.
    pub(super) fn granted(&mut self, lane: &LaneId) -> Option<&mut Option<Opening>> {
        self.0.get_mut(&lane.topic)?.get_mut(&lane.partition)
    }

    /// The opening of an open lane.
    pub(super) fn open(&mut self, topic: &str, partition: i32) -> Option<&mut Opening> {
        self.0.get_mut(topic)?.get_mut(&partition)?.as_mut()
    }

    /// All open lanes.
    pub(super) fn openings(&mut self) -> impl Iterator<Item = (&str, i32, &mut Opening)> {
        self.0.iter_mut().flat_map(|(topic, partitions)| {
            partitions
                .iter_mut()
                .filter_map(|(partition, opening)| Some((topic.as_str(), *partition, opening.as_mut()?)))
        })
    }
}

/// What the client calls back, always on the poll thread, because everything it has to say is polled for.
#[derive(Debug)]
pub(super) struct Context {
    events: UnboundedSender<Event>,
    lanes: Mutex<Lanes>,
    statistics: Mutex<Option<Statistics>>,
    /// A callback ran: an empty poll then does not mean an empty queue.
    served: AtomicBool,
    /// The answer to the last commit has come.
    committed: AtomicBool,
    /// Set with the first fatal event; from then on no record is delivered.
    failed: AtomicBool,
    errors: AtomicU64,
}

impl Context {
    pub(super) fn new(events: UnboundedSender<Event>) -> Self {
        Self {
            events,
            lanes: Mutex::default(),
            statistics: Mutex::default(),
            served: AtomicBool::new(false),
            committed: AtomicBool::new(true),
            failed: AtomicBool::new(false),
            errors: AtomicU64::new(0),
        }
    }

    pub(super) fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Statistics that came since the last call.
    pub(super) fn take_statistics(&self) -> Option<Statistics> {
        self.statistics.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether a callback ran since the last call.
    pub(super) fn take_served(&self) -> bool {
        self.served.swap(false, Ordering::Relaxed)
    }

    /// Whether the answer to the last commit has come since the last call.
    pub(super) fn take_committed(&self) -> bool {
        self.committed.swap(false, Ordering::Relaxed)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Errors that the client has told, for the metrics.
    pub(super) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    pub(super) fn tell(&self, event: Event) {
        // Without a receiver the owner has gone and nobody is left to be told.
        let _owner_gone = self.events.send(event);
    }

    /// Ends delivery and tells why, once.
    pub(super) fn fail(&self, why: String) {
        if !self.failed.swap(true, Ordering::Relaxed) {
            self.tell(Event::Fatal(why));
        }
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, lanes: Vec<LaneId>) {
        // Nothing to read yet; see the head of this file. The client takes later additions at any time: its
        // group state and its list of what is read are two things, and only the first answers the group.
        if let Err(error) = consumer.incremental_assign(&TopicPartitionList::new()) {
            self.fail(format!("answering an assignment: {error}"));
            return;
        }
        let mut table = self.lanes();
        lanes.iter().for_each(|lane| table.grant(lane));
        drop(table);
        failpoint::reach(Point::Assigned);
        self.tell(Event::Assigned(lanes));
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>, lanes: Vec<LaneId>) {
        let mut reading = TopicPartitionList::new();
        let mut table = self.lanes();
        for lane in &lanes {
            if let Some(opening) = table.take_away(lane) {
                opening.inbox.close();
                reading.add_partition(&lane.topic, lane.partition);
            }
        }
        drop(table);
        failpoint::reach(Point::Revoking);
        // Also when nothing was being read: the group waits for this answer.
        if let Err(error) = consumer.incremental_unassign(&reading) {
            self.fail(format!("answering a revocation: {error}"));
        }
        self.tell(Event::Revoked(lanes));
    }

    /// The group works eagerly, which takes all lanes away at each rebalance. Answered, so that the client
    /// can still be closed, and reported.
    fn refuse_eager(&self, consumer: &BaseConsumer<Self>, lanes: Vec<LaneId>, assigning: bool) {
        let mut table = self.lanes();
        lanes.iter().filter_map(|lane| table.take_away(lane)).for_each(|opening| opening.inbox.close());
        drop(table);
        if assigning {
            self.fail("the group rebalances eagerly: another member does not know cooperative-sticky".to_owned());
        }
        if let Err(error) = consumer.unassign() {
            self.fail(format!("answering an eager rebalance: {error}"));
        }
        if !assigning {
            self.tell(Event::Revoked(lanes));
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.served.store(true, Ordering::Relaxed);
        log_line(level, facility, line);
    }

    fn stats_raw(&self, text: &[u8]) {
        self.served.store(true, Ordering::Relaxed);
        match serde_json::from_slice(text) {
            Ok(statistics) => {
                *self.statistics.lock().unwrap_or_else(PoisonError::into_inner) = Some(statistics);
            }
            Err(error) => {
                tracing::warn!(%error, "the client's statistics could not be read: the stall watchdog is blind")
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.served.store(true, Ordering::Relaxed);
        // An outage brings thousands of these; one in a power of two tells enough.
        let count = self.errors.fetch_add(1, Ordering::Relaxed) + 1;
        if count.is_power_of_two() {
            tracing::warn!(%error, reason, errors.count = count, "the consumer reports an error");
        }
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, step: RDKafkaRespErr, list: &mut TopicPartitionList) {
        self.served.store(true, Ordering::Relaxed);
        let now = Instant::now();
        self.lanes().openings().for_each(|(_, _, opening)| opening.watch.unsettled(now));
        let lanes = lanes_of(list);
        let assigning = step == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        tracing::info!(assigning, lanes = lanes.len(), lost = consumer.assignment_lost(), "the group rebalances");
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative if assigning => self.assign(consumer, lanes),
            RebalanceProtocol::Cooperative => self.revoke(consumer, lanes),
            RebalanceProtocol::Eager | RebalanceProtocol::None => self.refuse_eager(consumer, lanes, assigning),
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        self.served.store(true, Ordering::Relaxed);
        self.committed.store(true, Ordering::Relaxed);
        if let Err(error) = result {
            // Offsets in Kafka are for lag tools; the group refuses them in every rebalance.
            tracing::debug!(%error, "offsets were not committed to Kafka");
        }
    }
}

/// One lane as a list.
pub(super) fn list_of(topic: &str, partition: i32) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition(topic, partition);
    list
}

/// One lane and where to start, as a list.
pub(super) fn list_at(topic: &str, partition: i32, offset: i64) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition_offset(topic, partition, Offset::Offset(offset))?;
    Ok(list)
}

fn lanes_of(list: &TopicPartitionList) -> Vec<LaneId> {
    // A list of none has no elements to point at, and the client panics when asked for them.
    if list.count() == 0 {
        return Vec::new();
    }
    let lane = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| LaneId {
        topic: element.topic().to_owned(),
        partition: element.partition(),
    };
    list.elements().iter().map(lane).collect()
}
