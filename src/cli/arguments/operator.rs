//! The commands for those who look after a running worker: entities, sagas, dead letters, lanes.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum, builder::PossibleValuesParser};

use super::Reading;

/// How long an order may be waited for at most.
const WAIT_MAX: Duration = Duration::from_secs(3600);

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
    /// How long to wait for the worker that carries the order out; the order stays if it comes later
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = wait)]
    pub wait: Duration,
}

fn wait(text: &str) -> Result<Duration, String> {
    let wait = humantime::parse_duration(text).map_err(|_| "write it like 30s or 5m".to_owned())?;
    if wait > WAIT_MAX { Err("must be at most 1h".to_owned()) } else { Ok(wait) }
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
    ///
    /// Also the saga that lives with it, what is still to be undone, the last rows of its journal, and operators' orders.
    /// Lists are cut after 100 rows; `cut` names those that are longer.
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
    /// Skip the event that fails or the gap, and release the rest
    Skip {
        #[command(flatten)]
        name: EntityName,
        #[command(flatten)]
        change: Change,
    },
    /// Dead-letter every record that is parked, and end the quarantine; timers that were parked fire then
    Discard {
        #[command(flatten)]
        name: EntityName,
        #[command(flatten)]
        change: Change,
    },
    /// Try again what it is out of attempts for; a payment asks its gateway once more
    Retry {
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

impl SagaStatus {
    /// The word of the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Compensating => "compensating",
            Self::Completed => "completed",
            Self::Compensated => "compensated",
            Self::NeedsOperator => "needs_operator",
        }
    }
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
        #[command(flatten)]
        name: SagaName,
        #[command(flatten)]
        reading: Reading,
    },
    /// Ask again whoever has not answered in time
    Retry {
        #[command(flatten)]
        name: SagaName,
        #[command(flatten)]
        change: Change,
    },
}

/// Which saga.
#[derive(Args, Clone, Debug)]
pub struct SagaName {
    /// Its id; for the checkout, the purchase's
    pub id: String,
    /// Its definition
    #[arg(long, default_value = "checkout")]
    pub definition: String,
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

impl LetterStatus {
    /// The word of the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Replayable => "replayable",
            Self::Replayed => "replayed",
            Self::Discarded => "discarded",
        }
    }
}

/// Which dead letter: where its record stood.
#[derive(Args, Clone, Debug)]
pub struct LetterName {
    /// Topic of the record, without the configured prefix
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
        /// Only those of this topic, named without the configured prefix
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
    ///
    /// The lane's owner takes the record up as it came. What becomes of it stands in the journal, or in a dead letter with
    /// a higher count if it fails again.
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
pub enum Lane {
    /// List lanes: how far each is, and who owns it
    List {
        /// Only those of this topic, named without the configured prefix
        #[arg(long)]
        topic: Option<String>,
        #[command(flatten)]
        limit: Limit,
        #[command(flatten)]
        reading: Reading,
    },
    /// Accept that a lane's topic was made anew: it is read from its beginning
    ///
    /// A lane halts when its topic is not the one that it has read: recreated, truncated or restored. If that was meant,
    /// this order lets the lane read the topic as it is now from offset 0. Ids of messages made from then on differ from
    /// those made before. Asks before it orders anything, unless `--yes` is given.
    Accept {
        /// Topic of the lane, without the configured prefix
        topic: String,
        /// Partition of the lane
        #[arg(value_parser = clap::value_parser!(i32).range(0..))]
        partition: i32,
        /// Ask nothing
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        change: Change,
    },
    /// Accept that the sender of a link has lost what it had sent and gone on differently
    ///
    /// A lane halts before a message of another lane that does not follow from those it has taken: the sender's database
    /// lost commits whose messages had been sent. This order lets the lane take what the sender sends now, from the message
    /// that the alarm names. What it took before stays done, so look first at what the messages with these numbers asked
    /// for. Messages that were held behind a gap of the link become dead letters. Asks first, unless `--yes` is given.
    AcceptFork {
        /// Topic of the halted lane, without the configured prefix
        topic: String,
        /// Partition of the halted lane
        #[arg(value_parser = clap::value_parser!(i32).range(0..))]
        partition: i32,
        /// The link as the alarm names it: topic and partition of the sending lane
        #[arg(long, value_name = "TOPIC/PARTITION")]
        link: String,
        /// The number of the message that the alarm names
        #[arg(long, value_parser = clap::value_parser!(i64).range(1..))]
        number: i64,
        /// Ask nothing
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        change: Change,
    },
}
