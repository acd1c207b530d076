//! A reader outside the worker: a member of a group of its own that takes all records of some topics.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::bail;
use seriatim::{
    broker::{Consumer as _, Event, Inbox},
    core::record::{LaneId, Record},
    kafka::{Consumer, Settings},
};
use tokio::sync::{
    Notify,
    mpsc::{self, UnboundedReceiver},
};

/// Records and bytes that wait here per partition.
const INBOX_RECORDS_MAX: usize = 4_096;
const INBOX_BYTES_MAX: usize = 4 << 20;

/// Reads topics from their beginning.
pub struct Reader {
    consumer: Consumer,
    events: UnboundedReceiver<Event>,
    inboxes: BTreeMap<LaneId, Arc<Inbox>>,
    waker: Arc<Notify>,
}

impl Reader {
    /// Joins the group `name`.
    pub fn start(settings: &Settings, name: &str, topics: &[&str]) -> anyhow::Result<Self> {
        let settings = Settings { group_id: name.to_owned(), client_id: name.to_owned(), ..settings.clone() };
        let (sender, events) = mpsc::unbounded_channel();
        let topics: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
        let consumer = Consumer::start(&settings, &topics, sender)?;
        Ok(Self { consumer, events, inboxes: BTreeMap::new(), waker: Arc::new(Notify::new()) })
    }

    /// The next records, at least one. Nothing is lost if it is given up waiting.
    pub async fn next(&mut self) -> anyhow::Result<Vec<(LaneId, Record)>> {
        loop {
            let taken = self.take();
            if !taken.is_empty() {
                return Ok(taken);
            }
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => self.hear(event)?,
                    None => bail!("a reader of the demo has ended"),
                },
                () = self.waker.notified() => {}
            }
        }
    }

    fn take(&self) -> Vec<(LaneId, Record)> {
        let mut taken = Vec::new();
        for (lane, inbox) in &self.inboxes {
            let records = inbox.take(INBOX_RECORDS_MAX, INBOX_BYTES_MAX);
            taken.extend(records.into_iter().map(|record| (lane.clone(), record)));
        }
        taken
    }

    fn hear(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Assigned(lanes) => {
                for lane in lanes {
                    let inbox = Inbox::new(INBOX_RECORDS_MAX, INBOX_BYTES_MAX, Arc::clone(&self.waker));
                    self.consumer.open(lane.clone(), 0, Arc::clone(&inbox));
                    self.inboxes.insert(lane, inbox);
                }
            }
            Event::Revoked(lanes) => bail!("a reader of the demo has lost {} partitions", lanes.len()),
            Event::Lost { lane, why } => bail!("a reader of the demo has lost {lane}: {why}"),
            Event::Stalled(lane) => bail!("a reader of the demo gets nothing of {lane}"),
            Event::Fatal(error) => bail!("a reader of the demo has failed: {error}"),
        }
        Ok(())
    }
}
