//! Claims about what is kept for a time: what goes, what stays, and that nobody is stopped by it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use seriatim::{
    core::{
        fence::LaneRow,
        ledger::{KEPT_FOR_A_TIME, SEEN, kept_since},
        table::{Change, Row, Table, Type, Value, Want},
    },
    postgres::{PostgresStore, Settings},
    store::{Committed, Error, Forgotten, Kept, Session, Store},
};
use sqlx::{Executor, PgConnection};

use crate::database::{Database, POSTGRES_SCHEMA, after, batch, claim, lane};

const DAY: i64 = 86_400_000_000;
/// Days from now, each in a range of its own where there are ranges.
const DAYS: [i64; 4] = [1, 4, 12, 20];

pub async fn what_is_old_goes_by_bounded_steps_and_the_rest_stays(database: Database) {
    let mut session = database.session().await;
    let now = filled(&mut *session, &SEEN).await;
    let edge = kept(now + 12 * DAY);
    assert_eq!(step(&mut *session, &SEEN, &kept(now)).await, Forgotten::All, "nothing is that old");
    assert_eq!(times(&mut *session, &SEEN, now).await, DAYS);
    assert_eq!(step(&mut *session, &SEEN, &edge).await, Forgotten::Part);
    assert_eq!(times(&mut *session, &SEEN, now).await, DAYS[1..], "one row, or one range of one row");
    all(&mut *session, &SEEN, &edge).await;
    assert_eq!(times(&mut *session, &SEEN, now).await, DAYS[2..], "what is as old as that stays");
    all(&mut *session, &SEEN, &edge).await;
    assert_eq!(times(&mut *session, &SEEN, now).await, DAYS[2..]);
}

pub async fn every_table_that_is_kept_for_a_time_forgets(database: Database) {
    let mut session = database.session().await;
    for (table, _) in KEPT_FOR_A_TIME {
        let now = filled(&mut *session, table).await;
        all(&mut *session, table, &kept(now + 8 * DAY)).await;
        assert_eq!(times(&mut *session, table, now).await, DAYS[2..], "{}", table.name);
    }
}

pub async fn several_who_forget_do_not_disturb_each_other_or_a_lane(database: Database) {
    let mut session = database.session().await;
    let now = filled(&mut *session, &SEEN).await;
    let mut others = Vec::new();
    for _ in 0..3 {
        let mut other = database.session().await;
        others.push(tokio::spawn(async move { all(&mut *other, &SEEN, &kept(now + 8 * DAY)).await }));
    }
    let mut row = claim(&mut *session, &lane(1)).await;
    let mut ids = 0;
    while ids < 30 || others.iter().any(|other| !other.is_finished()) {
        // Into a range that stays, next to those that go.
        row = write(&mut *session, &row, &SEEN, aged(&SEEN, &format!("busy-{ids}"), now + 12 * DAY)).await;
        ids += 1;
        // Memory answers without ever waiting.
        tokio::task::yield_now().await;
    }
    for other in others {
        other.await.unwrap();
    }
    all(&mut *session, &SEEN, &kept(now + 8 * DAY)).await;
    let left = times(&mut *session, &SEEN, now).await;
    assert_eq!(left.iter().filter(|day| **day == 12).count(), 1 + ids);
    assert_eq!((left.len(), left.last()), (2 + ids, Some(&20)));
}

pub async fn who_dies_between_two_steps_leaves_nothing_that_stops_the_next(database: Database) {
    let mut session = database.session().await;
    let now = filled(&mut *session, &SEEN).await;
    let edge = kept(now + 17 * DAY);
    assert_eq!(step(&mut *session, &SEEN, &edge).await, Forgotten::Part);
    // A call that is dropped, wherever it stands: the first poll has sent something or waits for its turn.
    let mut dying = database.session().await;
    let call = dying.forget(&SEEN, &edge);
    tokio::select! {
        biased;
        _ = call => {}
        () = tokio::task::yield_now() => {}
    }
    drop(dying);
    while times(&mut *session, &SEEN, now).await != DAYS[3..] {
        // The server may still take the dead one for alive.
        step(&mut *session, &SEEN, &edge).await;
    }
    let row = claim(&mut *session, &lane(0)).await;
    write(&mut *session, &row, &SEEN, aged(&SEEN, "after", now + 18 * DAY)).await;
}

pub async fn a_row_that_finds_no_room_makes_it(database: Database) {
    let mut session = database.session().await;
    let row = claim(&mut *session, &lane(0)).await;
    let (_, now) = session.look(&[]).await.unwrap();
    let mut beside = database.beside().await;
    for range in ranges(&mut beside).await {
        beside.execute(sqlx::AssertSqlSafe(format!("drop table seriatim.{range}"))).await.unwrap();
    }
    let commit = batch(&row, vec![(&SEEN, vec![Change::Insert(aged(&SEEN, "homeless", now))])]);
    let first = session.commit(std::slice::from_ref(&commit)).await;
    assert!(matches!(first, Err(Error::Retry(_))), "{first:?}");
    assert!(matches!(session.commit(&[commit]).await.unwrap(), Committed::All { .. }));
    assert_eq!(scan(&mut *session, &SEEN).await.len(), 1);
}

pub async fn a_lane_goes_on_while_an_old_range_waits_for_a_reader(database: Database) {
    let mut session = database.session().await;
    let now = filled(&mut *session, &SEEN).await;
    let mut reader = database.beside().await;
    reader.execute("begin; select count(*) from seriatim.seen").await.unwrap();
    let mut forgetting = database.session().await;
    let edge = Kept { lock_wait: Duration::from_secs(20), ..kept(now + 8 * DAY) };
    let forgetting = tokio::spawn(async move { (forgetting.forget(&SEEN, &edge).await, forgetting) });
    let mut beside = database.beside().await;
    until(
        &mut beside,
        "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
    )
    .await;
    let row = claim(&mut *session, &lane(1)).await;
    let row = write(&mut *session, &row, &SEEN, aged(&SEEN, "meanwhile", now + 12 * DAY)).await;
    assert!(!scan(&mut *session, &SEEN).await.is_empty());
    write(&mut *session, &row, &SEEN, aged(&SEEN, "again", now + 3 * DAY)).await;
    assert!(!forgetting.is_finished(), "it waits for the reader still, and no lane has waited for it");
    reader.execute("commit").await.unwrap();
    let (answer, mut forgetting) = forgetting.await.unwrap();
    assert_eq!(answer, Ok(Forgotten::Part));
    // Within its bound it waits no longer, and lets the next one go on from there.
    reader.execute("begin; select count(*) from seriatim.seen").await.unwrap();
    let gave_up = forgetting.forget(&SEEN, &kept(now + 8 * DAY)).await;
    assert!(matches!(gave_up, Err(Error::Retry(_))), "{gave_up:?}");
    reader.execute("commit").await.unwrap();
    all(&mut *forgetting, &SEEN, &kept(now + 8 * DAY)).await;
    assert_eq!(times(&mut *session, &SEEN, now).await, [12, 12, 20]);
}

pub async fn who_is_cut_off_half_way_is_taken_over_from(database: Database) {
    let mut session = database.session().await;
    let now = filled(&mut *session, &SEEN).await;
    let mut beside = database.beside().await;
    let before = ranges(&mut beside).await;
    // The first range is out of its table and not dropped; of the second the reader has seen the beginning of the end.
    let detach = format!("alter table seriatim.seen detach partition seriatim.{}", before[0]);
    beside.execute(sqlx::AssertSqlSafe(detach)).await.unwrap();
    let mut reader = database.beside().await;
    reader.execute("begin; select count(*) from seriatim.seen").await.unwrap();
    beside.execute("set lock_timeout = '20ms'").await.unwrap();
    let detach = format!("alter table seriatim.seen detach partition seriatim.{} concurrently", before[1]);
    beside.execute(sqlx::AssertSqlSafe(detach)).await.unwrap_err();
    reader.execute("commit").await.unwrap();
    let row = claim(&mut *session, &lane(1)).await;
    write(&mut *session, &row, &SEEN, aged(&SEEN, "meanwhile", now + 12 * DAY)).await;
    assert_eq!(step(&mut *session, &SEEN, &kept(now + 8 * DAY)).await, Forgotten::Part);
    all(&mut *session, &SEEN, &kept(now + 8 * DAY)).await;
    assert_eq!(ranges(&mut beside).await, before[2..]);
    assert_eq!(times(&mut *session, &SEEN, now).await, [12, 12, 20]);
}

/// Rows of each range that is to go.
const MANY: i64 = 100_000;

pub async fn whole_ranges_go_while_lanes_commit_and_none_of_them_waits(database: Database) {
    let mut session = database.session().await;
    let now = filled(&mut *session, &SEEN).await;
    let mut beside = database.beside().await;
    for day in &DAYS[..3] {
        let fill = "insert into seriatim.seen select 'trial', 'e' || n % 1000, 's', n::text, '\\x00', \
                    to_timestamp($1::double precision / 1000000) from generate_series(1, $2) n";
        sqlx::query(fill).bind((now + day * DAY) as f64).bind(MANY).execute(&mut beside).await.unwrap();
    }
    // Under a name of its own, so that who waits for whom can be told.
    let mut settings = Settings::new(database.url());
    settings.application_name = "forgetting".to_owned();
    let mut forgetting = PostgresStore::open(settings, &POSTGRES_SCHEMA).await.unwrap().session().await.unwrap();
    let forgetting = tokio::spawn(async move {
        let (edge, mut steps) = (kept(now + 17 * DAY), Vec::new());
        loop {
            let (before, begun) = (forgetting.statements(), Instant::now());
            let left = forgetting.forget(&SEEN, &edge).await.unwrap();
            steps.push((forgetting.statements() - before, begun.elapsed()));
            if left == Forgotten::All {
                return steps;
            }
        }
    });
    let over = Arc::new(AtomicBool::new(false));
    let mut lanes = Vec::new();
    for number in 1..3 {
        let committing = commit_until(Arc::clone(&over), database.session().await, number, now);
        lanes.push(tokio::spawn(committing));
    }
    let (mut looks, mut waits) = (0, 0);
    while !forgetting.is_finished() {
        let sql = "select count(*) from pg_stat_activity where datname = current_database() \
                   and application_name = 'seriatim' and wait_event_type = 'Lock'";
        waits += sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut beside).await.unwrap();
        looks += 1;
    }
    over.store(true, Ordering::Relaxed);
    let steps = forgetting.await.unwrap();
    let mut commits = Vec::new();
    for lane in lanes {
        commits.push(lane.await.unwrap());
    }
    println!(
        "{looks} looks; statements and time of each step: {steps:?}; commits of each lane, the longest: {commits:?}"
    );
    assert_eq!(waits, 0, "of {looks} looks");
    assert_eq!(steps.len(), 3, "a range a step");
    assert!(steps.iter().all(|(statements, _)| *statements <= 12), "whatever a range holds: {steps:?}");
    assert!(commits.iter().all(|(count, _)| *count > 0), "{commits:?}");
    let left: i64 = sqlx::query_scalar("select count(*) from seriatim.seen").fetch_one(&mut beside).await.unwrap();
    assert_eq!(left, 1 + commits.iter().map(|(count, _)| *count).sum::<i64>());
}

/// Commits ids into a range that stays, and looks into all of them; says how often, and the longest that it took.
async fn commit_until(over: Arc<AtomicBool>, mut session: Box<dyn Session>, number: i32, now: i64) -> (i64, Duration) {
    let mut row = claim(&mut *session, &lane(number)).await;
    let (mut count, mut longest) = (0, Duration::ZERO);
    while !over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let cells = aged(&SEEN, &format!("{number}/{count}"), now + 18 * DAY);
        let found = session.load(&[(&SEEN, Want::Keys(vec![cells[..SEEN.key].to_vec()]))]).await.unwrap();
        assert_eq!(found, [Vec::<Row>::new()]);
        row = write(&mut *session, &row, &SEEN, cells).await;
        longest = longest.max(begun.elapsed());
        count += 1;
    }
    (count, longest)
}

/// A bound that takes a row at a time.
fn kept(since: i64) -> Kept {
    Kept { since, range: DAY, rows_max: 1, lock_wait: Duration::from_millis(50) }
}

/// Makes ranges up to 33 days ahead, and a row for each of [`DAYS`], in the order in which they would come; says from
/// when they count.
async fn filled(session: &mut dyn Session, table: &'static Table) -> i64 {
    let (_, now) = session.look(&[]).await.unwrap();
    for days in [5, 9, 18] {
        all(session, table, &Kept { range: days * DAY, ..kept(now) }).await;
    }
    let row = claim(session, &lane(0)).await;
    let rows = DAYS.map(|day| Change::Insert(aged(table, &format!("day-{day:02}"), now + day * DAY))).to_vec();
    let answer = session.commit(&[batch(&row, vec![(table, rows)])]).await.unwrap();
    assert!(matches!(answer, Committed::All { .. }), "{answer:?}");
    now
}

/// A row that bears this id and this time.
fn aged(table: &'static Table, id: &str, at: i64) -> Row {
    let since = kept_since(table).unwrap();
    let cells = table.columns.iter().map(|column| match (column.name, column.kind) {
        (name, Type::Time) if name == since => Value::Time(at),
        ("source" | "id", _) => Value::Text(id.to_owned()),
        ("outcome", _) => Value::Text("applied".to_owned()),
        (_, Type::Text | Type::Json) => Value::Text("x".to_owned()),
        (_, Type::Int) => Value::Int(1),
        (_, Type::Bytes) => Value::Bytes([1].into()),
        (_, Type::Time) => Value::Time(0),
    });
    cells.collect()
}

/// How old the rows of a table are, in days from then, in order.
async fn times(session: &mut dyn Session, table: &'static Table, from: i64) -> Vec<i64> {
    let since = kept_since(table).unwrap();
    let place = table.columns.iter().position(|column| column.name == since).unwrap();
    let day = |row: Row| if let Value::Time(at) = row[place] { (at - from) / DAY } else { panic!("{row:?}") };
    let mut days: Vec<i64> = scan(session, table).await.into_iter().map(day).collect();
    days.sort_unstable();
    days
}

async fn step(session: &mut dyn Session, table: &'static Table, kept: &Kept) -> Forgotten {
    session.forget(table, kept).await.unwrap()
}

async fn all(session: &mut dyn Session, table: &'static Table, kept: &Kept) {
    while step(session, table, kept).await == Forgotten::Part {}
}

async fn write(session: &mut dyn Session, row: &LaneRow, table: &'static Table, cells: Row) -> LaneRow {
    let answer = session.commit(&[batch(row, vec![(table, vec![Change::Insert(cells)])])]).await.unwrap();
    assert!(matches!(answer, Committed::All { .. }), "{answer:?}");
    after(row)
}

async fn scan(session: &mut dyn Session, table: &'static Table) -> Vec<Row> {
    let want = Want::Scan { prefix: vec![], after: None, limit: 1000 };
    session.load(&[(table, want)]).await.unwrap().remove(0)
}

/// The tables that hold ids, the oldest first.
async fn ranges(beside: &mut PgConnection) -> Vec<String> {
    let sql = "select relname::text from pg_class where relname ~ '^seen_until_[0-9]+$' order by relname";
    sqlx::query_scalar(sql).fetch_all(beside).await.unwrap()
}

async fn until(beside: &mut PgConnection, sql: &'static str) {
    while sqlx::query(sql).fetch_optional(&mut *beside).await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
}
