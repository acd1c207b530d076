//! The section `database`: which store, and how long the server may keep the worker waiting.

use std::time::Duration;

use url::Url;

use super::{reader::Reader, value::Secret};

/// Which store a URL names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// A PostgreSQL server.
    Postgres,
    /// A SQLite file.
    Sqlite,
}

/// The store.
#[derive(Clone, Debug)]
pub struct Database {
    /// `postgres://user@host/name?sslmode=verify-full` or `sqlite:path`. A secret: it may hold a password. Default
    /// `sqlite:seriatim.db`, which needs no server.
    pub url: Secret,
    /// Which store the URL names.
    pub backend: Backend,
    /// How long a claim waits for the old owner's transaction. Default 10 s; after it the claim is tried again.
    pub lock_timeout: Duration,
    /// After how long the server ends a statement. Default 30 s.
    pub statement_timeout: Duration,
    /// After how long the server ends a transaction whose owner has fallen silent, so that a frozen worker does not hold
    /// its lanes. Default 15 s.
    pub idle_in_transaction_timeout: Duration,
    /// Limit of opening a connection. Default 5 s.
    pub connect_timeout: Duration,
}

/// What the embedded store is called when nobody names one.
const DEFAULT_URL: &str = "sqlite:seriatim.db";

impl Database {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let mut area = reader.area("database");
        let (url, origin) = area.secret("url", DEFAULT_URL, shown_url);
        let backend = match backend(url.expose()) {
            Ok(backend) => backend,
            Err(says) => {
                area.problem("url", origin, says);
                Backend::Sqlite
            }
        };
        let allowed = Duration::from_millis(100)..=Duration::from_secs(600);
        let mut limit = |name, seconds| area.duration(name, Duration::from_secs(seconds), allowed.clone());
        Self {
            url,
            backend,
            lock_timeout: limit("lock_timeout", 10),
            statement_timeout: limit("statement_timeout", 30),
            idle_in_transaction_timeout: limit("idle_in_transaction_timeout", 15),
            connect_timeout: limit("connect_timeout", 5),
        }
    }
}

/// The message never repeats the URL: whatever is wrong with it, it may hold a password.
fn backend(url: &str) -> Result<Backend, String> {
    if url.strip_prefix("sqlite:").is_some_and(|path| !path.trim_start_matches('/').is_empty()) {
        return Ok(Backend::Sqlite);
    }
    let sound = Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "postgres" | "postgresql"));
    // Without a host the client would take one from the environment, past this check.
    if sound && host(url).is_some() {
        return Ok(Backend::Postgres);
    }
    Err("must be postgres://user@host/name?sslmode=verify-full or sqlite:path".to_owned())
}

/// The host that the client will connect to: a parameter of the query wins over the authority, the last over the others.
fn host(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let parameter = url.query_pairs().filter(|(name, _)| name == "host" || name == "hostaddr").last();
    let host = parameter.map_or_else(|| url.host_str().unwrap_or_default().to_owned(), |(_, host)| host.into_owned());
    if host.is_empty() { None } else { Some(host) }
}

/// Whether what goes over the wire to PostgreSQL can be read or forged by others. `None` if it cannot.
pub(super) fn exposed_host(database: &Database) -> Option<String> {
    if database.backend == Backend::Sqlite {
        return None;
    }
    let host = host(database.url.expose())?;
    // A path, plain or percent-encoded, is a socket of this machine.
    if host.starts_with('/') || host.to_ascii_lowercase().starts_with("%2f") || super::security::is_loopback(&host) {
        return None;
    }
    let url = Url::parse(database.url.expose()).ok()?;
    let mode = url.query_pairs().filter(|(name, _)| name == "sslmode" || name == "ssl-mode").last();
    let verified = mode.is_some_and(|(_, mode)| mode.eq_ignore_ascii_case("verify-full"));
    if verified { None } else { Some(host) }
}

/// Where the database is, without who connects and how it proves it.
fn shown_url(text: &str) -> String {
    if text.starts_with("sqlite:") {
        return text.to_owned();
    }
    let Ok(url) = Url::parse(text) else { return Secret::HIDDEN.to_owned() };
    let host = host(text).unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let mode = url.query_pairs().find(|(name, _)| name == "sslmode" || name == "ssl-mode");
    let mode = mode.map(|(_, mode)| format!("?sslmode={mode}")).unwrap_or_default();
    format!("{}://{}@{host}{port}{}{mode}", url.scheme(), Secret::HIDDEN, url.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(url: &str) -> Database {
        let url = Secret::new(url.to_owned());
        let backend = backend(url.expose()).unwrap();
        let second = Duration::from_secs(1);
        Database {
            url,
            backend,
            lock_timeout: second,
            statement_timeout: second,
            idle_in_transaction_timeout: second,
            connect_timeout: second,
        }
    }

    #[test]
    fn only_a_verified_connection_leaves_this_machine() {
        for exposed in [
            "postgres://u:p@db.example/x",
            "postgres://u:p@db.example/x?sslmode=require",
            "postgres://u:p@db.example/x?sslmode=verify-full&ssl-mode=disable",
            "postgres://127.0.0.1@db.example/x",
            "postgres://localhost/x?host=db.example",
            "postgres://localhost/x?hostaddr=10.0.0.7",
        ] {
            assert!(exposed_host(&database(exposed)).is_some(), "{exposed}");
        }
        for safe in [
            "postgres://u:p@db.example/x?sslmode=verify-full",
            "postgres://postgres@127.0.0.1:25432/postgres",
            "postgres://postgres@[::1]/postgres",
            "postgres://u@localhost/x",
            "postgres://%2Fvar%2Frun%2Fpostgresql/x",
            "postgres:///x?host=/var/run/postgresql",
            "sqlite:seriatim.db",
        ] {
            assert_eq!(exposed_host(&database(safe)), None, "{safe}");
        }
    }

    #[test]
    fn a_url_shows_where_and_never_who() {
        let shown = shown_url("postgres://canary-user:canary@db:5432/shop?sslmode=verify-full&password=canary");
        assert_eq!(shown, "postgres://(hidden)@db:5432/shop?sslmode=verify-full");
    }

    #[test]
    fn a_url_that_names_no_store_is_refused() {
        for wrong in ["", "sqlite:", "sqlite:///", "postgres://", "postgres:///name", "mysql://host/x", "seriatim.db"] {
            assert!(backend(wrong).is_err(), "{wrong}");
        }
    }
}
