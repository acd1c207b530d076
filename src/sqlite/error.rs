//! What an error of SQLite means for us, decided by its result code.

use crate::{
    core::table::Table,
    store::{Error, merge},
};

/// The extended code of a primary key that exists.
const CONSTRAINT_PRIMARY_KEY: i64 = 1555;

/// An error before COMMIT: nothing was written.
pub(super) fn of(error: &sqlx::Error, doing: &str, table: Option<&'static Table>) -> Error {
    let said = format!("{doing}: {error}");
    let Some(code) = code(error) else {
        return match error {
            sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } | sqlx::Error::Configuration(_) => {
                Error::Stop(said)
            }
            _ => Error::Retry(said),
        };
    };
    match (code, table) {
        (CONSTRAINT_PRIMARY_KEY, Some(table)) => {
            Error::Stop(format!("{said}: a row of {} that should be new exists", merge::name(table)))
        }
        // The low byte is the class.
        _ => match code & 0xff {
            // Busy, locked, out of memory, interrupted, an error of the disk, a full disk, the file or its
            // lock cannot be had.
            5 | 6 | 7 | 9 | 10 | 13 | 14 | 15 => Error::Retry(said),
            // Too big, a constraint, a type.
            18..=20 => Error::Rejected(said),
            _ => Error::Stop(said),
        },
    }
}

/// An error in answer to COMMIT. A constraint refused it and a busy file put it off; after anything else only
/// the rows can tell what became of it.
pub(super) fn of_commit(error: &sqlx::Error) -> Error {
    match code(error).map(|code| code & 0xff) {
        Some(5 | 6 | 19) => of(error, "committing", None),
        _ => Error::Unknown(format!("committing: {error}")),
    }
}

fn code(error: &sqlx::Error) -> Option<i64> {
    error.as_database_error()?.code()?.parse().ok()
}
