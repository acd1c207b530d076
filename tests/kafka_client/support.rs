//! A member of a group that reads like a writer does, and messages to read.
//!
//! Nothing sleeps here: every wait is for an event, a record or a report. The one limit only turns a hang
//! into a failure.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    future::Future,
    net::{TcpStream, ToSocketAddrs as _},
    sync::Arc,
    time::Duration,
};

use seriatim::{
    broker::{Consumer as _, Event, Inbox, Producer as _, Report, SendError},
    core::{
        fence::Position,
        message::Message,
        record::{LaneId, Record},
    },
    kafka::{Consumer, Producer, Settings},
};
use tokio::sync::{
    Notify,
    mpsc::{UnboundedReceiver, unbounded_channel},
};

/// Longer than anything here takes on a slow machine.
pub const HANG: Duration = Duration::from_secs(90);

/// The broker that the tests run against.
pub fn broker() -> String {
    let address = env::var("SERIATIM_TEST_KAFKA").unwrap_or_else(|_| "127.0.0.1:29092".to_owned());
    let reachable = address.to_socket_addrs().is_ok_and(|mut addresses| {
        addresses.any(|one| TcpStream::connect_timeout(&one, Duration::from_secs(5)).is_ok())
    });
    assert!(reachable, "no Kafka at {address}: run dev/services up");
    address
}

/// A name that no other test has.
pub fn unique(name: &str) -> String {
    format!("{name}-{}", uuid::Uuid::new_v4())
}

pub fn settings(brokers: &str, group: &str) -> Settings {
    Settings {
        brokers: brokers.to_owned(),
        group_id: group.to_owned(),
        statistics_interval: Duration::from_millis(200),
        // The shortest that brokers allow: heartbeats, and with them rebalances, come ten times as fast.
        session_timeout: Duration::from_secs(6),
        ..Settings::default()
    }
}

pub fn lane(topic: &str, partition: i32) -> LaneId {
    LaneId { topic: topic.to_owned(), partition }
}

pub fn message(to: &LaneId, value: impl Into<Vec<u8>>) -> Message {
    Message {
        position: Position::default(),
        to: to.clone(),
        link_sequence: None,
        timestamp_ms: None,
        key: None,
        value: Some(value.into().into()),
        headers: Default::default(),
    }
}

/// Waits, but not for ever.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(HANG, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Hands a message over, as soon as the producer takes it.
pub async fn send(producer: &Producer, message: &Message, tag: u64) {
    let taken = async {
        while let Err(error) = producer.send(message, tag) {
            assert!(matches!(error, SendError::Opening | SendError::Full), "{error}");
            tokio::task::yield_now().await;
        }
    };
    soon("the producer to take a message", taken).await;
}

/// Sends messages and waits until all are acknowledged.
pub async fn send_all(settings: &Settings, messages: &[Message]) {
    let (sender, mut reports) = unbounded_channel();
    let producer = Producer::start(settings, sender).unwrap();
    for (tag, message) in messages.iter().enumerate() {
        send(&producer, message, tag as u64).await;
    }
    for report in take_reports(&mut reports, messages.len()).await {
        assert_eq!(report.result, Ok(()), "message {}", report.tag);
    }
    Box::new(producer).purge(HANG).await;
}

/// Sends `count` messages to a lane, values counting from `first`, and waits until all are acknowledged.
pub async fn send_numbers(settings: &Settings, to: &LaneId, first: usize, count: usize) {
    let messages: Vec<Message> = (first..first + count).map(|number| message(to, number.to_string())).collect();
    send_all(settings, &messages).await;
}

pub async fn take_reports(reports: &mut UnboundedReceiver<Report>, count: usize) -> Vec<Report> {
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.push(soon("a delivery report", reports.recv()).await.expect("the producer lives"));
    }
    taken
}

/// What an open lane reads into.
#[derive(Clone)]
pub struct Reading {
    pub inbox: Arc<Inbox>,
    pub waker: Arc<Notify>,
}

impl Reading {
    pub fn new(records_max: usize) -> Self {
        let waker = Arc::new(Notify::new());
        Self { inbox: Inbox::new(records_max, 1 << 20, waker.clone()), waker }
    }

    /// Waits for exactly `count` records.
    pub async fn records(&self, count: usize) -> Vec<Record> {
        let mut records = Vec::new();
        while records.len() < count {
            let taken = self.inbox.take(count - records.len(), usize::MAX);
            assert!(!taken.is_empty() || !self.inbox.is_closed(), "closed after {} of {count} records", records.len());
            if taken.is_empty() {
                soon("a record", self.waker.notified()).await;
            }
            records.extend(taken);
        }
        records
    }

    /// Waits until it is known that no record below `offset` is still to come.
    pub async fn taken_up_to(&self, offset: i64) {
        while !self.inbox.is_taken_up_to(offset) {
            soon("the end of a partition", self.waker.notified()).await;
        }
        assert!(!self.inbox.is_taken_up_to(offset + 1), "more than the partition holds");
    }

    pub async fn closed(&self) {
        while !self.inbox.is_closed() {
            soon("an inbox to close", self.waker.notified()).await;
        }
    }
}

pub fn offsets(records: &[Record]) -> Vec<i64> {
    records.iter().map(|record| record.offset).collect()
}

/// A member of a group.
pub struct Member {
    pub consumer: Consumer,
    pub events: UnboundedReceiver<Event>,
    pub granted: BTreeSet<LaneId>,
    pub open: BTreeMap<LaneId, Reading>,
}

impl Member {
    pub fn join(settings: &Settings, topic: &str) -> Self {
        let (sender, events) = unbounded_channel();
        let consumer = Consumer::start(settings, &[topic.to_owned()], sender).unwrap();
        Self { consumer, events, granted: BTreeSet::new(), open: BTreeMap::new() }
    }

    /// The next event, after its lanes have been noted.
    pub async fn event(&mut self) -> Event {
        let event = soon("an event", self.events.recv()).await.expect("the consumer lives");
        match &event {
            Event::Assigned(lanes) => self.granted.extend(lanes.iter().cloned()),
            Event::Revoked(lanes) => {
                for lane in lanes {
                    self.granted.remove(lane);
                    self.open.remove(lane);
                }
            }
            Event::Fatal(why) => panic!("the consumer has failed: {why}"),
            Event::Lost { .. } | Event::Stalled(_) => {}
        }
        event
    }

    pub async fn until_granted(&mut self, count: usize) {
        while self.granted.len() != count {
            self.event().await;
        }
    }

    pub fn open(&mut self, lane: &LaneId, offset: i64) -> Reading {
        self.open_bounded(lane, offset, 1000)
    }

    pub fn open_bounded(&mut self, lane: &LaneId, offset: i64, records_max: usize) -> Reading {
        let reading = Reading::new(records_max);
        self.consumer.open(lane.clone(), offset, reading.inbox.clone());
        self.open.insert(lane.clone(), reading.clone());
        reading
    }
}
