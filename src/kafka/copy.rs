//! A record out of the client's memory into ours: one copy a field, whatever stands in it.
//!
//! Kafka lets a header's name be any bytes; the client panics at one that is not UTF-8. Such a record must
//! still reach its lane, to be dead-lettered there, and must not end the poll thread.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rdkafka::message::{BorrowedMessage, Headers, Message as _};

use crate::core::{header, record::Record};

/// Stands for a header's name that cannot be read; its value then cannot be reached either.
const UNREADABLE: &str = "\u{fffd}";

pub(super) fn record_of(message: &BorrowedMessage<'_>) -> Record {
    Record {
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: message.headers().map_or_else(Vec::new, headers_of),
    }
}

fn headers_of<H: Headers>(headers: &H) -> header::Headers {
    let copy = |at: usize| {
        let found = headers.try_get(at)?;
        Some((header::name(found.key), found.value.map(<[u8]>::to_vec)))
    };
    // Reading changes nothing in the client, so a panic half-way leaves nothing broken behind.
    let guarded = |at| catch_unwind(AssertUnwindSafe(|| copy(at))).unwrap_or_else(|_| Some((UNREADABLE.into(), None)));
    (0..headers.count()).map_while(guarded).collect()
}

#[cfg(test)]
mod tests {
    use rdkafka::message::{Header, Headers, OwnedHeaders};

    use super::{UNREADABLE, headers_of};

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
        let readable = ("a".into(), Some(b"x".to_vec()));
        assert_eq!(headers_of(&OneUnreadable), [readable.clone(), (UNREADABLE.into(), None), readable]);
    }

    #[test]
    fn absent_and_empty_values_stay_apart() {
        let headers = OwnedHeaders::new()
            .insert(Header { key: "a", value: None::<&str> })
            .insert(Header { key: "a", value: Some("") });
        assert_eq!(headers_of(&headers), [("a".into(), None), ("a".into(), Some(Vec::new()))]);
    }
}
