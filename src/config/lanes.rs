//! The sections on the path of a record: `batch`, `writers`, `reorder`, `dedupe`, `quarantine`, `lanes`.

use std::{num::NonZero, thread, time::Duration};

use super::reader::Reader;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// How much one lane does in one transaction.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Records at most. Default 1000: beyond it a batch gets slower, not cheaper.
    pub records_max: usize,
    /// Bytes of records at most. Default 2 MiB.
    pub bytes_max: usize,
    /// How long to wait for more records once there is one, and after a batch of less than a tenth of what it may
    /// take. Default 2 ms; 0 takes what is there.
    pub wait: Duration,
}

impl Batch {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let mut area = reader.area("batch");
        Self {
            records_max: area.count("records_max", 1_000, 1..=100_000),
            bytes_max: area.bytes("bytes_max", 2 << 20, 64 << 10..=256 << 20),
            // Longer than a second is no batching any more, it is a delay.
            wait: area.duration("wait", Duration::from_millis(2), Duration::ZERO..=SECOND),
        }
    }
}

/// The tasks that serve the lanes.
#[derive(Clone, Debug)]
pub struct Writers {
    /// How many, each with connections of its own. Default: two a core, so that one decides while another commits.
    pub count: usize,
}

impl Writers {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        Self { count: reader.area("writers").count("count", (2 * cores).min(256), 1..=256) }
    }
}

/// What may wait for its predecessors, and for its saga.
#[derive(Clone, Debug)]
pub struct Reorder {
    /// Held records of one entity at most. Default 1000.
    pub held_per_entity_max: usize,
    /// Held records of one lane at most. Default 10000.
    pub held_per_lane_max: usize,
    /// Bytes of held records of one lane at most. Default 16 MiB.
    pub held_bytes_per_lane_max: usize,
    /// How far ahead of its turn a sequence may be. Default 10000; further ahead is taken for a mistake.
    pub ahead_max: usize,
    /// How long a gap may stay open before the kind's policy decides. Default 5 min.
    pub gap_deadline: Duration,
    /// How long a record may wait for its saga or entity to exist. Default 5 min; then it is a dead letter, `expired`.
    pub waiting_deadline: Duration,
    /// Waiting records of one lane at most. Default 10000.
    pub waiting_per_lane_max: usize,
}

impl Reorder {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let mut area = reader.area("reorder");
        Self {
            held_per_entity_max: area.count("held_per_entity_max", 1_000, 1..=1_000_000),
            held_per_lane_max: area.count("held_per_lane_max", 10_000, 1..=10_000_000),
            held_bytes_per_lane_max: area.bytes("held_bytes_per_lane_max", 16 << 20, 64 << 10..=4 << 30),
            ahead_max: area.count("ahead_max", 10_000, 1..=1_000_000_000),
            gap_deadline: area.duration("gap_deadline", 5 * MINUTE, Duration::from_millis(100)..=30 * DAY),
            waiting_deadline: area.duration("waiting_deadline", 5 * MINUTE, Duration::from_millis(100)..=30 * DAY),
            waiting_per_lane_max: area.count("waiting_per_lane_max", 10_000, 1..=10_000_000),
        }
    }
}

/// What is remembered to know a duplicate.
#[derive(Clone, Debug)]
pub struct Dedupe {
    /// How long the ids of unsequenced events are kept. At least the retention of the topics, or an old record would be
    /// applied twice. Default 8 d: Kafka keeps 7 d unless told otherwise.
    pub window: Duration,
    /// Digests of the last events kept per entity and source, and of the last messages per link, to tell a duplicate
    /// from a conflict at once. Default 32.
    pub digests_kept: usize,
}

impl Dedupe {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let mut area = reader.area("dedupe");
        Self {
            window: area.duration("window", 8 * DAY, MINUTE..=3_660 * DAY),
            digests_kept: area.count("digests_kept", 32, 0..=10_000),
        }
    }
}

/// When entities fail.
#[derive(Clone, Debug)]
pub struct Quarantine {
    /// Entities of one lane that may go into quarantine within a minute. Default 50; more is a bug, not poison: the lane
    /// pauses instead of parking thousands.
    pub failures_max: usize,
    /// How long it pauses then. Default 30 s.
    pub pause: Duration,
    /// Parked records that one batch releases at most. Default 100.
    pub drain_max: usize,
}

impl Quarantine {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let mut area = reader.area("quarantine");
        Self {
            failures_max: area.count("failures_max", 50, 1..=1_000_000),
            pause: area.duration("pause", 30 * SECOND, Duration::from_millis(100)..=HOUR),
            drain_max: area.count("drain_max", 100, 1..=100_000),
        }
    }
}

/// Claiming lanes and keeping them.
#[derive(Clone, Debug)]
pub struct Lanes {
    /// How often an idle lane compares its row with memory. Default 5 s: a database that went back in time is seen by
    /// then.
    pub idle_look: Duration,
    /// Pause before a lost lane is claimed again, the first time. Default 1 s.
    pub claim_pause_min: Duration,
    /// The same pause at its longest, after doubling. Default 1 min.
    pub claim_pause_max: Duration,
    /// How often operators' commands are looked for. Default 1 s.
    pub command_poll: Duration,
    /// Due timers that one batch takes at most. Default 1000.
    pub timers_per_batch_max: usize,
    /// Rows that one lane keeps in memory at most. Default 20000.
    pub cached_rows_max: usize,
}

impl Lanes {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let mut area = reader.area("lanes");
        let tenth = Duration::from_millis(100);
        Self {
            idle_look: area.duration("idle_look", 5 * SECOND, tenth..=MINUTE),
            claim_pause_min: area.duration("claim_pause_min", SECOND, Duration::from_millis(10)..=MINUTE),
            claim_pause_max: area.duration("claim_pause_max", MINUTE, tenth..=HOUR),
            command_poll: area.duration("command_poll", SECOND, tenth..=MINUTE),
            timers_per_batch_max: area.count("timers_per_batch_max", 1_000, 1..=100_000),
            cached_rows_max: area.count("cached_rows_max", 20_000, 0..=10_000_000),
        }
    }
}
