//! Tables of a textbook consumer, in a file of their own: rows are read, and rows are written back.
//!
//! What a first version of such a consumer has: no version column, no lock, no transaction around the two, so the last
//! write wins. The demo runs it beside the worker to show what that costs; nothing else may use it.

use std::path::{Path, PathBuf};

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

use super::connection::{Arguments, Open, cell};
use crate::store::Error;

const TABLES: [&str; 4] = [
    "create table stock (sku text primary key, on_hand integer not null) strict",
    "create table sale (purchase_id text primary key, sku text not null) strict",
    "create table profile (user_id text primary key, email text, password_hash text) strict",
    "create table counter (counter text primary key, value integer not null) strict",
];

/// What a profile holds: address and password hash.
pub type Profile = (Option<String>, Option<String>);

/// The file. Each task of the consumer opens a [`Clerk`] on it.
#[derive(Clone, Debug)]
pub struct Textbook {
    path: PathBuf,
}

/// One connection; every call is a statement that commits by itself.
#[derive(Debug)]
pub struct Clerk {
    open: Open,
}

impl Textbook {
    /// Makes the file with its tables.
    ///
    /// # Errors
    /// If the file or a table cannot be made.
    pub async fn create(path: &Path) -> Result<Self, Error> {
        let textbook = Self { path: path.to_owned() };
        let mut clerk = textbook.clerk().await?;
        for table in TABLES {
            clerk.open.change("making the textbook's tables", None, table, Arguments::default()).await?;
        }
        Ok(textbook)
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub async fn clerk(&self) -> Result<Clerk, Error> {
        let options = SqliteConnectOptions::new().filename(&self.path).create_if_missing(true);
        // What the demo shows is lost between the statements, not by the disk, and nobody keeps this file.
        let options = options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Off);
        Ok(Clerk { open: Open::new(&options).await? })
    }
}

#[allow(missing_docs, reason = "each reads or writes what its name says")]
#[allow(clippy::missing_errors_doc, reason = "each fails only if the file does")]
impl Clerk {
    pub async fn on_hand(&mut self, sku: &str) -> Result<i64, Error> {
        let rows = self.read("select on_hand from stock where sku = ?1", sku).await?;
        rows.first().map_or(Ok(0), |row| cell(row, 0))
    }

    pub async fn set_on_hand(&mut self, sku: &str, on_hand: i64) -> Result<(), Error> {
        self.write("insert or replace into stock values (?1, ?2)", sku, on_hand).await
    }

    pub async fn sell(&mut self, purchase_id: &str, sku: &str) -> Result<(), Error> {
        self.write("insert or replace into sale values (?1, ?2)", purchase_id, sku).await
    }

    pub async fn sold(&mut self, sku: &str) -> Result<i64, Error> {
        let rows = self.read("select count(*) from sale where sku = ?1", sku).await?;
        rows.first().map_or(Ok(0), |row| cell(row, 0))
    }

    pub async fn profile(&mut self, user_id: &str) -> Result<Profile, Error> {
        let rows = self.read("select email, password_hash from profile where user_id = ?1", user_id).await?;
        rows.first().map_or(Ok((None, None)), |row| Ok((cell(row, 0)?, cell(row, 1)?)))
    }

    pub async fn set_profile(&mut self, user_id: &str, (email, password_hash): Profile) -> Result<(), Error> {
        let mut arguments = Arguments::default();
        arguments.add(user_id)?;
        arguments.add(email)?;
        arguments.add(password_hash)?;
        let sql = "insert or replace into profile values (?1, ?2, ?3)";
        self.open.change("writing a textbook row", None, sql, arguments).await.map(drop)
    }

    pub async fn counter(&mut self, counter: &str) -> Result<i64, Error> {
        let rows = self.read("select value from counter where counter = ?1", counter).await?;
        rows.first().map_or(Ok(0), |row| cell(row, 0))
    }

    pub async fn set_counter(&mut self, counter: &str, value: i64) -> Result<(), Error> {
        self.write("insert or replace into counter values (?1, ?2)", counter, value).await
    }

    async fn read(&mut self, sql: &'static str, key: &str) -> Result<Vec<sqlx::sqlite::SqliteRow>, Error> {
        let mut arguments = Arguments::default();
        arguments.add(key)?;
        self.open.rows("reading a textbook row", None, sql, arguments).await
    }

    async fn write<'t, T>(&mut self, sql: &'static str, key: &str, value: T) -> Result<(), Error>
    where
        T: sqlx::Encode<'t, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
    {
        let mut arguments = Arguments::default();
        arguments.add(key)?;
        arguments.add(value)?;
        self.open.change("writing a textbook row", None, sql, arguments).await.map(drop)
    }
}
