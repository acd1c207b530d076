//! Sending: one report a message, and nothing after a failed message.

use std::time::Duration;

use rdkafka::{
    mocking::MockCluster,
    types::{RDKafkaApiKey as Api, RDKafkaRespErr as Error},
};
use seriatim::{
    broker::{Broker as _, Producer as _, Purged, SendError},
    kafka::{Cluster, Producer, Settings},
};
use tokio::sync::mpsc::unbounded_channel;

use super::support::{HANG, lane, message, send, settings, take_reports};

#[tokio::test]
async fn every_message_has_one_report_with_its_tag() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("out", 2, 1).unwrap();
    let (sender, mut reports) = unbounded_channel();
    let producer = Producer::start(&settings(&cluster.bootstrap_servers(), "group"), sender).unwrap();
    let tags = [0, 1, u64::MAX, u64::MAX - 1, 1 << 40];
    for (at, tag) in tags.into_iter().enumerate() {
        send(&producer, &message(&lane("out", (at % 2) as i32), "x"), tag).await;
    }
    let mut told: Vec<u64> = take_reports(&mut reports, tags.len())
        .await
        .into_iter()
        .map(|report| report.result.map(|()| report.tag).unwrap())
        .collect();
    told.sort_unstable();
    assert_eq!(told, [0, 1, 1 << 40, u64::MAX - 1, u64::MAX]);
    assert_eq!(Box::new(producer).purge(HANG).await, Purged::Drained);
    assert_eq!(reports.recv().await, None, "no report twice");
}

#[tokio::test]
async fn purging_reports_every_message_that_was_not_acknowledged() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("out", 1, 1).unwrap();
    let (sender, mut reports) = unbounded_channel();
    let producer = Producer::start(&settings(&cluster.bootstrap_servers(), "group"), sender).unwrap();
    producer.send(&message(&lane("out", 0), "x"), 0).unwrap();
    assert!(take_reports(&mut reports, 1).await[0].result.is_ok());
    cluster.broker_down(-1).unwrap();
    for tag in 1..=1000 {
        send(&producer, &message(&lane("out", 0), "x"), tag).await;
    }
    assert_eq!(Box::new(producer).purge(HANG).await, Purged::Drained);
    let mut failed = Vec::new();
    while let Some(report) = reports.recv().await {
        assert!(report.result.is_err(), "message {} went out with all brokers down", report.tag);
        failed.push(report.tag);
    }
    failed.sort_unstable();
    assert_eq!(failed, (1..=1000).collect::<Vec<_>>());
}

#[tokio::test]
async fn nothing_lands_after_a_message_that_failed_for_good() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("out", 1, 1).unwrap();
    let settings = settings(&cluster.bootstrap_servers(), "group");
    let out = lane("out", 0);
    let (sender, mut reports) = unbounded_channel();
    let producer = Producer::start(&settings, sender).unwrap();
    producer.send(&message(&out, "lands"), 0).unwrap();
    assert!(take_reports(&mut reports, 1).await[0].result.is_ok());

    cluster.request_errors(Api::Produce, &[Error::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]);
    producer.send(&message(&out, "fails"), 1).unwrap();
    assert!(take_reports(&mut reports, 1).await[0].result.is_err());
    for tag in 2..10 {
        match producer.send(&message(&out, "comes after"), tag) {
            Err(SendError::Fatal(_)) => {}
            Err(other) => panic!("{other}"),
            Ok(()) => {
                let report = take_reports(&mut reports, 1).await.remove(0);
                assert!(report.result.is_err_and(|failure| failure.fatal), "message {tag} landed after the failed one");
            }
        }
    }
    assert_eq!(Box::new(producer).purge(HANG).await, Purged::Drained);
    let watermarks = Cluster::new(&settings).unwrap().watermarks(&out, HANG).await.unwrap();
    assert_eq!(watermarks, (0, 1));
}

#[tokio::test]
async fn passing_errors_are_outlived_in_order() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("out", 1, 1).unwrap();
    let settings = settings(&cluster.bootstrap_servers(), "group");
    cluster.request_errors(
        Api::Produce,
        &[
            Error::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
            Error::RD_KAFKA_RESP_ERR__TRANSPORT,
            Error::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        ],
    );
    let (sender, mut reports) = unbounded_channel();
    let producer = Producer::start(&settings, sender).unwrap();
    for tag in 0..100 {
        send(&producer, &message(&lane("out", 0), "x"), tag).await;
    }
    let reports = take_reports(&mut reports, 100).await;
    let tags: Vec<u64> = reports.iter().map(|report| report.tag).collect();
    assert_eq!(tags, (0..100).collect::<Vec<_>>());
    assert!(reports.iter().all(|report| report.result.is_ok()));
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_and_the_next_one_goes_out() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("out", 1, 1).unwrap();
    let (sender, mut reports) = unbounded_channel();
    let producer = Producer::start(&settings(&cluster.bootstrap_servers(), "group"), sender).unwrap();
    let large = message(&lane("out", 0), vec![0; 1_100_000]);
    assert!(matches!(producer.send(&large, 0), Err(SendError::Refused(_))));
    producer.send(&message(&lane("out", 0), "x"), 1).unwrap();
    assert_eq!(take_reports(&mut reports, 1).await[0].tag, 1);
}

#[tokio::test]
async fn a_full_queue_says_so() {
    let (sender, mut reports) = unbounded_channel();
    let settings = Settings { producer_bytes_max: 64 << 10, ..settings("127.0.0.1:1", "group") };
    let producer = Producer::start(&settings, sender).unwrap();
    let mut sent = 0;
    let refused = loop {
        // Each for a partition of its own: with no broker there, none is ever opened.
        match producer.send(&message(&lane("out", sent as i32), vec![0; 8 << 10]), sent) {
            Ok(()) => sent += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, SendError::Full);
    assert!((1..=8).contains(&sent), "{sent} messages of 8 KiB in 64 KiB");
    assert_eq!(Box::new(producer).purge(Duration::from_secs(30)).await, Purged::Drained);
    assert_eq!(take_reports(&mut reports, sent as usize).await.len() as u64, sent);
}
