//! The sections of the process itself: `http`, `shutdown`, `log`.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value as Json;
use tracing_subscriber::EnvFilter;

use super::{reader::Reader, value};

/// Health and metrics.
#[derive(Clone, Debug)]
pub struct Http {
    /// Address to listen on; `none` turns the server off. Default `127.0.0.1:9464`: it shows nothing secret, yet nobody
    /// else need see it unless told so.
    pub listen: Option<SocketAddr>,
}

impl Http {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let default = Some(SocketAddr::from(([127, 0, 0, 1], 9464)));
        let show =
            |listen: &Option<SocketAddr>| listen.map_or_else(|| "none".to_owned(), |address| address.to_string());
        Self { listen: reader.area("http").read("listen", default, listen, show) }
    }
}

fn listen(value: &Json) -> Result<Option<SocketAddr>, String> {
    let text = value::text(value)?;
    if text == "none" {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| format!("`{text}` is not an address; write it like 0.0.0.0:9464, or none"))
}

/// The way out.
#[derive(Clone, Debug)]
pub struct Shutdown {
    /// How long after SIGTERM the process ends at the latest, whatever still hangs. Default 20 s, below the 30 s after
    /// which Kubernetes kills.
    pub deadline: Duration,
}

impl Shutdown {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let allowed = Duration::from_secs(1)..=Duration::from_secs(600);
        Self { deadline: reader.area("shutdown").duration("deadline", Duration::from_secs(20), allowed) }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// The log, on standard error.
#[derive(Clone, Debug)]
pub struct Log {
    /// `text` or `json`. Default `text`.
    pub format: LogFormat,
    /// What is logged: a level, or a list like `info,seriatim::kafka=debug`. Default `info`.
    pub level: String,
}

impl Log {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let mut area = reader.area("log");
        Self {
            format: area.choice("format", &[("text", LogFormat::Text), ("json", LogFormat::Json)]),
            level: area.read("level", "info".to_owned(), level, Clone::clone),
        }
    }
}

fn level(value: &Json) -> Result<String, String> {
    let text = value::text(value)?;
    let word = |text: &str| text.chars().all(|c| c.is_ascii_alphabetic());
    let level = |text: &str| ["off", "error", "warn", "info", "debug", "trace"].contains(&text);
    // The filter takes any single word for the name of a module, so that a misspelt level would silence everything.
    let misspelt = text.split(',').any(|part| word(part) && !level(&part.to_ascii_lowercase()));
    if text.is_empty() || misspelt || EnvFilter::builder().parse(&text).is_err() {
        return Err(format!(
            "`{text}` is not a filter; write error, warn, info, debug, trace, off, or a list like \
             info,seriatim::kafka=debug"
        ));
    }
    Ok(text)
}
