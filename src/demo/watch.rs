//! Waits until all is drained, within a bound, and shows how far it is meanwhile.
//!
//! Drained is not "nothing happens for a while" but a state that cannot change by itself: nothing stands in a lane or
//! between two, no saga or payment is under way, the gateway owes no answer, and every message is in its topic.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use seriatim::{
    core::catalog::Catalog,
    shop::{payment::PaymentStatus, purchase},
    store::Session,
};

use super::{
    gateway::Seen,
    screen::Screen,
    tables::{self, UnderWay},
    world::{self, Running, World},
};

/// How long draining may take: longest are the deadlines that the demo sets, one behind the other.
const DRAIN_DEADLINE: Duration = Duration::from_secs(120);
/// How often progress is shown and the tables are looked at.
const GLANCE: Duration = Duration::from_millis(150);

/// Looks at a worker from outside.
pub struct Watch<'a> {
    pub world: &'a World,
    pub session: Box<dyn Session>,
    pub gateway: Arc<Seen>,
    pub started: Instant,
}

impl Watch<'_> {
    /// Waits until `reached`, or until something has failed.
    pub async fn until(
        &mut self,
        screen: &mut Screen,
        running: &Running,
        what: &str,
        reached: impl Fn(&UnderWay) -> bool,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + DRAIN_DEADLINE;
        let mut glance = tokio::time::interval(GLANCE);
        loop {
            glance.tick().await;
            ensure!(!running.task.is_finished(), "the worker has ended");
            screen.progress(&self.line());
            let under_way = UnderWay::load(&mut *self.session).await?;
            if reached(&under_way) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("waited in vain for {what}: {}", self.line());
            }
        }
    }

    /// Waits until all is drained and `orders` orders are done.
    pub async fn drained(&mut self, screen: &mut Screen, running: &Running, orders: usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + DRAIN_DEADLINE;
        let mut glance = tokio::time::interval(GLANCE);
        loop {
            glance.tick().await;
            ensure!(!running.task.is_finished(), "the worker has ended");
            screen.progress(&self.line());
            let why = self.open(orders).await?;
            if why.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("not drained in time: {}", why.join(", "));
            }
        }
    }

    /// What is still under way; the cheap questions first.
    async fn open(&mut self, orders: usize) -> anyhow::Result<Vec<String>> {
        let lag = self.world.metrics.standing().lag;
        let pending = self.gateway.pending.load(Ordering::SeqCst);
        if lag > 0 || pending > 0 {
            return Ok(vec![format!("{lag} records to read, {pending} answers of the gateway to come")]);
        }
        let under_way = UnderWay::load(&mut *self.session).await?;
        let payments = tables::payments(&mut *self.session).await?;
        let open = |status| matches!(status, PaymentStatus::Requested | PaymentStatus::Refunding);
        let payments = payments.iter().filter(|payment| open(payment.status)).count();
        let counts = [
            ("records held", under_way.held.len()),
            ("records waiting", under_way.waiting.len()),
            ("sagas open", under_way.open_sagas()),
            ("payments open", payments),
            ("entities draining", under_way.quarantines.iter().filter(|row| row.status == "draining").count()),
            ("orders", orders.saturating_sub(under_way.orders_done.len())),
        ];
        let mut why: Vec<String> =
            counts.iter().filter(|(_, count)| *count > 0).map(|(what, count)| format!("{count} {what}")).collect();
        let links = under_way.between_lanes();
        if links != 0 {
            why.push(format!("{links} messages between lanes"));
        }
        if why.is_empty() {
            why = self.unsent(&under_way).await?;
        }
        Ok(why)
    }

    /// What is committed and not in its topic, and what is there and not read.
    async fn unsent(&mut self, under_way: &UnderWay) -> anyhow::Result<Vec<String>> {
        let mut why = Vec::new();
        let mut compare = |topic: &str, there: i64, expected: i64| {
            if there < expected {
                why.push(format!("{topic} has {there} of {expected} messages"));
            }
        };
        for topic in [world::REQUESTS, purchase::OUTCOMES] {
            compare(topic, self.world.records(topic).await?, under_way.sent_to(topic));
        }
        let asked = self.world.records(world::REQUESTS).await?;
        compare("the gateway", self.gateway.requests.load(Ordering::SeqCst), asked);
        let letters = tables::letters(&mut *self.session).await?;
        for home in &self.world.homes {
            let topic = Catalog::dead_letter_topic(home);
            let expected = letters.iter().filter(|letter| letter.topic == *home).count();
            compare(&topic, self.world.records(&topic).await?, i64::try_from(expected)?);
            compare(home, self.read_of(home).await?, self.world.records(home).await?);
        }
        Ok(why)
    }

    async fn read_of(&mut self, topic: &str) -> anyhow::Result<i64> {
        let mut read = 0;
        for partition in 0..self.world.partitions {
            let lane = seriatim::core::record::LaneId { topic: topic.to_owned(), partition };
            read += self.session.peek(&lane).await?.map_or(0, |row| row.fence.next_offset);
        }
        Ok(read)
    }

    fn line(&self) -> String {
        let ended = self.world.metrics.ended();
        let count = |outcome: &str| ended.get(outcome).copied().unwrap_or_default();
        let standing = self.world.metrics.standing();
        // Fits a line of eighty columns: a longer one could not be written over.
        format!(
            "{:>3.0} s  {} applied, {} dead letters; {} held, {} waiting, {} parked; {} to read",
            self.started.elapsed().as_secs_f64(),
            count("applied"),
            count("dead_lettered"),
            standing.held,
            standing.waiting,
            standing.parked,
            standing.lag,
        )
    }
}
