//! What came of it: outcomes, sagas, races, invariants, and what to try next.

use std::collections::BTreeMap;

use seriatim::{core::event::Reason, failure::Exit};

use super::{
    check::{self, Topics},
    races::Losses,
    screen::Screen,
    stream::Stream,
    tables::Tables,
    world::{self, World},
};

/// The final outcomes in the contract's words.
const FINAL: [&str; 5] = ["applied", "refused", "duplicate", "skipped", "dead_lettered"];
const SAGA_STATUSES: [&str; 5] = ["completed", "compensated", "running", "compensating", "needs_operator"];

/// Says what is fed.
pub fn stream(screen: &mut Screen, stream: &Stream) {
    let troubles = stream.troubles;
    screen.say(&format!("Feeding {} records, out of order: among them", stream.len()));
    screen.say(&format!(
        "  {} repeats, {} contradicting copies, {} far too late, {} malformed or misplaced; {} never come",
        troubles.repeated, troubles.conflicting, troubles.late, troubles.bad, troubles.missing,
    ));
}

/// All that is shown at the end.
pub struct Report<'a> {
    pub world: &'a World,
    pub tables: &'a Tables,
    pub topics: &'a Topics,
    pub textbook: Losses,
}

impl Report<'_> {
    /// Shows it, and says how the process ends.
    pub fn show(&self, screen: &mut Screen) -> Exit {
        self.outcomes(screen);
        self.letters(screen);
        self.sagas(screen);
        self.races(screen);
        let exit = self.invariants(screen);
        self.next(screen);
        exit
    }

    fn outcomes(&self, screen: &mut Screen) {
        let ended = self.world.metrics.ended();
        let count = |outcome: &str| ended.get(outcome).copied().unwrap_or_default().to_string();
        let under_way = &self.tables.under_way;
        screen.say(&format!("\nWhat became of {} records, the worker's own messages included", self.topics.records));
        let mut rows: Vec<Vec<String>> =
            FINAL.iter().map(|outcome| vec![(*outcome).to_owned(), count(outcome)]).collect();
        let parked = under_way.parked.iter().filter(|row| row.what == "record").count();
        for (name, count) in [("held", under_way.held.len()), ("waiting", under_way.waiting.len()), ("parked", parked)]
        {
            rows.push(vec![name.to_owned(), count.to_string()]);
        }
        screen.table(&rows);
        for row in &under_way.quarantines {
            screen.say(&format!("    in quarantine: {} {}: {}", row.kind, row.entity_id, row.error));
        }
    }

    fn letters(&self, screen: &mut Screen) {
        screen.say("\nDead letters, by reason");
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for letter in &self.tables.letters {
            *counts.entry(&letter.reason).or_default() += 1;
        }
        let count = |reason: &str| counts.get(reason).copied().unwrap_or_default().to_string();
        let rows: Vec<Vec<String>> =
            Reason::ALL.iter().map(|reason| vec![reason.as_str().to_owned(), count(reason.as_str())]).collect();
        screen.table(&rows);
    }

    fn sagas(&self, screen: &mut Screen) {
        screen.say("\nCheckouts");
        let sagas = &self.tables.under_way.sagas;
        let rows = SAGA_STATUSES.iter().map(|status| {
            let of_status = sagas.iter().filter(|saga| saga.status == *status);
            let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
            of_status.clone().filter_map(|saga| saga.reason.as_deref()).for_each(|reason| {
                *reasons.entry(reason).or_default() += 1;
            });
            let reasons: Vec<String> = reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
            vec![(*status).to_owned(), of_status.count().to_string(), reasons.join(", ")]
        });
        screen.table(&rows.collect::<Vec<_>>());
        let refunded = self.tables.payments.iter().filter(|payment| payment.refunded_minor > 0).count();
        screen.say(&format!("  {refunded} payments were given back"));
    }

    fn races(&self, screen: &mut Screen) {
        let (textbook, seriatim) = (self.textbook, check::losses(self.tables));
        screen.say("\nThe same races, by a textbook consumer of four tasks and by seriatim");
        let row = |name: &str, one: i64, other: i64| vec![name.to_owned(), one.to_string(), other.to_string()];
        screen.table(&[
            vec![String::new(), "textbook".to_owned(), "seriatim".to_owned()],
            row("units oversold when two buyers want the last one", textbook.oversold, seriatim.oversold),
            row("profile updates lost between two devices", textbook.updates, seriatim.updates),
            row("increments lost by concurrent counters", textbook.increments, seriatim.increments),
        ]);
    }

    fn invariants(&self, screen: &mut Screen) -> Exit {
        screen.say("\nInvariants at rest");
        let checks = check::all(self.tables, self.topics, self.world.metrics.ended().values().sum());
        for line in checks.iter().flat_map(check::Check::lines) {
            screen.say(&line);
        }
        check::verdict(&checks)
    }

    fn next(&self, screen: &mut Screen) {
        let set = format!("--set database.url={}", world::database_url(&self.world.folder));
        screen.say("\nLook around; the database is kept");
        if let Some(unwell) = self.tables.under_way.quarantines.first() {
            screen.say(&format!("  seriatim entity show {} {} {set}", unwell.kind, unwell.entity_id));
        }
        if let Some(undone) = self.tables.under_way.sagas.iter().find(|saga| saga.status == "compensated") {
            screen.say(&format!("  seriatim saga show {} {set}", undone.saga_id));
        }
        screen.say(&format!("  seriatim saga list --status compensated {set}"));
        screen.say(&format!("  seriatim dlq list {set}"));
        if let Some(letter) = self.tables.letters.first() {
            screen.say(&format!(
                "  seriatim dlq show {} {} {} {set}",
                letter.topic, letter.partition, letter.record_offset
            ));
        }
        screen.say(&format!("  rm -r {}", self.world.folder.display()));
    }
}
