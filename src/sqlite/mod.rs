//! The embedded default: one file, one process.
//!
//! All sessions of the process share one connection and take turns, a call at a time: SQLite lets one
//! transaction write anyway, and so nobody ever waits for a lock of ours. A call takes the connection out
//! of its place and puts it back whole; a call that is dropped half-way takes it along.

mod claim;
mod commit;
mod connection;
mod error;
mod load;
pub mod migrate;
mod register;
mod session;
mod sql;
pub mod textbook;
mod trim;

use std::{str::FromStr, sync::Arc, time::Duration};

use async_trait::async_trait;
use sqlx::{
    ConnectOptions, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::sync::Mutex;

use self::connection::Open;
use crate::store::{Error, Session, Store, schema::Schema};

/// How many prepared statements the connection keeps: four verbs for each table and a few shapes of keys.
const PREPARED_STATEMENTS_MAX: usize = 512;

/// Where the file is, and how long anything may wait for it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `sqlite:path/to/file.db`.
    pub url: String,
    /// How long to wait for another process that holds the file, such as an operator's command.
    pub busy_timeout: Duration,
}

impl Settings {
    /// Settings with the default bounds.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), busy_timeout: Duration::from_secs(15) }
    }

    fn options(&self) -> Result<SqliteConnectOptions, Error> {
        let options = SqliteConnectOptions::from_str(&self.url)
            .map_err(|error| Error::Stop(format!("the database URL {} cannot be read: {error}", self.url)))?;
        Ok(options
            .journal_mode(SqliteJournalMode::Wal)
            // In WAL mode anything less than FULL may lose the last commits when the power goes.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(self.busy_timeout)
            .statement_cache_capacity(PREPARED_STATEMENTS_MAX))
    }
}

/// The one connection and the means to make it again.
#[derive(Debug)]
struct Shared {
    options: SqliteConnectOptions,
    place: Mutex<Option<Open>>,
    /// A database in memory lives as long as a connection to it does.
    _anchor: Option<Mutex<SqliteConnection>>,
}

/// Makes sessions on one SQLite database. Clones share its connection.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    shared: Arc<Shared>,
}

impl SqliteStore {
    /// Opens the store, if the file holds exactly the migrations that this binary knows.
    ///
    /// # Errors
    /// [`Error::Stop`] says what to do when the file is absent, behind or ahead.
    pub async fn open(settings: Settings, schema: &Schema) -> Result<Self, Error> {
        let status = migrate::status(&settings, schema).await?;
        match status.refusal() {
            Some(refusal) => Err(Error::Stop(refusal)),
            None => {
                let (options, place) = (settings.options()?, Mutex::new(None));
                Ok(Self { shared: Arc::new(Shared { options, place, _anchor: None }) })
            }
        }
    }

    /// A store of its own in memory, migrated; gone with its last session.
    pub async fn in_memory(schema: &Schema) -> Result<Self, Error> {
        let options = Settings::new("sqlite::memory:").options()?;
        let mut anchor = options.connect().await.map_err(|error| error::of(&error, "making a database", None))?;
        migrate::up_on(&mut anchor, schema).await?;
        let shared = Shared { options, place: Mutex::new(None), _anchor: Some(Mutex::new(anchor)) };
        Ok(Self { shared: Arc::new(shared) })
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn session(&self) -> Result<Box<dyn Session>, Error> {
        Ok(Box::new(session::SqliteSession::new(Arc::clone(&self.shared))))
    }
}
