//! What only a real broker can show.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use seriatim::{
    broker::{Broker as _, Consumer as _, Event, Producer as _, Purged, Stopped},
    core::{message::Message, record::LaneId},
    kafka::{Cluster, Consumer, Difference, Manifest, Producer, Protocol, Settings},
};
use tokio::sync::mpsc::unbounded_channel;

use super::{
    sharing,
    support::{
        HANG, Member, broker, lane, message, offsets, send, send_all, send_numbers, settings, soon, take_reports,
        unique,
    },
};

fn manifest(topic: &str, partitions: i32, config: &[(&str, &str)]) -> Manifest {
    let config: BTreeMap<_, _> = config.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let (key, example) = ("the purchase's id".to_owned(), "{}".to_owned());
    Manifest { topic: topic.to_owned(), partitions, replicas: 1, config, key, example }
}

/// A topic of its own, and settings for a group of its own.
async fn topic(partitions: i32) -> (Settings, String) {
    let topic = unique("home");
    let settings = settings(&broker(), &unique("group"));
    let cluster = Cluster::new(&settings).unwrap();
    cluster.apply(&[manifest(&topic, partitions, &[])], HANG).await.unwrap();
    (settings, topic)
}

#[tokio::test]
async fn two_members_share_the_lanes_by_the_classic_protocol() {
    let (settings, topic) = topic(4).await;
    sharing::lanes_move_between_members_without_a_loss(&settings, &topic).await;
}

#[tokio::test]
async fn two_members_share_the_lanes_by_the_consumer_protocol() {
    let (settings, topic) = topic(4).await;
    let settings = Settings { protocol: Protocol::Consumer, ..settings };
    sharing::lanes_move_between_members_without_a_loss(&settings, &topic).await;
}

#[tokio::test]
async fn a_record_comes_back_as_it_was_sent() {
    let (settings, topic) = topic(1).await;
    let home = lane(&topic, 0);
    let full = Message {
        timestamp_ms: Some(1_700_000_000_123),
        key: Some([0, 255].into()),
        headers: [("ce_id", Some("1")), ("twice", Some("")), ("twice", None)].into_iter().collect(),
        ..message(&home, "value")
    };
    let empty = Message { key: Some([].into()), value: Some([].into()), ..message(&home, "") };
    let absent = Message { value: None, ..message(&home, "") };
    send_all(&settings, &[full.clone(), empty, absent]).await;
    let mut member = Member::join(&settings, &topic);
    member.until_granted(1).await;
    let records = member.open(&home, 0).records(3).await;
    assert_eq!(records[0].timestamp_ms, 1_700_000_000_123);
    assert_eq!((&records[0].key, &records[0].value, &records[0].headers), (&full.key, &full.value, &full.headers));
    assert_eq!((&records[1].key, &records[1].value), (&Some([].into()), &Some([].into())));
    assert_eq!((&records[2].key, &records[2].value), (&None, &None));
    assert!(records[2].timestamp_ms > 1_700_000_000_123, "the time of sending where none was given");
}

/// Sends `count` records in one transaction; on its own thread, because these calls block.
async fn transaction(settings: &Settings, to: &LaneId, count: usize, commit: bool) {
    let (brokers, to) = (settings.brokers.clone(), to.clone());
    let work = move || {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("transactional.id", unique("transaction"))
            .create()
            .unwrap();
        producer.init_transactions(HANG).unwrap();
        producer.begin_transaction().unwrap();
        for _ in 0..count {
            let record = BaseRecord::<(), str>::to(&to.topic).partition(to.partition).payload("x");
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(HANG).unwrap();
        if commit { producer.commit_transaction(HANG) } else { producer.abort_transaction(HANG) }.unwrap();
    };
    tokio::task::spawn_blocking(work).await.unwrap();
}

#[tokio::test]
async fn the_end_is_told_when_control_records_and_aborted_records_trail() {
    let (settings, topic) = topic(1).await;
    let home = lane(&topic, 0);
    transaction(&settings, &home, 3, true).await;
    let mut member = Member::join(&settings, &topic);
    member.until_granted(1).await;
    let reading = member.open(&home, 0);
    assert_eq!(offsets(&reading.records(3).await), [0, 1, 2]);
    reading.taken_up_to(4).await;

    transaction(&settings, &home, 2, false).await;
    reading.taken_up_to(7).await;

    transaction(&settings, &home, 1, true).await;
    assert_eq!(offsets(&reading.records(1).await), [7]);
    reading.taken_up_to(9).await;
    let position = member.consumer.positions()[&home];
    assert_eq!((position.next, position.end), (8, 9));
}

#[tokio::test]
async fn an_offset_beyond_the_end_loses_the_lane() {
    let (settings, topic) = topic(2).await;
    let (lost, well) = (lane(&topic, 0), lane(&topic, 1));
    send_numbers(&settings, &lost, 0, 3).await;
    let mut member = Member::join(&settings, &topic);
    member.until_granted(2).await;
    let other = member.open(&well, 0);
    let reading = member.open(&lost, 1000);
    let Event::Lost { lane, .. } = member.event().await else { panic!("no loss") };
    assert_eq!(lane, lost);
    assert!(reading.inbox.is_closed());
    send_numbers(&settings, &well, 0, 1).await;
    assert_eq!(offsets(&other.records(1).await), [0], "the other lane reads on");
    // Still granted: whoever has looked at it can open it again.
    assert_eq!(offsets(&member.open(&lost, 0).records(3).await), [0, 1, 2]);
}

#[tokio::test]
async fn an_offset_that_retention_has_overtaken_loses_the_lane() {
    let (settings, topic) = topic(1).await;
    let home = lane(&topic, 0);
    send_numbers(&settings, &home, 0, 5).await;
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &settings.brokers).create().unwrap();
    let mut upto = rdkafka::TopicPartitionList::new();
    upto.add_partition_offset(&topic, 0, rdkafka::Offset::Offset(3)).unwrap();
    admin.delete_records(&upto, &AdminOptions::new()).await.unwrap();
    let watermarks = Cluster::new(&settings).unwrap().watermarks(&home, HANG).await.unwrap();
    assert_eq!(watermarks, (3, 5));
    let mut member = Member::join(&settings, &topic);
    member.until_granted(1).await;
    member.open(&home, 1);
    assert!(matches!(member.event().await, Event::Lost { lane, .. } if lane == home));
}

#[tokio::test]
async fn committed_offsets_come_back_with_their_metadata() {
    let (settings, topic) = topic(2).await;
    let cluster = Cluster::new(&settings).unwrap();
    let lanes = [lane(&topic, 0), lane(&topic, 1)];
    let none = cluster.committed(&lanes, HANG).await.unwrap();
    assert_eq!(none, lanes.clone().map(|one| (one, None)));

    let mut member = Member::join(&settings, &topic);
    member.until_granted(2).await;
    member.consumer.commit(vec![(lanes[0].clone(), 7)], "store-1".to_owned());
    assert_eq!(soon("the member to stop", Box::new(member.consumer).stop(HANG)).await, Stopped::Closed);
    let some = cluster.committed(&lanes, HANG).await.unwrap();
    assert_eq!(some, [(lanes[0].clone(), Some((7, "store-1".to_owned()))), (lanes[1].clone(), None)]);
}

#[tokio::test]
async fn topics_are_made_and_set_as_the_manifests_say() {
    let settings = settings(&broker(), &unique("group"));
    let cluster = Cluster::new(&settings).unwrap();
    let name = unique("topic");
    let first = [manifest(&name, 2, &[("retention.ms", "604800000"), ("max.message.bytes", "2000000")])];
    let missing = vec![Difference::Missing { topic: name.clone() }];
    assert_eq!(cluster.plan(&first, HANG).await.unwrap(), missing);
    assert!(cluster.check(&first, HANG).await.is_err());
    assert_eq!(cluster.apply(&first, HANG).await.unwrap(), missing);
    cluster.check(&first, HANG).await.unwrap();
    assert_eq!(cluster.partitions(std::slice::from_ref(&name), HANG).await.unwrap()[&name], Some(2));

    // One value changes; the other, no longer in the manifest, stays as it was.
    let second = [manifest(&name, 2, &[("retention.ms", "86400000")])];
    let (topic, setting) = (name.clone(), "retention.ms".to_owned());
    let (wanted, found) = ("86400000".to_owned(), Some("604800000".to_owned()));
    assert_eq!(
        cluster.apply(&second, HANG).await.unwrap(),
        [Difference::Config { topic, name: setting, wanted, found }]
    );
    cluster.check(&second, HANG).await.unwrap();
    cluster.check(&[manifest(&name, 2, &[("max.message.bytes", "2000000")])], HANG).await.unwrap();

    // Whoever looks at once sees what was set, though the broker learns of it later than the controller.
    for round in 0..20 {
        let next = [manifest(&name, 2, &[("retention.ms", &format!("9000000{round}"))])];
        assert_eq!(cluster.apply(&next, HANG).await.unwrap().len(), 1);
        cluster.check(&next, HANG).await.unwrap();
    }
    cluster.apply(&second, HANG).await.unwrap();

    // Another number of partitions is told and never made.
    let third = [manifest(&name, 6, &[("retention.ms", "1000")])];
    assert_eq!(cluster.plan(&third, HANG).await.unwrap().len(), 2);
    let refused = cluster.apply(&third, HANG).await.unwrap_err().to_string();
    assert!(refused.contains("2 partitions where its manifest says 6"), "{refused}");
    cluster.check(&second, HANG).await.unwrap();
}

#[tokio::test]
async fn a_topic_that_is_not_there_has_no_partitions() {
    let settings = settings(&broker(), &unique("group"));
    let name = unique("nowhere");
    let counts = Cluster::new(&settings).unwrap().partitions(std::slice::from_ref(&name), HANG).await.unwrap();
    assert_eq!(counts[&name], None);
}

#[tokio::test]
async fn a_group_that_rebalances_eagerly_is_refused() {
    let (settings, topic) = topic(1).await;
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let eager: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &settings.brokers)
        .set("group.id", &settings.group_id)
        .set("partition.assignment.strategy", "range")
        .create()
        .unwrap();
    eager.subscribe(&[&topic]).unwrap();
    let (join, joined) = std::sync::mpsc::channel();
    let other = std::thread::spawn(move || {
        while eager.assignment().unwrap().count() == 0 {
            eager.poll(Duration::from_millis(10));
        }
        join.send(()).unwrap();
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            eager.poll(Duration::from_millis(10));
        }
    });
    joined.recv_timeout(HANG).unwrap();
    let (sender, mut events) = unbounded_channel();
    let consumer = Consumer::start(&settings, std::slice::from_ref(&topic), sender).unwrap();
    let event = soon("a refusal", events.recv()).await;
    assert!(matches!(event, Some(Event::Fatal(_))), "{event:?}");
    stop.send(()).unwrap();
    other.join().unwrap();
    assert_eq!(soon("the member to stop", Box::new(consumer).stop(HANG)).await, Stopped::Closed);
}

#[tokio::test]
async fn nothing_lands_after_a_refused_message() {
    let plain = settings(&broker(), &unique("group"));
    let cluster = Cluster::new(&plain).unwrap();
    // Each message a request of its own, several under way at once.
    let properties = [("batch.num.messages".to_owned(), "1".to_owned())].into();
    let settings = Settings { properties, ..plain };
    for sound_before in [0, 1, 5] {
        let topic = unique("compacted");
        cluster.apply(&[manifest(&topic, 1, &[("cleanup.policy", "compact")])], HANG).await.unwrap();
        let out = lane(&topic, 0);
        let with_key = |value: &str| Message { key: Some([1].into()), ..message(&out, value) };
        let (sender, mut reports) = unbounded_channel();
        let producer = Producer::start(&settings, sender).unwrap();
        for tag in 0..sound_before {
            send(&producer, &with_key("lands"), tag).await;
        }
        take_reports(&mut reports, sound_before as usize).await;
        let refused = message(&out, "without the key that compaction needs");
        producer.send(&refused, 100).unwrap();
        for tag in 101..=120 {
            // Once the refusal is known the producer takes no more; what it took before must not land.
            let _taken = producer.send(&with_key("comes too late"), tag);
        }
        let refusal = take_reports(&mut reports, 1).await.remove(0);
        assert_eq!(refusal.tag, 100);
        assert!(refusal.result.is_err());
        assert_eq!(Box::new(producer).purge(HANG).await, Purged::Drained);
        while let Some(report) = reports.recv().await {
            assert!(report.result.is_err(), "message {} landed behind the refused one", report.tag);
        }
        let end = cluster.watermarks(&out, HANG).await.unwrap().1;
        assert_eq!(end, i64::try_from(sound_before).unwrap());
    }
}
