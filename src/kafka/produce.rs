//! Sending: one idempotent client, an explicit partition for each message, one report for each message.
//!
//! Nothing after a failed message of a partition may land before it: a failure for good stops the client,
//! whose owner purges it, collects every report, and goes on with a new one from the first message that was
//! not acknowledged. The client's own flush is never used: it sleeps in slices of a tenth of a second.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    error::KafkaError,
    message::{DeliveryResult, Header, Message as _, OwnedHeaders},
    producer::{BaseRecord, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer},
    types::RDKafkaErrorCode,
};
use tokio::sync::mpsc::UnboundedSender;

use super::{Error, Settings, log_line};
use crate::{
    broker::{self, Failure, Purged, Report, SendError},
    core::{message::Message, record::LaneId},
    failpoint::{self, Point},
};

// Tags travel through the client as a pointer's bits.
const _: () = assert!(usize::BITS >= u64::BITS, "a tag must fit a pointer");

/// How a producer stands with a partition.
///
/// The broker knows no sequence of a producer that is new to a partition and takes any number. Were the first
/// batch refused, the next one, under way already, would land before it. So the first message goes alone:
/// once it is acknowledged the broker refuses whatever leaves a gap.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The first message is under way.
    Opening,
    /// A message was acknowledged.
    Open,
}

struct Context {
    reports: UnboundedSender<Report>,
    partitions: Mutex<BTreeMap<LaneId, Standing>>,
    /// Partitions that are being opened: only then need a report be looked at for its partition.
    opening: AtomicU64,
    fatal: AtomicBool,
    /// Messages taken and not reported. The client's own count falls only some time after the reports.
    unreported: AtomicU64,
}

/// Sends messages. End it with `purge`: dropping it does the same on the spot, for up to half a second.
pub struct Producer {
    client: ThreadedProducer<Context>,
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("in_flight", &self.in_flight()).finish()
    }
}

impl Producer {
    /// Makes a producer; reports go to `reports`, from a thread of its own.
    ///
    /// # Errors
    /// If the settings are not usable or the client cannot be made; not if no broker answers.
    pub fn start(settings: &Settings, reports: UnboundedSender<Report>) -> Result<Self, Error> {
        settings.check()?;
        let context = Context {
            reports,
            partitions: Mutex::default(),
            opening: AtomicU64::new(0),
            fatal: AtomicBool::new(false),
            unreported: AtomicU64::new(0),
        };
        let client = settings.producer().create_with_context(context).map_err(Error::client("making a producer"))?;
        Ok(Self { client })
    }

    /// Messages that wait for their report.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.client.client().context().unreported.load(Ordering::Acquire)
    }

    fn fatal_reason(&self) -> String {
        self.client.client().fatal_error().map_or_else(|| "a fatal error".to_owned(), |(_, reason)| reason)
    }
}

#[async_trait]
impl broker::Producer for Producer {
    fn send(&self, message: &Message, tag: u64) -> Result<(), SendError> {
        let context = self.client.client().context();
        if context.fatal.load(Ordering::Acquire) {
            return Err(SendError::Fatal(self.fatal_reason()));
        }
        let Ok(tag) = usize::try_from(tag) else {
            return Err(SendError::Refused(format!("its tag {tag} does not fit a pointer")));
        };
        let is_first = context.enter(&message.to)?;
        let headers = message
            .headers
            .iter()
            .fold(OwnedHeaders::new_with_capacity(message.headers.len()), |headers, (key, value)| {
                headers.insert(Header { key, value })
            });
        let record = BaseRecord {
            topic: &message.to.topic,
            partition: Some(message.to.partition),
            payload: message.value.as_deref(),
            key: message.key.as_deref(),
            timestamp: message.timestamp_ms,
            headers: Some(headers),
            delivery_opaque: tag,
        };
        // Counted before it is sent: its report may come before the call returns.
        context.unreported.fetch_add(1, Ordering::AcqRel);
        failpoint::reach(Point::Producing);
        let sent = self.client.send(record).map_err(|(error, _)| {
            context.unreported.fetch_sub(1, Ordering::AcqRel);
            if is_first {
                context.leave(&message.to);
            }
            match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::QueueFull) => SendError::Full,
                Some(RDKafkaErrorCode::Fatal) => SendError::Fatal(self.fatal_reason()),
                _ => SendError::Refused(error.to_string()),
            }
        });
        failpoint::reach(Point::Produced);
        sent
    }

    async fn purge(self: Box<Self>, deadline: Duration) -> Purged {
        let client = self.client;
        // Polls, and joins a thread when dropped, so it has a thread of its own; dropping this future does not end it.
        let work = tokio::task::spawn_blocking(move || {
            let unreported = || client.client().context().unreported.load(Ordering::Acquire);
            client.purge(PurgeConfig::default().queue().inflight());
            let end = Instant::now() + deadline;
            while unreported() > 0 && Instant::now() < end {
                client.poll(Duration::from_millis(1));
            }
            match unreported() {
                0 => Purged::Drained,
                left => Purged::Abandoned(left),
            }
        });
        work.await.unwrap_or(Purged::Abandoned(0))
    }
}

impl Context {
    /// Whether this is the producer's first message for the partition; an error while that one is under way.
    fn enter(&self, to: &LaneId) -> Result<bool, SendError> {
        let mut partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        match partitions.get(to) {
            Some(Standing::Open) => Ok(false),
            Some(Standing::Opening) => Err(SendError::Opening),
            None => {
                partitions.insert(to.clone(), Standing::Opening);
                self.opening.fetch_add(1, Ordering::AcqRel);
                Ok(true)
            }
        }
    }

    /// The first message was not taken: the next one is the first.
    fn leave(&self, to: &LaneId) {
        let mut partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        if partitions.remove(to) == Some(Standing::Opening) {
            self.opening.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// A message of the partition was acknowledged.
    fn opened(&self, to: &LaneId) {
        let mut partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        if partitions.insert(to.clone(), Standing::Open) == Some(Standing::Opening) {
            self.opening.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            self.fatal.store(true, Ordering::Release);
            tracing::error!(reason, "the producer has stopped");
        } else {
            // Lost connections; the client tells each in its log too, and goes on by itself.
            tracing::debug!(%error, reason, "the producer reports an error");
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, tag: usize) {
        let failure = |error: &KafkaError| {
            if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
                self.fatal.store(true, Ordering::Release);
            }
            Failure { fatal: self.fatal.load(Ordering::Acquire), error: error.to_string() }
        };
        if let Ok(message) = result
            && self.opening.load(Ordering::Acquire) > 0
        {
            self.opened(&LaneId { topic: message.topic().to_owned(), partition: message.partition() });
        }
        let result = result.as_ref().map(|_| ()).map_err(|(error, _)| failure(error));
        // Without a receiver the owner has gone; the messages are in the outbox still.
        let _owner_gone = self.reports.send(Report { tag: tag as u64, result });
        self.unreported.fetch_sub(1, Ordering::AcqRel);
    }
}
