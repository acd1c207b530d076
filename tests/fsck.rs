//! `seriatim fsck` on real services: clean beside a worker at work and after it, and red for each single thing that is
//! not as it must be.
//!
//! Every class of findings is provoked by one change of a row or one record, each on an entity or lane of its own, and
//! looked for by its class, what it is about, and its evidence.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

#[path = "support/services.rs"]
mod services;
#[path = "fence/stage.rs"]
mod stage;
#[path = "fsck/story.rs"]
mod story;
#[path = "fsck/tampering.rs"]
mod tampering;

use std::{collections::BTreeSet, process::Stdio};

use serde_json::{Value as Json, json};
use seriatim::fsck::Class;
use services::{Topics, Worker, kafka, logs, wait_until};
use stage::{STEP, Stage};

/// How `fsck` ended and what it said.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    report: Json,
    err: String,
}

impl Said {
    fn by(worker: &Worker) -> Self {
        let mut command = worker.command(&["fsck", "-o", "json", "--findings", "1000"]);
        let done = command.stdin(Stdio::null()).output().unwrap();
        let report = serde_json::from_slice(&done.stdout).unwrap_or(Json::Null);
        Self { code: done.status.code(), report, err: String::from_utf8_lossy(&done.stderr).into_owned() }
    }

    #[track_caller]
    fn expect_clean(self) -> Json {
        assert_eq!(self.code, Some(0), "{}\n{:#}", self.err, self.report);
        assert_eq!((&self.report["found"], &self.report["findings"]), (&json!(0), &json!([])));
        assert!(self.report["unsettled"] == 0, "{:#}", self.report);
        self.report
    }

    fn findings(&self) -> Vec<(String, String)> {
        let findings = self.report["findings"].as_array().into_iter().flatten();
        let text = |finding: &Json, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
        findings.map(|finding| (text(finding, "class"), text(finding, "about"))).collect()
    }

    fn finding(&self, class: &str, about: &str) -> Option<&Json> {
        let mut findings = self.report["findings"].as_array()?.iter();
        findings.find(|finding| finding["class"] == class && finding["about"] == about)
    }
}

fn worker(stage: &Stage) -> Worker {
    Worker::new(&stage.brokers, &stage.topics, &stage.database)
        // What is compared with the outbox must still be there.
        .with("RETENTION__OUTBOX_INTERVAL", "1h")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_found_beside_a_worker_at_work_nor_after_it_and_every_change_is() {
    let stage = Stage::new("fsck").await;
    let logs = logs(stage.topics.prefix.trim_end_matches('.'));
    let worker = worker(&stage);
    let mut process = worker.start("worker", &logs);

    // Beside it: from the first records on until it is at rest.
    let story = story::Story::begin(&stage).await;
    let mut looks = 0;
    while !story.is_told(&stage).await {
        process.expect_running();
        let said = tokio::task::block_in_place(|| Said::by(&worker));
        said.expect_clean();
        looks += 1;
        story.go_on(&stage, looks).await;
    }
    process.expect_no_panic();
    process.stop(STEP).await;

    let report = Said::by(&worker).expect_clean();
    println!("{looks} looks beside the worker; at rest: {report:#}");
    for outcome in ["applied", "refused", "duplicate", "dead_lettered", "applied_or_duplicate", "held"] {
        assert!(
            report["outcomes"].as_array().unwrap().iter().any(|row| row["outcome"] == outcome),
            "{outcome}: {report:#}"
        );
    }
    assert_eq!(report["not_at_rest"], 0);

    let expected = tampering::everywhere(&stage).await;
    let said = Said::by(&worker);
    assert_eq!(said.code, Some(1), "{said:#?}");
    let found: BTreeSet<(String, String)> = said.findings().into_iter().collect();
    let wanted: BTreeSet<(String, String)> =
        expected.iter().map(|one| (one.class.as_str().to_owned(), one.about.clone())).collect();
    let missed: Vec<_> = wanted.difference(&found).collect();
    let strange: Vec<_> = found.difference(&wanted).collect();
    assert!(missed.is_empty() && strange.is_empty(), "missed {missed:#?}\nstrange {strange:#?}\n{:#}", said.report);
    for one in &expected {
        let finding = said.finding(one.class.as_str(), &one.about).unwrap();
        for name in one.evidence {
            assert!(!finding["evidence"][*name].is_null(), "{name} of {finding:#}");
        }
        assert!(finding["mend"].as_str().unwrap().starts_with("seriatim "), "{finding:#}");
    }
    let provoked: BTreeSet<Class> = expected.iter().map(|one| one.class).collect();
    assert_eq!(provoked, Class::ALL.iter().copied().collect(), "classes that nothing provokes");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sqlite_file_is_compared_as_well() {
    let stage = Stage::new("fsck-sqlite").await;
    let logs = logs(stage.topics.prefix.trim_end_matches('.'));
    let file = logs.join("worker.db");
    let url = format!("sqlite:{}", file.display());
    let worker = Worker::at(&stage.brokers, &stage.topics, &url);
    worker.migrate();
    let mut process = worker.start("worker", &logs);
    stage.send("profiles", (1..=40).map(|at| story::profile("u-1", "a", at)).collect()).await;
    stage
        .send(
            "activity",
            (1..=200).map(|at| stage::Event::counted(&format!("c-{}", at % 7), format!("e-{at}"), 1)).collect(),
        )
        .await;
    let read_all = || async {
        let said = tokio::task::block_in_place(|| Said::by(&worker)).expect_clean();
        said["records"] == 240
    };
    wait_until("all is read, and clean at every look", STEP, read_all).await;
    process.expect_running();
    process.stop(STEP).await;

    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    let sql = "delete from seriatim_journal where entity_id = 'u-1' and version = 7";
    assert_eq!(sqlx::query(sql).execute(&pool).await.unwrap().rows_affected(), 1);
    pool.close().await;
    let said = Said::by(&worker);
    let classes: BTreeSet<String> = said.findings().into_iter().map(|(class, _)| class).collect();
    assert_eq!(said.code, Some(1));
    assert_eq!(classes, BTreeSet::from(["record_lost".to_owned(), "version_missing".to_owned()]), "{said:#?}");
    stage.end().await;
}

#[test]
fn services_out_of_reach_end_it_with_their_own_code() {
    let brokers = kafka();
    let topics = Topics { prefix: "nowhere.".to_owned() };
    let worker = Worker::at(&brokers, &topics, "postgres://postgres@127.0.0.1:1/none");
    assert_eq!(Said::by(&worker).code, Some(69));
    let folder = logs(&services::unique("fsck-unreachable"));
    let url = format!("sqlite:{}/worker.db", folder.display());
    let worker = Worker::at("127.0.0.1:1", &topics, &url).with("KAFKA__METADATA_TIMEOUT", "1s");
    worker.migrate();
    let said = Said::by(&worker);
    assert_eq!(said.code, Some(69), "{said:?}");
    let worker = Worker::at(&brokers, &topics, &url);
    let said = Said::by(&worker);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("is missing"), "{said:?}");
}

#[test]
fn every_class_stands_in_the_page_with_its_command() {
    let page = include_str!("../docs/fsck.md");
    for class in Class::ALL {
        let line = page.lines().find(|line| line.starts_with(&format!("| `{}` |", class.as_str())));
        assert!(line.is_some_and(|line| line.contains("`seriatim ")), "{}", class.as_str());
    }
}
