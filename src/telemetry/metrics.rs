//! Every metric: its name with the unit in it, its sentence, and a typed method to move it. Names are spelt only here.
//!
//! Labels come from closed sets. A topic is one of the catalog's, a partition one of the topic's; every other label is a
//! `&'static str`, which the program's own text must contain: an entity's id cannot be one.

use std::{collections::BTreeMap, time::Duration};

use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
    core::Collector,
};

/// A metric's name and what it counts.
type Name = (&'static str, &'static str);

const RECORDS: Name = ("seriatim_records_total", "Records that have ended, by topic and final outcome.");
const HELD: Name = ("seriatim_records_held", "Records that wait for their predecessors, by lane.");
const PARKED: Name = ("seriatim_records_parked", "Records of entities in quarantine, by lane.");
const WAITING: Name = ("seriatim_records_waiting", "Records whose saga or entity does not exist yet, by lane.");
const LAG: Name = ("seriatim_lag_records", "Records between the lane's next offset and the partition's end, by lane.");
const QUARANTINED: Name = ("seriatim_entities_quarantined", "Entities in quarantine, by lane.");
const DEAD_LETTERS: Name = ("seriatim_dead_letters_total", "Dead letters written, by topic and reason.");
const SAGAS: Name = ("seriatim_sagas_total", "Sagas that have reached a status, by definition and status.");
const ALARMS: Name = ("seriatim_alarms_total", "Alarms: each is a matter for a person; by kind.");
const BATCH_RECORDS: Name = ("seriatim_batch_records", "Records that one transaction held.");
const BATCH_SECONDS: Name =
    ("seriatim_batch_duration_seconds", "Seconds from the first load to the answered commit of a batch.");
const STATEMENTS: Name = ("seriatim_statements_total", "Statements sent to the store.");
const RETRIES: Name = ("seriatim_retries_total", "Transactions tried again because the world was unwell.");
const FENCED: Name = ("seriatim_fenced_total", "Lane batches thrown away because the lane's row had moved.");
const COMMITS_UNKNOWN: Name = ("seriatim_commits_unknown_total", "Commits that got no answer.");
const CLAIMS: Name = ("seriatim_claims_total", "Claims of lanes, by result.");
const SENT: Name = ("seriatim_relay_sent_total", "Messages handed to the producer, by destination topic.");
const ACKNOWLEDGED: Name =
    ("seriatim_relay_acknowledged_total", "Messages that the brokers acknowledged, by destination topic.");
const RESENT: Name =
    ("seriatim_relay_resent_total", "Acknowledged messages that were lost and are sent again, by destination topic.");
const GATE_WAIT: Name =
    ("seriatim_relay_gate_wait_seconds", "How long messages have waited without a break for the standby.");
const IN_FLIGHT: Name = ("seriatim_relay_in_flight_bytes", "Bytes sent and not acknowledged.");
const UNSENT_AGE: Name =
    ("seriatim_relay_oldest_unsent_seconds", "Age of the oldest message that is not acknowledged.");
const REBALANCES: Name = ("seriatim_rebalances_total", "Rebalances of the consumer group that this member saw.");
const STALLS: Name = ("seriatim_stalls_total", "Lanes found with something to read and no progress.");
const LINES_DROPPED: Name = ("seriatim_log_lines_dropped_total", "Log lines dropped because nobody read the log.");
const BUILD: Name = ("seriatim_build_info", "Always 1; its label tells the version that runs.");

/// From a batch of one to the largest that a configuration would sensibly ask for.
const BATCH_RECORDS_BUCKETS: [f64; 9] = [1.0, 5.0, 20.0, 100.0, 250.0, 500.0, 1_000.0, 2_000.0, 5_000.0];
/// From a local flush of a millisecond to the statement timeout.
const BATCH_SECONDS_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// What stands in a lane right now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneGauges {
    /// Records between the lane's next offset and the end of its partition.
    pub lag: i64,
    /// Records that wait for their predecessors.
    pub held: i64,
    /// Records of entities in quarantine.
    pub parked: i64,
    /// Records whose saga or entity does not exist yet.
    pub waiting: i64,
    /// Entities in quarantine.
    pub quarantined: i64,
}

/// All metrics of one worker. A clone counts into the same ones.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    records: IntCounterVec,
    lag: IntGaugeVec,
    held: IntGaugeVec,
    parked: IntGaugeVec,
    waiting: IntGaugeVec,
    quarantined: IntGaugeVec,
    dead_letters: IntCounterVec,
    sagas: IntCounterVec,
    alarms: IntCounterVec,
    batch_records: Histogram,
    batch_seconds: Histogram,
    statements: IntCounter,
    retries: IntCounter,
    fenced: IntCounter,
    commits_unknown: IntCounter,
    claims: IntCounterVec,
    sent: IntCounterVec,
    acknowledged: IntCounterVec,
    resent: IntCounterVec,
    in_flight: IntGauge,
    gate_wait: Gauge,
    unsent_age: Gauge,
    rebalances: IntCounter,
    stalls: IntCounter,
    lines_dropped: IntCounter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A fresh set, all at zero.
    #[must_use]
    pub fn new() -> Self {
        let new = Registering(Registry::new());
        let lane = ["topic", "partition"];
        new.gauges(BUILD, &["version"]).with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        #[cfg(target_os = "linux")]
        {
            let process = i32::try_from(std::process::id()).unwrap_or_default();
            let collector = prometheus::process_collector::ProcessCollector::new(process, "seriatim");
            new.0.register(Box::new(collector)).expect(CONSTANT);
        }
        Self {
            records: new.counters(RECORDS, &["topic", "outcome"]),
            lag: new.gauges(LAG, &lane),
            held: new.gauges(HELD, &lane),
            parked: new.gauges(PARKED, &lane),
            waiting: new.gauges(WAITING, &lane),
            quarantined: new.gauges(QUARANTINED, &lane),
            dead_letters: new.counters(DEAD_LETTERS, &["topic", "reason"]),
            sagas: new.counters(SAGAS, &["definition", "status"]),
            alarms: new.counters(ALARMS, &["kind"]),
            batch_records: new.histogram(BATCH_RECORDS, &BATCH_RECORDS_BUCKETS),
            batch_seconds: new.histogram(BATCH_SECONDS, &BATCH_SECONDS_BUCKETS),
            statements: new.counter(STATEMENTS),
            retries: new.counter(RETRIES),
            fenced: new.counter(FENCED),
            commits_unknown: new.counter(COMMITS_UNKNOWN),
            claims: new.counters(CLAIMS, &["result"]),
            sent: new.counters(SENT, &["topic"]),
            acknowledged: new.counters(ACKNOWLEDGED, &["topic"]),
            resent: new.counters(RESENT, &["topic"]),
            in_flight: new.register(IntGauge::new(IN_FLIGHT.0, IN_FLIGHT.1).expect(CONSTANT)),
            gate_wait: new.register(Gauge::new(GATE_WAIT.0, GATE_WAIT.1).expect(CONSTANT)),
            unsent_age: new.register(Gauge::new(UNSENT_AGE.0, UNSENT_AGE.1).expect(CONSTANT)),
            rebalances: new.counter(REBALANCES),
            stalls: new.counter(STALLS),
            lines_dropped: new.counter(LINES_DROPPED),
            registry: new.0,
        }
    }

    /// All metrics in Prometheus's text format.
    ///
    /// # Errors
    /// If a metric cannot be written in that format.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    /// How many records have ended with each outcome, of all topics.
    #[must_use]
    pub fn ended(&self) -> BTreeMap<String, u64> {
        let mut ended = BTreeMap::new();
        for family in self.records.collect() {
            for metric in family.get_metric() {
                let outcome = metric.get_label().iter().find(|label| label.name() == "outcome");
                let outcome = outcome.map_or_else(String::new, |label| label.value().to_owned());
                // A counter of whole records, far below where a float becomes inexact.
                *ended.entry(outcome).or_default() += metric.get_counter().get_value() as u64;
            }
        }
        ended
    }

    /// What stands in all lanes of this worker, as of the last look at each.
    #[must_use]
    pub fn standing(&self) -> LaneGauges {
        let [lag, held, parked, waiting, quarantined] = self.lane_families().map(|family| {
            let families = family.collect();
            let metrics = families.iter().flat_map(|family| family.get_metric());
            metrics.map(|metric| metric.get_gauge().get_value() as i64).sum()
        });
        LaneGauges { lag, held, parked, waiting, quarantined }
    }

    /// `count` records of a topic have ended with `outcome`.
    pub fn records(&self, topic: &str, outcome: &'static str, count: u64) {
        self.records.with_label_values(&[topic, outcome]).inc_by(count);
    }

    /// What stands in a lane of this worker now.
    pub fn lane(&self, topic: &str, partition: i32, gauges: LaneGauges) {
        let lane = [topic, &partition.to_string()];
        let LaneGauges { lag, held, parked, waiting, quarantined } = gauges;
        let values = [lag, held, parked, waiting, quarantined];
        for (family, value) in self.lane_families().into_iter().zip(values) {
            family.with_label_values(&lane).set(value);
        }
    }

    /// A lane has left this worker: another one tells of it from now on.
    pub fn lane_gone(&self, topic: &str, partition: i32) {
        for family in self.lane_families() {
            // A lane that never reported has nothing to remove.
            drop(family.remove_label_values(&[topic, &partition.to_string()]));
        }
    }

    fn lane_families(&self) -> [&IntGaugeVec; 5] {
        [&self.lag, &self.held, &self.parked, &self.waiting, &self.quarantined]
    }

    /// A dead letter was written.
    pub fn dead_letter(&self, topic: &str, reason: &'static str) {
        self.dead_letters.with_label_values(&[topic, reason]).inc();
    }

    /// A saga has reached a status.
    pub fn saga(&self, definition: &'static str, status: &'static str) {
        self.sagas.with_label_values(&[definition, status]).inc();
    }

    /// Something is a matter for a person.
    pub fn alarm(&self, kind: &'static str) {
        self.alarms.with_label_values(&[kind]).inc();
    }

    /// A transaction of `records` records was committed `took` after its first load.
    pub fn batch(&self, records: usize, took: Duration) {
        self.batch_records.observe(records as f64);
        self.batch_seconds.observe(took.as_secs_f64());
    }

    /// Statements went to the store.
    pub fn statements(&self, count: u64) {
        self.statements.inc_by(count);
    }

    /// A transaction is tried again.
    pub fn retry(&self) {
        self.retries.inc();
    }

    /// Lane batches were thrown away because their lanes' rows had moved.
    pub fn fenced(&self, lanes: u64) {
        self.fenced.inc_by(lanes);
    }

    /// A commit got no answer.
    pub fn commit_unknown(&self) {
        self.commits_unknown.inc();
    }

    /// A lane was claimed, or could not be.
    pub fn claim(&self, result: &'static str) {
        self.claims.with_label_values(&[result]).inc();
    }

    /// Messages were handed to the producer.
    pub fn relay_sent(&self, topic: &str, count: u64) {
        self.sent.with_label_values(&[topic]).inc_by(count);
    }

    /// Messages were acknowledged by the brokers.
    pub fn relay_acknowledged(&self, topic: &str, count: u64) {
        self.acknowledged.with_label_values(&[topic]).inc_by(count);
    }

    /// Messages that the brokers had acknowledged and lost are sent again.
    pub fn relay_resent(&self, topic: &str, count: u64) {
        self.resent.with_label_values(&[topic]).inc_by(count);
    }

    /// Bytes that are sent and not acknowledged, of all links.
    pub fn relay_in_flight(&self, bytes: usize) {
        self.in_flight.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Age of the oldest message that is not acknowledged; zero if there is none.
    pub fn relay_oldest_unsent(&self, age: Duration) {
        self.unsent_age.set(age.as_secs_f64());
    }

    /// How long messages have waited for the standby; zero if none waits.
    pub fn relay_gate_wait(&self, waited: Duration) {
        self.gate_wait.set(waited.as_secs_f64());
    }

    /// The group was rebalanced.
    pub fn rebalance(&self) {
        self.rebalances.inc();
    }

    /// A lane was found with something to read and no progress.
    pub fn stall(&self) {
        self.stalls.inc();
    }

    pub(super) fn log_lines_dropped(&self) -> &IntCounter {
        &self.lines_dropped
    }
}

/// Why making and registering a metric cannot fail.
const CONSTANT: &str = "names and labels are constants of this file, valid and each used once, as its test shows";

/// Makes metrics and enters them into the registry in one go: one that is not entered would count unseen.
struct Registering(Registry);

impl Registering {
    fn register<C: Collector + Clone + 'static>(&self, metric: C) -> C {
        self.0.register(Box::new(metric.clone())).expect(CONSTANT);
        metric
    }

    fn counter(&self, (name, says): Name) -> IntCounter {
        self.register(IntCounter::new(name, says).expect(CONSTANT))
    }

    fn counters(&self, (name, says): Name, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(Opts::new(name, says), labels).expect(CONSTANT))
    }

    fn gauges(&self, (name, says): Name, labels: &[&str]) -> IntGaugeVec {
        self.register(IntGaugeVec::new(Opts::new(name, says), labels).expect(CONSTANT))
    }

    fn histogram(&self, (name, says): Name, buckets: &[f64]) -> Histogram {
        let options = HistogramOpts::new(name, says).buckets(buckets.to_vec());
        self.register(Histogram::with_opts(options).expect(CONSTANT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_bears_our_prefix() {
        let text = Metrics::new().render().unwrap();
        assert!(text.contains(&format!("seriatim_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"))));
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.starts_with("seriatim_"), "{line}");
        }
    }

    #[test]
    fn outcomes_are_counted_apart() {
        let metrics = Metrics::new();
        metrics.records("stock", "applied", 3);
        let copy = metrics.clone();
        copy.records("stock", "applied", 2);
        metrics.records("stock", "duplicate", 1);
        let text = metrics.render().unwrap();
        assert!(text.contains("seriatim_records_total{outcome=\"applied\",topic=\"stock\"} 5\n"), "{text}");
        assert!(text.contains("seriatim_records_total{outcome=\"duplicate\",topic=\"stock\"} 1\n"), "{text}");
    }

    #[test]
    fn sums_are_taken_over_topics_and_lanes() {
        let metrics = Metrics::new();
        metrics.records("stock", "applied", 3);
        metrics.records("purchases", "applied", 2);
        metrics.records("stock", "refused", 1);
        metrics.lane("stock", 0, LaneGauges { lag: 7, held: 1, ..LaneGauges::default() });
        metrics.lane("stock", 1, LaneGauges { lag: 2, parked: 4, ..LaneGauges::default() });
        let ended = metrics.ended();
        assert_eq!((ended["applied"], ended["refused"], ended.len()), (5, 1, 2));
        assert_eq!(metrics.standing(), LaneGauges { lag: 9, held: 1, parked: 4, ..LaneGauges::default() });
    }

    #[test]
    fn a_lane_that_left_is_not_told_of() {
        let metrics = Metrics::new();
        let gauges = LaneGauges { lag: 7, held: 1, parked: 2, waiting: 3, quarantined: 4 };
        metrics.lane("stock", 0, gauges);
        metrics.lane("stock", 1, gauges);
        metrics.lane_gone("stock", 0);
        metrics.lane_gone("never", 0);
        let text = metrics.render().unwrap();
        assert!(text.contains("seriatim_lag_records{partition=\"1\",topic=\"stock\"} 7\n"), "{text}");
        assert!(text.contains("seriatim_entities_quarantined{partition=\"1\",topic=\"stock\"} 4\n"), "{text}");
        assert!(!text.contains("partition=\"0\""), "{text}");
    }
}
