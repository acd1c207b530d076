//! `simulate`: the shipped worker in simulated worlds, one for each seed, under every fault there.

mod gateway;
mod laws;
mod model;
#[cfg(feature = "faults")]
mod sabotage;
mod traffic;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use clap::ValueEnum as _;
use seriatim::{
    core::{catalog::Catalog, message::Message},
    failure::Exit,
    shop,
    simulation::{Dice, Evidence, Outcome, Outsider, Scenario, Simulator},
};

use self::gateway::{Books, Gateway};
pub use self::traffic::Part;

/// Trials that are spent on making a red plan smaller.
const SHRINK_RUNS: usize = 400;
/// Lines of a red trace that are shown.
const TRACE_LINES: usize = 120;

/// What is simulated, as it is asked for on the command line.
#[derive(clap::Args, Clone, Debug)]
pub struct Task {
    /// How many worlds
    #[arg(long, default_value_t = 1_000)]
    pub seeds: u64,
    /// The seed of the first
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Worlds at the same time; as many as there are cores, unless given
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    /// Producers send events of this part of the shop alone, in worlds that are smaller for it
    #[arg(long, value_name = "PART")]
    pub only: Option<Part>,
    /// Print all that happens, if it is one world
    #[arg(long)]
    pub trace: bool,
    /// Take a safeguard away, or each in turn, and say which law notices
    #[cfg(feature = "faults")]
    #[arg(long, value_name = "SAFEGUARD", num_args = 0..=1, default_missing_value = "all")]
    pub sabotage: Option<String>,
}

/// The shipped worker's scenario. One a thread: it keeps the gateway's books of the world that runs.
#[derive(Debug, Default)]
struct Shop {
    books: Books,
    only: Option<Part>,
}

impl Shop {
    fn new(only: Option<Part>) -> Self {
        Self { only, ..Self::default() }
    }
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
        traffic::traffic(self.only, partitions, dice)
    }

    fn has_operator(&self) -> bool {
        true
    }

    fn outsider(&self, seed: u64, partitions: i32) -> Box<dyn Outsider> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Box::new(Gateway::new(seed, partitions, Arc::clone(&self.books)))
    }

    fn judge(&self, evidence: &Evidence) -> Vec<String> {
        let books = self.books.lock().unwrap_or_else(PoisonError::into_inner).clone();
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

/// Runs worlds, one for each seed; or looks for what notices that safeguards are missing.
pub fn run(task: &Task) -> Exit {
    #[cfg(feature = "faults")]
    if let Some(safeguards) = &task.sabotage {
        return sabotage::run(safeguards, task);
    }
    let began = Instant::now();
    let sum = Mutex::new(Sum::default());
    std::thread::scope(|scope| {
        for thread in 0..threads(task) {
            let sum = &sum;
            scope.spawn(move || {
                let shop = Shop::new(task.only);
                let simulator = Simulator::new(&shop);
                let seeds = task.seed..task.seed.saturating_add(task.seeds);
                for seed in seeds.skip(thread).step_by(threads(task)) {
                    let outcome = simulator.run(&simulator.plan(seed), task.trace && task.seeds == 1);
                    sum.lock().unwrap_or_else(PoisonError::into_inner).add(seed, outcome);
                }
            });
        }
    });
    let mut sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    sum.print(began.elapsed());
    sum.red.sort();
    let Some((seed, findings)) = sum.red.first() else { return Exit::Done };
    explain(*seed, task.only, findings);
    Exit::Failed
}

/// How many worlds run at once.
fn threads(task: &Task) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    task.threads.map_or_else(cores, usize::from)
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
fn explain(seed: u64, only: Option<Part>, findings: &[String]) {
    println!("\nred: {}", findings.join("\n     "));
    let only_part = only.and_then(|part| part.to_possible_value());
    let only_part = only_part.map_or_else(String::new, |part| format!(" --only {}", part.get_name()));
    println!("replay: seriatim simulate --seeds 1 --seed {seed}{only_part} --trace");
    let shop = Shop::new(only);
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
