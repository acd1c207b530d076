//! The section `topics`: what the brokers call them.

use serde_json::Value as Json;

use super::{reader::Reader, value};

/// The topics' names.
#[derive(Clone, Debug)]
pub struct Topics {
    /// Stands before the name of every topic; a dead-letter topic is `dlq.` and then that. Default: nothing. Lets several
    /// worlds share a cluster.
    pub prefix: String,
}

impl Topics {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let mut area = reader.area("topics");
        Self { prefix: area.read("prefix", String::new(), prefix, Clone::clone) }
    }
}

fn prefix(value: &Json) -> Result<String, String> {
    let text = value::text(value)?;
    let sound = text.len() <= 100 && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if sound { Ok(text) } else { Err("must be at most 100 letters, digits, dots, dashes or underscores".to_owned()) }
}
