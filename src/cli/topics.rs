//! `topics`: the broker's topics compared with their manifests, and brought to them.
//!
//! The manifests name topics as the team does; the configured prefix stands before every name that the broker sees.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value as Json;
use seriatim::{
    config::{Config, Need},
    failure::{Exit, Unreachable},
    kafka::{self, Cluster, Difference, Manifest},
    worker::settings::kafka_settings,
};

use super::{
    arguments::{Manifests, Replicas, Settings, TopicsAction},
    block_on, confirm,
    print::{self, Output},
};

/// How many replicas must have a record: with fewer replicas than this nothing could be written at all.
const MIN_INSYNC: &str = "min.insync.replicas";
/// What stands before the name of a topic for dead letters, before the prefix too.
const DEAD_LETTERS: &str = "dlq.";
/// Pause between two looks whether the broker shows a change.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// Runs `topics plan`, `apply` or `check`.
pub fn run(settings: &Settings, action: &TopicsAction) -> anyhow::Result<Exit> {
    let config = Config::load(&settings.sources(), Need::Kafka)?;
    let (folder, replicas) = match action {
        TopicsAction::Plan { manifests: Manifests { dir }, replicas, .. }
        | TopicsAction::Apply { manifests: Manifests { dir }, replicas, .. }
        | TopicsAction::Check { manifests: Manifests { dir }, replicas, .. } => (dir, replicas),
    };
    match block_on(bring(&config, folder, *replicas, action)) {
        Err(error) => match error.downcast_ref::<kafka::Error>() {
            Some(kafka::Error::Manifests(_) | kafka::Error::Settings(_)) => {
                eprintln!("seriatim: {error}");
                Ok(Exit::Configuration)
            }
            _ => Err(error),
        },
        done => done,
    }
}

async fn bring(config: &Config, folder: &Path, replicas: Replicas, action: &TopicsAction) -> anyhow::Result<Exit> {
    let manifests = read(folder, &config.topics.prefix, replicas)?;
    let cluster = Cluster::new(&kafka_settings(config))?;
    let timeout = config.kafka.metadata_timeout;
    let differences = cluster.plan(&manifests, timeout).await.map_err(unreachable)?;
    match action {
        TopicsAction::Plan { reading, .. } => {
            list(reading.output, &differences)?;
            Ok(Exit::Done)
        }
        TopicsAction::Check { reading, .. } => {
            list(reading.output, &differences)?;
            Ok(if differences.is_empty() { Exit::Done } else { Exit::Failed })
        }
        TopicsAction::Apply { .. } if differences.is_empty() => {
            println!("all {} topics are as their manifests say", manifests.len());
            Ok(Exit::Done)
        }
        TopicsAction::Apply { yes, dry_run, .. } => {
            list(Output::Text, &differences)?;
            if *dry_run {
                return Ok(Exit::Done);
            }
            if !yes && let Some(refused) = confirm("bring the topics to their manifests?")? {
                return Ok(refused);
            }
            cluster.apply(&manifests, timeout).await.map_err(unreachable)?;
            settle(&cluster, &manifests, timeout).await?;
            println!("all {} topics are as their manifests say", manifests.len());
            Ok(Exit::Done)
        }
    }
}

/// The manifests of a folder with their topics' whole names.
fn read(folder: &Path, prefix: &str, replicas: Replicas) -> Result<Vec<Manifest>, kafka::Error> {
    let mut manifests = Manifest::read_all(folder)?;
    for manifest in &mut manifests {
        manifest.topic = match manifest.topic.strip_prefix(DEAD_LETTERS) {
            Some(home) => format!("{DEAD_LETTERS}{prefix}{home}"),
            None => format!("{prefix}{}", manifest.topic),
        };
        if let Some(replicas) = replicas.replicas {
            manifest.replicas = replicas.into();
            if let Some(wanted) = manifest.config.get_mut(MIN_INSYNC)
                && wanted.parse().is_ok_and(|wanted: i64| wanted > i64::from(replicas))
            {
                *wanted = replicas.to_string();
            }
        }
    }
    if manifests.is_empty() {
        return Err(kafka::Error::Manifests(vec![format!("{}: holds no manifest", folder.display())]));
    }
    Ok(manifests)
}

/// Waits until the broker shows what was changed: it answers a change before every part of it knows.
async fn settle(cluster: &Cluster, manifests: &[Manifest], timeout: Duration) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let left = cluster.plan(manifests, timeout).await.map_err(unreachable)?;
        if left.is_empty() {
            return Ok(());
        }
        if began.elapsed() >= timeout {
            return Err(anyhow::Error::new(kafka::Error::Differences(left)).context("the change is not seen"));
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

fn list(output: Output, differences: &[Difference]) -> std::io::Result<()> {
    let row = |difference: &Difference| -> Vec<Json> {
        match difference {
            Difference::Missing { topic } => {
                vec![topic.as_str().into(), "topic".into(), "present".into(), Json::Null]
            }
            Difference::Partitions { topic, wanted, found } => {
                vec![topic.as_str().into(), "partitions".into(), (*wanted).into(), (*found).into()]
            }
            Difference::Config { topic, name, wanted, found } => {
                vec![topic.as_str().into(), name.as_str().into(), wanted.as_str().into(), found.clone().into()]
            }
        }
    };
    let rows: Vec<Vec<Json>> = differences.iter().map(row).collect();
    print::rows(output, &["topic", "what", "wanted", "found"], &rows)
}

/// Of what the client says, only that no broker answers is worth another exit code.
fn unreachable(error: kafka::Error) -> anyhow::Error {
    match error {
        // The client's errors say their causes themselves; as a chain they would say them twice.
        kafka::Error::Client { .. } => {
            Unreachable { service: "Kafka".to_owned(), source: error.to_string().into() }.into()
        }
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/topics"))
    }

    #[test]
    fn the_prefix_stands_behind_what_marks_dead_letters() {
        let manifests = read(folder(), "team.", Replicas { replicas: None }).unwrap();
        let names: Vec<&str> = manifests.iter().map(|manifest| manifest.topic.as_str()).collect();
        assert!(names.contains(&"team.purchases") && names.contains(&"dlq.team.purchases"), "{names:?}");
        assert!(names.iter().all(|name| name.contains("team.")), "{names:?}");
    }

    #[test]
    fn no_more_replicas_are_demanded_in_sync_than_there_are() {
        let of = |replicas| {
            let manifests = read(folder(), "", Replicas { replicas }).unwrap();
            let purchases = manifests.into_iter().find(|manifest| manifest.topic == "purchases").unwrap();
            (purchases.replicas, purchases.config[MIN_INSYNC].clone())
        };
        assert_eq!(of(None), (3, "2".to_owned()));
        assert_eq!(of(Some(1)), (1, "1".to_owned()));
        assert_eq!(of(Some(5)), (5, "2".to_owned()));
    }
}
