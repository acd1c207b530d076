//! Deciding leaves no trace until it is done: what was taken back, or decided with rows at hand that others
//! had to ask for, ends in the same commit.

use std::sync::{Arc, atomic::AtomicBool};

use proptest::prelude::*;
use seriatim::core::{
    fence::Position,
    lane::{Decided, Input, Lane, Step},
    ledger::{DEAD_LETTER, JOURNAL, PASSED, STRAY},
    rows::Row,
};

use super::{
    lane_world::{self, World},
    tally,
    told::{Cut, Sent, cuts, lane_of, read_all, world},
};

fn sent() -> impl Strategy<Value = Sent> {
    let entity = prop::sample::select(vec!["a", "b"]);
    let word = prop::sample::select(vec![Some("w"), Some("x"), Some("no"), Some("tell"), Some("fail"), None]);
    (entity, 1_i64..7, word).prop_map(|(entity, number, word)| Sent {
        entity,
        source: "/till",
        number,
        word: word.map(str::to_owned),
    })
}

fn begin(topic: &str, before: &[Sent], after: &[Sent], cut: &Cut) -> (World, Vec<Input>) {
    let (mut world, lane) = (world(lane_world::limits(), &Arc::new(AtomicBool::new(true))), lane_of(topic));
    before.iter().for_each(|sent| drop(world.append(topic, sent.record())));
    read_all(&mut world, &lane, cut);
    world.restart();
    after.iter().for_each(|sent| drop(world.append(topic, sent.record())));
    world.batch_max = 1000;
    let inputs = world.gather(&lane);
    (world, inputs)
}

fn told(decided: &Decided) -> String {
    format!("{decided:#?}")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_taken_back_leaves_no_trace(
        before in prop::collection::vec(sent(), 0..30),
        after in prop::collection::vec(sent(), 1..30),
        cut in cuts(),
        easy in any::<bool>(),
        upto in any::<prop::sample::Index>(),
    ) {
        let topic = if easy { "easy" } else { "strict" };
        let lane = lane_of(topic);
        let (mut plain, inputs) = begin(topic, &before, &after, &cut);
        let upto = upto.index(inputs.len().max(1));
        let expected = told(&plain.decide(&lane, &inputs[..upto]).0);

        // Decided on more first, and taken back as far as it came.
        let (mut tried, more) = begin(topic, &before, &after, &cut);
        let now = tried.now();
        if let Step::Short(needs) = tried.lane(&lane).decide(&more, now, Position::default()) {
            drop(needs);
            prop_assert_eq!(&told(&tried.decide(&lane, &more[..upto]).0), &expected);
        }

        // With every row at hand that there is.
        let (mut knowing, inputs) = begin(topic, &before, &after, &cut);
        for table in [tally::Tally::table(), &DEAD_LETTER, &PASSED, &STRAY, &JOURNAL] {
            let rows = knowing.rows(table, vec![]);
            Lane::admit(knowing.lane(&lane), table, rows);
        }
        prop_assert_eq!(&told(&knowing.decide(&lane, &inputs[..upto]).0), &expected);
    }
}
