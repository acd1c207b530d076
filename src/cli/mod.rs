//! The command line: which command runs, and how its answer looks.
//!
//! A wrong command line ends with 2 before anything is read.

pub mod arguments;
pub mod print;

mod check;
mod config;
mod fsck;
mod migrate;
mod run;
mod topics;

mod order;
mod reader;
mod shown;

mod dlq;
mod entity;
mod lane;
mod saga;

use std::io::{self, IsTerminal as _, Write as _};

use anyhow::Context as _;
use seriatim::failure::Exit;

use self::arguments::{Cli, Command, Config};

/// Runs a command to its end.
pub fn run(cli: Cli) -> anyhow::Result<Exit> {
    match cli.command {
        Command::Config(Config::Show(reading)) => config::show(&cli.settings, reading),
        Command::Demo(demo) => crate::demo::run(demo.seed, demo.events, &cli.settings.sources()),
        Command::Run => run::run(&cli.settings),
        Command::Migrate(action) => migrate::run(&cli.settings, &action),
        Command::Topics(topics) => topics::run(&cli.settings, &topics.action),
        Command::Check { manifests, reading } => check::run(&cli.settings, &manifests, reading),
        Command::Fsck(arguments) => fsck::run(&cli.settings, &arguments),
        Command::Entity(action) => entity::run(&cli.settings, &action),
        Command::Saga(action) => saga::run(&cli.settings, &action),
        Command::Dlq(action) => dlq::run(&cli.settings, &action),
        Command::Lane(action) => lane::run(&cli.settings, &action),
    }
}

/// Runs a command's own work on this thread.
fn block_on(work: impl Future<Output = anyhow::Result<Exit>>) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let ended = runtime.block_on(work);
    // A client's call that still waits for a broker must not keep the process.
    runtime.shutdown_background();
    ended
}

/// Asks the person at the terminal; answers with how to end unless they agree. Where there is no terminal, nobody can have
/// agreed, and the command line lacks its `--yes`.
fn confirm(question: &str) -> anyhow::Result<Option<Exit>> {
    if !io::stdin().is_terminal() {
        eprintln!("seriatim: nobody is here to ask; give --yes to go on without asking");
        return Ok(Some(Exit::Usage));
    }
    print!("{question} [y/N] ");
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    let agreed = ["y", "yes"].contains(&answer.trim().to_lowercase().as_str());
    Ok((!agreed).then_some(Exit::Failed))
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
            "fsck",
            "fsck --slack 5m --findings 10 -o json",
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
            "entity release purchase p-1 --wait 5m",
            "lane list --topic stock -o json",
            "lane accept stock 3 --yes --reason restored",
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
        for line in [
            "explode",
            "entity show dragon d-1",
            "dlq show stock -1 0",
            "demo --events 1",
            "fsck --findings 0",
            "fsck --slack soon",
            "run -o json",
            "dlq replay stock 0 1 --wait 2h",
        ] {
            let words = std::iter::once("seriatim").chain(line.split(' '));
            let error = Cli::try_parse_from(words).unwrap_err();
            assert_eq!(error.exit_code(), Exit::Usage as i32, "{line}");
        }
    }
}
