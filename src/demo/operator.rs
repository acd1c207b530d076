//! An operator's part: looks at what is quarantined and decides, by the same orders as `seriatim entity` gives.
//!
//! One of each cause is decided on; the others stay as they are, for whoever looks into the database afterwards.

use serde_json::json;
use seriatim::{
    core::{
        ledger::{Command, QUARANTINE, Quarantine},
        obey::action,
        record::LaneId,
        rows::Micros,
        table::Want,
    },
    store::Session,
};

use super::{screen::Screen, world::World};

/// Quarantined entities read at most; the demo makes a handful.
const READ_MAX: usize = 1_000;

/// Gives the orders and says how many.
pub async fn order(world: &World, session: &mut dyn Session, screen: &mut Screen) -> anyhow::Result<usize> {
    let want = Want::Scan { prefix: Vec::new(), after: None, limit: READ_MAX };
    let rows = session.load(&[(&QUARANTINE, want)]).await?.into_iter().flatten();
    let unwell: Vec<Quarantine> = rows.filter_map(|row| Quarantine::read(&row)).collect();
    let lane = LaneId { topic: world.homes[0].clone(), partition: 0 };
    let (_, now) = session.look(&[lane]).await?;
    let decisions = [
        ("payment", "skip", action::ENTITY_SKIP, "the second capture was a mistake of the gateway"),
        ("profile", "skip", action::ENTITY_SKIP, "the missing change is lost for good"),
        ("counter", "discard", action::ENTITY_DISCARD, "this sensor was broken"),
    ];
    let mut orders = 0;
    for (kind, word, action, reason) in decisions {
        let Some(found) = unwell.iter().find(|row| row.kind == kind) else { continue };
        screen.say(&format!("  operator: entity {word} {kind} {} ({}: {reason})", found.entity_id, found.cause));
        let command = Command {
            topic: found.topic.clone(),
            partition: found.partition,
            id: format!("demo-{kind}"),
            action: action.to_owned(),
            kind: Some(kind.to_owned()),
            entity_id: Some(found.entity_id.clone()),
            argument: json!({}).to_string(),
            actor: "demo".to_owned(),
            reason: Some(reason.to_owned()),
            ordered_at: Micros(now),
        };
        session.order(command.into_row()).await?;
        orders += 1;
    }
    Ok(orders)
}
