//! Reading from a mock cluster: order, bounds, ends.

use std::time::Duration;

use rdkafka::mocking::MockCluster;
use seriatim::broker::{Consumer as _, Event, Stopped};

use super::{
    sharing,
    support::{HANG, Member, Reading, lane, offsets, send_numbers, settings, soon},
};

#[tokio::test]
async fn records_come_in_order_from_the_offset_that_was_opened() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("home", 1, 1).unwrap();
    let settings = settings(&cluster.bootstrap_servers(), "group");
    let home = lane("home", 0);
    send_numbers(&settings, &home, 0, 200).await;
    let mut member = Member::join(&settings, "home");
    member.until_granted(1).await;
    let records = member.open(&home, 50).records(150).await;
    assert_eq!(offsets(&records), (50..200).collect::<Vec<_>>());
    assert_eq!(records[0].value.as_deref(), Some(b"50".as_slice()));
}

#[tokio::test]
async fn two_members_share_the_lanes_of_a_mock_cluster() {
    let cluster = MockCluster::new(3).unwrap();
    cluster.create_topic("home", 4, 3).unwrap();
    let settings = settings(&cluster.bootstrap_servers(), "group");
    sharing::lanes_move_between_members_without_a_loss(&settings, "home").await;
}

#[tokio::test]
async fn a_full_inbox_holds_its_lane_and_nothing_is_lost_or_repeated() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("home", 2, 1).unwrap();
    let settings = settings(&cluster.bootstrap_servers(), "group");
    let (slow, fast) = (lane("home", 0), lane("home", 1));
    send_numbers(&settings, &slow, 0, 500).await;
    send_numbers(&settings, &fast, 0, 500).await;
    let mut member = Member::join(&settings, "home");
    member.until_granted(2).await;
    let reading = member.open_bounded(&slow, 0, 10);
    // The other lane flows on while this one is full.
    assert_eq!(member.open(&fast, 0).records(500).await.len(), 500);
    let mut seen = Vec::new();
    while seen.len() < 500 {
        let waiting = reading.inbox.len();
        assert!(waiting <= 10, "{waiting} records in an inbox for 10");
        seen.extend(offsets(&reading.records(1).await));
        seen.extend(offsets(&reading.inbox.take(2, usize::MAX)));
    }
    assert_eq!(seen, (0..500).collect::<Vec<_>>());
    assert_eq!(member.consumer.counts().repeated, 0);
}

#[tokio::test]
async fn a_closed_lane_can_be_opened_again_at_an_earlier_offset() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("home", 1, 1).unwrap();
    let settings = settings(&cluster.bootstrap_servers(), "group");
    let home = lane("home", 0);
    send_numbers(&settings, &home, 0, 20).await;
    let mut member = Member::join(&settings, "home");
    member.until_granted(1).await;
    let first = member.open(&home, 10);
    assert_eq!(offsets(&first.records(10).await), (10..20).collect::<Vec<_>>());
    member.consumer.close(home.clone());
    first.closed().await;
    // Also without closing: opening ends the opening before.
    for _ in 0..20 {
        let again = member.open(&home, 5);
        assert_eq!(offsets(&again.records(15).await), (5..20).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn opening_a_lane_that_is_not_granted_closes_the_inbox() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("home", 1, 1).unwrap();
    let settings = settings(&cluster.bootstrap_servers(), "group");
    let mut member = Member::join(&settings, "home");
    member.open(&lane("other", 7), 0).closed().await;
}

#[tokio::test]
async fn a_closed_inbox_stays_silent_while_its_lane_is_read_anew() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("home", 1, 1).unwrap();
    let settings = settings(&cluster.bootstrap_servers(), "group");
    let home = lane("home", 0);
    send_numbers(&settings, &home, 0, 10).await;
    let mut member = Member::join(&settings, "home");
    member.until_granted(1).await;
    let old = member.open(&home, 0);
    let new = member.open(&home, 0);
    assert_eq!(new.records(10).await.len(), 10);
    assert!(old.inbox.is_closed() && old.inbox.is_empty());
}

#[tokio::test]
async fn stopping_closes_the_inboxes_and_leaves_the_group() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("home", 1, 1).unwrap();
    let settings = settings(&cluster.bootstrap_servers(), "group");
    let mut member = Member::join(&settings, "home");
    member.until_granted(1).await;
    let reading = member.open(&lane("home", 0), 0);
    assert_eq!(soon("the member to stop", Box::new(member.consumer).stop(HANG)).await, Stopped::Closed);
    assert!(reading.inbox.is_closed());
    assert_eq!(member.events.recv().await, Some(Event::Revoked(vec![lane("home", 0)])));
    assert_eq!(member.events.recv().await, None, "the client is gone");
}

#[tokio::test]
async fn stopping_gives_up_on_a_client_that_does_not_close_in_time() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("home", 1, 1).unwrap();
    let settings = settings(&cluster.bootstrap_servers(), "group");
    let mut member = Member::join(&settings, "home");
    member.until_granted(1).await;
    // Leaving the group takes an answer, and that takes longer than anybody waits.
    cluster.broker_round_trip_time(1, HANG).unwrap();
    assert_eq!(Box::new(member.consumer).stop(Duration::ZERO).await, Stopped::Abandoned);
}

#[tokio::test]
async fn a_member_without_brokers_can_stop() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("home", 1, 1).unwrap();
    let settings = settings(&cluster.bootstrap_servers(), "group");
    let mut member = Member::join(&settings, "home");
    member.until_granted(1).await;
    let reading: Reading = member.open(&lane("home", 0), 0);
    drop(cluster);
    let stopped = soon("the member to stop", Box::new(member.consumer).stop(HANG / 2)).await;
    assert_eq!(stopped, Stopped::Closed);
    assert!(reading.inbox.is_closed());
}
