//! Refuses what would send secrets or money over a network in the clear, unless `--insecure-dev` says that it may.

use std::net::IpAddr;

use super::{Config, Origin, Problem, database, reader::Reader};

/// Whether a host is this machine, judged by its name alone: a name that is resolved could be answered by anybody.
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Every connection that is plain, or verifies nothing, and leaves this machine.
pub(super) fn check(config: &Config, reader: &Reader) -> Vec<Problem> {
    if config.insecure_dev {
        return Vec::new();
    }
    let mut problems = Vec::new();
    let mut refuse = |key: &str, origin: Origin, says: String| {
        let says = format!("{says}, or pass --insecure-dev");
        problems.push(Problem { key: key.to_owned(), origin, says });
    };
    let far = config.kafka.brokers.iter().find(|broker| {
        let host = broker.rsplit_once(':').map_or(broker.as_str(), |(host, _)| host);
        !is_loopback(host)
    });
    if let Some(broker) = far {
        let property = |name: &str| config.kafka.properties.get(name).map(|value| value.expose().to_ascii_lowercase());
        let protocol = property("security.protocol").unwrap_or_else(|| "plaintext".to_owned());
        if !matches!(protocol.as_str(), "ssl" | "sasl_ssl") {
            let says = format!(
                "plain-text Kafka to {broker}, which is not this machine; set kafka.properties.security.protocol to ssl \
                 or sasl_ssl"
            );
            refuse("kafka.brokers", reader.origin("kafka.brokers"), says);
        }
        for (name, sound) in
            [("enable.ssl.certificate.verification", "true"), ("ssl.endpoint.identification.algorithm", "https")]
        {
            if property(name).is_some_and(|value| value != sound) {
                let key = format!("kafka.properties.{name}");
                let origin = reader.origin(&key);
                refuse(&key, origin, format!("Kafka's certificates would not be checked; leave it at {sound}"));
            }
        }
    }
    if let Some(host) = database::exposed_host(&config.database) {
        let says = format!(
            "an unverified connection to PostgreSQL on {host}, which is not this machine; add sslmode=verify-full to \
             the URL"
        );
        refuse("database.url", reader.origin("database.url"), says);
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for here in ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "::1", "[::1]"] {
            assert!(is_loopback(here), "{here}");
        }
        for there in ["0.0.0.0", "kafka", "localhost.example", "127.0.0.1.example", "10.0.0.1", "", "128.0.0.1"] {
            assert!(!is_loopback(there), "{there}");
        }
    }
}
