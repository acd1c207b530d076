//! What a database must hold before a worker may use it, told as data.
//!
//! The user of the library hands over scripts and main tables; the stores run the scripts behind the
//! runtime's own and derive the views from the tables. Nobody but the stores names the SQL library.

use crate::core::table::Table;

/// One numbered script. Once released it never changes: the stores keep its digest and refuse another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Script {
    /// Its place in the order. Below 1000 are the runtime's; a user's begin at 1001.
    pub version: i64,
    /// The word in the file's name.
    pub name: &'static str,
    /// The statements. In PostgreSQL each name carries its schema: no search path is set.
    pub sql: &'static str,
}

/// All that a worker's database holds besides the runtime's own tables.
#[derive(Clone, Copy, Debug, Default)]
pub struct Schema {
    /// The user's scripts, in the store's own dialect.
    pub scripts: &'static [Script],
    /// The kinds by name, each with its main table, whose first column is the entity's id and which has
    /// the columns `version` and `partition`.
    pub kinds: &'static [(&'static str, &'static Table)],
}

/// How a database stands to a binary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Versions that were run and that the binary knows.
    pub applied: Vec<i64>,
    /// Versions that are still to be run.
    pub pending: Vec<i64>,
    /// Versions that were run by a newer release and that the binary does not know.
    pub ahead: Vec<i64>,
}

impl Status {
    /// Says why a store must not be opened on this database, and what to do; `None` if it may.
    pub fn refusal(&self) -> Option<String> {
        if !self.ahead.is_empty() {
            let versions = &self.ahead;
            return Some(format!(
                "the database is ahead of this release: it holds migrations {versions:?}; start a newer release"
            ));
        }
        let versions = &self.pending;
        (!versions.is_empty())
            .then(|| format!("the database is behind: migrations {versions:?} are missing; run `seriatim migrate up`"))
    }
}
