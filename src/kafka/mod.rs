//! All that names rdkafka: reading, rebalancing, producing, topics.
