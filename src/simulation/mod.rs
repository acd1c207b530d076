//! Deterministic simulation of the whole worker, from one seed: several workers, the real tasks, lanes, saga engine and
//! relay, on a store and brokers in memory that fail, are late, lose answers and go back in time.
//!
//! A team brings its own handlers as a [`Scenario`]: what is sent, who answers outside, and what must hold in the end.
//! What holds for every worker is judged here: every record accounted for, versions dense, order kept, links without
//! loss, fences whole, everything at rest once nothing strikes any more.

mod brokers;
mod dice;
mod evidence;
mod fork;
mod group;
mod judge;
mod log;
mod operator;
mod plan;
mod process;
mod run;
mod settings;
mod shrink;
mod store;
mod world;

use std::{collections::BTreeMap, time::Duration};

pub use self::{
    dice::Dice,
    evidence::Evidence,
    plan::{Blow, Illness, Plan, Strike},
};
use crate::{
    config::Config,
    core::{
        catalog::Catalog,
        message::Message,
        record::{LaneId, Record},
    },
    telemetry::Metrics,
};

/// What is simulated: kinds and sagas, what comes in, who answers, and what must hold.
pub trait Scenario: Send + Sync {
    /// The kinds, sagas and topics.
    fn catalog(&self) -> Catalog;

    /// Changes the workers' configuration, whose times are milliseconds here.
    fn configure(&self, _config: &mut Config) {}

    /// What producers send, and when since the world began; topics have so many partitions each.
    fn traffic(&self, partitions: i32, dice: &mut Dice) -> Vec<(Duration, Message)>;

    /// Whether an operator releases, skips, discards, retries and replays what the tables suggest. What he passes over
    /// or takes up outside the order, the judge has to allow for.
    fn has_operator(&self) -> bool {
        false
    }

    /// Who answers what the worker sends to topics that are not home to a kind.
    fn outsider(&self, seed: u64, partitions: i32) -> Box<dyn Outsider>;

    /// What does not hold at rest, a line each.
    fn judge(&self, evidence: &Evidence) -> Vec<String>;
}

/// A participant outside. It hears a message as often as it is written, so repeats are its own affair.
pub trait Outsider: Send {
    /// What it sends back, and after how long.
    fn hear(&mut self, lane: &LaneId, record: &Record, dice: &mut Dice) -> Vec<(Duration, Message)>;
}

/// How a world ended.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What did not hold; none: it is well.
    pub findings: Vec<String>,
    /// Records written, by producers and by the worker.
    pub records: usize,
    /// Simulated time.
    pub took: Duration,
    /// How often what happened.
    pub counts: BTreeMap<&'static str, u64>,
    /// What happened, line by line, if it was asked for.
    pub trace: Vec<String>,
}

/// Runs worlds of a scenario, one after the other.
#[derive(Debug)]
pub struct Simulator<'a, S: Scenario + ?Sized> {
    scenario: &'a S,
    metrics: Metrics,
}

impl<'a, S: Scenario> Simulator<'a, S> {
    /// A simulator of `scenario`.
    #[must_use]
    pub fn new(scenario: &'a S) -> Self {
        Self { scenario, metrics: Metrics::new() }
    }

    /// The plan of a seed.
    #[must_use]
    pub fn plan(&self, seed: u64) -> Plan {
        let plan = Plan::new(seed);
        let mut plan = if self.scenario.has_operator() { plan.with_orders() } else { plan };
        plan.traffic = self.scenario.traffic(plan.partitions, &mut Dice::new(seed).fork(5));
        plan
    }

    /// Runs a plan. `traced`: keep what happens, line by line.
    #[must_use]
    pub fn run(&self, plan: &Plan, traced: bool) -> Outcome {
        run::run(self.scenario, plan, &self.metrics, traced)
    }

    /// The smallest plan found that fails as `plan` does, within so many runs.
    #[must_use]
    pub fn shrink(&self, plan: &Plan, runs: usize) -> Plan {
        shrink::shrink(plan, runs, |plan| !self.run(plan, false).findings.is_empty())
    }
}
