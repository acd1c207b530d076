//! Somebody who reads all that goes through the topics and is not the worker: evidence for the checks, input for the
//! textbook consumer.

use anyhow::Context as _;
use tokio::sync::oneshot;

use super::{check::Topics, races, reader::Reader, wire, wire::Opened, world};

/// Reads on until told how many records there are in all, and has read them; says what they said.
pub async fn run(mut reader: Reader, mut all: oneshot::Receiver<i64>) -> anyhow::Result<Topics> {
    let mut topics = Topics::default();
    let (mut read, mut expected) = (0, None);
    while expected.is_none_or(|expected| read < expected) {
        tokio::select! {
            told = &mut all, if expected.is_none() => expected = Some(told.context("the demo has ended early")?),
            records = reader.next() => for (lane, record) in records? {
                read += 1;
                topics.records += i64::from(lane.topic != world::OUTCOMES);
                if let Some(opened) = wire::open(&record) {
                    topics.opened.insert((lane, record.offset), opened);
                }
            },
        }
    }
    Ok(topics)
}

/// The events of the races as producers sent them, each partition's in order.
pub fn races(topics: &Topics) -> Vec<Opened> {
    let sent =
        ["stock.received", "purchase.placed", "activity.counted", "profile.email_changed", "profile.password_changed"];
    let raced = topics.opened.values().filter(|opened| opened.key.starts_with(races::PREFIX));
    raced.filter(|opened| sent.contains(&opened.kind.as_str())).cloned().collect()
}
