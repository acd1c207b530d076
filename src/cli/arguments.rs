//! What can be asked of `seriatim`: commands, their arguments and their help.
//!
//! Every reading command takes `-o text|json`, every changing one `--dry-run`. The text of an argument's comment is its
//! help, without a full stop, as is usual there.

mod operator;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use seriatim::config::Sources;

pub use self::operator::{Change, Dlq, Entity, EntityName, Lane, LetterName, Saga, SagaName};
use super::print::Output;
use crate::simulate;

/// What `--help` says at its end.
const EXIT_CODES: &str = "Exit codes:\n  0   done\n  1   a finding, a refusal, or a failure\n  2   the command line is wrong\n  \
    69  Kafka or the database cannot be reached\n  78  the configuration or a manifest is wrong";

/// Processes purchase and payment events from Kafka in order per entity, exactly once into SQL.
#[derive(Debug, Parser)]
#[command(name = "seriatim", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    pub settings: Settings,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes: where its configuration comes from.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Configuration")]
pub struct Settings {
    /// YAML file to read; environment variables SERIATIM_<SECTION>__<KEY> stand above it
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A setting that stands above file and environment; may be repeated
    #[arg(long, global = true, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// Allow plain-text Kafka and unverified PostgreSQL on other machines
    #[arg(long, global = true)]
    insecure_dev: bool,
}

impl Settings {
    /// The same for the library.
    pub fn sources(&self) -> Sources {
        Sources { file: self.config.clone(), set: self.set.clone(), insecure_dev: self.insecure_dev }
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the main job on an in-process broker and SQLite; needs no other program
    Demo(Demo),
    /// Run the worker
    Run,
    /// Run the worker in simulated worlds under faults, each from its seed; ends with 1 if anything does not hold
    Simulate(simulate::Task),
    /// Bring the database to this release
    #[command(subcommand)]
    Migrate(Migrate),
    /// Bring the broker's topics to the manifests
    Topics(Topics),
    /// Check configuration, topic manifests and saga definitions without any network
    ///
    /// Finds settings that do not fit together; topics without a manifest; dead-letter topics with fewer partitions than
    /// their home topic; home topics that keep records longer than `dedupe.window`; saga definitions with a path that does
    /// not end. Ends with 78 if the configuration is wrong, with 1 on any other finding.
    Check {
        #[command(flatten)]
        manifests: Manifests,
        #[command(flatten)]
        reading: Reading,
    },
    /// Account for every record, row and message; ends with 1 on any finding
    ///
    /// Reads the database and the topics and changes neither; the worker may work meanwhile. Each finding names its
    /// evidence and the command that mends it. Ends with 69 if Kafka or the database cannot be reached.
    Fsck(Fsck),
    /// Look at an entity, or end its quarantine
    #[command(subcommand)]
    Entity(Entity),
    /// Look at sagas
    #[command(subcommand)]
    Saga(Saga),
    /// Look at dead letters, replay or discard them
    #[command(subcommand)]
    Dlq(Dlq),
    /// Look at lanes, or accept a topic that was made anew
    #[command(subcommand)]
    Lane(Lane),
    /// Look at the configuration
    #[command(subcommand)]
    Config(Config),
}

/// How a reading command answers.
#[derive(Args, Clone, Copy, Debug)]
pub struct Reading {
    /// How the answer looks
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// What is compared, and how strictly.
#[derive(Args, Clone, Debug)]
pub struct Fsck {
    /// How late a saga may be before it is a finding
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = slack)]
    pub slack: Duration,
    /// Findings of each class that are shown; all are counted
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub findings: u32,
    #[command(flatten)]
    pub reading: Reading,
}

fn slack(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "write it like 30s or 5m".to_owned())
}

#[derive(Args, Clone, Debug)]
pub struct Demo {
    /// Seed of the stream: the same seed gives the same events
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Events to feed
    // Fewer leave no room for every kind of trouble; more take longer than a minute and pass what the broker keeps.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(500..=20_000))]
    pub events: u32,
}

#[derive(Debug, Subcommand)]
pub enum Migrate {
    /// Apply what is missing
    Up {
        /// Say what would be applied, and apply nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// List the migrations and which are applied
    Status(Reading),
    /// Print the SQL of all migrations, for those who apply it by hand
    Sql,
}

/// Where the topics are described.
#[derive(Args, Clone, Debug)]
pub struct Manifests {
    /// Folder of the topic manifests
    #[arg(long, value_name = "FOLDER", default_value = "topics")]
    pub dir: PathBuf,
}

#[derive(Args, Debug)]
pub struct Topics {
    #[command(subcommand)]
    pub action: TopicsAction,
}

#[derive(Debug, Subcommand)]
pub enum TopicsAction {
    /// Say what `apply` would do
    Plan {
        #[command(flatten)]
        manifests: Manifests,
        #[command(flatten)]
        replicas: Replicas,
        #[command(flatten)]
        reading: Reading,
    },
    /// Create what is missing and change what differs; never deletes
    ///
    /// Asks before it changes anything, unless `--yes` is given. A topic with another number of partitions is refused:
    /// entities find their lane by it. Returns when the broker shows every topic as its manifest says.
    Apply {
        #[command(flatten)]
        manifests: Manifests,
        #[command(flatten)]
        replicas: Replicas,
        /// Ask nothing
        #[arg(long)]
        yes: bool,
        /// Say what would be done, and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Compare the broker with the manifests; ends with 1 if they differ
    Check {
        #[command(flatten)]
        manifests: Manifests,
        #[command(flatten)]
        replicas: Replicas,
        #[command(flatten)]
        reading: Reading,
    },
}

#[derive(Args, Clone, Copy, Debug)]
pub struct Replicas {
    /// Replicas of each topic in place of what its manifest says; `min.insync.replicas` is lowered to it where needed
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=32))]
    pub replicas: Option<u16>,
}

#[derive(Debug, Subcommand)]
pub enum Config {
    /// Every setting in force and where it comes from; secrets hidden
    Show(Reading),
}
