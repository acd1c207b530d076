//! Gathers what several lanes need into few statements, and hands each its own rows.
//!
//! The number of statements depends on the tables asked for, never on the number of lanes or events.

use std::collections::BTreeMap;

use crate::{
    core::{
        lane::Lane,
        state::Needs,
        table::{Key, Row, Table, Want},
    },
    store::{Error, Session},
};

/// What the lanes of one transaction lack, each with its place in the caller's list.
pub(super) type Lacking = Vec<(usize, Needs)>;

/// What was loaded for each lane's wants, in their order.
pub(super) type Loaded = Vec<Vec<Vec<Row>>>;

/// Loads what is lacking.
pub(super) async fn ask(session: &mut dyn Session, lacking: &Lacking) -> Result<Loaded, Error> {
    let mut wants: Vec<(&'static Table, Want)> = Vec::new();
    let mut joined: BTreeMap<(&str, &str, usize), usize> = BTreeMap::new();
    // For each want of each lane: which statement answers it, and which keys of that statement are its own.
    let mut places: Vec<Vec<(usize, Option<Vec<Key>>)>> = Vec::new();
    for (_, needs) in lacking {
        let mut own = Vec::new();
        for (table, want) in needs.wants() {
            let Want::Keys(keys) = want else {
                wants.push((table, want));
                own.push((wants.len() - 1, None));
                continue;
            };
            let length = keys.first().map_or(0, Vec::len);
            let at = *joined.entry((table.schema, table.name, length)).or_insert_with(|| {
                wants.push((table, Want::Keys(Vec::new())));
                wants.len() - 1
            });
            if let Want::Keys(all) = &mut wants[at].1 {
                all.extend(keys.iter().cloned());
            }
            own.push((at, Some(keys)));
        }
        places.push(own);
    }
    for (_, want) in &mut wants {
        if let Want::Keys(keys) = want {
            keys.sort();
            keys.dedup();
        }
    }
    let loaded = session.load(&wants).await?;
    let answer = |(place, keys): (usize, Option<Vec<Key>>)| match keys {
        Some(keys) => pick(&loaded[place], &keys),
        None => loaded[place].clone(),
    };
    Ok(places.into_iter().map(|own| own.into_iter().map(answer).collect()).collect())
}

/// Hands each lane its own rows.
pub(super) fn answer(lacking: Lacking, loaded: Loaded, lanes: &mut [&mut Lane]) {
    for ((at, needs), rows) in lacking.into_iter().zip(loaded) {
        lanes[at].answer(needs, rows);
    }
}

/// The rows that begin with one of the keys; rows are in key order.
fn pick(rows: &[Row], keys: &[Key]) -> Vec<Row> {
    let mut picked = Vec::new();
    for key in keys {
        let from = rows.partition_point(|row| row[..key.len()] < key[..]);
        picked.extend(rows[from..].iter().take_while(|row| row.starts_with(key)).cloned());
    }
    picked
}
