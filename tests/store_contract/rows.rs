//! Claims about rows: what goes in comes out, and what cannot go in leaves nothing behind.

use seriatim::{
    core::{
        fence::LaneRow,
        table::{Change, Key, Row, Table, Value, Want},
    },
    store::{Committed, Error, Session},
};

use crate::database::{Database, EVERY, MAIN, PART, after, batch, claim, lane};

pub async fn every_type_round_trips(database: Database) {
    let mut session = database.session().await;
    let row = claim(&mut *session, &lane(0)).await;
    let all: Vec<u8> = (0..=255).collect();
    let plenty = vec![0xab; 1 << 20];
    let long = "ä".repeat(1 << 19);
    let rows = [
        every("", i64::MIN, -1, [Value::Null, Value::Null, Value::Null, Value::Null, Value::Null]),
        every("a", 0, 0, [text(""), Value::Int(i64::MAX), Value::Bytes([].into()), Value::Time(-1), json("{}")]),
        every("a", 1, 0, [text("NULL"), Value::Int(i64::MIN), Value::Bytes(all.into()), Value::Time(0), json("null")]),
        every("a", 2, 1, [text("{}, \"x\\y\"'"), Value::Int(-1), Value::Null, Value::Time(1), json("\"\\\\u0000\"")]),
        every("a", 3, 1, [text(&long), Value::Null, Value::Bytes(plenty.into()), Value::Null, json("[1,null]")]),
        every(
            "ñ漢🦀",
            0,
            1_700_000_000_123_456,
            [text("é\u{1}\t\n"), Value::Null, Value::Null, Value::Null, json("1")],
        ),
    ];
    write(&mut *session, &row, &EVERY, rows.iter().cloned().map(Change::Insert).collect()).await;
    let keys = rows.iter().map(|row| row[..3].to_vec()).collect();
    let read = load(&mut *session, &EVERY, Want::Keys(keys)).await;
    assert_eq!(read.iter().map(normal).collect::<Vec<_>>(), rows.iter().map(normal).collect::<Vec<_>>());
    assert_eq!(read, load(&mut *session, &EVERY, scan(vec![], None, 100)).await);
}

pub async fn updates_and_deletes_reach_the_rows_they_name(database: Database) {
    let mut session = database.session().await;
    let row = claim(&mut *session, &lane(0)).await;
    let plain = |n, value: &str| every("a", n, n, [text(value), Value::Null, Value::Null, Value::Null, Value::Null]);
    let row = write(&mut *session, &row, &EVERY, (0..6).map(|n| Change::Insert(plain(n, "old"))).collect()).await;
    let changes = vec![
        Change::Delete(plain(4, "")[..3].to_vec()),
        Change::Update { row: plain(3, "new").into(), expected_version: None },
        Change::Insert(plain(9, "new")),
        Change::Delete(plain(0, "")[..3].to_vec()),
        Change::Update { row: plain(1, "new").into(), expected_version: None },
    ];
    write(&mut *session, &row, &EVERY, changes).await;
    let expected = vec![plain(1, "new"), plain(2, "old"), plain(3, "new"), plain(5, "old"), plain(9, "new")];
    assert_eq!(load(&mut *session, &EVERY, scan(vec![], None, 100)).await, expected);
}

pub async fn prefixes_load_what_begins_with_them(database: Database) {
    let mut session = database.session().await;
    grid(&mut *session).await;
    let read = load(&mut *session, &EVERY, Want::Keys(vec![vec![text("c")], vec![text("a")], vec![text("z")]])).await;
    assert_eq!(ids(&read), ["a/0/0", "a/0/1", "a/1/0", "a/1/1", "c/0/0", "c/0/1", "c/1/0", "c/1/1"]);
    let two = Want::Keys(vec![vec![text("b"), Value::Int(1)], vec![text("a"), Value::Int(0)]]);
    assert_eq!(ids(&load(&mut *session, &EVERY, two).await), ["a/0/0", "a/0/1", "b/1/0", "b/1/1"]);
    assert_eq!(load(&mut *session, &EVERY, Want::Keys(vec![])).await, Vec::<Row>::new());
    let wants = [(&EVERY, Want::Keys(vec![vec![text("b")]])), (&EVERY, scan(vec![text("c")], None, 1))];
    let answer = session.load(&wants).await.unwrap();
    assert_eq!(
        answer.iter().map(|rows| ids(rows)).collect::<Vec<_>>()[1],
        ["c/0/0"],
        "one list a want, in their order"
    );
}

pub async fn pages_join_without_gap_or_overlap(database: Database) {
    let mut session = database.session().await;
    grid(&mut *session).await;
    for (prefix, expected) in [(vec![], 12), (vec![text("b")], 4), (vec![text("b"), Value::Int(1)], 2)] {
        let whole = load(&mut *session, &EVERY, scan(prefix.clone(), None, 100)).await;
        assert_eq!(whole.len(), expected);
        let (mut joined, mut last) = (Vec::new(), None);
        for pages in 0.. {
            assert!(pages <= expected, "a page that does not go on");
            let page = load(&mut *session, &EVERY, scan(prefix.clone(), last, 3)).await;
            assert!(page.len() <= 3);
            let Some(end) = page.last() else { break };
            last = Some(end[..3].to_vec());
            joined.extend(page);
        }
        assert_eq!(joined, whole);
    }
    let key = |name: &str| Some(vec![text(name), Value::Int(1), Value::Time(1)]);
    assert_eq!(
        load(&mut *session, &EVERY, scan(vec![text("b")], key("a"), 100)).await.len(),
        4,
        "after, before them all"
    );
    assert!(
        load(&mut *session, &EVERY, scan(vec![text("b")], key("c"), 100)).await.is_empty(),
        "after, behind them all"
    );
    let whole = vec![text("b"), Value::Int(1), Value::Time(1)];
    assert!(load(&mut *session, &EVERY, scan(whole.clone(), key("b"), 100)).await.is_empty());
    assert_eq!(load(&mut *session, &EVERY, scan(whole, None, 100)).await.len(), 1);
}

pub async fn a_key_wanted_twice_gives_its_row_once(database: Database) {
    let mut session = database.session().await;
    grid(&mut *session).await;
    let key = vec![text("a"), Value::Int(1), Value::Time(1)];
    assert_eq!(load(&mut *session, &EVERY, Want::Keys(vec![key.clone(), key])).await.len(), 1);
}

pub async fn text_is_ordered_bytewise(database: Database) {
    let mut session = database.session().await;
    let row = claim(&mut *session, &lane(0)).await;
    let mut names = vec!["b", "a", "B", "_", "é", "e", "Z", "10", "9", "\u{ffff}", "🦀"];
    let insert = |name: &&str| Change::Insert(every(name, 0, 0, std::array::from_fn(|_| Value::Null)));
    write(&mut *session, &row, &EVERY, names.iter().map(insert).collect()).await;
    names.sort_unstable();
    let read = load(&mut *session, &EVERY, scan(vec![], None, 100)).await;
    assert_eq!(
        read.iter().map(|row| row[0].clone()).collect::<Vec<_>>(),
        names.iter().map(|n| text(n)).collect::<Vec<_>>()
    );
    let behind = load(&mut *session, &EVERY, scan(vec![], Some(read[4][..3].to_vec()), 100)).await;
    assert_eq!(behind, read[5..]);
}

pub async fn one_table_takes_the_rows_of_several_lanes(database: Database) {
    let mut session = database.session().await;
    let (one, two) = (claim(&mut *session, &lane(1)).await, claim(&mut *session, &lane(0)).await);
    let sent = session.statements();
    let commit = [batch(&one, vec![(&MAIN, vec![main("z", 1, 1)])]), batch(&two, vec![(&MAIN, vec![main("a", 2, 1)])])];
    assert!(matches!(session.commit(&commit).await.unwrap(), Committed::All { .. }));
    let several = session.statements() - sent;
    let read = load(&mut *session, &MAIN, scan(vec![], None, 10)).await;
    assert_eq!(read.iter().map(|row| row[0].clone()).collect::<Vec<_>>(), [text("a"), text("z")]);
    let sent = session.statements();
    session.commit(&[batch(&after(&one), vec![(&MAIN, vec![main("y", 1, 1)])])]).await.unwrap();
    assert_eq!(session.statements() - sent, several, "as many statements for one lane");
}

pub async fn a_version_that_moved_stops_and_writes_nothing(database: Database) {
    let mut session = database.session().await;
    let row = claim(&mut *session, &lane(0)).await;
    let row = write(&mut *session, &row, &MAIN, vec![main("a", 1, 1), main("b", 1, 1)]).await;
    let update = |id, expected| {
        let Change::Insert(row) = main(id, 7, 2) else { unreachable!() };
        Change::Update { row: row.into(), expected_version: expected }
    };
    let answer = session.commit(&[batch(&row, vec![(&MAIN, vec![update("a", Some(1)), update("b", Some(3))])])]).await;
    assert!(matches!(&answer, Err(Error::Stop(said)) if said.contains("trial.main")), "{answer:?}");
    let read = load(&mut *session, &MAIN, scan(vec![], None, 10)).await;
    assert!(read.iter().all(|row| row[1] == Value::Int(1)), "{read:?}");
    assert_eq!(session.peek(&lane(0)).await.unwrap(), Some(row.clone()), "the lane has not moved");
    write(&mut *session, &row, &MAIN, vec![update("a", Some(1)), update("b", None)]).await;
    let read = load(&mut *session, &MAIN, scan(vec![], None, 10)).await;
    assert!(read.iter().all(|row| row[1] == Value::Int(7) && row[2] == Value::Int(2)), "{read:?}");
}

pub async fn a_row_that_is_not_as_told_stops_and_writes_nothing(database: Database) {
    let mut session = database.session().await;
    let row = claim(&mut *session, &lane(0)).await;
    let row = write(&mut *session, &row, &MAIN, vec![main("a", 1, 1)]).await;
    let Change::Insert(absent) = main("absent", 1, 1) else { unreachable!() };
    let wrong = [
        vec![main("new", 1, 1), main("a", 1, 1)],
        vec![main("new", 1, 1), Change::Update { row: absent.into(), expected_version: Some(1) }],
        vec![main("new", 1, 1), Change::Delete(vec![text("absent")])],
        vec![main("new", 1, 1), main("new", 2, 1)],
        vec![main("new", 1, 1), Change::Delete(vec![])],
    ];
    for changes in wrong {
        let said = format!("{changes:?}");
        let answer = session.commit(&[batch(&row, vec![(&MAIN, changes)])]).await;
        assert!(matches!(&answer, Err(Error::Stop(said)) if said.contains("trial.main")), "{said}: {answer:?}");
        assert_eq!(load(&mut *session, &MAIN, scan(vec![], None, 10)).await.len(), 1, "{said}");
        assert_eq!(session.peek(&lane(0)).await.unwrap(), Some(row.clone()), "{said}");
    }
}

pub async fn what_no_store_can_hold_is_rejected(database: Database) {
    let mut session = database.session().await;
    let row = claim(&mut *session, &lane(0)).await;
    let nothing = || std::array::from_fn(|_| Value::Null);
    let refused = [
        every("a\0b", 0, 0, nothing()),
        every("a", 0, 0, [text("\0"), Value::Null, Value::Null, Value::Null, Value::Null]),
        every("a", 0, 0, [Value::Null, Value::Null, Value::Null, Value::Null, json("{")]),
        every("a", 0, 0, [Value::Null, Value::Null, Value::Null, Value::Null, json("[\"\\\\\\u0000\"]")]),
        every("a", 0, 0, [text(&"x".repeat((64 << 20) + 1)), Value::Null, Value::Null, Value::Null, Value::Null]),
    ];
    for refused in refused {
        let answer = session.commit(&[batch(&row, vec![(&EVERY, vec![Change::Insert(refused)])])]).await;
        assert!(matches!(answer, Err(Error::Rejected(_))), "{answer:?}");
    }
    assert_eq!(session.peek(&lane(0)).await.unwrap(), Some(row));
}

pub async fn rows_of_the_wrong_shape_are_a_bug(database: Database) {
    let mut session = database.session().await;
    let row = claim(&mut *session, &lane(0)).await;
    let wrong: [Row; 4] = [
        vec![text("a")],
        vec![text("a"), text("1"), Value::Int(1), Value::Int(0), text("{}")],
        vec![Value::Null, Value::Int(1), Value::Int(1), Value::Int(0), text("{}")],
        vec![text("a"), Value::Time(1), Value::Int(1), Value::Int(0), text("{}")],
    ];
    for wrong in wrong {
        let answer = session.commit(&[batch(&row, vec![(&MAIN, vec![Change::Insert(wrong)])])]).await;
        assert!(matches!(answer, Err(Error::Stop(_))), "{answer:?}");
    }
    for keys in
        [vec![vec![text("a")], vec![]], vec![vec![text("a"), text("b")]], vec![vec![Value::Int(1)]], vec![vec![]]]
    {
        let answer = session.load(&[(&MAIN, Want::Keys(keys))]).await;
        assert!(matches!(answer, Err(Error::Stop(_))), "{answer:?}");
    }
}

pub async fn the_number_of_statements_does_not_depend_on_the_rows(database: Database) {
    let mut session = database.session().await;
    let mut row = claim(&mut *session, &lane(0)).await;
    let mut sent = Vec::new();
    for (from, to) in [(0, 1), (1, 1001)] {
        let names: Vec<String> = (from..to).map(|n| format!("{n:05}")).collect();
        let part = |name: &String| Change::Insert(vec![text(name), Value::Int(0), Value::Null]);
        let before = session.statements();
        let inserts = names.iter().map(|name| main(name, 1, 1)).collect();
        let commit = batch(&row, vec![(&MAIN, inserts), (&PART, names.iter().map(part).collect())]);
        assert!(matches!(session.commit(&[commit]).await.unwrap(), Committed::All { .. }));
        row = after(&row);
        let between = session.statements();
        let keys: Vec<Key> = names.iter().map(|name| vec![text(name)]).collect();
        let read = session.load(&[(&MAIN, Want::Keys(keys.clone())), (&PART, Want::Keys(keys))]).await.unwrap();
        assert_eq!((read[0].len(), read[1].len()), (names.len(), names.len()));
        sent.push((between - before, session.statements() - between));
    }
    assert_eq!(sent[0], sent[1]);
}

async fn grid(session: &mut dyn Session) {
    let row = claim(session, &lane(0)).await;
    let mut changes = Vec::new();
    for name in ["c", "a", "b"] {
        for (number, at) in [(1, 1), (0, 1), (1, 0), (0, 0)] {
            changes.push(Change::Insert(every(name, number, at, std::array::from_fn(|_| Value::Null))));
        }
    }
    write(session, &row, &EVERY, changes).await;
}

async fn write(session: &mut dyn Session, row: &LaneRow, table: &'static Table, changes: Vec<Change>) -> LaneRow {
    let answer = session.commit(&[batch(row, vec![(table, changes)])]).await.unwrap();
    assert!(matches!(answer, Committed::All { .. }), "{answer:?}");
    after(row)
}

async fn load(session: &mut dyn Session, table: &'static Table, want: Want) -> Vec<Row> {
    session.load(&[(table, want)]).await.unwrap().remove(0)
}

fn scan(prefix: Key, after: Option<Key>, limit: usize) -> Want {
    Want::Scan { prefix, after, limit }
}

fn every(name: &str, number: i64, at: i64, others: [Value; 5]) -> Row {
    [text(name), Value::Int(number), Value::Time(at)].into_iter().chain(others).collect()
}

fn main(id: &str, value: i64, version: i64) -> Change {
    Change::Insert(vec![text(id), Value::Int(value), Value::Int(version), Value::Int(0), text("{}")])
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn json(text: &str) -> Value {
    Value::Json(text.to_owned())
}

fn ids(rows: &[Row]) -> Vec<String> {
    let part = |value: &Value| match value {
        Value::Text(text) => text.clone(),
        Value::Int(number) | Value::Time(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    rows.iter().map(|row| row[..3].iter().map(part).collect::<Vec<_>>().join("/")).collect()
}

/// A row with its documents parsed: a database may write one in another way.
fn normal(row: &Row) -> (Row, Vec<serde_json::Value>) {
    let document = |cell: &Value| if let Value::Json(text) = cell { serde_json::from_str(text).ok() } else { None };
    let documents = row.iter().filter_map(document).collect();
    (row.iter().map(|cell| if matches!(cell, Value::Json(_)) { json("") } else { cell.clone() }).collect(), documents)
}
