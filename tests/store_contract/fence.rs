//! Claims about lanes' rows: who may write, and that nobody else does.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use seriatim::{
    core::{
        fence::{LaneRow, LastRecord, Position},
        table::{Change, Value, Want},
    },
    memory::MemoryStore,
    store::{Committed, Error, Session, Store},
};

use crate::database::{Database, EVERY, MAIN, after, batch, claim, lane};

pub async fn claim_creates_the_row_at_start_and_raises_the_epoch(database: Database) {
    let mut session = database.session().await;
    assert_eq!(session.peek(&lane(3)).await.unwrap(), None);
    let (first, now) = session.claim(&lane(3), "a", "ann", 17).await.unwrap();
    assert!(now > 0, "the clock is told");
    assert_eq!((first.fence.next_offset, first.fence.epoch, first.fence.batch), (17, 1, 0));
    assert_eq!((first.fence.token.as_str(), first.owner.as_str(), first.incarnation), ("a", "ann", 1));
    assert_eq!((&first.last, first.relayed), (&None, Position::default()));
    assert_eq!(session.peek(&lane(3)).await.unwrap(), Some(first));
    // The start is for a new row only.
    let (second, _) = session.claim(&lane(3), "b", "bob", 99).await.unwrap();
    assert_eq!((second.fence.next_offset, second.fence.epoch, second.fence.token.as_str()), (17, 2, "b"));
}

pub async fn second_claim_fences_the_first(database: Database) {
    let (mut old, mut new) = (database.session().await, database.session().await);
    let before = claim(&mut *old, &lane(0)).await;
    let taken = new.claim(&lane(0), "other", "other", 0).await.unwrap().0;
    assert_eq!(old.commit(&[batch(&before, vec![main("x")])]).await.unwrap(), Committed::Fenced(vec![lane(0)]));
    assert!(mains(&mut *old).await.is_empty(), "nothing was written");
    assert_eq!(old.peek(&lane(0)).await.unwrap(), Some(taken.clone()), "the row is the new owner's");
    let done = new.commit(&[batch(&taken, vec![main("x")])]).await.unwrap();
    assert!(matches!(done, Committed::All { .. }));
}

pub async fn commit_of_several_lanes_is_all_or_none(database: Database) {
    let mut session = database.session().await;
    let good = claim(&mut *session, &lane(1)).await;
    let overtaken = claim(&mut *session, &lane(0)).await;
    let mut other = database.session().await;
    other.claim(&lane(0), "other", "other", 0).await.unwrap();
    let both = [batch(&good, vec![main("good")]), batch(&overtaken, vec![main("overtaken")])];
    assert_eq!(session.commit(&both).await.unwrap(), Committed::Fenced(vec![lane(0)]));
    assert!(mains(&mut *session).await.is_empty());
    assert_eq!(session.peek(&lane(1)).await.unwrap(), Some(good.clone()), "the good lane has not moved");
    // The rest goes through at once, over the same session.
    assert!(matches!(session.commit(&both[..1]).await.unwrap(), Committed::All { .. }));
    assert_eq!(mains(&mut *session).await, ["good"]);
}

pub async fn compare_is_by_equality_in_every_part(database: Database) {
    let mut session = database.session().await;
    let mut row = claim(&mut *session, &lane(0)).await;
    for _ in 0..3 {
        session.commit(&[batch(&row, vec![])]).await.unwrap();
        row = after(&row);
    }
    let changed = |change: fn(&mut seriatim::core::fence::Fence)| {
        let mut wrong = row.clone();
        change(&mut wrong.fence);
        wrong
    };
    let wrong = [
        changed(|fence| fence.next_offset -= 1),
        changed(|fence| fence.next_offset += 1),
        changed(|fence| fence.batch -= 1),
        changed(|fence| fence.batch += 1),
        changed(|fence| fence.epoch -= 1),
        changed(|fence| fence.epoch += 1),
        changed(|fence| fence.token.push('!')),
        changed(|fence| fence.timeline -= 1),
        changed(|fence| fence.timeline += 1),
    ];
    for wrong in wrong {
        let answer = session.commit(&[batch(&wrong, vec![main("x")])]).await.unwrap();
        assert_eq!(answer, Committed::Fenced(vec![lane(0)]), "{:?}", wrong.fence);
    }
    assert!(mains(&mut *session).await.is_empty());
    assert!(matches!(session.commit(&[batch(&row, vec![])]).await.unwrap(), Committed::All { .. }));
}

pub async fn commit_leaves_the_row_as_told(database: Database) {
    let mut session = database.session().await;
    let row = claim(&mut *session, &lane(0)).await;
    let mut commit = batch(&row, vec![]);
    commit.next_offset = 500;
    commit.incarnation = 4;
    commit.last = Some(LastRecord { offset: 499, timestamp_ms: -1, digest: vec![0, 255, 7] });
    commit.relayed = Position { batch: 7, index: 3 };
    let Committed::All { now } = session.commit(std::slice::from_ref(&commit)).await.unwrap() else { panic!("fenced") };
    let (seen, later) = session.look(&[lane(1), lane(0)]).await.unwrap();
    assert!(later >= now);
    let [seen] = &seen[..] else { panic!("the lane without a row is left out: {seen:?}") };
    assert_eq!((seen.fence.next_offset, seen.fence.batch, seen.fence.epoch), (500, 1, 1));
    assert_eq!((seen.incarnation, &seen.last, seen.relayed), (4, &commit.last, commit.relayed));
    assert_eq!(seen.owner, "test");
    assert_eq!(session.peek(&lane(0)).await.unwrap().as_ref(), Some(seen));
}

pub async fn a_lane_without_a_row_is_fenced(database: Database) {
    let mut session = database.session().await;
    let mut row = claim(&mut *session, &lane(0)).await;
    row.lane = lane(5);
    assert_eq!(session.commit(&[batch(&row, vec![])]).await.unwrap(), Committed::Fenced(vec![lane(5)]));
    assert_eq!(session.peek(&lane(5)).await.unwrap(), None);
}

pub async fn a_lane_twice_in_one_commit_is_a_bug(database: Database) {
    let mut session = database.session().await;
    let row = claim(&mut *session, &lane(0)).await;
    let answer = session.commit(&[batch(&row, vec![]), batch(&row, vec![])]).await;
    assert!(matches!(answer, Err(Error::Stop(_))), "{answer:?}");
}

pub async fn an_empty_commit_tells_the_time(database: Database) {
    let mut session = database.session().await;
    let answer = session.commit(&[]).await.unwrap();
    assert!(matches!(answer, Committed::All { now } if now > 0), "{answer:?}");
}

pub async fn sessions_side_by_side_do_not_disturb_each_other(database: Database) {
    let (lanes, rounds) = (6, 15);
    let mut writers = Vec::new();
    for writer in 0..lanes {
        let mut session = database.session().await;
        writers.push(tokio::spawn(async move {
            // Two lanes each, handed over in either order.
            let mut rows =
                vec![claim(&mut *session, &lane(writer)).await, claim(&mut *session, &lane(lanes + writer)).await];
            for round in 0..rounds {
                rows.reverse();
                let id = |row: &LaneRow| format!("{}-{round}", row.lane.partition);
                let commits: Vec<_> = rows.iter().map(|row| batch(row, vec![main(&id(row))])).collect();
                assert!(matches!(session.commit(&commits).await.unwrap(), Committed::All { .. }));
                rows = rows.iter().map(after).collect();
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let want = Want::Scan { prefix: vec![], after: None, limit: 1000 };
    let read = database.session().await.load(&[(&MAIN, want)]).await.unwrap().remove(0);
    assert_eq!(read.len(), usize::try_from(2 * lanes * rounds).unwrap());
}

#[tokio::test]
async fn a_store_in_memory_goes_by_the_clock_it_is_given() {
    let clock = Arc::new(AtomicI64::new(5));
    let read = Arc::clone(&clock);
    let mut session = MemoryStore::new("m", move || read.load(Ordering::Relaxed)).session().await.unwrap();
    assert_eq!(session.claim(&lane(0), "a", "ann", 0).await.unwrap().1, 5);
    clock.store(9, Ordering::Relaxed);
    assert_eq!(session.look(&[lane(0)]).await.unwrap().1, 9);
    assert_eq!(session.commit(&[]).await.unwrap(), Committed::All { now: 9 });
}

fn main(id: &str) -> (&'static seriatim::core::table::Table, Vec<Change>) {
    let row =
        vec![Value::Text(id.to_owned()), Value::Int(1), Value::Int(1), Value::Int(0), Value::Text("{}".to_owned())];
    (&MAIN, vec![Change::Insert(row)])
}

async fn mains(session: &mut dyn Session) -> Vec<String> {
    let want = Want::Scan { prefix: vec![], after: None, limit: 100 };
    let answer = session.load(&[(&MAIN, want.clone()), (&EVERY, want)]).await.unwrap();
    assert!(answer[1].is_empty());
    let id = |row: &Vec<Value>| if let Value::Text(id) = &row[0] { id.clone() } else { panic!("{row:?}") };
    answer[0].iter().map(id).collect()
}
