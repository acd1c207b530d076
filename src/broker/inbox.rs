//! The bounded queue between whoever reads and the writer of one lane, for one opening of that lane.
//!
//! Each opening has an inbox of its own, so a record of an earlier one cannot leak into the next: the inbox
//! is the generation. Closing throws away what is in it: whoever reads on starts at the store's offset.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Notify;

use crate::core::{header::HEADER_BYTES, record::Record};

/// A lane's records on their way from the reader to its writer.
pub struct Inbox {
    records_max: usize,
    bytes_max: usize,
    queue: Mutex<Queue>,
    waker: Arc<Notify>,
    /// Set while nothing is delivered because this is full; then taking rings the reader.
    held: AtomicBool,
    bell: OnceLock<Ring>,
}

/// Wakes whoever fills an inbox.
pub(crate) type Ring = Arc<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct Queue {
    records: VecDeque<Record>,
    bytes: usize,
    closed: bool,
    /// No record lies between what was pushed and this offset.
    tail: i64,
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queue = self.lock();
        f.debug_struct("Inbox")
            .field("records", &queue.records.len())
            .field("bytes", &queue.bytes)
            .field("closed", &queue.closed)
            .finish_non_exhaustive()
    }
}

impl Inbox {
    /// An empty inbox. `waker` is notified whenever a record comes and when it closes.
    #[must_use]
    pub fn new(records_max: usize, bytes_max: usize, waker: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            records_max,
            bytes_max,
            queue: Mutex::default(),
            waker,
            held: AtomicBool::new(false),
            bell: OnceLock::new(),
        })
    }

    /// Appends a record, also to a full inbox: it must not be lost. The caller stops when [`Inbox::is_full`],
    /// so the bytes overflow by one record.
    pub fn push(&self, record: Record) {
        let mut queue = self.lock();
        if queue.closed {
            return;
        }
        queue.bytes += record_bytes(&record);
        queue.records.push_back(record);
        drop(queue);
        self.waker.notify_one();
    }

    /// Says that no record lies between what was pushed and `offset`: what trails there are control records or aborted
    /// transactions.
    pub fn set_tail(&self, offset: i64) {
        let mut queue = self.lock();
        if queue.closed || queue.tail >= offset {
            return;
        }
        queue.tail = offset;
        drop(queue);
        self.waker.notify_one();
    }

    /// Whether every record below `offset` was pushed and is taken.
    #[must_use]
    pub fn is_taken_up_to(&self, offset: i64) -> bool {
        let queue = self.lock();
        queue.records.is_empty() && queue.tail >= offset
    }

    /// Takes records in order, up to a count and a size, but at least one if there is any: a record larger
    /// than `bytes_max` must not stand for ever.
    #[must_use]
    pub fn take(&self, records_max: usize, bytes_max: usize) -> Vec<Record> {
        let mut queue = self.lock();
        let mut taken = Vec::new();
        let mut bytes = 0;
        while taken.len() < records_max.max(1) {
            let Some(record) = queue.records.pop_front() else { break };
            let size = record_bytes(&record);
            if !taken.is_empty() && bytes + size > bytes_max {
                queue.records.push_front(record);
                break;
            }
            bytes += size;
            queue.bytes = queue.bytes.saturating_sub(size);
            taken.push(record);
        }
        let drained = self.is_half_empty(&queue);
        drop(queue);
        if drained
            && self.held.load(Ordering::SeqCst)
            && let Some(bell) = self.bell.get()
        {
            bell();
        }
        taken
    }

    /// How many records are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().records.len()
    }

    /// Whether no record is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the records in it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Whether nothing will ever come again.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Ends it: what is in it is thrown away, what comes is dropped, and the writer is woken to see that.
    pub fn close(&self) {
        let mut queue = self.lock();
        *queue = Queue { closed: true, ..Queue::default() };
        drop(queue);
        self.waker.notify_one();
    }

    /// Whether it should get nothing more for now.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let queue = self.lock();
        queue.records.len() >= self.records_max || queue.bytes >= self.bytes_max
    }

    /// Whether a full one should be filled again. At half, so that the reader is rung once for many records.
    pub(crate) fn is_drained(&self) -> bool {
        self.is_half_empty(&self.lock())
    }

    /// Tells whether delivery waits for room, so that taking rings the reader.
    pub(crate) fn mark_held(&self, held: bool) {
        self.held.store(held, Ordering::SeqCst);
    }

    /// Ties it to the reader that fills it.
    pub(crate) fn attach(&self, bell: Ring) {
        // An inbox serves one opening; if it was attached before, it was to the same reader.
        let _already_attached = self.bell.set(bell);
    }

    fn is_half_empty(&self, queue: &Queue) -> bool {
        queue.records.len() <= self.records_max / 2 && queue.bytes <= self.bytes_max / 2
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while holding the lock, and the queue is whole at every step.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Memory of a record, roughly; never zero, so that empty records are bounded too.
fn record_bytes(record: &Record) -> usize {
    record.bytes() + HEADER_BYTES * record.headers.len() + size_of::<Record>()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Notify;

    use super::{Inbox, Record};

    fn record(offset: i64, bytes: usize) -> Record {
        Record { offset, timestamp_ms: 0, key: None, value: Some(vec![0; bytes].into()), headers: Default::default() }
    }

    fn offsets(records: &[Record]) -> Vec<i64> {
        records.iter().map(|record| record.offset).collect()
    }

    #[test]
    fn records_are_taken_in_order_within_the_bounds() {
        let inbox = Inbox::new(10, 10_000, Arc::new(Notify::new()));
        for offset in 0..4 {
            inbox.push(record(offset, 100));
        }
        assert_eq!(offsets(&inbox.take(2, usize::MAX)), [0, 1]);
        assert_eq!(offsets(&inbox.take(9, 1)), [2]);
        assert_eq!(offsets(&inbox.take(9, usize::MAX)), [3]);
        assert_eq!((inbox.len(), inbox.bytes()), (0, 0));
    }

    #[test]
    fn it_is_taken_up_to_a_tail_once_what_came_before_it_is_taken() {
        let inbox = Inbox::new(10, 10_000, Arc::new(Notify::new()));
        inbox.push(record(3, 1));
        inbox.set_tail(6);
        assert!(!inbox.is_taken_up_to(6), "a record is still in it");
        let _taken = inbox.take(9, usize::MAX);
        assert!(inbox.is_taken_up_to(6) && !inbox.is_taken_up_to(7));
        inbox.set_tail(4);
        assert!(inbox.is_taken_up_to(6), "what was told before holds");
    }

    #[test]
    fn it_is_full_by_bytes_or_by_count_and_drained_at_half() {
        let inbox = Inbox::new(4, 1 << 20, Arc::new(Notify::new()));
        (0..4).for_each(|offset| inbox.push(record(offset, 1)));
        assert!(inbox.is_full() && !inbox.is_drained());
        let _taken = inbox.take(1, usize::MAX);
        assert!(!inbox.is_full() && !inbox.is_drained());
        let _taken = inbox.take(1, usize::MAX);
        assert!(inbox.is_drained());
        inbox.push(record(9, 1 << 20));
        assert!(inbox.is_full());
    }

    #[tokio::test]
    async fn closing_empties_it_wakes_the_writer_and_refuses_what_comes_later() {
        let waker = Arc::new(Notify::new());
        let inbox = Inbox::new(4, 4096, waker.clone());
        inbox.push(record(0, 1));
        waker.notified().await;
        inbox.close();
        waker.notified().await;
        inbox.push(record(1, 1));
        assert!(inbox.is_closed() && inbox.is_empty());
    }
}
