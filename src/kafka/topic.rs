//! What the cluster says of topics, and making them as the manifests say.
//!
//! The client here joins no group and reads nothing. Its calls block, so each runs on a thread for blocking
//! work. Nothing here deletes a topic, shrinks one, or grows one that holds entities.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    admin::{
        AdminClient, AdminOptions, AlterConfig, ConfigResource, ConfigSource, NewTopic, ResourceSpecifier,
        TopicReplication,
    },
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::{KafkaError, KafkaResult},
    types::RDKafkaErrorCode,
};
use tokio::{sync::mpsc::UnboundedSender, time::Instant};

use super::{Consumer, Error, Manifest, Producer, Settings, log_line};
use crate::{
    broker::{self, Broker, Event, Report},
    core::record::LaneId,
};

/// How long to wait before asking again for what was just made or set. Brokers learn of it in some milliseconds.
const SEEN_POLL: Duration = Duration::from_millis(20);

/// Asks the cluster about topics and changes them. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    settings: Settings,
    admin: Arc<AdminClient<Quiet>>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// One way in which a topic is not as its manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The topic is not there.
    Missing {
        /// Its name.
        topic: String,
    },
    /// It has another number of partitions.
    Partitions {
        /// Its name.
        topic: String,
        /// What the manifest says.
        wanted: i32,
        /// What the cluster has.
        found: i32,
    },
    /// A configuration value differs.
    Config {
        /// The topic's name.
        topic: String,
        /// The configuration's name.
        name: String,
        /// What the manifest says.
        wanted: String,
        /// What the cluster has; none if it does not know the name.
        found: Option<String>,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { topic } => write!(f, "topic {topic} is missing"),
            Self::Partitions { topic, wanted, found } => {
                write!(f, "topic {topic} has {found} partitions where its manifest says {wanted}")
            }
            Self::Config { topic, name, wanted, found } => {
                let found = found.as_deref().unwrap_or("no such setting");
                write!(f, "topic {topic} has {name}: {found} where its manifest says {wanted}")
            }
        }
    }
}

impl Cluster {
    /// Makes the client.
    ///
    /// # Errors
    /// If the settings are not usable or the client cannot be made; not if no broker answers.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        settings.check()?;
        let admin =
            settings.cluster().create_with_context(Quiet).map_err(Error::client("making a client for the cluster"))?;
        Ok(Self { settings: settings.clone(), admin: Arc::new(admin) })
    }

    async fn counts(&self, topics: &[String], timeout: Duration) -> Result<BTreeMap<String, Option<i32>>, Error> {
        let (admin, topics) = (self.admin.clone(), topics.to_vec());
        let ask =
            move || topics.into_iter().map(|topic| Ok((topic.clone(), count(&admin, &topic, timeout)?))).collect();
        blocking("asking for partitions", ask).await
    }

    /// Compares the cluster with the manifests and changes nothing.
    ///
    /// # Errors
    /// If the cluster does not answer within `timeout`.
    pub async fn plan(&self, manifests: &[Manifest], timeout: Duration) -> Result<Vec<Difference>, Error> {
        let names: Vec<String> = manifests.iter().map(|manifest| manifest.topic.clone()).collect();
        let counts = self.counts(&names, timeout).await?;
        let is_there = |topic: &&String| counts.get(*topic).is_some_and(Option::is_some);
        let present: Vec<&String> = names.iter().filter(is_there).collect();
        let configs = self.configs(&present, timeout).await?;
        let mut differences = Vec::new();
        for manifest in manifests {
            let topic = manifest.topic.clone();
            let Some(found) = counts.get(&topic).copied().flatten() else {
                differences.push(Difference::Missing { topic });
                continue;
            };
            if found != manifest.partitions {
                differences.push(Difference::Partitions { topic: topic.clone(), wanted: manifest.partitions, found });
            }
            let config = configs.get(&topic);
            for (name, wanted) in &manifest.config {
                let found = config.and_then(|config| config.get(name)).and_then(|entry| entry.value.clone());
                if found.as_ref() != Some(wanted) {
                    let (topic, name, wanted) = (topic.clone(), name.clone(), wanted.clone());
                    differences.push(Difference::Config { topic, name, wanted, found });
                }
            }
        }
        Ok(differences)
    }

    /// Like [`Cluster::plan`], where any difference is an error.
    ///
    /// # Errors
    /// [`Error::Differences`], or if the cluster does not answer within `timeout`.
    pub async fn check(&self, manifests: &[Manifest], timeout: Duration) -> Result<(), Error> {
        let differences = self.plan(manifests, timeout).await?;
        if differences.is_empty() { Ok(()) } else { Err(Error::Differences(differences)) }
    }

    /// Creates the topics that are missing, sets the values that differ, and waits until both are seen; answers
    /// with what was changed.
    ///
    /// # Errors
    /// Before anything is changed, if a topic has another number of partitions: entities find their lane by
    /// it, so with another number each would have two lanes, and that needs a planned rehoming. Afterwards, if the
    /// cluster does not show within `timeout` what the manifests say; [`Error::Differences`] has what is missing.
    pub async fn apply(&self, manifests: &[Manifest], timeout: Duration) -> Result<Vec<Difference>, Error> {
        let differences = self.plan(manifests, timeout).await?;
        if let Some(difference) =
            differences.iter().find(|difference| matches!(difference, Difference::Partitions { .. }))
        {
            let reason = "entities find their lane by the number of partitions, so it cannot be changed in place";
            return Err(Error::Refused { doing: difference.to_string(), reason: reason.to_owned() });
        }
        let missing =
            |manifest: &&Manifest| differences.contains(&Difference::Missing { topic: manifest.topic.clone() });
        for manifest in manifests.iter().filter(missing) {
            self.create(manifest, timeout).await?;
        }
        let altered = |manifest: &&Manifest| {
            differences
                .iter()
                .any(|difference| matches!(difference, Difference::Config { topic, .. } if *topic == manifest.topic))
        };
        let altered: Vec<&Manifest> = manifests.iter().filter(altered).collect();
        self.alter(&altered, timeout).await?;
        if !differences.is_empty() {
            self.until_seen(manifests, timeout).await?;
        }
        Ok(differences)
    }

    /// The controller answers for a change before every broker has learnt of it: whoever asks one of those hears
    /// that the topic is missing, or how it was set before.
    async fn until_seen(&self, manifests: &[Manifest], timeout: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + timeout;
        loop {
            let seen = self.check(manifests, timeout).await;
            if seen.is_ok() || Instant::now() >= deadline {
                return seen;
            }
            tokio::time::sleep(SEEN_POLL).await;
        }
    }

    async fn create(&self, manifest: &Manifest, timeout: Duration) -> Result<(), Error> {
        let doing = format!("creating topic {}", manifest.topic);
        let new = NewTopic::new(&manifest.topic, manifest.partitions, TopicReplication::Fixed(manifest.replicas));
        let new = manifest.config.iter().fold(new, |new, (name, value)| new.set(name, value));
        let answers = self.admin.create_topics([&new], &options(timeout)).await.map_err(Error::client(&*doing))?;
        for answer in answers {
            match answer {
                // Another worker was faster; what it made is seen by the next check.
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, code)) => return Err(Error::Refused { doing, reason: code.to_string() }),
            }
        }
        Ok(())
    }

    /// Sets topics' values. The request replaces all that was set on the topic, so what stands there already
    /// and is not in the manifest is sent along unchanged.
    async fn alter(&self, manifests: &[&Manifest], timeout: Duration) -> Result<(), Error> {
        if manifests.is_empty() {
            return Ok(());
        }
        let names: Vec<&String> = manifests.iter().map(|manifest| &manifest.topic).collect();
        let configs = self.configs(&names, timeout).await?;
        let values: Vec<(&str, BTreeMap<&str, &str>)> = manifests
            .iter()
            .map(|manifest| {
                let standing = configs.get(&manifest.topic).into_iter().flat_map(|config| &config.entries);
                let standing = standing
                    .filter(|entry| entry.source == ConfigSource::DynamicTopic)
                    .filter_map(|entry| Some((entry.name.as_str(), entry.value.as_deref()?)));
                let wanted = manifest.config.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                (manifest.topic.as_str(), standing.chain(wanted).collect())
            })
            .collect();
        let changes: Vec<AlterConfig<'_>> = values
            .iter()
            .map(|(topic, values)| {
                let change = AlterConfig::new(ResourceSpecifier::Topic(topic));
                values.iter().fold(change, |change, (name, value)| change.set(name, value))
            })
            .collect();
        let doing = "setting the topics' configuration";
        let answers = self.admin.alter_configs(&changes, &options(timeout)).await.map_err(Error::client(doing))?;
        for answer in answers {
            if let Err((topic, code)) = answer {
                return Err(Error::Refused { doing: format!("{doing}: {topic:?}"), reason: code.to_string() });
            }
        }
        Ok(())
    }

    async fn configs(&self, topics: &[&String], timeout: Duration) -> Result<BTreeMap<String, ConfigResource>, Error> {
        if topics.is_empty() {
            return Ok(BTreeMap::new());
        }
        let doing = "asking for the topics' configuration";
        let asked: Vec<ResourceSpecifier<'_>> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
        let answers = self.admin.describe_configs(&asked, &options(timeout)).await.map_err(Error::client(doing))?;
        // The answers come in the order of the question.
        let told = topics.iter().zip(answers).map(|(topic, answer)| match answer {
            Ok(config) => Ok(((*topic).clone(), config)),
            Err(code) => Err(Error::Refused { doing: format!("{doing} {topic}"), reason: code.to_string() }),
        });
        told.collect()
    }
}

#[async_trait]
impl Broker for Cluster {
    fn join(&self, topics: &[String], events: UnboundedSender<Event>) -> anyhow::Result<Box<dyn broker::Consumer>> {
        Ok(Box::new(Consumer::start(&self.settings, topics, events)?))
    }

    fn producer(&self, reports: UnboundedSender<Report>) -> anyhow::Result<Box<dyn broker::Producer>> {
        Ok(Box::new(Producer::start(&self.settings, reports)?))
    }

    async fn partitions(&self, topics: &[String], timeout: Duration) -> anyhow::Result<BTreeMap<String, Option<i32>>> {
        Ok(self.counts(topics, timeout).await?)
    }

    async fn watermarks(&self, lane: &LaneId, timeout: Duration) -> anyhow::Result<(i64, i64)> {
        let (admin, of) = (self.admin.clone(), lane.clone());
        let ask = move || admin.inner().fetch_watermarks(&of.topic, of.partition, timeout);
        Ok(blocking(format!("asking for the watermarks of {lane}"), ask).await?)
    }

    async fn committed(
        &self,
        lanes: &[LaneId],
        timeout: Duration,
    ) -> anyhow::Result<Vec<(LaneId, Option<(i64, String)>)>> {
        let (settings, lanes) = (self.settings.clone(), lanes.to_vec());
        // A client of its own, which joins nothing: the poll thread must not wait for an answer, and this is asked
        // only where a lane has no row yet.
        let ask = move || {
            let client: BaseConsumer<Quiet> = settings.consumer().create_with_context(Quiet)?;
            let mut list = TopicPartitionList::new();
            for lane in &lanes {
                list.add_partition(&lane.topic, lane.partition);
            }
            let list = client.committed_offsets(list, timeout)?;
            let of = |lane: LaneId| {
                let element = list.find_partition(&lane.topic, lane.partition).ok_or(KafkaError::NoMessageReceived)?;
                element.error()?;
                let committed = match element.offset() {
                    Offset::Offset(offset) => Some((offset, element.metadata().to_owned())),
                    _ => None,
                };
                Ok((lane, committed))
            };
            lanes.into_iter().map(of).collect()
        };
        Ok(blocking("asking for committed offsets", ask).await?)
    }

    async fn retention(
        &self,
        topics: &[String],
        timeout: Duration,
    ) -> anyhow::Result<BTreeMap<String, Option<Duration>>> {
        let names: Vec<&String> = topics.iter().collect();
        let configs = self.configs(&names, timeout).await?;
        let retention = |config: &ConfigResource| {
            let value = config.get("retention.ms").and_then(|entry| entry.value.as_ref()?.parse::<u64>().ok());
            // -1 means for ever, and does not parse.
            value.map(Duration::from_millis)
        };
        Ok(configs.iter().map(|(topic, config)| (topic.clone(), retention(config))).collect())
    }
}

fn options(timeout: Duration) -> AdminOptions {
    AdminOptions::new().request_timeout(Some(timeout)).operation_timeout(Some(timeout))
}

fn count(admin: &AdminClient<Quiet>, topic: &str, timeout: Duration) -> KafkaResult<Option<i32>> {
    let metadata = admin.inner().fetch_metadata(Some(topic), timeout)?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
    match found.error().map(RDKafkaErrorCode::from) {
        None => {}
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => return Ok(None),
        Some(code) => return Err(KafkaError::MetadataFetch(code)),
    }
    // A topic that is just being made has no partitions for a moment; it is not there yet.
    Ok(i32::try_from(found.partitions().len()).ok().filter(|count| *count > 0))
}

async fn blocking<T: Send + 'static>(
    doing: impl Into<String>,
    call: impl FnOnce() -> KafkaResult<T> + Send + 'static,
) -> Result<T, Error> {
    // A call that panicked or was given up by the runtime at its end.
    let answer = tokio::task::spawn_blocking(call).await.unwrap_or(Err(KafkaError::Canceled));
    answer.map_err(Error::client(doing))
}

/// Passes the client's log on, and nothing else.
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_line(level, facility, line);
    }

    fn stats_raw(&self, _text: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "a client for the cluster reports an error");
    }
}

impl ConsumerContext for Quiet {}
