//! Reads a stretch of a partition once, for those who look and do not work: no group, no commit.
//!
//! Records come in pages, bounded in count and bytes, and at most one page waits: a slow reader stops the client.
//! The stretch ends before an offset that the caller has chosen, or at the partition's end if that comes first.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{
    Message as _, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    types::RDKafkaErrorCode,
};
use tokio::sync::mpsc;

use super::{Error, Settings, copy::record_of, rebalance::list_at, topic::Quiet};
use crate::core::record::{LaneId, Record};

/// Records of one page at most.
const PAGE_RECORDS_MAX: usize = 512;
/// Bytes of one page, overshot by one record.
const PAGE_BYTES_MAX: usize = 4 << 20;
/// One wait for the client; between two of them it is seen that nobody listens any more.
const POLL: Duration = Duration::from_millis(100);

/// Reads partitions, one stretch at a time.
#[derive(Clone)]
pub struct Log {
    client: Arc<Mutex<BaseConsumer<Quiet>>>,
    patience: Duration,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("patience", &self.patience).finish_non_exhaustive()
    }
}

/// The records of a stretch, in their order.
#[derive(Debug)]
pub struct Pages(mpsc::Receiver<Result<Vec<Record>, Error>>);

impl Pages {
    /// The next records, at least one; nothing at the end.
    ///
    /// # Errors
    /// If the broker does not answer, or does not keep the first offset; nothing comes after it.
    pub async fn next(&mut self) -> Result<Option<Vec<Record>>, Error> {
        self.0.recv().await.transpose()
    }
}

impl Log {
    /// Makes the client. `patience`: how long the broker may give no word while there are records.
    ///
    /// # Errors
    /// If the settings are not usable; not if no broker answers.
    pub fn new(settings: &Settings, patience: Duration) -> Result<Self, Error> {
        settings.check()?;
        let client = settings.log().create_with_context(Quiet).map_err(Error::client("making a client to read"))?;
        Ok(Self { client: Arc::new(Mutex::new(client)), patience })
    }

    /// Reads from offset `from` up to before `until`. The next stretch waits for this one, or for its end.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub fn read(&self, lane: &LaneId, from: i64, until: i64) -> Result<Pages, Error> {
        let (sender, pages) = mpsc::channel(1);
        let (client, lane, patience) = (self.client.clone(), lane.clone(), self.patience);
        let thread = std::thread::Builder::new().name("log".to_owned()).spawn(move || {
            // Each stretch begins with an assignment, so nothing that a panic has left matters.
            let client = client.lock().unwrap_or_else(PoisonError::into_inner);
            let stretch = Stretch { client: &client, sender: &sender, lane: &lane, until, patience };
            if let Err(error) = stretch.run(from) {
                let doing = format!("reading {lane} from offset {from}");
                // Nobody listens any more: as well.
                let _gone = sender.blocking_send(Err(Error::client(doing)(error)));
            }
            // What is left of it must not come with the next stretch; a client that refuses says so there.
            let _refused = client.assign(&TopicPartitionList::new());
        });
        thread.map_err(|source| Error::Thread { name: "log", source })?;
        Ok(Pages(pages))
    }
}

/// One stretch, on its thread.
struct Stretch<'a> {
    client: &'a BaseConsumer<Quiet>,
    sender: &'a mpsc::Sender<Result<Vec<Record>, Error>>,
    lane: &'a LaneId,
    until: i64,
    patience: Duration,
}

impl Stretch<'_> {
    fn run(&self, from: i64) -> Result<(), KafkaError> {
        self.client.assign(&list_at(&self.lane.topic, self.lane.partition, from)?)?;
        let (mut next, mut page, mut bytes, mut heard) = (from, Vec::new(), 0, Instant::now());
        while next < self.until && !self.sender.is_closed() {
            match self.client.poll(POLL) {
                Some(Ok(message)) => {
                    let offset = message.offset();
                    heard = Instant::now();
                    let is_ours = message.topic() == self.lane.topic && message.partition() == self.lane.partition;
                    // A leftover of the stretch before, or a repeat.
                    if !is_ours || offset < next {
                        continue;
                    }
                    next = offset + 1;
                    if offset < self.until {
                        let record = record_of(&message);
                        bytes += record.bytes();
                        page.push(record);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => break,
                Some(Err(error)) if is_final(&error) => return Err(error),
                // Weather, or nothing: the client tries again by itself.
                Some(Err(_)) | None if heard.elapsed() > self.patience => {
                    return Err(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut));
                }
                Some(Err(_)) | None => {}
            }
            if page.len() >= PAGE_RECORDS_MAX || bytes >= PAGE_BYTES_MAX {
                bytes = 0;
                self.hand_over(std::mem::take(&mut page));
                heard = Instant::now();
            }
        }
        self.hand_over(page);
        Ok(())
    }

    fn hand_over(&self, page: Vec<Record>) {
        if !page.is_empty() {
            // Nobody listens any more: the loop sees it.
            let _gone = self.sender.blocking_send(Ok(page));
        }
    }
}

/// Whether an error ends the reading: what comes after it would leave a hole.
fn is_final(error: &KafkaError) -> bool {
    let code = error.rdkafka_error_code();
    matches!(error, KafkaError::MessageConsumptionFatal(_))
        || matches!(
            code,
            Some(
                RDKafkaErrorCode::AutoOffsetReset
                    | RDKafkaErrorCode::BadMessage
                    | RDKafkaErrorCode::OffsetOutOfRange
                    | RDKafkaErrorCode::UnknownPartition
                    | RDKafkaErrorCode::UnknownTopic
                    | RDKafkaErrorCode::UnknownTopicOrPartition
                    | RDKafkaErrorCode::TopicAuthorizationFailed
            )
        )
}
