//! The command line: which command runs, and how its answer looks.
//!
//! A wrong command line ends with 2 before anything is read.

pub mod arguments;
mod config;
mod migrate;
pub mod print;
mod run;

use seriatim::failure::Exit;

use self::arguments::{Cli, Command, Config};

/// Runs a command to its end.
pub fn run(cli: Cli) -> anyhow::Result<Exit> {
    match cli.command {
        Command::Config(Config::Show(reading)) => config::show(&cli.settings, reading),
        Command::Run => run::run(&cli.settings),
        Command::Migrate(action) => migrate::run(&cli.settings, &action),
        command => anyhow::bail!("this build has no command for {command:?}"),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_of_the_contract_is_taken() {
        for line in [
            "demo",
            "demo --seed 7 --events 1000",
            "run",
            "migrate up",
            "migrate up --dry-run",
            "migrate status -o json",
            "migrate sql",
            "topics plan -o json",
            "topics apply --yes",
            "topics apply --dry-run --dir elsewhere --replicas 1",
            "topics check",
            "check -o text",
            "entity show purchase p-1 -o json",
            "entity release stock sku-1",
            "entity skip payment pay-1 --reason twice --actor me --dry-run",
            "entity discard counter c",
            "saga list --status needs_operator --limit 5",
            "saga show p-1 -o json",
            "dlq list --topic stock --status replayable",
            "dlq show stock 0 17",
            "dlq replay stock 0 17 --dry-run",
            "dlq discard stock 0 17 --reason known",
            "config show -o json",
            "run --config f.yaml --set a.b=c --set d.e=f --insecure-dev",
            "--config f.yaml run",
        ] {
            let words = std::iter::once("seriatim").chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_ok(), "{line}");
        }
    }

    #[test]
    fn what_is_no_command_is_a_usage_error() {
        for line in ["explode", "entity show dragon d-1", "dlq show stock -1 0", "demo --events 1", "run -o json"] {
            let words = std::iter::once("seriatim").chain(line.split(' '));
            let error = Cli::try_parse_from(words).unwrap_err();
            assert_eq!(error.exit_code(), Exit::Usage as i32, "{line}");
        }
    }
}
