//! `migrate`: brings the database to this release, tells how it stands, or prints the SQL.

use seriatim::{
    config::{Config, Need},
    failure::{Exit, unreachable},
    shop::schema,
    store::open,
};

use super::{
    arguments::{Migrate, Settings},
    print,
};

/// Runs `migrate up`, `status` or `sql`.
pub fn run(settings: &Settings, action: &Migrate) -> anyhow::Result<Exit> {
    let config = Config::load(&settings.sources(), Need::Nothing)?;
    let schema = schema::schema(config.database.backend);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match action {
        Migrate::Up { dry_run: false } => {
            let before = runtime.block_on(open::status(&config.database, &schema)).map_err(unreachable)?;
            runtime.block_on(open::migrate(&config.database, &schema)).map_err(unreachable)?;
            println!("applied: {}", list(&before.pending));
            Ok(Exit::Done)
        }
        Migrate::Up { dry_run: true } => {
            let status = runtime.block_on(open::status(&config.database, &schema)).map_err(unreachable)?;
            println!("would apply: {}", list(&status.pending));
            Ok(Exit::Done)
        }
        Migrate::Status(reading) => {
            let status = runtime.block_on(open::status(&config.database, &schema)).map_err(unreachable)?;
            let named = |versions: &[i64], state: &str| -> Vec<Vec<serde_json::Value>> {
                versions.iter().map(|version| vec![(*version).into(), state.into()]).collect()
            };
            let mut rows = named(&status.applied, "applied");
            rows.extend(named(&status.pending, "pending"));
            rows.extend(named(&status.ahead, "ahead"));
            print::rows(reading.output, &["version", "state"], &rows)?;
            Ok(if status.refusal().is_none() { Exit::Done } else { Exit::Failed })
        }
        Migrate::Sql => {
            print!("{}", open::sql(&config.database, &schema));
            Ok(Exit::Done)
        }
    }
}

fn list(versions: &[i64]) -> String {
    if versions.is_empty() {
        return "nothing".to_owned();
    }
    versions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
