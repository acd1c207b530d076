//! Whether the next round follows at once, or more records are let come first; and what is decided of it already.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{SMALL, Turn, Writer};
use crate::{
    broker::Inbox,
    core::{
        lane::{Lane, Step},
        partition::partition_of,
        record::{LaneId, Record},
        rows::Row as _,
        table::{Value, Want},
    },
    memory::MemoryStore,
    shop::counter::Counter,
    store::Store,
    worker::{relay::Relay, slot::Slot, testing},
};

const KEY: &str = "page-views";

/// A writer with one lane, and the inbox of that.
async fn writer() -> (Writer, Arc<Inbox>) {
    let store = Arc::new(MemoryStore::new("writer", || 1));
    let shared = testing::shared(Arc::clone(&store) as Arc<dyn Store>);
    let (relay, _) = Relay::new(shared.clone(), store.session().await.unwrap());
    let (reports, _) = mpsc::unbounded_channel();
    let (handle, mut writer) = Writer::new(shared, relay, reports).await.unwrap();
    let id = LaneId { topic: "activity".to_owned(), partition: partition_of(KEY.as_bytes(), 4) };
    let (row, now) = writer.session.claim(&id, "token", "owner", 0).await.unwrap();
    let lane = Lane::new(row, now, Arc::clone(&writer.shared.catalog), Arc::clone(&writer.shared.limits));
    let settings = &writer.shared.settings;
    let inbox = Inbox::new(settings.inbox_records, settings.inbox_bytes, handle.waker);
    writer.slots.insert(id, Slot::new(1, lane, Arc::clone(&inbox), None, None));
    (writer, inbox)
}

fn fill(inbox: &Inbox, offsets: std::ops::Range<i64>) {
    for offset in offsets {
        let headers = [
            ("content-type", Some("application/json".to_owned())),
            ("ce_specversion", Some("1.0".to_owned())),
            ("ce_id", Some(offset.to_string())),
            ("ce_source", Some("/web-shop".to_owned())),
            ("ce_type", Some("activity.counted".to_owned())),
            ("ce_entityseq", Some((offset + 1).to_string())),
        ];
        inbox.push(Record {
            offset,
            timestamp_ms: 0,
            key: Some(KEY.as_bytes().into()),
            value: Some(br#"{"counter": "page-views", "delta": 1}"#.as_slice().into()),
            headers: headers.into_iter().collect(),
        });
    }
}

#[tokio::test(start_paused = true)]
async fn few_records_are_a_small_batch_and_more_are_a_full_one() {
    let (mut writer, inbox) = writer().await;
    assert_eq!(writer.turn().await, Ok(Turn::Idle));
    let few = i64::try_from(writer.shared.settings.records_max / SMALL).unwrap();
    fill(&inbox, 0..few - 1);
    assert_eq!(writer.turn().await, Ok(Turn::Small));
    fill(&inbox, few - 1..2 * few);
    assert_eq!(writer.turn().await, Ok(Turn::Full));
    assert_eq!(writer.slots.values().next().unwrap().lane.fence().next_offset, 2 * few, "all of them are taken");
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_leaves_records_behind_is_a_full_one() {
    let (mut writer, inbox) = writer().await;
    let most = i64::try_from(writer.shared.settings.records_max).unwrap();
    fill(&inbox, 0..most + 1);
    assert_eq!(writer.turn().await, Ok(Turn::Full));
    assert_eq!(writer.turn().await, Ok(Turn::Small), "one is left");
    // Large ones are cut by their bytes.
    let large = vec![b'x'; writer.shared.settings.bytes_max - 1];
    for offset in most + 1..most + 3 {
        inbox.push(Record {
            offset,
            timestamp_ms: 0,
            key: Some(KEY.as_bytes().into()),
            value: Some(large.as_slice().into()),
            headers: Default::default(),
        });
    }
    assert_eq!(writer.turn().await, Ok(Turn::Full), "the second large record waits");
}

/// How far the store has read the lane, and what it has counted.
async fn stored(writer: &mut Writer) -> (i64, i64) {
    let id = writer.slots.keys().next().unwrap().clone();
    let row = writer.session.peek(&id).await.unwrap().unwrap();
    let want = Want::Keys(vec![vec![Value::text(KEY)]]);
    let rows = writer.session.load(&[(Counter::table(), want)]).await.unwrap().pop().unwrap();
    (
        row.fence.next_offset,
        rows.first().and_then(|cells| Counter::from_cells(cells)).map_or(0, |counter| counter.value),
    )
}

#[tokio::test(start_paused = true)]
async fn the_next_full_batch_is_decided_meanwhile_and_committed_after_it() {
    let (mut writer, inbox) = writer().await;
    let most = i64::try_from(writer.shared.settings.records_max).unwrap();
    fill(&inbox, 0..most);
    assert_eq!(writer.turn().await, Ok(Turn::Full));
    assert!(writer.slots.values().all(|slot| slot.ahead.is_none()), "nothing waited");
    fill(&inbox, most..3 * most);
    assert_eq!(writer.turn().await, Ok(Turn::Full));
    let slot = writer.slots.values().next().unwrap();
    assert!(slot.ahead.as_ref().is_some_and(|ahead| matches!(ahead.step, Step::Decided(_))), "it lacked nothing");
    assert_eq!(slot.shown.next_offset(), 2 * most);
    assert_eq!(stored(&mut writer).await, (2 * most, 2 * most), "what is decided ahead is nowhere yet");
    assert_eq!(writer.turn().await, Ok(Turn::Full));
    assert_eq!(stored(&mut writer).await, (3 * most, 3 * most), "it has built on the batch before");
}

#[tokio::test(start_paused = true)]
async fn what_is_decided_ahead_goes_with_what_it_was_built_on() {
    let (mut writer, inbox) = writer().await;
    let most = i64::try_from(writer.shared.settings.records_max).unwrap();
    fill(&inbox, 0..2 * most + 1);
    assert_eq!(writer.turn().await, Ok(Turn::Full));
    assert!(writer.slots.values().all(|slot| slot.ahead.is_some()));
    let id = writer.slots.keys().next().unwrap().clone();
    // As if the batch had been refused: the lane has its row of before, and is read anew.
    let slot = writer.slots.get_mut(&id).unwrap();
    let committed = slot.lane.fence().clone();
    slot.ahead.as_mut().unwrap().before = committed.clone();
    writer.reopen(&id).await.unwrap();
    let (slot, waiting) = (&writer.slots[&id], writer.shared.settings.records_max);
    assert_eq!((slot.ahead.is_none(), slot.lane.fence(), slot.pending.len()), (true, &committed, waiting));
    while writer.turn().await != Ok(Turn::Idle) {}
    assert_eq!(stored(&mut writer).await, (2 * most + 1, 2 * most + 1), "each is counted once");
}
