//! The file's tables: brought up to date, compared with what this binary knows, or printed.
//!
//! The runtime's scripts and the user's share one register, `seriatim_migration`. The views are derived
//! from the declared kinds and made anew at the end of each run.

use sqlx::{
    ConnectOptions, Executor, SqliteConnection,
    migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator},
};

use super::{Settings, error, sql};
use crate::{
    core::table::Table,
    store::{
        Error,
        schema::{Schema, Script, Status},
    },
};

const REGISTER: &str = "seriatim_migration";

macro_rules! script {
    ($version:literal, $name:literal, $file:literal) => {
        Script { version: $version, name: $name, sql: include_str!(concat!("../../migrations/sqlite/", $file)) }
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

/// Makes the file if there is none, runs what is pending and makes the views. Harmless when nothing is.
///
/// # Errors
/// [`Error::Stop`] if the database is ahead, or a script was changed after it was run.
pub async fn up(settings: &Settings, schema: &Schema) -> Result<Status, Error> {
    up_on(&mut connect(settings, true).await?, schema).await
}

/// Compares the file with this binary. A file that does not exist has everything pending.
///
/// # Errors
/// [`Error::Stop`] if a script was changed after it was run.
pub async fn status(settings: &Settings, schema: &Schema) -> Result<Status, Error> {
    if !settings.options()?.get_filename().exists() {
        let pending = migrator(schema).iter().map(|script| script.version).collect();
        return Ok(Status { pending, ..Status::default() });
    }
    status_on(&mut connect(settings, false).await?, schema).await
}

/// All statements, in order, for those who run them by other means.
pub fn sql(schema: &Schema) -> String {
    let mut text = String::new();
    for migration in migrator(schema).iter() {
        text.push_str(&format!("-- {:04} {}\n{}\n", migration.version, migration.description, migration.sql.as_str()));
    }
    for view in views(schema) {
        text.push_str(&format!("{view}\n\n"));
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
                "select '{kind}' as kind, e.\"{}\" as entity_id, e.\"version\", e.\"partition\" from \"{}_{}\" e",
                table.columns[0].name, table.schema, table.name
            )
        })
        .collect();
    let quarantined = "select q.\"kind\", q.\"entity_id\", null as \"version\", q.\"partition\", q.\"status\" \
         from \"seriatim_quarantine\" q";
    let head = "drop view if exists \"seriatim_entity\"; create view \"seriatim_entity\" as";
    if known.is_empty() {
        return format!("{head} {quarantined};");
    }
    let known = known.join(" union all ");
    format!(
        "{head} with known as ({known}) \
         select k.kind, k.entity_id, k.\"version\", k.\"partition\", coalesce(q.\"status\", 'active') as \"status\" \
         from known k left join \"seriatim_quarantine\" q on q.\"kind\" = k.kind and q.\"entity_id\" = k.entity_id \
         union all {quarantined} where not exists \
         (select 1 from known k where k.kind = q.\"kind\" and k.entity_id = q.\"entity_id\");"
    )
}

/// What is still to be undone, in sagas and outside of them.
const LEDGER_VIEW: &str = "drop view if exists \"seriatim_ledger\"; create view \"seriatim_ledger\" as \
     select d.\"kind\", d.\"entity_id\", d.\"what\", d.\"status\", d.\"amount_minor\", d.\"currency\", d.\"since\" \
     from \"seriatim_debt\" d union all \
     select s.\"definition\", s.\"saga_id\", 'saga', s.\"status\", null, null, s.\"updated_at\" \
     from \"seriatim_saga\" s where s.\"status\" in ('compensating', 'needs_operator');";

fn views(schema: &Schema) -> [String; 2] {
    [entity_view(schema.kinds), LEDGER_VIEW.to_owned()]
}

/// Brings a database up to date over a connection that is open already.
pub(super) async fn up_on(connection: &mut SqliteConnection, schema: &Schema) -> Result<Status, Error> {
    migrator(schema).run(&mut *connection).await.map_err(|error| refusal(&error))?;
    // One transaction, so that nobody ever finds a view missing.
    let views = format!("begin immediate; {} commit;", views(schema).join(" "));
    let made = connection.execute(sql::vouch(views)).await;
    made.map_err(|error| error::of(&error, "making the views", None))?;
    status_on(connection, schema).await
}

async fn status_on(connection: &mut SqliteConnection, schema: &Schema) -> Result<Status, Error> {
    let register = sqlx::query("select 1 from sqlite_schema where type = 'table' and name = ?1").bind(REGISTER);
    let register = register.fetch_optional(&mut *connection).await;
    let run = match register.map_err(|error| error::of(&error, "looking for the migrations", None))? {
        Some(_) => connection.list_applied_migrations(REGISTER).await.map_err(|error| refusal(&error))?,
        None => Vec::new(),
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

async fn connect(settings: &Settings, create: bool) -> Result<SqliteConnection, Error> {
    let options = settings.options()?.create_if_missing(create);
    options.connect().await.map_err(|error| error::of(&error, "opening the database's file", None))
}

fn migrator(schema: &Schema) -> Migrator {
    let migration = |script: &Script| {
        let statements = sqlx::SqlSafeStr::into_sql_str(script.sql);
        Migration::new(script.version, script.name.into(), MigrationType::Simple, statements, false)
    };
    let mut migrator = Migrator::with_migrations(SCRIPTS.iter().chain(schema.scripts).map(migration).collect());
    migrator.dangerous_set_table_name(REGISTER);
    migrator
}

fn refusal(error: &MigrateError) -> Error {
    match error {
        MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _) => {
            match error::of(cause, "migrating the database", None) {
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
