//! The chart and the topics' manifests, as a cluster would get them.
//!
//! helm renders the chart; the claims are about what it rendered, not about the templates' text. Values that must not be
//! rendered are tried as well: what a schema does not refuse, a cluster will run. helm is found by the variable
//! `SERIATIM_TEST_HELM`, in `.services/bin`, or on the path; `dev/test` brings one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde::Deserialize;
use serde_yaml_ng::{Deserializer, Value};

/// The version of Kubernetes that is rendered for: without a cluster, helm's own default depends on how it was built.
const KUBERNETES: &str = "1.31.0";
const MINIMAL: &str = "helm/seriatim/ci/minimal.yaml";
const FULL: &str = "helm/seriatim/ci/full.yaml";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn helm(arguments: &[&str]) -> Output {
    let built = root().join(".services/bin/helm");
    let program = match std::env::var_os("SERIATIM_TEST_HELM") {
        Some(named) => PathBuf::from(named),
        None if built.exists() => built,
        None => PathBuf::from("helm"),
    };
    Command::new(&program)
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap_or_else(|error| panic!("no helm at {}: {error}; run the tests with dev/test", program.display()))
}

fn template(values: &str, settings: &[&str]) -> Output {
    let mut arguments = vec!["template", "shop", "helm/seriatim", "--kube-version", KUBERNETES, "--values", values];
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    helm(&arguments)
}

/// Everything that is rendered, by kind. A kind occurs at most once, and that is checked here.
fn render(values: &str, settings: &[&str]) -> BTreeMap<String, Value> {
    let output = template(values, settings);
    assert!(output.status.success(), "helm refused: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut rendered = BTreeMap::new();
    for document in Deserializer::from_str(&text) {
        let document = Value::deserialize(document).unwrap();
        let kind = text_at(&document, "kind").to_owned();
        assert!(rendered.insert(kind.clone(), document).is_none(), "{kind} is rendered twice");
    }
    rendered
}

/// What helm says when it must refuse.
fn refusal(values: &str, settings: &[&str]) -> String {
    let output = template(values, settings);
    assert!(!output.status.success(), "helm rendered {settings:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The value at a path of keys and indexes with slashes between; `~` stands for a slash inside a key.
fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('/').fold(value, |value, step| {
        let found = match step.parse::<usize>() {
            Ok(index) => value.get(index),
            Err(_) => value.get(step.replace('~', "/")),
        };
        found.unwrap_or_else(|| panic!("nothing at {step} of {path}"))
    })
}

fn text_at<'a>(value: &'a Value, path: &str) -> &'a str {
    at(value, path).as_str().unwrap_or_else(|| panic!("{path} is no text"))
}

fn number_at(value: &Value, path: &str) -> u64 {
    at(value, path).as_u64().unwrap_or_else(|| panic!("{path} is no number"))
}

/// The worker's own configuration, out of the config map.
fn configuration(rendered: &BTreeMap<String, Value>) -> Value {
    serde_yaml_ng::from_str(text_at(&rendered["ConfigMap"], "data/config.yaml")).unwrap()
}

/// The pods of the stateful set and of the migration job.
fn pods(rendered: &BTreeMap<String, Value>) -> [&Value; 2] {
    [at(&rendered["StatefulSet"], "spec/template/spec"), at(&rendered["Job"], "spec/template/spec")]
}

#[test]
fn the_chart_has_nothing_to_complain_about() {
    for values in [MINIMAL, FULL] {
        let output = helm(&["lint", "--strict", "helm/seriatim", "--kube-version", KUBERNETES, "--values", values]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn the_chart_brings_the_version_of_the_crate() {
    let chart = fs::read_to_string(root().join("helm/seriatim/Chart.yaml")).unwrap();
    let chart: Value = serde_yaml_ng::from_str(&chart).unwrap();
    assert_eq!(text_at(&chart, "appVersion"), env!("CARGO_PKG_VERSION"));
}

#[test]
fn every_pod_is_restricted() {
    for values in [MINIMAL, FULL] {
        for pod in pods(&render(values, &[])) {
            assert_eq!(at(pod, "securityContext/runAsNonRoot"), &Value::from(true));
            assert!(number_at(pod, "securityContext/runAsUser") > 0);
            assert_eq!(text_at(pod, "securityContext/seccompProfile/type"), "RuntimeDefault");
            assert_eq!(at(pod, "automountServiceAccountToken"), &Value::from(false));
            for container in at(pod, "containers").as_sequence().unwrap() {
                let context = at(container, "securityContext");
                assert_eq!(at(context, "readOnlyRootFilesystem"), &Value::from(true));
                assert_eq!(at(context, "allowPrivilegeEscalation"), &Value::from(false));
                assert_eq!(at(context, "capabilities/drop"), &Value::from(vec!["ALL"]));
                assert!(text_at(container, "resources/limits/memory").ends_with("Mi"));
            }
        }
    }
}

#[test]
fn the_probes_ask_where_the_worker_answers() {
    let rendered = render(MINIMAL, &["http.port=19464"]);
    let container = at(&rendered["StatefulSet"], "spec/template/spec/containers/0");
    for (probe, path) in [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
        assert_eq!(text_at(container, &format!("{probe}/httpGet/path")), path);
        assert_eq!(text_at(container, &format!("{probe}/httpGet/port")), "http");
    }
    assert_eq!(text_at(container, "ports/0/name"), "http");
    assert_eq!(number_at(container, "ports/0/containerPort"), 19464);
    assert_eq!(text_at(&configuration(&rendered), "http/listen"), "0.0.0.0:19464");
    assert_eq!(number_at(&rendered["Service"], "spec/ports/0/port"), 19464);
    assert_eq!(text_at(&rendered["Service"], "spec/clusterIP"), "None");
}

#[test]
fn the_configuration_is_the_values_and_names_secrets_by_file() {
    let rendered = render(FULL, &[]);
    let configuration = configuration(&rendered);
    assert_eq!(text_at(&configuration, "kafka/brokers"), "kafka-0.kafka:9093");
    assert_eq!(text_at(&configuration, "kafka/properties/sasl.username"), "seriatim");
    assert_eq!(text_at(&configuration, "reorder/gap_deadline"), "10m");
    assert_eq!(number_at(&configuration, "saga/capture_attempts"), 5);
    assert_eq!(text_at(&configuration, "shutdown/deadline"), "30s");

    let volumes = at(&rendered["StatefulSet"], "spec/template/spec/volumes");
    let sources = at(volumes, "1/projected/sources");
    let mounted = text_at(&rendered["StatefulSet"], "spec/template/spec/containers/0/volumeMounts/1/mountPath");
    let secrets = [
        ("database/url_file", "shop-database", "worker-url"),
        ("kafka/properties/sasl.password_file", "shop-kafka", "password"),
    ];
    for (index, (key, secret, secret_key)) in secrets.into_iter().enumerate() {
        let source = at(sources, &format!("{index}/secret"));
        assert_eq!(text_at(source, "name"), secret);
        assert_eq!(text_at(source, "items/0/key"), secret_key);
        assert_eq!(text_at(&configuration, key), format!("{mounted}/{}", text_at(source, "items/0/path")));
    }
}

#[test]
fn a_secrets_value_has_no_place_in_the_chart() {
    for (setting, says) in [
        ("config.kafka.properties.sasl\\.password=canary", "/properties/sasl.password"),
        ("config.kafka.properties.ssl\\.key\\.pem=canary", "/properties/ssl.key.pem"),
        ("config.database.url=postgres://u:canary@db/shop", "url"),
        ("secrets.database.value=canary", "value"),
    ] {
        let refusal = refusal(MINIMAL, &[setting]);
        assert!(refusal.contains(says), "{setting}: {refusal}");
    }
    assert!(!render(FULL, &[]).contains_key("Secret"), "the chart makes a secret, whose value it would have to know");
}

#[test]
fn the_migration_runs_before_anything_of_the_release_is_there() {
    let rendered = render(FULL, &[]);
    let job = &rendered["Job"];
    assert_eq!(text_at(job, "metadata/annotations/helm.sh~hook"), "pre-install,pre-upgrade");
    assert_eq!(at(job, "spec/template/spec/containers/0/args"), &Value::from(vec!["migrate", "up"]));
    let text = serde_yaml_ng::to_string(job).unwrap();
    let own = text_at(&rendered["ConfigMap"], "metadata/name");
    for volume in at(job, "spec/template/spec/volumes").as_sequence().unwrap() {
        let named = volume.get("configMap").map(|map| text_at(map, "name"));
        assert_ne!(named, Some(own), "the config map is not there yet");
    }
    assert!(!text.contains("serviceAccountName"), "the service account is not there yet");
    assert!(!render(MINIMAL, &["migrate.enabled=false"]).contains_key("Job"));
}

#[test]
fn a_pod_gets_the_time_to_drain() {
    for (settings, rendered) in [
        (["config.shutdown.deadline=30s", "terminationGracePeriodSeconds=40"], true),
        (["config.shutdown.deadline=31s", "terminationGracePeriodSeconds=40"], false),
        (["config.shutdown.deadline=20s", "terminationGracePeriodSeconds=29"], false),
    ] {
        if rendered {
            let pod = render(MINIMAL, &settings).remove("StatefulSet").unwrap();
            assert_eq!(number_at(&pod, "spec/template/spec/terminationGracePeriodSeconds"), 40);
        } else {
            let refusal = refusal(MINIMAL, &settings);
            assert!(refusal.contains("must be at least config.shutdown.deadline + 10"), "{settings:?}: {refusal}");
        }
    }
}

#[test]
fn no_worker_is_without_a_partition() {
    assert_eq!(number_at(&render(MINIMAL, &["replicas=12"])["StatefulSet"], "spec/replicas"), 12);
    assert!(refusal(MINIMAL, &["replicas=13"]).contains("replicas (13) must not be more than partitions (12)"));
    let refused = refusal(FULL, &["autoscaling.maxReplicas=13"]);
    assert!(refused.contains("autoscaling.maxReplicas (13) must not be more than partitions (12)"), "{refused}");
}

#[test]
fn the_autoscaler_alone_decides_how_many() {
    let rendered = render(FULL, &[]);
    assert!(at(&rendered["StatefulSet"], "spec").get("replicas").is_none(), "two would fight over the number");
    assert_eq!(text_at(&rendered["ScaledObject"], "spec/scaleTargetRef/kind"), "StatefulSet");
    assert!(number_at(&rendered["ScaledObject"], "spec/minReplicaCount") >= 1);
}

#[test]
fn the_budget_and_the_service_select_the_pods() {
    let rendered = render(FULL, &[]);
    let labels = at(&rendered["StatefulSet"], "spec/template/metadata/labels");
    for (kind, path) in [
        ("StatefulSet", "spec/selector/matchLabels"),
        ("PodDisruptionBudget", "spec/selector/matchLabels"),
        ("NetworkPolicy", "spec/podSelector/matchLabels"),
        ("Service", "spec/selector"),
    ] {
        for (name, value) in at(&rendered[kind], path).as_mapping().unwrap() {
            assert_eq!(labels.get(name), Some(value), "{kind} selects other pods");
        }
    }
    let job = at(&rendered["Job"], "spec/template/metadata/labels/app.kubernetes.io~component");
    assert_ne!(job.as_str(), Some("worker"), "the job's pod would count as a worker");
}

#[test]
fn a_changed_configuration_starts_the_pods_anew() {
    let checksum = |settings: &[&str]| {
        let set = render(MINIMAL, settings).remove("StatefulSet").unwrap();
        text_at(&set, "spec/template/metadata/annotations/checksum~config").to_owned()
    };
    assert_ne!(checksum(&[]), checksum(&["config.log.level=debug"]));
    assert_eq!(checksum(&[]), checksum(&["replicas=2"]));
}

#[test]
fn what_is_misspelt_or_out_of_range_is_refused() {
    for (setting, says) in [
        ("replica=2", "'replica'"),
        ("config.kafka.broker=kafka:9092", "'broker'"),
        ("config.reorder.gap_deadlin=5m", "'gap_deadlin'"),
        ("config.sagas.charge_deadline=5m", "'sagas'"),
        ("config.saga.charge_deadline=5", "charge_deadline"),
        ("config.saga.charge_deadline=soon", "charge_deadline"),
        ("config.shutdown.deadline=1m", "deadline"),
        ("config.kafka.brokers=kafka", "brokers"),
        ("config.kafka.protocol=eager", "protocol"),
        ("config.batch.records_max=many", "records_max"),
        ("config.log.format=xml", "format"),
        ("replicas=-1", "replicas"),
        ("partitions=0", "partitions"),
        ("http.port=80", "port"),
        ("probes.liveness.period=1", "'period'"),
        ("image.digest=latest", "digest"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("secrets.database.existingSecret=", "existingSecret"),
        ("podDisruptionBudget.maxUnavailable=half", "maxUnavailable"),
        ("networkPolicy.kafkaPorts={99999}", "kafkaPorts"),
    ] {
        let refusal = refusal(MINIMAL, &[setting]);
        assert!(refusal.contains("schema") && refusal.contains(says), "{setting}: {refusal}");
    }
}

#[test]
fn the_defaults_alone_name_what_is_missing() {
    let output = helm(&["template", "shop", "helm/seriatim", "--kube-version", KUBERNETES]);
    let says = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(says.contains("/config/kafka/brokers") && says.contains("/secrets/database/existingSecret"), "{says}");
}

/// The keys of the configuration file that the schema lets through, dotted.
fn keys_of_the_schema() -> BTreeSet<String> {
    let schema = fs::read_to_string(root().join("helm/seriatim/values.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let mut keys = BTreeSet::new();
    for (section, content) in at(&schema, "properties/config/properties").as_mapping().unwrap() {
        for key in at(content, "properties").as_mapping().unwrap().keys() {
            keys.insert(format!("{}.{}", section.as_str().unwrap(), key.as_str().unwrap()));
        }
    }
    keys
}

#[test]
fn the_worker_takes_the_rendered_configuration_and_the_schema_knows_its_keys() {
    let folder = std::env::temp_dir().join(format!("seriatim-chart-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("database-url"), "postgres://worker:canary@db/shop?sslmode=verify-full").unwrap();
    fs::write(folder.join("kafka-password"), "canary").unwrap();
    let rendered = render(FULL, &[]);
    let text = text_at(&rendered["ConfigMap"], "data/config.yaml");
    let file = folder.join("config.yaml");
    fs::write(&file, text.replace("/run/secrets/seriatim", folder.to_str().unwrap())).unwrap();

    let mut command = Command::new(env!("CARGO_BIN_EXE_seriatim"));
    let output = command.env_clear().args(["config", "show", "-o", "json", "--config"]).arg(&file).output().unwrap();
    fs::remove_dir_all(&folder).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    let shown: BTreeSet<String> =
        shown.as_sequence().unwrap().iter().map(|setting| text_at(setting, "key").to_owned()).collect();

    // What the chart decides itself is no value of it, and a property is the client's key, not the worker's.
    let of_the_chart = ["database.url", "database.url_file", "http.listen", "kafka.instance_id", "insecure_dev"];
    let open = |key: &&String| !of_the_chart.contains(&key.as_str()) && !key.starts_with("kafka.properties.");
    let mut known = keys_of_the_schema();
    known.remove("kafka.properties");
    assert_eq!(shown.iter().filter(open).cloned().collect::<BTreeSet<_>>(), known);
}
