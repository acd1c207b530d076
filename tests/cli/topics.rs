//! `topics`: from an empty cluster to one that is as the manifests say, and back to it after somebody changed it.

use std::time::Duration;

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier},
    client::DefaultClientContext,
};

use crate::{
    Folder, Said, manifests, seriatim,
    services::{Topics, kafka, unique},
};

struct Place {
    brokers: String,
    topics: Topics,
}

impl Place {
    fn say(&self, action: &str, more: &[&str]) -> Said {
        let environment =
            [("SERIATIM_KAFKA__BROKERS", self.brokers.as_str()), ("SERIATIM_TOPICS__PREFIX", &self.topics.prefix)];
        let folder = manifests().to_str().unwrap();
        seriatim(&[&["topics", action, "--dir", folder, "--replicas", "1"], more].concat(), &environment)
    }

    /// Sets a value behind the manifests' back.
    async fn alter(&self, topic: &str, name: &str, value: &str) {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", &self.brokers).create().unwrap();
        let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(name, value);
        for answer in admin.alter_configs(&[change], &AdminOptions::new()).await.unwrap() {
            answer.unwrap();
        }
    }
}

#[tokio::test]
async fn topics_are_created_with_their_prefix_and_kept_as_their_manifests_say() {
    let place = Place { brokers: kafka(), topics: Topics { prefix: format!("{}.", unique("topics")) } };
    let planned = place.say("plan", &["-o", "json"]).ends(0).json();
    let planned = planned.as_array().unwrap();
    assert_eq!(planned.len(), 12, "{planned:?}");
    let letters = place.topics.dead_letters("purchases");
    assert!(planned.iter().any(|row| row["topic"] == letters.as_str() && row["what"] == "topic"), "{planned:?}");

    place.say("apply", &[]).ends(2).says("give --yes");
    place.say("apply", &["--dry-run"]).ends(0).says(&letters);
    place.say("check", &[]).ends(1).says(&letters);

    place.say("apply", &["--yes"]).ends(0).says("all 12 topics are as their manifests say");
    let checked = place.say("check", &["-o", "json"]).ends(0).json();
    assert_eq!(checked, serde_json::json!([]));
    place.say("apply", &[]).ends(0).says("all 12 topics are as their manifests say");

    let stock = place.topics.name("stock");
    place.alter(&stock, "retention.ms", "1234567").await;
    crate::services::wait_until("the change is seen", Duration::from_secs(30), || async {
        place.say("check", &[]).code == Some(1)
    })
    .await;
    let found = place.say("check", &["-o", "json"]).ends(1).json();
    let row = found.as_array().unwrap().iter().find(|row| row["what"] == "retention.ms").unwrap();
    assert_eq!((row["topic"].as_str(), row["found"].as_str()), (Some(stock.as_str()), Some("1234567")), "{found}");
    place.say("apply", &["--yes"]).ends(0);
    place.say("check", &[]).ends(0);

    // Another number of partitions is refused, not changed.
    let folder = Folder::of_manifests();
    folder.change("stock.yaml", "partitions: 12", "partitions: 24");
    let environment =
        [("SERIATIM_KAFKA__BROKERS", place.brokers.as_str()), ("SERIATIM_TOPICS__PREFIX", &place.topics.prefix)];
    seriatim(&["topics", "apply", "--replicas", "1", "--yes", "--dir", folder.path()], &environment)
        .ends(1)
        .says("cannot be changed in place");
    place.topics.clone().delete(&place.brokers).await;
}

#[test]
fn broken_manifests_end_with_78_and_are_told_at_once() {
    let folder = Folder::of_manifests();
    folder.change("stock.yaml", "partitions: 12", "partitions: 0");
    folder.change("payments.yaml", "kind: KafkaTopic", "kind: Topic");
    let nowhere = [("SERIATIM_KAFKA__BROKERS", "127.0.0.1:1")];
    for action in ["plan", "apply", "check"] {
        let said = seriatim(&["topics", action, "--dir", folder.path()], &nowhere).ends(78);
        said.says("stock.yaml: spec.partitions: must be above 0").says("payments.yaml: kind: must be KafkaTopic");
    }
    let empty = Folder::new();
    seriatim(&["topics", "plan", "--dir", empty.path()], &nowhere).ends(78).says("holds no manifest");
}

#[test]
fn a_broker_out_of_reach_ends_with_69() {
    let environment = [("SERIATIM_KAFKA__BROKERS", "127.0.0.1:1"), ("SERIATIM_KAFKA__METADATA_TIMEOUT", "1s")];
    for action in ["plan", "check"] {
        let folder = manifests().to_str().unwrap();
        seriatim(&["topics", action, "--dir", folder], &environment).ends(69).says("Kafka cannot be reached");
    }
    seriatim(&["topics", "plan"], &[]).ends(78).says("kafka.brokers");
}
