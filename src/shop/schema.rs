//! The shop's own tables: what `seriatim migrate` runs behind the runtime's scripts.

use std::sync::LazyLock;

use super::Settings;
use crate::{
    config::Backend,
    core::table::Table,
    store::schema::{Schema, Script},
};

const POSTGRES: &[Script] =
    &[Script { version: 1001, name: "shop", sql: include_str!("../../migrations/shop/postgres/1001_shop.sql") }];
const SQLITE: &[Script] =
    &[Script { version: 1001, name: "shop", sql: include_str!("../../migrations/shop/sqlite/1001_shop.sql") }];

static KINDS: LazyLock<Vec<(&'static str, &'static Table)>> =
    LazyLock::new(|| super::catalog(&Settings::default(), "").kinds().collect());

/// What the shop's database holds.
#[must_use]
pub fn schema(backend: Backend) -> Schema {
    let scripts = match backend {
        Backend::Postgres => POSTGRES,
        Backend::Sqlite => SQLITE,
    };
    Schema { scripts, kinds: &KINDS }
}
