//! Two members of a group, on whatever broker and protocol: every lane has one owner, and no record is lost.

use std::collections::BTreeSet;

use seriatim::{
    broker::{Consumer as _, Stopped},
    kafka::Settings,
};

use super::support::{HANG, Member, lane, offsets, send_numbers, soon};

const LANES: i32 = 4;

/// The first member reads all lanes; a second one joins, and each opens what it gets where the other has
/// ended; then the second one leaves and the first has all again.
pub async fn lanes_move_between_members_without_a_loss(settings: &Settings, topic: &str) {
    let lanes: Vec<_> = (0..LANES).map(|partition| lane(topic, partition)).collect();
    for one in &lanes {
        send_numbers(settings, one, 0, 3).await;
    }
    let mut first = Member::join(settings, topic);
    first.until_granted(lanes.len()).await;
    for one in &lanes {
        // Opened in the middle: what is before was done by an earlier owner.
        let reading = first.open(one, 1);
        assert_eq!(offsets(&reading.records(2).await), [1, 2], "{one}");
    }

    let before = first.open.clone();
    let mut second = Member::join(settings, topic);
    while first.granted.len() + second.granted.len() != lanes.len() || second.granted.is_empty() {
        tokio::select! {
            _ = first.event() => {}
            _ = second.event() => {}
        }
    }
    let owned: BTreeSet<_> = first.granted.union(&second.granted).cloned().collect();
    assert_eq!(owned, lanes.iter().cloned().collect(), "every lane has an owner");
    for taken in second.granted.clone() {
        before[&taken].closed().await;
        second.open(&taken, 3);
    }
    for one in &lanes {
        send_numbers(settings, one, 3, 2).await;
    }
    for member in [&first, &second] {
        for (one, reading) in &member.open {
            assert_eq!(offsets(&reading.records(2).await), [3, 4], "{one}");
        }
    }
    let taken = second.granted.clone();
    assert!(taken.iter().all(|one| before[one].inbox.is_empty()), "a revoked lane gets nothing more");

    assert_eq!(soon("the second to stop", Box::new(second.consumer).stop(HANG)).await, Stopped::Closed);
    first.until_granted(lanes.len()).await;
    for one in &taken {
        send_numbers(settings, one, 5, 1).await;
        let reading = first.open(one, 5);
        assert_eq!(offsets(&reading.records(1).await), [5], "{one}");
    }
    assert_eq!(soon("the first to stop", Box::new(first.consumer).stop(HANG)).await, Stopped::Closed);
}
