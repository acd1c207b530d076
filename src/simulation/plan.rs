//! What happens in one simulated world, out of its seed: how large it is, how unwell, and what strikes when.
//!
//! A plan is data, so that a red one can be made smaller piece by piece.

use std::time::Duration;

use super::dice::Dice;
use crate::core::message::Message;

/// Something that happens at a moment.
#[derive(Clone, Debug)]
pub struct Strike {
    /// When, since the world began.
    pub at: Duration,
    /// What.
    pub what: Blow,
}

/// What can happen to a world. Workers are named by number, modulo how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// A worker dies as if it had never been told; another starts in its place.
    Kill(usize),
    /// A worker is asked to end; another starts in its place.
    Terminate(usize),
    /// A worker stands still for so many milliseconds; the group thinks that it is dead after a while.
    Freeze(usize, u64),
    /// The next COMMIT of a worker that sends messages has no answer; the worker stands still then for so many
    /// milliseconds, and the group takes it for dead at once.
    CutOff(usize, u64),
    /// The next time that a worker reads rows after another has committed on a lane of its own, the database loses all
    /// that the other has done there, before anything comes of what was read.
    Overtaken(usize),
    /// A worker joins, and leaves when so many milliseconds are over.
    Visitor(u64),
    /// The group gives its lanes out anew.
    Rebalance,
    /// The group gives a lane to a second worker without taking it from the first.
    SplitBrain(usize),
    /// The database answers nobody for so many milliseconds.
    StoreDown(u64),
    /// The brokers answer nobody for so many milliseconds.
    BrokersDown(u64),
    /// One partition takes nothing for so many milliseconds.
    Leaderless(usize, u64),
    /// The database's clock jumps by so many milliseconds.
    ClockJump(i64),
    /// The database loses its last commits, of so many milliseconds.
    Failover(u64),
    /// The database is made anew, and empty: whoever has read before must not begin again.
    Wipe,
    /// An operator orders what a number means, of what stands in the tables by then.
    Order(u64),
}

impl Blow {
    /// What kind of blow it is, for counting.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill(_) => "kill",
            Self::Terminate(_) => "terminate",
            Self::Freeze(..) => "freeze",
            Self::CutOff(..) => "cut off at COMMIT",
            Self::Overtaken(_) => "commits lost that were read",
            Self::Visitor(_) => "visitor",
            Self::Rebalance => "rebalance",
            Self::SplitBrain(_) => "split brain",
            Self::StoreDown(_) => "database down",
            Self::BrokersDown(_) => "brokers down",
            Self::Leaderless(..) => "leaderless partition",
            Self::ClockJump(_) => "clock jump",
            Self::Failover(_) => "lost commits",
            Self::Wipe => "store made anew",
            Self::Order(_) => "operator",
        }
    }
}

/// How unwell the world is between the blows; shares in a thousand of the calls that they concern.
#[derive(Clone, Debug, Default)]
pub struct Illness {
    /// Store calls that fail before they do anything.
    pub retry: u64,
    /// Commits whose answer is lost: half of them were made.
    pub unknown: u64,
    /// Commits of more than one record that the database refuses, as it does what is too much for it at once.
    pub refuse: u64,
    /// Messages that fail for good; half of them were written.
    pub produce: u64,
    /// Messages to our own lanes that are acknowledged and lost.
    pub lose: u64,
    /// Questions to the brokers that get no answer.
    pub silent: u64,
    /// Records before which offsets are left out.
    pub gaps: u64,
    /// The longest that a call takes on its way, in milliseconds.
    pub latency_max: u64,
}

/// A world.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it was made of.
    pub seed: u64,
    /// Workers from the beginning.
    pub workers: usize,
    /// Writers of each.
    pub writers: usize,
    /// Partitions of each topic.
    pub partitions: i32,
    /// Records that one transaction takes at most.
    pub records_max: usize,
    /// Records that wait for a writer at most.
    pub inbox_records: usize,
    /// Held records of one entity at most.
    pub held_per_entity_max: usize,
    /// How long a writer lets more records come to a batch.
    pub batch_wait: Duration,
    /// How long a gap and a waiting record are waited for.
    pub patience: Duration,
    /// Bytes handed over to the relay at most; beyond them it reads the table.
    pub relay_queue_bytes: usize,
    /// The relay sends only what the standby has that takes over.
    pub gate: bool,
    /// How unwell it is.
    pub illness: Illness,
    /// What strikes.
    pub strikes: Vec<Strike>,
    /// What producers send, and when.
    pub traffic: Vec<(Duration, Message)>,
}

/// For so long producers send and things strike.
const SPAN_MS: i64 = 1_000;

impl Plan {
    /// The world of a seed, without traffic.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed).fork(1);
        let theme = Theme::new(&mut dice);
        let mut illness = theme.illness(&mut dice);
        // Thrown with dice of their own: what came before them keeps its worlds.
        let (mut refusals, mut waits) = (Dice::new(seed).fork(7), Dice::new(seed).fork(8));
        if refusals.one_in(4) {
            illness.refuse = refusals.below(300);
        }
        let batch_wait = Duration::from_millis([0, 0, 0, 3][waits.index(4)]);
        let partitions = i32::try_from(dice.between(1, 2)).unwrap_or(1);
        let mut plan = Self {
            seed,
            workers: 1 + dice.index(3),
            writers: 1 + dice.index(2),
            partitions,
            records_max: [1, 3, 10, 100][dice.index(4)],
            inbox_records: [2, 10, 100][dice.index(3)],
            held_per_entity_max: [4, 100, 100][dice.index(3)],
            batch_wait,
            patience: Duration::from_millis([250, 250, 1_000][dice.index(3)]),
            relay_queue_bytes: [1 << 10, 4_000, 1 << 20][dice.index(3)],
            gate: theme == Theme::LostCommits && dice.one_in(2),
            illness,
            strikes: Vec::new(),
            traffic: Vec::new(),
        };
        for _ in 0..theme.strikes(&mut dice) {
            let at = Duration::from_millis(u64::try_from(dice.between(5, SPAN_MS)).unwrap_or(5));
            plan.strikes.push(Strike { at, what: theme.blow(&mut dice) });
        }
        if theme == Theme::Forks {
            for _ in 0..=dice.below(2) {
                plan.strikes.extend(fork(&mut dice));
            }
        }
        if theme == Theme::LostCommits {
            plan.workers = plan.workers.max(2);
            for _ in 0..dice.below(4) {
                plan.strikes.extend(overtaken(&mut dice));
            }
        }
        if theme == Theme::LostAnswers {
            plan.workers = plan.workers.max(2);
            for _ in 0..=1 + dice.below(2) {
                plan.strikes.extend(lost_answer(&mut dice));
            }
        }
        if theme == Theme::Mixed && dice.one_in(15) {
            plan.strikes.push(Strike { at: Self::moment(&mut dice), what: Blow::Wipe });
        }
        plan.strikes.sort_by_key(|strike| strike.at);
        plan
    }

    /// Lets an operator order some things, in a quarter of the worlds.
    pub(super) fn with_orders(mut self) -> Self {
        let mut dice = Dice::new(self.seed).fork(9);
        if dice.one_in(4) {
            for _ in 0..=dice.below(6) {
                // Later as well: what is waited for in vain has to be waited for first.
                let at = Self::moment(&mut dice) + Self::moment(&mut dice);
                self.strikes.push(Strike { at, what: Blow::Order(dice.throw()) });
            }
            self.strikes.sort_by_key(|strike| strike.at);
        }
        self
    }

    /// Whether the database loses commits in it whose messages may have been sent.
    #[must_use]
    pub fn loses_what_was_sent(&self) -> bool {
        !self.gate && self.loses_commits()
    }

    /// Whether the database loses commits in it.
    pub(super) fn loses_commits(&self) -> bool {
        self.strikes.iter().any(|strike| matches!(strike.what, Blow::Failover(_)))
    }

    /// Whether another database is put in the place of the first.
    pub(super) fn wipes(&self) -> bool {
        self.strikes.iter().any(|strike| strike.what == Blow::Wipe)
    }

    /// Whether the database's clock jumps in it.
    #[must_use]
    pub fn jumps(&self) -> bool {
        self.strikes.iter().any(|strike| matches!(strike.what, Blow::ClockJump(_)))
    }

    /// A moment of the time in which producers send.
    pub fn moment(dice: &mut Dice) -> Duration {
        Duration::from_millis(u64::try_from(dice.between(0, SPAN_MS)).unwrap_or(0))
    }
}

/// All deadlines are over at once, as far as the database's clock knows; a little later it has lost what came of that.
fn fork(dice: &mut Dice) -> [Strike; 2] {
    let at = Plan::moment(dice);
    let later = 20 + dice.below(300);
    let lost = Blow::Failover(later + dice.below(60));
    let jump = Blow::ClockJump(dice.between(500, 3_000));
    [Strike { at, what: jump }, Strike { at: at + Duration::from_millis(later), what: lost }]
}

/// A second owner takes a lane, and what the first one reads before it knows is lost again.
fn overtaken(dice: &mut Dice) -> [Strike; 3] {
    let at = Plan::moment(dice);
    let blows = [Blow::Overtaken(dice.index(8)), Blow::Overtaken(dice.index(8)), Blow::SplitBrain(dice.index(64))];
    blows.map(|what| Strike { at, what })
}

/// All deadlines are over at once, and whoever says so first has no answer to it.
fn lost_answer(dice: &mut Dice) -> [Strike; 3] {
    let at = Plan::moment(dice);
    let mut cut = || Blow::CutOff(dice.index(8), 40 + dice.below(200));
    let (first, second) = (cut(), cut());
    let jump = Blow::ClockJump(dice.between(500, 3_000));
    [Strike { at, what: first }, Strike { at, what: second }, Strike { at, what: jump }]
}

/// What a world suffers from most: rare things that must meet are not left to meet by chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Theme {
    /// Nothing but what producers do.
    Calm,
    /// A little of everything.
    Mixed,
    /// Lanes change hands, and commits have no answer.
    Ownership,
    /// Brokers fail, and lose what they have acknowledged.
    Brokers,
    /// The database goes back in time while lanes change hands.
    LostCommits,
    /// The database goes back to before timers have fired: when all is done again they come after what was read by then,
    /// and what is sent is not what was sent.
    Forks,
    /// Timers fire in a COMMIT that has no answer, and what they were for comes in while another has the lane.
    LostAnswers,
}

impl Theme {
    fn new(dice: &mut Dice) -> Self {
        let themes = [
            Self::Calm,
            Self::Mixed,
            Self::Mixed,
            Self::Ownership,
            Self::Brokers,
            Self::LostCommits,
            Self::Forks,
            Self::LostAnswers,
        ];
        themes[dice.index(themes.len())]
    }

    fn illness(self, dice: &mut Dice) -> Illness {
        let mut up_to = |bound: u64| dice.below(bound);
        let mixed = Illness {
            retry: up_to(40),
            unknown: up_to(60),
            refuse: 0,
            produce: up_to(30),
            lose: 0,
            silent: up_to(100),
            gaps: up_to(600).saturating_sub(400),
            latency_max: up_to(8),
        };
        match self {
            Self::Calm => Illness { latency_max: mixed.latency_max / 2, ..Illness::default() },
            Self::Mixed | Self::LostCommits | Self::Forks | Self::LostAnswers => mixed,
            Self::Ownership => {
                Illness { retry: up_to(300), unknown: 50 + up_to(300), latency_max: 5 + up_to(30), ..mixed }
            }
            Self::Brokers => Illness { produce: up_to(150), lose: up_to(150), ..mixed },
        }
    }

    fn strikes(self, dice: &mut Dice) -> u64 {
        match self {
            Self::Calm => 0,
            Self::Mixed => dice.below(7),
            Self::Ownership => 4 + dice.below(12),
            Self::Brokers => 2 + dice.below(8),
            Self::LostCommits => 2 + dice.below(6),
            Self::Forks | Self::LostAnswers => dice.below(4),
        }
    }

    fn blow(self, dice: &mut Dice) -> Blow {
        let (who, lane) = (dice.index(8), dice.index(64));
        let freeze = Blow::Freeze(who, 20 + dice.below(800));
        let pause = 10 + dice.below(500);
        match self {
            Self::Calm | Self::Mixed => match dice.below(12) {
                0 | 1 => Blow::Kill(who),
                2 => Blow::Terminate(who),
                3 => freeze,
                4 => Blow::Visitor(20 + dice.below(400)),
                5 => Blow::Rebalance,
                6 => Blow::SplitBrain(lane),
                7 => Blow::StoreDown(2 * pause),
                8 => Blow::BrokersDown(pause),
                9 => Blow::Leaderless(lane, pause),
                10 => Blow::CutOff(who, 40 + dice.below(400)),
                _ => Blow::ClockJump(dice.between(-2_000, 2_000)),
            },
            Self::Ownership | Self::LostAnswers => match dice.below(8) {
                0 | 1 => Blow::SplitBrain(lane),
                2 => Blow::Rebalance,
                3 | 4 => freeze,
                5 | 6 => Blow::CutOff(who, 40 + dice.below(400)),
                _ => Blow::Visitor(20 + dice.below(400)),
            },
            Self::Brokers => match dice.below(5) {
                0 => Blow::BrokersDown(pause),
                1 | 2 => Blow::Leaderless(lane, pause),
                3 => Blow::Kill(who),
                _ => Blow::Terminate(who),
            },
            Self::LostCommits | Self::Forks => match dice.below(6) {
                0 | 1 => Blow::Failover(dice.below(300)),
                2 => Blow::SplitBrain(lane),
                3 => Blow::Rebalance,
                4 => freeze,
                _ => Blow::Kill(who),
            },
        }
    }
}
