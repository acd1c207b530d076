//! Named points on the path at which a worker that was built for it dies, as SIGKILL would have it: no destructor
//! runs, no buffer is flushed. Without the feature `faults` a point is nothing at all.
//!
//! `tests/crash.rs` lets a worker die at each of them and demands that the next one ends where the model ends.

#[cfg(feature = "faults")]
use std::{
    io::Write as _,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// A point, named for the last thing that has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The group gives lanes; it has its answer, nobody else knows.
    Assigned,
    /// The group takes lanes away; it has no answer yet.
    Revoking,
    /// A lane is about to be claimed.
    Claiming,
    /// The claim is written and not committed.
    ClaimWritten,
    /// The claim is committed and the lane not loaded.
    Claimed,
    /// The lane is loaded and no writer has it.
    LaneLoaded,
    /// Records were decided upon and nothing was written.
    Decided,
    /// A lane's timers that are due were read.
    TimersRead,
    /// The transaction was begun.
    Begun,
    /// The lanes' rows are compared and moved, everything is written, and COMMIT is not sent.
    Written,
    /// COMMIT was sent and its answer not read.
    CommitSent,
    /// COMMIT was answered, and nobody has been told.
    CommitAnswered,
    /// A lane's messages are about to be handed to the relay.
    HandingOver,
    /// A lane's messages were handed to the relay.
    HandedOver,
    /// A page of the outbox, with messages in it, was read.
    OutboxRead,
    /// A message is about to be given to the producer.
    Producing,
    /// A message was given to the producer.
    Produced,
    /// The broker has acknowledged a message, and the mark has not moved.
    Acknowledged,
    /// The mark has moved in memory.
    Marked,
    /// Messages that nobody needs any more are gone from the outbox.
    Trimmed,
    /// Offsets were handed to the client, for Kafka.
    OffsetsCommitted,
    /// The worker was asked to end.
    Stopping,
    /// The writers have ended, and the relay has not sent everything.
    WritersEnded,
    /// Everything is sent, the last offsets are not committed.
    Drained,
    /// The member is about to leave the group.
    Leaving,
}

impl Point {
    /// Every point, in the order of the path.
    pub const ALL: [Self; 25] = [
        Self::Assigned,
        Self::Revoking,
        Self::Claiming,
        Self::ClaimWritten,
        Self::Claimed,
        Self::LaneLoaded,
        Self::Decided,
        Self::TimersRead,
        Self::Begun,
        Self::Written,
        Self::CommitSent,
        Self::CommitAnswered,
        Self::HandingOver,
        Self::HandedOver,
        Self::OutboxRead,
        Self::Producing,
        Self::Produced,
        Self::Acknowledged,
        Self::Marked,
        Self::Trimmed,
        Self::OffsetsCommitted,
        Self::Stopping,
        Self::WritersEnded,
        Self::Drained,
        Self::Leaving,
    ];

    /// Its name in `SERIATIM_FAILPOINT` and in what a dying worker says.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Assigned => "assigned",
            Self::Revoking => "revoking",
            Self::Claiming => "claiming",
            Self::ClaimWritten => "claim_written",
            Self::Claimed => "claimed",
            Self::LaneLoaded => "lane_loaded",
            Self::Decided => "decided",
            Self::TimersRead => "timers_read",
            Self::Begun => "begun",
            Self::Written => "written",
            Self::CommitSent => "commit_sent",
            Self::CommitAnswered => "commit_answered",
            Self::HandingOver => "handing_over",
            Self::HandedOver => "handed_over",
            Self::OutboxRead => "outbox_read",
            Self::Producing => "producing",
            Self::Produced => "produced",
            Self::Acknowledged => "acknowledged",
            Self::Marked => "marked",
            Self::Trimmed => "trimmed",
            Self::OffsetsCommitted => "offsets_committed",
            Self::Stopping => "stopping",
            Self::WritersEnded => "writers_ended",
            Self::Drained => "drained",
            Self::Leaving => "leaving",
        }
    }

    /// The point of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|point| point.name() == name)
    }
}

/// The point at which this process dies, and the hits that are left until then.
#[cfg(feature = "faults")]
static ARMED: OnceLock<(Point, AtomicU32)> = OnceLock::new();

/// Lets this process die when it reaches `point` for the `hit`th time, from 1. The first call of a process counts.
#[cfg(feature = "faults")]
pub fn arm(point: Point, hit: u32) {
    let _ = ARMED.set((point, AtomicU32::new(hit)));
}

/// Tells that the path has come to a point.
#[inline]
pub fn reach(point: Point) {
    #[cfg(feature = "faults")]
    if is_last_hit(point) {
        die(point);
    }
    #[cfg(not(feature = "faults"))]
    let _ = point;
}

/// Awaits `call`, and tells that the path has come to a point when the call was sent and is not answered.
pub async fn reach_within<Call: Future>(point: Point, call: Call) -> Call::Output {
    #[cfg(feature = "faults")]
    {
        let mut call = std::pin::pin!(call);
        // The first poll sends what fits into the socket, and a COMMIT does.
        let sent = std::future::poll_fn(|context| std::task::Poll::Ready(call.as_mut().poll(context))).await;
        if is_last_hit(point) {
            die(point);
        }
        match sent {
            std::task::Poll::Ready(answer) => answer,
            std::task::Poll::Pending => call.await,
        }
    }
    #[cfg(not(feature = "faults"))]
    {
        let _ = point;
        call.await
    }
}

#[cfg(feature = "faults")]
fn is_last_hit(point: Point) -> bool {
    ARMED.get().is_some_and(|(armed, left)| *armed == point && left.fetch_sub(1, Ordering::SeqCst) == 1)
}

/// Says where, past every buffer, and ends the process.
#[cfg(feature = "faults")]
fn die(point: Point) -> ! {
    let _deaf = std::io::stderr().write_all(format!("failpoint {}\n", point.name()).as_bytes());
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use super::Point;

    #[test]
    fn each_point_is_found_by_its_name() {
        for point in Point::ALL {
            assert_eq!(Point::named(point.name()), Some(point));
        }
        assert_eq!(Point::named("nowhere"), None);
    }
}
