//! Claims about waiting for others, and about connections that end.

use std::time::Duration;

use seriatim::{
    core::{
        fence::{LaneCommit, Position},
        ledger::{OUTBOX, TABLES},
        table::{Change, Value, Want},
    },
    postgres::{PostgresStore, Settings},
    sqlite::{self, SqliteStore},
    store::{Committed, Error, Store},
};
use sqlx::{Connection, Executor, PgConnection, SqliteConnection};

use crate::database::{Database, MAIN, POSTGRES_SCHEMA, Place, SQLITE_SCHEMA, after, batch, claim, lane};

pub async fn claim_waits_for_a_running_transaction(database: Database) {
    let mut session = database.session().await;
    claim(&mut *session, &lane(0)).await;
    let mut old_owner = database.beside().await;
    old_owner.execute("begin").await.unwrap();
    old_owner.execute("update seriatim.lane set batch = batch + 1, next_offset = 77").await.unwrap();
    let claiming = tokio::spawn(async move { session.claim(&lane(0), "new", "new", 0).await });
    until_somebody_waits(&mut database.beside().await).await;
    assert!(!claiming.is_finished());
    old_owner.execute("commit").await.unwrap();
    let (row, _) = claiming.await.unwrap().unwrap();
    assert_eq!((row.fence.next_offset, row.fence.batch, row.fence.epoch), (77, 1, 2), "it sees what it has waited for");
}

pub async fn look_and_commit_see_what_they_have_waited_for(database: Database) {
    let (mut looking, mut committing) = (database.session().await, database.session().await);
    let row = claim(&mut *committing, &lane(0)).await;
    let mut other = database.beside().await;
    other.execute("begin").await.unwrap();
    other.execute("update seriatim.lane set next_offset = 77").await.unwrap();
    let commit = batch(&row, vec![(&MAIN, vec![main("a")])]);
    let looking = tokio::spawn(async move { looking.look(&[lane(0)]).await });
    let committing = tokio::spawn(async move { committing.commit(&[commit]).await });
    let mut beside = database.beside().await;
    until(&mut beside, "select 1 from pg_locks where not granted and locktype = 'tuple'").await;
    other.execute("commit").await.unwrap();
    assert_eq!(looking.await.unwrap().unwrap().0[0].fence.next_offset, 77);
    assert_eq!(committing.await.unwrap().unwrap(), Committed::Fenced(vec![lane(0)]), "never by what it saw before");
}

pub async fn lock_timeout_says_retry(database: Database) {
    let mut settings = Settings::new(database.url());
    settings.lock_timeout = Duration::from_millis(50);
    let store = PostgresStore::open(settings, &POSTGRES_SCHEMA).await.unwrap();
    let mut session = store.session().await.unwrap();
    let row = claim(&mut *session, &lane(0)).await;
    let mut old_owner = database.beside().await;
    old_owner.execute("begin").await.unwrap();
    old_owner.execute("select 1 from seriatim.lane for update").await.unwrap();
    let claimed = session.claim(&lane(0), "new", "new", 0).await;
    assert!(matches!(claimed, Err(Error::Retry(_))), "{claimed:?}");
    let committed = session.commit(&[batch(&row, vec![])]).await;
    assert!(matches!(committed, Err(Error::Retry(_))), "{committed:?}");
    let looked = session.look(&[lane(0)]).await;
    assert!(matches!(looked, Err(Error::Retry(_))), "{looked:?}");
    assert_eq!(session.peek(&lane(0)).await.unwrap(), Some(row.clone()), "peeking does not wait");
    old_owner.execute("rollback").await.unwrap();
    assert!(matches!(session.commit(&[batch(&row, vec![])]).await.unwrap(), Committed::All { .. }));
}

pub async fn a_terminated_backend_says_retry_and_the_session_goes_on(database: Database) {
    let mut session = database.session().await;
    let row = claim(&mut *session, &lane(0)).await;
    session.commit(&[batch(&row, vec![(&MAIN, vec![main("a")])])]).await.unwrap();
    let row = after(&row);
    // A commit that stands in the middle of its transaction, its lane's row locked and moved.
    let mut other = database.beside().await;
    other.execute("begin").await.unwrap();
    other.execute("select 1 from trial.main for update").await.unwrap();
    let delete = batch(&row, vec![(&MAIN, vec![Change::Delete(vec![Value::Text("a".to_owned())])])]);
    let again = delete.clone();
    let committing = tokio::spawn(async move {
        let answer = session.commit(&[delete]).await;
        (session, answer)
    });
    let mut beside = database.beside().await;
    until_somebody_waits(&mut beside).await;
    let sql = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'seriatim' \
               and datname = current_database()";
    beside.execute(sql).await.unwrap();
    let (mut session, answer) = committing.await.unwrap();
    assert!(matches!(answer, Err(Error::Retry(_))), "{answer:?}");
    other.execute("rollback").await.unwrap();
    assert_eq!(session.look(&[lane(0)]).await.unwrap().0, [row], "nothing was written");
    assert!(matches!(session.commit(&[again]).await.unwrap(), Committed::All { .. }));
}

pub async fn a_commit_that_ends_the_connection_is_unknown(database: Database) {
    let mut beside = database.beside().await;
    // Checked at COMMIT, as the last thing before it is made durable.
    let trigger = "create function trial.die() returns trigger language plpgsql as \
        $$ begin perform pg_terminate_backend(pg_backend_pid()); return null; end $$; \
        create constraint trigger die after insert on trial.main deferrable initially deferred \
        for each row execute function trial.die()";
    beside.execute(trigger).await.unwrap();
    let mut session = database.session().await;
    let row = claim(&mut *session, &lane(0)).await;
    let answer = session.commit(&[batch(&row, vec![(&MAIN, vec![main("a")])])]).await;
    assert!(matches!(answer, Err(Error::Unknown(_))), "{answer:?}");
    assert_eq!(session.look(&[lane(0)]).await.unwrap().0, [row], "the rows tell: it was not committed");
}

pub async fn a_database_that_is_gone_says_retry(database: Database) {
    let mut settings = Settings::new("postgres://postgres@127.0.0.1:1/nothing");
    let refused = PostgresStore::open(settings.clone(), &POSTGRES_SCHEMA).await;
    assert!(matches!(refused, Err(Error::Retry(_))), "{refused:?}");
    settings.url = "postgres://somebody:secret@[".to_owned();
    assert!(!format!("{settings:?}").contains("secret"));
    let refused = PostgresStore::open(settings, &POSTGRES_SCHEMA).await;
    assert!(matches!(&refused, Err(Error::Stop(said)) if !said.contains("secret")), "{refused:?}");
    let mut settings = Settings::new(database.url());
    settings.url.push_str("_absent");
    let refused = PostgresStore::open(settings, &POSTGRES_SCHEMA).await;
    assert!(matches!(refused, Err(Error::Stop(_))), "{refused:?}");
}

pub async fn rows_are_found_by_index(database: Database) {
    let mut beside = database.beside().await;
    // The planner knows that the tables are empty, and each statement is planned once.
    beside.execute("vacuum (analyze) seriatim.outbox, seriatim.link_in, seriatim.lane").await.unwrap();
    let fill = "insert into seriatim.outbox \
                (topic, partition, batch, idx, to_topic, to_partition, timestamp_ms, headers) \
                select 'trials', p, n, 0, 'elsewhere', 0, 0, '[]' \
                from generate_series(0, 9) p, generate_series(1, 2000) n";
    let mut session = database.session().await;
    let (found, absent) = (vec![vec![Value::Text("trials".to_owned()), Value::Int(3), Value::Int(7)]], vec![]);
    let wants = [
        (&OUTBOX, Want::Keys(found)),
        (&OUTBOX, Want::Keys(absent)),
        (&OUTBOX, Want::Scan { prefix: vec![Value::Text("trials".to_owned()), Value::Int(3)], after: None, limit: 5 }),
    ];
    session.load(&wants).await.unwrap();
    beside.execute(fill).await.unwrap();
    let read = session.load(&wants).await.unwrap();
    assert_eq!(read.iter().map(Vec::len).collect::<Vec<_>>(), [1, 0, 5]);
    // A session's connection ends with it, and only then are its counts sure to be told.
    drop(session);
    until_alone(&mut beside).await;
    let scanned: Vec<String> = sqlx::query_scalar(
        "select relname::text from pg_stat_user_tables where schemaname = 'seriatim' and seq_tup_read > 0",
    )
    .fetch_all(&mut beside)
    .await
    .unwrap();
    let ours = |name: &&String| {
        TABLES
            .iter()
            .any(|table| name.strip_prefix(table.name).is_some_and(|rest| rest.is_empty() || rest.starts_with('_')))
    };
    let ours: Vec<_> = scanned.iter().filter(ours).collect();
    assert!(ours.is_empty(), "read from end to end: {ours:?}");
}

pub async fn a_slot_that_is_written_or_read_is_left_for_the_next_time(database: Database) {
    let (mut beside, mut session) = (database.beside().await, database.session().await);
    let row = claim(&mut *session, &lane(0)).await;
    let acknowledged = LaneCommit { relayed: Position { batch: 9, index: 0 }, ..batch(&row, vec![]) };
    session.commit(&[acknowledged]).await.unwrap();
    let message = "insert into seriatim.outbox (topic, partition, batch, idx, to_topic, to_partition, headers) \
                   values ('trials', 0, $1, 0, 'elsewhere', 0, '[]')";
    sqlx::query(message).bind(1_i64).execute(&mut beside).await.unwrap();
    database.let_outbox_rest().await;
    for holds in ["select 1 from seriatim.outbox", "update seriatim.outbox set idx = 1"] {
        beside.execute("begin").await.unwrap();
        beside.execute(holds).await.unwrap();
        let answer = session.trim_outbox(100).await;
        assert!(matches!(answer, Err(Error::Retry(_))), "nobody is waited for: {answer:?}");
        beside.execute("rollback").await.unwrap();
    }
    assert_eq!(session.trim_outbox(100).await.unwrap(), 1, "the turn was given back");
}

pub async fn a_slot_of_which_too_much_is_needed_stays(database: Database) {
    let (mut beside, mut session) = (database.beside().await, database.session().await);
    claim(&mut *session, &lane(0)).await;
    let fill = "insert into seriatim.outbox (topic, partition, batch, idx, to_topic, to_partition, headers) \
                select 'trials', 0, n, 0, 'elsewhere', 0, '[]' from generate_series(1, 11) n";
    beside.execute(fill).await.unwrap();
    database.let_outbox_rest().await;
    let resting = "select count(*) from seriatim.outbox \
                   where slot = mod(date_part('epoch', now())::bigint / 10 + 2, 4)";
    assert_eq!(session.trim_outbox(10).await.unwrap(), 0);
    assert_eq!(sqlx::query_scalar::<_, i64>(resting).fetch_one(&mut beside).await.unwrap(), 11, "none was copied");
    assert_eq!(session.trim_outbox(11).await.unwrap(), 0, "all are needed");
    let all = "select count(*) from seriatim.outbox";
    assert_eq!(sqlx::query_scalar::<_, i64>(all).fetch_one(&mut beside).await.unwrap(), 11);
    assert_eq!(sqlx::query_scalar::<_, i64>(resting).fetch_one(&mut beside).await.unwrap(), 0, "now they were");
}

#[tokio::test]
async fn a_file_that_another_process_holds_says_retry() {
    let database = Database::sqlite().await;
    let Place::Sqlite { file } = &database.place else { unreachable!() };
    let mut settings = sqlite::Settings::new(format!("sqlite:{}", file.display()));
    settings.busy_timeout = Duration::from_millis(50);
    let mut session = SqliteStore::open(settings, &SQLITE_SCHEMA).await.unwrap().session().await.unwrap();
    let row = claim(&mut *session, &lane(0)).await;
    let mut other = SqliteConnection::connect(&format!("sqlite:{}", file.display())).await.unwrap();
    other.execute("begin immediate").await.unwrap();
    for answer in [session.commit(&[batch(&row, vec![])]).await.err(), session.look(&[lane(0)]).await.err()] {
        assert!(matches!(answer, Some(Error::Retry(_))), "{answer:?}");
    }
    assert_eq!(session.peek(&lane(0)).await.unwrap(), Some(row.clone()), "peeking does not wait");
    other.execute("rollback").await.unwrap();
    assert!(matches!(session.commit(&[batch(&row, vec![])]).await.unwrap(), Committed::All { .. }));
}

/// Waits until a session waits for a lock.
async fn until_somebody_waits(beside: &mut PgConnection) {
    let sql = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    until(beside, sql).await;
}

/// Waits until no other connection of the store is left.
async fn until_alone(beside: &mut PgConnection) {
    let sql = "select 1 where not exists (select 1 from pg_stat_activity where datname = current_database() \
               and application_name = 'seriatim')";
    until(beside, sql).await;
}

async fn until(beside: &mut PgConnection, sql: &'static str) {
    while sqlx::query(sql).fetch_optional(&mut *beside).await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
}

fn main(id: &str) -> Change {
    let marks = Value::Text("{}".to_owned());
    Change::Insert(vec![Value::Text(id.to_owned()), Value::Int(1), Value::Int(1), Value::Int(0), marks])
}
