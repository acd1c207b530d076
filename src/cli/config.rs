//! `config show`: every setting in force and where it comes from.

use serde_json::Value as Json;
use seriatim::{
    config::{Config, Need},
    failure::Exit,
};

use super::{
    arguments::{Reading, Settings},
    print,
};

/// Prints the settings. Secrets were hidden when they were read, so nothing here could show one.
pub fn show(settings: &Settings, reading: Reading) -> anyhow::Result<Exit> {
    let config = Config::load(&settings.sources(), Need::Nothing)?;
    let rows: Vec<Vec<Json>> = config
        .show()
        .iter()
        .map(|setting| {
            vec![setting.key.as_str().into(), setting.value.as_str().into(), setting.origin.to_string().into()]
        })
        .collect();
    print::rows(reading.output, &["key", "value", "origin"], &rows)?;
    Ok(Exit::Done)
}
