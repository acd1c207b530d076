//! The section `saga`: deadlines of the checkout's steps, and how often the payment gateway is asked again.

use std::time::Duration;

use super::reader::Reader;

/// Deadlines and retries of the checkout.
#[derive(Clone, Debug)]
pub struct Saga {
    /// How long the stock has to answer a reservation. Default 1 min.
    pub reserve_deadline: Duration,
    /// How long a payment has to be captured before the purchase is undone. Default 10 min.
    pub charge_deadline: Duration,
    /// How long the stock has to answer once the money is taken; then an alarm. Default 10 min.
    pub confirm_deadline: Duration,
    /// How long undoing may take before a person is called. Default 1 h.
    pub undo_deadline: Duration,
    /// Pause before a capture that got no answer is requested again. Default 30 s.
    pub capture_retry: Duration,
    /// Requests of a capture in all. Default 5.
    pub capture_attempts: usize,
    /// Pause before a refund that got no answer is requested again. Default 30 s.
    pub refund_retry: Duration,
    /// Requests of a refund in all. Default 20: money owed is asked for longer than money wanted.
    pub refund_attempts: usize,
}

impl Saga {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let mut area = reader.area("saga");
        let (second, day) = (Duration::from_secs(1), Duration::from_secs(86_400));
        let mut time = |name, seconds| area.duration(name, seconds * second, second / 10..=30 * day);
        let (reserve_deadline, charge_deadline) = (time("reserve_deadline", 60), time("charge_deadline", 600));
        let (confirm_deadline, undo_deadline) = (time("confirm_deadline", 600), time("undo_deadline", 3_600));
        let (capture_retry, refund_retry) = (time("capture_retry", 30), time("refund_retry", 30));
        Self {
            reserve_deadline,
            charge_deadline,
            confirm_deadline,
            undo_deadline,
            capture_retry,
            capture_attempts: area.count("capture_attempts", 5, 1..=1_000),
            refund_retry,
            refund_attempts: area.count("refund_attempts", 20, 1..=1_000),
        }
    }
}
