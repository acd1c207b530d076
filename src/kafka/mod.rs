//! All that names rdkafka: reading, rebalancing, producing, topics.
//!
//! Kafka's group and its committed offsets are hints here, never safety: the fence in the store judges.
//! What this module promises is order and completeness within one opening of one lane, a bound on every
//! queue, a thread that never waits for anybody, and a word whenever something is lost or stands still.

mod bell;
pub mod consume;
mod copy;
pub mod manifest;
pub mod mock;
mod poll;
pub mod produce;
pub mod read;
mod rebalance;
pub mod settings;
pub mod topic;
mod watch;

pub use consume::{Consumer, Counts};
pub use manifest::Manifest;
pub use mock::MockBroker;
pub use produce::Producer;
pub use read::{Log, Pages};
pub use settings::{Protocol, Settings};
pub use topic::{Cluster, Difference};

use rdkafka::{config::RDKafkaLogLevel, error::KafkaError};

/// Why a call of this module failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings contradict themselves or what we rely on; every problem on a line of its own.
    #[error("kafka settings are not usable: {}", .0.join("; "))]
    Settings(Vec<String>),
    /// A client could not be made or a call to the cluster failed.
    #[error("{doing}: {source}")]
    Client {
        /// What was being done, and to what.
        doing: String,
        /// What the client said.
        source: KafkaError,
    },
    /// The operating system gave no thread.
    #[error("starting the thread {name}: {source}")]
    Thread {
        /// The thread's name.
        name: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// Manifests could not be read; each problem with its file and field.
    #[error("{}", .0.join("\n"))]
    Manifests(Vec<String>),
    /// The cluster's topics are not as the manifests say.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Differences(Vec<Difference>),
    /// The cluster refused a change to a topic.
    #[error("{doing}: {reason}")]
    Refused {
        /// What was being done, and to what.
        doing: String,
        /// The broker's reason.
        reason: String,
    },
}

impl Error {
    fn client(doing: impl Into<String>) -> impl FnOnce(KafkaError) -> Self {
        let doing = doing.into();
        |source| Self::Client { doing, source }
    }
}

/// Passes a line of librdkafka's own log on. Its levels are louder than ours: a lost connection is an error
/// there and an ordinary day here.
fn log_line(level: RDKafkaLogLevel, facility: &str, line: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: "librdkafka", facility, "{line}");
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", facility, "{line}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
            tracing::debug!(target: "librdkafka", facility, "{line}");
        }
    }
}
