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
        Command::Simulate(simulate) => Ok(crate::simulate::run(&simulate)),
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
            "simulate",
            "simulate --seeds 100 --seed 7 --threads 2 --trace",
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
            "saga retry p-1 --definition checkout --reason answered --dry-run",
            "entity retry payment pay-1 --actor me",
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
    /// Words that stand on a command line, most of them in the wrong place.
    const WORDS: &[&str] = &[
        "demo",
        "run",
        "migrate",
        "up",
        "status",
        "topics",
        "plan",
        "apply",
        "check",
        "fsck",
        "entity",
        "show",
        "release",
        "saga",
        "list",
        "dlq",
        "replay",
        "lane",
        "accept",
        "config",
        "purchase",
        "stock",
        "p-1",
        "--limit",
        "--status",
        "-o",
        "json",
        "text",
        "--config",
        "--set",
        "a.b=c",
        "--insecure-dev",
        "--wait",
        "99999999999999d",
        "-1",
        "1e400",
        "9223372036854775808",
        "--",
        "-",
        "",
        "--=",
        "\u{0}",
        "\u{202e}",
        "--seed",
        "--events",
        "--slack",
        "1m",
        "--help",
    ];

    /// A number of command lines by chance; `dev/fuzz` asks for more of them.
    #[test]
    fn hostile_command_lines_end_as_a_command_or_as_an_error_that_says_why() {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let bound = number("SERIATIM_FUZZ_SECONDS").map(|seconds| std::time::Duration::from_secs(seconds) / 4);
        let (began, mut cases) = (std::time::Instant::now(), 0_u64);
        let mut state = number("SERIATIM_FUZZ_SEED").unwrap_or(1);
        let mut roll = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap()
        };
        while bound.map_or(cases < 5_000, |bound| began.elapsed() < bound) {
            let mut words = vec![std::ffi::OsString::from("seriatim")];
            for _ in 0..roll() % 8 {
                let mut word = WORDS[roll() % WORDS.len()].as_bytes().to_vec();
                if roll() % 5 == 0 {
                    word.insert(roll() % (word.len() + 1), u8::try_from(roll() % 256).unwrap());
                }
                words.push(std::os::unix::ffi::OsStringExt::from_vec(word));
            }
            if let Err(error) = Cli::try_parse_from(&words) {
                assert!(!error.to_string().is_empty() && [0, 2].contains(&error.exit_code()), "{words:?}");
            }
            cases += 1;
        }
        let seconds = began.elapsed().as_secs_f64();
        println!(
            "| command lines | {cases} | {seconds:.1} | {:.0} | 0 |",
            f64::from(u32::try_from(cases).unwrap_or(u32::MAX)) / seconds
        );
    }
}
