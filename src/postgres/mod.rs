//! The store for production.
//!
//! A session owns one connection, outside of any pool, and hands it to each call by value: a call that
//! fails, or is dropped half-way, takes the connection with it, so no open transaction can be found by
//! the next call. Waiting is bounded by the server's own timeouts, set when the connection is made.

mod claim;
mod commit;
mod connection;
mod error;
mod forget;
mod load;
pub mod migrate;
mod register;
mod replicated;
mod session;
mod sql;
mod trim;
mod turn;

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use async_trait::async_trait;
use sqlx::postgres::PgConnectOptions;

use self::connection::Open;
use crate::store::{Error, Session, Store, schema::Schema};

/// Where the database is, and how long anything may take there.
#[derive(Clone)]
pub struct Settings {
    /// `postgres://user:password@host:port/database?sslmode=verify-full`.
    pub url: String,
    /// Shown in `pg_stat_activity`.
    pub application_name: String,
    /// Making a connection, TLS and login included.
    pub connect_timeout: Duration,
    /// One statement. A batch is written by a few statements of milliseconds each; one that takes this long
    /// will not get better.
    pub statement_timeout: Duration,
    /// Waiting for a row's lock: how long a claim waits for a transaction of the old owner. Above
    /// `idle_in_transaction_timeout`, so that a claim outlives a frozen owner's transaction.
    pub lock_timeout: Duration,
    /// A transaction that sends nothing. The server ends it, so a frozen owner cannot hold a lane for ever.
    pub idle_in_transaction_timeout: Duration,
    /// A whole transaction, where the server knows such a bound (PostgreSQL 17 and later).
    pub transaction_timeout: Duration,
    /// How long the server waits for a silent client's network before it ends its connection.
    pub tcp_user_timeout: Duration,
    /// How long we wait for any answer before the connection is given up for dead. The last resort, for a
    /// network that swallows packets: above `statement_timeout`, which ends what the server still works on.
    pub reply_timeout: Duration,
    /// One statement of a migration, which may build an index.
    pub migration_statement_timeout: Duration,
}

impl Settings {
    /// Settings with the default bounds.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            application_name: "seriatim".to_owned(),
            connect_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(15),
            idle_in_transaction_timeout: Duration::from_secs(10),
            transaction_timeout: Duration::from_secs(60),
            tcp_user_timeout: Duration::from_secs(10),
            reply_timeout: Duration::from_secs(45),
            migration_statement_timeout: Duration::from_secs(15 * 60),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.debug_struct("Settings").field("application_name", &self.application_name).finish_non_exhaustive()
    }
}

/// What sessions need to make their connections.
#[derive(Debug)]
struct Address {
    settings: Settings,
    options: PgConnectOptions,
}

impl Address {
    fn new(settings: Settings) -> Result<Arc<Self>, Error> {
        // The library's error may repeat the URL, password included.
        let options = PgConnectOptions::from_str(&settings.url)
            .map_err(|_| Error::Stop("the database URL cannot be read".to_owned()))?;
        Ok(Arc::new(Self { settings, options }))
    }
}

/// Makes sessions on one PostgreSQL database.
#[derive(Clone, Debug)]
pub struct PostgresStore {
    address: Arc<Address>,
}

impl PostgresStore {
    /// Opens the store, if the database holds exactly the migrations that this binary knows.
    ///
    /// # Errors
    /// [`Error::Stop`] says what to do when the database is behind or ahead.
    pub async fn open(settings: Settings, schema: &Schema) -> Result<Self, Error> {
        let address = Address::new(settings)?;
        let mut open = Open::new(&address).await?;
        match migrate::status_on(&mut open, schema).await?.refusal() {
            Some(refusal) => Err(Error::Stop(refusal)),
            None => Ok(Self { address }),
        }
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn session(&self) -> Result<Box<dyn Session>, Error> {
        Ok(Box::new(session::PostgresSession::new(Arc::clone(&self.address)).await?))
    }
}
