//! The database's tables: brought up to date, compared with what this binary knows, or printed.
//!
//! The runtime's scripts and the user's share one register, `seriatim.migration`. The views are derived
//! from the declared kinds and made anew at the end of each run.

use sqlx::{
    Executor,
    migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator},
};

use super::{
    Address, Settings,
    connection::{Arguments, Open},
    error, sql,
};
use crate::{
    core::table::Table,
    store::{
        Error,
        schema::{Schema, Script, Status},
    },
};

const REGISTER: &str = "seriatim.migration";

macro_rules! script {
    ($version:literal, $name:literal, $file:literal) => {
        Script { version: $version, name: $name, sql: include_str!(concat!("../../migrations/postgres/", $file)) }
    };
}

/// The runtime's own scripts.
pub static SCRIPTS: &[Script] = &[
    script!(1, "lane", "0001_lane.sql"),
    script!(2, "inbox", "0002_inbox.sql"),
    script!(3, "outbox", "0003_outbox.sql"),
    script!(4, "saga", "0004_saga.sql"),
    script!(5, "command", "0005_command.sql"),
    script!(6, "retention", "0006_retention.sql"),
    script!(7, "link", "0007_link.sql"),
    script!(8, "outbox_slots", "0008_outbox_slots.sql"),
];

/// Held while the views are made. The number means nothing but this.
const VIEWS_LOCK: &str = "select pg_advisory_xact_lock(7340031572105)";

/// Runs what is pending and makes the views. Harmless when nothing is; two at a time wait for each other.
///
/// # Errors
/// [`Error::Stop`] if the database is ahead, or a script was changed after it was run.
pub async fn up(settings: &Settings, schema: &Schema) -> Result<Status, Error> {
    let mut open = Open::for_migration(&*Address::new(settings.clone())?).await?;
    migrator(schema).run(&mut open.connection).await.map_err(|error| refusal(&error))?;
    // The scripts' own lock is gone by now, and two that make the same view at once disturb each other. All in one
    // simple query is one transaction, at whose end this lock goes.
    let views = [VIEWS_LOCK.to_owned(), entity_view(schema.kinds), LEDGER_VIEW.to_owned()].join(";\n");
    let made = open.connection.execute(sql::vouch(views)).await;
    made.map_err(|error| error::of(&error, "making the views", &[]))?;
    status_on(&mut open, schema).await
}

/// Compares the database with this binary.
///
/// # Errors
/// [`Error::Stop`] if a script was changed after it was run.
pub async fn status(settings: &Settings, schema: &Schema) -> Result<Status, Error> {
    status_on(&mut Open::new(&*Address::new(settings.clone())?).await?, schema).await
}

/// All statements, in order, for those who run them by other means.
pub fn sql(schema: &Schema) -> String {
    let mut text = "create schema if not exists seriatim;\n".to_owned();
    for migration in migrator(schema).iter() {
        text.push_str(&format!("\n-- {:04} {}\n{}", migration.version, migration.description, migration.sql.as_str()));
    }
    for view in [entity_view(schema.kinds), LEDGER_VIEW.to_owned()] {
        text.push_str(&format!("\n{view};\n"));
    }
    text
}

/// The view that shows every entity: the main tables side by side, with what is unwell.
pub fn entity_view(kinds: &[(&'static str, &'static Table)]) -> String {
    let known: Vec<_> = kinds
        .iter()
        .map(|(kind, table)| {
            let kind = kind.replace('\'', "''");
            format!(
                "select '{kind}'::text collate \"C\" as kind, e.\"{}\" as entity_id, e.\"version\", e.\"partition\" \
                 from \"{}\".\"{}\" e",
                table.columns[0].name, table.schema, table.name
            )
        })
        .collect();
    let quarantined = "select q.\"kind\", q.\"entity_id\", null::bigint as \"version\", q.\"partition\", q.\"status\" \
         from \"seriatim\".\"quarantine\" q";
    let head = "create or replace view \"seriatim\".\"entity\" as";
    if known.is_empty() {
        return format!("{head} {quarantined}");
    }
    let known = known.join(" union all ");
    format!(
        "{head} with known as ({known}) \
         select k.kind, k.entity_id, k.\"version\", k.\"partition\", coalesce(q.\"status\", 'active') as \"status\" \
         from known k left join \"seriatim\".\"quarantine\" q on q.\"kind\" = k.kind and q.\"entity_id\" = k.entity_id \
         union all {quarantined} where not exists \
         (select 1 from known k where k.kind = q.\"kind\" and k.entity_id = q.\"entity_id\")"
    )
}

/// What is still to be undone, in sagas and outside of them.
const LEDGER_VIEW: &str = "create or replace view \"seriatim\".\"ledger\" as \
     select d.\"kind\", d.\"entity_id\", d.\"what\", d.\"status\", d.\"amount_minor\", d.\"currency\", d.\"since\" \
     from \"seriatim\".\"debt\" d union all \
     select s.\"definition\", s.\"saga_id\", 'saga'::text collate \"C\", s.\"status\", null::bigint, \
     null::text collate \"C\", s.\"updated_at\" \
     from \"seriatim\".\"saga\" s where s.\"status\" in ('compensating', 'needs_operator')";

/// Compares over a connection that is open already.
pub(super) async fn status_on(open: &mut Open, schema: &Schema) -> Result<Status, Error> {
    let sql = "select 1 where to_regclass('seriatim.migration') is not null";
    let exists = !open.rows("looking for the migrations", &[], sql, Arguments::default()).await?.is_empty();
    let run = match exists {
        true => open.connection.list_applied_migrations(REGISTER).await.map_err(|error| refusal(&error))?,
        false => Vec::new(),
    };
    let known = migrator(schema);
    let mut status = Status::default();
    for migration in &run {
        match known.iter().find(|script| script.version == migration.version) {
            Some(script) if script.checksum != migration.checksum => {
                return Err(refusal(&MigrateError::VersionMismatch(migration.version)));
            }
            Some(_) => status.applied.push(migration.version),
            None => status.ahead.push(migration.version),
        }
    }
    let pending = known.iter().map(|script| script.version).filter(|version| !status.applied.contains(version));
    status.pending = pending.collect();
    Ok(status)
}

fn migrator(schema: &Schema) -> Migrator {
    let migration = |script: &Script| {
        Migration::new(
            script.version,
            script.name.into(),
            MigrationType::Simple,
            sqlx::SqlSafeStr::into_sql_str(script.sql),
            false,
        )
    };
    let mut migrator = Migrator::with_migrations(SCRIPTS.iter().chain(schema.scripts).map(migration).collect());
    migrator.dangerous_set_table_name(REGISTER);
    migrator.create_schema("seriatim");
    migrator
}

fn refusal(error: &MigrateError) -> Error {
    match error {
        MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _) => {
            match error::of(cause, "migrating the database", &[]) {
                Error::Retry(_) => Error::Retry(error.to_string()),
                // A script that the database refuses is ours to mend, not a row's fault.
                _ => Error::Stop(error.to_string()),
            }
        }
        MigrateError::VersionMissing(version) => {
            Error::Stop(format!("the database is ahead: it holds migration {version}; use a newer release"))
        }
        _ => Error::Stop(format!("migrating the database: {error}")),
    }
}
