//! Says in logs and metrics what a committed batch has done. Never a payload.

use super::writer::Shared;
use crate::core::{batch::AlarmKind, lane::Decided, record::LaneId};

/// Tells of one lane's batch.
pub(super) fn tell(shared: &Shared, lane: &LaneId, decided: &Decided) {
    for (outcome, count) in &decided.tally {
        shared.metrics.records(&lane.topic, outcome.as_str(), *count);
    }
    for (reason, count) in &decided.letters {
        for _ in 0..*count {
            shared.metrics.dead_letter(&lane.topic, reason.as_str());
        }
    }
    for ((definition, status), count) in &decided.sagas {
        for _ in 0..*count {
            shared.metrics.saga(definition, status.as_str());
        }
    }
    for alarm in &decided.alarms {
        shared.metrics.alarm(alarm.kind.as_str());
        let (event, offset) =
            alarm.event.as_ref().map_or((None, None), |(id, offset)| (Some(id.as_str()), Some(*offset)));
        let (topic, partition, kind) = (lane.topic.as_str(), lane.partition, alarm.kind.as_str());
        let entity = alarm.entity_id.as_str();
        match alarm.kind {
            AlarmKind::NeedsOperator | AlarmKind::Halt | AlarmKind::Quarantine => {
                tracing::error!(topic, partition, offset, entity, event, kind, "{}", alarm.text);
            }
            AlarmKind::Conflict => tracing::warn!(topic, partition, offset, entity, event, kind, "{}", alarm.text),
        }
    }
    tracing::debug!(
        topic = %lane.topic,
        partition = lane.partition,
        offset = decided.commit.next_offset,
        batch = decided.commit.expected.batch + 1,
        events = decided.taken,
        messages = decided.messages.len(),
        "committed"
    );
}
