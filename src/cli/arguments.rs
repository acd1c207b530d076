//! What can be asked of `seriatim`: commands, their arguments and their help.
//!
//! Every reading command takes `-o text|json`, every changing one `--dry-run`. The text of an argument's comment is its
//! help, without a full stop, as is usual there.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, builder::PossibleValuesParser};
use seriatim::config::Sources;

use super::print::Output;

/// Processes purchase and payment events from Kafka in order per entity, exactly once into SQL.
#[derive(Debug, Parser)]
#[command(name = "seriatim", version, arg_required_else_help = true)]
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
    /// Bring the database to this release
    #[command(subcommand)]
    Migrate(Migrate),
    /// Bring the broker's topics to the manifests
    Topics(Topics),
    /// Check configuration, topic manifests and saga definitions without any network
    Check {
        #[command(flatten)]
        manifests: Manifests,
        #[command(flatten)]
        reading: Reading,
    },
    /// Look at an entity, or end its quarantine
    #[command(subcommand)]
    Entity(Entity),
    /// Look at sagas
    #[command(subcommand)]
    Saga(Saga),
    /// Look at dead letters, replay or discard them
    #[command(subcommand)]
    Dlq(Dlq),
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

/// What a command leaves behind beside its change: who and why, in the journal.
#[derive(Args, Clone, Debug)]
pub struct Change {
    /// Why, for the journal
    #[arg(long, default_value = "none given")]
    pub reason: String,
    /// Who, for the journal
    #[arg(long, default_value = "operator")]
    pub actor: String,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Args, Clone, Debug)]
pub struct Demo {
    /// Seed of the stream: the same seed gives the same events
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Events to feed
    // The in-process broker keeps 100,000 records a partition and drops the oldest silently.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(100..=50_000))]
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
    /// Replicas of each topic in place of what its manifest says
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=32))]
    pub replicas: Option<u16>,
}

/// Which entity.
#[derive(Args, Clone, Debug)]
pub struct EntityName {
    /// Its kind
    #[arg(value_parser = PossibleValuesParser::new(["purchase", "payment", "stock", "profile", "counter"]))]
    pub kind: String,
    /// Its id
    pub id: String,
}

#[derive(Debug, Subcommand)]
pub enum Entity {
    /// Its rows, its status, and what of it is held, parked or waiting
    Show {
        #[command(flatten)]
        name: EntityName,
        #[command(flatten)]
        reading: Reading,
    },
    /// Process what is parked, in order, and end the quarantine
    Release {
        #[command(flatten)]
        name: EntityName,
        #[command(flatten)]
        change: Change,
    },
    /// Skip the event that fails, and release the rest
    Skip {
        #[command(flatten)]
        name: EntityName,
        #[command(flatten)]
        change: Change,
    },
    /// Dead-letter everything that is parked, and end the quarantine
    Discard {
        #[command(flatten)]
        name: EntityName,
        #[command(flatten)]
        change: Change,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum SagaStatus {
    Running,
    Compensating,
    Completed,
    Compensated,
    NeedsOperator,
}

#[derive(Debug, Subcommand)]
pub enum Saga {
    /// List sagas
    List {
        /// Only those with this status
        #[arg(long, value_enum)]
        status: Option<SagaStatus>,
        #[command(flatten)]
        limit: Limit,
        #[command(flatten)]
        reading: Reading,
    },
    /// One saga with its steps, attempts and times
    Show {
        /// Its id; for the checkout, the purchase's
        id: String,
        /// Its definition
        #[arg(long, default_value = "checkout")]
        definition: String,
        #[command(flatten)]
        reading: Reading,
    },
}

/// How much a list shows.
#[derive(Args, Clone, Copy, Debug)]
pub struct Limit {
    /// Rows at most
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LetterStatus {
    Replayable,
    Replayed,
    Discarded,
}

/// Which dead letter: where its record stood.
#[derive(Args, Clone, Debug)]
pub struct LetterName {
    /// Topic of the record
    pub topic: String,
    /// Partition of the record
    #[arg(value_parser = clap::value_parser!(i32).range(0..))]
    pub partition: i32,
    /// Offset of the record
    #[arg(value_parser = clap::value_parser!(i64).range(0..))]
    pub offset: i64,
}

#[derive(Debug, Subcommand)]
pub enum Dlq {
    /// List dead letters
    List {
        /// Only those of this topic
        #[arg(long)]
        topic: Option<String>,
        /// Only those with this status
        #[arg(long, value_enum)]
        status: Option<LetterStatus>,
        #[command(flatten)]
        limit: Limit,
        #[command(flatten)]
        reading: Reading,
    },
    /// One dead letter with its bytes
    Show {
        #[command(flatten)]
        name: LetterName,
        #[command(flatten)]
        reading: Reading,
    },
    /// Process it again, at its old place and outside the sequence
    Replay {
        #[command(flatten)]
        name: LetterName,
        #[command(flatten)]
        change: Change,
    },
    /// Mark it as dealt with
    Discard {
        #[command(flatten)]
        name: LetterName,
        #[command(flatten)]
        change: Change,
    },
}

#[derive(Debug, Subcommand)]
pub enum Config {
    /// Every setting in force and where it comes from; secrets hidden
    Show(Reading),
}
