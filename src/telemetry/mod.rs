//! What the worker tells of itself: logs for people, metrics for machines.
//!
//! Neither may ever slow the path down: a log line that finds its queue full is dropped and counted, a metric is an
//! atomic. Neither holds payloads, secrets or personal data.

mod logs;
mod metrics;

pub use self::{
    logs::{Flush, StartError, start},
    metrics::{LaneGauges, Metrics},
};
