//! How the process ends: the five exit codes, and which error means which.

use std::process::ExitCode;

use crate::{config::Problems, store};

/// The exit codes of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// A finding, or a failure that no other code names.
    Failed = 1,
    /// The command line itself is wrong.
    Usage = 2,
    /// A service that is needed cannot be reached.
    Unreachable = 69,
    /// The configuration is wrong.
    Configuration = 78,
}

impl Exit {
    /// The code that an error stands for, whatever context was put around it.
    #[must_use]
    pub fn of(error: &anyhow::Error) -> Self {
        for cause in error.chain() {
            if cause.is::<Problems>() {
                return Self::Configuration;
            }
            if cause.is::<Unreachable>() {
                return Self::Unreachable;
            }
        }
        Self::Failed
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A service that is needed does not answer.
#[derive(Debug, thiserror::Error)]
#[error("{service} cannot be reached")]
pub struct Unreachable {
    /// Which, with its address where that holds no secret.
    pub service: String,
    /// What was tried and failed.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// A store that does not answer is a service out of reach; anything else it says is final.
#[must_use]
pub fn unreachable(error: store::Error) -> anyhow::Error {
    match error {
        store::Error::Retry(_) | store::Error::Unknown(_) => {
            Unreachable { service: "the database".to_owned(), source: Box::new(error) }.into()
        }
        store::Error::Rejected(_) | store::Error::Stop(_) => anyhow::Error::new(error),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn context_does_not_hide_what_an_error_means() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let unreachable = Unreachable { service: "Kafka".to_owned(), source: refused.into() };
        let error = Err::<(), _>(unreachable).context("reading the topics").unwrap_err();
        assert_eq!(Exit::of(&error), Exit::Unreachable);
        let error = Err::<(), _>(Problems(Vec::new())).context("starting").context("again").unwrap_err();
        assert_eq!(Exit::of(&error), Exit::Configuration);
        assert_eq!(Exit::of(&anyhow::anyhow!("something else")), Exit::Failed);
    }
}
