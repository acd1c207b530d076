//! What dedupe and reorder promise, as plainly as it can be said: one record at a time, all in memory, no
//! batches, no rows, no cache.

use std::collections::BTreeMap;

use super::told::Sent;

/// What a number held or holds: a word, or the place of a dead letter.
type Content = Option<String>;

#[derive(Debug, Default)]
struct Stream {
    taken: Vec<Content>,
    held: BTreeMap<i64, (Content, i64)>,
}

/// All entities.
#[derive(Debug, Default)]
pub struct Model {
    streams: BTreeMap<(&'static str, &'static str), Stream>,
    pub words: BTreeMap<&'static str, Vec<String>>,
    pub letters: Vec<(i64, String)>,
    pub duplicates: u64,
    pub refused: u64,
}

impl Model {
    /// Takes the record at the next offset.
    pub fn take(&mut self, offset: i64, sent: &Sent) {
        let stream = self.streams.entry((sent.entity, sent.source)).or_default();
        let taken = i64::try_from(stream.taken.len()).unwrap();
        let mut letter = |reason: &str| self.letters.push((offset, reason.to_owned()));
        if sent.word.is_none() {
            letter("invalid");
        }
        if sent.number <= taken {
            let known = &stream.taken[usize::try_from(sent.number - 1).unwrap()];
            match (known, &sent.word) {
                (_, None) => {}
                (None, Some(_)) => letter("too_old"),
                (Some(known), Some(word)) if known == word => self.duplicates += 1,
                (Some(_), Some(_)) => letter("conflict"),
            }
            return;
        }
        if let Some((known, _)) = stream.held.get(&sent.number) {
            match &sent.word {
                None => {}
                Some(_) if *known == sent.word => self.duplicates += 1,
                Some(_) => letter("conflict"),
            }
            return;
        }
        stream.held.insert(sent.number, (sent.word.clone(), offset));
        while let Some((content, _)) = stream.held.remove(&(i64::try_from(stream.taken.len()).unwrap() + 1)) {
            match content.as_deref() {
                None => {}
                Some("no") => self.refused += 1,
                Some(word) => self.words.entry(sent.entity).or_default().push(word.to_owned()),
            }
            stream.taken.push(content);
        }
    }

    /// Offsets of the records that are held.
    pub fn held(&self) -> Vec<i64> {
        let held = self.streams.values().flat_map(|stream| stream.held.values());
        let mut held: Vec<i64> = held.filter(|(content, _)| content.is_some()).map(|(_, offset)| *offset).collect();
        held.sort_unstable();
        held
    }
}
