//! Every version has its event: the applied rows of an entity's journal are dense from 1, and the last is its row's
//! version. Also: a row stands where its key belongs, and no journal row names a record that its lane has not reached.
//!
//! An entity's row is read before its journal, so each version that the row has is there; what goes further than the row
//! is compared with the row once more.

use super::{
    Class, Error, Finding, Fsck, Scan,
    bits::Bits,
    lane_of,
    look::Look,
    read,
    rows::{JOURNAL, Journal},
};
use crate::core::{
    kind::AnyKind,
    partition::partition_of,
    table::{Key, Row, Table, Value},
};

/// What the journal says of one entity.
#[derive(Debug, Default)]
struct Versions {
    seen: Bits,
    first: Option<i64>,
    last: i64,
    /// The first row whose version another row has.
    twice: Option<Row>,
}

/// What is wrong with the versions of an entity.
#[derive(Debug, PartialEq, Eq)]
enum Problem {
    Missing(i64),
    Twice,
    Beyond,
    NoEntity,
}

impl Versions {
    fn add(&mut self, journal: &Journal, row: Row) {
        let Some(version) = journal.version.filter(|_| journal.outcome == "applied") else { return };
        self.first = Some(self.first.map_or(version, |first| first.min(version)));
        self.last = self.last.max(version);
        if !self.seen.add(version) {
            self.twice.get_or_insert(row);
        }
    }

    /// `before`: the version of the entity's row before the journal was read, none if it had no row; `after`: the same
    /// after it.
    /// `from_one`: whether the journal reaches back to the entity's first event; else it is dense from what is kept.
    fn problem(&self, before: Option<i64>, after: Option<i64>, from_one: bool) -> Option<Problem> {
        if self.twice.is_some() {
            return Some(Problem::Twice);
        }
        let Some(after) = after else { return self.first.map(|_| Problem::NoEntity) };
        if self.last > after {
            return Some(Problem::Beyond);
        }
        let upto = self.last.max(before.unwrap_or(0));
        // Where nothing is kept, all that was may have been forgotten.
        let first = if from_one { 1 } else { self.first.unwrap_or(upto + 1) };
        self.seen.first_missing(first, upto).map(Problem::Missing)
    }
}

impl Fsck {
    /// All kinds that keep a journal, and the homes of all.
    pub(super) async fn entities(&mut self) -> Result<(), Error> {
        let homes: Vec<String> = self.catalog.home_topics().map(str::to_owned).collect();
        for home in homes {
            let Some(kind) = self.catalog.at(&home).cloned() else { continue };
            self.homes(&home, &*kind).await?;
            self.journal(&home, &*kind).await?;
        }
        Ok(())
    }

    async fn homes(&mut self, home: &str, kind: &dyn AnyKind) -> Result<(), Error> {
        let (main, count) = (kind.main(), self.catalog.partitions_of(home).unwrap_or(1));
        let at = main.version.ok_or(Error::Unfit(main.name))?;
        let mut scan = Scan::new(main, Key::new());
        while let Some(row) = scan.next(&mut self.look).await? {
            let (Value::Text(entity_id), Value::Int(partition)) = (&row[0], &row[at + 1]) else {
                return Err(Error::Unfit(main.name));
            };
            let belongs = partition_of(entity_id.as_bytes(), count);
            if *partition != i64::from(belongs) {
                let name = kind.name();
                let says = format!("its row says partition {partition}, and its key belongs to {belongs} of {count}");
                let mend = format!("seriatim entity show {name} {entity_id}");
                let finding = Finding::new(Class::EntityHome, format!("{name} {entity_id}"), says, mend);
                self.report.find(finding.of(name, entity_id).with("partition", *partition).with("belongs_to", belongs));
            }
        }
        Ok(())
    }

    /// Merges the main table with the journal, both by entity. Suspects are looked at once more, one by one.
    async fn journal(&mut self, home: &str, kind: &dyn AnyKind) -> Result<(), Error> {
        let mut main = Scan::new(kind.main(), Key::new());
        let mut journal = Scan::new(&JOURNAL, vec![Value::text(kind.name())]);
        let mut next_main = next_version(kind.main(), &mut main, &mut self.look).await?;
        let mut next_row = self.next_journal(home, &mut journal).await?;
        loop {
            let of_main = next_main.as_ref().map(|(id, _)| id.as_str());
            let of_row = next_row.as_ref().map(|(journal, _)| journal.entity_id.as_str());
            let Some(entity_id) = of_main.into_iter().chain(of_row).min().map(str::to_owned) else { return Ok(()) };
            let mut versions = Versions::default();
            while let Some((journal_row, row)) = next_row.take_if(|(journal, _)| journal.entity_id == entity_id) {
                versions.add(&journal_row, row);
                next_row = self.next_journal(home, &mut journal).await?;
            }
            let mut version = None;
            if let Some((_, found)) = next_main.take_if(|(id, _)| *id == entity_id) {
                version = Some(found);
                next_main = next_version(kind.main(), &mut main, &mut self.look).await?;
            }
            if kind.journaled() {
                self.report.entities += 1;
                if versions.problem(version, version, self.reaches_back(home, &entity_id)).is_some() {
                    self.settle_versions(home, kind, &entity_id).await?;
                }
            }
        }
    }

    /// The next row of the journal. Each names a record that its lane has passed: the lane's row is read after it where
    /// the one that is known does not say so.
    async fn next_journal(&mut self, home: &str, scan: &mut Scan) -> Result<Option<(Journal, Row)>, Error> {
        let Some(row) = scan.next(&mut self.look).await? else { return Ok(None) };
        let journal = read(Journal::read(&row), &JOURNAL)?;
        let lane = lane_of(&journal.topic, journal.partition);
        let offset = journal.record_offset;
        let known = self.lanes.get(&lane).filter(|known| offset < known.fence.next_offset || known.incarnation > 1);
        if known.is_none() && journal.topic == home {
            let now = self.look.lane(&lane).await?;
            let next = now.as_ref().map_or(0, |now| now.fence.next_offset);
            if offset >= next && now.as_ref().is_none_or(|now| now.incarnation == 1) {
                self.find_beyond(&lane, &JOURNAL, &row, offset, next);
            }
            self.lanes.extend(now.map(|now| (lane, now)));
        }
        Ok(Some((journal, row)))
    }

    /// Whether the journal must reach back to an entity's first event.
    fn reaches_back(&self, home: &str, entity_id: &str) -> bool {
        let count = self.catalog.partitions_of(home).unwrap_or(1);
        self.young.contains(&lane_of(home, partition_of(entity_id.as_bytes(), count).into()))
    }

    async fn settle_versions(&mut self, home: &str, kind: &dyn AnyKind, entity_id: &str) -> Result<(), Error> {
        let before = version_of(&mut self.look, kind, entity_id).await?;
        let mut versions = Versions::default();
        let mut scan = Scan::new(&JOURNAL, vec![Value::text(kind.name()), Value::text(entity_id)]);
        while let Some(row) = scan.next(&mut self.look).await? {
            versions.add(&read(Journal::read(&row), &JOURNAL)?, row);
        }
        let after = version_of(&mut self.look, kind, entity_id).await?;
        let from_one = self.reaches_back(home, entity_id);
        let Some(problem) = versions.problem(before, after, from_one) else { return Ok(()) };
        let (class, says) = match problem {
            Problem::Missing(version) => {
                (Class::VersionMissing, format!("no event of its journal has version {version}"))
            }
            Problem::Twice => (Class::VersionTwice, "two events of its journal have one version".to_owned()),
            Problem::Beyond => {
                let (last, row) = (versions.last, after.unwrap_or_default());
                (Class::VersionBeyondRow, format!("its journal goes up to version {last} and its row is at {row}"))
            }
            Problem::NoEntity => (Class::EntityMissing, "events of it were applied and it has no row".to_owned()),
        };
        let name = kind.name();
        let mend = format!("seriatim entity show {name} {entity_id}");
        let finding = Finding::new(class, format!("{name} {entity_id}"), says, mend).of(name, entity_id);
        let finding = finding.with("row_version", after).with("first_journal_version", versions.first);
        let finding = finding.with("last_journal_version", versions.last);
        self.report.find(match versions.twice {
            Some(row) => finding.row(&JOURNAL, &row),
            None => finding,
        });
        Ok(())
    }
}

async fn next_version(main: &'static Table, scan: &mut Scan, look: &mut Look) -> Result<Option<(String, i64)>, Error> {
    scan.next(look).await?.map(|row| version_in(main, &row)).transpose()
}

async fn version_of(look: &mut Look, kind: &dyn AnyKind, entity_id: &str) -> Result<Option<i64>, Error> {
    let row = look.one(kind.main(), vec![Value::text(entity_id)]).await?;
    row.map(|row| Ok(version_in(kind.main(), &row)?.1)).transpose()
}

fn version_in(main: &'static Table, row: &Row) -> Result<(String, i64), Error> {
    match (&row[0], main.version.and_then(|at| row.get(at))) {
        (Value::Text(entity_id), Some(Value::Int(version))) => Ok((entity_id.clone(), *version)),
        _ => Err(Error::Unfit(main.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Problem, Versions};

    fn of(versions: &[i64]) -> Versions {
        let mut found = Versions::default();
        for version in versions {
            found.first = Some(found.first.map_or(*version, |first: i64| first.min(*version)));
            found.last = found.last.max(*version);
            if !found.seen.add(*version) {
                found.twice = Some(Vec::new());
            }
        }
        found
    }

    #[test]
    fn versions_are_dense_from_one_up_to_the_row() {
        assert_eq!(of(&[2, 1, 3]).problem(Some(3), Some(3), true), None);
        assert_eq!(of(&[]).problem(None, None, true), None);
        assert_eq!(of(&[2, 3]).problem(Some(3), Some(3), true), Some(Problem::Missing(1)));
        assert_eq!(of(&[1, 2]).problem(Some(3), Some(3), true), Some(Problem::Missing(3)));
        assert_eq!(of(&[1, 2, 2]).problem(Some(2), Some(2), true), Some(Problem::Twice));
        assert_eq!(of(&[1]).problem(None, None, true), Some(Problem::NoEntity));
    }

    #[test]
    fn of_a_journal_that_was_trimmed_versions_are_dense_from_what_is_kept() {
        assert_eq!(of(&[4, 5]).problem(Some(5), Some(5), false), None);
        assert_eq!(of(&[]).problem(Some(5), Some(5), false), None);
        assert_eq!(of(&[4, 6]).problem(Some(6), Some(6), false), Some(Problem::Missing(5)));
        assert_eq!(of(&[4, 5]).problem(Some(5), Some(5), true), Some(Problem::Missing(1)));
    }

    #[test]
    fn what_comes_while_the_journal_is_read_is_no_problem() {
        assert_eq!(of(&[1, 2, 3]).problem(Some(2), Some(3), true), None);
        assert_eq!(of(&[1, 2]).problem(Some(2), Some(5), true), None);
        assert_eq!(of(&[1, 2, 3]).problem(Some(2), Some(2), true), Some(Problem::Beyond));
    }
}
