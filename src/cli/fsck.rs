//! `fsck`: every record, state and message accounted for, beside a worker at work.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;

use serde_json::{Value as Json, json};
use seriatim::{
    broker::Broker,
    config::{Config, Need},
    failure::{Exit, Unreachable, unreachable},
    fsck::{self, Kept, Report},
    kafka::{Cluster, Log},
    shop,
    worker::settings::kafka_settings,
};

use super::{
    arguments::{Fsck, Settings},
    block_on,
    print::{self, Output, Part},
    run::open,
};

/// Runs it and prints what was found.
pub fn run(settings: &Settings, arguments: &Fsck) -> anyhow::Result<Exit> {
    let config = Config::load(&settings.sources(), Need::Kafka)?;
    block_on(async {
        let report = compare(&config, arguments).await.map_err(explain)?;
        clear();
        show(&report, arguments.reading.output)?;
        Ok(if report.is_clean() { Exit::Done } else { Exit::Failed })
    })
}

/// Why it has not come to its end: a failure of the run, or of what it needs before.
enum Failure {
    Before(anyhow::Error),
    Run(fsck::Error),
}

async fn compare(config: &Config, arguments: &Fsck) -> Result<Report, Failure> {
    let store = open(config).await.map_err(Failure::Before)?;
    let kafka = kafka_settings(config);
    let timeout = config.kafka.metadata_timeout;
    let broker: Arc<dyn Broker> = Arc::new(Cluster::new(&kafka).map_err(|error| Failure::Run(error.into()))?);
    let log = Log::new(&kafka, timeout).map_err(|error| Failure::Run(error.into()))?;
    let prefix = &config.topics.prefix;
    let catalog = shop::catalog(&shop::Settings::from(&config.saga), prefix);
    let kept =
        Kept { journal: config.retention.journal, ids: config.dedupe.window, letters: config.retention.dead_letter };
    let settings = fsck::Settings { findings_max: arguments.findings.into(), slack: arguments.slack, timeout, kept };
    let run = fsck::Fsck::new(catalog, (broker, log), &*store, settings, shop::laws::laws(prefix), Box::new(tell));
    run.await.map_err(Failure::Run)?.run().await.map_err(Failure::Run)
}

/// Brokers and a database that do not answer are services out of reach; all else is a failure.
fn explain(failure: Failure) -> anyhow::Error {
    clear();
    match failure {
        Failure::Before(error) => error,
        Failure::Run(fsck::Error::Store(error)) => unreachable(error),
        Failure::Run(error @ (fsck::Error::Broker(_) | fsck::Error::Kafka(_))) => {
            Unreachable { service: "Kafka".to_owned(), source: error.to_string().into() }.into()
        }
        Failure::Run(error) => error.into(),
    }
}

/// How far it is: for a person who watches, on one line that is written over.
fn tell(what: &str) {
    if io::stderr().is_terminal() {
        eprint!("\r\x1b[K{what} …");
        // A terminal that is gone need not be told.
        let _gone = io::stderr().flush();
    }
}

fn clear() {
    if io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}

fn show(report: &Report, output: Output) -> io::Result<()> {
    let columns = vec!["class", "about", "says", "mend", "evidence"];
    let findings = report.findings.iter().map(|finding| {
        let evidence = Json::Object(finding.evidence.clone());
        let texts = [finding.class.as_str(), &finding.about, &finding.says, &finding.mend];
        texts.into_iter().map(Json::from).chain([evidence]).collect()
    });
    let records: u64 = report.records.values().sum();
    let found: u64 = report.classes.values().sum();
    let classes = report.classes.iter().map(|(class, count)| vec![class.as_str().into(), (*count).into()]);
    let outcomes = report.records.iter().map(|(outcome, count)| vec![(*outcome).into(), (*count).into()]);
    let counts = [
        ("records", json!(records)),
        ("messages", json!(report.messages)),
        ("repeats", json!(report.repeats)),
        ("entities", json!(report.entities)),
        ("unsettled", json!(report.unsettled)),
        ("not_at_rest", json!(report.not_at_rest)),
        ("found", json!(found)),
    ];
    let mut parts: Vec<(&str, Part)> = counts.into_iter().map(|(name, count)| (name, Part::Value(count))).collect();
    parts.push(("outcomes", Part::Rows(vec!["outcome", "records"], outcomes.collect())));
    parts.push(("classes", Part::Rows(vec!["class", "findings"], classes.collect())));
    parts.push(("findings", Part::Rows(columns, findings.collect())));
    print::document(output, &parts)
}
