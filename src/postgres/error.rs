//! What an error of the database means for us.
//!
//! Decided by SQLSTATE class. The database's message is passed on, never its detail, which holds values.

use sqlx::postgres::{PgDatabaseError, PgSeverity};

use crate::{
    core::table::Table,
    store::{Error, merge},
};

/// While connecting nothing can have been written; what will not heal by itself ends the process.
pub(super) fn while_connecting(error: &sqlx::Error) -> Error {
    let said = format!("connecting to the database: {error}");
    match error {
        sqlx::Error::Configuration(_) => Error::Stop(said),
        // A login that is refused, or a database that does not exist.
        sqlx::Error::Database(refused) if code(refused.as_ref()).starts_with("28") => Error::Stop(said),
        sqlx::Error::Database(refused) if code(refused.as_ref()) == "3D000" => Error::Stop(said),
        _ => Error::Retry(said),
    }
}

/// An error of a statement before COMMIT was sent: whatever it is, nothing was written. `tables`: those that it writes
/// or reads, besides the runtime's own.
pub(super) fn of(error: &sqlx::Error, doing: &str, tables: &[&'static Table]) -> Error {
    let said = format!("{doing}: {error}");
    let sqlx::Error::Database(database) = error else {
        return match error {
            sqlx::Error::Encode(_) => Error::Rejected(said),
            sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) => {
                Error::Stop(said)
            }
            _ => Error::Retry(said),
        };
    };
    let code = code(database.as_ref());
    let primary_key = || {
        database.constraint().and_then(|name| {
            tables.iter().filter(|table| is_primary_key(name, table)).max_by_key(|table| table.name.len())
        })
    };
    match (code.as_str(), primary_key()) {
        // A row that a lane holds to be new exists: a broken fence or a bug. By PostgreSQL's own naming a
        // primary key's constraint is called after its table, or after the range of it.
        ("23505", Some(table)) => {
            Error::Stop(format!("{said}: a row of {} that should be new exists", merge::name(table)))
        }
        // The rows have no range to go to; one is made before the next attempt.
        _ if lacks_room(error) => Error::Retry(said),
        // A plan that the connection keeps was made for other columns; a new connection makes a new one.
        ("0A000", _) => Error::Retry(said),
        _ => match code.get(..2).unwrap_or_default() {
            // Values, integrity, and limits of the program: these rows will never be taken. P0 is what a
            // user's own trigger raises.
            "22" | "23" | "54" | "P0" => Error::Rejected(said),
            // Connection, transaction state (a standby is read-only), rollback, resources, locks, the
            // operator, the system around the server.
            "08" | "25" | "40" | "53" | "55" | "57" | "58" => Error::Retry(said),
            _ => Error::Stop(said),
        },
    }
}

/// Whether there is no range of the table that would take a row: the one broken check that has no name.
pub(super) fn lacks_room(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|refused| code(refused) == "23514" && refused.constraint().is_none())
}

fn is_primary_key(constraint: &str, table: &Table) -> bool {
    constraint.strip_prefix(table.name).is_some_and(|rest| rest.ends_with("_pkey"))
}

/// An error in answer to COMMIT. `ERROR` says that the transaction was aborted. Anything graver ended the
/// connection, and that can happen after the commit was made durable: then only the rows can tell.
pub(super) fn of_commit(error: &sqlx::Error) -> Error {
    let doing = "committing";
    let aborted = match error {
        sqlx::Error::Database(database) => database
            .try_downcast_ref::<PgDatabaseError>()
            .is_some_and(|database| matches!(database.severity(), PgSeverity::Error)),
        _ => false,
    };
    if aborted { of(error, doing, &[]) } else { Error::Unknown(format!("{doing}: {error}")) }
}

fn code(error: &dyn sqlx::error::DatabaseError) -> String {
    error.code().unwrap_or_default().into_owned()
}
