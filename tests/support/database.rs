//! A database of its own for each test, of each kind of store, gone when the test ends.

use std::{path::PathBuf, sync::Arc};

use seriatim::{
    core::{
        fence::{LaneCommit, LaneRow, Position},
        record::LaneId,
        table::{Change, Column, Table, Type},
    },
    memory::MemoryStore,
    postgres::{self, PostgresStore},
    sqlite::{self, SqliteStore},
    store::{
        Session, Store,
        schema::{Schema, Script},
    },
};
use sqlx::{Connection, Executor, PgConnection};

/// A table with a column of every type, and a key of every type that a key may have.
pub static EVERY: Table = Table {
    schema: "trial",
    name: "every",
    key: 3,
    columns: &[
        Column { name: "name", kind: Type::Text },
        Column { name: "number", kind: Type::Int },
        Column { name: "at", kind: Type::Time },
        Column { name: "text", kind: Type::Text },
        Column { name: "count", kind: Type::Int },
        Column { name: "bytes", kind: Type::Bytes },
        Column { name: "time", kind: Type::Time },
        Column { name: "json", kind: Type::Json },
    ],
    version: None,
};

/// A table whose updates compare a version.
pub static MAIN: Table = Table {
    schema: "trial",
    name: "main",
    key: 1,
    columns: &[
        Column { name: "id", kind: Type::Text },
        Column { name: "value", kind: Type::Int },
        Column { name: "version", kind: Type::Int },
        Column { name: "partition", kind: Type::Int },
        Column { name: "marks", kind: Type::Text },
    ],
    version: Some(2),
};

/// Rows that belong to a row of [`MAIN`], by a foreign key that is checked at commit.
pub static PART: Table = Table {
    schema: "trial",
    name: "part",
    key: 2,
    columns: &[
        Column { name: "id", kind: Type::Text },
        Column { name: "place", kind: Type::Int },
        Column { name: "value", kind: Type::Int },
    ],
    version: None,
};

const TRIAL_POSTGRES: &str = r#"
create schema trial;
create table trial.every (name text collate "C", number bigint, at timestamptz, text text collate "C", count bigint,
    bytes bytea, time timestamptz, json jsonb, primary key (name, number, at));
create table trial.main (id text collate "C" primary key, value bigint not null check (value >= 0),
    version bigint not null, partition bigint not null, marks text not null);
create table trial.part (id text collate "C" references trial.main (id) deferrable initially deferred, place bigint,
    value bigint, primary key (id, place));
"#;

const TRIAL_SQLITE: &str = r#"
create table trial_every (name text not null, number integer not null, at integer not null, text text, count integer,
    bytes blob, time integer, json text, primary key (name, number, at)) strict;
create table trial_main (id text not null primary key, value integer not null check (value >= 0),
    version integer not null, "partition" integer not null, marks text not null) strict;
create table trial_part (id text not null references trial_main (id) deferrable initially deferred,
    place integer not null, value integer, primary key (id, place)) strict;
"#;

static POSTGRES_SCRIPTS: [Script; 2] = [
    Script { version: 1001, name: "shop", sql: include_str!("../../migrations/shop/postgres/1001_shop.sql") },
    Script { version: 1002, name: "trial", sql: TRIAL_POSTGRES },
];
static SQLITE_SCRIPTS: [Script; 2] = [
    Script { version: 1001, name: "shop", sql: include_str!("../../migrations/shop/sqlite/1001_shop.sql") },
    Script { version: 1002, name: "trial", sql: TRIAL_SQLITE },
];
static KINDS: [(&str, &Table); 1] = [("trial", &MAIN)];

/// What the trial databases hold on PostgreSQL.
pub static POSTGRES_SCHEMA: Schema = Schema { scripts: &POSTGRES_SCRIPTS, kinds: &KINDS };
/// What the trial databases hold on SQLite.
pub static SQLITE_SCHEMA: Schema = Schema { scripts: &SQLITE_SCRIPTS, kinds: &KINDS };

/// Where a trial database is.
pub enum Place {
    /// Its name on the server, and its URL.
    Postgres { name: String, url: String },
    /// Its file.
    Sqlite { file: PathBuf },
    /// Nowhere.
    Memory,
}

/// A store on a database that this test alone uses.
pub struct Database {
    pub store: Arc<dyn Store>,
    pub place: Place,
}

impl Database {
    /// A fresh database on the test server, migrated.
    pub async fn postgres() -> Self {
        let (name, url) = create_postgres().await;
        let settings = postgres::Settings::new(&url);
        let place = Place::Postgres { name, url };
        postgres::migrate::up(&settings, &POSTGRES_SCHEMA).await.unwrap();
        let store = Arc::new(PostgresStore::open(settings, &POSTGRES_SCHEMA).await.unwrap());
        Self { store, place }
    }

    /// A fresh file, migrated.
    pub async fn sqlite() -> Self {
        let file = std::env::temp_dir().join(format!("seriatim-trial-{}.db", uuid::Uuid::new_v4().simple()));
        let settings = sqlite::Settings::new(format!("sqlite:{}", file.display()));
        sqlite::migrate::up(&settings, &SQLITE_SCHEMA).await.unwrap();
        let store = Arc::new(SqliteStore::open(settings, &SQLITE_SCHEMA).await.unwrap());
        Self { store, place: Place::Sqlite { file } }
    }

    /// A fresh store in memory, at time 1.
    pub async fn memory() -> Self {
        Self { store: Arc::new(MemoryStore::new("memory-trial", || 1)), place: Place::Memory }
    }

    /// A session of its own.
    pub async fn session(&self) -> Box<dyn Session> {
        self.store.session().await.unwrap()
    }

    /// The URL, of a PostgreSQL database.
    pub fn url(&self) -> &str {
        match &self.place {
            Place::Postgres { url, .. } => url,
            _ => panic!("this claim is about PostgreSQL"),
        }
    }

    /// Makes as if no message had been written for twenty seconds: PostgreSQL leaves the newest ones alone.
    pub async fn let_outbox_rest(&self) {
        if matches!(self.place, Place::Postgres { .. }) {
            let rest = "update seriatim.outbox set slot = mod(date_part('epoch', now())::bigint / 10 + 2, 4)";
            self.beside().await.execute(rest).await.unwrap();
        }
    }

    /// A connection beside the store's, to a PostgreSQL database.
    pub async fn beside(&self) -> PgConnection {
        PgConnection::connect(self.url()).await.unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        match &self.place {
            Place::Postgres { name, .. } => drop_postgres(name.clone()),
            Place::Sqlite { file } => {
                for end in ["", "-wal", "-shm"] {
                    let _ = std::fs::remove_file(format!("{}{end}", file.display()));
                }
            }
            Place::Memory => {}
        }
    }
}

/// Makes an empty database on the test server; says its name and URL.
pub async fn create_postgres() -> (String, String) {
    let name = format!("trial_{}", uuid::Uuid::new_v4().simple());
    let mut connection = PgConnection::connect(&server()).await.unwrap_or_else(|error| {
        panic!("no PostgreSQL at {} ({error}); start the test services with `dev/services up`", server())
    });
    // template0 is never connected to, so several tests can copy it at a time.
    let sql = format!("create database {name} template template0");
    connection.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
    let url = server();
    let (base, _) = url.rsplit_once('/').unwrap();
    (name.clone(), format!("{base}/{name}"))
}

fn server() -> String {
    std::env::var("SERIATIM_TEST_POSTGRES")
        .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:25432/postgres".to_owned())
}

fn drop_postgres(name: String) {
    // A runtime of its own: the test's may be ending.
    let dropping = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut connection = PgConnection::connect(&server()).await.unwrap();
            let sql = format!("drop database if exists {name} with (force)");
            connection.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
        });
    });
    // A database that cannot be dropped must not hide what the test has to say.
    let _ = dropping.join();
}

/// A lane of the trial topic.
pub fn lane(partition: i32) -> LaneId {
    LaneId { topic: "trials".to_owned(), partition }
}

/// Claims a lane for the test.
pub async fn claim(session: &mut dyn Session, lane: &LaneId) -> LaneRow {
    session.claim(lane, "token", "test", 0).await.unwrap().0
}

/// A commit that takes one record further and writes these rows.
pub fn batch(row: &LaneRow, writes: Vec<(&'static Table, Vec<Change>)>) -> LaneCommit {
    LaneCommit {
        lane: row.lane.clone(),
        expected: row.fence.clone(),
        next_offset: row.fence.next_offset + 1,
        incarnation: row.incarnation,
        last: row.last.clone(),
        relayed: Position { batch: row.fence.batch, index: 0 },
        writes: Arc::new(writes),
    }
}

/// The row as it is after that commit.
pub fn after(row: &LaneRow) -> LaneRow {
    let mut row = row.clone();
    row.relayed = Position { batch: row.fence.batch, index: 0 };
    row.fence.batch += 1;
    row.fence.next_offset += 1;
    row
}
