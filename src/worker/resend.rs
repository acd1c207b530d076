//! Sends again what the brokers acknowledged and lost: a message to one of our own lanes stays in the outbox until
//! its receiver has passed it, and the receiver's rows tell whether it ever will.
//!
//! A link whose receiver stands where it stood at the look before is watched. Once the receiver has read past the
//! end that the partition had after the acknowledgement, and still lacks the message, the partition has not got it.
//! Nothing of this is remembered over a restart, and nothing needs to be. Sending too much is harmless: the receiver
//! drops what it has by its number.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::relay::Relay;
use crate::{
    core::{
        fence::Position,
        ledger::{LINK_IN, LINK_OUT, LinkIn, LinkOut, OUTBOX, Outbox},
        message::Message,
        record::LaneId,
        sabotage::{Safeguard, lacks},
        table::{Key, Row, Table, Value, Want},
    },
    store::Error,
};

/// A link whose receiver lacks what was sent.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The number of the first message that the receiver has not taken.
    missing: i64,
    /// Where that message stands in the outbox, once it was found among what is acknowledged.
    position: Option<Position>,
    /// Up to here the outbox was searched for it.
    searched: Position,
    /// The end of the partition after the acknowledgement.
    end: Option<i64>,
    /// The oldest record of the partition, as of the last answer.
    low: i64,
    /// The brokers are being asked.
    asking: bool,
    /// How often the whole outbox was searched for it in vain.
    gone: u32,
}

/// The answer of the brokers for a link: its sender and receiver, the message that was missing, the oldest offset of
/// the receiver's partition and the one after its newest, if they told.
pub(super) type Ends = (LaneId, LaneId, i64, Option<(i64, i64)>);

/// Questions to the brokers at the same time.
pub(super) const ASKS_MAX: usize = 4;
/// Pages of the outbox that one look searches at most: the rest is searched at the next.
const PAGES_MAX: usize = 16;

impl Relay {
    /// Looks after the links of one lane, if it is time. Whether it did; an error ends the process.
    pub(super) async fn look_for_losses(&mut self) -> Result<bool, String> {
        if lacks(Safeguard::Resend) {
            return Ok(false);
        }
        while let Ok((from, to, missing, ends)) = self.ends.try_recv() {
            let Some(watch) = self.watch(&from, &to).filter(|watch| watch.missing == missing) else { continue };
            watch.asking = false;
            if let Some((low, end)) = ends {
                // A partition that has become shorter has lost what was behind its end.
                watch.end = Some(watch.end.map_or(end, |known| known.min(end)));
                watch.low = low;
            }
        }
        if self.to_look.is_empty() && Instant::now() >= self.look_at {
            self.look_at = Instant::now() + self.shared.settings.resend_interval;
            self.to_look = self.lanes.keys().cloned().collect();
        }
        let Some(id) = self.to_look.pop().filter(|id| self.lanes.contains_key(id)) else { return Ok(false) };
        match self.look_at_links(&id).await {
            Ok(()) => Ok(true),
            Err(Error::Stop(error)) => Err(error),
            Err(error) => {
                // What was learnt stays; the next look goes on from it.
                tracing::debug!(error = %error, "looking for lost messages has failed; it is tried again later");
                Ok(false)
            }
        }
    }

    async fn look_at_links(&mut self, id: &LaneId) -> Result<(), Error> {
        let lagging = self.lagging(id).await?;
        let Some((_, outgoing)) = self.lanes.get_mut(id) else { return Ok(()) };
        let mut watched = BTreeMap::new();
        let mut suspects = Vec::new();
        for (to, missing) in lagging {
            let watch = match outgoing.watched.remove(&to).filter(|watch| watch.missing == missing) {
                // It has not moved since the look before.
                Some(watch) => {
                    suspects.push(to.clone());
                    watch
                }
                None => Watch { missing, ..Watch::default() },
            };
            watched.insert(to, watch);
        }
        outgoing.watched = watched;
        for to in suspects {
            self.look_at_link(id, &to).await?;
        }
        Ok(())
    }

    /// The links to lanes of ours whose receivers lack something, each with the number that is missing first.
    async fn lagging(&mut self, id: &LaneId) -> Result<Vec<(LaneId, i64)>, Error> {
        let mut sent = Vec::new();
        let mut after: Option<Key> = None;
        loop {
            let (rows, whole) = self.page(&LINK_OUT, id, after.take()).await?;
            after = rows.last().map(|row| row[..LINK_OUT.key].to_vec());
            sent.extend(rows.iter().filter_map(|row| LinkOut::read(row)));
            if whole {
                break;
            }
        }
        sent.retain(|link| self.shared.catalog.at(&link.to_topic).is_some());
        let key = |link: &LinkOut| {
            let (to, from) = (Value::text(&link.to_topic), Value::text(&link.topic));
            vec![to, Value::Int(link.to_partition), from, Value::Int(link.partition)]
        };
        let wanted = Want::Keys(sent.iter().map(key).collect());
        let rows = if sent.is_empty() { Vec::new() } else { self.load(&LINK_IN, wanted).await? };
        let taken: BTreeMap<(String, i64), i64> = rows
            .iter()
            .filter_map(|row| LinkIn::read(row))
            .map(|link| ((link.topic, link.partition), link.mark))
            .collect();
        let lagging = sent.into_iter().filter_map(|link| {
            let to = (link.to_topic, link.to_partition);
            let mark = taken.get(&to).copied().unwrap_or(0);
            let partition = i32::try_from(to.1).ok()?;
            (mark < link.sent).then_some((LaneId { topic: to.0, partition }, mark + 1))
        });
        Ok(lagging.collect())
    }

    /// Goes one step further with a link that has not moved.
    async fn look_at_link(&mut self, id: &LaneId, to: &LaneId) -> Result<(), Error> {
        let Some(watch) = self.watch(id, to) else { return Ok(()) };
        let (missing, position, end, low) = (watch.missing, watch.position, watch.end, watch.low);
        let Some(position) = position else {
            if self.find(id, to).await? {
                self.ask_ends(id, to, missing);
            }
            return Ok(());
        };
        let Some(end) = end else {
            self.ask_ends(id, to, missing);
            return Ok(());
        };
        // The row first: whatever lies below its offset, the mark that is read after it has seen.
        let read = self.session.peek(to).await?.map_or(0, |row| row.fence.next_offset).max(low);
        if read < end {
            // Records that expire unread raise what counts as read.
            self.ask_ends(id, to, missing);
            return Ok(());
        }
        let still = self.lagging(id).await?.into_iter().any(|link| link == (to.clone(), missing));
        if still { self.send_again(id, to, position).await } else { Ok(()) }
    }

    fn watch(&mut self, id: &LaneId, to: &LaneId) -> Option<&mut Watch> {
        self.lanes.get_mut(id)?.1.watched.get_mut(to)
    }

    /// Searches what is acknowledged in the outbox for the message that is missing. Whether it was found.
    async fn find(&mut self, id: &LaneId, to: &LaneId) -> Result<bool, Error> {
        for _ in 0..PAGES_MAX {
            let Some((_, outgoing)) = self.lanes.get_mut(id) else { return Ok(false) };
            let relayed = outgoing.shown.relayed();
            let Some(watch) = outgoing.watched.get_mut(to) else { return Ok(false) };
            let (missing, searched) = (watch.missing, watch.searched);
            let (rows, whole) = self.page(&OUTBOX, id, Some(after(id, searched))).await?;
            let rows: Vec<Outbox> = rows.iter().filter_map(|row| Outbox::read(row)).collect();
            let place = |row: &Outbox| Position { batch: row.batch, index: row.idx };
            let acknowledged = rows.iter().take_while(|row| place(row) <= relayed);
            let found = acknowledged.clone().find(|row| is_for(row, to) && row.link_sequence == Some(missing));
            let (found, last) = (found.map(place), acknowledged.last().map(place));
            let ended = whole || last != rows.last().map(place);
            let under_way = rows.iter().any(|row| is_for(row, to) && row.link_sequence == Some(missing));
            let Some(watch) = self.watch(id, to) else { return Ok(false) };
            watch.position = found;
            watch.searched = last.unwrap_or(searched);
            if found.is_some() || under_way {
                return Ok(found.is_some());
            }
            if whole {
                // At the first time the receiver may just have taken it, and its row was trimmed.
                watch.gone = watch.gone.saturating_add(1);
                if watch.gone == 2 {
                    tracing::error!(from = %id, to = %to, number = missing, "a message is missing, and not in the outbox");
                }
            }
            if ended {
                return Ok(false);
            }
        }
        Ok(false)
    }

    /// Asks the brokers, beside the sending: they may take long to answer.
    fn ask_ends(&mut self, id: &LaneId, to: &LaneId, missing: i64) {
        let Some(watch) = self.watch(id, to) else { return };
        if std::mem::replace(&mut watch.asking, true) {
            return;
        }
        let (broker, answering, asks) = (self.shared.broker.clone(), self.answering.clone(), self.asks.clone());
        let (timeout, id, to) = (self.shared.settings.metadata_timeout, id.clone(), to.clone());
        tokio::spawn(async move {
            // Never closed, so a permit is always given in the end.
            let _permit = asks.acquire_owned().await;
            let ends = broker.watermarks(&to, timeout).await.ok();
            let _gone = answering.send((id, to, missing, ends));
        });
    }

    /// Queues what the receiver lacks, from a place in the outbox on, up to what is acknowledged and within bounds.
    async fn send_again(&mut self, id: &LaneId, to: &LaneId, from: Position) -> Result<(), Error> {
        let bytes_max = self.shared.settings.queue_bytes_max / 2;
        let Some((_, outgoing)) = self.lanes.get(id) else { return Ok(()) };
        let busy = outgoing.links.get(to).is_some_and(|link| link.probing) || !outgoing.resent.is_empty();
        if busy || !outgoing.has_room(self.shared.settings.queue_bytes_max) {
            return Ok(());
        }
        let (relayed, mut searched) = (outgoing.shown.relayed(), Position { index: from.index - 1, ..from });
        let (mut messages, mut bytes) = (Vec::new(), 0);
        for _ in 0..PAGES_MAX {
            let (rows, whole) = self.page(&OUTBOX, id, Some(after(id, searched))).await?;
            for row in rows.iter().filter_map(|row| Outbox::read(row)) {
                searched = Position { batch: row.batch, index: row.idx };
                if searched <= relayed && row.link_sequence.is_some() && is_for(&row, to) && bytes < bytes_max {
                    let message = Message::from_row(row);
                    bytes += message.bytes();
                    messages.push(message);
                }
            }
            if whole || searched > relayed || bytes >= bytes_max {
                break;
            }
        }
        let Some((_, outgoing)) = self.lanes.get_mut(id) else { return Ok(()) };
        let (first, count) = (messages.first().and_then(|message| message.link_sequence), messages.len());
        tracing::warn!(from = %id, to = %to, number = first, count, "the brokers have lost acknowledged messages; sending them again");
        self.shared.metrics.relay_resent(&to.topic, count as u64);
        outgoing.send_again(to, messages);
        Ok(())
    }

    async fn page(
        &mut self,
        table: &'static Table,
        id: &LaneId,
        after: Option<Key>,
    ) -> Result<(Vec<Row>, bool), Error> {
        let prefix = vec![Value::text(&id.topic), Value::Int(id.partition.into())];
        let limit = self.shared.settings.page_rows;
        let rows = self.load(table, Want::Scan { prefix, after, limit }).await?;
        let whole = rows.len() < limit;
        Ok((rows, whole))
    }

    async fn load(&mut self, table: &'static Table, want: Want) -> Result<Vec<Row>, Error> {
        Ok(self.session.load(&[(table, want)]).await?.pop().unwrap_or_default())
    }
}

fn after(id: &LaneId, position: Position) -> Key {
    let place = [Value::Int(position.batch), Value::Int(position.index)];
    [Value::text(&id.topic), Value::Int(id.partition.into())].into_iter().chain(place).collect()
}

fn is_for(row: &Outbox, to: &LaneId) -> bool {
    row.to_topic == to.topic && row.to_partition == i64::from(to.partition)
}
