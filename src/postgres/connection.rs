//! One connection, its settings, and every statement that goes over it.
//!
//! No transaction guard of the library is used: begin and commit are statements like any other, and a
//! connection on which anything failed is dropped by its session, never repaired.

use std::{future::Future, time::Duration};

use sqlx::{
    ConnectOptions, Executor, PgConnection, Row, SqlSafeStr,
    postgres::{PgArguments, PgRow},
};

use super::{Address, error, sql};
use crate::{core::table::Table, store::Error};

/// How many prepared statements a connection keeps: a few shapes of keys for each table, and one for each set of things
/// that batches do.
const PREPARED_STATEMENTS_MAX: usize = 512;
/// Silent seconds before the server's kernel asks whether the client is still there, and between its questions.
const KEEPALIVE_SECONDS: u64 = 5;
/// Questions without an answer before the server ends the connection.
const KEEPALIVE_COUNT: u64 = 3;
/// From here on the server bounds whole transactions.
const TRANSACTION_TIMEOUT_SINCE: u32 = 170_000;

/// The names of the log's files begin with its timeline, in hexadecimal digits. Every role may ask; a standby has none
/// of its own.
const TIMELINE: &str = "select case when pg_is_in_recovery() then 0 \
     else ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint end";

const BEGIN: &str = "begin isolation level read committed, read write";
const COMMIT: &str = "commit";
const ROLLBACK: &str = "rollback";

/// An open connection. Dropping it closes the socket, and the server rolls back what was open.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) connection: PgConnection,
    pub(super) sent: u64,
    /// The server's timeline; 0 for a server that was a standby then. Only a standby's changes while a connection lasts.
    pub(super) timeline: i64,
    /// Whether rows came for which their table has no range.
    pub(super) lacks_room: bool,
    reply_timeout: Duration,
}

impl Open {
    /// Connects with the bounds of a worker.
    pub(super) async fn new(address: &Address) -> Result<Self, Error> {
        Self::with(address, address.settings.statement_timeout, address.settings.reply_timeout).await
    }

    /// Connects with the bounds of a migration.
    pub(super) async fn for_migration(address: &Address) -> Result<Self, Error> {
        let bound = address.settings.migration_statement_timeout;
        Self::with(address, bound, bound.saturating_add(address.settings.reply_timeout)).await
    }

    async fn with(address: &Address, statement_timeout: Duration, reply_timeout: Duration) -> Result<Self, Error> {
        let settings = &address.settings;
        let milliseconds = |bound: Duration| bound.as_millis().to_string();
        let options = address
            .options
            .clone()
            .application_name(&settings.application_name)
            .statement_cache_capacity(PREPARED_STATEMENTS_MAX)
            .options([
                ("statement_timeout", milliseconds(statement_timeout)),
                ("lock_timeout", milliseconds(settings.lock_timeout)),
                ("idle_in_transaction_session_timeout", milliseconds(settings.idle_in_transaction_timeout)),
                ("tcp_user_timeout", milliseconds(settings.tcp_user_timeout)),
                ("tcp_keepalives_idle", KEEPALIVE_SECONDS.to_string()),
                ("tcp_keepalives_interval", KEEPALIVE_SECONDS.to_string()),
                ("tcp_keepalives_count", KEEPALIVE_COUNT.to_string()),
            ])
            .options(PINNED);
        // Nothing is lost when connecting is given up: no statement of ours has been sent.
        let connection = tokio::time::timeout(settings.connect_timeout, options.connect())
            .await
            .map_err(|_| Error::Retry("connecting to the database took too long".to_owned()))?
            .map_err(|error| error::while_connecting(&error))?;
        let mut open = Self { connection, sent: 0, timeline: 0, lacks_room: false, reply_timeout };
        if open.connection.server_version_num().is_some_and(|version| version >= TRANSACTION_TIMEOUT_SINCE) {
            let mut arguments = Arguments::default();
            arguments.add(milliseconds(settings.transaction_timeout))?;
            let sql = "select set_config('transaction_timeout', $1, false)";
            open.rows("setting the transaction timeout", &[], sql, arguments).await?;
        }
        let rows = open.rows("reading the timeline", &[], TIMELINE, Arguments::default()).await?;
        open.timeline = rows.first().map_or(Ok(0), |row| cell(row, 0))?;
        Ok(open)
    }

    /// Begins a transaction. Its end is [`Open::commit`], or the drop of the connection.
    pub(super) async fn begin(&mut self) -> Result<(), Error> {
        self.control(BEGIN).await?.map_err(|error| error::of(&error, "beginning a transaction", &[]))
    }

    /// Gives a transaction up without an error: nothing failed in it, so the connection stays good.
    pub(super) async fn rollback(&mut self) -> Result<(), Error> {
        self.control(ROLLBACK).await?.map_err(|error| error::of(&error, "rolling back", &[]))
    }

    /// Sends COMMIT. An aborted transaction never comes here: any error before has dropped the connection, so
    /// an answer without an error is that of a commit.
    pub(super) async fn commit(&mut self) -> Result<(), Error> {
        match self.control(COMMIT).await {
            Ok(answer) => answer.map_err(|error| error::of_commit(&error)),
            Err(silence) => Err(Error::Unknown(silence.to_string())),
        }
    }

    /// Runs a prepared statement and takes all its rows.
    pub(super) async fn rows(
        &mut self,
        doing: &str,
        tables: &[&'static Table],
        sql: impl SqlSafeStr,
        arguments: Arguments,
    ) -> Result<Vec<PgRow>, Error> {
        self.sent += 1;
        let query = sqlx::query_with(sql, arguments.0);
        let answer = bounded(self.reply_timeout, query.fetch_all(&mut self.connection)).await?;
        answer.map_err(|error| self.failed(&error, doing, tables))
    }

    /// Runs a prepared statement and says how many rows it changed.
    pub(super) async fn change(
        &mut self,
        doing: &str,
        tables: &[&'static Table],
        sql: impl SqlSafeStr,
        arguments: Arguments,
    ) -> Result<u64, Error> {
        self.sent += 1;
        let query = sqlx::query_with(sql, arguments.0);
        let answer = bounded(self.reply_timeout, query.execute(&mut self.connection)).await?;
        answer.map(|done| done.rows_affected()).map_err(|error| self.failed(&error, doing, tables))
    }

    fn failed(&mut self, error: &sqlx::Error, doing: &str, tables: &[&'static Table]) -> Error {
        self.lacks_room |= error::lacks_room(error);
        error::of(error, doing, tables)
    }

    /// Runs statements that take no arguments, and change what tables there are.
    pub(super) async fn run(&mut self, doing: &str, sql: String) -> Result<(), Error> {
        self.sent += 1;
        let answer = bounded(self.reply_timeout, self.connection.execute(sql::vouch(sql))).await?;
        answer.map(drop).map_err(|error| error::of(&error, doing, &[]))
    }

    async fn control(&mut self, sql: &'static str) -> Result<Result<(), sqlx::Error>, Error> {
        self.sent += 1;
        let answer = bounded(self.reply_timeout, self.connection.execute(sql)).await?;
        Ok(answer.map(drop))
    }
}

/// What every session has, whatever the server's configuration says. Each statement of ours finds its rows
/// by key, so the plans that read whole tables are taken away: a table that was empty when a plan was made
/// and is large now must not be scanned. With one plan left there is nothing to plan again each time.
const PINNED: [(&str, &str); 10] = [
    ("search_path", "pg_catalog"),
    ("synchronous_commit", "on"),
    ("default_transaction_isolation", "read committed"),
    ("timezone", "UTC"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    ("jit", "off"),
];

/// Waits for an answer, within the last resort's bound. That the future is dropped when the bound is passed
/// does no harm here, because the caller's error makes the session drop the whole connection.
async fn bounded<T>(bound: Duration, answer: impl Future<Output = T>) -> Result<T, Error> {
    tokio::time::timeout(bound, answer)
        .await
        .map_err(|_| Error::Retry(format!("the database has not answered within {} s", bound.as_secs())))
}

/// The arguments of one statement.
#[derive(Debug, Default)]
pub(super) struct Arguments(PgArguments);

impl Arguments {
    /// With room for so much, so that large ones are not moved as they grow.
    pub(super) fn with_capacity(bytes: usize) -> Self {
        let mut arguments = Self::default();
        sqlx::Arguments::reserve(&mut arguments.0, 0, bytes);
        arguments
    }

    /// Adds one argument.
    pub(super) fn add<'t, T>(&mut self, value: T) -> Result<(), Error>
    where
        T: sqlx::Encode<'t, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        sqlx::Arguments::add(&mut self.0, value)
            .map_err(|error| Error::Rejected(format!("a value cannot be sent to the database: {error}")))
    }
}

/// Reads one column by its place in the statement.
pub(super) fn cell<'r, T>(row: &'r PgRow, place: usize) -> Result<T, Error>
where
    T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    row.try_get(place).map_err(|error| Error::Stop(format!("reading a column of the database: {error}")))
}
