//! `check`: configuration, topic manifests and saga definitions, without any network.
//!
//! What can be found before a worker starts should be found in a pipeline, and all of it in one run.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value as Json;
use seriatim::{
    config::{Config, Need, Problems},
    core::{catalog::Catalog, explore},
    failure::Exit,
    kafka::{self, Manifest},
    shop,
};

use super::{
    arguments::{Manifests, Reading, Settings},
    print,
};

/// One thing that is wrong: what it is about, and what is wrong with it.
type Finding = (&'static str, String, String);

/// Checks everything and lists what is wrong.
pub fn run(settings: &Settings, manifests: &Manifests, reading: Reading) -> anyhow::Result<Exit> {
    let (config, mut findings) = match Config::load(&settings.sources(), Need::Nothing) {
        Ok(config) => (Some(config), Vec::new()),
        Err(Problems(problems)) => {
            let finding = |problem: seriatim::config::Problem| {
                ("configuration", format!("{} ({})", problem.key, problem.origin), problem.says)
            };
            (None, problems.into_iter().map(finding).collect())
        }
    };
    let patience = config.as_ref().map_or_else(shop::Settings::default, |config| shop::Settings::from(&config.saga));
    // Without the prefix: manifests name topics as the team does.
    let catalog = shop::catalog(&patience, "");
    match Manifest::read_all(&manifests.dir) {
        Ok(manifests) => {
            let window = config.as_ref().map(|config| config.dedupe.window);
            findings.extend(topics(&catalog, &manifests, window));
        }
        Err(kafka::Error::Manifests(problems)) => {
            findings
                .extend(problems.into_iter().map(|problem| ("manifest", manifests.dir.display().to_string(), problem)));
        }
        Err(other) => return Err(other.into()),
    }
    let problems = explore::check_catalog(&catalog).into_iter();
    findings.extend(problems.map(|problem| ("saga", String::new(), problem)));
    let rows: Vec<Vec<Json>> = findings
        .iter()
        .map(|(area, subject, problem)| vec![(*area).into(), subject.as_str().into(), problem.as_str().into()])
        .collect();
    print::rows(reading.output, &["area", "subject", "problem"], &rows)?;
    Ok(match findings.as_slice() {
        [] => Exit::Done,
        _ if config.is_none() => Exit::Configuration,
        _ => Exit::Failed,
    })
}

/// What is wrong with how the manifests fit the worker. `window` is none if the configuration cannot be read.
fn topics(catalog: &Catalog, manifests: &[Manifest], window: Option<Duration>) -> Vec<Finding> {
    let known: BTreeMap<&str, &Manifest> =
        manifests.iter().map(|manifest| (manifest.topic.as_str(), manifest)).collect();
    let mut findings = Vec::new();
    let mut find = |topic: &str, problem: String| findings.push(("manifest", topic.to_owned(), problem));
    for topic in catalog.all_topics().filter(|topic| !known.contains_key(topic.as_str())) {
        find(&topic, "the worker uses this topic and it has no manifest".to_owned());
    }
    for topic in catalog.home_topics() {
        let Some(home) = known.get(topic) else { continue };
        let letters = Catalog::dead_letter_topic(topic);
        if let Some(letters) = known.get(letters.as_str()).filter(|letters| letters.partitions < home.partitions) {
            let (has, needs) = (letters.partitions, home.partitions);
            find(
                &letters.topic,
                format!("has {has} partitions; a dead letter keeps its partition, so it needs {needs}"),
            );
        }
        if home.config.get("cleanup.policy").is_some_and(|policy| policy != "delete") {
            find(topic, "its cleanup.policy must be delete: compaction would take events away unread".to_owned());
        }
        if let Some(window) = window
            && let Some(problem) = kept_too_long(home, window)
        {
            find(topic, problem);
        }
    }
    findings
}

/// A record that is older than what the worker remembers could be taken twice.
fn kept_too_long(home: &Manifest, window: Duration) -> Option<String> {
    let Some(text) = home.config.get("retention.ms") else {
        return Some("its retention.ms is not set: the broker's own may be longer than dedupe.window".to_owned());
    };
    match text.parse::<i64>() {
        Ok(-1) => Some("its retention.ms is -1: records older than dedupe.window would be kept".to_owned()),
        Ok(kept) if u128::try_from(kept).is_ok_and(|kept| kept <= window.as_millis()) => None,
        Ok(kept) => {
            let window = humantime::format_duration(window);
            Some(format!("its retention.ms is {kept}, longer than dedupe.window ({window})"))
        }
        Err(_) => Some(format!("its retention.ms is no number: {text:?}")),
    }
}
