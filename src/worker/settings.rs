//! The bounds of the tasks, out of the configuration.

use std::time::Duration;

use crate::{
    config::{Config, Gate, GroupProtocol},
    core::limits::Limits,
    kafka,
    store::Standby,
};

/// What the tasks of a worker go by.
#[derive(Clone, Debug)]
pub struct Settings {
    pub(super) owner: String,
    pub(super) records_max: usize,
    pub(super) bytes_max: usize,
    pub(super) batch_wait: Duration,
    pub(super) writers: usize,
    pub(super) inbox_records: usize,
    pub(super) inbox_bytes: usize,
    pub(super) idle_look: Duration,
    pub(super) claim_pause_min: Duration,
    pub(super) claim_pause_max: Duration,
    pub(super) command_poll: Duration,
    pub(super) timers_per_batch_max: usize,
    pub(super) halt_pause: Duration,
    pub(super) retry_min: Duration,
    pub(super) retry_max: Duration,
    pub(super) attempts_before_cut: usize,
    pub(super) trim_interval: Duration,
    pub(super) forget_interval: Duration,
    pub(super) step_rows: i64,
    pub(super) forget_lock_wait: Duration,
    pub(super) link_bytes_max: usize,
    pub(super) queue_bytes_max: usize,
    pub(super) page_rows: usize,
    pub(super) relay_retry_min: Duration,
    pub(super) relay_retry_max: Duration,
    pub(super) resend_interval: Duration,
    pub(super) gate: Option<Standby>,
    pub(super) gate_poll: Duration,
    pub(super) commit_interval: Duration,
    pub(super) metadata_timeout: Duration,
    pub(super) shutdown_deadline: Duration,
}

impl Settings {
    /// Out of the configuration. `owner` names this process in the lanes' rows.
    #[must_use]
    pub fn of(config: &Config, owner: String) -> Self {
        Self {
            owner,
            records_max: config.batch.records_max,
            bytes_max: config.batch.bytes_max,
            batch_wait: config.batch.wait,
            writers: config.writers.count,
            inbox_records: config.kafka.inbox_records,
            inbox_bytes: config.kafka.inbox_bytes,
            idle_look: config.lanes.idle_look,
            claim_pause_min: config.lanes.claim_pause_min,
            claim_pause_max: config.lanes.claim_pause_max,
            command_poll: config.lanes.command_poll,
            timers_per_batch_max: config.lanes.timers_per_batch_max,
            halt_pause: config.quarantine.pause,
            retry_min: config.retry.backoff_min,
            retry_max: config.retry.backoff_max,
            attempts_before_cut: config.retry.attempts_before_cut.max(1),
            trim_interval: config.retention.outbox_interval,
            forget_interval: config.retention.interval,
            step_rows: i64::try_from(config.retention.step_rows).unwrap_or(i64::MAX),
            forget_lock_wait: config.retention.lock_wait,
            link_bytes_max: config.relay.bytes_in_flight_max,
            queue_bytes_max: config.relay.queue_bytes_max,
            page_rows: config.relay.page_rows,
            relay_retry_min: config.relay.retry_backoff_min,
            relay_retry_max: config.relay.retry_backoff_max,
            resend_interval: config.relay.resend_interval,
            gate: gate(config),
            gate_poll: config.relay.gate_poll,
            commit_interval: config.kafka.commit_interval,
            metadata_timeout: config.kafka.metadata_timeout,
            shutdown_deadline: config.shutdown.deadline,
        }
    }
}

/// Which standby the relay waits for, if it waits for one.
fn gate(config: &Config) -> Option<Standby> {
    match config.relay.gate {
        Gate::Off => None,
        Gate::Standby => Some(config.relay.gate_standby.clone().map_or(Standby::Synchronous, Standby::Named)),
    }
}

/// The bounds of the lanes, out of the configuration.
#[must_use]
pub fn limits(config: &Config) -> Limits {
    Limits {
        group: config.kafka.group_id.clone(),
        held_per_entity_max: config.reorder.held_per_entity_max,
        held_per_lane_max: config.reorder.held_per_lane_max,
        held_bytes_per_lane_max: config.reorder.held_bytes_per_lane_max,
        ahead_max: i64::try_from(config.reorder.ahead_max).unwrap_or(i64::MAX),
        gap_deadline: config.reorder.gap_deadline,
        waiting_deadline: config.reorder.waiting_deadline,
        waiting_per_lane_max: config.reorder.waiting_per_lane_max,
        dedupe_window: config.dedupe.window,
        journal_kept: config.retention.journal,
        command_log_kept: config.retention.command_log,
        saga_kept: config.retention.saga,
        letter_kept: config.retention.dead_letter,
        digests_kept: config.dedupe.digests_kept,
        failures_max: config.quarantine.failures_max,
        drain_max: config.quarantine.drain_max,
        message_bytes_max: config.relay.message_bytes_max,
        cached_rows_max: config.lanes.cached_rows_max,
    }
}

/// What the Kafka clients go by, out of the configuration.
#[must_use]
pub fn kafka_settings(config: &Config) -> kafka::Settings {
    let kafka = &config.kafka;
    let given = kafka.properties.iter().map(|(name, value)| (name.clone(), value.expose().to_owned()));
    let instance = kafka.instance_id.iter().map(|id| ("group.instance.id".to_owned(), id.clone()));
    kafka::Settings {
        brokers: kafka.brokers.join(","),
        group_id: kafka.group_id.clone(),
        properties: given.chain(instance).collect(),
        protocol: match kafka.protocol {
            GroupProtocol::Classic => kafka::Protocol::Classic,
            GroupProtocol::Consumer => kafka::Protocol::Consumer,
        },
        inbox_bytes_max: kafka.inbox_bytes,
        inbox_records_max: kafka.inbox_records,
        session_timeout: kafka.session_timeout,
        stall_deadline: kafka.stall_deadline,
        // The copy of a dead letter carries headers beside the largest value.
        message_bytes_max: config.relay.message_bytes_max + 16_384,
        ..kafka::Settings::default()
    }
}

/// Names this process in the lanes' rows.
#[must_use]
pub fn owner() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    format!("{}/{}", if host.is_empty() { "worker" } else { host }, std::process::id())
}
