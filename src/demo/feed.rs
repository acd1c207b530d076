//! Producers outside the worker: hand messages to the broker and know when all are there.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{anyhow, bail};
use seriatim::{
    core::message::Message,
    kafka::{Producer, SendError, Settings},
};
use tokio::sync::{
    Mutex,
    mpsc::{self, UnboundedReceiver},
};

/// How long the broker in this very process may take to acknowledge what it was given.
const ACKNOWLEDGED_DEADLINE: Duration = Duration::from_secs(30);

/// Sends messages. Clones share the client.
#[derive(Clone)]
pub struct Feed {
    producer: Arc<Producer>,
    reports: Arc<Mutex<UnboundedReceiver<seriatim::kafka::Report>>>,
    sent: Arc<AtomicU64>,
}

impl Feed {
    pub fn start(settings: &Settings, name: &str) -> anyhow::Result<Self> {
        let settings = Settings { client_id: name.to_owned(), ..settings.clone() };
        let (sender, reports) = mpsc::unbounded_channel();
        let producer = Producer::start(&settings, sender)?;
        Ok(Self {
            producer: Arc::new(producer),
            reports: Arc::new(Mutex::new(reports)),
            sent: Arc::new(AtomicU64::new(0)),
        })
    }

    /// Hands a message over; those of one partition arrive in this order. Waits while the first message for its
    /// partition is under way.
    pub async fn send(&self, message: Message) -> anyhow::Result<()> {
        let deadline = Instant::now() + ACKNOWLEDGED_DEADLINE;
        loop {
            match self.producer.send(&message, 0) {
                Ok(()) => {
                    self.sent.fetch_add(1, Ordering::SeqCst);
                    return Ok(());
                }
                Err(SendError::Opening) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                // Its queue takes far more than the broker keeps.
                Err(SendError::Full) => bail!("the demo sends more than its broker keeps"),
                Err(error) => return Err(anyhow!(error)),
            }
        }
    }

    /// Sends these and waits until the broker has them.
    pub async fn send_all(&self, messages: &[Message]) -> anyhow::Result<()> {
        for message in messages {
            self.send(message.clone()).await?;
        }
        let deadline = Instant::now() + ACKNOWLEDGED_DEADLINE;
        let mut reports = self.reports.lock().await;
        for _ in 0..self.sent.swap(0, Ordering::SeqCst) {
            let left = deadline.saturating_duration_since(Instant::now());
            let report = tokio::time::timeout(left, reports.recv()).await;
            let Ok(Some(report)) = report else { bail!("the in-process broker does not acknowledge") };
            report.result.map_err(|failure| anyhow!("sending to the in-process broker: {}", failure.error))?;
        }
        Ok(())
    }
}
