//! Bytes of hostile producers and of careless operators, in this process: records, headers, configuration.
//!
//! Cases come from a seed, by mutation of sound ones and from a grammar of what has broken parsers before; what was
//! found once is a file in `regressions/` and is tried first. `dev/fuzz` lets the same run for as long as is wanted.
//! Never a panic, never memory far beyond the input, always exactly one outcome, and the same one the second time.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

#[path = "hostile/configs.rs"]
mod configs;
#[path = "hostile/dice.rs"]
mod dice;
#[path = "support/lane_world.rs"]
mod lane_world;
#[path = "hostile/lanes.rs"]
mod lanes;
#[path = "hostile/mutate.rs"]
mod mutate;
#[path = "hostile/records.rs"]
mod records;

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use dice::Dice;
use peak_alloc::PeakAlloc;

/// Counts what is allocated; the tests here are one after the other, so that a peak belongs to one case.
#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Cases of each target where nobody asks for more.
const CASES: u64 = 20_000;

/// How long each target runs.
enum Budget {
    Cases(u64),
    Time(Duration),
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Tries cases until the budget is spent. The first that breaks a promise fails the test, with what makes it again.
fn attack(target: &str, share: u64, mut case: impl FnMut(&mut Dice) -> Result<(), String>) {
    let seed = number("SERIATIM_FUZZ_SEED").unwrap_or(1);
    let budget = match number("SERIATIM_FUZZ_SECONDS") {
        Some(seconds) => Budget::Time(Duration::from_secs(seconds) / 4),
        None => Budget::Cases(CASES / share),
    };
    let began = Instant::now();
    let mut cases = 0;
    loop {
        let spent = match budget {
            Budget::Cases(wanted) => cases >= wanted,
            Budget::Time(bound) => began.elapsed() >= bound,
        };
        if spent {
            break;
        }
        let mut dice = Dice::of(seed, cases);
        let outcome = catch_unwind(AssertUnwindSafe(|| case(&mut dice)));
        let outcome = outcome.unwrap_or_else(|_| Err("a panic".to_owned()));
        if let Err(error) = outcome {
            panic!("{target}: seed {seed}, case {cases}: {error}");
        }
        cases += 1;
    }
    let seconds = began.elapsed().as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = cases as f64 / seconds.max(1e-9);
    println!("| {target} | {cases} | {seconds:.1} | {rate:.0} | 0 |");
}

/// One test: a peak of memory belongs to the case that runs alone.
#[test]
fn no_bytes_break_what_reads_them() {
    println!("| target | cases | seconds | cases/s | findings |\n|---|---|---|---|---|");
    records::replay();
    attack("records", 1, records::decoded);
    attack("headers", 1, records::kept);
    attack("lanes", 200, lanes::accounted);
    attack("configuration", 10, configs::read);
}
