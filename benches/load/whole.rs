//! A topic from its beginning to where it ends now.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    message::BorrowedMessage,
};

/// Brokers that say nothing for so long have gone.
const HANG: Duration = Duration::from_secs(30);

/// What is still to be read of a topic.
pub struct Whole {
    consumer: BaseConsumer,
    left: i64,
}

impl Whole {
    /// All that the topic holds now; fails if something was taken off its beginning.
    pub fn of(brokers: &str, topic: &str, partitions: i32) -> anyhow::Result<Self> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", "whole")
            .set("enable.auto.commit", "false")
            .create()?;
        let (mut assignment, mut left) = (TopicPartitionList::new(), 0);
        for partition in 0..partitions {
            let (low, high) = consumer.fetch_watermarks(topic, partition, HANG)?;
            ensure!(low == 0, "{topic} was trimmed");
            left += high;
            assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&assignment)?;
        Ok(Self { consumer, left })
    }

    /// The next message; none behind the last.
    pub fn next(&mut self) -> anyhow::Result<Option<BorrowedMessage<'_>>> {
        if self.left == 0 {
            return Ok(None);
        }
        let message = self.consumer.poll(HANG).with_context(|| format!("{} messages cannot be read", self.left))?;
        self.left -= 1;
        Ok(Some(message?))
    }
}
