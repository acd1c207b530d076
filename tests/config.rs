//! The configuration through the real binary: what an operator sees.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use seriatim::config::{Config, Need, Sources};

/// A file that goes when the test ends.
struct Written(PathBuf);

impl Written {
    fn new(content: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("seriatim-config-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::write(&path, content).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

fn show(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_seriatim"))
        .args(["config", "show", "-o", "json"])
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

/// Value and origin by key.
fn settings(arguments: &[&str], environment: &[(&str, &str)]) -> BTreeMap<String, (String, String)> {
    let output = show(arguments, environment);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rows: Vec<BTreeMap<String, String>> = serde_json::from_slice(&output.stdout).unwrap();
    rows.into_iter().map(|row| (row["key"].clone(), (row["value"].clone(), row["origin"].clone()))).collect()
}

/// What stands on standard error of a configuration that is refused.
fn refusal(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let output = show(arguments, environment);
    let says = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{says}");
    assert!(output.stdout.is_empty());
    says
}

fn value(settings: &BTreeMap<String, (String, String)>, key: &str) -> String {
    settings[key].0.clone()
}

#[test]
fn every_problem_is_told_at_once_with_its_key_and_origin() {
    let file = Written::new(
        "kafka:\n  brokres: localhost:9092\n  protocol: telepathy\nsaga:\n  reserve_deadline: soon\nbatch: 7\ncolour: red\n",
    );
    let says = refusal(
        &["--config", file.path(), "--set", "batch.wait=2m", "--set", "nonsense"],
        &[
            ("SERIATIM_BATCH__RECORDS_MAX", "-1"),
            ("SERIATIM_KAFKA_GROUP_ID", "x"),
            ("SERIATIM_SERVICE_HOST", "1.2.3.4"),
        ],
    );
    let from_file = format!("(file {})", file.path());
    for expected in [
        "the configuration has 9 problems",
        &format!("kafka.brokres {from_file}: is not a known key; did you mean kafka.brokers?"),
        &format!("kafka.protocol {from_file}: `telepathy` is not one of: classic, consumer"),
        &format!("saga.reserve_deadline {from_file}: `soon` is not a duration; write it like 15s"),
        &format!("batch {from_file}: is a section"),
        &format!("colour {from_file}: is not a known key"),
        "batch.wait (flag --set): 2m is out of bounds; allowed are 0s to 1s",
        "batch.records_max (environment SERIATIM_BATCH__RECORDS_MAX): `-1` is not a whole number",
        "--set (flag --set): must look like section.key=value",
        "kafka.group_id (environment SERIATIM_KAFKA_GROUP_ID): is not read by this name; did you mean \
         SERIATIM_KAFKA__GROUP_ID?",
    ] {
        assert!(says.contains(expected), "missing: {expected}\nin: {says}");
    }
    assert!(!says.contains("SERVICE_HOST"), "{says}");
}

#[test]
fn a_file_that_is_no_configuration_is_refused() {
    let deep = "[".repeat(100_000);
    let twice = "kafka:\n  group_id: a\n  group_id: b\n";
    let bomb = "a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n\
                d: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e]\n";
    for content in [&deep, twice, "- a\n- b\n", "batch: {1: 2}\n", "\u{0}", &"#".repeat(2 << 20), bomb] {
        let file = Written::new(content);
        let says = refusal(&["--config", file.path()], &[]);
        assert!(says.contains(file.path()), "{says}");
    }
    let says = refusal(&["--config", "/nowhere/at/all.yaml"], &[]);
    assert!(says.contains("--config (file /nowhere/at/all.yaml): cannot open"), "{says}");
    let empty = Written::new("# nothing\nkafka:\n");
    assert_eq!(value(&settings(&["--config", empty.path()], &[]), "kafka.group_id"), "seriatim");
}

#[test]
fn brokers_are_required_only_where_they_are_needed() {
    let read = |need| Config::read(&Sources::default(), std::iter::empty(), need);
    assert!(read(Need::Nothing).is_ok());
    let problems = read(Need::Kafka).unwrap_err();
    assert_eq!(problems.0[0].key, "kafka.brokers");
    assert!(problems.to_string().contains("is required"), "{problems}");
}

#[test]
fn flags_stand_above_the_environment_and_that_above_the_file() {
    let file =
        Written::new("kafka:\n  group_id: from-file\n  brokers: [localhost:1, localhost:2]\nbatch:\n  wait: 1ms\n");
    let environment = [("SERIATIM_KAFKA__GROUP_ID", "from-environment"), ("SERIATIM_BATCH__WAIT", "3ms")];
    let settings =
        settings(&["--config", file.path(), "--set", "batch.wait=4ms", "--set", "batch.wait=5ms"], &environment);
    assert_eq!(value(&settings, "kafka.brokers"), "localhost:1,localhost:2");
    assert_eq!(settings["kafka.brokers"].1, format!("file {}", file.path()));
    assert_eq!(
        settings["kafka.group_id"],
        ("from-environment".to_owned(), "environment SERIATIM_KAFKA__GROUP_ID".to_owned())
    );
    assert_eq!(settings["batch.wait"], ("5ms".to_owned(), "flag --set".to_owned()));
    assert_eq!(settings["database.url"], ("sqlite:seriatim.db".to_owned(), "default".to_owned()));
}

#[test]
fn durations_and_sizes_are_written_for_people() {
    let settings = settings(
        &["--set", "saga.charge_deadline=1h 30m", "--set", "dedupe.window=10d", "--set", "batch.bytes_max=3MiB"],
        &[("SERIATIM_KAFKA__INBOX_BYTES", "8000000")],
    );
    assert_eq!(value(&settings, "saga.charge_deadline"), "1h 30m");
    assert_eq!(value(&settings, "dedupe.window"), "10d");
    assert_eq!(value(&settings, "batch.bytes_max"), "3MiB");
    assert_eq!(value(&settings, "kafka.inbox_bytes"), "8MB");
}

#[test]
fn client_properties_come_through_every_layer() {
    let file =
        Written::new("kafka:\n  properties:\n    sasl.mechanism: PLAIN\n    socket:\n      keepalive.enable: true\n");
    let settings = settings(
        &["--config", file.path(), "--set", "kafka.properties.client.rack=r1"],
        &[
            ("SERIATIM_KAFKA__PROPERTIES", "fetch.wait.max.ms=5; client.id=listed"),
            ("SERIATIM_KAFKA__PROPERTIES__CLIENT_ID", "single"),
            ("SERIATIM_KAFKA__PROPERTIES__SASL_MECHANISM", "SCRAM-SHA-512"),
        ],
    );
    for (name, expected) in [
        ("sasl.mechanism", "SCRAM-SHA-512"),
        ("socket.keepalive.enable", "true"),
        ("client.rack", "r1"),
        ("client.id", "single"),
        ("fetch.wait.max.ms", "5"),
    ] {
        assert_eq!(value(&settings, &format!("kafka.properties.{name}")), expected, "{name}");
    }
    let says = refusal(&["--set", "kafka.properties.enable.auto.commit=true"], &[]);
    assert!(says.contains("kafka.properties.enable.auto.commit (flag --set): cannot be set: offsets move"), "{says}");
}

#[test]
fn no_secret_is_ever_shown() {
    let password = Written::new("canary-in-file\n");
    let properties = Written::new("# ours\nsasl.username=canary-user\nssl.key.password=canary-key\n");
    let url = Written::new("postgres://canary-u:canary-p@localhost/shop\n");
    let arguments = ["--set", "kafka.properties.unheard.of=canary-unknown"];
    let environment = [
        ("SERIATIM_DATABASE__URL_FILE", url.path()),
        ("SERIATIM_KAFKA__PROPERTIES__SASL_PASSWORD_FILE", password.path()),
        ("SERIATIM_KAFKA__PROPERTIES_FILE", properties.path()),
    ];
    let settings = settings(&arguments, &environment);
    assert_eq!(value(&settings, "database.url"), "postgres://(hidden)@localhost/shop");
    for name in ["sasl.password", "sasl.username", "ssl.key.password", "unheard.of"] {
        assert_eq!(value(&settings, &format!("kafka.properties.{name}")), "(hidden)", "{name}");
    }
    assert!(!format!("{settings:?}").contains("canary"), "{settings:?}");
}

#[test]
fn a_refused_secret_is_not_repeated() {
    let broken = Written::new("database:\n  url: [canary\n");
    for (arguments, environment) in [
        (vec!["--set", "database.url=mysql://canary:canary@localhost/x"], vec![]),
        (vec!["--set", "canary"], vec![]),
        (vec!["--config", broken.path()], vec![]),
        (vec![], vec![("SERIATIM_DATABASE__URL", "postgres://u:canary@db.example/x")]),
        (vec![], vec![("SERIATIM_KAFKA__PROPERTIES", "canary")]),
    ] {
        let says = refusal(&arguments, &environment);
        assert!(!says.contains("canary"), "{says}");
    }
}

#[test]
fn a_secret_given_twice_on_one_layer_is_refused_and_the_stronger_layer_wins() {
    let url = Written::new("sqlite:from-file.db");
    let both = [("SERIATIM_DATABASE__URL", "sqlite:direct.db"), ("SERIATIM_DATABASE__URL_FILE", url.path())];
    assert!(refusal(&[], &both).contains("is given beside database.url_file"));
    let settings_by_path = settings(&["--set", &format!("database.url_file={}", url.path())], &both[..1]);
    assert_eq!(value(&settings_by_path, "database.url"), "sqlite:from-file.db");
    let settings_by_flag = settings(&["--set", "database.url=sqlite:flag.db"], &both[1..]);
    assert_eq!(value(&settings_by_flag, "database.url"), "sqlite:flag.db");
}

#[test]
fn plain_text_leaves_this_machine_only_with_the_flag() {
    let far = ["--set", "kafka.brokers=localhost:9092,kafka.example:9092"];
    let far_database = ["--set", "database.url=postgres://u@db.example/x?sslmode=require"];
    let says = refusal(&[far, far_database].concat(), &[]);
    assert!(says.contains("kafka.brokers (flag --set): plain-text Kafka to kafka.example:9092"), "{says}");
    assert!(says.contains("database.url (flag --set): an unverified connection"), "{says}");
    settings(&[&far[..], &far_database, &["--insecure-dev"]].concat(), &[]);
    let protocol = |name| ["--set", ["kafka.properties.security.protocol=", name].concat().leak()];
    refusal(&[far, protocol("sasl_plaintext")].concat(), &[]);
    settings(&[far, protocol("SASL_SSL")].concat(), &[]);
    let blind = ["--set", "kafka.properties.enable.ssl.certificate.verification=false"];
    let says = refusal(&[far, protocol("ssl"), blind].concat(), &[]);
    assert!(says.contains("certificates would not be checked"), "{says}");
    settings(&["--set", "kafka.brokers=localhost:9092", "--set", "database.url=postgres://u@[::1]/x"], &[]);
}

#[test]
fn values_that_do_not_fit_together_are_refused_with_the_reason() {
    let says = refusal(&["--set", "saga.charge_deadline=1m", "--set", "retry.backoff_min=1m"], &[]);
    assert!(says.contains("all requests of a capture must fit before the deadline of the charge"), "{says}");
    assert!(says.contains("saga.capture_attempts = 5"), "{says}");
    assert!(says.contains("retry.backoff_min, retry.backoff_max (flag --set): the shortest pause"), "{says}");
    let kept = ["--set", "retention.saga=30m", "--set", "retention.journal=30s", "--set", "retention.interval=1h"];
    assert!(refusal(&kept, &[]).contains("retention.journal (flag --set): 30s is out of bounds"));
    let kept = ["--set", "retention.saga=30m", "--set", "retention.journal=30m", "--set", "retention.interval=1h"];
    let says = refusal(&kept, &[]);
    assert!(says.contains("a saga that is over must be shown for as long as an answer to it may come late"), "{says}");
    assert!(says.contains("what may go must be looked for at least once in the time that it is kept"), "{says}");
}

#[test]
fn the_page_on_configuration_lists_every_setting_with_its_default() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    let page = fs::read_to_string(page).unwrap();
    let told: BTreeMap<String, String> = page
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            let key = cells.next()?.trim_end_matches('`').to_owned();
            Some((key, cells.next()?.trim_matches('`').replace("none", "")))
        })
        .collect();
    let mut known: BTreeMap<String, String> =
        settings(&[], &[]).into_iter().map(|(key, (value, _))| (key, value)).collect();
    // As many as this machine has.
    known.insert("writers.count".to_owned(), "2 × cores".to_owned());
    assert_eq!(told, known);
}
