//! Claims about what is trimmed, and about the small registers.

use std::collections::BTreeMap;

use seriatim::{
    core::{
        fence::{LaneCommit, LaneRow, Position},
        ledger::{COMMAND, LINK_IN, OUTBOX},
        record::LaneId,
        table::{Change, Row, Table, Value, Want},
    },
    store::{Committed, Session},
};

use crate::database::{Database, Place, after, batch, claim, lane};

pub async fn trimmed_outbox_keeps_what_a_receiver_has_not_passed(database: Database) {
    let mut session = database.session().await;
    let row = claim(&mut *session, &lane(0)).await;
    // A topic of this store, no lane of which was claimed yet. The other topic is somebody else's.
    register(&mut *session, "receivers").await;
    let rows = vec![
        message(1, 0, "receivers", 0, Some(1)),
        message(1, 1, "elsewhere", 0, Some(1)),
        message(1, 2, "dlq.trials", 0, None),
        message(2, 0, "receivers", 0, Some(2)),
        message(2, 1, "receivers", 1, Some(1)),
        message(2, 2, "receivers", 0, None),
        message(3, 0, "elsewhere", 0, Some(2)),
    ];
    send(&mut *session, &row, rows, Position { batch: 2, index: 2 }).await;
    assert_eq!(trim(&database, &mut *session, 100).await, 3);
    let needed = [(1, 0), (2, 0), (2, 1), (3, 0)];
    assert_eq!(positions(&mut *session).await, needed);
    let receiver = LaneId { topic: "receivers".to_owned(), partition: 0 };
    let taking = claim(&mut *session, &receiver).await;
    // Another lane's mark, and a mark for another lane's messages, say nothing.
    let taking =
        write(&mut *session, &taking, &LINK_IN, vec![link("receivers", 0, 7, 9), link("receivers", 5, 0, 9)]).await;
    assert_eq!(trim(&database, &mut *session, 100).await, 0);
    let taking = write(&mut *session, &taking, &LINK_IN, vec![link("receivers", 0, 0, 1)]).await;
    assert_eq!(trim(&database, &mut *session, 100).await, 1);
    assert_eq!(positions(&mut *session).await, needed[1..]);
    let Change::Insert(moved) = link("receivers", 0, 0, 2) else { unreachable!() };
    write(&mut *session, &taking, &LINK_IN, vec![Change::Update { row: moved.into(), expected_version: None }]).await;
    assert_eq!(trim(&database, &mut *session, 100).await, 1);
    assert_eq!(positions(&mut *session).await, needed[2..], "what no mark has passed, and what is not relayed");
}

pub async fn trimmed_outbox_keeps_what_its_own_lane_has_not_marked(database: Database) {
    let mut session = database.session().await;
    let elsewhere = |from| {
        let mut message = message(1, 0, "elsewhere", 0, Some(1));
        message[1] = Value::Int(from);
        vec![message]
    };
    let (one, two) = (claim(&mut *session, &lane(0)).await, claim(&mut *session, &lane(1)).await);
    send(&mut *session, &one, elsewhere(0), Position { batch: 0, index: 9 }).await;
    send(&mut *session, &two, elsewhere(1), Position { batch: 1, index: 0 }).await;
    assert_eq!(trim(&database, &mut *session, 100).await, 1);
    let left = scan(&mut *session, &OUTBOX).await;
    assert_eq!(left, elsewhere(0), "each lane has a mark of its own, and a message is kept as it was written");
}

pub async fn trimmed_outbox_passes_over_what_is_needed(database: Database) {
    let mut session = database.session().await;
    let row = claim(&mut *session, &lane(0)).await;
    register(&mut *session, "receivers").await;
    let rows = (0..20).map(|n| message(1, n, if n < 8 { "receivers" } else { "elsewhere" }, 0, Some(n + 1)));
    send(&mut *session, &row, rows.collect(), Position { batch: 9, index: 0 }).await;
    // Where rows are deleted, a step deletes no more than it may, and the first that can go. Slots go whole.
    if !matches!(database.place, Place::Postgres { .. }) {
        assert_eq!(trim(&database, &mut *session, 5).await, 5, "no more than the limit");
        let left: Vec<_> = (0..8).chain(13..20).map(|n| (1, n)).collect();
        assert_eq!(positions(&mut *session).await, left, "the first that can go, behind those that cannot");
    }
    while trim(&database, &mut *session, 8).await > 0 {}
    let left: Vec<_> = (0..8).map(|n| (1, n)).collect();
    assert_eq!(positions(&mut *session).await, left, "what can go stands behind what cannot");
}

pub async fn identity_is_stable(database: Database) {
    let (mut one, mut two) = (database.session().await, database.session().await);
    let identity = one.identity().await.unwrap();
    assert!(identity.len() >= 8);
    assert_eq!(two.identity().await.unwrap(), identity);
}

pub async fn every_session_tells_the_same_timeline(database: Database) {
    let (mut one, mut two) = (database.session().await, database.session().await);
    assert!(one.timeline() >= 1, "messages would carry none");
    assert_eq!(one.timeline(), two.timeline());
    // Of the same timeline are the rows by which a commit is judged.
    let row = claim(&mut *one, &lane(0)).await;
    assert_eq!(row.fence.timeline, one.timeline());
    let (seen, _) = two.look(&[lane(0)]).await.unwrap();
    assert_eq!(seen[0].fence.timeline, two.timeline());
}

pub async fn partition_counts_are_registered_once(database: Database) {
    let mut session = database.session().await;
    let counts =
        |pairs: &[(&str, i32)]| pairs.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect::<BTreeMap<_, _>>();
    let first = counts(&[("a", 3), ("b", 12)]);
    assert_eq!(session.partitions(&first).await.unwrap(), first);
    let answer = session.partitions(&counts(&[("b", 24), ("c", 1)])).await.unwrap();
    assert_eq!(answer, counts(&[("b", 12), ("c", 1)]), "the first count stays in force");
    assert_eq!(session.partitions(&counts(&[])).await.unwrap(), counts(&[]));
}

pub async fn an_order_is_found_by_its_lane(database: Database) {
    let mut session = database.session().await;
    let order = |id: &str| {
        let parts = ["release", "trial", "e", "{}", "operator", "because"].map(text);
        let key = [text("trials"), Value::Int(0), text(id)];
        key.into_iter().chain(parts).chain([Value::Time(5)]).collect::<Row>()
    };
    session.order(order("2")).await.unwrap();
    session.order(order("1")).await.unwrap();
    let prefix = Want::Keys(vec![vec![text("trials"), Value::Int(0)]]);
    let read = session.load(&[(&COMMAND, prefix)]).await.unwrap().remove(0);
    assert_eq!(read, [order("1"), order("2")]);
    // For want of an answer an order may be sent again.
    session.order(order("1")).await.unwrap();
    assert_eq!(scan(&mut *session, &COMMAND).await.len(), 2);
}

async fn register(session: &mut dyn Session, topic: &str) {
    session.partitions(&BTreeMap::from([(topic.to_owned(), 2)])).await.unwrap();
}

/// Trims once, when no message was written lately.
async fn trim(database: &Database, session: &mut dyn Session, rows_max: i64) -> u64 {
    database.let_outbox_rest().await;
    session.trim_outbox(rows_max).await.unwrap()
}

/// Writes messages, and how far the brokers have acknowledged.
async fn send(session: &mut dyn Session, row: &LaneRow, messages: Vec<Row>, relayed: Position) {
    let changes = messages.into_iter().map(Change::Insert).collect();
    let commit = LaneCommit { relayed, ..batch(row, vec![(&OUTBOX, changes)]) };
    let answer = session.commit(&[commit]).await.unwrap();
    assert!(matches!(answer, Committed::All { .. }), "{answer:?}");
}

async fn positions(session: &mut dyn Session) -> Vec<(i64, i64)> {
    let number = |value: &Value| if let Value::Int(number) = value { *number } else { panic!("{value:?}") };
    scan(session, &OUTBOX).await.iter().map(|row| (number(&row[2]), number(&row[3]))).collect()
}

fn message(batch: i64, index: i64, to_topic: &str, to_partition: i64, link_sequence: Option<i64>) -> Row {
    vec![
        text("trials"),
        Value::Int(0),
        Value::Int(batch),
        Value::Int(index),
        text(to_topic),
        Value::Int(to_partition),
        link_sequence.map_or(Value::Null, Value::Int),
        Value::Int(1),
        Value::Bytes(b"key".as_slice().into()),
        Value::Null,
        text("[]"),
    ]
}

fn link(topic: &str, partition: i64, from_partition: i64, mark: i64) -> Change {
    let ends = [text(topic), Value::Int(partition), text("trials"), Value::Int(from_partition)];
    Change::Insert(ends.into_iter().chain([Value::Int(mark), Value::Null, Value::Null, Value::Null]).collect())
}

async fn write(session: &mut dyn Session, row: &LaneRow, table: &'static Table, changes: Vec<Change>) -> LaneRow {
    let answer = session.commit(&[batch(row, vec![(table, changes)])]).await.unwrap();
    assert!(matches!(answer, Committed::All { .. }), "{answer:?}");
    after(row)
}

async fn scan(session: &mut dyn Session, table: &'static Table) -> Vec<Row> {
    let want = Want::Scan { prefix: vec![], after: None, limit: 1000 };
    session.load(&[(table, want)]).await.unwrap().remove(0)
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}
