//! The section `kafka`: the brokers, the group, the buffers of the poll thread, and the client's own properties.

use std::{collections::BTreeMap, path::Path, time::Duration};

use serde_json::Value as Json;

use super::{
    Origin, Setting,
    layers::read_bounded,
    reader::{Area, Reader},
    value,
    value::Secret,
};

/// The key under which the client's own properties stand.
pub(super) const PROPERTIES: &str = "kafka.properties";

/// Properties whose value is a secret; each can be given as `<name>_file` too.
pub(super) const SECRET_PROPERTIES: [&str; 6] = [
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.config",
    "sasl.password",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
];

/// Properties that the promise depends on: the worker sets them, or nobody may.
const RESERVED_PROPERTIES: [(&str, &str); 18] = [
    ("acks", "the relay needs the acknowledgement of all replicas in sync"),
    ("allow.auto.create.topics", "a topic is made by `topics apply`, with its partition count"),
    ("auto.offset.reset", "a lane reads from its row in the database, never from a reset"),
    ("bootstrap.servers", "say it as kafka.brokers"),
    ("enable.auto.commit", "offsets move in the database's transaction"),
    ("enable.auto.offset.store", "offsets move in the database's transaction"),
    ("enable.idempotence", "the relay needs an idempotent producer to keep the order"),
    ("enable.partition.eof", "the end of a partition is no record"),
    ("group.id", "say it as kafka.group_id"),
    ("group.instance.id", "say it as kafka.instance_id"),
    ("group.protocol", "say it as kafka.protocol"),
    ("message.timeout.ms", "a message that timed out would leave a gap: the relay waits without end"),
    ("metadata.broker.list", "say it as kafka.brokers"),
    ("partition.assignment.strategy", "lanes move one by one: cooperative-sticky"),
    ("partitioner", "the partition is chosen when a message is committed"),
    ("plugin.library.paths", "a configuration must not load code"),
    ("session.timeout.ms", "say it as kafka.session_timeout"),
    ("transactional.id", "the relay does not use Kafka's transactions"),
];

/// Properties shown as they are; the value of any other is hidden, because a list of secrets is never complete.
const SHOWN_PROPERTIES: [&str; 12] = [
    "client.",
    "compression.",
    "debug",
    "enable.ssl.certificate.verification",
    "fetch.",
    "linger.ms",
    "queued.",
    "sasl.mechanism",
    "security.protocol",
    "socket.",
    "ssl.ca.location",
    "ssl.endpoint.identification.algorithm",
];

/// Which protocol the consumer group speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupProtocol {
    /// The clients share out the partitions (cooperative-sticky).
    Classic,
    /// The broker shares them out (KIP-848).
    Consumer,
}

/// The brokers and how the worker reads from them.
#[derive(Clone, Debug)]
pub struct Kafka {
    /// `host:port` of some brokers of the cluster; the others are learnt from them. No default; empty only where a
    /// command needs no broker.
    pub brokers: Vec<String>,
    /// The consumer group. Default `seriatim`.
    pub group_id: String,
    /// `classic` or `consumer`. Default `classic`: the client's newer protocol still stalls in ways the older does not.
    pub protocol: GroupProtocol,
    /// Static membership: a name for this member that outlives a restart. If such a member dies just when the group moves
    /// lanes, and comes back in time, the classic protocol leaves the lanes on the way with nobody until the group moves
    /// again, as it does when a worker joins. Default: none.
    pub instance_id: Option<String>,
    /// Properties handed to librdkafka as they are.
    pub properties: BTreeMap<String, Secret>,
    /// Bytes that may wait in memory per lane before the lane is paused. Default 4 MiB: two full batches.
    pub inbox_bytes: usize,
    /// Records that may wait in memory per lane. Default 20000: ten full batches of small records.
    pub inbox_records: usize,
    /// After how long without a heartbeat the group takes this member for dead. Default 45 s, the client's own.
    pub session_timeout: Duration,
    /// A lane with something to read and no progress for this long is read anew; twice, and the process ends.
    /// Default 60 s.
    pub stall_deadline: Duration,
    /// How often offsets are committed to Kafka, for lag tools only. Default 5 s.
    pub commit_interval: Duration,
    /// Limit of one question to the brokers (topics, watermarks, committed offsets). Default 10 s.
    pub metadata_timeout: Duration,
}

impl Kafka {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let mut area = reader.area("kafka");
        let (seconds, minutes) = (Duration::from_secs, |minutes: u64| Duration::from_secs(minutes * 60));
        Self {
            brokers: area.read("brokers", Vec::new(), brokers, |list| list.join(",")),
            group_id: area.read("group_id", "seriatim".to_owned(), name, Clone::clone),
            protocol: area
                .choice("protocol", &[("classic", GroupProtocol::Classic), ("consumer", GroupProtocol::Consumer)]),
            instance_id: area.read(
                "instance_id",
                None,
                |value| name(value).map(Some),
                |id| id.clone().unwrap_or_default(),
            ),
            inbox_bytes: area.bytes("inbox_bytes", 4 << 20, 64 << 10..=1 << 30),
            inbox_records: area.count("inbox_records", 20_000, 1..=1_000_000),
            session_timeout: area.duration("session_timeout", seconds(45), seconds(6)..=minutes(30)),
            stall_deadline: area.duration("stall_deadline", seconds(60), seconds(10)..=minutes(60)),
            commit_interval: area.duration("commit_interval", seconds(5), Duration::from_millis(100)..=minutes(10)),
            metadata_timeout: area.duration("metadata_timeout", seconds(10), seconds(1)..=minutes(2)),
            properties: properties(&mut area),
        }
    }
}

/// `a:9092,b:9092` or a list of such.
fn brokers(value: &Json) -> Result<Vec<String>, String> {
    let mut list = Vec::new();
    let parts = if let Json::Array(parts) = value { parts.as_slice() } else { std::slice::from_ref(value) };
    for part in parts {
        list.extend(value::text(part)?.split(',').map(|broker| broker.trim().to_owned()));
    }
    for broker in &list {
        let sound = broker.rsplit_once(':').is_some_and(|(host, port)| {
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            let named = bare.chars().all(|c| c.is_ascii_alphanumeric() || ".-_:".contains(c));
            !bare.is_empty() && named && (host.starts_with('[') || !host.contains(':')) && port.parse::<u16>().is_ok()
        });
        if !sound {
            return Err(format!("`{broker}` is not a broker; write host:port, several with commas between"));
        }
    }
    Ok(list)
}

/// A name that Kafka takes.
fn name(value: &Json) -> Result<String, String> {
    let text = value::text(value)?;
    let sound = (1..=249).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if sound { Ok(text) } else { Err("must be 1 to 249 letters, digits, dots, dashes or underscores".to_owned()) }
}

fn shown(property: &str, value: &str) -> String {
    let open = SHOWN_PROPERTIES.iter().any(|known| property.starts_with(known));
    if open { value.to_owned() } else { Secret::HIDDEN.to_owned() }
}

/// What stands under `kafka.properties`, over what the properties file holds.
fn properties(area: &mut Area<'_>) -> BTreeMap<String, Secret> {
    let mut properties = BTreeMap::new();
    for name in area.names_below("properties") {
        let stem = name.strip_suffix("_file").unwrap_or(&name);
        if SECRET_PROPERTIES.contains(&stem) {
            if !properties.contains_key(stem) {
                let (secret, _) = area.secret(&format!("properties.{stem}"), "", |value| shown(stem, value));
                properties.insert(stem.to_owned(), secret);
            }
            continue;
        }
        let full = format!("properties.{name}");
        let value = area.read(&full, String::new(), |value| property(&name, value), |value| shown(&name, value));
        properties.insert(name, Secret::new(value));
    }
    let path = area.read("properties_file", String::new(), value::text, Clone::clone);
    if !path.is_empty() {
        for (name, value) in properties_file(area, &path) {
            properties.entry(name).or_insert_with(|| Secret::new(value));
        }
    }
    properties.retain(|_, value| !value.expose().is_empty());
    properties
}

fn property(name: &str, value: &Json) -> Result<String, String> {
    match RESERVED_PROPERTIES.iter().find(|(reserved, _)| *reserved == name) {
        Some((_, why)) => Err(format!("cannot be set: {why}")),
        None => value::text(value),
    }
}

/// Lines `name=value`; empty ones and those that begin with `#` are skipped.
fn properties_file(area: &mut Area<'_>, path: &str) -> Vec<(String, String)> {
    let origin = Origin::File(Path::new(path).to_owned());
    let text = match read_bounded(Path::new(path)) {
        Ok(text) => text,
        Err(says) => {
            area.problem("properties_file", origin, says);
            return Vec::new();
        }
    };
    let mut properties = Vec::new();
    for (number, line) in text.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, value)) = line.split_once('=').map(|(name, value)| (name.trim(), value.trim())) else {
            let says = format!("line {} does not look like name=value", number + 1);
            area.problem("properties_file", origin.clone(), says);
            continue;
        };
        match property(name, &Json::from(value)) {
            Ok(value) => {
                let key = format!("{PROPERTIES}.{name}");
                area.setting(Setting { key, value: shown(name, &value), origin: origin.clone() });
                properties.push((name.to_owned(), value));
            }
            Err(says) => area.problem(&format!("properties.{name}"), origin.clone(), says),
        }
    }
    properties
}
