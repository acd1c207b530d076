//! Topics as code: one manifest a topic, in the shape that Strimzi's operator takes.
//!
//! Whoever runs Strimzi applies the files with kubectl; whoever does not lets this program do it. All
//! problems of all files are told at once, each with its file and field.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;
use serde_yaml_ng::Value;

use super::Error;

const API_VERSIONS: [&str; 2] = ["kafka.strimzi.io/v1", "kafka.strimzi.io/v1beta2"];
const KEY: &str = "seriatim.dev/key";
const EXAMPLE: &str = "seriatim.dev/example";

/// One topic as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The topic's name.
    pub topic: String,
    /// How many partitions it has.
    pub partitions: i32,
    /// How many copies of each partition there are.
    pub replicas: i32,
    /// Its configuration, values as the broker writes them.
    pub config: BTreeMap<String, String>,
    /// What its records are keyed by, in a sentence.
    pub key: String,
    /// A record as it may stand in the topic.
    pub example: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    name: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    topic_name: Option<String>,
    partitions: Option<i32>,
    replicas: Option<i32>,
    #[serde(default)]
    config: BTreeMap<String, Value>,
}

impl Manifest {
    /// Reads every `.yaml` file of a folder, in the order of their names.
    ///
    /// # Errors
    /// [`Error::Manifests`] with all problems of all files.
    pub fn read_all(folder: &Path) -> Result<Vec<Self>, Error> {
        let mut problems = Vec::new();
        let mut texts = Vec::new();
        match std::fs::read_dir(folder).and_then(|entries| entries.collect::<Result<Vec<_>, _>>()) {
            Ok(entries) => {
                let mut paths: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
                paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
                paths.sort();
                for path in paths {
                    match std::fs::read_to_string(&path) {
                        Ok(text) => texts.push((path.display().to_string(), text)),
                        Err(error) => problems.push(format!("{}: {error}", path.display())),
                    }
                }
            }
            Err(error) => problems.push(format!("{}: {error}", folder.display())),
        }
        let texts: Vec<(&str, &str)> = texts.iter().map(|(file, text)| (file.as_str(), text.as_str())).collect();
        match Self::parse_all(&texts) {
            Ok(manifests) if problems.is_empty() => return Ok(manifests),
            Ok(_) => {}
            Err(Error::Manifests(more)) => problems.extend(more),
            Err(other) => return Err(other),
        }
        Err(Error::Manifests(problems))
    }

    /// Reads manifests from texts, each with the file's name. A text may hold several documents.
    ///
    /// # Errors
    /// [`Error::Manifests`] with all problems of all texts.
    pub fn parse_all(texts: &[(&str, &str)]) -> Result<Vec<Self>, Error> {
        let mut manifests: Vec<Self> = Vec::new();
        let mut problems = Vec::new();
        for (file, text) in texts {
            for document in serde_yaml_ng::Deserializer::from_str(text) {
                match Document::deserialize(document) {
                    Ok(document) => match document.check() {
                        Ok(manifest) if manifests.iter().any(|other| other.topic == manifest.topic) => {
                            problems.push(format!("{file}: metadata.name: topic {} stands twice", manifest.topic));
                        }
                        Ok(manifest) => manifests.push(manifest),
                        Err(more) => problems.extend(more.into_iter().map(|problem| format!("{file}: {problem}"))),
                    },
                    Err(error) => problems.push(format!("{file}: {error}")),
                }
            }
        }
        if problems.is_empty() { Ok(manifests) } else { Err(Error::Manifests(problems)) }
    }
}

impl Document {
    fn check(self) -> Result<Manifest, Vec<String>> {
        let mut problems = Vec::new();
        if !API_VERSIONS.contains(&self.api_version.as_str()) {
            problems.push(format!("apiVersion: must be {}, is {:?}", API_VERSIONS.join(" or "), self.api_version));
        }
        if self.kind != "KafkaTopic" {
            problems.push(format!("kind: must be KafkaTopic, is {:?}", self.kind));
        }
        let topic = self.spec.topic_name.unwrap_or(self.metadata.name);
        if !is_topic_name(&topic) {
            problems.push(format!("metadata.name: {topic:?} is no topic's name; spec.topicName may say another"));
        }
        let mut positive = |field: &str, value: Option<i32>| match value {
            Some(value) if value > 0 => value,
            Some(value) => {
                problems.push(format!("{field}: must be above 0, is {value}"));
                0
            }
            None => {
                problems.push(format!("{field}: is missing"));
                0
            }
        };
        let partitions = positive("spec.partitions", self.spec.partitions);
        let replicas = positive("spec.replicas", self.spec.replicas);
        let mut config = BTreeMap::new();
        for (name, value) in self.spec.config {
            match scalar(&value) {
                Some(value) => {
                    config.insert(name, value);
                }
                None => problems.push(format!("spec.config.{name}: must be a text, a number or a truth value")),
            }
        }
        let mut annotations = self.metadata.annotations;
        let mut annotation = |name: &str| {
            annotations.remove(name).filter(|text| !text.trim().is_empty()).unwrap_or_else(|| {
                problems.push(format!("metadata.annotations.{name}: is missing"));
                String::new()
            })
        };
        let (key, example) = (annotation(KEY), annotation(EXAMPLE));
        if i16::try_from(replicas).is_err() {
            problems.push(format!("spec.replicas: must fit 16 bits, is {replicas}"));
        }
        if problems.is_empty() {
            Ok(Manifest { topic, partitions, replicas, config, key, example })
        } else {
            Err(problems)
        }
    }
}

/// A configuration's value as the broker writes it.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Sequence(_) | Value::Mapping(_) | Value::Tagged(_) => None,
    }
}

fn is_topic_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=249).contains(&name.len()) && name.bytes().all(legal) && name != "." && name != ".."
}

#[cfg(test)]
mod tests {
    use super::{Error, Manifest};

    const GOOD: &str = "apiVersion: kafka.strimzi.io/v1
kind: KafkaTopic
metadata:
  name: purchase-events
  labels: {strimzi.io/cluster: main}
  annotations:
    seriatim.dev/key: the purchase's id
    seriatim.dev/example: '{}'
spec:
  topicName: purchase.events
  partitions: 12
  replicas: 3
  config:
    retention.ms: 604800000
    min.insync.replicas: \"2\"
    cleanup.policy: delete
    unclean.leader.election.enable: false
";

    #[test]
    fn numbers_and_truth_values_become_what_the_broker_writes() {
        let manifests = Manifest::parse_all(&[("a.yaml", GOOD)]).unwrap();
        let [manifest] = manifests.as_slice() else { panic!("{manifests:?}") };
        assert_eq!((manifest.topic.as_str(), manifest.partitions, manifest.replicas), ("purchase.events", 12, 3));
        let config: Vec<_> = manifest.config.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            config,
            [
                "cleanup.policy=delete",
                "min.insync.replicas=2",
                "retention.ms=604800000",
                "unclean.leader.election.enable=false"
            ]
        );
    }

    #[test]
    fn all_problems_of_all_files_are_told_with_file_and_field() {
        let bad =
            "apiVersion: v1\nkind: KafkaTopic\nmetadata: {name: 'a b'}\nspec: {partitions: 0, config: {x: [1]}}\n";
        let Err(Error::Manifests(problems)) =
            Manifest::parse_all(&[("a.yaml", bad), ("b.yaml", GOOD), ("c.yaml", GOOD), ("d.yaml", "spec: {part: 1}")])
        else {
            panic!("accepted")
        };
        for expected in [
            "a.yaml: apiVersion",
            "a.yaml: metadata.name",
            "a.yaml: spec.partitions: must be above 0",
            "a.yaml: spec.replicas: is missing",
            "a.yaml: spec.config.x",
            "a.yaml: metadata.annotations.seriatim.dev/key",
            "a.yaml: metadata.annotations.seriatim.dev/example",
            "c.yaml: metadata.name: topic purchase.events stands twice",
            "d.yaml: spec",
        ] {
            assert!(problems.iter().any(|problem| problem.starts_with(expected)), "{expected} in {problems:#?}");
        }
    }
}
