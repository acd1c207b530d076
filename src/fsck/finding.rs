//! What can be found, and where findings are gathered: the first of each class with their evidence, all of them counted.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use crate::core::{
    record::LaneId,
    table::{Row, Table, Value},
};

macro_rules! classes {
    ($($(#[$doc:meta])* $name:ident = $word:literal;)+) => {
        /// The classes of findings: a closed list, each word a line of `docs/fsck.md`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Class { $($(#[$doc])* $name,)+ }

        impl Class {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Its word.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }
        }
    };
}

classes! {
    /// A record that its lane has passed and that no table accounts for.
    RecordLost = "record_lost";
    /// A record that more than one row claims.
    RecordTwice = "record_twice";
    /// A journal row whose digest is not that of the record it names.
    RecordOther = "record_other";
    /// A row names an offset that its lane has not reached.
    RowBeyondLane = "row_beyond_lane";
    /// Rows of a lane that has no row of its own.
    RowWithoutLane = "row_without_lane";
    /// The lane's next offset is behind the end of its topic.
    LaneBeyondTopic = "lane_beyond_topic";
    /// The topic does not keep the lane's next offset any more.
    LaneBehindTopic = "lane_behind_topic";
    /// The record that the lane read last is another one.
    LaneOtherTopic = "lane_other_topic";
    /// An entity's journal lacks a version.
    VersionMissing = "version_missing";
    /// Two journal rows of an entity have one version.
    VersionTwice = "version_twice";
    /// An entity's journal goes further than its row.
    VersionBeyondRow = "version_beyond_row";
    /// An applied journal row of an entity that has no row.
    EntityMissing = "entity_missing";
    /// An entity's row names another partition than its key.
    EntityHome = "entity_home";
    /// A committed message is not in its topic.
    MessageLost = "message_lost";
    /// A message in a topic that its lane has never committed.
    MessageForeign = "message_foreign";
    /// A message in a topic is not what the outbox or an earlier copy says.
    MessageOther = "message_other";
    /// A message that its receiver has not taken has no row in the outbox any more.
    MessageForgotten = "message_forgotten";
    /// The numbers of a link rise by more than one in a topic.
    LinkGap = "link_gap";
    /// A message stands behind one that was committed later.
    LinkOrder = "link_order";
    /// A lane has taken more messages of a link than were sent.
    LinkBeyondSent = "link_beyond_sent";
    /// A dead letter has no copy in its topic.
    LetterWithoutCopy = "letter_without_copy";
    /// A copy of a dead letter has no row.
    CopyWithoutLetter = "copy_without_letter";
    /// A copy of a dead letter has other bytes than its row.
    CopyOther = "copy_other";
    /// Parked rows and the quarantine disagree.
    QuarantineBroken = "quarantine_broken";
    /// A timer of an entity that has no row.
    TimerWithoutEntity = "timer_without_entity";
    /// A saga has not moved though its deadline has passed.
    SagaOverdue = "saga_overdue";
    /// A saga waits for a timer that is not there.
    SagaWithoutTimer = "saga_without_timer";
    /// A saga that a person must look at.
    SagaNeedsOperator = "saga_needs_operator";
    /// A debt that a person must settle.
    DebtNeedsOperator = "debt_needs_operator";
    /// A law of the team's own does not hold.
    Law = "law";
}

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Which class.
    pub class: Class,
    /// What it is about: a place, a link, an entity.
    pub about: String,
    /// What is wrong with it: a sentence; no payload.
    pub says: String,
    /// The rows and numbers that show it.
    pub evidence: Map<String, Json>,
    /// The command that mends it, or that shows who must.
    pub mend: String,
}

impl Finding {
    /// A finding without evidence yet.
    pub fn new(class: Class, about: impl Into<String>, says: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { class, about: about.into(), says: says.into(), evidence: Map::new(), mend: mend.into() }
    }

    /// Adds to the evidence.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Json>) -> Self {
        self.evidence.insert(name.to_owned(), value.into());
        self
    }

    /// Adds where a record stands.
    #[must_use]
    pub fn at(self, lane: &LaneId, offset: i64) -> Self {
        self.with("topic", lane.topic.as_str()).with("partition", lane.partition).with("offset", offset)
    }

    /// Adds an entity.
    #[must_use]
    pub fn of(self, kind: &str, entity_id: &str) -> Self {
        self.with("kind", kind).with("entity_id", entity_id)
    }

    /// Adds a row, without bytes.
    #[must_use]
    pub fn row(self, table: &Table, row: &Row) -> Self {
        let shown = |value: &Value| match value {
            Value::Null => Json::Null,
            Value::Int(number) | Value::Time(number) => (*number).into(),
            Value::Text(text) => text.as_str().into(),
            Value::Json(text) => serde_json::from_str(text).unwrap_or(Json::Null),
            Value::Bytes(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into(),
        };
        let cells =
            table.columns.iter().zip(row).filter(|(column, _)| !["key", "value", "headers"].contains(&column.name));
        let cells: Map<String, Json> = cells.map(|(column, value)| (column.name.to_owned(), shown(value))).collect();
        let name = format!("{}.{}", table.schema, table.name);
        let mut finding = self;
        match finding.evidence.entry(name).or_insert_with(|| Json::Array(Vec::new())) {
            Json::Array(rows) => rows.push(Json::Object(cells)),
            _ => unreachable!("only rows stand under a table's name"),
        }
        finding
    }
}

/// All that a run has seen.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The first findings of each class.
    pub findings: Vec<Finding>,
    /// How many of each class there are.
    pub classes: BTreeMap<Class, u64>,
    /// Records that the lanes have passed, by what became of them.
    pub records: BTreeMap<&'static str, u64>,
    /// Messages of our lanes as they stand in topics, copies included.
    pub messages: u64,
    /// Copies of messages that stand in their topic before.
    pub repeats: u64,
    /// Entities whose journal was compared with their row.
    pub entities: u64,
    /// Suspicions that could not be settled: the lane never stood still for long enough.
    pub unsettled: u64,
    /// Laws that hold at rest only, and lanes that were not at rest.
    pub not_at_rest: u64,
    limit: u64,
}

impl Report {
    /// An empty one that keeps `limit` findings of each class.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Adds a finding.
    pub fn find(&mut self, finding: Finding) {
        let count = self.classes.entry(finding.class).or_insert(0);
        *count += 1;
        if *count <= self.limit {
            self.findings.push(finding);
        }
    }

    /// Counts a record.
    pub fn count(&mut self, outcome: &'static str) {
        *self.records.entry(outcome).or_insert(0) += 1;
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.classes.is_empty()
    }
}
