//! A record out of the client's memory into ours: one copy, whatever stands in it.
//!
//! Kafka lets a header's name be any bytes; the client panics at one that is not UTF-8. Such a record must
//! still reach its lane, to be dead-lettered there, and must not end the poll thread.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rdkafka::message::{BorrowedMessage, Headers, Message as _};

use crate::core::{header, record::Record, table::Bytes};

/// Room for most records' headers, so that memory is asked for once.
const VALUES_BYTES_USUAL: usize = 384;

/// Stands for a header's name that cannot be read; its value then cannot be reached either.
const UNREADABLE: &str = "\u{fffd}";

pub(super) fn record_of(message: &BorrowedMessage<'_>) -> Record {
    Record {
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
        key: message.key().map(Bytes::from),
        value: message.payload().map(Bytes::from),
        headers: message.headers().map_or_else(header::Headers::default, headers_of),
    }
}

fn headers_of<H: Headers>(headers: &H) -> header::Headers {
    let count = headers.count();
    let mut copy = header::Headers::with_capacity(count, VALUES_BYTES_USUAL);
    for at in 0..count {
        // Reading changes nothing in the client, so a panic half-way leaves nothing broken behind.
        match catch_unwind(AssertUnwindSafe(|| headers.try_get(at))) {
            Ok(Some(found)) => copy.push(header::name(found.key), found.value),
            Ok(None) => break,
            Err(_) => copy.push(UNREADABLE, None),
        }
    }
    copy
}

#[cfg(test)]
mod tests {
    use rdkafka::message::{Header, Headers, OwnedHeaders};

    use super::{UNREADABLE, headers_of};
    use crate::core::header;

    struct OneUnreadable;

    impl Headers for OneUnreadable {
        fn count(&self) -> usize {
            3
        }

        fn try_get(&self, at: usize) -> Option<Header<'_, &[u8]>> {
            assert_ne!(at, 1, "as the client does for a name that is not UTF-8");
            Some(Header { key: "a", value: Some(b"x") })
        }
    }

    #[test]
    fn an_unreadable_name_hides_only_its_own_header() {
        let readable = ("a", Some("x"));
        assert_eq!(headers_of(&OneUnreadable), header::Headers::from_iter([readable, (UNREADABLE, None), readable]));
    }

    #[test]
    fn absent_and_empty_values_stay_apart() {
        let headers = OwnedHeaders::new()
            .insert(Header { key: "a", value: None::<&str> })
            .insert(Header { key: "a", value: Some("") });
        assert_eq!(headers_of(&headers), header::Headers::from_iter([("a", None), ("a", Some(""))]));
    }
}
