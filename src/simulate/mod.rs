//! `simulate`: the shipped worker in simulated worlds, one for each seed, under every fault there.

mod gateway;
mod laws;
mod model;
mod traffic;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use seriatim::{
    core::{catalog::Catalog, message::Message},
    failure::Exit,
    shop,
    simulation::{Dice, Evidence, Outcome, Outsider, Scenario, Simulator},
};

use self::gateway::{Books, Gateway};

/// Trials that are spent on making a red plan smaller.
const SHRINK_RUNS: usize = 400;
/// Lines of a red trace that are shown.
const TRACE_LINES: usize = 120;

/// The shipped worker's scenario. One a thread: it keeps the gateway's books of the world that runs.
#[derive(Debug, Default)]
struct Shop {
    books: Books,
}

impl Scenario for Shop {
    fn catalog(&self) -> Catalog {
        let settings = shop::Settings {
            reserve_deadline: Duration::from_millis(900),
            confirm_deadline: Duration::from_secs(8),
            undo_deadline: Duration::from_secs(8),
            charge_deadline: Duration::from_millis(1_200),
            capture_retry: Duration::from_millis(300),
            refund_retry: Duration::from_millis(300),
            ..shop::Settings::default()
        };
        shop::catalog(&settings, "")
    }

    fn traffic(&self, partitions: i32, dice: &mut Dice) -> Vec<(Duration, Message)> {
        traffic::traffic(partitions, dice)
    }

    fn outsider(&self, seed: u64, partitions: i32) -> Box<dyn Outsider> {
        self.books.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
        Box::new(Gateway::new(seed, partitions, Arc::clone(&self.books)))
    }

    fn judge(&self, evidence: &Evidence) -> Vec<String> {
        let books = self.books.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        laws::judge(evidence, &books)
    }
}

/// What all threads add up.
#[derive(Debug, Default)]
struct Sum {
    worlds: u64,
    records: usize,
    simulated: Duration,
    counts: BTreeMap<&'static str, u64>,
    red: Vec<(u64, Vec<String>)>,
}

/// Runs `seeds` worlds from the seed `first` on.
pub fn run(seeds: u64, first: u64, threads: usize, traced: bool) -> Exit {
    let began = Instant::now();
    let sum = Mutex::new(Sum::default());
    std::thread::scope(|scope| {
        for thread in 0..threads as u64 {
            let sum = &sum;
            scope.spawn(move || {
                let shop = Shop::default();
                let simulator = Simulator::new(&shop);
                for seed in (first..first.saturating_add(seeds)).skip(thread as usize).step_by(threads) {
                    let outcome = simulator.run(&simulator.plan(seed), traced && seeds == 1);
                    sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(seed, outcome);
                }
            });
        }
    });
    let mut sum = sum.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    sum.print(began.elapsed());
    sum.red.sort();
    let Some((seed, findings)) = sum.red.first() else { return Exit::Done };
    explain(*seed, findings);
    Exit::Failed
}

impl Sum {
    fn add(&mut self, seed: u64, outcome: Outcome) {
        self.worlds += 1;
        self.records += outcome.records;
        self.simulated += outcome.took;
        for (what, count) in outcome.counts {
            *self.counts.entry(what).or_insert(0) += count;
        }
        outcome.trace.iter().for_each(|line| println!("{line}"));
        if !outcome.findings.is_empty() {
            println!("seed {seed}: {}", outcome.findings.join("; "));
            self.red.push((seed, outcome.findings));
        }
    }

    fn print(&self, took: Duration) {
        println!("{} worlds, {} red", self.worlds, self.red.len());
        println!("{} records, {} s of simulated time", self.records, self.simulated.as_secs());
        for (what, count) in &self.counts {
            println!("{count:>10}  {what}");
        }
        #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = self.worlds as f64 / took.as_secs_f64();
        eprintln!("{rate:.0} worlds a second, {:.1} s", took.as_secs_f64());
    }
}

/// The line that replays a red world, the smallest world found that is red as well, and how it went.
fn explain(seed: u64, findings: &[String]) {
    println!("\nred: {}", findings.join("\n     "));
    println!("replay: seriatim simulate --seeds 1 --seed {seed} --trace");
    let shop = Shop::default();
    let simulator = Simulator::new(&shop);
    let small = simulator.shrink(&simulator.plan(seed), SHRINK_RUNS);
    let outcome = simulator.run(&small, true);
    println!("\nshrunk to {} workers, {} events, and", small.workers, small.traffic.len());
    println!("  {:?}", small.illness);
    small.strikes.iter().for_each(|strike| println!("  {} ms  {:?}", strike.at.as_millis(), strike.what));
    println!("it ends with: {}", outcome.findings.join("\n     "));
    let skipped = outcome.trace.len().saturating_sub(TRACE_LINES);
    println!("\ntrace ({skipped} lines before it are left out):");
    outcome.trace.iter().skip(skipped).for_each(|line| println!("{line}"));
}

/// Takes each safeguard away in turn and runs worlds until one is red. Ends with 1 if one is missed by nobody.
#[cfg(feature = "faults")]
pub fn sabotage(only: &str, seeds: u64, first: u64) -> Exit {
    use seriatim::core::sabotage::{Safeguard, take_away};

    let shop = Shop::default();
    let simulator = Simulator::new(&shop);
    let mut unnoticed = 0;
    println!("| safeguard | without it | noticed by | after worlds |\n|---|---|---|---|");
    for safeguard in Safeguard::ALL.iter().filter(|known| ["all", known.as_str()].contains(&only)) {
        take_away(Some(*safeguard));
        let red = (0..seeds).find_map(|nth| {
            let findings = simulator.run(&simulator.plan(first + nth), false).findings;
            (!findings.is_empty()).then_some((nth + 1, findings))
        });
        let (name, says) = (safeguard.as_str(), safeguard.says());
        match red {
            Some((worlds, findings)) => {
                let laws: std::collections::BTreeSet<&str> =
                    findings.iter().filter_map(|finding| finding.split([':', ' ']).next()).collect();
                let laws = laws.into_iter().collect::<Vec<_>>().join(", ");
                println!("| {name} | {says} | {laws} | {worlds} |");
            }
            None => {
                println!("| {name} | {says} | nobody | {seeds} |");
                unnoticed += 1;
            }
        }
    }
    take_away(None);
    if unnoticed == 0 { Exit::Done } else { Exit::Failed }
}

/// How many worlds run at once unless it is said.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
