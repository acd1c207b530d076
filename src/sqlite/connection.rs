//! The connection, and every statement that goes over it.

use sqlx::{
    ConnectOptions, Connection, Executor, Row, SqlSafeStr, SqliteConnection,
    sqlite::{SqliteArguments, SqliteConnectOptions, SqliteRow},
};

use super::error;
use crate::{core::table::Table, store::Error};

/// Takes the right to write at once: a transaction that begins by reading could find itself refused later.
const BEGIN: &str = "begin immediate";
const COMMIT: &str = "commit";
const ROLLBACK: &str = "rollback";

/// An open connection.
#[derive(Debug)]
pub(super) struct Open {
    connection: SqliteConnection,
    /// Statements sent so far.
    pub(super) sent: u64,
    in_transaction: bool,
}

impl Open {
    pub(super) async fn new(options: &SqliteConnectOptions) -> Result<Self, Error> {
        let connection =
            options.connect().await.map_err(|error| error::of(&error, "opening the database's file", None))?;
        Ok(Self { connection, sent: 0, in_transaction: false })
    }

    /// Begins a transaction.
    pub(super) async fn begin(&mut self) -> Result<(), Error> {
        self.sent += 1;
        let begun = self.connection.execute(BEGIN).await;
        begun.map_err(|error| error::of(&error, "beginning a transaction", None))?;
        self.in_transaction = true;
        Ok(())
    }

    /// Ends a transaction. A refusal, of a foreign key for instance, leaves it open, to be rolled back.
    pub(super) async fn commit(&mut self) -> Result<(), Error> {
        self.sent += 1;
        self.connection.execute(COMMIT).await.map_err(|error| error::of_commit(&error))?;
        self.in_transaction = false;
        Ok(())
    }

    /// Gives a transaction up.
    pub(super) async fn rollback(&mut self) -> Result<(), Error> {
        self.sent += 1;
        let done = self.connection.execute(ROLLBACK).await;
        done.map_err(|error| error::of(&error, "rolling back", None))?;
        self.in_transaction = false;
        Ok(())
    }

    /// The connection again after a call that failed, if it can be used on.
    pub(super) async fn mended(mut self) -> Option<Self> {
        if self.in_transaction && self.rollback().await.is_err() {
            // Waits until the file is let go: the next connection must not meet the old one's lock.
            let _ = self.connection.close().await;
            return None;
        }
        Some(self)
    }

    /// Runs a prepared statement and takes all its rows.
    pub(super) async fn rows(
        &mut self,
        doing: &str,
        table: Option<&'static Table>,
        sql: impl SqlSafeStr,
        arguments: Arguments,
    ) -> Result<Vec<SqliteRow>, Error> {
        self.sent += 1;
        let answer = sqlx::query_with(sql, arguments.0).fetch_all(&mut self.connection).await;
        answer.map_err(|error| error::of(&error, doing, table))
    }

    /// Runs a prepared statement and says how many rows it changed.
    pub(super) async fn change(
        &mut self,
        doing: &str,
        table: Option<&'static Table>,
        sql: impl SqlSafeStr,
        arguments: Arguments,
    ) -> Result<u64, Error> {
        self.sent += 1;
        let answer = sqlx::query_with(sql, arguments.0).execute(&mut self.connection).await;
        answer.map(|done| done.rows_affected()).map_err(|error| error::of(&error, doing, table))
    }
}

/// The arguments of one statement.
#[derive(Debug, Default)]
pub(super) struct Arguments(SqliteArguments);

impl Arguments {
    /// Adds one argument.
    pub(super) fn add<'t, T>(&mut self, value: T) -> Result<(), Error>
    where
        T: sqlx::Encode<'t, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
    {
        sqlx::Arguments::add(&mut self.0, value)
            .map_err(|error| Error::Rejected(format!("a value cannot be sent to the database: {error}")))
    }
}

/// Reads one column by its place in the statement.
pub(super) fn cell<'r, T>(row: &'r SqliteRow, place: usize) -> Result<T, Error>
where
    T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    row.try_get(place).map_err(|error| Error::Stop(format!("reading a column of the database: {error}")))
}
