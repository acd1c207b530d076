//! Reads the fields of an event's data, strictly: what does not fit is named by its path, never by its value.

use serde_json::Value as Json;

use super::money;
use crate::core::kind::Invalid;

/// Longest id, in bytes of UTF-8.
const ID_BYTES_MAX: usize = 255;

/// An object and where it stands in the data.
pub(super) struct Fields<'a> {
    object: &'a Json,
    path: String,
}

impl<'a> Fields<'a> {
    pub(super) fn of(data: &'a Json) -> Self {
        Self { object: data, path: String::new() }
    }

    /// The field is at fault because of `problem`.
    pub(super) fn invalid(&self, name: &str, problem: &str) -> Invalid {
        Invalid::new(format!("{}{name}", self.path), problem)
    }

    fn field(&self, name: &str) -> Result<&'a Json, Invalid> {
        self.object.get(name).ok_or_else(|| self.invalid(name, "is missing"))
    }

    pub(super) fn text(&self, name: &str) -> Result<String, Invalid> {
        match self.field(name)?.as_str() {
            Some(text) => Ok(text.to_owned()),
            None => Err(self.invalid(name, "must be a string")),
        }
    }

    pub(super) fn id(&self, name: &str) -> Result<String, Invalid> {
        self.id_within(name, ID_BYTES_MAX)
    }

    pub(super) fn id_within(&self, name: &str, bytes_max: usize) -> Result<String, Invalid> {
        let id = self.text(name)?;
        if id.is_empty() {
            return Err(self.invalid(name, "must not be empty"));
        }
        if id.len() > bytes_max {
            return Err(self.invalid(name, &format!("must not be longer than {bytes_max} bytes")));
        }
        Ok(id)
    }

    pub(super) fn int(&self, name: &str) -> Result<i64, Invalid> {
        self.field(name)?.as_i64().ok_or_else(|| self.invalid(name, "must be an integer within int64"))
    }

    pub(super) fn int_from(&self, name: &str, least: i64) -> Result<i64, Invalid> {
        let number = self.int(name)?;
        if number < least { Err(self.invalid(name, &format!("must be at least {least}"))) } else { Ok(number) }
    }

    pub(super) fn currency(&self, name: &str) -> Result<String, Invalid> {
        let code = self.text(name)?;
        if money::is_currency(&code) {
            Ok(code)
        } else {
            Err(self.invalid(name, "must be an upper-case currency code of ISO 4217"))
        }
    }

    /// The objects of a list of `least` to `most`.
    pub(super) fn list(&self, name: &str, least: usize, most: usize) -> Result<Vec<Self>, Invalid> {
        let Some(list) = self.field(name)?.as_array() else {
            return Err(self.invalid(name, "must be a list"));
        };
        if list.len() < least || list.len() > most {
            return Err(self.invalid(name, &format!("must have {least} to {most} entries")));
        }
        let entry = |(at, object): (usize, &'a Json)| {
            if !object.is_object() {
                return Err(self.invalid(&format!("{name}[{at}]"), "must be an object"));
            }
            Ok(Self { object, path: format!("{}{name}[{at}].", self.path) })
        };
        list.iter().enumerate().map(entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Fields;

    #[test]
    fn integers_are_neither_floats_nor_strings_nor_wider_than_int64() {
        let data = json!({
            "whole": 7, "least": i64::MIN, "float": 7.0, "string": "7",
            "wide": 9_223_372_036_854_775_808_u64, "null": null
        });
        let fields = Fields::of(&data);
        assert_eq!(fields.int("whole"), Ok(7));
        assert_eq!(fields.int("least"), Ok(i64::MIN));
        for name in ["float", "string", "wide", "null"] {
            assert_eq!(fields.int(name).unwrap_err().field, name);
        }
        assert_eq!(fields.int("absent").unwrap_err().problem, "is missing");
    }

    #[test]
    fn an_id_is_measured_in_bytes() {
        let data = json!({"fits": "é".repeat(127), "long": "é".repeat(128), "empty": ""});
        let fields = Fields::of(&data);
        assert!(fields.id("fits").is_ok());
        assert!(fields.id("long").is_err());
        assert!(fields.id("empty").is_err());
    }

    #[test]
    fn an_error_names_the_path_and_keeps_the_value_to_itself() {
        let data = json!({"lines": [{"quantity": 1}, {"quantity": "secret"}]});
        let lines = Fields::of(&data).list("lines", 1, 2).unwrap_or_default();
        let error = lines[1].int("quantity").unwrap_err();
        assert_eq!(error.field, "lines[1].quantity");
        assert!(!error.problem.contains("secret"));
    }
}
