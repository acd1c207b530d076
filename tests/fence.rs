//! Who owns a lane, and what holds when owners, connections and the database misbehave: on a real broker and a
//! real PostgreSQL.
//!
//! Counters are the measure: their versions count applied events and their values add deltas, so anything that
//! is applied twice or lost shows in two sums.

#[path = "fence/commits.rs"]
mod commits;
#[path = "fence/ownership.rs"]
mod ownership;
#[path = "fence/proxy.rs"]
mod proxy;
#[path = "support/services.rs"]
mod services;
#[path = "fence/stage.rs"]
mod stage;
#[path = "fence/starting.rs"]
mod starting;
#[path = "fence/timers.rs"]
mod timers;
