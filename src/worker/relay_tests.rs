//! Openings of a lane, as the relay hears of them: orders of an earlier one change nothing in a later one.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{Handle, Relay};
use crate::{
    core::{lane::Lane, message::Message},
    memory::MemoryStore,
    store::Store,
    worker::{
        slot::Shown,
        testing::{self, id, message},
    },
};

async fn relay() -> (Handle, Relay) {
    let store = Arc::new(MemoryStore::new("relay", || 1));
    let session = store.session().await.unwrap();
    Relay::new(testing::shared(store), session)
}

#[tokio::test]
async fn an_earlier_opening_that_ends_late_does_not_end_a_later_one() {
    let (handle, mut relay) = relay().await;
    let lane = testing::lane(&relay.shared, id());
    let (first, second) = (Arc::new(Shown::default()), Arc::new(Shown::default()));
    // The first writer is in a long transaction when its lane is taken away and given to the second.
    handle.open(1, &lane, &first);
    handle.open(2, &lane, &second);
    handle.close(&id(), &first);
    relay.hear();
    assert!(relay.lanes.contains_key(&id()), "nothing of the lane would be sent any more");
    handle.close(&id(), &second);
    relay.hear();
    assert!(relay.lanes.is_empty());
}

#[tokio::test]
async fn an_earlier_opening_that_begins_late_does_not_take_the_place_of_a_later_one() {
    let (handle, mut relay) = relay().await;
    let lane = testing::lane(&relay.shared, id());
    let (first, second) = (Arc::new(Shown::default()), Arc::new(Shown::default()));
    // The first writer was in a long transaction when it was given the lane, and still when it was taken away.
    handle.open(2, &lane, &second);
    handle.open(1, &lane, &first);
    handle.close(&id(), &first);
    relay.hear();
    assert!(relay.lanes.get(&id()).is_some_and(|(opening, _)| *opening == 2), "nothing of the lane would be sent");
}

#[tokio::test]
async fn what_an_earlier_opening_hands_over_late_is_left_to_the_table() {
    let (handle, mut relay) = relay().await;
    let lane = testing::lane(&relay.shared, id());
    let (first, second) = (Arc::new(Shown::default()), Arc::new(Shown::default()));
    handle.open(1, &lane, &first);
    handle.open(2, &lane, &second);
    relay.hear();
    // The second has read the table, the first one's last batch included.
    relay.lanes.get_mut(&id()).unwrap().1.read(vec![message(1), message(2)], true);
    handle.hand(&id(), &second, vec![message(3)], 1);
    handle.hand(&id(), &first, vec![message(2)], 1);
    relay.hear();
    let queued: Vec<i64> =
        relay.lanes[&id()].1.links[&message(1).to].queue.iter().map(|message| message.position.batch).collect();
    assert_eq!(queued, [1, 2, 3]);
}

#[tokio::test]
async fn what_a_replaced_server_has_committed_is_left_to_the_table() {
    let store = MemoryStore::new("relay", || 1);
    let session = store.session().await.unwrap();
    let (handle, mut relay) = Relay::new(testing::shared(Arc::new(store.clone())), session);
    let shown = Arc::new(Shown::default());
    handle.open(1, &testing::lane(&relay.shared, id()), &shown);
    relay.hear();
    // The batch before this one is in the table, until another server takes over that has neither.
    store.restore(store.snapshot());
    relay.session.look(&[]).await.unwrap();
    relay.lanes.get_mut(&id()).unwrap().1.read(Vec::new(), true);
    handle.hand(&id(), &shown, vec![message(2)], 1);
    relay.hear();
    let outgoing = &relay.lanes[&id()].1;
    assert!(outgoing.links.is_empty(), "it would be sent without the one before it");
    assert!(outgoing.behind);
}

/// The table may hold another history by then, of which an opening that has sent the first one would send the end alone.
#[tokio::test]
async fn an_opening_does_not_read_the_table_of_a_later_timeline() {
    let store = MemoryStore::new("relay", || 1);
    let session = store.session().await.unwrap();
    let (handle, mut relay) = Relay::new(testing::shared(Arc::new(store.clone())), session);
    handle.open(1, &testing::lane(&relay.shared, id()), &Arc::new(Shown::default()));
    relay.hear();
    relay.read_tables().await.unwrap();
    assert!(relay.lanes.contains_key(&id()));
    store.restore(store.snapshot());
    relay.lanes.get_mut(&id()).unwrap().1.restart();
    relay.read_tables().await.unwrap();
    assert!(!relay.lanes.contains_key(&id()), "what it has sent is not what the table holds");
    let (row, now) = store.session().await.unwrap().claim(&id(), "later", "w", 0).await.unwrap();
    let claimed = Lane::new(row, now, Arc::clone(&relay.shared.catalog), Arc::clone(&relay.shared.limits));
    handle.open(2, &claimed, &Arc::new(Shown::default()));
    relay.hear();
    relay.read_tables().await.unwrap();
    assert!(relay.lanes.contains_key(&id()));
}

#[tokio::test]
async fn a_partition_that_refuses_is_left_alone_longer_each_time_and_the_others_not_at_all() {
    let (_handle, mut relay) = relay().await;
    let to = message(1).to;
    let mut pauses = Vec::new();
    for _ in 0..20 {
        relay.refuse(to.clone());
        pauses.push(relay.refusing[&to].1);
    }
    assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]) && pauses[0] < pauses[1], "{pauses:?}");
    assert_eq!(pauses.last(), Some(&relay.shared.settings.relay_retry_max));
    assert!(pauses[0] < Duration::from_secs(1) && relay.refusing.len() == 1);
}

#[tokio::test]
async fn what_the_relay_has_no_time_to_take_is_left_to_the_table() {
    let (handle, mut relay) = relay().await;
    let lane = testing::lane(&relay.shared, id());
    let shown = Arc::new(Shown::default());
    handle.open(1, &lane, &shown);
    relay.hear();
    relay.lanes.get_mut(&id()).unwrap().1.read(Vec::new(), true);
    // The relay waits for a broker; the writers commit on.
    let large = |batch| Message { value: Some(vec![0; 1 << 20].into()), ..message(batch) };
    for batch in 1..=64 {
        handle.hand(&id(), &shown, vec![large(batch)], 1);
    }
    assert!(handle.handed.load(Ordering::Acquire) <= handle.handed_max + (2 << 20), "memory has no bound");
    relay.hear();
    assert_eq!(handle.handed.load(Ordering::Acquire), 0);
    let outgoing = &mut relay.lanes.get_mut(&id()).unwrap().1;
    assert!(outgoing.behind);
    outgoing.read(vec![large(63)], true);
    assert!(outgoing.behind, "the last one that was left is not read yet");
    outgoing.read(vec![large(64)], true);
    assert!(!outgoing.behind);
}
