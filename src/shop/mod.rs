//! The shipped worker: purchases with their checkout, payments, stock, profiles, counters.
//!
//! Written on the library's public face alone, as a team's own worker would be: one file a kind, read
//! from the top down: its events, its rows, what it decides.

pub mod checkout;
pub mod counter;
mod fields;
pub mod laws;
pub mod money;
pub mod payment;
pub mod profile;
pub mod purchase;
pub mod schema;
pub mod stock;
mod words;

#[cfg(test)]
mod checkout_tests;

use std::time::Duration;

use crate::{config, core::catalog::Catalog};

/// How patient the checkout is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long the stock may take to answer before the purchase is rejected with `timeout`.
    pub reserve_deadline: Duration,
    /// How long the payment may take, retries included, before the purchase is rejected with `timeout`.
    pub charge_deadline: Duration,
    /// How long committing the stock may take before a person is called.
    pub confirm_deadline: Duration,
    /// How long an undo may take before a person is called.
    pub undo_deadline: Duration,
    /// How long to wait for a gateway's answer before the capture is asked for again.
    pub capture_retry: Duration,
    /// How often a capture is asked for at most; after that the charge deadline decides.
    pub capture_attempts: i64,
    /// How long to wait for a gateway's answer before the refund is asked for again.
    pub refund_retry: Duration,
    /// How often a refund is asked for at most; after that a person is called.
    pub refund_attempts: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            reserve_deadline: Duration::from_secs(60),
            charge_deadline: Duration::from_secs(15 * 60),
            confirm_deadline: Duration::from_secs(60),
            undo_deadline: Duration::from_secs(60 * 60),
            capture_retry: Duration::from_secs(60),
            capture_attempts: 5,
            refund_retry: Duration::from_secs(60),
            refund_attempts: 20,
        }
    }
}

impl From<&config::Saga> for Settings {
    fn from(saga: &config::Saga) -> Self {
        let attempts = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        Self {
            reserve_deadline: saga.reserve_deadline,
            charge_deadline: saga.charge_deadline,
            confirm_deadline: saga.confirm_deadline,
            undo_deadline: saga.undo_deadline,
            capture_retry: saga.capture_retry,
            capture_attempts: attempts(saga.capture_attempts),
            refund_retry: saga.refund_retry,
            refund_attempts: attempts(saga.refund_attempts),
        }
    }
}

/// All that the shipped worker knows. Every topic's name begins with `prefix`; usually empty.
#[must_use]
pub fn catalog(settings: &Settings, prefix: &str) -> Catalog {
    Catalog::new(prefix)
        .kind(purchase::Purchases)
        .kind(payment::Payments::new(settings))
        .kind(stock::Stock)
        .kind(profile::Profiles)
        .kind(counter::Counters)
        .saga(checkout::definition(settings))
        .destination(payment::REQUESTS, true)
        .destination(purchase::OUTCOMES, true)
}
