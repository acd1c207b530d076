//! Dead letters: a row with the bytes first, in the transaction that moves the offset; a copy for the
//! dead-letter topic goes out like every message, but carries no number of its own.

use sha2::{Digest as _, Sha256};

use super::{
    batch::{AlarmKind, Outcome},
    catalog::Catalog,
    emit::{hex, rfc3339},
    event::{Arrival, Event, Reason, Rejection},
    header as headers,
    lane::Lane,
    ledger::{DEAD_LETTER, DeadLetter},
    limits::micros,
    message::Message,
    partition::partition_of,
    record::{LaneId, Record},
    rows::Micros,
    sabotage::{Safeguard, lacks},
    state::Address,
    table::Value,
};

/// Status of a letter that nobody has settled.
pub(super) const REPLAYABLE: &str = "replayable";
/// Error text is cut at so many bytes.
const ERROR_BYTES_MAX: usize = 2048;
/// Headers of the original that a copy keeps: of a record with more than a hundred thousand, ours included, clients show
/// none at all. The row keeps them all.
const HEADERS_MAX: usize = 99_900;
/// What the headers of a letter may take beside its value.
const ENVELOPE_BYTES: usize = 4096;

impl Lane {
    /// Dead-letters an event; a conflict raises an alarm.
    pub(super) fn dead_letter_event(&mut self, arrival: &Arrival, event: &Event, reason: Reason, error: &str) {
        if reason == Reason::Conflict {
            let at = Some((event.id.clone(), arrival.record.offset));
            self.batch.alarm(AlarmKind::Conflict, &event.entity_id, at, error.to_owned());
        }
        self.dead_letter(&arrival.record, &Rejection::of(event, reason, error));
    }

    /// Dead-letters a record.
    pub(super) fn dead_letter(&mut self, record: &Record, rejection: &Rejection) {
        if lacks(Safeguard::LetterRow) {
            return;
        }
        let address = self.letter_address(record.offset);
        if !self.state.has(&address) {
            // The row is only there if the record was dead-lettered before; that is known in the next round.
            return;
        }
        let known = self.state.get(&address).flatten().and_then(|row| DeadLetter::read(row));
        let attempts = known.as_ref().map_or(1, |known| known.attempts + 1);
        let letter = DeadLetter {
            topic: self.id.topic.clone(),
            partition: self.id.partition.into(),
            record_offset: record.offset,
            status: REPLAYABLE.to_owned(),
            reason: rejection.reason.as_str().to_owned(),
            error: cut(&rejection.error.replace('\0', "\u{fffd}"), ERROR_BYTES_MAX).to_owned(),
            kind: Some(self.kind().name().to_owned()),
            entity_id: rejection.entity_id.clone(),
            source: rejection.source.clone().map(|source| source.replace('\0', "\u{fffd}")),
            sequence: rejection.sequence,
            timestamp_ms: record.timestamp_ms,
            key: record.key.clone(),
            value: record.value.clone(),
            headers: headers::to_text(&record.headers),
            attempts,
            count: known.as_ref().map_or(1, |known| known.count + 1),
            first_failed_at: known.map_or(Micros(self.now), |known| known.first_failed_at),
            failed_at: Micros(self.now),
        };
        let message = self.letter_message(record, &letter);
        self.state.set(address, Some(letter.into_row()));
        self.post(message);
        self.count(Outcome::DeadLettered);
        *self.batch.letters.entry(rejection.reason).or_insert(0) += 1;
    }

    /// Settles a letter: from now on it is kept for a time only.
    pub(super) fn settle_letter(&mut self, letter: DeadLetter, status: &str) {
        let due = self.now.saturating_add(micros(self.limits.letter_kept));
        // The count tells this settling from one after it should fail again.
        self.set_timer("letter", "", &format!("{}/{}", letter.record_offset, letter.count), due, due);
        let letter = DeadLetter { status: status.to_owned(), ..letter };
        self.state.set(letter.address(), Some(letter.into_row()));
    }

    /// A letter has been settled for long enough: it goes, unless it has failed again since.
    pub(super) fn letter_due(&mut self, name: &str) {
        let numbers = name.split_once('/').map(|(offset, count)| (offset.parse::<i64>(), count.parse::<i64>()));
        let Some((Ok(offset), Ok(count))) = numbers else { return };
        let address = self.letter_address(offset);
        if !self.state.has(&address) {
            return;
        }
        let letter = self.state.get(&address).flatten().and_then(|row| DeadLetter::read(row));
        if letter.is_some_and(|letter| letter.count == count && letter.status != REPLAYABLE) {
            self.state.set(address, None);
        }
    }

    pub(super) fn letter_address(&self, offset: i64) -> Address {
        Address::new(&DEAD_LETTER, self.key([Value::Int(offset)]))
    }

    fn letter_message(&self, record: &Record, letter: &DeadLetter) -> Message {
        let topic = Catalog::dead_letter_topic(&self.id.topic);
        let count = self.catalog.partitions_of(&topic).unwrap_or(1);
        let partition = if self.id.partition < count {
            self.id.partition
        } else {
            partition_of(record.key.as_deref().unwrap_or_default(), count)
        };
        let mut headers = record.headers.kept(HEADERS_MAX, |name| !name.starts_with("dlq."));
        headers.write("dlq.topic", &letter.topic);
        headers.write("dlq.partition", letter.partition);
        headers.write("dlq.offset", letter.record_offset);
        headers.write("dlq.group", &self.limits.group);
        headers.write("dlq.reason", &letter.reason);
        headers.write("dlq.error", &letter.error);
        headers.write("dlq.attempts", letter.attempts);
        headers.write("dlq.first_failed_at", rfc3339(letter.first_failed_at.0));
        headers.write("dlq.failed_at", rfc3339(letter.failed_at.0));
        headers.write("dlq.count", letter.count);
        if let Some(entity_id) = &letter.entity_id {
            headers.write("dlq.entity", entity_id);
        }
        if let Some(sequence) = letter.sequence {
            headers.write("dlq.sequence", sequence);
        }
        let mut message = Message {
            position: self.next_position(),
            to: LaneId { topic, partition },
            link_sequence: None,
            timestamp_ms: (record.timestamp_ms >= 0).then_some(record.timestamp_ms),
            key: record.key.clone(),
            value: record.value.clone(),
            headers,
        };
        if message.wire_bytes() > self.limits.message_bytes_max + ENVELOPE_BYTES {
            self.cut_letter(&mut message);
        }
        message
    }

    /// A copy that its topic would not take loses its end; the row keeps the whole.
    fn cut_letter(&self, message: &mut Message) {
        let value = message.value.take().unwrap_or_default();
        message.headers.write("dlq.cut", value.len());
        message.headers.write("dlq.sha256", hex(&Sha256::digest(&value)));
        if message.wire_bytes() > self.limits.message_bytes_max {
            // The headers or the key alone are too large: only our own are kept.
            message.headers = message.headers.kept(usize::MAX, |name| name.starts_with("dlq."));
            if let Some(key) = &mut message.key
                && key.len() > self.limits.message_bytes_max / 2
            {
                *key = key[..self.limits.message_bytes_max / 2].into();
            }
        }
        let room = self.limits.message_bytes_max.saturating_sub(message.wire_bytes());
        message.value = Some(value[..value.len().min(room)].into());
    }
}

/// The beginning of a text, at most `bytes_max` long, whole characters only.
fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(cut("añb", 2), "a");
        assert_eq!(cut("añb", 9), "añb");
    }
}
