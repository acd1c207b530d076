//! The tokio tasks that join the sides: the only place that knows all of them.
//!
//! One router, a few writers, one relay, and the poll thread of the Kafka client. The router hands lanes to
//! writers; a writer gathers, decides and commits, and hands messages to the relay.

mod ahead;
mod chance;
mod claim;
pub mod clock;
mod forget;
mod gate;
mod gather;
mod link;
mod load;
mod ownership;
mod probe;
mod relay;
mod resend;
mod router;
mod send;
pub mod settings;
pub mod slot;
mod start;
mod tell;
#[cfg(test)]
mod testing;
mod transact;
mod writer;

pub use chance::Chance;
pub use start::{Environment, run, run_on};
