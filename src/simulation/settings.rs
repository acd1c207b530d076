//! The configuration of simulated workers: everything in milliseconds, so that a world of seconds sees it all.

use std::{ffi::OsString, sync::LazyLock};

use super::{Scenario, plan::Plan};
use crate::config::{Config, Gate, Need, Sources};

/// Read once: it is the same for every world but for what a plan changes.
static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let settings = [
        ("KAFKA__COMMIT_INTERVAL", "500ms"),
        ("LANES__CLAIM_PAUSE_MAX", "200ms"),
        ("LANES__CLAIM_PAUSE_MIN", "10ms"),
        ("LANES__COMMAND_POLL", "1s"),
        ("LANES__IDLE_LOOK", "200ms"),
        ("QUARANTINE__PAUSE", "100ms"),
        ("RELAY__RESEND_INTERVAL", "300ms"),
        ("RELAY__RETRY_BACKOFF_MAX", "50ms"),
        ("RELAY__RETRY_BACKOFF_MIN", "10ms"),
        ("RETENTION__INTERVAL", "1s"),
        ("RETRY__BACKOFF_MAX", "50ms"),
        ("RETRY__BACKOFF_MIN", "10ms"),
    ];
    let settings = settings.map(|(key, value)| (OsString::from(format!("SERIATIM_{key}")), OsString::from(value)));
    Config::read(&Sources::default(), settings.into_iter(), Need::Nothing).expect("these settings are sound")
});

/// The configuration of a plan's workers.
pub(super) fn config(scenario: &dyn Scenario, plan: &Plan) -> Config {
    let mut config = CONFIG.clone();
    scenario.configure(&mut config);
    config.writers.count = plan.writers;
    config.batch.records_max = plan.records_max;
    config.batch.wait = plan.batch_wait;
    config.kafka.inbox_records = plan.inbox_records;
    config.reorder.held_per_entity_max = plan.held_per_entity_max;
    config.reorder.gap_deadline = plan.patience;
    config.reorder.waiting_deadline = plan.patience;
    config.relay.gate = if plan.gate { Gate::Standby } else { Gate::Off };
    config.relay.gate_standby = plan.gate.then(|| "standby".to_owned());
    config.relay.queue_bytes_max = plan.relay_queue_bytes;
    config.relay.page_rows = plan.records_max;
    config
}
