//! A broker inside this process, for the demo and for tests: librdkafka's own, on a loopback port.
//!
//! It keeps 5 MiB or 100,000 records a partition and then drops the oldest in silence, its log ends with it, and it
//! cannot create topics on request: whoever uses it makes them here and stays inside that.

use std::{collections::BTreeMap, fmt};

use rdkafka::{mocking::MockCluster, producer::DefaultProducerContext};

use super::Error;

/// Bytes that the broker keeps of a partition before it drops the oldest.
pub const PARTITION_BYTES_MAX: usize = 5 << 20;

/// A broker that lives as long as this value. It must outlive the clients that use it.
pub struct MockBroker {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl fmt::Debug for MockBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockBroker").field("brokers", &self.brokers()).finish()
    }
}

impl MockBroker {
    /// Starts the broker with these topics, each with so many partitions.
    ///
    /// # Errors
    /// If it cannot be started or refuses a topic.
    pub fn start(topics: &BTreeMap<String, i32>) -> Result<Self, Error> {
        let cluster = MockCluster::new(1).map_err(Error::client("starting the in-process broker"))?;
        for (topic, partitions) in topics {
            let made = cluster.create_topic(topic, *partitions, 1);
            made.map_err(Error::client(format!("creating topic {topic} at the in-process broker")))?;
        }
        Ok(Self { cluster })
    }

    /// Where it listens, as `host:port`.
    #[must_use]
    pub fn brokers(&self) -> String {
        self.cluster.bootstrap_servers()
    }
}
