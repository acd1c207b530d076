//! Turns what was said into checked values, area by area, and remembers every problem and every setting on the way.
//!
//! A key is known because an area read it: there is no second list that could disagree. A value that is wrong is noted
//! and its default read in its place, so that the rest can still be checked.

use std::{collections::BTreeMap, ops::RangeInclusive, path::Path, time::Duration};

use serde_json::Value as Json;

use super::{
    Origin, Problem, Setting,
    layers::{Given, Layers, read_bounded},
    suggest, value,
    value::Secret,
};

/// What is left to read, and what was found.
#[derive(Debug)]
pub(super) struct Reader {
    entries: BTreeMap<String, Given>,
    nearly: Vec<(String, String)>,
    pub settings: Vec<Setting>,
    pub problems: Vec<Problem>,
}

impl Reader {
    pub fn new(layers: Layers) -> Self {
        let Layers { entries, problems, nearly } = layers;
        Self { entries, nearly, settings: Vec::new(), problems }
    }

    pub fn area(&mut self, name: &'static str) -> Area<'_> {
        Area { reader: self, name }
    }

    pub fn problem(&mut self, key: &str, origin: Origin, says: String) {
        self.problems.push(Problem { key: key.to_owned(), origin, says });
    }

    /// Where a key's value in force comes from.
    pub fn origin(&self, key: &str) -> Origin {
        self.settings.iter().find(|setting| setting.key == key).map_or(Origin::Default, |found| found.origin.clone())
    }

    /// Whether a key was read without a problem: only then does it make sense to compare it with others.
    pub fn is_sound(&self, key: &str) -> bool {
        self.problems.iter().all(|problem| problem.key != key)
    }

    /// What nobody has read is unknown. Called last.
    pub fn refuse_unread(&mut self) {
        let known: Vec<&str> = self.settings.iter().map(|setting| setting.key.as_str()).collect();
        let mut problems = Vec::new();
        for (key, given) in &self.entries {
            let section = format!("{key}.");
            let says = if known.iter().any(|known| known.starts_with(&section)) {
                "is a section: give its keys".to_owned()
            } else {
                match suggest::nearest(key, known.iter().copied()) {
                    Some(near) => format!("is not a known key; did you mean {near}?"),
                    None => "is not a known key".to_owned(),
                }
            };
            problems.push(Problem { key: key.clone(), origin: given.origin.clone(), says });
        }
        for (name, key) in &self.nearly {
            if known.contains(&key.as_str()) {
                let meant = format!("SERIATIM_{}", key.to_ascii_uppercase().replacen('.', "__", 1));
                let says = format!("is not read by this name; did you mean {meant}?");
                problems.push(Problem { key: key.clone(), origin: Origin::Environment(name.clone()), says });
            }
        }
        self.problems.extend(problems);
    }
}

/// One section while it is read.
#[derive(Debug)]
pub(super) struct Area<'a> {
    reader: &'a mut Reader,
    name: &'static str,
}

impl Area<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.name)
    }

    /// Any value: `parse` says what is allowed, `show` writes it as it could be written in the file.
    pub fn read<T>(
        &mut self,
        name: &str,
        default: T,
        parse: impl FnOnce(&Json) -> Result<T, String>,
        show: impl FnOnce(&T) -> String,
    ) -> T {
        let key = self.key(name);
        let (value, origin) = match self.reader.entries.remove(&key) {
            None => (default, Origin::Default),
            Some(given) => match parse(&given.value) {
                Ok(value) => (value, given.origin),
                Err(says) => {
                    self.reader.problem(&key, given.origin, says);
                    (default, Origin::Default)
                }
            },
        };
        self.reader.settings.push(Setting { key, value: show(&value), origin });
        value
    }

    pub fn duration(&mut self, name: &str, default: Duration, allowed: RangeInclusive<Duration>) -> Duration {
        let bounded = |value: &Json| bounded(value::duration(value)?, &allowed, |edge| value::show_duration(*edge));
        self.read(name, default, bounded, |value| value::show_duration(*value))
    }

    pub fn count(&mut self, name: &str, default: usize, allowed: RangeInclusive<usize>) -> usize {
        let whole = |value: &Json| {
            let number = value::count(value)?;
            bounded(usize::try_from(number).unwrap_or(usize::MAX), &allowed, ToString::to_string)
        };
        self.read(name, default, whole, ToString::to_string)
    }

    pub fn bytes(&mut self, name: &str, default: usize, allowed: RangeInclusive<usize>) -> usize {
        let size = |value: &Json| {
            let number = value::bytes(value)?;
            let number = usize::try_from(number).unwrap_or(usize::MAX);
            bounded(number, &allowed, |edge| value::show_bytes(*edge as u64))
        };
        self.read(name, default, size, |value| value::show_bytes(*value as u64))
    }

    /// One of a closed list of words; the first is the default.
    pub fn choice<T: Copy>(&mut self, name: &str, words: &[(&'static str, T)]) -> T {
        let list = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        let parse = |value: &Json| {
            let text = value::text(value)?;
            let position = words.iter().position(|(word, _)| *word == text);
            position.ok_or_else(|| format!("`{text}` is not one of: {}", list()))
        };
        words[self.read(name, 0, parse, |position| words[*position].0.to_owned())].1
    }

    /// A secret, said directly or as `<name>_file`, a path to a file that holds it; without either, the default. The
    /// stronger layer wins; both on one layer is a problem, because one of the two would be ignored in silence.
    pub fn secret(&mut self, name: &str, default: &str, shown: impl Fn(&str) -> String) -> (Secret, Origin) {
        let (key, file_key) = (self.key(name), self.key(&format!("{name}_file")));
        let direct = self.reader.entries.remove(&key);
        let path = self.reader.entries.remove(&file_key);
        if let (Some(direct), Some(path)) = (&direct, &path)
            && direct.origin.rank() == path.origin.rank()
        {
            let says = format!("is given beside {file_key}: give one of the two");
            self.reader.problem(&key, direct.origin.clone(), says);
        }
        let rank = |given: &Option<Given>| given.as_ref().map(|given| given.origin.rank());
        let by_path = rank(&path) > rank(&direct);
        let mut file = (String::new(), Origin::Default);
        let mut secret = (default.to_owned(), Origin::Default);
        let (asked, chosen) = if by_path { (&file_key, path) } else { (&key, direct) };
        if let Some(Given { value, origin }) = chosen {
            let read = value::text(&value).and_then(|text| {
                if !by_path {
                    return Ok(text);
                }
                file = (text.clone(), origin.clone());
                // An editor's newline at the end is not part of a password.
                read_bounded(Path::new(&text)).map(|content| content.trim_end_matches(['\r', '\n']).to_owned())
            });
            match read {
                Ok(value) if value.is_empty() => self.reader.problem(asked, origin, "is empty".to_owned()),
                Ok(value) => secret = (value, origin),
                Err(says) => self.reader.problem(asked, origin, says),
            }
        }
        let (value, origin) = secret;
        self.reader.settings.push(Setting { key, value: shown(&value), origin: origin.clone() });
        self.reader.settings.push(Setting { key: file_key, value: file.0, origin: file.1 });
        (Secret::new(value), origin)
    }

    /// The names that were given below `<area>.<name>.`; they stay unread.
    pub fn names_below(&self, name: &str) -> Vec<String> {
        let prefix = format!("{}.", self.key(name));
        self.reader.entries.keys().filter_map(|key| key.strip_prefix(&prefix)).map(str::to_owned).collect()
    }

    /// Notes a setting that no key of the map stands for.
    pub fn setting(&mut self, setting: Setting) {
        self.reader.settings.push(setting);
    }

    pub fn problem(&mut self, name: &str, origin: Origin, says: String) {
        let key = self.key(name);
        self.reader.problem(&key, origin, says);
    }
}

fn bounded<T: PartialOrd>(value: T, allowed: &RangeInclusive<T>, show: impl Fn(&T) -> String) -> Result<T, String> {
    if allowed.contains(&value) {
        return Ok(value);
    }
    let (from, to) = (show(allowed.start()), show(allowed.end()));
    Err(format!("{} is out of bounds; allowed are {from} to {to}", show(&value)))
}
