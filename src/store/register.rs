//! What the SQL stores read of their registers: the store's id, and the topics' partition counts.

use std::collections::BTreeMap;

use super::Error;

/// The store's id, if its one row was found.
pub(crate) fn identity(found: Option<Result<String, Error>>) -> Result<String, Error> {
    let missing = || Err(Error::Stop("the database holds no store identity; run `seriatim migrate up`".to_owned()));
    found.unwrap_or_else(missing)
}

/// Topics with their counts, as they stand in the rows.
pub(crate) fn counts(rows: impl Iterator<Item = Result<(String, i64), Error>>) -> Result<BTreeMap<String, i32>, Error> {
    let read = |row: Result<(String, i64), Error>| {
        let (topic, count) = row?;
        let count = i32::try_from(count);
        Ok((topic, count.map_err(|_| Error::Stop("a partition count is out of range".to_owned()))?))
    };
    rows.map(read).collect()
}
