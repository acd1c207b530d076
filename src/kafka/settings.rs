//! What a client is told before it connects, each setting of librdkafka with its reason.
//!
//! A user's properties are handed on as they are, except those that the promises of this program rest on:
//! these are refused, with the sentence why. A `ClientConfig` is never printed: it holds secrets.

use std::{collections::BTreeMap, fmt, time::Duration};

use rdkafka::ClientConfig;

use super::Error;

/// How the group agrees on who reads what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Members divide the partitions among themselves, cooperatively. The tried one.
    #[default]
    Classic,
    /// The broker divides them (KIP-848). Its client has known faults that end in a stall, never in a loss.
    Consumer,
}

/// What the clients of this module need to know.
#[derive(Clone)]
pub struct Settings {
    /// `host:port`, comma-separated.
    pub brokers: String,
    /// The consumer group.
    pub group_id: String,
    /// Shown in the brokers' logs and quotas.
    pub client_id: String,
    /// Handed to librdkafka as they are; see [`Settings::check`] for what is refused.
    pub properties: BTreeMap<String, String>,
    /// How the group agrees.
    pub protocol: Protocol,
    /// Bytes that one lane's inbox holds before delivery waits.
    pub inbox_bytes_max: usize,
    /// Records that one lane's inbox holds before delivery waits.
    pub inbox_records_max: usize,
    /// After so long without a heartbeat the group gives a member's lanes away. Classic protocol only: with
    /// the other one the broker decides.
    pub session_timeout: Duration,
    /// After so long without a record, though there are some, a lane is assigned afresh; after as long again
    /// it is reported as stalled.
    pub stall_deadline: Duration,
    /// How often the client tells its positions; the ends of partitions and the watchdog know no finer time.
    pub statistics_interval: Duration,
    /// The largest message that is sent, before compression.
    pub message_bytes_max: usize,
    /// Bytes that wait for acknowledgement in the producer; further ones are refused as `Full`.
    pub producer_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:9092".to_owned(),
            group_id: "seriatim".to_owned(),
            client_id: "seriatim".to_owned(),
            properties: BTreeMap::new(),
            protocol: Protocol::Classic,
            inbox_bytes_max: 1 << 20,
            inbox_records_max: 4096,
            session_timeout: Duration::from_secs(45),
            stall_deadline: Duration::from_secs(60),
            statistics_interval: Duration::from_secs(1),
            message_bytes_max: 1_000_000,
            producer_bytes_max: 32 << 20,
        }
    }
}

impl fmt::Debug for Settings {
    /// Names the properties without their values: passwords are among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("brokers", &self.brokers)
            .field("group_id", &self.group_id)
            .field("properties", &self.properties.keys().collect::<Vec<_>>())
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

/// Properties that a user cannot set, with the reason.
const RESERVED: &[(&str, &str)] = &[
    ("bootstrap.servers", "it is kafka.brokers"),
    ("metadata.broker.list", "it is kafka.brokers"),
    ("group.id", "it is kafka.group_id"),
    ("group.protocol", "it is kafka.protocol"),
    ("session.timeout.ms", "it is kafka.session_timeout"),
    ("statistics.interval.ms", "the watchdog counts on its own pace"),
    ("message.max.bytes", "it is kafka.message_bytes_max: messages are refused when made, not when sent"),
    ("enable.auto.commit", "offsets are moved by the store's transaction, never by a clock"),
    ("enable.auto.offset.store", "offsets are moved by the store's transaction, never by a delivery"),
    ("auto.offset.reset", "a reset skips or repeats records in silence"),
    ("enable.partition.eof", "the end of a partition is told from the positions"),
    ("isolation.level", "records of aborted transactions must not be seen"),
    ("check.crcs", "a damaged record must not be applied"),
    ("allow.auto.create.topics", "a mistyped topic must fail, not appear"),
    ("enable.idempotence", "order within a partition rests on it"),
    ("enable.gapless.guarantee", "nothing after a failed message may land before it"),
    ("transactional.id", "the relay sends at least once and its readers drop repeats"),
    ("acks", "a message counts as sent when all in-sync replicas have it"),
    ("request.required.acks", "a message counts as sent when all in-sync replicas have it"),
    ("message.timeout.ms", "a message that expires leaves a gap in the order"),
    ("delivery.timeout.ms", "a message that expires leaves a gap in the order"),
    ("retries", "a message that runs out of retries leaves a gap in the order"),
    ("message.send.max.retries", "a message that runs out of retries leaves a gap in the order"),
];

impl Settings {
    /// Looks for every problem that can be seen without connecting: reserved properties, names and values
    /// that librdkafka does not know, bounds.
    ///
    /// # Errors
    /// [`Error::Settings`] with all problems, not the first only.
    pub fn check(&self) -> Result<(), Error> {
        let mut problems = Vec::new();
        for (name, reason) in RESERVED {
            if self.properties.contains_key(*name) {
                problems.push(format!("{name} cannot be set: {reason}"));
            }
        }
        match self.properties.get("partition.assignment.strategy").map(String::as_str) {
            None | Some("cooperative-sticky") => {}
            Some(_) => problems.push(
                "partition.assignment.strategy can only be cooperative-sticky: the others take every lane away \
                 at each rebalance"
                    .to_owned(),
            ),
        }
        for (name, value) in [("kafka.brokers", &self.brokers), ("kafka.group_id", &self.group_id)] {
            if value.trim().is_empty() {
                problems.push(format!("{name} is empty"));
            }
        }
        if self.inbox_bytes_max == 0 || self.inbox_records_max == 0 {
            problems.push("an inbox must hold at least one record and one byte".to_owned());
        }
        for (client, config) in [("consumer", self.consumer()), ("producer", self.producer())] {
            // Makes librdkafka look at every name and value; nothing is connected.
            if let Err(error) = config.create_native_config() {
                problems.push(format!("the {client} refuses a property: {error}"));
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::Settings(problems)) }
    }

    /// Whether records would cross the network without encryption.
    #[must_use]
    pub fn is_plain_text(&self) -> bool {
        let protocol = self.properties.get("security.protocol").map_or("plaintext", String::as_str);
        !protocol.to_ascii_lowercase().ends_with("ssl")
    }

    /// For the client that asks for metadata and changes topics; it joins no group.
    pub(super) fn cluster(&self) -> ClientConfig {
        let mut config = self.common();
        self.apply_properties(&mut config);
        config
    }

    /// For the client that reads.
    pub(super) fn consumer(&self) -> ClientConfig {
        let mut config = self.common();
        config
            .set("group.id", &self.group_id)
            // The store's row says where reading starts; an offset that is not there must be an alarm.
            .set("auto.offset.reset", "error")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "false")
            // Off by default; a flipped bit would otherwise be somebody's money.
            .set("check.crcs", "true")
            .set("statistics.interval.ms", self.statistics_interval.as_millis().to_string())
            // The poll thread waits for nobody, so a minute without a poll means that it is dead.
            .set("max.poll.interval.ms", self.session_timeout.as_millis().max(60_000).to_string())
            // What is fetched and not yet in an inbox stays small, or a backlog would fill the memory; the
            // bounds count each partition by itself, and are overshot by one fetch.
            .set("queued.max.messages.kbytes", "512")
            .set("queued.min.messages", "2000")
            .set("fetch.message.max.bytes", "262144")
            .set("fetch.max.bytes", "8388608")
            // A partition that is opened or has room again waits for the request that is under way, which
            // idle partitions hold back for this long. It must be shorter than half an inbox lasts.
            .set("fetch.wait.max.ms", "50")
            // The default of a second would leave a full queue empty for most of it.
            .set("fetch.queue.backoff.ms", "10")
            .set("fetch.error.backoff.ms", "100");
        match self.protocol {
            Protocol::Classic => {
                config
                    .set("group.protocol", "classic")
                    .set("partition.assignment.strategy", "cooperative-sticky")
                    .set("session.timeout.ms", self.session_timeout.as_millis().to_string())
                    .set("heartbeat.interval.ms", (self.session_timeout.as_millis() / 10).clamp(100, 3000).to_string());
            }
            // Session, heartbeat and assignor belong to the broker here: setting them is an error.
            Protocol::Consumer => {
                config.set("group.protocol", "consumer");
            }
        }
        self.apply_properties(&mut config);
        if self.protocol == Protocol::Consumer {
            config.remove("partition.assignment.strategy");
        }
        config
    }

    /// For the client that reads a stretch of a partition and joins no group.
    pub(super) fn log(&self) -> ClientConfig {
        let mut config = self.consumer();
        // It has no other word that the last records before its end are markers of transactions.
        config.set("enable.partition.eof", "true").set("statistics.interval.ms", "0");
        // A member's place in the group is not taken.
        config.remove("group.instance.id");
        config
    }

    /// For the client that sends.
    pub(super) fn producer(&self) -> ClientConfig {
        let mut config = self.common();
        config
            // Order within a partition and no repeats within a session; implies acks=all and endless retries.
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // A message that fails for good stops the producer, so that nothing after it lands before it.
            .set("enable.gapless.guarantee", "true")
            // Zero is endless: a message that expires leaves a gap that idempotence does not see.
            .set("message.timeout.ms", "0")
            .set("message.max.bytes", self.message_bytes_max.to_string())
            .set("queue.buffering.max.kbytes", (self.producer_bytes_max / 1024).max(1).to_string())
            // The bound is in bytes; the count must not strike first.
            .set("queue.buffering.max.messages", "0")
            // Messages come in batches after a commit: two milliseconds gather them, more would be felt.
            .set("linger.ms", "2");
        self.apply_properties(&mut config);
        config
    }

    fn common(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", &self.client_id)
            // A mistyped topic must fail, not appear with one partition.
            .set("allow.auto.create.topics", "false")
            // Nothing is told about us to whoever runs the brokers.
            .set("enable.metrics.push", "false")
            .set("socket.keepalive.enable", "true")
            // After an outage the default would sit idle for ten seconds more.
            .set("reconnect.backoff.max.ms", "2000")
            // New partitions are seen within a minute.
            .set("topic.metadata.refresh.interval.ms", "60000");
        config
    }

    fn apply_properties(&self, config: &mut ClientConfig) {
        for (name, value) in &self.properties {
            config.set(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Error, Protocol, Settings};

    fn problems(settings: &Settings) -> Vec<String> {
        match settings.check() {
            Ok(()) => Vec::new(),
            Err(Error::Settings(problems)) => problems,
            Err(other) => panic!("{other}"),
        }
    }

    fn with(properties: &[(&str, &str)]) -> Settings {
        let properties: BTreeMap<_, _> =
            properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Settings { properties, ..Settings::default() }
    }

    #[test]
    fn both_protocols_are_accepted_by_the_client() {
        for protocol in [Protocol::Classic, Protocol::Consumer] {
            assert_eq!(problems(&Settings { protocol, ..Settings::default() }), Vec::<String>::new());
        }
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let settings = with(&[
            ("enable.auto.commit", "true"),
            ("auto.offset.reset", "latest"),
            ("partition.assignment.strategy", "range"),
        ]);
        let problems = problems(&Settings { group_id: String::new(), ..settings });
        assert_eq!(problems.len(), 4, "{problems:?}");
    }

    #[test]
    fn a_property_that_the_client_does_not_know_is_refused() {
        let problems = problems(&with(&[("linger.msec", "2")]));
        assert!(problems.iter().any(|problem| problem.contains("linger.msec")), "{problems:?}");
    }

    #[test]
    fn passwords_are_not_printed() {
        let settings = with(&[("sasl.password", "hunter2")]);
        assert!(!format!("{settings:?}").contains("hunter2"));
    }

    #[test]
    fn only_encrypted_transports_count_as_encrypted() {
        assert!(with(&[]).is_plain_text());
        assert!(with(&[("security.protocol", "SASL_PLAINTEXT")]).is_plain_text());
        assert!(!with(&[("security.protocol", "SASL_SSL")]).is_plain_text());
    }
}
