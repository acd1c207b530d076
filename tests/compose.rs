//! The compose file and the image, as far as reading them tells: no engine is needed.
//!
//! What is checked is what a person would not notice in trying it out: an open port, an image that changes under the
//! same name, a worker that starts before its topics are there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{fs, path::Path};

use serde_yaml_ng::{Mapping, Value};

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

fn services(file: &str) -> Mapping {
    let mut compose: Value = serde_yaml_ng::from_str(&read(file)).unwrap();
    compose.apply_merge().unwrap();
    compose["services"].as_mapping().unwrap().clone()
}

/// A version that the tests run against.
fn pinned(name: &str) -> String {
    let script = read("dev/lib/versions.sh");
    let line = script.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
    line.unwrap_or_else(|| panic!("dev/lib/versions.sh pins no {name}")).to_owned()
}

#[test]
fn the_worker_waits_for_everything_it_needs() {
    let services = services("docker-compose.yml");
    let waits = services["worker"]["depends_on"].as_mapping().unwrap();
    for (name, service) in &services {
        if name.as_str() == Some("worker") {
            continue;
        }
        let once = service["restart"].as_str() == Some("no");
        let expected = if once { "service_completed_successfully" } else { "service_healthy" };
        assert_eq!(waits[name]["condition"], expected, "{name:?}");
    }
}

#[test]
fn whatever_keeps_running_says_whether_it_is_healthy() {
    for file in ["docker-compose.yml", "dev/services.compose.yml"] {
        for (name, service) in services(file) {
            let once = service.get("restart").and_then(Value::as_str) == Some("no");
            assert_eq!(service.get("healthcheck").is_some(), !once, "{file}: {name:?}");
        }
    }
}

#[test]
fn ports_are_open_to_this_machine_only() {
    for file in ["docker-compose.yml", "dev/services.compose.yml"] {
        for (name, service) in services(file) {
            for port in service.get("ports").and_then(Value::as_sequence).into_iter().flatten() {
                assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{file}: {name:?} opens {port:?}");
            }
        }
    }
}

#[test]
fn the_same_broker_is_tried_out_and_tested_with() {
    let kafka = services("docker-compose.yml")["kafka"]["image"].as_str().unwrap().to_owned();
    assert_eq!(kafka, format!("apache/kafka:{}", pinned("KAFKA_VERSION")));
    let postgres = services("docker-compose.yml")["postgres"]["image"].as_str().unwrap().to_owned();
    assert!(postgres.split_once(':').is_some_and(|(_, tag)| tag.contains('.')), "{postgres} is not pinned");
}

#[test]
fn the_worker_stops_by_itself_before_it_is_killed() {
    let grace = services("docker-compose.yml")["worker"]["stop_grace_period"].as_str().unwrap().to_owned();
    let values: Value = serde_yaml_ng::from_str(&read("helm/seriatim/values.yaml")).unwrap();
    let deadline = values["config"]["shutdown"]["deadline"].as_str().unwrap().to_owned();
    let seconds = |text: String| text.strip_suffix('s').unwrap().parse::<u64>().unwrap();
    assert!(seconds(grace) >= seconds(deadline) + 10);
}

#[test]
fn the_image_runs_as_a_numbered_user_and_not_as_root() {
    let dockerfile = read("Dockerfile");
    let last = dockerfile.rsplit("\nFROM ").next().unwrap();
    let user = last.lines().find_map(|line| line.strip_prefix("USER ")).unwrap();
    assert!(user.split(':').all(|part| part.parse::<u32>().is_ok_and(|id| id > 0)), "USER {user}");
}
