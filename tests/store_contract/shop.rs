//! Claims about the shipped worker's tables: the checks that are the database's own last word.

use sqlx::{AssertSqlSafe, Connection, Executor, SqliteConnection};

use crate::database::{Database, Place};

/// Rows that must be taken, table by table.
const TAKEN: &[&str] = &[
    "stock values ('s', 5, 5, 1, 0, '{}')",
    "stock values ('empty', 0, 0, 1, 0, '{}')",
    "reservation values ('s', 'p', 5, 'reserved')",
    "reservation values ('s', 'never', 0, 'released')",
    "reservation values ('s', 'done', 1, 'committed')",
    "purchase values ('p', 'c', 'pending', null, 0, 'EUR', 'card', 1, 0, '{}')",
    "purchase values ('q', 'c', 'completed', null, 9223372036854775807, 'EUR', 'card', 1, 0, '{}')",
    "purchase values ('r', 'c', 'rejected', 'out_of_stock', 1, 'EUR', 'card', 1, 0, '{}')",
    "purchase_line values ('p', 's', 1, 0)",
    "payment values ('m', 'p', 10, 10, 10, 'EUR', 'refunded', 'card', null, null, 0, 1, 0, '{}')",
    "payment values ('n', 'p', 10, 0, 0, 'EUR', 'requested', 'card', '{}', '{}', 3, 1, 0, '{}')",
    "profile values ('u', null, null, 1, 0, '{}')",
    "counter values ('k', -5, 1, 0, '{}')",
];

/// Rows that must be refused, each for one reason.
const REFUSED: &[&str] = &[
    "stock values ('t', 5, 6, 1, 0, '{}')",
    "stock values ('t', 5, -1, 1, 0, '{}')",
    "stock values ('t', -1, 0, 1, 0, '{}')",
    "stock values ('t', 5, 0, null, 0, '{}')",
    "stock values ('s', 5, 0, 1, 0, '{}')",
    "reservation values ('s', 'x', 1, 'lost')",
    "reservation values ('s', 'x', -1, 'reserved')",
    "reservation values ('nowhere', 'x', 1, 'reserved')",
    "purchase values ('x', 'c', 'lost', null, 0, 'EUR', 'card', 1, 0, '{}')",
    "purchase values ('x', 'c', 'rejected', 'whim', 0, 'EUR', 'card', 1, 0, '{}')",
    "purchase values ('x', 'c', 'pending', null, -1, 'EUR', 'card', 1, 0, '{}')",
    "purchase_line values ('p', 'x', 0, 0)",
    "purchase_line values ('p', 'x', 1, -1)",
    "purchase_line values ('nowhere', 'x', 1, 1)",
    "payment values ('x', 'p', 10, 11, 0, 'EUR', 'captured', 'card', null, null, 0, 1, 0, '{}')",
    "payment values ('x', 'p', 10, 5, 6, 'EUR', 'refunded', 'card', null, null, 0, 1, 0, '{}')",
    "payment values ('x', 'p', 10, 5, -1, 'EUR', 'refunded', 'card', null, null, 0, 1, 0, '{}')",
    "payment values ('x', 'p', 10, 0, 0, 'EUR', 'lost', 'card', null, null, 0, 1, 0, '{}')",
    "profile values (null, null, null, 1, 0, '{}')",
    "counter values ('k', 1, 1, 0, '{}')",
];

pub async fn the_shops_tables_take_what_they_should_and_nothing_else(database: Database) {
    for row in TAKEN {
        insert(&database, row).await.unwrap_or_else(|error| panic!("{row}: {error}"));
    }
    for row in REFUSED {
        let refused = insert(&database, row).await.expect_err(row);
        assert!(refused.as_database_error().is_some(), "{row}: {refused}");
    }
}

async fn insert(database: &Database, row: &str) -> Result<(), sqlx::Error> {
    match &database.place {
        Place::Sqlite { file } => {
            let mut connection = SqliteConnection::connect(&format!("sqlite:{}", file.display())).await?;
            connection.execute(AssertSqlSafe(format!("insert into shop_{row}"))).await.map(drop)
        }
        _ => database.beside().await.execute(AssertSqlSafe(format!("insert into shop.{row}"))).await.map(drop),
    }
}
