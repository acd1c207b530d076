//! The topics' manifests: what every producer and every operator reads first.
//!
//! Each is what Strimzi takes, and carries an example that keeps to its own topic's rules. The partition counts agree
//! where the worker relies on it: a dead letter goes to the partition that its record came from.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value as Json;
use serde_yaml_ng::Value;

const HOME: [&str; 5] = ["activity", "payments", "profiles", "purchases", "stock"];
const OUTPUTS: [&str; 2] = ["payment-requests", "purchase-outcomes"];

fn manifests() -> BTreeMap<String, Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("topics");
    let mut manifests = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let manifest: Value = serde_yaml_ng::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let topic = manifest["spec"]["topicName"].as_str().unwrap().to_owned();
        assert_eq!(path.file_name().unwrap().to_str().unwrap(), format!("{topic}.yaml"));
        assert!(manifests.insert(topic, manifest).is_none());
    }
    manifests
}

fn example(manifest: &Value) -> Json {
    let text = manifest["metadata"]["annotations"]["seriatim.dev/example"].as_str().unwrap();
    serde_json::from_str(text).unwrap()
}

fn partitions(manifest: &Value) -> u64 {
    manifest["spec"]["partitions"].as_u64().unwrap()
}

#[test]
fn every_topic_of_the_contract_has_a_manifest() {
    let mut expected: Vec<String> = HOME.iter().chain(&OUTPUTS).map(|topic| (*topic).to_owned()).collect();
    expected.extend(HOME.iter().map(|topic| format!("dlq.{topic}")));
    expected.sort();
    assert_eq!(manifests().into_keys().collect::<Vec<_>>(), expected);
}

#[test]
fn a_manifest_has_the_shape_that_the_operator_takes() {
    for (topic, manifest) in manifests() {
        assert_eq!(manifest["apiVersion"], "kafka.strimzi.io/v1");
        assert_eq!(manifest["kind"], "KafkaTopic");
        assert!(manifest["metadata"]["labels"]["strimzi.io/cluster"].is_string());
        let name = manifest["metadata"]["name"].as_str().unwrap();
        let part = |part: &str| {
            !part.is_empty()
                && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
                && !part.starts_with('-')
                && !part.ends_with('-')
        };
        assert!(name.len() <= 253 && name.split('.').all(part), "{topic}: Kubernetes takes no name {name}");
        let config = &manifest["spec"]["config"];
        let (replicas, in_sync) = (&manifest["spec"]["replicas"], &config["min.insync.replicas"]);
        assert!(
            in_sync.as_u64().unwrap() < replicas.as_u64().unwrap(),
            "{topic}: one lost broker would stop all writes"
        );
        assert_eq!(
            config["cleanup.policy"], "delete",
            "{topic}: compaction would take events out of an entity's order"
        );
        assert!(config["retention.ms"].as_u64().unwrap() > 0);
    }
}

#[test]
fn home_topics_have_one_partition_count() {
    let manifests = manifests();
    let counts: Vec<u64> = HOME.iter().map(|topic| partitions(&manifests[*topic])).collect();
    assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
}

#[test]
fn a_dead_letter_topic_holds_what_its_source_holds() {
    let manifests = manifests();
    for topic in HOME {
        let (source, letters) = (&manifests[topic], &manifests[&format!("dlq.{topic}")]);
        assert_eq!(partitions(source), partitions(letters), "{topic}");
        for key in ["retention.ms", "max.message.bytes"] {
            let of = |manifest: &Value| manifest["spec"]["config"][key].as_u64().unwrap();
            assert!(of(letters) > of(source), "{topic}: {key} leaves no room for the letter");
        }
    }
}

#[test]
fn an_example_is_a_record_of_its_topic() {
    for (topic, manifest) in manifests() {
        let described = manifest["metadata"]["annotations"]["seriatim.dev/key"].as_str().unwrap();
        let example = example(&manifest);
        let headers = example["headers"].as_object().unwrap();
        for (name, value) in headers {
            assert!(value.is_string(), "{topic}: header {name} is no text");
        }
        assert_eq!(headers["ce_specversion"], "1.0", "{topic}");
        for required in ["ce_id", "ce_source", "ce_type"] {
            assert!(!headers[required].as_str().unwrap().is_empty(), "{topic}: {required}");
        }
        let value = example["value"].as_object().unwrap();
        if let Some(source) = topic.strip_prefix("dlq.") {
            assert_eq!(headers["dlq.topic"], source);
            assert!(headers["dlq.reason"].is_string());
            continue;
        }
        let (field, _) = described.split_once(": ").unwrap();
        assert_eq!(example["key"], value[field], "{topic}: the key is not the data's {field}");
        for (name, field) in value {
            if name.ends_with("_minor") {
                assert!(field.is_i64(), "{topic}: {name} is no whole number");
            }
        }
    }
}
