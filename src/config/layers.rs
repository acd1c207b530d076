//! Gathers what file, environment and flags say into one flat map of dotted keys; the later layer wins key by key.
//!
//! A variable is configuration if its name has two underscores in a row after the prefix: `SERIATIM_KAFKA__BROKERS` is
//! `kafka.brokers`. Orchestrators put variables of their own beside ours (`SERIATIM_SERVICE_HOST`), so a name without
//! them is only a problem if it would be a known key with them.
//!
//! Properties of the Kafka client have dots in their names, which a variable cannot. Two ways lead there:
//! `SERIATIM_KAFKA__PROPERTIES` holds a list `a.b=c;d.e=f`, and below it `SERIATIM_KAFKA__PROPERTIES__SASL_MECHANISM` is
//! `sasl.mechanism`, each underscore a dot (for values that hold a semicolon). The single one wins over the list.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs::File,
    io::Read,
    path::Path,
};

use serde_json::Value as Json;

use super::{
    Origin, Problem, Sources,
    kafka::{PROPERTIES, SECRET_PROPERTIES},
};

/// What every variable of ours begins with.
const PREFIX: &str = "SERIATIM_";
/// No configuration is longer; what is, is the wrong file.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The same for the configuration itself. Its parser takes time with the square of how deep brackets are nested, and a
/// hundred times their memory; a configuration with every setting is a few KiB.
const YAML_BYTES_MAX: usize = 64 << 10;

/// A value and who said it.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub value: Json,
    pub origin: Origin,
}

/// What was said, unchecked.
#[derive(Debug, Default)]
pub(super) struct Layers {
    pub entries: BTreeMap<String, Given>,
    pub problems: Vec<Problem>,
    /// Variables with our prefix and no section: name and the key each would be with one more underscore.
    pub nearly: Vec<(String, String)>,
}

impl Layers {
    /// Reads all three, the weakest first.
    pub fn gather(sources: &Sources, environment: impl Iterator<Item = (OsString, OsString)>) -> Self {
        let mut layers = Self::default();
        if let Some(path) = &sources.file {
            layers.file(path);
        }
        // Sorted, so that a single property comes after the list of them whatever the order of the process's variables.
        let mut ours: Vec<_> =
            environment.filter(|(name, _)| name.as_encoded_bytes().starts_with(PREFIX.as_bytes())).collect();
        ours.sort();
        for (name, value) in &ours {
            layers.variable(&name.to_string_lossy(), value);
        }
        for assignment in &sources.set {
            layers.flag(assignment);
        }
        layers
    }

    fn file(&mut self, path: &Path) {
        let origin = Origin::File(path.to_owned());
        let tree = match read_bounded(path).and_then(|text| parse(&text)) {
            Ok(tree) => tree,
            Err(says) => return self.problem("--config", origin, says),
        };
        match tree {
            Json::Object(_) => self.flatten(String::new(), tree, &origin),
            Json::Null => {}
            _ => self.problem("--config", origin, "the file must hold sections with keys".to_owned()),
        }
    }

    fn flatten(&mut self, key: String, value: Json, origin: &Origin) {
        match value {
            Json::Object(map) => {
                for (name, value) in map {
                    let below = if key.is_empty() { name } else { format!("{key}.{name}") };
                    self.flatten(below, value, origin);
                }
            }
            // `key:` with nothing behind it is what a template leaves of an unset value.
            Json::Null => {}
            value => {
                if self.entries.contains_key(&key) {
                    self.problem(&key, origin.clone(), "is given twice in the file".to_owned());
                }
                self.put(key, value, origin.clone());
            }
        }
    }

    fn variable(&mut self, name: &str, value: &OsStr) {
        let rest = &name[PREFIX.len()..];
        let origin = Origin::Environment(name.to_owned());
        let Some((section, key)) = rest.split_once("__") else {
            if let Some((section, key)) = rest.split_once('_') {
                self.nearly.push((name.to_owned(), format!("{section}.{key}").to_ascii_lowercase()));
            }
            return;
        };
        let key = format!("{section}.{}", key.replace("__", ".")).to_ascii_lowercase();
        let key = match key.strip_prefix(PROPERTIES).and_then(|below| below.strip_prefix('.')) {
            Some(property) => format!("{PROPERTIES}.{}", property_name(property)),
            None => key,
        };
        match value.to_str() {
            Some(value) => self.put(key, Json::String(value.to_owned()), origin),
            None => self.problem(&key, origin, "is not valid UTF-8".to_owned()),
        }
    }

    fn flag(&mut self, assignment: &str) {
        match assignment.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                self.put(key.trim().to_owned(), Json::String(value.to_owned()), Origin::Flag("--set"));
            }
            // The text is not repeated: what has lost its key may be a password.
            _ => self.problem("--set", Origin::Flag("--set"), "must look like section.key=value".to_owned()),
        }
    }

    fn put(&mut self, key: String, value: Json, origin: Origin) {
        let list = if key == PROPERTIES { value.as_str().map(str::to_owned) } else { None };
        let Some(list) = list else {
            self.entries.insert(key, Given { value, origin });
            return;
        };
        for part in list.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some((name, value)) => {
                    let value = Json::String(value.trim().to_owned());
                    let key = format!("{PROPERTIES}.{}", name.trim());
                    self.entries.insert(key, Given { value, origin: origin.clone() });
                }
                None => self.problem(&key, origin.clone(), "must look like a.b=c;d.e=f".to_owned()),
            }
        }
    }

    fn problem(&mut self, key: &str, origin: Origin, says: String) {
        self.problems.push(Problem { key: key.to_owned(), origin, says });
    }
}

/// `sasl_mechanism` is `sasl.mechanism`; `sasl_password_file` names the file that holds `sasl.password`.
fn property_name(variable: &str) -> String {
    let dotted = variable.replace('_', ".");
    match dotted.strip_suffix(".file") {
        Some(secret) if SECRET_PROPERTIES.contains(&secret) => format!("{secret}_file"),
        _ => dotted,
    }
}

/// The text of a file that is not absurdly long.
pub(super) fn read_bounded(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| format!("cannot open {}: {error}", path.display()))?;
    file.take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("{} is longer than {FILE_BYTES_MAX} bytes", path.display()));
    }
    Ok(text)
}

/// Only the place of an error is told: the library's message may quote the line, and the line may hold a secret. Through
/// the library's own tree, which refuses a key that stands twice where the other would keep the last in silence.
fn parse(text: &str) -> Result<Json, String> {
    let told = |error: serde_yaml_ng::Error| match error.location() {
        Some(place) => format!("is not valid YAML near line {}, column {}", place.line(), place.column()),
        None => "is not valid YAML, or has a key twice".to_owned(),
    };
    if text.len() > YAML_BYTES_MAX {
        return Err(format!("is longer than {YAML_BYTES_MAX} bytes"));
    }
    let tree: serde_yaml_ng::Value = serde_yaml_ng::from_str(text).map_err(told)?;
    serde_json::to_value(tree).map_err(|_| "has a key that is not a text".to_owned())
}
