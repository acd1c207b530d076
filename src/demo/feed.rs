//! Producers outside the worker: hand messages to the broker and know when all are there.

use std::time::Duration;

use anyhow::{anyhow, bail};
use seriatim::{
    broker::{Producer as _, Report, SendError},
    core::message::Message,
    kafka::{Producer, Settings},
};
use tokio::sync::mpsc::{self, UnboundedReceiver};

/// How long the broker in this very process may take to acknowledge a message.
const REPORT_DEADLINE: Duration = Duration::from_secs(30);

/// Sends messages.
pub struct Feed {
    producer: Producer,
    reports: UnboundedReceiver<Report>,
    /// Messages sent whose report was not read yet.
    unreported: u64,
}

impl Feed {
    pub fn start(settings: &Settings, name: &str) -> anyhow::Result<Self> {
        let settings = Settings { client_id: name.to_owned(), ..settings.clone() };
        let (sender, reports) = mpsc::unbounded_channel();
        Ok(Self { producer: Producer::start(&settings, sender)?, reports, unreported: 0 })
    }

    /// Hands a message over; those of one partition arrive in this order.
    pub async fn send(&mut self, message: &Message) -> anyhow::Result<()> {
        loop {
            match self.producer.send(message, 0) {
                Ok(()) => {
                    self.unreported += 1;
                    return Ok(());
                }
                // Either way the producer takes it once it has heard of an earlier one.
                Err(SendError::Full | SendError::Opening) if self.unreported > 0 => self.hear().await?,
                Err(error) => return Err(anyhow!("sending to the in-process broker: {error}")),
            }
        }
    }

    /// Sends these and waits until the broker has them.
    pub async fn send_all(&mut self, messages: &[Message]) -> anyhow::Result<()> {
        for message in messages {
            self.send(message).await?;
        }
        self.acknowledged().await
    }

    /// Waits until the broker has all that was sent.
    pub async fn acknowledged(&mut self) -> anyhow::Result<()> {
        while self.unreported > 0 {
            self.hear().await?;
        }
        Ok(())
    }

    async fn hear(&mut self) -> anyhow::Result<()> {
        let Ok(Some(report)) = tokio::time::timeout(REPORT_DEADLINE, self.reports.recv()).await else {
            bail!("the in-process broker does not acknowledge");
        };
        self.unreported -= 1;
        report.result.map_err(|failure| anyhow!("sending to the in-process broker: {}", failure.error))
    }
}
