//! One at a time looks after a database's ranges and slots; the others leave it to that one.

use super::connection::{Arguments, Open, cell};
use crate::store::Error;

/// Held as long as its connection lives, or until it is given back. The number means nothing but this.
const TAKE: &str = "select pg_try_advisory_lock(7340031572106)";
const END: &str = "select pg_advisory_unlock(7340031572106)";

/// Whether this session has the turn now.
pub(super) async fn take(open: &mut Open) -> Result<bool, Error> {
    let rows = open.rows("taking a turn of upkeep", &[], TAKE, Arguments::default()).await?;
    rows.first().map_or(Ok(false), |row| cell(row, 0))
}

/// Gives it back. An error before it ends the connection, and the turn with it.
pub(super) async fn end(open: &mut Open) -> Result<(), Error> {
    open.rows("ending a turn of upkeep", &[], END, Arguments::default()).await.map(drop)
}
