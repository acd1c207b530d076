//! Reading from a mock cluster that answers with errors: they are weather, not events.

use rdkafka::{
    mocking::MockCluster,
    types::{RDKafkaApiKey as Api, RDKafkaRespErr as Error},
};
use seriatim::broker::{Consumer as _, Event};

use super::support::{Member, lane, offsets, send_numbers, settings};

/// Reads 60 records from a cluster while the given requests are answered with the given errors.
async fn reads_on_through(errors: &[(Api, &[Error])]) {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("home", 1, 1).unwrap();
    let settings = settings(&cluster.bootstrap_servers(), "group");
    let home = lane("home", 0);
    send_numbers(&settings, &home, 0, 30).await;
    let mut member = Member::join(&settings, "home");
    member.until_granted(1).await;
    let mut reading = member.open(&home, 0);
    let mut seen = offsets(&reading.records(10).await);
    for (api, codes) in errors {
        cluster.request_errors(*api, codes);
    }
    member.consumer.commit(vec![(home.clone(), 10)], "store".to_owned());
    send_numbers(&settings, &home, 30, 30).await;
    while seen.len() < 60 {
        let taken = reading.inbox.take(usize::MAX, usize::MAX);
        seen.extend(offsets(&taken));
        if !taken.is_empty() {
            continue;
        }
        tokio::select! {
            () = reading.waker.notified() => {}
            event = member.event() => if matches!(event, Event::Assigned(_)) {
                // The group took the lane away and gave it back: read on behind what was seen.
                reading = member.open(&home, seen.len() as i64);
            }
        }
    }
    assert_eq!(seen, (0..60).collect::<Vec<_>>());
}

#[tokio::test]
async fn fetch_errors_neither_lose_nor_repeat_records() {
    reads_on_through(&[(
        Api::Fetch,
        &[
            Error::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            Error::RD_KAFKA_RESP_ERR__TRANSPORT,
            Error::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
            Error::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
            Error::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
        ],
    )])
    .await;
}

#[tokio::test]
async fn group_errors_neither_lose_nor_repeat_records() {
    reads_on_through(&[
        (
            Api::Heartbeat,
            &[
                Error::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
                Error::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
                Error::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
                Error::RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
            ],
        ),
        (Api::JoinGroup, &[Error::RD_KAFKA_RESP_ERR__TRANSPORT, Error::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS]),
        (Api::SyncGroup, &[Error::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS]),
    ])
    .await;
}

#[tokio::test]
async fn a_refused_offset_commit_changes_nothing() {
    reads_on_through(&[(
        Api::OffsetCommit,
        &[
            Error::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
            Error::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
            Error::RD_KAFKA_RESP_ERR__TRANSPORT,
        ],
    )])
    .await;
}

#[tokio::test]
async fn metadata_and_coordinator_errors_change_nothing() {
    reads_on_through(&[
        (Api::Metadata, &[Error::RD_KAFKA_RESP_ERR__TRANSPORT, Error::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE]),
        (Api::FindCoordinator, &[Error::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE]),
        (Api::ListOffsets, &[Error::RD_KAFKA_RESP_ERR__TRANSPORT]),
    ])
    .await;
}

#[tokio::test]
async fn reading_goes_on_after_all_brokers_were_down() {
    let cluster = MockCluster::new(2).unwrap();
    cluster.create_topic("home", 1, 2).unwrap();
    let settings = settings(&cluster.bootstrap_servers(), "group");
    let home = lane("home", 0);
    send_numbers(&settings, &home, 0, 5).await;
    let mut member = Member::join(&settings, "home");
    member.until_granted(1).await;
    let reading = member.open(&home, 0);
    assert_eq!(reading.records(5).await.len(), 5);
    cluster.broker_down(-1).unwrap();
    let told = member.consumer.counts().errors;
    while member.consumer.counts().errors == told {
        tokio::task::yield_now().await;
    }
    cluster.broker_up(-1).unwrap();
    send_numbers(&settings, &home, 5, 5).await;
    assert_eq!(offsets(&reading.records(5).await), [5, 6, 7, 8, 9]);
}
