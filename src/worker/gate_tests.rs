//! The gate on a store in memory whose standby follows when the test says so.

use std::sync::Arc;

use super::Passage;
use crate::{
    core::fence::{Fence, LaneCommit, Position},
    memory::MemoryStore,
    store::{Committed, Session, Standby, Store},
    worker::{
        relay::{Handle, Relay},
        slot::Shown,
        testing::{self, id, message},
    },
};

/// A relay with a gate and one open lane, the store behind it, and a session that commits batches of the lane.
async fn gated() -> (MemoryStore, Handle, Relay, Arc<Shown>, Box<dyn Session>) {
    let store = MemoryStore::new("gate", || 1);
    let mut session = store.session().await.unwrap();
    session.claim(&id(), "t", "w", 0).await.unwrap();
    let mut shared = testing::shared(Arc::new(store.clone()));
    let settings = Arc::make_mut(&mut shared.settings);
    settings.gate = Some(Standby::Named("heir".to_owned()));
    settings.gate_poll = std::time::Duration::ZERO;
    let (handle, mut relay) = Relay::new(shared, store.session().await.unwrap());
    let shown = Arc::new(Shown::default());
    handle.open(1, &testing::lane(&relay.shared, id()), &shown);
    relay.hear();
    relay.lanes.get_mut(&id()).unwrap().1.read(Vec::new(), true);
    (store, handle, relay, shown, session)
}

/// The same, and the lane's first message waits for the standby.
async fn waiting() -> (MemoryStore, Handle, Relay, Arc<Shown>, Box<dyn Session>) {
    let (store, handle, mut relay, shown, mut session) = gated().await;
    store.replicate(true);
    commit(&mut *session, 0).await;
    handle.hand(&id(), &shown, vec![message(1)], 1);
    relay.hear();
    relay.look_at_standby().await.unwrap();
    assert_eq!(upto(&relay), 0, "the standby has not got it");
    (store, handle, relay, shown, session)
}

async fn commit(session: &mut dyn Session, batch: i64) {
    let expected = Fence { next_offset: 0, epoch: 1, token: "t".to_owned(), batch, timeline: session.timeline() };
    let commit = LaneCommit {
        lane: id(),
        expected,
        next_offset: 0,
        incarnation: 1,
        last: None,
        relayed: Position::default(),
        writes: Arc::default(),
    };
    assert!(matches!(session.commit(&[commit]).await, Ok(Committed::All { .. })));
}

fn upto(relay: &Relay) -> i64 {
    relay.lanes[&id()].1.passage.upto.batch
}

#[tokio::test]
async fn what_was_queued_before_a_look_goes_when_the_standby_has_come_as_far() {
    let (store, handle, mut relay, shown, mut session) = waiting().await;
    store.replicate(true);
    commit(&mut *session, 1).await;
    handle.hand(&id(), &shown, vec![message(2)], 1);
    relay.hear();
    relay.look_at_standby().await.unwrap();
    assert_eq!(upto(&relay), 1, "the standby has the first and not the second");
    store.replicate(false);
    relay.look_at_standby().await.unwrap();
    assert_eq!(upto(&relay), 1, "there is no standby");
    store.replicate(true);
    relay.look_at_standby().await.unwrap();
    assert_eq!(upto(&relay), 2);
}

#[tokio::test]
async fn what_waits_when_another_server_takes_over_is_read_again() {
    let (store, handle, mut relay, shown, mut session) = gated().await;
    store.replicate(true);
    let standby = store.snapshot();
    commit(&mut *session, 0).await;
    handle.hand(&id(), &shown, vec![message(1)], 1);
    relay.hear();
    relay.look_at_standby().await.unwrap();
    store.restore(standby);
    // The new server has a standby that is as far as it is itself, and numbers that look as if all were there.
    commit(&mut *session, 0).await;
    store.replicate(true);
    relay.look_at_standby().await.unwrap();
    relay.look_at_standby().await.unwrap();
    let outgoing = &relay.lanes[&id()].1;
    assert!(outgoing.links.values().all(|link| link.queue.is_empty()), "what was lost would be sent");
    assert!(outgoing.behind);
    // A writer that is still on its way to the new server hands over what may be lost: the table decides.
    handle.hand(&id(), &shown, vec![message(1)], 1);
    relay.hear();
    assert!(relay.lanes[&id()].1.links.values().all(|link| link.queue.is_empty()));
}

#[tokio::test]
async fn what_waits_while_the_producer_is_made_anew_goes_all_the_same() {
    let (store, _handle, mut relay, _shown, _session) = waiting().await;
    // Some other message has failed, and the table cannot be read at once.
    relay.lanes.get_mut(&id()).unwrap().1.restart();
    relay.look_at_standby().await.unwrap();
    relay.lanes.get_mut(&id()).unwrap().1.read(vec![message(1)], true);
    store.replicate(true);
    relay.look_at_standby().await.unwrap();
    assert_eq!(upto(&relay), 1, "it would wait until the lane sends something else");
}

#[test]
fn a_passage_opens_up_to_what_its_looks_have_covered() {
    let at = |batch| Position { batch, index: 0 };
    let mut passage = Passage::new(true, at(5));
    assert!(!passage.cover(at(5), 1), "what was acknowledged before needs no look");
    assert!(passage.cover(at(7), 2));
    assert!(!passage.cover(at(7), 3));
    assert!(passage.cover(at(9), 4));
    passage.let_go(3);
    assert_eq!(passage.upto, at(7));
    passage.let_go(4);
    assert_eq!(passage.upto, at(9));
    assert_eq!(Passage::new(false, at(5)).upto.batch, i64::MAX);
}
