//! Record headers as a JSON document: an array of `[name, value]`, in order, names repeating as they do.
//!
//! A value that is UTF-8 stands as text, other bytes as `{"hex": …}`, an absent one as null.

use std::{borrow::Cow, fmt, io::Write as _};

use serde_json::Value as Json;

use super::emit::push_hex;

/// Names the place of a message among those of its lane: `<topic>/<partition>/<batch>/<index>`.
pub const POSITION: &str = "seriatim_position";
/// Names the number of a message on its link, a decimal from 1.
pub const SEQUENCE: &str = "seriatim_sequence";

/// Names the running digest of a message's link, 32 hexadecimal digits.
pub const DIGEST: &str = "seriatim_digest";
/// Names the timeline of the database that a message was committed on, a decimal.
pub const TIMELINE: &str = "seriatim_timeline";

/// What a header takes in memory beside its name and its value: here, or in the client.
pub const HEADER_BYTES: usize = 64;

/// A header's name: for those that every record has no memory is asked.
pub type Name = Cow<'static, str>;

/// Headers in their order: names may repeat, values may be absent. All values lie in one piece of memory, for every
/// record and every message has a dozen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    list: Vec<Header>,
    values: Vec<u8>,
    /// Bytes of all names.
    names: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Header {
    name: Name,
    /// Where its value ends; it begins where the one before ends.
    end: usize,
    is_absent: bool,
}

impl Headers {
    /// None yet, with room for so many and for so many bytes of values.
    #[must_use]
    pub fn with_capacity(count: usize, bytes: usize) -> Self {
        Self { list: Vec::with_capacity(count), values: Vec::with_capacity(bytes), names: 0 }
    }

    /// Adds one at the end.
    pub fn push(&mut self, name: impl Into<Name>, value: Option<&[u8]>) {
        self.values.extend_from_slice(value.unwrap_or_default());
        self.end(name.into(), value.is_none());
    }

    /// Adds one whose value is a text as it is shown.
    pub fn write(&mut self, name: &'static str, value: impl fmt::Display) {
        write!(self.values, "{value}").expect("memory takes what is written");
        self.end(Name::Borrowed(name), false);
    }

    fn end(&mut self, name: Name, is_absent: bool) {
        self.names += name.len();
        self.list.push(Header { name, end: self.values.len(), is_absent });
    }

    /// The value of the first one of this name, if there is one and it has a value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(known, _)| *known == name)?.1
    }

    /// The same, if it is UTF-8.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        str::from_utf8(self.get(name)?).ok()
    }

    /// Names and values.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, Option<&[u8]>)> + Clone {
        (0..self.list.len()).map(|at| {
            let Header { name, end, is_absent } = &self.list[at];
            let begin = at.checked_sub(1).map_or(0, |before| self.list[before].end);
            (&**name, (!is_absent).then(|| &self.values[begin..*end]))
        })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Bytes of all names and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.names + self.values.len()
    }

    /// Those whose names are to be kept, the first `count` of them.
    #[must_use]
    pub fn kept(&self, count: usize, keep: impl Fn(&str) -> bool) -> Self {
        let mut kept = Self::default();
        let all = self.list.iter().zip(self.iter()).filter(|(header, _)| keep(&header.name));
        all.take(count).for_each(|(header, (_, value))| kept.push(header.name.clone(), value));
        kept
    }
}

impl<N: Into<Name>, V: AsRef<[u8]>> Extend<(N, Option<V>)> for Headers {
    fn extend<I: IntoIterator<Item = (N, Option<V>)>>(&mut self, headers: I) {
        for (name, value) in headers {
            self.push(name, value.as_ref().map(AsRef::as_ref));
        }
    }
}

impl<N: Into<Name>, V: AsRef<[u8]>> FromIterator<(N, Option<V>)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, Option<V>)>>(headers: I) -> Self {
        let mut all = Self::default();
        all.extend(headers);
        all
    }
}

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

/// Room for most messages' headers, so that memory is asked for once.
const TEXT_BYTES_USUAL: usize = 768;

/// The text that keeps headers.
#[must_use]
pub fn to_text(headers: &Headers) -> String {
    let mut text = String::with_capacity(TEXT_BYTES_USUAL);
    for (name, value) in headers.iter() {
        text.push(if text.is_empty() { '[' } else { ',' });
        let name = if name.contains('\0') { name.replace('\0', "\u{fffd}").into() } else { Cow::Borrowed(name) };
        text.push('[');
        push_string(&mut text, &name);
        text.push(',');
        match value.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
            None => text.push_str("null"),
            // PostgreSQL's text cannot hold NUL, so such text goes the way of other bytes.
            Some((_, Ok(value))) if !value.contains('\0') => push_string(&mut text, value),
            Some((bytes, _)) => {
                text.push_str("{\"hex\":\"");
                push_hex(&mut text, bytes);
                text.push_str("\"}");
            }
        }
        text.push(']');
    }
    text.push_str(if text.is_empty() { "[]" } else { "]" });
    text
}

/// A string of JSON. Few names and values hold what must be escaped.
fn push_string(text: &mut String, value: &str) {
    if value.bytes().any(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
        text.push_str(&Json::from(value).to_string());
    } else {
        text.push('"');
        text.push_str(value);
        text.push('"');
    }
}

/// Headers out of their text; what does not fit is left out.
#[must_use]
pub fn from_text(text: &str) -> Headers {
    let Ok(list) = serde_json::from_str::<Vec<(Cow<'_, str>, Json)>>(text) else { return Headers::default() };
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
    use super::{Headers, from_text, to_text};

    fn some() -> Headers {
        Headers::from_iter([("a", Some(b"x".to_vec())), ("b", None), ("a", Some(vec![0, 255])), ("c", Some(vec![]))])
    }

    #[test]
    fn headers_come_back_as_they_were() {
        assert_eq!(from_text(&to_text(&some())), some());
        let escaped = Headers::from_iter([("\"", Some("a\\b\n\u{7f}é")), ("", Some("\0"))]);
        assert_eq!(from_text(&to_text(&escaped)), escaped);
        assert_eq!(to_text(&Headers::default()), "[]");
        let text = to_text(&Headers::from_iter([("a", Some("x")), ("b", None)]));
        assert_eq!(text, r#"[["a","x"],["b",null]]"#);
    }

    #[test]
    fn each_has_its_own_value() {
        let mut headers = some();
        headers.write("d", format_args!("{}/{}", 1, 2));
        let list: Vec<_> = headers.iter().collect();
        let expected: [(&str, Option<&[u8]>); 5] =
            [("a", Some(b"x")), ("b", None), ("a", Some(&[0, 255])), ("c", Some(b"")), ("d", Some(b"1/2"))];
        assert_eq!(list, expected);
        assert_eq!((headers.get("a"), headers.get("b"), headers.get("e")), (Some(&b"x"[..]), None, None));
        assert_eq!((headers.len(), headers.bytes()), (5, 11));
        let kept: Vec<_> = headers.kept(2, |name| name != "b").iter().map(|(name, _)| name.to_owned()).collect();
        assert_eq!(kept, ["a", "a"]);
    }
}
