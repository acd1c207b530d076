//! Configuration: a file, an environment and flags of any content end as a configuration or as a list of problems.

use std::{ffi::OsString, fs, os::unix::ffi::OsStringExt as _, path::PathBuf};

use seriatim::config::{Config, Need, Sources};

use crate::{MEMORY, dice::Dice, mutate};

const KEYS: &[&str] = &[
    "kafka.brokers",
    "kafka.group_id",
    "kafka.properties",
    "database.url",
    "database.url_file",
    "http.listen",
    "batch.wait",
    "batch.bytes_max",
    "saga.charge_deadline",
    "reorder.ahead_max",
    "dedupe.window",
    "log.level",
    "shutdown.deadline",
    "no.such_key",
    "kafka",
    "",
];
const VALUES: &[&str] = &[
    "15s",
    "1y",
    "99999999999999999999d",
    "-1",
    "4MiB",
    "18446744073709551616GiB",
    "1e400",
    "none",
    "127.0.0.1:99999",
    "postgres://u:p@h:1/d?sslmode=verify-full",
    "sqlite:",
    "a=b;c=d;=;;",
    "[1,2",
    "&a [*a]",
    "!!binary x",
    "'",
    "\u{feff}",
    "0x7fffffffffffffff",
];
/// Nobody's configuration needs more, whatever it refers to.
const BYTES_MAX: usize = 16 << 20;
/// A document that refers to itself over and over.
const LAUGHS: &str = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
     d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n\
     g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g,*g]\n";

fn setting(dice: &mut Dice) -> (String, Vec<u8>) {
    let mut value = dice.of_these(VALUES).as_bytes().to_vec();
    if dice.one_in(3) {
        mutate::bytes(dice, &mut value);
    }
    (dice.of_these(KEYS).to_owned(), value)
}

fn yaml(dice: &mut Dice) -> Vec<u8> {
    if dice.one_in(100) {
        return LAUGHS.as_bytes().to_vec();
    }
    let mut text = Vec::new();
    for _ in 0..dice.below(6) {
        let (key, value) = setting(dice);
        let (section, key) = key.split_once('.').unwrap_or((&key, "x"));
        text.extend(format!("{section}:\n  {key}: ").into_bytes());
        text.extend(value);
        text.push(b'\n');
    }
    if dice.one_in(3) {
        mutate::bytes(dice, &mut text);
    }
    text
}

/// Reads a configuration.
pub fn read(dice: &mut Dice) -> Result<(), String> {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("hostile-{}.yaml", std::process::id()));
    let text = yaml(dice);
    fs::write(&file, &text).map_err(|error| error.to_string())?;
    let set = (0..dice.below(3)).map(|_| {
        let (key, value) = setting(dice);
        format!("{key}={}", String::from_utf8_lossy(&value))
    });
    let sources =
        Sources { set: set.collect(), file: dice.one_in(2).then(|| file.clone()), insecure_dev: dice.one_in(2) };
    let environment: Vec<(OsString, OsString)> = (0..dice.below(4))
        .map(|_| {
            let (key, value) = setting(dice);
            let name = format!("SERIATIM_{}", key.replace('.', "__").to_uppercase());
            (name.into(), OsString::from_vec(value))
        })
        .collect();
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let read = Config::read(&sources, environment.clone().into_iter(), Need::Kafka);
    let taken = MEMORY.peak_usage().saturating_sub(before);
    fs::remove_file(&file).map_err(|error| error.to_string())?;
    let context = || format!("{sources:?} {environment:?} {:?}", String::from_utf8_lossy(&text));
    if taken > BYTES_MAX {
        return Err(format!("{taken} bytes of memory: {}", context()));
    }
    match read {
        Err(problems) if problems.0.is_empty() => Err(format!("no configuration and no problem: {}", context())),
        Err(_) | Ok(_) => Ok(()),
    }
}
