//! `check`, and how the other commands end when what they need is not there.

use std::fs;

use serde_json::{Value as Json, json};

use crate::{Folder, Said, manifests, seriatim};

fn check(folder: &str, more: &[&str]) -> Said {
    seriatim(&[&["check", "-o", "json", "--dir", folder], more].concat(), &[])
}

/// The problems about one subject.
fn problems(said: &Said, subject: &str) -> Vec<String> {
    let Json::Array(findings) = said.json() else { panic!("{said:?}") };
    let of_subject = findings.iter().filter(|finding| finding["subject"] == subject);
    of_subject.map(|finding| finding["problem"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_repository_passes_its_own_check() {
    let said = check(manifests().to_str().unwrap(), &[]).ends(0);
    assert_eq!(said.json(), json!([]));
}

#[test]
fn check_finds_everything_that_does_not_fit_the_worker() {
    let folder = Folder::of_manifests();
    fs::remove_file(folder.0.join("profiles.yaml")).unwrap();
    folder.change("dlq.stock.yaml", "partitions: 12", "partitions: 11");
    folder.change("payments.yaml", "retention.ms: 604800000", "retention.ms: 999604800000");
    folder.change("activity.yaml", "cleanup.policy: delete", "cleanup.policy: compact");
    let said = check(folder.path(), &[]).ends(1);
    assert!(problems(&said, "profiles")[0].contains("has no manifest"), "{said:?}");
    assert!(problems(&said, "dlq.stock")[0].contains("has 11 partitions"), "{said:?}");
    assert!(problems(&said, "payments")[0].contains("longer than dedupe.window"), "{said:?}");
    assert!(problems(&said, "activity")[0].contains("must be delete"), "{said:?}");
    assert_eq!(said.json().as_array().unwrap().len(), 4, "{said:?}");
}

#[test]
fn check_lists_every_problem_of_every_broken_manifest() {
    let folder = Folder::of_manifests();
    folder.change("stock.yaml", "partitions: 12", "partitions: -1");
    folder.change("stock.yaml", "kind: KafkaTopic", "kind: Topic");
    folder.change("payments.yaml", "replicas: 3", "replicas: many");
    let said = check(folder.path(), &[]).ends(1);
    let problems = problems(&said, folder.path());
    for expected in ["stock.yaml: spec.partitions", "stock.yaml: kind", "payments.yaml: spec.replicas"] {
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{expected}: {problems:?}");
    }
}

#[test]
fn check_ends_with_78_on_a_wrong_configuration_and_still_reads_the_manifests() {
    let folder = Folder::of_manifests();
    fs::remove_file(folder.0.join("stock.yaml")).unwrap();
    let said = check(folder.path(), &["--set", "batch.wait=soon"]).ends(78);
    assert_eq!(said.json()[0]["area"], "configuration");
    assert!(!problems(&said, "batch.wait (flag --set)").is_empty(), "{said:?}");
    assert!(!problems(&said, "stock").is_empty(), "{said:?}");
}

#[test]
fn a_database_out_of_reach_ends_every_command_that_reads_it_with_69() {
    let nowhere = [("SERIATIM_DATABASE__URL", "postgres://nobody@127.0.0.1:1/nothing")];
    for line in ["entity show stock tea", "saga list", "saga show p-1", "dlq list", "dlq show stock 0 0", "lane list"] {
        let words: Vec<&str> = line.split(' ').collect();
        seriatim(&words, &nowhere).ends(69).says("the database cannot be reached");
    }
}

#[test]
fn a_database_that_is_behind_is_told_with_what_to_do() {
    let folder = Folder::new();
    let url = format!("sqlite:{}/behind.db", folder.path());
    for line in ["saga list", "entity skip stock tea", "dlq replay stock 0 0", "lane accept stock 0 --yes"] {
        let words: Vec<&str> = line.split(' ').collect();
        seriatim(&words, &[("SERIATIM_DATABASE__URL", &url)]).ends(1).says("seriatim migrate up");
    }
}

#[test]
fn an_empty_database_has_empty_lists_and_knows_nobody() {
    let folder = Folder::new();
    let url = format!("sqlite:{}/fresh.db", folder.path());
    let here = [("SERIATIM_DATABASE__URL", url.as_str())];
    seriatim(&["migrate", "up"], &here).ends(0);
    for list in ["saga", "dlq", "lane"] {
        assert_eq!(seriatim(&[list, "list", "-o", "json"], &here).ends(0).json(), json!([]));
        seriatim(&[list, "list"], &here).ends(0);
    }
    seriatim(&["entity", "show", "stock", "tea"], &here).ends(1).says("nothing is known of stock \"tea\"");
    seriatim(&["entity", "release", "stock", "tea"], &here).ends(1).says("no worker has ever started");
    seriatim(&["saga", "show", "p-1"], &here).ends(1).says("there is no saga \"p-1\"");
    seriatim(&["dlq", "show", "stock", "0", "7"], &here).ends(1).says("no dead letter of stock/0 offset 7");
    seriatim(&["dlq", "discard", "nonsense", "0", "7"], &here).ends(1).says("nonsense is no home topic; known are");
    seriatim(&["lane", "accept", "stock", "3", "--yes"], &here).ends(1).says("no worker has ever held lane stock/3");
}
