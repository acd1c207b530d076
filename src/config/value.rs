//! Values as people write them: durations with a unit, sizes with a suffix, secrets that do not show.

use std::{fmt, time::Duration};

use serde_json::Value as Json;

/// A value that must not appear in logs, errors or `config show`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Secret(String);

impl Secret {
    /// What is shown in a secret's place.
    pub const HIDDEN: &'static str = "(hidden)";

    /// Hides a value.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The value itself, for the one call that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::HIDDEN)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::HIDDEN)
    }
}

/// A number, a yes or a text as the text that an environment variable would hold.
pub(super) fn text(value: &Json) -> Result<String, String> {
    match value {
        Json::String(text) => Ok(text.trim().to_owned()),
        Json::Number(number) => Ok(number.to_string()),
        Json::Bool(yes) => Ok(yes.to_string()),
        Json::Null | Json::Array(_) | Json::Object(_) => Err("needs one value, not a list or a section".to_owned()),
    }
}

/// `15s`, `2m`, `1h 30m`. A bare number is refused: nobody remembers whether it was seconds.
pub(super) fn duration(value: &Json) -> Result<Duration, String> {
    let text = text(value)?;
    humantime::parse_duration(&text).map_err(|_| format!("`{text}` is not a duration; write it like 15s, 2m or 1h 30m"))
}

/// A whole number.
pub(super) fn count(value: &Json) -> Result<u64, String> {
    let text = text(value)?;
    text.parse().map_err(|_| format!("`{text}` is not a whole number"))
}

/// The suffixes of a size, the larger ones first: the first that divides a size is the one it is shown in.
const SUFFIXES: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// `4MiB`, `500kB`, or a bare number of bytes.
pub(super) fn bytes(value: &Json) -> Result<u64, String> {
    let text = text(value)?;
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, suffix) = text.split_at(digits);
    let suffix = suffix.trim_start();
    let unit = if suffix.is_empty() {
        Some(1)
    } else {
        SUFFIXES.iter().find(|(name, _)| name.eq_ignore_ascii_case(suffix)).map(|(_, unit)| *unit)
    };
    unit.and_then(|unit| number.parse::<u64>().ok()?.checked_mul(unit))
        .ok_or_else(|| format!("`{text}` is not a size; write it like 4MiB, 500kB or as a number of bytes"))
}

/// The units that a duration is shown in, in nanoseconds. Days are the longest: a month is no fixed length.
const UNITS: [(&str, u128); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// A duration as it could be written in the file.
pub(super) fn show_duration(duration: Duration) -> String {
    let mut left = duration.as_nanos();
    let mut parts = Vec::new();
    for (unit, length) in UNITS {
        if left >= length {
            parts.push(format!("{}{unit}", left / length));
            left %= length;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// A size as it could be written in the file.
pub(super) fn show_bytes(bytes: u64) -> String {
    let fitting = SUFFIXES.iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    fitting.map_or_else(|| format!("{bytes}B"), |(name, unit)| format!("{}{name}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration(&json!("15s")), Ok(Duration::from_secs(15)));
        assert_eq!(duration(&json!("1h 30m")), Ok(Duration::from_secs(5400)));
        assert!(duration(&json!(15)).unwrap_err().contains("15s"));
        assert!(duration(&json!("soon")).is_err());
        assert!(duration(&json!("99999999999999999999s")).is_err());
    }

    #[test]
    fn durations_read_back_as_they_are_shown() {
        for nanoseconds in [0, 1, 2_000_000, 5_400_000_000_000, 90 * 86_400_000_000_000, 86_461_001_002_003] {
            let original = Duration::from_nanos(nanoseconds);
            assert_eq!(duration(&json!(show_duration(original))), Ok(original));
        }
        assert_eq!(show_duration(Duration::from_secs(90 * 86_400)), "90d");
        assert_eq!(show_duration(Duration::from_secs(5_400)), "1h 30m");
    }

    #[test]
    fn sizes_read_back_as_they_are_shown() {
        for size in [1, 999, 1_000, 1_024, 4 << 20, 1_000_000, 3 << 30, 1_048_577] {
            assert_eq!(bytes(&json!(show_bytes(size))), Ok(size));
        }
        assert_eq!(bytes(&json!(4096)), Ok(4096));
        assert_eq!(bytes(&json!("4 mib")), Ok(4 << 20));
        for wrong in ["MiB", "-1", "4 lots", "1.5MiB", "99999999999999GiB", ""] {
            assert!(bytes(&json!(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_secret_shows_in_no_format() {
        let secret = Secret::new("canary".to_owned());
        assert!(!format!("{secret} {secret:?} {:#?}", Some(&secret)).contains("canary"));
        assert_eq!(secret.expose(), "canary");
    }
}
