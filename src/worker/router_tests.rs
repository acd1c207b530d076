//! One claim of a lane at a time, and what is told of an earlier opening does not count.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc};

use super::{Answer, CLAIMS_MAX, Order, Report, Router, Standing};
use crate::{
    broker::Event,
    core::{
        fence::{Fence, LaneRow, Position},
        lane::Lane,
        record::LaneId,
    },
    memory::MemoryStore,
    worker::{
        claim::{Claimed, Failure},
        testing,
        writer::Handle,
    },
};

fn id() -> LaneId {
    LaneId { topic: "activity".to_owned(), partition: 0 }
}

/// A router with one writer, whose orders the test reads. No broker answers: its claims fail after a second, and
/// the test gives their answers itself.
fn router() -> (Router, mpsc::UnboundedReceiver<Order>) {
    let shared = testing::shared(Arc::new(MemoryStore::new("router", || 1)));
    let (event_sender, events) = mpsc::unbounded_channel();
    let (_, reports) = mpsc::unbounded_channel();
    let consumer = shared.broker.join(&["activity".to_owned()], event_sender).unwrap();
    let (orders, ordered) = mpsc::unbounded_channel();
    let writer = Handle { orders, waker: Arc::new(Notify::new()) };
    (Router::new(shared, consumer, "store".to_owned(), vec![writer], events, reports), ordered)
}

fn claimed(router: &Router, epoch: i64) -> Box<Result<Claimed, Failure>> {
    let row = LaneRow {
        lane: id(),
        fence: Fence { next_offset: 0, epoch, token: epoch.to_string(), batch: 0, timeline: 0 },
        incarnation: 1,
        last: None,
        relayed: Position::default(),
        owner: "w".to_owned(),
    };
    let lane = Lane::new(row, 1, Arc::clone(&router.shared.catalog), Arc::clone(&router.shared.limits));
    Box::new(Ok(Claimed { lane, read_from: 0, verify: None, next_timer: None, halted: None }))
}

fn opened(ordered: &mut mpsc::UnboundedReceiver<Order>) -> Vec<i64> {
    let mut epochs = Vec::new();
    while let Ok(order) = ordered.try_recv() {
        if let Order::Open(slot) = order {
            epochs.push(slot.lane.fence().epoch);
        }
    }
    epochs
}

#[tokio::test]
async fn a_claim_for_an_earlier_giving_does_not_open_a_lane() {
    let (mut router, mut ordered) = router();
    router.take_event(Event::Assigned(vec![id()])).unwrap();
    let first = router.given[&id()].opening;
    router.take_event(Event::Revoked(vec![id()])).unwrap();
    router.take_event(Event::Assigned(vec![id()])).unwrap();
    // Lets whatever was started take its permit; no broker answers, so it keeps it.
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    assert_eq!(router.claims.available_permits(), CLAIMS_MAX - 1, "the second claim waits for the first");
    router.take_answer(Answer::Claimed(id(), first, claimed(&router, 1))).unwrap();
    assert!(opened(&mut ordered).is_empty());
    assert!(router.claiming.contains(&id()), "now it is made");
    let second = router.given[&id()].opening;
    router.take_answer(Answer::Claimed(id(), second, claimed(&router, 2))).unwrap();
    assert_eq!(opened(&mut ordered), [2]);
}

#[tokio::test]
async fn a_lane_that_is_lost_twice_is_claimed_once() {
    let (mut router, mut ordered) = router();
    router.take_event(Event::Assigned(vec![id()])).unwrap();
    let opening = router.given[&id()].opening;
    router.take_answer(Answer::Claimed(id(), opening, claimed(&router, 1))).unwrap();
    assert_eq!(opened(&mut ordered), [1]);
    // The client ends the reading, and the writer's report of the same opening comes behind.
    router.take_event(Event::Lost { lane: id(), why: "gone".to_owned() }).unwrap();
    let pause = router.given[&id()].pause;
    router.take_report(Report::Lost { lane: id(), opening, at_once: true }).unwrap();
    assert!(matches!(router.given[&id()].standing, Standing::Resting), "it rests as it was told first");
    assert_eq!(router.given[&id()].pause, pause, "one loss is one pause");
    assert!(router.claiming.is_empty());
}
