//! The narrow face of the brokers that a worker knows: a member of the group, a producer, and questions.
//!
//! The group and its committed offsets are hints here, never safety: the fence in the store judges. Kafka is the
//! real one; simulation has one in memory that fails on request.

pub mod inbox;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::mpsc::UnboundedSender;

pub use self::inbox::Inbox;
use crate::core::{message::Message, record::LaneId};

/// What a member of the group tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The group grants these lanes. Nothing is read until they are opened.
    Assigned(Vec<LaneId>),
    /// The group takes these lanes away; their inboxes are closed.
    Revoked(Vec<LaneId>),
    /// A lane's reading has ended and does not go on by itself. It stays granted; its inbox is closed.
    Lost {
        /// Which lane.
        lane: LaneId,
        /// Why.
        why: String,
    },
    /// A lane has records and delivers none, though it was assigned afresh.
    Stalled(LaneId),
    /// The client is past help: nothing is delivered any more, the process should end.
    Fatal(String),
}

/// How stopping ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The member has left the group and the client is gone.
    Closed,
    /// The client did not close in time. Its thread is left behind, the process can end.
    Abandoned,
}

/// Where a lane stands, for showing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Positions {
    /// The offset after the last record that was delivered.
    pub next: i64,
    /// The oldest offset of the partition; negative if not known yet.
    pub low: i64,
    /// The end that a reader of committed records can reach; negative if not known yet.
    pub end: i64,
}

/// What became of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The tag that it was sent with.
    pub tag: u64,
    /// Acknowledged by all in-sync replicas, or why not.
    pub result: Result<(), Failure>,
}

/// Why a message was not acknowledged. It may have been written all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// This producer is known to send nothing any more. It may come to be so right after a report that does
    /// not say it: after any failure, purge it and go on with a new one.
    pub fatal: bool,
    /// What the client said.
    pub error: String,
}

/// Why a message was not taken. No report follows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Too much waits for acknowledgement; try again after some reports.
    #[error("the producer's queue is full")]
    Full,
    /// This producer's first message for the partition is not acknowledged yet; try again after its report.
    #[error("the producer's first message for the partition is still under way")]
    Opening,
    /// This producer sends nothing any more; make a new one.
    #[error("the producer has stopped: {0}")]
    Fatal(String),
    /// This message cannot be sent by any producer of these settings: its size, its topic's name, its partition.
    #[error("the producer refuses the message: {0}")]
    Refused(String),
}

/// How purging ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purged {
    /// Every message has its report.
    Drained,
    /// So many reports had not come by the deadline; they are lost with the client.
    Abandoned(u64),
}

/// The brokers: makes members and producers, and answers questions.
#[async_trait]
pub trait Broker: fmt::Debug + Send + Sync {
    /// Joins the group for these topics.
    ///
    /// # Errors
    /// If the settings are not usable or the client cannot be made; not if no broker answers.
    fn join(&self, topics: &[String], events: UnboundedSender<Event>) -> anyhow::Result<Box<dyn Consumer>>;

    /// Makes a producer; every message that it takes is reported once to `reports`.
    ///
    /// # Errors
    /// If the settings are not usable or the client cannot be made; not if no broker answers.
    fn producer(&self, reports: UnboundedSender<Report>) -> anyhow::Result<Box<dyn Producer>>;

    /// How many partitions each topic has; none if it is not there.
    ///
    /// # Errors
    /// If the cluster does not answer within `timeout`.
    async fn partitions(&self, topics: &[String], timeout: Duration) -> anyhow::Result<BTreeMap<String, Option<i32>>>;

    /// The oldest offset of a partition and the one after its newest.
    ///
    /// # Errors
    /// If the partition is not there or its leader does not answer within `timeout`.
    async fn watermarks(&self, lane: &LaneId, timeout: Duration) -> anyhow::Result<(i64, i64)>;

    /// What the group has committed for these lanes: offset and metadata.
    ///
    /// # Errors
    /// If the group's coordinator does not answer within `timeout`.
    async fn committed(
        &self,
        lanes: &[LaneId],
        timeout: Duration,
    ) -> anyhow::Result<Vec<(LaneId, Option<(i64, String)>)>>;

    /// How long topics keep their records, as the cluster has it; none: for ever.
    ///
    /// # Errors
    /// If the cluster does not answer within `timeout`.
    async fn retention(
        &self,
        topics: &[String],
        timeout: Duration,
    ) -> anyhow::Result<BTreeMap<String, Option<Duration>>>;
}

/// A member of the consumer group. No call waits for anybody.
#[async_trait]
pub trait Consumer: fmt::Debug + Send + Sync {
    /// Begins to read a granted lane at an offset, into an inbox that has served no other opening. If the lane
    /// is not granted any more, or the member has ended, the inbox is closed instead.
    fn open(&self, lane: LaneId, offset: i64, inbox: Arc<Inbox>);

    /// Ends the reading of a lane; it stays granted and can be opened again.
    fn close(&self, lane: LaneId);

    /// Commits offsets, with metadata, some time soon or never: they are for lag tools.
    fn commit(&self, offsets: Vec<(LaneId, i64)>, metadata: String);

    /// Where the open lanes stand, as far as is known.
    fn positions(&self) -> BTreeMap<LaneId, Positions>;

    /// How long ago it last came round. More than a few seconds means that it is dead.
    fn last_poll(&self) -> Duration;

    /// Leaves the group and ends, waited for no longer than `deadline`.
    async fn stop(self: Box<Self>, deadline: Duration) -> Stopped;
}

/// Sends messages. Those for one partition are written in the order of the calls.
#[async_trait]
pub trait Producer: fmt::Debug + Send + Sync {
    /// Hands a message over. Never waits.
    ///
    /// # Errors
    /// If the message was not taken; then no report follows.
    fn send(&self, message: &Message, tag: u64) -> Result<(), SendError>;

    /// Gives up every message that is not acknowledged yet, and waits until all reports are out, within
    /// `deadline`. What was under way may have been written all the same.
    async fn purge(self: Box<Self>, deadline: Duration) -> Purged;
}
