//! Record headers as a JSON document: an array of `[name, value]`, in order, names repeating as they do.
//!
//! A value that is UTF-8 stands as text, other bytes as `{"hex": …}`, an absent one as null.

use std::borrow::Cow;

use serde::{Serialize, Serializer as _};
use serde_json::Value as Json;

use super::emit::hex;

/// Names the place of a message among those of its lane: `<topic>/<partition>/<batch>/<index>`.
pub const POSITION: &str = "seriatim_position";
/// Names the number of a message on its link, a decimal from 1.
pub const SEQUENCE: &str = "seriatim_sequence";

/// Names the running digest of a message's link, 32 hexadecimal digits.
pub const DIGEST: &str = "seriatim_digest";
/// Names the timeline of the database that a message was committed on, a decimal.
pub const TIMELINE: &str = "seriatim_timeline";

/// A header's name: for those that every record has no memory is asked.
pub type Name = Cow<'static, str>;

/// Headers in their order.
pub type Headers = Vec<(Name, Option<Vec<u8>>)>;

/// Names that are met again and again.
const KNOWN: [&str; 17] = [
    "ce_id",
    "ce_source",
    "ce_type",
    "ce_specversion",
    "ce_time",
    "ce_entityseq",
    "content-type",
    "ce_causationid",
    "ce_correlationid",
    "ce_dataschema",
    "traceparent",
    "tracestate",
    "baggage",
    POSITION,
    SEQUENCE,
    DIGEST,
    TIMELINE,
];

/// A name as it is kept.
#[must_use]
pub fn name(text: &str) -> Name {
    KNOWN.into_iter().find(|known| *known == text).map_or_else(|| Cow::Owned(text.to_owned()), Cow::Borrowed)
}

/// A value as it stands in the text.
#[derive(Serialize)]
#[serde(untagged)]
enum Kept<'a> {
    Absent,
    Text(&'a str),
    Bytes { hex: String },
}

/// Room for most messages' headers, so that memory is asked for once.
const TEXT_BYTES_USUAL: usize = 768;

/// The text that keeps headers.
#[must_use]
pub fn to_text(headers: &Headers) -> String {
    let list = headers.iter().map(|(name, value)| {
        let value = match value.as_deref().map(|bytes| (bytes, std::str::from_utf8(bytes))) {
            None => Kept::Absent,
            // PostgreSQL's text cannot hold NUL, so such text goes the way of other bytes.
            Some((_, Ok(text))) if !text.contains('\0') => Kept::Text(text),
            Some((bytes, _)) => Kept::Bytes { hex: hex(bytes) },
        };
        let name = if name.contains('\0') { name.replace('\0', "\u{fffd}").into() } else { Cow::Borrowed(&**name) };
        (name, value)
    });
    let mut text = Vec::with_capacity(TEXT_BYTES_USUAL);
    serde_json::Serializer::new(&mut text).collect_seq(list).expect("names and values are plain texts");
    String::from_utf8(text).expect("JSON is UTF-8")
}

/// Headers out of their text; what does not fit is left out.
#[must_use]
pub fn from_text(text: &str) -> Headers {
    let Ok(list) = serde_json::from_str::<Vec<(Cow<'_, str>, Json)>>(text) else { return Vec::new() };
    let bytes = |hex: &str| {
        (0..hex.len() / 2).filter_map(|at| u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok()).collect()
    };
    let read = |value| match value {
        Json::String(text) => Some(text.into_bytes()),
        Json::Object(object) => object.get("hex").and_then(Json::as_str).map(bytes),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) => None,
    };
    list.into_iter().map(|(text, value)| (name(&text), read(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::{from_text, to_text};

    #[test]
    fn headers_come_back_as_they_were() {
        let headers = vec![("a".into(), Some(b"x".to_vec())), ("b".into(), None), ("a".into(), Some(vec![0, 255]))];
        assert_eq!(from_text(&to_text(&headers)), headers);
    }
}
