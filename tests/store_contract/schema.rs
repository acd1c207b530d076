//! Claims about databases with a schema: its checks, its columns, its views, its migrations.

use seriatim::{
    core::{
        fence::LaneRow,
        ledger::{DEBT, QUARANTINE, SAGA, TABLES, TIMER, kept_since},
        table::{Change, Row, Table, Type, Value, Want},
    },
    postgres::{self, PostgresStore},
    sqlite::{self, SqliteStore},
    store::{
        Committed, Error, Session, Store,
        schema::{Schema, Script, Status},
    },
};
use sqlx::{Connection, Executor, Row as _, SqliteConnection};

use crate::database::{
    Database, MAIN, PART, POSTGRES_SCHEMA, Place, SQLITE_SCHEMA, after, batch, claim, create_postgres, lane,
};

pub async fn a_failed_check_is_rejected_and_writes_nothing(database: Database) {
    let mut session = database.session().await;
    let row = claim(&mut *session, &lane(0)).await;
    let commit = batch(&row, vec![(&PART, vec![part("good")]), (&MAIN, vec![main("good", 1), main("bad", -1)])]);
    let answer = session.commit(&[commit]).await;
    assert!(matches!(answer, Err(Error::Rejected(_))), "{answer:?}");
    untouched(&mut *session, &row).await;
    assert!(matches!(
        session.commit(&[batch(&row, vec![(&MAIN, vec![main("good", 1)])])]).await.unwrap(),
        Committed::All { .. }
    ));
}

pub async fn a_dangling_row_is_rejected_at_commit(database: Database) {
    let mut session = database.session().await;
    let row = claim(&mut *session, &lane(0)).await;
    let answer = session.commit(&[batch(&row, vec![(&PART, vec![part("nobody")])])]).await;
    assert!(matches!(answer, Err(Error::Rejected(_))), "an aborted transaction is not committed: {answer:?}");
    untouched(&mut *session, &row).await;
}

pub async fn a_row_and_what_it_belongs_to_come_in_one_batch(database: Database) {
    let mut session = database.session().await;
    let row = claim(&mut *session, &lane(0)).await;
    let commit = batch(&row, vec![(&PART, vec![part("a")]), (&MAIN, vec![main("a", 1)])]);
    assert!(matches!(session.commit(&[commit]).await.unwrap(), Committed::All { .. }));
    // And they go in one, whichever table comes first.
    let gone = |key: Row| vec![Change::Delete(key)];
    let commit =
        batch(&after(&row), vec![(&MAIN, gone(vec![text("a")])), (&PART, gone(vec![text("a"), Value::Int(0)]))]);
    assert!(matches!(session.commit(&[commit]).await.unwrap(), Committed::All { .. }));
}

pub async fn tables_have_the_declared_columns(database: Database) {
    for table in TABLES {
        let declared: Vec<(String, Type)> = table.columns.iter().map(|c| (c.name.to_owned(), c.kind)).collect();
        let (mut columns, key) = columns(&database, table).await;
        let on_postgres = matches!(database.place, Place::Postgres { .. });
        // Whoever reads the outbox need not know in which slot a message stands.
        let slot = (on_postgres && table.name == "outbox").then(|| columns.pop().expect("it has columns").0);
        assert_eq!(columns.len(), declared.len(), "{}", table.name);
        for ((name, kind), (found, found_kind)) in declared.iter().zip(&columns) {
            assert_eq!((name, sql_type(&database, *kind)), (found, found_kind.as_str()), "{}", table.name);
        }
        // PostgreSQL wants what ranges and slots go by in the key as well; it stands behind what rows are looked up by.
        let since = kept_since(table).filter(|_| on_postgres);
        let expected = declared[..table.key].iter().map(|c| c.0.as_str()).chain(since).chain(slot.as_deref());
        assert_eq!(key, expected.collect::<Vec<_>>(), "key of {}", table.name);
    }
}

pub async fn a_timer_of_every_purpose_is_taken(database: Database) {
    let mut session = database.session().await;
    let row = claim(&mut *session, &lane(0)).await;
    let timer = |purpose: &str| {
        let key =
            [text("trials"), Value::Int(0), Value::Time(1)].into_iter().chain([purpose, "trial", "e", "n"].map(text));
        Change::Insert(key.chain([Value::Time(1)]).collect())
    };
    let timers = ["entity", "saga", "gap", "waiting", "letter"].map(timer).to_vec();
    let answer = session.commit(&[batch(&row, vec![(&TIMER, timers)])]).await;
    assert!(matches!(answer, Ok(Committed::All { .. })), "{answer:?}");
}

pub async fn entities_are_shown_with_what_is_unwell(database: Database) {
    let mut session = database.session().await;
    let row = claim(&mut *session, &lane(0)).await;
    let unwell = |id: &str, status: &str| {
        let parts = ["trial", id, status, "failure", "said"].map(text);
        let key = [text("trials"), Value::Int(4)];
        let rest = [Value::Int(1), Value::Int(0), Value::Int(0), Value::Time(0)];
        Change::Insert(key.into_iter().chain(parts).chain(rest).collect())
    };
    let quarantine = vec![unwell("b", "draining"), unwell("unborn", "quarantined")];
    let commit = batch(&row, vec![(&MAIN, vec![main("a", 1), main("b", 1)]), (&QUARANTINE, quarantine)]);
    session.commit(&[commit]).await.unwrap();
    let shown = shown(&database, "entity", &["kind", "entity_id", "version", "partition", "status"]).await;
    let expected = ["trial|a|1|0|active", "trial|b|1|0|draining", "trial|unborn|null|4|quarantined"];
    assert_eq!(shown, expected);
}

pub async fn what_is_still_to_be_undone_is_shown(database: Database) {
    let mut session = database.session().await;
    let row = claim(&mut *session, &lane(0)).await;
    let saga = |id: &str, status: &str| {
        let parts = [text("checkout"), text(id), Value::Int(1), text(status), text("charge"), Value::Null];
        let rest = [Value::Json("{}".to_owned()), text("trials"), Value::Int(0), Value::Time(0), Value::Time(0)];
        Change::Insert(parts.into_iter().chain(rest).collect())
    };
    let sagas = ["running", "compensating", "completed", "compensated", "needs_operator"].map(|s| saga(s, s)).to_vec();
    let debt = [text("payment"), text("p"), text("refund"), Value::Int(5), text("EUR"), text("owed"), Value::Time(0)];
    session.commit(&[batch(&row, vec![(&SAGA, sagas), (&DEBT, vec![Change::Insert(debt.to_vec())])])]).await.unwrap();
    let shown = shown(&database, "ledger", &["kind", "entity_id", "what", "status", "amount_minor"]).await;
    let expected = [
        "checkout|compensating|saga|compensating|null",
        "checkout|needs_operator|saga|needs_operator|null",
        "payment|p|refund|owed|5",
    ];
    assert_eq!(shown, expected);
}

/// What a newer release would bring.
static NEWER: Script = Script { version: 2001, name: "newer", sql: "create table trial_newer (id bigint)" };
static POSTGRES_NEWER: [Script; 1] = [Script { sql: "create table public.trial_newer (id bigint)", ..NEWER }];
static SQLITE_NEWER: [Script; 1] = [NEWER];
static OTHERWISE: [Script; 1] = [Script { sql: "select 2", ..NEWER }];

#[tokio::test]
async fn postgres_is_refused_behind_and_ahead_and_migrated_twice_without_harm() {
    let (name, url) = create_postgres().await;
    let settings = postgres::Settings::new(&url);
    let _gone_at_the_end = Database {
        store: std::sync::Arc::new(seriatim::memory::MemoryStore::new("unused", || 0)),
        place: Place::Postgres { name, url },
    };
    let (older, newer) = (Schema::default(), Schema { scripts: &POSTGRES_NEWER, kinds: &[] });
    refused(PostgresStore::open(settings.clone(), &older).await, "run `seriatim migrate up`");
    let (one, two) = tokio::join!(postgres::migrate::up(&settings, &older), postgres::migrate::up(&settings, &older));
    assert_eq!(one.unwrap(), two.unwrap(), "two at a time wait for each other");
    let identity =
        PostgresStore::open(settings.clone(), &older).await.unwrap().session().await.unwrap().identity().await;
    assert_eq!(postgres::migrate::status(&settings, &newer).await.unwrap().pending, [2001]);
    refused(PostgresStore::open(settings.clone(), &newer).await, "run `seriatim migrate up`");
    assert_eq!(postgres::migrate::up(&settings, &newer).await.unwrap(), done(postgres::migrate::SCRIPTS));
    assert_eq!(postgres::migrate::status(&settings, &older).await.unwrap().ahead, [2001]);
    refused(PostgresStore::open(settings.clone(), &older).await, "ahead");
    refused(postgres::migrate::up(&settings, &older).await, "ahead");
    let changed = Schema { scripts: &OTHERWISE, kinds: &[] };
    refused(PostgresStore::open(settings.clone(), &changed).await, "modified");
    let mut session = PostgresStore::open(settings, &newer).await.unwrap().session().await.unwrap();
    assert_eq!(session.identity().await, identity, "migrating again does not make another store of it");
}

#[tokio::test]
async fn sqlite_is_refused_behind_and_ahead_and_migrated_twice_without_harm() {
    let file = std::env::temp_dir().join(format!("seriatim-trial-{}.db", uuid::Uuid::new_v4().simple()));
    let settings = sqlite::Settings::new(format!("sqlite:{}", file.display()));
    let _gone_at_the_end = Database {
        store: std::sync::Arc::new(seriatim::memory::MemoryStore::new("unused", || 0)),
        place: Place::Sqlite { file: file.clone() },
    };
    let (older, newer) = (Schema::default(), Schema { scripts: &SQLITE_NEWER, kinds: &[] });
    refused(SqliteStore::open(settings.clone(), &older).await, "run `seriatim migrate up`");
    assert!(!file.exists(), "looking makes no file");
    sqlite::migrate::up(&settings, &older).await.unwrap();
    sqlite::migrate::up(&settings, &older).await.unwrap();
    let identity = SqliteStore::open(settings.clone(), &older).await.unwrap().session().await.unwrap().identity().await;
    refused(SqliteStore::open(settings.clone(), &newer).await, "run `seriatim migrate up`");
    assert_eq!(sqlite::migrate::up(&settings, &newer).await.unwrap(), done(sqlite::migrate::SCRIPTS));
    refused(SqliteStore::open(settings.clone(), &older).await, "ahead");
    refused(sqlite::migrate::up(&settings, &older).await, "ahead");
    let changed = Schema { scripts: &OTHERWISE, kinds: &[] };
    refused(SqliteStore::open(settings.clone(), &changed).await, "modified");
    let mut session = SqliteStore::open(settings, &newer).await.unwrap().session().await.unwrap();
    assert_eq!(session.identity().await, identity, "migrating again does not make another store of it");
}

#[tokio::test]
async fn a_store_in_memory_is_shared_by_its_sessions() {
    let store = SqliteStore::in_memory(&SQLITE_SCHEMA).await.unwrap();
    let (mut one, mut two) = (store.session().await.unwrap(), store.session().await.unwrap());
    let row = claim(&mut *one, &lane(0)).await;
    one.commit(&[batch(&row, vec![(&MAIN, vec![main("bad", -1)])])]).await.unwrap_err();
    assert_eq!(two.peek(&lane(0)).await.unwrap(), Some(row));
}

/// An id and a number as they stood before rows were kept by time.
const KEPT_BEFORE: [&str; 2] = [
    "insert into {}seen values (7, 'k', 'e', 's', 'id', {}, {})",
    "insert into {}passed values ('k', 'e', 's', 1, {}, {})",
];

#[tokio::test]
async fn what_was_kept_before_rows_went_by_time_is_kept_still() {
    let filled = |prefix: &str, bytes: &str, time: &str| {
        KEPT_BEFORE.map(|text| text.replacen("{}", prefix, 1).replacen("{}", bytes, 1).replacen("{}", time, 1))
    };
    let split = |scripts: &[Script]| {
        let at = scripts.iter().position(|script| script.name == "retention").unwrap();
        let sql = |scripts: &[Script]| scripts.iter().map(|script| script.sql).collect::<Vec<_>>().join("\n");
        (sql(&scripts[..at]), sql(&scripts[at..]))
    };
    let (before, since) = split(postgres::migrate::SCRIPTS);
    let (name, url) = create_postgres().await;
    let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
    let store = std::sync::Arc::new(seriatim::memory::MemoryStore::new("unused", || 0));
    let _gone_at_the_end = Database { store, place: Place::Postgres { name, url } };
    let rows = filled("seriatim.", "'\\x00'", "now()").join(";");
    let steps = ["create schema seriatim".to_owned(), before, rows, since];
    for sql in steps {
        connection.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
    }
    for table in ["seen", "passed"] {
        let sql =
            sqlx::AssertSqlSafe(format!("select count(*) from seriatim.{table} where at > now() - interval '1 d'"));
        assert_eq!(sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut connection).await.unwrap(), 1, "{table}");
    }
    let (before, since) = split(sqlite::migrate::SCRIPTS);
    let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    for sql in [before, filled("seriatim_", "x'00'", "1").join(";"), since] {
        connection.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
    }
    let sql = "select (select count(*) from seriatim_seen) + (select count(*) from seriatim_passed)";
    assert_eq!(sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut connection).await.unwrap(), 2);
}

#[test]
fn every_script_in_the_folders_is_run() {
    for (folder, scripts) in [("postgres", postgres::migrate::SCRIPTS), ("sqlite", sqlite::migrate::SCRIPTS)] {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(folder);
        let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut files: Vec<_> = files.collect();
        files.sort();
        let named: Vec<_> = scripts.iter().map(|script| format!("{:04}_{}.sql", script.version, script.name)).collect();
        assert_eq!(files, named);
    }
}

#[test]
fn printed_statements_hold_every_script_and_view() {
    let printed = [postgres::migrate::sql(&POSTGRES_SCHEMA), sqlite::migrate::sql(&SQLITE_SCHEMA)];
    for (printed, scripts) in printed.iter().zip([postgres::migrate::SCRIPTS, sqlite::migrate::SCRIPTS]) {
        assert!(scripts.iter().all(|script| printed.contains(script.sql)));
        assert!(printed.contains("entity") && printed.contains("ledger") && printed.contains("purchase_line"));
    }
}

fn done(runtime: &[Script]) -> Status {
    let applied = runtime.iter().map(|script| script.version).chain([2001]).collect();
    Status { applied, ..Status::default() }
}

fn refused<T>(answer: Result<T, Error>, expected: &str) {
    match answer {
        Err(Error::Stop(said)) => assert!(said.contains(expected), "{said}"),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("not refused"),
    }
}

async fn untouched(session: &mut dyn Session, row: &LaneRow) {
    let all = Want::Scan { prefix: vec![], after: None, limit: 10 };
    assert_eq!(session.load(&[(&MAIN, all.clone()), (&PART, all)]).await.unwrap(), [vec![], Vec::<Row>::new()]);
    assert_eq!(session.peek(&lane(0)).await.unwrap().as_ref(), Some(row), "the lane has not moved");
}

async fn sqlite(database: &Database) -> SqliteConnection {
    let Place::Sqlite { file } = &database.place else { panic!("this is no file") };
    SqliteConnection::connect(&format!("sqlite:{}", file.display())).await.unwrap()
}

/// A table's columns with their types, and those of its key in order.
async fn columns(database: &Database, table: &Table) -> (Vec<(String, String)>, Vec<String>) {
    if let Place::Sqlite { .. } = database.place {
        let sql = "select name, lower(type) as type, pk from pragma_table_info(?1) order by cid";
        let name = format!("{}_{}", table.schema, table.name);
        let rows = sqlx::query(sql).bind(name).fetch_all(&mut sqlite(database).await).await.unwrap();
        let columns = rows.iter().map(|row| (row.get("name"), row.get("type"))).collect();
        let mut key: Vec<(i64, String)> = rows.iter().map(|row| (row.get("pk"), row.get("name"))).collect();
        key.retain(|(place, _)| *place > 0);
        key.sort();
        return (columns, key.into_iter().map(|(_, name)| name).collect());
    }
    let mut connection = database.beside().await;
    let sql = "select column_name::text as name, data_type::text || coalesce(' ' || collation_name::text, '') as type \
               from information_schema.columns where table_schema = $1 and table_name = $2 order by ordinal_position";
    let rows = sqlx::query(sql).bind(table.schema).bind(table.name).fetch_all(&mut connection).await.unwrap();
    let columns = rows.iter().map(|row| (row.get("name"), row.get("type"))).collect();
    let sql = "select column_name::text as name from information_schema.key_column_usage \
               where table_schema = $1 and table_name = $2 and constraint_name = $2 || '_pkey' \
               order by ordinal_position";
    let key = sqlx::query(sql).bind(table.schema).bind(table.name).fetch_all(&mut connection).await.unwrap();
    (columns, key.iter().map(|row| row.get("name")).collect())
}

fn sql_type(database: &Database, kind: Type) -> &'static str {
    match (&database.place, kind) {
        (Place::Sqlite { .. }, Type::Text | Type::Json) => "text",
        (Place::Sqlite { .. }, Type::Int | Type::Time) => "integer",
        (Place::Sqlite { .. }, Type::Bytes) => "blob",
        (_, Type::Text) => "text C",
        (_, Type::Int) => "bigint",
        (_, Type::Bytes) => "bytea",
        (_, Type::Time) => "timestamp with time zone",
        (_, Type::Json) => "jsonb",
    }
}

/// The rows of a view, as text and in order.
async fn shown(database: &Database, view: &str, columns: &[&str]) -> Vec<String> {
    let text: Vec<_> = columns.iter().map(|c| format!("coalesce(cast(\"{c}\" as text), 'null')")).collect();
    let select = format!("select {} as line from", text.join(" || '|' || "));
    let mut lines: Vec<String> = if let Place::Sqlite { .. } = database.place {
        let sql = sqlx::AssertSqlSafe(format!("{select} seriatim_{view}"));
        sqlx::query_scalar(sql).fetch_all(&mut sqlite(database).await).await.unwrap()
    } else {
        let sql = sqlx::AssertSqlSafe(format!("{select} seriatim.{view}"));
        sqlx::query_scalar(sql).fetch_all(&mut database.beside().await).await.unwrap()
    };
    lines.sort();
    lines
}

fn main(id: &str, value: i64) -> Change {
    Change::Insert(vec![text(id), Value::Int(value), Value::Int(1), Value::Int(0), text("{}")])
}

fn part(id: &str) -> Change {
    Change::Insert(vec![text(id), Value::Int(0), Value::Null])
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}
