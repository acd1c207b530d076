//! Makes a red plan smaller: piece after piece is left out, and stays out if the rest is red all the same.

use std::time::Duration;

use super::plan::{Illness, Plan};

/// The smallest plan found for which `is_red` holds, within so many trials.
pub(super) fn shrink(plan: &Plan, mut trials: usize, is_red: impl Fn(&Plan) -> bool) -> Plan {
    let mut best = plan.clone();
    let mut try_one = |smaller: Plan, best: &mut Plan| {
        let spent = trials == 0;
        trials = trials.saturating_sub(1);
        let red = !spent && is_red(&smaller);
        if red {
            *best = smaller;
        }
        red
    };
    for well in [
        |illness: &mut Illness| illness.retry = 0,
        |illness: &mut Illness| illness.unknown = 0,
        |illness: &mut Illness| illness.refuse = 0,
        |illness: &mut Illness| illness.produce = 0,
        |illness: &mut Illness| illness.lose = 0,
        |illness: &mut Illness| illness.silent = 0,
        |illness: &mut Illness| illness.gaps = 0,
    ] {
        let mut smaller = best.clone();
        well(&mut smaller.illness);
        try_one(smaller, &mut best);
    }
    try_one(Plan { batch_wait: Duration::ZERO, ..best.clone() }, &mut best);
    for (workers, writers) in [(1, 1), (best.workers, 1), (1, best.writers)] {
        try_one(Plan { workers, writers, ..best.clone() }, &mut best);
    }
    let mut at = best.strikes.len();
    while at > 0 {
        at -= 1;
        let mut smaller = best.clone();
        smaller.strikes.remove(at);
        try_one(smaller, &mut best);
    }
    let mut piece = best.traffic.len().div_ceil(2);
    while piece > 0 {
        let mut from = 0;
        while from < best.traffic.len() {
            let mut smaller = best.clone();
            smaller.traffic.drain(from..(from + piece).min(best.traffic.len()));
            if !try_one(smaller, &mut best) {
                from += piece;
            }
        }
        piece /= 2;
    }
    best
}

#[cfg(test)]
mod tests {
    use super::shrink;
    use crate::simulation::plan::{Blow, Plan};

    #[test]
    fn what_does_not_matter_is_left_out() {
        let plan = (0..200).map(Plan::new).find(|plan| plan.strikes.len() > 4).unwrap();
        let kept = plan.strikes[2].what;
        let small = shrink(&plan, 1_000, |plan| plan.strikes.iter().any(|strike| strike.what == kept));
        assert_eq!(small.strikes.iter().map(|strike| strike.what).collect::<Vec<Blow>>(), [kept]);
        assert_eq!((small.workers, small.illness.retry), (1, 0));
    }
}
