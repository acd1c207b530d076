//! What the worker's database holds, read through the store as any program of the library could.

use std::collections::BTreeSet;

use anyhow::Context as _;
use seriatim::{
    core::{
        ledger::{
            COMMAND_LOG, CommandLog, DEAD_LETTER, DeadLetter, HELD, Held, JOURNAL, Journal, LINK_IN, LINK_OUT, LinkIn,
            LinkOut, PARKED, Parked, QUARANTINE, Quarantine, SAGA, Saga, WAITING, Waiting,
        },
        rows::Row as _,
        table::{Row, Table, Want},
    },
    shop::{
        counter::Counter,
        payment::Payment,
        profile::Profile,
        purchase::{Line, Purchase},
        stock::{Item, Reservation},
    },
    store::Session,
};

use super::world;

/// Rows read at once.
const PAGE_ROWS: usize = 2_000;

/// All tables that the demo looks at.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    pub stock: Vec<Item>,
    pub reservations: Vec<Reservation>,
    pub purchases: Vec<Purchase>,
    pub lines: Vec<Line>,
    pub payments: Vec<Payment>,
    pub profiles: Vec<Profile>,
    pub counters: Vec<Counter>,
    pub journal: Vec<Journal>,
    pub letters: Vec<DeadLetter>,
    pub under_way: UnderWay,
}

/// What is not at rest, if anything, and what tells that.
#[derive(Clone, Debug, Default)]
pub struct UnderWay {
    pub held: Vec<Held>,
    pub parked: Vec<Parked>,
    pub waiting: Vec<Waiting>,
    pub quarantines: Vec<Quarantine>,
    pub sagas: Vec<Saga>,
    pub links_out: Vec<LinkOut>,
    pub links_in: Vec<LinkIn>,
    pub orders_done: Vec<CommandLog>,
}

impl Tables {
    pub async fn load(session: &mut dyn Session) -> anyhow::Result<Self> {
        Ok(Self {
            stock: all(session, Item::table(), Item::from_cells).await?,
            reservations: all(session, Reservation::table(), Reservation::from_cells).await?,
            purchases: all(session, Purchase::table(), Purchase::from_cells).await?,
            lines: all(session, Line::table(), Line::from_cells).await?,
            payments: payments(session).await?,
            profiles: all(session, Profile::table(), Profile::from_cells).await?,
            counters: all(session, Counter::table(), Counter::from_cells).await?,
            journal: all(session, &JOURNAL, Journal::read).await?,
            letters: letters(session).await?,
            under_way: UnderWay::load(session).await?,
        })
    }
}

impl UnderWay {
    pub async fn load(session: &mut dyn Session) -> anyhow::Result<Self> {
        // A row with a place holds no record: it only lets others pass.
        let held: Vec<Held> = all(session, &HELD, Held::read).await?;
        Ok(Self {
            held: held.into_iter().filter(|row| row.place == 0).collect(),
            parked: all(session, &PARKED, Parked::read).await?,
            waiting: all(session, &WAITING, Waiting::read).await?,
            quarantines: all(session, &QUARANTINE, Quarantine::read).await?,
            sagas: all(session, &SAGA, Saga::read).await?,
            links_out: all(session, &LINK_OUT, LinkOut::read).await?,
            links_in: all(session, &LINK_IN, LinkIn::read).await?,
            orders_done: all(session, &COMMAND_LOG, CommandLog::read).await?,
        })
    }

    /// Sagas that have not ended.
    pub fn open_sagas(&self) -> usize {
        self.sagas.iter().filter(|saga| !matches!(saga.status.as_str(), "completed" | "compensated")).count()
    }

    /// The entities in quarantine, by kind and id.
    pub fn unwell(&self) -> BTreeSet<(&str, &str)> {
        self.quarantines.iter().map(|row| (row.kind.as_str(), row.entity_id.as_str())).collect()
    }

    /// Messages from lane to lane that were committed and are not taken yet.
    pub fn between_lanes(&self) -> i64 {
        let outside = self.sent_to(world::REQUESTS) + self.sent_to(world::OUTCOMES);
        let sent: i64 = self.links_out.iter().map(|link| link.sent).sum();
        sent - outside - self.links_in.iter().map(|link| link.mark).sum::<i64>()
    }

    /// Messages that were committed for a topic that no lane reads.
    pub fn sent_to(&self, topic: &str) -> i64 {
        self.links_out.iter().filter(|link| link.to_topic == topic).map(|link| link.sent).sum()
    }
}

pub async fn payments(session: &mut dyn Session) -> anyhow::Result<Vec<Payment>> {
    all(session, Payment::table(), Payment::from_cells).await
}

pub async fn letters(session: &mut dyn Session) -> anyhow::Result<Vec<DeadLetter>> {
    all(session, &DEAD_LETTER, DeadLetter::read).await
}

async fn all<T>(
    session: &mut dyn Session,
    table: &'static Table,
    read: fn(&[seriatim::core::table::Value]) -> Option<T>,
) -> anyhow::Result<Vec<T>> {
    let mut rows = Vec::new();
    let mut after = None;
    loop {
        let want = Want::Scan { prefix: Vec::new(), after: after.take(), limit: PAGE_ROWS };
        let page: Vec<Row> = session.load(&[(table, want)]).await?.into_iter().flatten().collect();
        let last = page.last().map(|row| row[..table.key].to_vec());
        let whole = page.len() < PAGE_ROWS;
        for row in page {
            rows.push(read(&row).with_context(|| format!("a row of {} does not fit", table.name))?);
        }
        match last {
            Some(key) if !whole => after = Some(key),
            _ => return Ok(rows),
        }
    }
}
