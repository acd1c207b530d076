//! Safeguards that a test build can take away, one at a time, to see that something notices.
//!
//! A safeguard that nothing misses is either not checked or not needed. Without the feature `faults` every question here
//! is a constant `false`, and the safeguard is all that is compiled.

#[cfg(feature = "faults")]
use std::cell::Cell;

macro_rules! safeguards {
    ($($(#[doc = $says:literal])+ $name:ident = $word:literal,)+) => {
        /// A safeguard, named for what is lost without it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Safeguard {
            $($(#[doc = $says])+ $name,)+
        }

        impl Safeguard {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Its name on a command line.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)+
                }
            }

            /// What the worker does without it.
            #[must_use]
            pub fn says(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($says),+).trim_ascii(),)+
                }
            }
        }
    };
}

safeguards! {
    /// Commits compare nothing.
    Fence = "fence",
    /// Commits compare everything but the batch, and the store tells no timeline.
    FenceBatch = "fence-batch",
    /// Commits compare everything but the token, and the store tells no timeline.
    FenceToken = "fence-token",
    /// Commits do not ask on which timeline of the store their rows were read.
    Timeline = "timeline",
    /// Commits take any row that is not newer, `<=` for `=`.
    FenceEquality = "fence-equality",
    /// Writes and offset are two transactions.
    OneTransaction = "one-transaction",
    /// A commit that failed counts as made.
    CommitError = "commit-error",
    /// A lane whose batch was refused goes on with what it knows by then.
    ReadAnew = "read-anew",
    /// A COMMIT without an answer is judged by the batch alone, whoever has made it.
    LostAnswer = "lost-answer",
    /// Messages are handed to the relay before COMMIT is answered.
    HandOver = "hand-over",
    /// An idle lane never looks at its row.
    IdleLook = "idle-look",
    /// A claim reads on from Kafka's committed offset.
    StartAtRow = "start-at-row",
    /// A lane that the store does not know begins anew, whatever other store Kafka shows.
    ForeignStore = "foreign-store",
    /// Neither numbers nor ids of events are looked at: no repeat is seen and no disorder.
    Judgement = "judgement",
    /// A sequence that was taken before counts as new.
    Sequence = "sequence",
    /// An id that was seen before counts as new.
    SeenIds = "seen-ids",
    /// A repeat on a link counts as new.
    LinkRepeat = "link-repeat",
    /// A gap on a link is passed over.
    LinkGap = "link-gap",
    /// The link's mark moves only with what is handled, not with every record taken.
    LinkMark = "link-mark",
    /// Digests of a link are not compared: a fork goes unnoticed.
    LinkDigest = "link-digest",
    /// Other content under a known number or id counts as a duplicate.
    Conflict = "conflict",
    /// A record ahead of its turn is kept in memory only.
    HeldRows = "held-rows",
    /// A gap has no deadline.
    GapDeadline = "gap-deadline",
    /// A dead letter does not take its place in the order.
    LetterPlace = "letter-place",
    /// A dead letter has no row and no copy.
    LetterRow = "letter-row",
    /// A record in the wrong partition is handled where it lies.
    HomePartition = "home-partition",
    /// The successors of a parked event are handled.
    Quarantine = "quarantine",
    /// A record that waits for its entity is kept in memory only.
    WaitingRows = "waiting-rows",
    /// A timer that is due fires before the backlog is read.
    TimerBacklog = "timer-backlog",
    /// Timers go by a clock of the worker's own.
    DatabaseClock = "database-clock",
    /// The relay's mark moves when a message is sent.
    Acknowledged = "acknowledged",
    /// A message between lanes leaves the outbox when the brokers have acknowledged it.
    Arrived = "arrived",
    /// Messages go before the standby has their commits.
    RelayGate = "relay-gate",
    /// What the brokers acknowledged and lost is not sent again.
    Resend = "resend",
    /// The relay sends in the order of the table's growth, the newest batch first.
    SendingOrder = "sending-order",
    /// Ids of messages depend on who claims the lane.
    StableIds = "stable-ids",
    /// An order that was sent again for want of an answer is carried out again.
    OrderOnce = "order-once",
    /// A saga undoes a step again when it hears that it is undone.
    UndoOnce = "undo-once",
}

#[cfg(feature = "faults")]
thread_local! {
    static TAKEN: Cell<Option<Safeguard>> = const { Cell::new(None) };
}

/// Takes a safeguard away from all that runs on this thread, or gives it back.
#[cfg(feature = "faults")]
pub fn take_away(safeguard: Option<Safeguard>) {
    TAKEN.set(safeguard);
}

/// Whether the worker must do without this safeguard.
#[must_use]
#[inline]
pub fn lacks(safeguard: Safeguard) -> bool {
    #[cfg(feature = "faults")]
    {
        TAKEN.get() == Some(safeguard)
    }
    #[cfg(not(feature = "faults"))]
    {
        let _needs_no_answer = safeguard;
        false
    }
}
