//! Every record, state and message accounted for: compares a store with its topics while the worker works.
//!
//! Nothing here writes or locks, so what is compared moves. Three rules keep a move from being a finding:
//!
//! - **What only grows is read in the order that makes a race harmless.** A lane's row is read before its topic's end,
//!   so what the lane has passed is in the topic; how far messages are acknowledged is read before the topics are, and
//!   how many were sent after; a mark of a link is read before the count that it must not pass; an entity's row before
//!   its journal.
//! - **What moves between tables is read while its lane stands still.** A held record becomes a journal row in one
//!   transaction of its lane, and each transaction raises the lane's batch. A suspicion counts only if it is read again
//!   with the same batch before and after. A lane that never stands still leaves it unsettled, which is told.
//! - **What holds at rest only is judged of lanes that have not moved from the first look to the last.**
//!
//! Memory is bounded by pages, by the number of links, by what the lanes may hold back, and by a bit a record of one
//! lane; never by the number of records or rows.

mod account;
mod bits;
mod entities;
mod finding;
mod gather;
mod letters;
mod links;
mod look;
mod messages;
mod outbox;
mod records;
#[allow(dead_code, reason = "a row's declaration brings more than a comparison needs")]
mod rows;
mod sagas;
mod standing;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;

pub use self::{
    finding::{Class, Finding, Report},
    look::{Look, Scan},
};
use self::{links::Links, look::lane_key};
use crate::{
    broker::Broker,
    core::{
        catalog::Catalog,
        event::{Body, Event},
        fence::LaneRow,
        limits::micros,
        record::LaneId,
    },
    kafka::{self, Log},
    store,
};

/// Why a run could not be finished.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The brokers, asked about topics.
    #[error("{0:#}")]
    Broker(anyhow::Error),
    /// The brokers, reading.
    #[error(transparent)]
    Kafka(#[from] kafka::Error),
    /// A topic that the worker needs is not there.
    #[error("topic {0} is missing; create it with `seriatim topics apply`")]
    Missing(String),
    /// A row does not fit the table's declaration.
    #[error("a row of {0} does not fit its declaration")]
    Unfit(&'static str),
}

/// What a run is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Findings of each class that are kept with their evidence; all are counted.
    pub findings_max: u64,
    /// How late a saga may be.
    pub slack: Duration,
    /// How long a broker may take to answer.
    pub timeout: Duration,
    /// How long the store keeps what only grows.
    pub kept: Kept,
}

/// How long a store keeps its rows: what is older may have been forgotten.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// Rows of the journal, and numbers that passed without one.
    pub journal: Duration,
    /// Ids of unsequenced events.
    pub ids: Duration,
    /// Dead letters that are settled.
    pub letters: Duration,
}

/// Before when rows may have been forgotten.
#[derive(Clone, Copy, Debug, Default)]
struct Horizon {
    /// Of the journal; milliseconds since the epoch.
    journal_ms: i64,
    /// Of anything that tells what became of a record; milliseconds since the epoch.
    records_ms: i64,
    /// Of dead letters; microseconds since the epoch.
    letters: i64,
}

impl Horizon {
    fn new(now: i64, kept: Kept) -> Self {
        let before = |kept: Duration| now.saturating_sub(micros(kept));
        Self {
            journal_ms: before(kept.journal) / 1000,
            records_ms: before(kept.journal.min(kept.ids).min(kept.letters)) / 1000,
            letters: before(kept.letters),
        }
    }
}

/// What a team holds to be true of its own rows, beyond what the runtime promises.
///
/// The worker works meanwhile: read rows of one entity with [`Look`] in an order that makes a race harmless, or read
/// them again before you report.
#[async_trait]
pub trait Law: Send {
    /// An event was applied, as its topic has it. In the order of offsets, one lane after the other.
    fn applied(&mut self, lane: &LaneId, event: &Event) {
        let _ = (lane, event);
    }

    /// All that a lane has applied was told, from its topic's beginning. What is found here counts only if the lane has
    /// not moved since before it was read.
    ///
    /// # Errors
    /// If the store fails.
    async fn lane(&mut self, look: &mut Look, lane: &LaneId) -> Result<Vec<Finding>, Error> {
        let _ = (look, lane);
        Ok(Vec::new())
    }

    /// Compares the rows.
    ///
    /// # Errors
    /// If the store fails.
    async fn rows(&mut self, look: &mut Look, report: &mut Report) -> Result<(), Error>;
}

/// A run.
pub struct Fsck {
    catalog: Catalog,
    broker: Arc<dyn Broker>,
    log: Log,
    look: Look,
    settings: Settings,
    laws: Vec<Box<dyn Law>>,
    tell: Box<dyn FnMut(&str) + Send>,
    report: Report,
    /// The rows of the lanes, as they were before anything else was read.
    lanes: BTreeMap<LaneId, LaneRow>,
    /// How many messages each link had sent by then.
    sent: BTreeMap<(LaneId, LaneId), i64>,
    /// What was read of each partition that messages are sent to.
    read: BTreeMap<LaneId, Links>,
    /// Where the reading of each partition has ended.
    ends: BTreeMap<LaneId, i64>,
    horizon: Horizon,
    /// Lanes whose first record the journal still reaches back to.
    young: BTreeSet<LaneId>,
}

impl std::fmt::Debug for Fsck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fsck").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Fsck {
    /// A run over a catalog's topics. `laws`: the team's own; `tell` hears now and then how far the run is.
    ///
    /// # Errors
    /// If the brokers or the store cannot be reached, or a topic is missing.
    pub async fn new(
        catalog: Catalog,
        (broker, log): (Arc<dyn Broker>, Log),
        store: &dyn store::Store,
        settings: Settings,
        laws: Vec<Box<dyn Law>>,
        tell: Box<dyn FnMut(&str) + Send>,
    ) -> Result<Self, Error> {
        let topics: Vec<String> = catalog.all_topics().collect();
        let mut counts = BTreeMap::new();
        for (topic, count) in broker.partitions(&topics, settings.timeout).await.map_err(Error::Broker)? {
            let count = count.ok_or_else(|| Error::Missing(topic.clone()))?;
            counts.insert(topic, count);
        }
        let look = Look::open(store).await?;
        Ok(Self {
            catalog: catalog.with_partitions(counts),
            broker,
            log,
            look,
            report: Report::new(settings.findings_max),
            settings,
            laws,
            tell,
            lanes: BTreeMap::new(),
            sent: BTreeMap::new(),
            read: BTreeMap::new(),
            ends: BTreeMap::new(),
            horizon: Horizon::default(),
            young: BTreeSet::new(),
        })
    }

    /// Looks at everything once.
    ///
    /// # Errors
    /// If the brokers or the store stop to answer.
    pub async fn run(mut self) -> Result<Report, Error> {
        self.horizon = Horizon::new(self.look.now().await?, self.settings.kept);
        self.read_lanes().await?;
        let home: BTreeSet<String> = self.catalog.home_topics().map(str::to_owned).collect();
        for lane in self.partitions_of(&home) {
            (self.tell)(&format!("records of {lane}"));
            self.standing(&lane).await?;
            self.records(&lane).await?;
        }
        let letters = self.catalog.home_topics().map(Catalog::dead_letter_topic).collect();
        let others: BTreeSet<String> = self.catalog.all_topics().filter(|topic| !home.contains(topic)).collect();
        for lane in self.partitions_of(&others.difference(&letters).cloned().collect()) {
            (self.tell)(&format!("messages in {lane}"));
            self.messages(&lane).await?;
        }
        for topic in &home {
            (self.tell)(&format!("dead letters of {topic}"));
            self.letters(topic).await?;
        }
        (self.tell)("the outbox");
        self.outbox().await?;
        (self.tell)("the journal");
        self.entities().await?;
        (self.tell)("sagas and debts");
        self.sagas().await?;
        self.strangers().await?;
        (self.tell)("the laws of the team");
        let mut laws = std::mem::take(&mut self.laws);
        for law in &mut laws {
            law.rows(&mut self.look, &mut self.report).await?;
        }
        Ok(self.report)
    }

    /// The lanes as they are before any topic is looked at.
    async fn read_lanes(&mut self) -> Result<(), Error> {
        let home = self.catalog.home_topics().map(str::to_owned).collect();
        for lane in self.partitions_of(&home) {
            // In this order: what the row says is acknowledged was sent, and counted, before.
            let row = self.look.lane(&lane).await?;
            let mut sent = Scan::new(&rows::LINK_OUT, lane_key(&lane));
            while let Some(row) = sent.next(&mut self.look).await? {
                let row = read::<rows::LinkOut>(rows::LinkOut::read(&row), &rows::LINK_OUT)?;
                self.sent.insert((lane.clone(), lane_of(&row.to_topic, row.to_partition)), row.sent);
            }
            self.lanes.extend(row.map(|row| (lane.clone(), row)));
        }
        Ok(())
    }

    /// The oldest offset of a partition and the one after its newest.
    async fn ends_of(&self, at: &LaneId) -> Result<(i64, i64), Error> {
        self.broker.watermarks(at, self.settings.timeout).await.map_err(Error::Broker)
    }

    fn partitions_of(&self, topics: &BTreeSet<String>) -> Vec<LaneId> {
        let of = |topic: &String| {
            let count = self.catalog.partitions_of(topic).unwrap_or(0);
            let topic = topic.clone();
            (0..count).map(move |partition| LaneId { topic: topic.clone(), partition })
        };
        topics.iter().flat_map(of).collect()
    }
}

/// A row that must fit its table.
fn read<T>(row: Option<T>, table: &crate::core::table::Table) -> Result<T, Error> {
    row.ok_or(Error::Unfit(table.name))
}

fn lane_of(topic: &str, partition: i64) -> LaneId {
    LaneId { topic: topic.to_owned(), partition: i32::try_from(partition).unwrap_or(-1) }
}

/// The event of a kind, if it is one and not a reply to a saga.
///
/// For a [`Law`]: the decoded event is what the kind's `parse` made of it.
#[must_use]
pub fn entity_event<E: 'static>(event: &Event) -> Option<&E> {
    match &event.body {
        Body::Entity(parsed) => parsed.downcast_ref::<E>(),
        Body::Reply(_) => None,
    }
}
