//! Messages of our lanes as they stand in topics: in the order of their link, each once but for copies, and each one
//! that its lane has committed, byte for byte.

use std::collections::BTreeMap;

use super::{
    Class, Error, Finding, Fsck, lane_of,
    links::{Links, Place},
    read,
    rows::{LINK_IN, LinkIn},
};
use crate::core::{
    decode,
    event::Arrival,
    fence::{LaneRow, Position},
    header, ledger,
    message::Message,
    record::LaneId,
    table::{Key, Value},
};

/// A message that claims to be of one of our lanes.
struct Claim<'a> {
    from: LaneId,
    position: Position,
    number: i64,
    arrival: &'a Arrival,
}

impl Claim<'_> {
    fn name(&self) -> String {
        format!("{}/{}/{}", self.from, self.position.batch, self.position.index)
    }

    fn key(&self) -> Key {
        place_key(&self.from, self.position)
    }

    fn finding(&self, class: Class, to: &LaneId, says: String, mend: String) -> Finding {
        Finding::new(class, self.name(), says, mend)
            .at(to, self.arrival.record.offset)
            .with("from", self.from.to_string())
            .with("to", to.to_string())
            .with("batch", self.position.batch)
            .with("index", self.position.index)
            .with("link_sequence", self.number)
    }
}

fn place_key(from: &LaneId, position: Position) -> Key {
    vec![
        Value::text(&from.topic),
        Value::Int(from.partition.into()),
        Value::Int(position.batch),
        Value::Int(position.index),
    ]
}

fn claim(arrival: &Arrival) -> Option<Claim<'_>> {
    let link = arrival.link.as_ref()?;
    let position = decode::position_of(&arrival.record)?;
    let from = LaneId { topic: link.topic.clone(), partition: link.partition };
    Some(Claim { from, position, number: link.sequence, arrival })
}

/// The command that shows how far a sending lane is.
pub(super) fn show_lane(lane: &LaneId) -> String {
    format!("seriatim lane list --topic {}", lane.topic)
}

impl Fsck {
    /// Reads a partition that no lane of ours reads.
    pub(super) async fn messages(&mut self, to: &LaneId) -> Result<(), Error> {
        let (low, high) = self.ends_of(to).await?;
        let mut links = Links::new(low);
        self.read_messages(to, low, high, &mut links).await?;
        self.read.insert(to.clone(), links);
        self.ends.insert(to.clone(), high);
        Ok(())
    }

    /// Reads a stretch of a partition for its messages alone.
    pub(super) async fn read_messages(
        &mut self,
        to: &LaneId,
        from: i64,
        until: i64,
        links: &mut Links,
    ) -> Result<(), Error> {
        let mut pages = self.log.read(to, from, until)?;
        while let Some(page) = pages.next().await? {
            let page: Vec<Arrival> = page.into_iter().map(|record| decode::open(&self.catalog, to, record)).collect();
            for arrival in &page {
                self.place(to, arrival, links);
            }
            self.compare_messages(to, &page).await?;
        }
        Ok(())
    }

    /// Where a message stands among those of its link; new, if it is none of ours.
    pub(super) fn place(&mut self, to: &LaneId, arrival: &Arrival, links: &mut Links) -> Place {
        let Some(claim) = claim(arrival) else { return Place::New };
        let place = links.take(&claim.from, claim.number, claim.position, &arrival.record);
        self.report.messages += 1;
        self.report.repeats += u64::from(matches!(place, Place::Copy | Place::Old | Place::Other));
        match place {
            Place::New | Place::Copy | Place::Old => {}
            Place::Other => {
                let says =
                    format!("number {} of the link stands in the topic before, as another message", claim.number);
                self.report.find(claim.finding(Class::MessageOther, to, says, show_lane(&claim.from)));
            }
            Place::Behind(before) => {
                let says = "it stands behind a message that was committed later".to_owned();
                let finding = claim.finding(Class::LinkOrder, to, says, show_lane(&claim.from));
                self.report.find(finding.with("before_batch", before.batch).with("before_index", before.index));
            }
        }
        place
    }

    /// Compares messages with the outbox and with how far their lanes are.
    ///
    /// Rows go from the outbox when they are acknowledged and taken, so a row that was not there was so before: how far
    /// the sender's messages are acknowledged, and how far the receiver has taken them, is read after the rows.
    pub(super) async fn compare_messages(&mut self, to: &LaneId, page: &[Arrival]) -> Result<(), Error> {
        let claims: Vec<Claim<'_>> = page.iter().filter_map(claim).collect();
        let mut rows = BTreeMap::new();
        for row in self.look.whole(&ledger::OUTBOX, claims.iter().map(Claim::key).collect()).await? {
            let key = row[..ledger::OUTBOX.key].to_vec();
            rows.insert(key, read(ledger::Outbox::read(&row), &ledger::OUTBOX)?);
        }
        let mut senders: BTreeMap<LaneId, Option<LaneRow>> = BTreeMap::new();
        let mut marks: BTreeMap<LaneId, i64> = BTreeMap::new();
        for claim in &claims {
            let row = rows.get(&claim.key()).cloned().map(Message::from_row);
            if !senders.contains_key(&claim.from) {
                let sender = self.look.lane(&claim.from).await?;
                senders.insert(claim.from.clone(), sender);
            }
            let sender = senders.get(&claim.from).and_then(Option::as_ref);
            let batch = sender.map_or(0, |row| row.fence.batch);
            if claim.position.batch > batch || row.is_none() && sender.is_none_or(|row| claim.position > row.relayed) {
                let says = "its lane has not committed it: somebody else has written it".to_owned();
                let finding = claim.finding(Class::MessageForeign, to, says, show_lane(&claim.from));
                let relayed = sender.map(|row| format!("{}/{}", row.relayed.batch, row.relayed.index));
                self.report.find(finding.with("lane_batch", batch).with("acknowledged_to", relayed));
                continue;
            }
            match row {
                Some(row) => self.compare_bytes(to, claim, &row),
                None if self.catalog.at(&to.topic).is_some() => self.compare_mark(to, claim, &mut marks).await?,
                None => {}
            }
        }
        Ok(())
    }

    fn compare_bytes(&mut self, to: &LaneId, claim: &Claim<'_>, row: &Message) {
        let record = &claim.arrival.record;
        let differs = [
            ("destination", row.to != *to),
            ("link_sequence", row.link_sequence != Some(claim.number)),
            ("key", row.key != record.key),
            ("value", row.value != record.value),
            // As the outbox keeps them: what its text cannot hold is another there.
            ("headers", row.headers != header::from_text(&header::to_text(&record.headers))),
        ];
        let differs: Vec<&str> = differs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect();
        if !differs.is_empty() {
            let says = format!("it is not what its row in the outbox says: other {}", differs.join(", "));
            let finding = claim.finding(Class::MessageOther, to, says, show_lane(&claim.from));
            self.report.find(finding.with("differs", differs));
        }
    }

    /// A message to one of our lanes stays in the outbox until that lane has taken it.
    async fn compare_mark(
        &mut self,
        to: &LaneId,
        claim: &Claim<'_>,
        marks: &mut BTreeMap<LaneId, i64>,
    ) -> Result<(), Error> {
        if !marks.contains_key(&claim.from) {
            let key = [to, &claim.from].into_iter().flat_map(super::lane_key).collect();
            let row = self.look.one(&LINK_IN, key).await?;
            let mark = row.map(|row| read(LinkIn::read(&row), &LINK_IN)).transpose()?.map_or(0, |row| row.mark);
            marks.insert(claim.from.clone(), mark);
        }
        let mark = marks[&claim.from];
        // A topic that no lane has claimed yet cannot be told from one outside of this store.
        let is_taken = claim.number <= mark || mark == 0 && self.look.lane(to).await?.is_none();
        if !is_taken {
            let says = format!("it is not in the outbox any more, and {to} has taken the link up to {mark} only");
            let finding = claim.finding(Class::MessageForgotten, to, says, show_lane(to));
            self.report.find(finding.with("mark", mark));
        }
        Ok(())
    }

    /// No lane has taken more messages of a link than were sent.
    pub(super) async fn compare_link_marks(&mut self, to: &LaneId) -> Result<(), Error> {
        let mut scan = super::Scan::new(&LINK_IN, super::lane_key(to));
        loop {
            // A page at a time: the marks first, then the counts that they must not pass.
            let page = scan.pages(&mut self.look).await?;
            if page.is_empty() {
                return Ok(());
            }
            for row in &page {
                let link = read(LinkIn::read(row), &LINK_IN)?;
                let from = lane_of(&link.from_topic, link.from_partition);
                let sent = self.sent_now(&from, to).await?;
                if link.mark > sent {
                    let says = format!("{to} has taken {} messages of the link and {from} has sent {sent}", link.mark);
                    let finding =
                        Finding::new(Class::LinkBeyondSent, format!("{from} to {to}"), says, show_lane(&from));
                    self.report.find(finding.with("sent", sent).row(&LINK_IN, row));
                }
            }
        }
    }
}
