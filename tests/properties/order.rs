//! Any interleaving of repeats, conflicts, unreadable records and gaps, cut into batches anywhere, with
//! crashes: the tables say what the model says.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::AtomicBool},
};

use proptest::prelude::*;
use seriatim::core::{batch::Outcome, ledger, limits::Limits};

use super::{
    lane_world::{self, World},
    model::Model,
    told::{Cut, Sent, cuts, lane_of, letters, read_all, words, world},
};

fn sent() -> impl Strategy<Value = Sent> {
    let flavour = prop_oneof![8 => Just(0), 1 => Just(1), 1 => Just(2)];
    let entity = prop::sample::select(vec!["a", "b"]);
    let source = prop::sample::select(vec!["/till", "/web"]);
    (entity, source, 1_i64..8, flavour).prop_map(|(entity, source, number, flavour)| {
        let word = match (flavour, number) {
            (2, _) => None,
            (1, _) => Some(format!("other{number}")),
            (_, 3) => Some("no".to_owned()),
            (_, 5) => Some("tell".to_owned()),
            _ => Some(format!("{source}{number}")),
        };
        Sent { entity, source, number, word }
    })
}

fn limits() -> Limits {
    Limits { digests_kept: 1000, cached_rows_max: 4, ..lane_world::limits() }
}

fn run(topic: &str, history: &[Sent], cut: &Cut) -> World {
    let mut world = world(limits(), &Arc::new(AtomicBool::new(false)));
    for sent in history {
        world.append(topic, sent.record());
    }
    read_all(&mut world, &lane_of(topic), cut);
    world
}

fn held(world: &mut World) -> Vec<i64> {
    let rows = world.rows(&ledger::HELD, vec![]);
    let mut held: Vec<i64> =
        rows.iter().filter_map(|row| ledger::Held::read(row)).filter_map(|held| held.record_offset).collect();
    held.sort_unstable();
    held
}

/// Ids of all messages, after checking that what was sent twice was sent the same.
fn sent_ids(world: &World) -> Result<BTreeSet<String>, TestCaseError> {
    let header = |message: &seriatim::core::message::Message, name| {
        String::from_utf8(message.headers.get(name).unwrap_or_default().to_vec()).unwrap()
    };
    let mut ids = BTreeSet::new();
    let mut numbers: BTreeMap<_, i64> = BTreeMap::new();
    let mut entity_numbers: BTreeMap<_, i64> = BTreeMap::new();
    for message in world.told.sent.iter().filter(|message| message.to.topic == "tellings") {
        prop_assert!(ids.insert(header(message, "ce_id")), "two messages have one id");
        let number = numbers.entry(message.to.clone()).or_insert(0);
        *number += 1;
        prop_assert_eq!(message.link_sequence, Some(*number), "link numbers are dense");
        let number = entity_numbers.entry(message.key.clone()).or_insert(0);
        *number += 1;
        prop_assert_eq!(header(message, "ce_entityseq"), number.to_string(), "entity numbers are dense");
    }
    Ok(ids)
}

fn agree(topic: &str, history: &[Sent], cut: &Cut) -> Result<(), TestCaseError> {
    let mut model = Model::default();
    for (offset, sent) in history.iter().enumerate() {
        model.take(i64::try_from(offset).unwrap(), sent);
    }
    let mut world = run(topic, history, cut);
    for entity in ["a", "b"] {
        prop_assert_eq!(words(&mut world, entity), model.words.remove(entity).unwrap_or_default());
    }
    prop_assert_eq!(letters(&mut world), model.letters.clone());
    prop_assert_eq!(held(&mut world), model.held());
    let count = |outcome| world.told.tally.get(&outcome).copied().unwrap_or(0);
    prop_assert_eq!(count(Outcome::Duplicate), model.duplicates);
    prop_assert_eq!(count(Outcome::Refused), model.refused);
    prop_assert!(world.told.rounds_max <= 8, "{} rounds", world.told.rounds_max);
    let one_by_one = run(topic, history, &Cut(vec![(1, super::told::End::Well); history.len()]));
    prop_assert_eq!(sent_ids(&world)?, sent_ids(&one_by_one)?, "the same causes have the same ids");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_journaled_kind_agrees_with_the_model(history in prop::collection::vec(sent(), 1..70), cut in cuts()) {
        agree("strict", &history, &cut)?;
    }

    #[test]
    fn a_kind_without_a_journal_agrees_with_the_model(history in prop::collection::vec(sent(), 1..70), cut in cuts()) {
        agree("plain", &history, &cut)?;
    }
}
