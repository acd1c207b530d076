//! The configuration: what file, environment and flags say, checked as a whole before anything is touched.
//!
//! Raw values go through `layers` (who said what) and `reader` (what is allowed) into [`Config`]; the rest of the
//! program sees only that. All problems are reported together. Nothing else reads the environment. Each field's
//! comment tells its meaning, default and reason; its bound stands beside the default where it is read.

mod database;
#[cfg(feature = "faults")]
mod failpoint;
mod kafka;
mod lanes;
mod layers;
mod problem;
mod process;
mod reader;
mod relations;
mod relay;
mod saga;
mod security;
mod suggest;
mod topics;
mod value;

use std::{ffi::OsString, path::PathBuf};

use serde::Serialize;

#[cfg(feature = "faults")]
pub use self::failpoint::failpoint;
pub use self::{
    database::{Backend, Database},
    kafka::{GroupProtocol, Kafka},
    lanes::{Batch, Dedupe, Lanes, Quarantine, Reorder, Writers},
    problem::{Origin, Problem, Problems},
    process::{Http, Log, LogFormat, Shutdown},
    relay::{Gate, Relay, Retention, Retry},
    saga::Saga,
    topics::Topics,
    value::Secret,
};
use self::{layers::Layers, reader::Reader};

/// What the command line says about the configuration.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The YAML file.
    pub file: Option<PathBuf>,
    /// `section.key=value`, as given, the later ones winning.
    pub set: Vec<String>,
    /// Whether plain text may leave this machine. A flag only, so that it is seen where the worker is started.
    pub insecure_dev: bool,
}

/// What a command cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Brokers: a configuration without them is refused.
    Kafka,
    /// Nothing beyond the defaults.
    Nothing,
}

/// One setting in force. A secret's value is already hidden here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its dotted key.
    pub key: String,
    /// Its value as it could be written in the file.
    pub value: String,
    /// Where the value comes from.
    pub origin: Origin,
}

impl Serialize for Setting {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let origin = self.origin.to_string();
        let fields = [("key", self.key.as_str()), ("value", self.value.as_str()), ("origin", origin.as_str())];
        serializer.collect_map(fields)
    }
}

/// The checked configuration.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each area's type says what it is")]
pub struct Config {
    pub kafka: Kafka,
    pub topics: Topics,
    pub database: Database,
    pub http: Http,
    pub batch: Batch,
    pub writers: Writers,
    pub reorder: Reorder,
    pub dedupe: Dedupe,
    pub quarantine: Quarantine,
    pub saga: Saga,
    pub relay: Relay,
    pub retry: Retry,
    pub lanes: Lanes,
    pub retention: Retention,
    pub shutdown: Shutdown,
    pub log: Log,
    /// Whether plain text may leave this machine.
    pub insecure_dev: bool,
    settings: Vec<Setting>,
}

impl Config {
    /// Reads the process's environment beside `sources`.
    ///
    /// # Errors
    /// Every problem found, in one error.
    pub fn load(sources: &Sources, need: Need) -> Result<Self, Problems> {
        Self::read(sources, std::env::vars_os(), need)
    }

    /// The same with an environment given, for tests and for programs that have one of their own.
    ///
    /// # Errors
    /// Every problem found, in one error.
    pub fn read(
        sources: &Sources,
        environment: impl Iterator<Item = (OsString, OsString)>,
        need: Need,
    ) -> Result<Self, Problems> {
        let mut reader = Reader::new(Layers::gather(sources, environment));
        let mut config = Self {
            kafka: Kafka::read(&mut reader),
            topics: Topics::read(&mut reader),
            database: Database::read(&mut reader),
            http: Http::read(&mut reader),
            batch: Batch::read(&mut reader),
            writers: Writers::read(&mut reader),
            reorder: Reorder::read(&mut reader),
            dedupe: Dedupe::read(&mut reader),
            quarantine: Quarantine::read(&mut reader),
            saga: Saga::read(&mut reader),
            relay: Relay::read(&mut reader),
            retry: Retry::read(&mut reader),
            lanes: Lanes::read(&mut reader),
            retention: Retention::read(&mut reader),
            shutdown: Shutdown::read(&mut reader),
            log: Log::read(&mut reader),
            insecure_dev: sources.insecure_dev,
            settings: Vec::new(),
        };
        if need == Need::Kafka && config.kafka.brokers.is_empty() && reader.is_sound("kafka.brokers") {
            let says = "is required: write host:port, several with commas between".to_owned();
            reader.problem("kafka.brokers", Origin::Default, says);
        }
        reader.refuse_unread();
        let unfit = relations::check(&config, &reader).into_iter().chain(security::check(&config, &reader));
        let unfit: Vec<_> = unfit.collect();
        reader.problems.extend(unfit);
        if !reader.problems.is_empty() {
            reader.problems.sort_by(|left, right| left.key.cmp(&right.key));
            return Err(Problems(reader.problems));
        }
        config.settings = reader.settings;
        config.settings.sort_by(|left, right| left.key.cmp(&right.key));
        if config.insecure_dev {
            let origin = Origin::Flag("--insecure-dev");
            config.settings.push(Setting { key: "insecure_dev".to_owned(), value: "true".to_owned(), origin });
        }
        Ok(config)
    }

    /// Every setting in force by key, with where it comes from; secrets hidden.
    #[must_use]
    pub fn show(&self) -> &[Setting] {
        &self.settings
    }
}
