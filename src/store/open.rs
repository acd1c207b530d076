//! Opens the store that the configuration names.

use std::sync::Arc;

use super::{
    Error, Store,
    schema::{Schema, Status},
};
use crate::{
    config::{Backend, Database},
    postgres::{self, PostgresStore},
    sqlite::{self, SqliteStore},
};

/// Opens the store, if its database holds exactly the migrations that this binary knows.
///
/// # Errors
/// [`Error::Stop`] says what to do when the database is behind or ahead.
pub async fn open(database: &Database, schema: &Schema) -> Result<Arc<dyn Store>, Error> {
    Ok(match database.backend {
        Backend::Postgres => Arc::new(PostgresStore::open(postgres_settings(database), schema).await?),
        Backend::Sqlite => Arc::new(SqliteStore::open(sqlite_settings(database), schema).await?),
    })
}

/// Brings the database to this binary's migrations; what was pending is applied.
///
/// # Errors
/// If the database does not answer, is ahead, or refuses a script.
pub async fn migrate(database: &Database, schema: &Schema) -> Result<Status, Error> {
    match database.backend {
        Backend::Postgres => postgres::migrate::up(&postgres_settings(database), schema).await,
        Backend::Sqlite => sqlite::migrate::up(&sqlite_settings(database), schema).await,
    }
}

/// How the database stands to this binary's migrations.
///
/// # Errors
/// If the database does not answer.
pub async fn status(database: &Database, schema: &Schema) -> Result<Status, Error> {
    match database.backend {
        Backend::Postgres => postgres::migrate::status(&postgres_settings(database), schema).await,
        Backend::Sqlite => sqlite::migrate::status(&sqlite_settings(database), schema).await,
    }
}

/// All SQL of the migrations and views, for those who apply it by hand.
#[must_use]
pub fn sql(database: &Database, schema: &Schema) -> String {
    match database.backend {
        Backend::Postgres => postgres::migrate::sql(schema),
        Backend::Sqlite => sqlite::migrate::sql(schema),
    }
}

fn postgres_settings(database: &Database) -> postgres::Settings {
    postgres::Settings {
        connect_timeout: database.connect_timeout,
        statement_timeout: database.statement_timeout,
        lock_timeout: database.lock_timeout,
        idle_in_transaction_timeout: database.idle_in_transaction_timeout,
        ..postgres::Settings::new(database.url.expose())
    }
}

fn sqlite_settings(database: &Database) -> sqlite::Settings {
    sqlite::Settings { busy_timeout: database.lock_timeout, ..sqlite::Settings::new(database.url.expose()) }
}
