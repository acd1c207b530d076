//! The `seriatim` command: reads the command line, runs the command, turns its end into an exit code.

mod cli;
mod demo;
mod simulate;

use std::process::ExitCode;

use clap::Parser;
use seriatim::failure::Exit;

/// Of the time of a busy worker the system's own takes a third.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::run(cli::arguments::Cli::parse()) {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("seriatim: {error:#}");
            Exit::of(&error).into()
        }
    }
}
