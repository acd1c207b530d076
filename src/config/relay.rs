//! The sections behind the commit: `relay`, `retry` and `retention`.

use std::time::Duration;

use super::{reader::Reader, value};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// What a message waits for before it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// For its commit.
    Off,
    /// For its commit on the standby that would take over, too.
    Standby,
}

/// The way of messages from the outbox to Kafka.
#[derive(Clone, Debug)]
pub struct Relay {
    /// Bytes per link that the broker has not acknowledged yet, at most. Default 1 MiB; so one partition without a
    /// leader does not take the memory of all.
    pub bytes_in_flight_max: usize,
    /// Bytes per lane handed over in memory after the commit, at most. Default 4 MiB; beyond it the table is read.
    pub queue_bytes_max: usize,
    /// Rows of the outbox read at once. Default 256.
    pub page_rows: usize,
    /// Bytes of one message at most. Default 1000000, below what a broker takes unless told otherwise; larger is refused
    /// when the message is made.
    pub message_bytes_max: usize,
    /// Pause after a failed send, the first time. Default 100 ms.
    pub retry_backoff_min: Duration,
    /// The same pause at its longest. Default 10 s.
    pub retry_backoff_max: Duration,
    /// How often each lane looks whether what the brokers acknowledged has come to the lanes that it was sent to. Default
    /// 10 s; what has not, though its receiver has read further, is sent again after two or three looks.
    pub resend_interval: Duration,
    /// What a message waits for: `off`, its commit; `standby`, its commit on the standby that would take over, so that a
    /// failover loses nothing that was sent. Default `off`; with `standby` and no standby connected nothing is sent.
    pub gate: Gate,
    /// The `application_name` of that standby in `pg_stat_replication`; the least of several counts. Default: none, those
    /// of `synchronous_standby_names`.
    pub gate_standby: Option<String>,
    /// Pause between two questions how far the standby is, while something waits. Default 10 ms.
    pub gate_poll: Duration,
}

impl Relay {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let mut area = reader.area("relay");
        let (shortest, longest) = (Duration::from_millis(1), 10 * MINUTE);
        Self {
            bytes_in_flight_max: area.bytes("bytes_in_flight_max", 1 << 20, 1 << 10..=1 << 30),
            queue_bytes_max: area.bytes("queue_bytes_max", 4 << 20, 1 << 10..=1 << 30),
            page_rows: area.count("page_rows", 256, 1..=100_000),
            message_bytes_max: area.bytes("message_bytes_max", 1_000_000, 1 << 10..=100 << 20),
            retry_backoff_min: area.duration("retry_backoff_min", Duration::from_millis(100), shortest..=longest),
            retry_backoff_max: area.duration("retry_backoff_max", 10 * SECOND, shortest..=longest),
            gate: area.choice("gate", &[("off", Gate::Off), ("standby", Gate::Standby)]),
            gate_standby: area.read(
                "gate_standby",
                None,
                |value| value::text(value).map(|name| Some(name).filter(|name| !name.is_empty())),
                |name| name.clone().unwrap_or_default(),
            ),
            gate_poll: area.duration("gate_poll", Duration::from_millis(10), shortest..=10 * SECOND),
            resend_interval: area.duration("resend_interval", 10 * SECOND, SECOND / 10..=DAY),
        }
    }
}

/// Trying a transaction again when the world is unwell.
#[derive(Clone, Debug)]
pub struct Retry {
    /// Pause after the first failure. Default 50 ms.
    pub backoff_min: Duration,
    /// The same pause at its longest. Default 5 s.
    pub backoff_max: Duration,
    /// Failures after which the batch is cut into smaller ones, to find the guilty event. Default 5.
    pub attempts_before_cut: usize,
}

impl Retry {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let mut area = reader.area("retry");
        let (shortest, longest) = (Duration::from_millis(1), 10 * MINUTE);
        Self {
            backoff_min: area.duration("backoff_min", Duration::from_millis(50), shortest..=longest),
            backoff_max: area.duration("backoff_max", 5 * SECOND, shortest..=longest),
            attempts_before_cut: area.count("attempts_before_cut", 5, 1..=1_000),
        }
    }
}

/// What is thrown away, and when.
#[derive(Clone, Debug)]
pub struct Retention {
    /// How long orders that operators gave are shown with what became of them. Default 90 d.
    pub command_log: Duration,
    /// How long a dead letter is kept once it was replayed or discarded. Default 30 d; until then it stays.
    pub dead_letter: Duration,
    /// How often what may go is looked for. Default 1 min.
    pub interval: Duration,
    /// How long the journal is kept, and with it what is known of numbers that were taken: a number that comes again
    /// after that is `too_old`, never taken for a duplicate. Default 90 d.
    pub journal: Duration,
    /// How long dropping an old range waits for those who still read it, before it is left to the next round. Default
    /// 1 s.
    pub lock_wait: Duration,
    /// How often messages that nobody needs any more are looked for in the outbox. Default 5 s.
    pub outbox_interval: Duration,
    /// How long a saga is kept once it has ended, with its steps. Default 30 d; a reply that comes later still is taken as
    /// one to a saga that is over.
    pub saga: Duration,
    /// Rows that one step deletes at most, where rows are deleted and no ranges dropped; and messages still needed that are
    /// copied at most out of a slot of the outbox, so that it can be emptied. Default 5000.
    pub step_rows: usize,
}

impl Retention {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let mut area = reader.area("retention");
        Self {
            command_log: area.duration("command_log", 90 * DAY, MINUTE..=3_660 * DAY),
            dead_letter: area.duration("dead_letter", 30 * DAY, MINUTE..=3_660 * DAY),
            interval: area.duration("interval", MINUTE, SECOND / 10..=DAY),
            journal: area.duration("journal", 90 * DAY, MINUTE..=3_660 * DAY),
            lock_wait: area.duration("lock_wait", SECOND, Duration::from_millis(10)..=MINUTE),
            outbox_interval: area.duration("outbox_interval", 5 * SECOND, SECOND / 10..=DAY),
            saga: area.duration("saga", 30 * DAY, MINUTE..=3_660 * DAY),
            step_rows: area.count("step_rows", 5_000, 1..=1_000_000),
        }
    }
}
