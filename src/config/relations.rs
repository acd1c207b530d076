//! Values that are sound alone and not together, each rule with the sentence why.

use std::time::Duration;

use super::{Backend, Config, Gate, Origin, Problem, reader::Reader};

/// A rule between keys.
struct Relation {
    holds: bool,
    keys: &'static [&'static str],
    why: &'static str,
}

/// Every rule that is broken among keys that were read without a problem of their own.
pub(super) fn check(config: &Config, reader: &Reader) -> Vec<Problem> {
    let all = times(config).into_iter().chain(gate(config)).chain(retention(config)).chain(sizes(config));
    let broken = all.filter(|relation| !relation.holds);
    let sound = broken.filter(|relation| relation.keys.iter().all(|key| reader.is_sound(key)));
    let origin = |keys: &[&str]| keys.iter().map(|key| reader.origin(key)).max().unwrap_or(Origin::Default);
    let value = |key: &str| {
        let found = reader.settings.iter().find(|setting| setting.key == key);
        found.map(|setting| setting.value.clone()).unwrap_or_default()
    };
    sound
        .map(|relation| {
            let values: Vec<_> = relation.keys.iter().map(|key| format!("{key} = {}", value(key))).collect();
            Problem {
                key: relation.keys.join(", "),
                origin: origin(relation.keys),
                says: format!("{} ({})", relation.why, values.join(", ")),
            }
        })
        .collect()
}

fn times(config: &Config) -> Vec<Relation> {
    let Config { kafka, database, saga, relay, retry, lanes, shutdown, .. } = config;
    let all = |pause: Duration, attempts: usize| pause.saturating_mul(u32::try_from(attempts).unwrap_or(u32::MAX));
    vec![
        Relation {
            holds: all(saga.capture_retry, saga.capture_attempts) < saga.charge_deadline,
            keys: &["saga.capture_retry", "saga.capture_attempts", "saga.charge_deadline"],
            why: "all requests of a capture must fit before the deadline of the charge, or the last are never made",
        },
        Relation {
            holds: all(saga.refund_retry, saga.refund_attempts) < saga.undo_deadline,
            keys: &["saga.refund_retry", "saga.refund_attempts", "saga.undo_deadline"],
            why: "all requests of a refund must fit before the deadline of undoing, or a person is called too early",
        },
        Relation {
            holds: database.idle_in_transaction_timeout < kafka.session_timeout,
            keys: &["database.idle_in_transaction_timeout", "kafka.session_timeout"],
            why: "the server must end the transaction of a frozen worker before the group gives its lanes to another, \
                  which would wait for the lock",
        },
        Relation {
            holds: database.lock_timeout < database.statement_timeout,
            keys: &["database.lock_timeout", "database.statement_timeout"],
            why: "waiting for a lock must end before the statement does, or the two cannot be told apart",
        },
        Relation {
            holds: kafka.session_timeout < kafka.stall_deadline,
            keys: &["kafka.session_timeout", "kafka.stall_deadline"],
            why: "a rebalance may take as long as the session, and must not be taken for a stall",
        },
        Relation {
            holds: database.lock_timeout < shutdown.deadline,
            keys: &["database.lock_timeout", "shutdown.deadline"],
            why: "a transaction that waits for a lock must be able to end before the process does",
        },
        Relation {
            holds: relay.retry_backoff_min <= relay.retry_backoff_max,
            keys: &["relay.retry_backoff_min", "relay.retry_backoff_max"],
            why: "the shortest pause must not be longer than the longest",
        },
        Relation {
            holds: retry.backoff_min <= retry.backoff_max,
            keys: &["retry.backoff_min", "retry.backoff_max"],
            why: "the shortest pause must not be longer than the longest",
        },
        Relation {
            holds: lanes.claim_pause_min <= lanes.claim_pause_max,
            keys: &["lanes.claim_pause_min", "lanes.claim_pause_max"],
            why: "the shortest pause must not be longer than the longest",
        },
    ]
}

fn gate(config: &Config) -> Vec<Relation> {
    let Config { relay, database, .. } = config;
    vec![
        Relation {
            holds: relay.gate == Gate::Off || database.backend == Backend::Postgres,
            keys: &["relay.gate", "database.url"],
            why: "a file has no standby, and the relay would wait for ever",
        },
        Relation {
            holds: relay.gate == Gate::Standby || relay.gate_standby.is_none(),
            keys: &["relay.gate", "relay.gate_standby"],
            why: "a standby is named and nothing waits for it",
        },
    ]
}

fn retention(config: &Config) -> Vec<Relation> {
    let Config { database, dedupe, saga, retention, .. } = config;
    let deadlines = [saga.reserve_deadline, saga.charge_deadline, saga.confirm_deadline, saga.undo_deadline];
    vec![
        Relation {
            holds: deadlines.iter().all(|deadline| *deadline <= retention.saga),
            keys: &[
                "retention.saga",
                "saga.reserve_deadline",
                "saga.charge_deadline",
                "saga.confirm_deadline",
                "saga.undo_deadline",
            ],
            why: "a saga that is over must be shown for as long as an answer to it may come late",
        },
        Relation {
            holds: retention.interval <= dedupe.window
                && retention.interval <= retention.journal
                && retention.interval <= retention.command_log,
            keys: &["retention.interval", "dedupe.window", "retention.journal", "retention.command_log"],
            why: "what may go must be looked for at least once in the time that it is kept",
        },
        Relation {
            holds: retention.lock_wait < database.statement_timeout,
            keys: &["retention.lock_wait", "database.statement_timeout"],
            why: "waiting for a lock must end before the statement does, or the two cannot be told apart",
        },
    ]
}

fn sizes(config: &Config) -> Vec<Relation> {
    let Config { kafka, batch, reorder, quarantine, relay, .. } = config;
    vec![
        Relation {
            holds: batch.records_max <= kafka.inbox_records,
            keys: &["batch.records_max", "kafka.inbox_records"],
            why: "a full batch must fit into the inbox it is taken from",
        },
        Relation {
            holds: batch.bytes_max <= kafka.inbox_bytes,
            keys: &["batch.bytes_max", "kafka.inbox_bytes"],
            why: "a full batch must fit into the inbox it is taken from",
        },
        Relation {
            holds: relay.message_bytes_max <= batch.bytes_max,
            keys: &["relay.message_bytes_max", "batch.bytes_max"],
            why: "the largest message that one lane sends must fit into a batch of the lane that receives it",
        },
        Relation {
            holds: relay.message_bytes_max <= relay.bytes_in_flight_max,
            keys: &["relay.message_bytes_max", "relay.bytes_in_flight_max"],
            why: "the largest message must be allowed in flight, or it is never sent",
        },
        Relation {
            holds: relay.message_bytes_max <= relay.queue_bytes_max,
            keys: &["relay.message_bytes_max", "relay.queue_bytes_max"],
            why: "the largest message must fit into the queue of its lane",
        },
        Relation {
            holds: reorder.held_per_entity_max <= reorder.held_per_lane_max,
            keys: &["reorder.held_per_entity_max", "reorder.held_per_lane_max"],
            why: "one entity cannot hold more than its whole lane",
        },
        Relation {
            holds: quarantine.drain_max <= batch.records_max,
            keys: &["quarantine.drain_max", "batch.records_max"],
            why: "what a batch releases from quarantine is part of the batch",
        },
    ]
}
