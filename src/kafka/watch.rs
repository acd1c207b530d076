//! Judges an open lane by the client's statistics: has it reached the end, is it lost, does it stand still.
//!
//! The client gives no error when reading stops for a reason of its own, and no event when what trails in
//! a partition are control records. Both show in the statistics only, which come about once a second.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::Deserialize;

use crate::broker::Positions;

/// For so long after an opening or a rebalance the end that the statistics tell is not believed. A rebalance
/// makes the client throw away what it has fetched and fetch it again, but the position in the statistics goes
/// back only when a broker's thread comes round: within a second, says its loop; three are safe.
const SETTLING: Duration = Duration::from_secs(3);

/// The part of the client's statistics that is read here.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Statistics {
    #[serde(default)]
    brokers: BTreeMap<String, Broker>,
    #[serde(default)]
    topics: BTreeMap<String, Topic>,
}

#[derive(Debug, Deserialize)]
struct Broker {
    nodeid: i32,
    state: String,
}

#[derive(Debug, Deserialize)]
struct Topic {
    partitions: BTreeMap<i32, Partition>,
}

#[derive(Clone, Debug, Deserialize)]
struct Partition {
    leader: i32,
    unknown: bool,
    next_offset: i64,
    eof_offset: i64,
    lo_offset: i64,
    hi_offset: i64,
    ls_offset: i64,
}

/// What the statistics say of one partition.
#[derive(Clone, Debug)]
pub(super) struct Sight {
    partition: Partition,
    leader_up: bool,
}

impl Statistics {
    /// What they say of a partition, if it is in them.
    pub(super) fn sight(&self, topic: &str, partition: i32) -> Option<Sight> {
        let partition = self.topics.get(topic)?.partitions.get(&partition)?.clone();
        let up = |broker: &Broker| broker.nodeid == partition.leader && broker.state == "UP";
        Some(Sight { leader_up: self.brokers.values().any(up), partition })
    }
}

impl Sight {
    fn end(&self) -> i64 {
        // The last stable offset: a transaction that is still open is not ours to wait for.
        if self.partition.ls_offset >= 0 { self.partition.ls_offset } else { self.partition.hi_offset }
    }
}

/// What became of an open lane.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing to say.
    Well,
    /// No record lies between what was delivered and this offset.
    Tail(i64),
    /// Reading has ended and cannot go on by itself.
    Lost(String),
    /// No record for too long: assign it afresh.
    Stuck,
    /// Assigning afresh has not helped.
    Stalled,
}

/// The memory of one opening that the verdicts need.
#[derive(Debug)]
pub(super) struct Watch {
    progress: Instant,
    fetched: i64,
    reassigned: bool,
    settled: Instant,
    /// The end seen in the last statistics, and whether everything queued then has been delivered since.
    end: Option<(i64, Drained)>,
    /// Up to where the owner was told that nothing more comes.
    tail: i64,
}

/// Whether the client's queue was seen empty after a sight of the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drained {
    NotYet,
    Since,
}

impl Watch {
    pub(super) fn new(now: Instant) -> Self {
        Self { progress: now, fetched: -1, reassigned: false, settled: now + SETTLING, end: None, tail: -1 }
    }

    /// A record was delivered.
    pub(super) fn delivered(&mut self, now: Instant) {
        self.progress = now;
        self.reassigned = false;
    }

    /// Delivery was held or goes on: what was seen before does not count.
    pub(super) fn resumed(&mut self, now: Instant) {
        self.progress = now;
        self.end = None;
    }

    /// The group rebalances, or the lane is assigned afresh.
    pub(super) fn unsettled(&mut self, now: Instant) {
        self.settled = now + SETTLING;
        self.resumed(now);
    }

    /// The client's queue was empty.
    pub(super) fn drained(&mut self) {
        if let Some((_, drained)) = &mut self.end {
            *drained = Drained::Since;
        }
    }

    /// Judges by new statistics. `next` is the offset after the last delivered record.
    pub(super) fn judge(&mut self, sight: &Sight, next: i64, held: bool, now: Instant, deadline: Duration) -> Verdict {
        if let Some(why) = self.judge_loss(sight, now, deadline) {
            return Verdict::Lost(why);
        }
        if held {
            self.resumed(now);
            return Verdict::Well;
        }
        if now >= self.settled
            && let Some(tail) = self.judge_end(sight, next)
        {
            return Verdict::Tail(tail);
        }
        self.judge_progress(sight, next, now, deadline)
    }

    fn judge_loss(&mut self, sight: &Sight, now: Instant, deadline: Duration) -> Option<String> {
        let partition = &sight.partition;
        // A broker that has just started may not know a topic yet; so this must last.
        if partition.unknown && now.duration_since(self.progress) >= deadline {
            self.progress = now;
            return Some("the topic has no such partition any more".to_owned());
        }
        None
    }

    /// The client tells where it met the end of what can be read; control records and aborted transactions
    /// before it have been passed. Why this needs two statistics with the same end and an empty queue between:
    ///
    /// 1. Statistics overtake records in the client's queue, so at the first sight records before that end
    ///    may still be under way to us. When the queue has been empty once since, they have been delivered:
    ///    the client queues records first and moves its position then.
    /// 2. The end in them is a copy that a broker's thread renews: the second sight is of a later time than the
    ///    empty queue. See [`SETTLING`] for the times when the copy may be of another life.
    fn judge_end(&mut self, sight: &Sight, next: i64) -> Option<i64> {
        let seen = sight.partition.eof_offset;
        let reached = seen >= 0 && seen == sight.partition.next_offset && seen <= sight.end();
        if !reached {
            self.end = None;
            return None;
        }
        let confirmed = self.end == Some((seen, Drained::Since));
        if !confirmed {
            if self.end.is_none_or(|(end, _)| end != seen) {
                self.end = Some((seen, Drained::NotYet));
            }
            return None;
        }
        if seen <= next.max(self.tail) {
            return None;
        }
        self.tail = seen;
        Some(seen)
    }

    fn judge_progress(&mut self, sight: &Sight, next: i64, now: Instant, deadline: Duration) -> Verdict {
        let fetched = sight.partition.next_offset;
        let moving = fetched != self.fetched;
        self.fetched = fetched;
        // Without its leader nothing can come: an outage is not a stall, and ends by itself.
        if moving || !sight.leader_up || sight.end() <= next.max(self.tail) {
            self.progress = now;
            return Verdict::Well;
        }
        if now.duration_since(self.progress) < deadline {
            return Verdict::Well;
        }
        self.progress = now;
        if std::mem::replace(&mut self.reassigned, true) { Verdict::Stalled } else { Verdict::Stuck }
    }

    /// The position for showing.
    pub(super) fn positions(sight: &Sight, next: i64) -> Positions {
        Positions { next, low: sight.partition.lo_offset, end: sight.end() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Partition, SETTLING, Sight, Statistics, Verdict, Watch};

    const DEADLINE: Duration = Duration::from_secs(60);

    fn sight(next_offset: i64, eof_offset: i64, end: i64) -> Sight {
        let partition = Partition {
            leader: 1,
            unknown: false,
            next_offset,
            eof_offset,
            lo_offset: 0,
            hi_offset: end,
            ls_offset: end,
        };
        Sight { partition, leader_up: true }
    }

    #[test]
    fn the_tail_is_told_once_after_two_sights_with_an_empty_queue_between() {
        let now = Instant::now();
        let mut watch = Watch::new(now - SETTLING);
        assert_eq!(watch.judge(&sight(8, 8, 8), 7, false, now, DEADLINE), Verdict::Well);
        assert_eq!(watch.judge(&sight(8, 8, 8), 7, false, now, DEADLINE), Verdict::Well, "queue not empty yet");
        watch.drained();
        assert_eq!(watch.judge(&sight(8, 8, 8), 7, false, now, DEADLINE), Verdict::Tail(8));
        watch.drained();
        assert_eq!(watch.judge(&sight(8, 8, 8), 7, false, now, DEADLINE), Verdict::Well);
    }

    #[test]
    fn no_tail_is_told_where_the_last_record_was_delivered() {
        let now = Instant::now();
        let mut watch = Watch::new(now - SETTLING);
        for _ in 0..3 {
            assert_eq!(watch.judge(&sight(8, 8, 8), 8, false, now, DEADLINE), Verdict::Well);
            watch.drained();
        }
    }

    #[test]
    fn an_end_seen_before_delivery_was_held_does_not_count_after_it() {
        let now = Instant::now();
        let mut watch = Watch::new(now - SETTLING);
        watch.judge(&sight(8, 8, 8), 3, false, now, DEADLINE);
        watch.drained();
        watch.resumed(now);
        assert_eq!(watch.judge(&sight(8, 8, 8), 3, false, now, DEADLINE), Verdict::Well);
    }

    #[test]
    fn an_end_told_right_after_a_rebalance_is_not_believed() {
        let now = Instant::now();
        let mut watch = Watch::new(now - SETTLING);
        watch.unsettled(now);
        for later in [now, now + SETTLING / 3, now + SETTLING / 2] {
            assert_eq!(watch.judge(&sight(8, 8, 8), 3, false, later, DEADLINE), Verdict::Well);
            watch.drained();
        }
        let settled = now + SETTLING;
        assert_eq!(watch.judge(&sight(8, 8, 8), 3, false, settled, DEADLINE), Verdict::Well);
        watch.drained();
        assert_eq!(watch.judge(&sight(8, 8, 8), 3, false, settled, DEADLINE), Verdict::Tail(8));
    }

    #[test]
    fn a_lane_that_stands_is_assigned_afresh_once_and_then_reported() {
        let start = Instant::now();
        let mut watch = Watch::new(start);
        assert_eq!(watch.judge(&sight(3, -1, 8), 3, false, start, DEADLINE), Verdict::Well);
        assert_eq!(watch.judge(&sight(3, -1, 8), 3, false, start + DEADLINE, DEADLINE), Verdict::Stuck);
        assert_eq!(watch.judge(&sight(3, -1, 8), 3, false, start + DEADLINE, DEADLINE), Verdict::Well);
        assert_eq!(watch.judge(&sight(3, -1, 8), 3, false, start + 2 * DEADLINE, DEADLINE), Verdict::Stalled);
    }

    #[test]
    fn idleness_a_full_inbox_and_an_outage_are_no_stalls() {
        let start = Instant::now();
        let later = start + 2 * DEADLINE;
        assert_eq!(Watch::new(start).judge(&sight(8, -1, 8), 8, false, later, DEADLINE), Verdict::Well);
        assert_eq!(Watch::new(start).judge(&sight(3, -1, 8), 3, true, later, DEADLINE), Verdict::Well);
        let down = Sight { leader_up: false, ..sight(3, -1, 8) };
        assert_eq!(Watch::new(start).judge(&down, 3, false, later, DEADLINE), Verdict::Well);
    }

    #[test]
    fn a_partition_that_is_gone_for_good_is_lost() {
        let start = Instant::now();
        let mut gone = sight(3, -1, 8);
        gone.partition.unknown = true;
        let mut watch = Watch::new(start);
        assert_eq!(watch.judge(&gone, 3, false, start, DEADLINE), Verdict::Well, "a broker may just be starting");
        assert!(matches!(watch.judge(&gone, 3, false, start + DEADLINE, DEADLINE), Verdict::Lost(_)));
    }

    #[test]
    fn statistics_are_read_from_what_the_client_writes() {
        let text = r#"{"name":"x","brokers":{"h:1/1":{"nodeid":1,"state":"UP","rtt":{}}},
            "topics":{"a.b":{"topic":"a.b","partitions":{"0":{"partition":0,"leader":1,"unknown":false,
            "fetch_state":"active","next_offset":5,"eof_offset":-1001,"lo_offset":0,"hi_offset":9,"ls_offset":7},
            "-1":{"partition":-1,"leader":-1,"unknown":false,"fetch_state":"none","next_offset":-1001,
            "eof_offset":-1001,"lo_offset":-1001,"hi_offset":-1001,"ls_offset":-1001}}}}}"#;
        let statistics: Statistics = serde_json::from_str(text).unwrap();
        let sight = statistics.sight("a.b", 0).unwrap();
        assert!(sight.leader_up);
        assert_eq!((sight.end(), sight.partition.next_offset), (7, 5));
        assert!(statistics.sight("a.b", 1).is_none());
    }
}
