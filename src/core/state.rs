//! What a lane knows of its rows, and what the batch under way has changed of them.
//!
//! Small ledgers (held, quarantine, waiting, links) are resident: read whole at the claim, so absence is
//! known. Other rows are cached, in two generations so that the cache stays bounded without bookkeeping
//! per read. What is asked for and not known is noted: the lane loads it and decides again from the
//! start of the batch. The whole is thrown away when the lane is lost or a commit fails; never patched.

use std::{
    cell::RefCell,
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    hash::{Hash, Hasher},
    sync::Arc,
};

use super::{
    fence::Writes,
    ledger::{
        COMMAND, COMMAND_LOG, DEAD_LETTER, HELD, JOURNAL, LINK_IN, LINK_OUT, PARKED, PASSED, QUARANTINE, SAGA_STEP,
        SEEN, TIMER, WAITING,
    },
    lookup::Lookup,
    rows,
    table::{Change, Key, Row, Table, Value, Want},
};

/// The tables that are read whole at the claim.
pub static RESIDENT: [&Table; 5] = [&HELD, &QUARANTINE, &WAITING, &LINK_IN, &LINK_OUT];

/// The tables whose rows are asked for once: what is known of them is forgotten with the batch. An id is new for
/// each event; to keep it known would fill the memory with what nobody asks for again.
static PASSING: [&Table; 8] = [&SEEN, &PASSED, &TIMER, &PARKED, &COMMAND, &COMMAND_LOG, &DEAD_LETTER, &SAGA_STEP];

/// Where a row stands.
#[derive(Clone, Debug)]
pub struct Address {
    pub(crate) table: &'static Table,
    pub(crate) key: Key,
}

impl Address {
    /// The row of `table` with this whole key.
    #[must_use]
    pub fn new(table: &'static Table, key: Key) -> Self {
        Self { table, key }
    }

    /// The row of `R` with this whole key, which begins with the entity's id.
    #[must_use]
    pub fn of<R: rows::Row>(key: Key) -> Self {
        Self::new(R::table(), key)
    }
}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        let (own, others) = (self.table, other.table);
        let same = std::ptr::eq(own, others) || (own.schema, own.name) == (others.schema, others.name);
        same && self.key == other.key
    }
}

impl Eq for Address {}

impl Hash for Address {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.table.name.hash(state);
        self.key.hash(state);
    }
}

impl Ord for Address {
    fn cmp(&self, other: &Self) -> Ordering {
        if std::ptr::eq(self.table, other.table) {
            return self.key.cmp(&other.key);
        }
        (self.table.schema, self.table.name)
            .cmp(&(other.table.schema, other.table.name))
            .then_with(|| self.key.cmp(&other.key))
    }
}

impl PartialOrd for Address {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Something that a decision needs and the lane does not know yet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// A row, there or not.
    Row(Address),
    /// Journal rows whose key begins so: has this number been taken, and with what content?
    Prior(Key),
    /// The first rows of a table whose key begins so, at most this many.
    Page(Address, usize),
}

/// A row that is there or not. Shared with what it was before the batch, so that only what is changed is copied.
type Known = Option<Arc<Row>>;

/// Rows known to a lane.
#[derive(Debug, Default)]
pub struct State {
    resident: BTreeMap<&'static str, BTreeMap<Key, Arc<Row>>>,
    young: Lookup<Address, Known>,
    old: Lookup<Address, Known>,
    passing: Lookup<Address, Known>,
    /// Answers to the batch's `Prior` and `Page` needs.
    answers: BTreeMap<Need, Vec<Row>>,
    before: Lookup<Address, Known>,
    appended: BTreeMap<&'static str, (&'static Table, Vec<Row>)>,
    needs: RefCell<BTreeSet<Need>>,
}

fn is_resident(table: &Table) -> bool {
    RESIDENT.iter().any(|resident| std::ptr::eq(*resident, table))
}

fn is_passing(table: &Table) -> bool {
    PASSING.iter().any(|passing| std::ptr::eq(*passing, table))
}

impl State {
    /// What is known of a row: nothing, that it is absent, or its cells.
    #[must_use]
    pub fn get(&self, address: &Address) -> Option<Option<&Row>> {
        self.shared(address).map(|row| row.map(AsRef::as_ref))
    }

    /// As [`State::get`]; the row can be kept at no cost.
    fn shared(&self, address: &Address) -> Option<Option<&Arc<Row>>> {
        if is_resident(address.table) {
            return Some(self.resident.get(address.table.name).and_then(|rows| rows.get(&address.key)));
        }
        let known = if is_passing(address.table) {
            self.passing.get(address)
        } else {
            self.young.get(address).or_else(|| self.old.get(address))
        };
        known.map(Option::as_ref)
    }

    /// Whether a row is known, there or not; if it is unknown the need is noted.
    #[must_use]
    pub fn has(&self, address: &Address) -> bool {
        let known = self.get(address).is_some();
        if !known {
            self.needs.borrow_mut().insert(Need::Row(address.clone()));
        }
        known
    }

    /// The rows that answer a `Prior` or `Page`; if they are unknown the need is noted.
    #[must_use]
    pub fn rows(&self, need: Need) -> Option<&[Row]> {
        if let Some(rows) = self.answers.get(&need) {
            return Some(rows);
        }
        self.needs.borrow_mut().insert(need);
        None
    }

    /// Whether something was asked for that is not known: the batch cannot be decided yet.
    #[must_use]
    pub fn is_short(&self) -> bool {
        !self.needs.borrow().is_empty()
    }

    /// Takes the needs that were noted, gathered into few wants.
    pub fn take_needs(&mut self) -> Needs {
        let mut keys: BTreeMap<(bool, &str, &str), (&'static Table, Vec<Key>)> = BTreeMap::new();
        let mut pages = Vec::new();
        for need in std::mem::take(self.needs.get_mut()) {
            let (prior, table, key) = match need {
                Need::Row(address) => (false, address.table, address.key),
                Need::Prior(key) => (true, &JOURNAL, key),
                Need::Page(address, limit) => {
                    pages.push((address, limit));
                    continue;
                }
            };
            keys.entry((prior, table.schema, table.name)).or_insert_with(|| (table, Vec::new())).1.push(key);
        }
        Needs { keys: keys.into_iter().map(|((prior, ..), (table, keys))| (prior, table, keys)).collect(), pages }
    }

    /// Takes in what was loaded for [`Needs::wants`].
    pub fn answer(&mut self, needs: Needs, loaded: Vec<Vec<Row>>) {
        let mut loaded = loaded.into_iter();
        for (prior, table, keys) in needs.keys {
            let rows = loaded.next().unwrap_or_default();
            if prior {
                for key in keys {
                    let found = rows.iter().filter(|row| row.starts_with(&key)).cloned().collect();
                    self.answers.insert(Need::Prior(key), found);
                }
                continue;
            }
            for key in keys {
                self.admit(Address::new(table, key), None);
            }
            for row in rows {
                self.admit(Address::new(table, row[..table.key].to_vec()), Some(row));
            }
        }
        for ((address, limit), rows) in needs.pages.into_iter().zip(loaded) {
            for row in &rows {
                self.admit(Address::new(address.table, row[..address.table.key].to_vec()), Some(row.clone()));
            }
            self.answers.insert(Need::Page(address, limit), rows);
        }
    }

    /// Takes in a row as the database holds it; `None` for one that it has not.
    pub fn admit(&mut self, address: Address, row: Option<Row>) {
        if row.is_some() || !is_resident(address.table) {
            self.put(address, row.map(Arc::new));
        }
    }

    fn cache(&mut self, address: Address, row: Known) {
        let rows = if is_passing(address.table) { &mut self.passing } else { &mut self.young };
        rows.insert(address, row);
    }

    /// Resident rows whose key begins with `prefix`, in key order.
    pub fn scan<'a>(&'a self, table: &'static Table, prefix: &'a [Value]) -> impl Iterator<Item = (&'a Key, &'a Row)> {
        debug_assert!(is_resident(table), "only resident tables are known whole");
        let rows = self.resident.get(table.name).into_iter();
        let range = move |rows: &'a BTreeMap<Key, Arc<Row>>| rows.range(prefix.to_vec()..);
        rows.flat_map(range).take_while(move |(key, _)| key.starts_with(prefix)).map(|(key, row)| (key, row.as_ref()))
    }

    /// How many rows of a resident table there are.
    #[must_use]
    pub fn count(&self, table: &'static Table) -> usize {
        self.resident.get(table.name).map_or(0, BTreeMap::len)
    }

    /// Writes a row, or removes it. What it was before must be known.
    pub fn set(&mut self, address: Address, row: Option<Row>) {
        self.note_before(&address);
        self.put(address, row.map(Arc::new));
    }

    /// Changes cells of a row, if it is there. Says whether it is.
    pub fn change(&mut self, address: &Address, change: impl FnOnce(&mut Row)) -> bool {
        debug_assert!(!is_resident(address.table) && !is_passing(address.table), "only rows that are kept are changed");
        let Some(Some(row)) = self.shared(address) else { return false };
        if !self.young.contains_key(address) {
            let row = Arc::clone(row);
            self.young.insert(address.clone(), Some(row));
        }
        self.note_before(address);
        if let Some(Some(row)) = self.young.get_mut(address) {
            // What it was before is shared with it until it is changed for the first time: then it is copied.
            change(Arc::make_mut(row));
        }
        true
    }

    fn note_before(&mut self, address: &Address) {
        if !self.before.contains_key(address) {
            let before = self.shared(address).expect("a row is known before it is written");
            self.before.insert(address.clone(), before.cloned());
        }
    }

    fn put(&mut self, address: Address, row: Known) {
        if is_resident(address.table) {
            let rows = self.resident.entry(address.table.name).or_default();
            match row {
                Some(row) => rows.insert(address.key, row),
                None => rows.remove(&address.key),
            };
        } else {
            self.cache(address, row);
        }
    }

    /// Adds a row to an insert-only table; it is not kept in memory.
    pub fn append(&mut self, table: &'static Table, row: Row) {
        self.appended.entry(table.name).or_insert_with(|| (table, Vec::new())).1.push(row);
    }

    /// Takes back all that the batch has changed: it is decided again from the start.
    pub fn roll_back(&mut self) {
        for (address, row) in std::mem::take(&mut self.before).into_sorted() {
            self.put(address, row);
        }
        self.appended.clear();
    }

    /// The batch's writes, at most one a row, tables in the order of their names.
    pub fn take_writes(&mut self) -> Writes {
        let mut writes: BTreeMap<(&str, &str), (&'static Table, Vec<Change>)> = BTreeMap::new();
        for (address, before) in std::mem::take(&mut self.before).into_sorted() {
            // What passes is not asked for again, so it need not be copied.
            let passing = self.passing.remove(&address).flatten();
            let after = passing.or_else(|| self.shared(&address).flatten().cloned());
            let change = match (before, after) {
                (None, None) => continue,
                (None, Some(row)) => Change::Insert(Arc::unwrap_or_clone(row)),
                (Some(_), None) => Change::Delete(address.key),
                (Some(before), Some(row)) if *before == *row => continue,
                (Some(before), Some(row)) => {
                    let version = address.table.version.map(|at| &before[at]);
                    let expected_version = if let Some(Value::Int(version)) = version { Some(*version) } else { None };
                    Change::Update { row, expected_version }
                }
            };
            let slot = (address.table.schema, address.table.name);
            writes.entry(slot).or_insert_with(|| (address.table, Vec::new())).1.push(change);
        }
        for (table, rows) in std::mem::take(&mut self.appended).into_values() {
            let slot = writes.entry((table.schema, table.name)).or_insert_with(|| (table, Vec::new()));
            slot.1.extend(rows.into_iter().map(Change::Insert));
        }
        self.answers.clear();
        self.passing.clear();
        writes.into_values().collect()
    }

    /// Lets the older generation go once the younger holds `rows_max`; only between batches.
    pub fn age(&mut self, rows_max: usize) {
        if self.young.len() >= rows_max {
            self.old = std::mem::take(&mut self.young);
        }
    }
}

/// What a lane must load before it can decide.
#[derive(Debug)]
pub struct Needs {
    keys: Vec<(bool, &'static Table, Vec<Key>)>,
    pages: Vec<(Address, usize)>,
}

impl Needs {
    /// What to ask the store for: a statement a table, and one a page.
    #[must_use]
    pub fn wants(&self) -> Vec<(&'static Table, Want)> {
        let keys = self.keys.iter().map(|(_, table, keys)| (*table, Want::Keys(keys.clone())));
        let pages = self.pages.iter().map(|(address, limit)| {
            (address.table, Want::Scan { prefix: address.key.clone(), after: None, limit: *limit })
        });
        keys.chain(pages).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Address, State};
    use crate::core::{
        ledger::{SEEN, STRAY},
        table::Value,
    };

    #[test]
    fn what_is_asked_for_once_is_forgotten_with_the_batch() {
        let mut state = State::default();
        let names = |count: usize| (0..count).map(|_| Value::text("x"));
        let id = Address::new(&SEEN, names(4).collect());
        let marks = Address::new(&STRAY, names(2).collect());
        for address in [&id, &marks] {
            state.admit(address.clone(), None);
            assert!(state.has(address));
        }
        let _written = state.take_writes();
        assert!(state.get(&id).is_none());
        assert!(state.get(&marks).is_some());
    }
}
