//! One change for each class of findings, and what `fsck` must say of it.

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    message::{Header, OwnedHeaders},
    producer::FutureRecord,
};
use seriatim::fsck::Class;

use crate::stage::{STEP, Stage, key_on};

/// What must be found.
#[derive(Debug)]
pub struct Expected {
    pub class: Class,
    pub about: String,
    /// Names in its evidence.
    pub evidence: &'static [&'static str],
}

/// Gathers what must be found.
struct Scene<'a> {
    stage: &'a Stage,
    expected: Vec<Expected>,
}

/// Changes everything that can be changed.
pub async fn everywhere(stage: &Stage) -> Vec<Expected> {
    let mut scene = Scene { stage, expected: Vec::new() };
    // What reads rows comes before what changes them.
    scene.records().await;
    scene.versions().await;
    scene.letters().await;
    scene.standing().await;
    scene.sagas().await;
    scene.laws().await;
    scene.messages().await;
    scene.lanes().await;
    scene.expected
}

impl Scene<'_> {
    fn expect(&mut self, class: Class, about: impl Into<String>, evidence: &'static [&'static str]) {
        self.expected.push(Expected { class, about: about.into(), evidence });
    }

    async fn sql(&self, sql: &str) {
        let changed = sqlx::query(sqlx::AssertSqlSafe(sql.to_owned())).execute(&self.stage.database.pool).await;
        let changed = changed.unwrap_or_else(|error| panic!("{sql}: {error}")).rows_affected();
        assert!(changed > 0, "changes nothing: {sql}");
    }

    async fn number(&self, sql: &str) -> i64 {
        self.stage.database.number(sql).await.unwrap_or_else(|| panic!("finds nothing: {sql}"))
    }

    fn topic(&self, name: &str) -> String {
        self.stage.topics.name(name)
    }

    fn lane(&self, topic: &str, key: &str) -> String {
        format!("{}/{}", self.topic(topic), Stage::partition(key))
    }

    /// Where the journal row of an entity's version says that its record stands.
    async fn offset(&self, entity: &str, version: i64) -> i64 {
        let sql =
            format!("select record_offset from seriatim.journal where entity_id = '{entity}' and version = {version}");
        self.number(&sql).await
    }

    async fn records(&mut self) {
        // Refused, by id: no version goes with it.
        let row = "seriatim.journal where entity_id = 'nothing' and event_id = 'less'";
        let offset = self.number(&format!("select record_offset from {row}")).await;
        self.sql(&format!("delete from {row}")).await;
        let about = format!("{} offset {offset}", self.lane("stock", "nothing"));
        self.expect(
            Class::RecordLost,
            about,
            &["topic", "partition", "offset", "entity_id", "event_id", "next_offset"],
        );

        let offset = self.offset("u-other", 3).await;
        self.sql("update seriatim.journal set digest = '\\x00' where entity_id = 'u-other' and version = 3").await;
        let about = format!("{} offset {offset}", self.lane("profiles", "u-other"));
        self.expect(Class::RecordOther, about, &["topic", "partition", "offset", "seriatim.journal"]);
    }

    async fn versions(&mut self) {
        // The first of two with one id is gone: the second has no twin, and the version no event.
        let offset = self.offset("u-lost", 2).await;
        self.sql("delete from seriatim.journal where entity_id = 'u-lost' and version = 2").await;
        self.expect(Class::VersionMissing, "profile u-lost", &["kind", "entity_id", "row_version"]);
        let about = format!("{} offset {offset}", self.lane("profiles", "u-lost"));
        self.expect(Class::RecordLost, about, &["sequence", "source"]);

        self.sql("update seriatim.journal set version = 1 where entity_id = 'u-twice' and version = 2").await;
        self.expect(Class::VersionTwice, "profile u-twice", &["seriatim.journal"]);
        self.sql("update shop.profile set version = 2 where user_id = 'u-beyond'").await;
        self.expect(Class::VersionBeyondRow, "profile u-beyond", &["row_version", "last_journal_version"]);
        self.sql("delete from shop.profile where user_id = 'u-missing'").await;
        self.expect(Class::EntityMissing, "profile u-missing", &["last_journal_version"]);
        self.sql("update shop.counter set partition = 9 where counter = 'c-0'").await;
        self.expect(Class::EntityHome, "counter c-0", &["partition", "belongs_to"]);
    }

    async fn letters(&mut self) {
        let topic = self.topic("profiles");
        let of = |entity: &str| format!("seriatim.dead_letter where reason = 'conflict' and entity_id = '{entity}'");
        let row = of("u-version");
        let offset = self.number(&format!("select record_offset from {row}")).await;
        self.sql(&format!("delete from {row}")).await;
        let about = format!("{} offset {offset}", self.lane("profiles", "u-version"));
        self.expect(Class::CopyWithoutLetter, about.as_str(), &["copy", "count", "offset"]);
        self.expect(Class::RecordLost, about, &["sequence"]);

        let row = format!("{} and sequence = 2", of("u-copied"));
        let offset = self.number(&format!("select record_offset from {row}")).await;
        self.sql(&format!("update seriatim.dead_letter set value = '\\x00' where topic = '{topic}' and record_offset = {offset} and entity_id = 'u-copied'")).await;
        let about = format!("{} offset {offset}", self.lane("profiles", "u-copied"));
        self.expect(Class::CopyOther, about, &["copy", "differs"]);

        // A letter beside an applied row.
        let (offset, partition) = (self.offset("u-other", 2).await, Stage::partition("u-other"));
        self.sql(&format!(
            "insert into seriatim.dead_letter (topic, partition, record_offset, status, reason, error, timestamp_ms, \
             headers, attempts, count, first_failed_at, failed_at) values ('{topic}', {partition}, {offset}, \
             'replayable', 'poison', '', 0, '[]', 1, 1, now(), now())"
        ))
        .await;
        let about = format!("{} offset {offset}", self.lane("profiles", "u-other"));
        self.expect(Class::RecordTwice, about.as_str(), &["outcomes", "seriatim.journal", "seriatim.dead_letter"]);
        self.expect(Class::LetterWithoutCopy, about, &["seriatim.dead_letter"]);
    }

    async fn standing(&mut self) {
        let topic = self.topic("payments");
        self.sql(&format!(
            "insert into seriatim.waiting (topic, partition, kind, entity_id, record_offset, source, timestamp_ms, \
             headers, waiting_since) values ('{topic}', 0, 'payment', 'pay-far', 999999, '/s', 0, '[]', now())"
        ))
        .await;
        self.expect(Class::RowBeyondLane, format!("{topic}/0 offset 999999"), &["next_offset", "seriatim.waiting"]);
        self.sql(
            "insert into seriatim.link_in (topic, partition, from_topic, from_partition, mark) \
             values ('nowhere', 3, 'elsewhere', 0, 1)",
        )
        .await;
        self.expect(Class::RowWithoutLane, "nowhere/3", &["topic", "partition", "seriatim.link_in"]);
        self.sql(&format!(
            "insert into seriatim.quarantine (topic, partition, kind, entity_id, status, cause, error, attempts, \
             first, next, since) values ('{topic}', 1, 'payment', 'pay-ill', 'quarantined', 'gap', '', 1, 0, 2, now())"
        ))
        .await;
        self.expect(Class::QuarantineBroken, "payment pay-ill", &["seriatim.quarantine", "parked"]);
        self.sql(&format!(
            "insert into seriatim.timer (topic, partition, due, purpose, kind, entity_id, name, time) \
             values ('{topic}', 2, now() + interval '1 day', 'entity', 'payment', 'pay-none', 'x', now())"
        ))
        .await;
        self.expect(Class::TimerWithoutEntity, "payment pay-none", &["seriatim.timer"]);
    }

    async fn sagas(&mut self) {
        self.sql(
            "update seriatim.saga set state = jsonb_set(state, '{deadline}', '1000000') where saga_id = 'overdue'",
        )
        .await;
        self.expect(Class::SagaOverdue, "checkout overdue", &["seriatim.saga"]);
        self.sql("delete from seriatim.timer where entity_id = 'asleep' and purpose = 'saga'").await;
        self.expect(Class::SagaWithoutTimer, "checkout asleep", &["seriatim.saga"]);
        self.sql("update seriatim.saga set status = 'needs_operator' where saga_id = 'stuck'").await;
        self.expect(Class::SagaNeedsOperator, "checkout stuck", &["seriatim.saga"]);
        self.sql(
            "insert into seriatim.debt (kind, entity_id, what, amount_minor, currency, status, since) \
             values ('payment', 'pay-told', 'refund', 5, 'EUR', 'needs_operator', now())",
        )
        .await;
        self.expect(Class::DebtNeedsOperator, "payment pay-told", &["seriatim.debt"]);
    }

    async fn laws(&mut self) {
        self.sql("update shop.stock set on_hand = on_hand + 1 where sku = 'law'").await;
        self.expect(Class::Law, "stock law", &["on_hand", "expected"]);
        self.sql("update shop.stock set reserved = reserved + 1 where sku = 'tea'").await;
        self.expect(Class::Law, "stock tea", &["reserved", "reservations"]);
        self.sql("update shop.reservation set status = 'released' where purchase_id = 'goods'").await;
        self.expect(Class::Law, "purchase goods", &["sku", "quantity"]);
        self.expect(Class::Law, "stock bag", &["on_hand", "committed"]);
        self.sql("update shop.payment set captured_minor = 50 where payment_id = 'pay-told'").await;
        self.expect(Class::Law, "purchase told", &["total_minor"]);
        self.sql("update shop.payment set status = 'refunding' where payment_id = 'pay-goods'").await;
        self.expect(Class::Law, "payment pay-goods", &["status"]);
    }

    async fn messages(&mut self) {
        let (purchases, outcomes, stock) =
            (self.topic("purchases"), self.topic("purchase-outcomes"), self.topic("stock"));
        // A message of an outgoing topic, changed in the outbox; another, whose rows say more than was sent.
        let link = |partition: i32| {
            format!("topic = '{purchases}' and to_topic = '{outcomes}' and to_partition = {partition}")
        };
        let row = format!("seriatim.outbox where {} and partition = 0 order by batch, idx limit 1", link(0));
        let (batch, index) = (
            self.number(&format!("select batch from {row}")).await,
            self.number(&format!("select idx from {row}")).await,
        );
        let at = format!("topic = '{purchases}' and partition = 0 and batch = {batch} and idx = {index}");
        self.sql(&format!("update seriatim.outbox set value = '\\x00' where {at}")).await;
        self.expect(Class::MessageOther, format!("{purchases}/0/{batch}/{index}"), &["differs", "offset", "topic"]);

        self.sql(&format!("update seriatim.link_out set sent = sent + 5 where {} and partition = 1", link(1))).await;
        self.expect(Class::MessageLost, format!("{purchases}/1 to {outcomes}/1"), &["first_lost", "last_lost", "sent"]);

        // To a lane of ours: forgotten before it was taken. And a mark beyond what was sent.
        let tea = Stage::partition("tea");
        let link = format!("topic = '{purchases}' and to_topic = '{stock}' and to_partition = {tea} and partition = 0");
        let sent = self.number(&format!("select sent from seriatim.link_out where {link}")).await;
        let row = format!("seriatim.outbox where {link} and link_sequence = {sent}");
        let (batch, index) = (
            self.number(&format!("select batch from {row}")).await,
            self.number(&format!("select idx from {row}")).await,
        );
        self.sql(&format!("delete from {row}")).await;
        let mark = format!("topic = '{stock}' and partition = {tea} and from_topic = '{purchases}'");
        self.sql(&format!("update seriatim.link_in set mark = mark - 1 where {mark} and from_partition = 0")).await;
        self.expect(Class::MessageForgotten, format!("{purchases}/0/{batch}/{index}"), &["mark", "link_sequence"]);
        // The lane's relayed mark may not have been written for the last one yet.
        self.sql(&format!("update seriatim.lane set relayed_batch = batch where topic = '{purchases}'")).await;
        self.sql(&format!("update seriatim.link_in set mark = mark + 1000 where {mark} and from_partition = 1")).await;
        self.expect(Class::LinkBeyondSent, format!("{purchases}/1 to {stock}/{tea}"), &["sent", "seriatim.link_in"]);

        // Written by somebody else: a number too far, at a place that is none; and one at a place of long ago.
        let sent = self.sent(&purchases, 2, &outcomes, 2).await;
        self.forge(&outcomes, 2, &format!("{purchases}/2/99999999/0"), sent + 3).await;
        self.expect(Class::MessageForeign, format!("{purchases}/2/99999999/0"), &["lane_batch", "offset", "topic"]);
        self.expect(Class::LinkGap, format!("{purchases}/2 to {outcomes}/2"), &["first_missing", "last_missing"]);
        self.expect(Class::LinkBeyondSent, format!("{purchases}/2 to {outcomes}/2"), &["read", "sent"]);
        let sent = self.sent(&purchases, 3, &outcomes, 3).await;
        self.forge(&outcomes, 3, &format!("{purchases}/3/0/0"), sent + 1).await;
        self.expect(Class::LinkOrder, format!("{purchases}/3/0/0"), &["before_batch", "link_sequence"]);
        self.expect(Class::LinkBeyondSent, format!("{purchases}/3 to {outcomes}/3"), &["read", "sent"]);
    }

    async fn sent(&self, from: &str, partition: i32, to: &str, to_partition: i32) -> i64 {
        let link = format!("topic = '{from}' and partition = {partition} and to_topic = '{to}'");
        self.number(&format!("select sent from seriatim.link_out where {link} and to_partition = {to_partition}")).await
    }

    async fn forge(&self, topic: &str, partition: i32, position: &str, number: i64) {
        let (source, number) = (format!("/seriatim/{}", position.split('/').next().unwrap()), number.to_string());
        let headers = [
            ("ce_specversion", "1.0"),
            ("ce_id", "forged"),
            ("ce_source", &source),
            ("ce_type", "purchase.completed"),
            ("seriatim_position", position),
            ("seriatim_sequence", &number),
        ];
        let headers = headers
            .into_iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }));
        let record = FutureRecord::to(topic).partition(partition).key("forged").payload("{}").headers(headers);
        self.stage.producer.send(record, STEP).await.map_err(|(error, _)| error).expect("deliver a record");
    }

    /// Lanes of counters, which nothing else here reads.
    async fn lanes(&mut self) {
        let topic = self.topic("activity");
        let end = |partition: i32| {
            format!("select next_offset from seriatim.lane where topic = '{topic}' and partition = {partition}")
        };
        let next = self.number(&end(0)).await;
        self.sql(&format!(
            "update seriatim.lane set next_offset = next_offset + 50 where topic = '{topic}' and partition = 0"
        ))
        .await;
        self.expect(Class::LaneBeyondTopic, format!("{topic}/0"), &["end", "oldest", "owner"]);
        assert!(next > 0, "a lane that has read nothing");
        let next = self.number(&end(1)).await;
        assert!(next > 5, "a lane that has read too little: {}", key_on("c", 1));
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", &self.stage.brokers).create().expect("make an admin client");
        let mut upto = TopicPartitionList::new();
        upto.add_partition_offset(&topic, 1, Offset::Offset(next - 1)).expect("an offset");
        admin.delete_records(&upto, &AdminOptions::new()).await.expect("delete records");
        self.sql(&format!(
            "update seriatim.lane set next_offset = 2, last_offset = 1 where topic = '{topic}' and partition = 1"
        ))
        .await;
        self.expect(Class::LaneBehindTopic, format!("{topic}/1"), &["end", "oldest"]);
        self.sql(&format!("update seriatim.lane set last_digest = '\\x00' where topic = '{topic}' and partition = 2"))
            .await;
        self.expect(Class::LaneOtherTopic, format!("{topic}/2"), &["offset", "read_timestamp_ms"]);
    }
}
