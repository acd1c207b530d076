//! Every committed message is in its topic: what is acknowledged, at once; what is sent, in the topic or in the outbox.
//!
//! How far a lane's messages are acknowledged was read before the topics were, so these stand in them. Others may have
//! gone from the outbox into their topic between two looks: such a topic is read on to its end of now.

use std::collections::BTreeMap;

use super::{
    Class, Error, Finding, Fsck, Scan, lane_key, lane_of,
    links::Links,
    messages::show_lane,
    read,
    rows::{LINK_OUT, LinkOut, OUTBOX, Outbox},
};
use crate::core::{
    fence::Position,
    record::LaneId,
    table::{Row, Value},
};

impl Fsck {
    pub(super) async fn outbox(&mut self) -> Result<(), Error> {
        let lanes: Vec<LaneId> = self.lanes.keys().cloned().collect();
        for lane in &lanes {
            self.compare_link_marks(lane).await?;
        }
        for from in &lanes {
            self.outbox_of(from).await?;
        }
        self.compare_gaps().await
    }

    /// The outbox of one lane against what was read.
    async fn outbox_of(&mut self, from: &LaneId) -> Result<(), Error> {
        let relayed = self.lanes[from].relayed;
        let mut pending: BTreeMap<LaneId, i64> = BTreeMap::new();
        let mut scan = Scan::new(&OUTBOX, lane_key(from));
        while let Some(row) = scan.next(&mut self.look).await? {
            let message = read(Outbox::read(&row), &OUTBOX)?;
            let to = lane_of(&message.to_topic, message.to_partition);
            let (Some(number), Some(links)) = (message.link_sequence, self.read.get(&to)) else { continue };
            if links.has(from, number) {
                continue;
            }
            let position = Position { batch: message.batch, index: message.idx };
            if position <= relayed {
                self.find_lost_message(from, &to, position, &row);
            } else if self.sent.get(&(from.clone(), to.clone())).is_some_and(|sent| number <= *sent) {
                *pending.entry(to).or_insert(0) += 1;
            }
        }
        let sent: Vec<(LaneId, i64)> =
            self.sent.iter().filter(|((lane, _), _)| lane == from).map(|((_, to), sent)| (to.clone(), *sent)).collect();
        for (to, sent) in sent {
            let last = self.read.get(&to).and_then(|links| links.links.get(from)).map_or(0, |link| link.last);
            // All that was kept of a link may have expired.
            let whole = self.read.get(&to).is_some_and(|links| links.whole || links.links.contains_key(from));
            if whole && sent - last > pending.get(&to).copied().unwrap_or(0) {
                self.compare_tail(from, &to, sent, last).await?;
            }
        }
        Ok(())
    }

    fn find_lost_message(&mut self, from: &LaneId, to: &LaneId, position: Position, row: &Row) {
        let name = format!("{from}/{}/{}", position.batch, position.index);
        let says = format!("the broker has acknowledged it and it is not in {to}");
        let relayed = self.lanes[from].relayed;
        let finding = Finding::new(Class::MessageLost, name, says, show_lane(to)).row(&OUTBOX, row);
        self.report.find(finding.with("acknowledged_to", format!("{}/{}", relayed.batch, relayed.index)));
    }

    /// Fewer messages of a link are in its topic and the outbox than were sent: the rest must have come since.
    async fn compare_tail(&mut self, from: &LaneId, to: &LaneId, sent: i64, last: i64) -> Result<(), Error> {
        // The outbox first: a row that is not in it any more is in the topic by now.
        let (mut scan, mut first_pending) = (Scan::new(&OUTBOX, lane_key(from)), None);
        while let Some(row) = scan.next(&mut self.look).await? {
            let message = read(Outbox::read(&row), &OUTBOX)?;
            let is_of_link = lane_of(&message.to_topic, message.to_partition) == *to;
            if let Some(number) = message.link_sequence.filter(|number| is_of_link && *number > last) {
                first_pending = Some(first_pending.map_or(number, |first: i64| first.min(number)));
            }
        }
        self.read_on(to).await?;
        let last = self.read.get(to).and_then(|links| links.links.get(from)).map_or(0, |link| link.last);
        let upto = first_pending.map_or(sent, |first| first - 1).min(sent);
        if last < upto {
            let says = format!(
                "{from} has sent {sent} messages to {to}: those from {} to {upto} are neither in the topic nor in the outbox",
                last + 1
            );
            let finding = Finding::new(Class::MessageLost, format!("{from} to {to}"), says, show_lane(from));
            let finding = finding.with("from", from.to_string()).with("to", to.to_string());
            self.report.find(finding.with("first_lost", last + 1).with("last_lost", upto).with("sent", sent));
        }
        Ok(())
    }

    /// Reads a partition on to where it ends now.
    async fn read_on(&mut self, to: &LaneId) -> Result<(), Error> {
        let (low, high) = self.ends_of(to).await?;
        let end = self.ends.get(to).copied().unwrap_or(low).max(low);
        let mut links = self.read.remove(to).unwrap_or_else(|| Links::new(low));
        self.read_messages(to, end, high, &mut links).await?;
        self.read.insert(to.clone(), links);
        self.ends.insert(to.clone(), high);
        Ok(())
    }

    /// Numbers that are missing between others in a topic, and those beyond what was sent.
    async fn compare_gaps(&mut self) -> Result<(), Error> {
        let gaps: Vec<(LaneId, LaneId, i64, i64)> = self
            .read
            .iter()
            .flat_map(|(to, links)| links.links.iter().map(move |(from, link)| (to, from, link)))
            .flat_map(|(to, from, link)| link.gaps.iter().map(|gap| (from.clone(), to.clone(), *gap.0, *gap.1)))
            .collect();
        for (from, to, first, last) in gaps {
            let says = format!("messages {first} to {last} of the link are missing in {to}, later ones are there");
            let finding = Finding::new(Class::LinkGap, format!("{from} to {to}"), says, show_lane(&to));
            let finding = finding.with("from", from.to_string()).with("to", to.to_string());
            self.report.find(finding.with("first_missing", first).with("last_missing", last));
        }
        let read: Vec<(LaneId, LaneId, i64)> = self
            .read
            .iter()
            .flat_map(|(to, links)| links.links.iter().map(|(from, link)| (from.clone(), to.clone(), link.last)))
            .collect();
        for (from, to, last) in read {
            let sent = self.sent_now(&from, &to).await?;
            if last > sent {
                let says = format!("{to} holds message {last} of the link and {from} has sent {sent}");
                let finding = Finding::new(Class::LinkBeyondSent, format!("{from} to {to}"), says, show_lane(&from));
                self.report.find(finding.with("sent", sent).with("read", last));
            }
        }
        Ok(())
    }

    /// How many messages a link has sent by now.
    pub(super) async fn sent_now(&mut self, from: &LaneId, to: &LaneId) -> Result<i64, Error> {
        let key = vec![
            Value::text(&from.topic),
            Value::Int(from.partition.into()),
            Value::text(&to.topic),
            Value::Int(to.partition.into()),
        ];
        let row = self.look.one(&LINK_OUT, key).await?;
        Ok(row.map(|row| read(LinkOut::read(&row), &LINK_OUT)).transpose()?.map_or(0, |row| row.sent))
    }
}
