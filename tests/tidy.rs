//! Rules about the code, as tests: who may name what, how long a file may be, what never stands in a table.
//! Each rule says what it is for, so that whoever breaks it knows whether the rule or the code is wrong.

#![allow(clippy::unwrap_used, reason = "a rule that cannot read its files has failed")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Every file below a folder of the project with one of these endings, as (path, text).
fn files(folder: &str, endings: &[&str]) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = vec![root.join(folder)];
    while let Some(path) = open.pop() {
        let Ok(entries) = fs::read_dir(&path) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ending| endings.iter().any(|known| ending == *known)) {
                let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(!found.is_empty(), "nothing found below {folder}");
    found.sort();
    found
}

/// The text without its comments and without what stands below `#[cfg(test)]`.
fn code(text: &str) -> String {
    let text = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(text);
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Names of crates that a text uses, by `name::`.
fn names(text: &str, word: &str) -> bool {
    let found = |at: usize| {
        let before = text[..at].chars().next_back();
        before.is_none_or(|before| !before.is_alphanumeric() && before != '_' && before != ':')
    };
    text.match_indices(&format!("{word}::")).any(|(at, _)| found(at))
}

#[track_caller]
fn nobody(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn only_its_own_folder_names_an_outside_thing() {
    let owners: [(&str, &[&str]); 4] = [
        ("rdkafka", &["src/kafka/"]),
        ("sqlx", &["src/postgres/", "src/sqlite/"]),
        ("axum", &["src/admin/"]),
        ("prometheus", &["src/telemetry/"]),
    ];
    let mut problems = Vec::new();
    for (path, text) in files("src", &["rs"]) {
        for (name, folders) in owners {
            if names(&code(&text), name) && !folders.iter().any(|folder| path.starts_with(folder)) {
                problems.push(format!("{path} names {name}, which belongs to {}", folders.join(" and ")));
            }
        }
    }
    nobody(problems);
}

#[test]
fn the_core_is_pure() {
    let allowed =
        ["std", "serde", "serde_json", "thiserror", "uuid", "sha2", "chrono", "foldhash", "super", "crate", "self"];
    let foreign = [
        "tokio",
        "tracing",
        "anyhow",
        "async_trait",
        "clap",
        "humantime",
        "rdkafka",
        "sqlx",
        "axum",
        "prometheus",
        "serde_yaml_ng",
        "url",
        "iso_currency",
    ];
    let impure = [
        "HashMap",
        "HashSet",
        "SystemTime",
        "Instant",
        "Utc::now",
        "new_v4",
        "async fn",
        "std::env",
        "std::fs",
        "std::net",
        "std::thread",
    ];
    let mut problems = Vec::new();
    for (path, text) in files("src/core", &["rs"]) {
        let code = code(&text);
        for name in foreign {
            if names(&code, name) {
                problems.push(format!("{path} names the crate {name}; the core names only {}", allowed.join(", ")));
            }
        }
        // The one home of a map without an order, which it does not show.
        let excused = if path == "src/core/lookup.rs" { "HashMap" } else { "" };
        for word in impure {
            if code.contains(word) && word != excused {
                problems
                    .push(format!("{path} has {word}: the same inputs must give the same outputs in every process"));
            }
        }
        for folder in
            ["kafka", "postgres", "sqlite", "memory", "worker", "admin", "shop", "config", "store", "telemetry"]
        {
            if code.contains(&format!("crate::{folder}")) {
                problems.push(format!("{path} names crate::{folder}: the core knows nobody"));
            }
        }
    }
    nobody(problems);
}

#[test]
fn clocks_and_environment_have_one_reader() {
    let mut problems = Vec::new();
    for (path, text) in files("src", &["rs"]) {
        let code = code(&text);
        if (code.contains("SystemTime") || code.contains("Utc::now")) && path != "src/worker/clock.rs" {
            problems.push(format!("{path} reads the wall clock"));
        }
        if (code.contains("env::var") || code.contains("env::vars")) && !path.starts_with("src/config/") {
            problems.push(format!("{path} reads the environment"));
        }
        let elsewhere = ["src/telemetry/", "src/core/", "src/sqlite/"].iter().all(|folder| !path.starts_with(folder));
        if code.contains("\"seriatim_") && elsewhere {
            problems.push(format!("{path} spells a metric's or header's name"));
        }
    }
    nobody(problems);
}

#[test]
fn only_commit_claim_and_trim_open_a_writing_transaction() {
    let mut problems = Vec::new();
    for folder in ["src/postgres", "src/sqlite"] {
        for (path, text) in files(folder, &["rs"]) {
            let code = code(&text).to_lowercase();
            let opens = code.contains("\"begin") || code.contains(".begin(");
            let may = ["commit.rs", "claim.rs", "trim.rs", "connection.rs", "migrate.rs"]
                .iter()
                .any(|name| path.ends_with(name));
            if opens && !may {
                problems.push(format!("{path} opens a transaction"));
            }
        }
    }
    nobody(problems);
}

#[test]
fn nothing_is_produced_but_from_the_outbox() {
    let mut problems = Vec::new();
    for (path, text) in files("src", &["rs"]) {
        let code = code(&text);
        let makes =
            code.contains("Producer::start") || code.contains("ThreadedProducer") || code.contains("FutureProducer");
        let may = ["src/kafka/", "src/worker/relay", "src/demo/", "src/cli/demo"]
            .iter()
            .any(|folder| path.starts_with(folder));
        if makes && !may {
            problems.push(format!("{path} makes a producer: messages go out through the relay"));
        }
    }
    nobody(problems);
}

#[test]
fn the_shop_uses_only_what_the_library_shows() {
    let inner = [
        "pub(crate)",
        "crate::worker",
        "crate::kafka",
        "crate::postgres",
        "crate::sqlite",
        "crate::memory",
        "crate::admin",
    ];
    let mut problems = Vec::new();
    for (path, text) in files("src/shop", &["rs"]) {
        for word in inner {
            if code(&text).contains(word) {
                problems.push(format!("{path} has {word}"));
            }
        }
    }
    // What is hidden from users inside the core must not be reached for from the shop.
    let hidden: Vec<String> = files("src/core", &["rs"])
        .into_iter()
        .flat_map(|(_, text)| {
            let visible = |line: &str| line.trim_start().strip_prefix("pub(crate) ").map(str::to_owned);
            code(&text).lines().filter_map(visible).collect::<Vec<_>>()
        })
        .filter_map(|line| line.strip_prefix("fn ").map(|rest| rest.split(['(', '<']).next().unwrap_or("").to_owned()))
        .collect();
    for (path, text) in files("src/shop", &["rs"]) {
        for name in hidden.iter().filter(|name| name.len() > 4) {
            if code(&text).contains(&format!(".{name}(")) {
                problems.push(format!("{path} calls {name}, which the library does not show"));
            }
        }
    }
    nobody(problems);
}

#[test]
fn no_constraint_leaves_an_entity() {
    // An entity's tables in the shop; a foreign key may only tie rows that begin with the same key.
    let homes = [("reservation", "stock"), ("purchase_line", "purchase")];
    let mut problems = Vec::new();
    for (path, text) in files("migrations", &["sql"]) {
        let text: String = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("--"))
            .collect::<Vec<_>>()
            .join("\n")
            .replace('"', "");
        let mut table = String::new();
        for line in text.lines().map(str::trim) {
            if let Some(rest) = line.strip_prefix("create table ") {
                let name = rest.trim_end_matches(" (").rsplit(['.', ' ']).next().unwrap_or("");
                table = name.trim_start_matches("shop_").trim_start_matches("seriatim_").to_owned();
            }
            if line.contains("unique") || line.starts_with("create unique index") {
                problems.push(format!("{path}: {line}: uniqueness across entities is an entity of its own"));
            }
            if let Some((_, to)) = line.split_once("references ") {
                let to = to.split([' ', '(']).next().unwrap_or("").rsplit('.').next().unwrap_or("");
                let to = to.trim_start_matches("shop_").trim_start_matches("seriatim_");
                if !homes.contains(&(table.as_str(), to)) {
                    problems.push(format!("{path}: {table} refers to {to}, which another lane may own"));
                }
            }
        }
    }
    nobody(problems);
}

#[test]
fn files_fit_a_reader_and_functions_a_screen() {
    let mut problems = Vec::new();
    for folder in ["src", "tests"] {
        for (path, text) in files(folder, &["rs", "py"]) {
            let lines = text.lines().count();
            if lines > 400 {
                problems.push(format!("{path} has {lines} lines; at most 400 fit a reader"));
            }
            if path.ends_with(".rs") {
                problems.extend(long_functions(&path, &text));
            }
        }
    }
    nobody(problems);
}

/// Functions over 70 lines, by indentation: formatting is checked, so it can be relied on.
fn long_functions(path: &str, text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let mut problems = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let body = line.trim_start();
        let is_function = [
            "fn ",
            "pub fn ",
            "async fn ",
            "pub async fn ",
            "pub(super) fn ",
            "pub(super) async fn ",
            "pub(crate) fn ",
        ]
        .iter()
        .any(|head| body.starts_with(head));
        if !is_function || body.ends_with(';') || body.ends_with('}') {
            continue;
        }
        let end = format!("{}}}", " ".repeat(line.len() - body.len()));
        let length = lines[start..].iter().position(|line| **line == end).unwrap_or(0) + 1;
        if length > 70 {
            problems.push(format!(
                "{path}:{}: {} has {length} lines; at most 70 fit a screen",
                start + 1,
                body.trim_end_matches(" {")
            ));
        }
    }
    problems
}

#[test]
fn every_file_says_what_it_is_for() {
    let mut problems = Vec::new();
    for folder in ["src", "tests"] {
        for (path, text) in files(folder, &["rs"]) {
            if !text.starts_with("//!") {
                problems.push(format!("{path} does not begin with what it is for"));
            }
        }
    }
    for (path, text) in files("migrations", &["sql"]) {
        if !text.starts_with("--") {
            problems.push(format!("{path} does not begin with why"));
        }
    }
    nobody(problems);
}

#[test]
fn nothing_is_left_for_later() {
    let words =
        ["TO".to_owned() + "DO", "FIX".to_owned() + "ME", "unimpl".to_owned() + "emented!", "#[ign".to_owned() + "ore"];
    let mut problems = Vec::new();
    for folder in ["src", "tests", "migrations", "helm", "topics", "dev"] {
        for (path, text) in files(folder, &["rs", "py", "sql", "yaml", "tpl", "sh", "java", ""]) {
            for word in &words {
                if text.contains(word.as_str()) {
                    problems.push(format!("{path} has {word}"));
                }
            }
        }
    }
    nobody(problems);
}

#[test]
fn files_are_named_for_what_they_do() {
    let banned = ["util", "utils", "helper", "helpers", "common", "misc", "manager", "impl"];
    let mut problems = Vec::new();
    for (path, _) in files("src", &["rs"]) {
        let stem = Path::new(&path).file_stem().unwrap().to_string_lossy().into_owned();
        if banned.contains(&stem.as_str()) {
            problems.push(format!("{path}: the name says nothing"));
        }
    }
    nobody(problems);
}

#[test]
fn both_stores_have_the_same_migrations() {
    let numbered = |folder: &str| -> BTreeSet<String> {
        files(folder, &["sql"]).into_iter().map(|(path, _)| path.rsplit('/').next().unwrap_or("").to_owned()).collect()
    };
    assert_eq!(numbered("migrations/postgres"), numbered("migrations/sqlite"));
    assert_eq!(numbered("migrations/shop/postgres"), numbered("migrations/shop/sqlite"));
}
