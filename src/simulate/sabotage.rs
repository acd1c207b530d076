//! Which law notices that a safeguard is missing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use seriatim::{
    core::sabotage::{Safeguard, take_away},
    failure::Exit,
    simulation::Simulator,
};

use super::{Shop, Task, threads};

/// Takes one safeguard away, or `all`, each alone, and runs worlds until one is red. Ends with 1 if one is missed by
/// nobody.
pub fn run(safeguards: &str, task: &Task) -> Exit {
    let wanted = |known: &Safeguard| ["all", known.as_str()].contains(&safeguards);
    let safeguards: Vec<Safeguard> = Safeguard::ALL.iter().copied().filter(wanted).collect();
    let (next, rows) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads(task) {
            scope.spawn(|| {
                let shop = Shop::new(task.only);
                let simulator = Simulator::new(&shop);
                loop {
                    let nth = next.fetch_add(1, Ordering::SeqCst);
                    let Some(safeguard) = safeguards.get(nth) else { return };
                    let row = miss(&simulator, *safeguard, task);
                    rows.lock().unwrap_or_else(PoisonError::into_inner).insert(nth, row);
                }
            });
        }
    });
    let rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("| safeguard | without it | noticed by | after worlds |\n|---|---|---|---|");
    rows.values().for_each(|(row, _)| println!("{row}"));
    if rows.values().all(|(_, noticed)| *noticed) { Exit::Done } else { Exit::Failed }
}

/// Runs worlds without a safeguard until one is red: a row of the table, and whether any was.
fn miss(simulator: &Simulator<'_, Shop>, safeguard: Safeguard, task: &Task) -> (String, bool) {
    take_away(Some(safeguard));
    let red = (0..task.seeds).find_map(|nth| {
        let findings = simulator.run(&simulator.plan(task.seed + nth), false).findings;
        (!findings.is_empty()).then_some((nth + 1, findings))
    });
    take_away(None);
    let noticed = red.is_some();
    let (worlds, findings) = red.unwrap_or_else(|| (task.seeds, vec!["nobody".to_owned()]));
    let laws: BTreeSet<&str> = findings.iter().filter_map(|finding| finding.split([':', ' ']).next()).collect();
    let laws = laws.into_iter().collect::<Vec<_>>().join(", ");
    (format!("| {} | {} | {laws} | {worlds} |", safeguard.as_str(), safeguard.says()), noticed)
}
